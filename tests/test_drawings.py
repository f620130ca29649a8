"""The drawings show what PyTorch computes, large enough to be read on a phone."""

import re
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from notebooks import drawings
from s4lib.recipes import RECIPES

IMAGES = Path(__file__).parents[1] / "images"
each = pytest.mark.parametrize("name", drawings.DRAWINGS)


def words(figure) -> list[str]:
    """Return all words of a figure, from top to bottom and from left to right."""
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    texts.sort(key=lambda text: (text.get_position()[1], text.get_position()[0]))
    return [text.get_text().replace("−", "-") for text in texts]


@each
def test_it_is_legible_on_a_phone_and_nothing_is_cut_off(name):
    figure = drawings.DRAWINGS[name]()
    FigureCanvasAgg(figure).draw()
    width, height = figure.get_size_inches()
    drawn = figure.get_tightbbox()
    assert -0.01 <= drawn.x0 < drawn.x1 <= width + 0.01
    assert -0.01 <= drawn.y0 < drawn.y1 <= height + 0.01
    for text in figure.findobj(Text):
        assert not text.get_text() or text.get_fontsize() / 72 / width * 390 >= 9.5, text


@each
def test_its_picture_is_kept(name):
    assert (IMAGES / f"drawing_{name}.png").stat().st_size > 5_000


def test_every_kept_drawing_is_made():
    kept = {path.stem.removeprefix("drawing_") for path in IMAGES.glob("drawing_*.png")}
    assert kept == {*drawings.DRAWINGS}


def test_the_sum_that_is_worked_out_is_the_output_in_the_frame():
    figure = drawings.convolution()
    lines = [line for line in words(figure) if "·" in line]
    products, result = " ".join(lines).replace("·", "*").split("=")
    assert len(re.findall(r"\*", products)) == 9
    numbers = [text for text in figure.axes[0].texts if text.get_text().lstrip("−").isdigit()]
    framed = next(t for t in numbers if t.get_position() == pytest.approx((11.1, 2.73)))
    assert eval(products) == int(result) == int(framed.get_text())


def test_sizes_after_padding_and_stride():
    sizes = [word for word in words(drawings.padding_and_stride()) if "→" in word]
    assert sizes == ["5×5 → 3×3", "5×5 → 5×5", "5×5 → 3×3"]


def test_dropout_scales_what_it_keeps_and_nothing_in_testing():
    numbers = [word for word in words(drawings.dropout()) if re.fullmatch(r"[\d.]+", word)]
    before, one, other, testing = ([*map(float, numbers[k : k + 10])] for k in (0, 10, 20, 30))
    assert testing == before
    assert one != other
    for batch in (one, other):
        assert 0 in batch
        assert all(v in (0, pytest.approx(a / 0.8)) for v, a in zip(batch, before, strict=True))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_learning_rate_climbs_to_the_recipes_own_and_falls(recipe):
    rates = drawings.learning_rate(recipe)
    assert len(rates) == 100 * recipe.epochs
    assert rates.max() == pytest.approx(recipe.lr, rel=0.01)
    assert rates[-1] < 0.02 * recipe.lr
    if recipe.warm_up:
        assert abs(rates.argmax() / len(rates) - recipe.warm_up) < 0.01


def test_the_smoothed_loss_is_lowest_at_91_per_cent():
    assert "lowest at 91 %" in [t.get_text() for t in drawings.label_smoothing().axes[1].texts]
