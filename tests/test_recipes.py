"""What a recipe's fields do to training."""

import math
from dataclasses import asdict, replace

import pytest

from s4lib import UsageError, recipes
from s4lib.model import MNISTNet
from s4lib.recipes import BEST, CLASSIC, FAST, NETWORKS, RECIPES, settings
from s4lib.train import fit
from tests.benchmarks.ladder import RUNGS
from tests.faults import few_digits


@pytest.mark.parametrize("recipe", [FAST, BEST], ids=lambda recipe: recipe.name)
def test_the_ladder_ends_at_its_recipe(recipe):
    last, network = [*RUNGS[recipe.name].values()][-1]
    assert replace(last, name=recipe.name) == recipe
    assert network.args == NETWORKS[recipe.name].args


def test_every_recipe_has_its_network():
    networks = {name: NETWORKS[name]() for name in RECIPES}
    rates = {name: (net.block3.dropout.p, net.dropout.p) for name, net in networks.items()}
    assert rates == {
        "classic": (0.10, 0.15),
        "fast": (0, 0),
        "best": (0.03, 0.03),
    }
    assert max(recipe.epochs for recipe in RECIPES.values()) < 20  # the assignment's bound


def test_the_last_epochs_see_images_as_they_are(digits, monkeypatch):
    recipe, few = replace(BEST, epochs=3, plain_epochs=1), few_digits(digits)
    augmented = []

    def count(images, *how):
        augmented.append(len(images))
        return images

    monkeypatch.setattr(recipes, "random_affine", count)
    fit(MNISTNet, few, recipe, device="cpu")
    assert len(augmented) == 2 * (len(few.train[1]) // recipe.batch_size)


def test_a_shorter_run_has_fewer_plain_epochs():
    recipe = replace(CLASSIC, epochs=10, plain_epochs=5)
    lengths = (1, 2, 4, 10, 20)
    assert [recipe.adjusted(epochs=n).plain_epochs for n in lengths] == [0, 1, 2, 5, 5]


def test_classic_is_the_originals_recipe():
    assert RECIPES["classic"] is CLASSIC
    assert (CLASSIC.epochs, CLASSIC.batch_size, CLASSIC.lr) == (19, 128, 0.01)
    assert (CLASSIC.milestones, CLASSIC.gamma) == ((10, 15), 0.1)
    assert CLASSIC.rotation > 0


def test_shorter_runs_have_earlier_milestones_and_longer_ones_the_same():
    assert CLASSIC.adjusted() == CLASSIC
    assert CLASSIC.adjusted(epochs=20).milestones == (10, 15)
    assert CLASSIC.adjusted(epochs=10).milestones == pytest.approx((100 / 19, 150 / 19))
    assert CLASSIC.adjusted(lr=0.1, batch_size=7) == replace(CLASSIC, lr=0.1, batch_size=7)


WRONG = {
    "epochs": [0, 1.5, "3", True, None],
    "batch_size": [-1, 0, 2.0],
    "lr": [0, -0.1, math.nan, math.inf, "fast", True],
    "optimizer": ["sgd", "Adam", None],
    "warm_up": [0, 1, -0.5, "short"],
    "milestones": [[10, 15], (15, 10), (0,), (-1, 2), ("ten",), (math.inf,), 10],
    "gamma": [0, 1.5, None],
    "label_smoothing": [-0.1, 1.1, None],
    "rotation": [-1, 181, "7"],
    "translate": [-1, 29],
    "scale": [-0.1, 1],
    "interpolation": ["cubic", 3],
    "plain_epochs": [-1, 0.5],
    "hard_share": [0, -0.1, 1.1, None, "0.2"],
    "ema_decay": [-0.1, 1, "0.9", None, math.nan],
    "ema_every": [0, 1.5, "4", None],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in WRONG.items() for value in values]
)
def test_recipes_refuse_what_can_not_be(field, value):
    with pytest.raises(UsageError, match=field) as error:
        replace(CLASSIC, **{field: value})
    assert "\n" not in str(error.value)


def test_every_field_but_the_name_is_checked():
    assert {*WRONG} == {*asdict(CLASSIC)} - {"name"}


def test_a_notebooks_parameters_may_be_text():
    assert settings() == (CLASSIC, "auto", 0)
    assert settings("classic", "digits", "2", "7") == (CLASSIC.adjusted(epochs=2), "digits", 7)
    assert settings(epochs="") == settings(epochs=None) == settings(epochs=19)


def test_the_environment_goes_before_a_notebooks_parameters(monkeypatch):
    monkeypatch.setenv("S4_RECIPE", "fast")
    monkeypatch.setenv("S4_EPOCHS", "1")
    monkeypatch.setenv("S4_DATASET", "")
    assert settings("classic", "digits", 3, 4) == (FAST.adjusted(epochs=1), "digits", 4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "slow"}, "There is no recipe 'slow'. Choose one of classic"),
        ({"recipe": ["classic"]}, "There is no recipe ['classic']. Choose one of classic"),
        ({"dataset": "cifar"}, "There is no data set 'cifar'. Choose one of auto, mnist, digits."),
        ({"dataset": None}, "There is no data set None. Choose one of auto, mnist, digits."),
        ({"epochs": "many"}, "epochs must be a whole number from 1 on, not 'many'."),
        ({"epochs": 0}, "epochs must be a whole number from 1 on, not 0."),
        ({"epochs": 1.5}, "epochs must be a whole number from 1 on, not 1.5."),
        ({"epochs": True}, "epochs must be a whole number from 1 on, not True."),
        ({"seed": -1}, "seed must be a whole number from 0 to 9223372036854775807, not -1."),
        ({"seed": "x"}, "seed must be a whole number from 0 to 9223372036854775807, not 'x'."),
    ],
)
def test_wrong_parameters_are_told_the_choices_in_one_line(wrong, message):
    with pytest.raises(UsageError) as error:
        settings(**wrong)
    assert str(error.value).startswith(message)
    assert error.value._render_traceback_() == [str(error.value)]
    assert "\n" not in str(error.value)
