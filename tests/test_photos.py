"""Photos and scans of digits that these tests draw come out as MNIST would have them."""

import io
import zlib
from operator import eq, ne

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from s4lib import paper, photos
from s4lib.data import normalise
from s4lib.model import MNISTNet
from s4lib.photos import NOTHING, answer, answers, read_digit, read_digits
from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import load_weights
from s4lib.train import predict
from tests.benchmarks.nothing import is_sure, said_of
from tests.benchmarks.rare_forms import rare_forms
from tests.scenes import KINDS as SCENES
from tests.scenes import (
    OTHER_FONTS,
    as_mnist,
    deformed,
    draw_shape,
    letters,
    nothings,
    on_rules,
    other_shapes,
    pages,
    picture,
)
from tests.strokes import RARE, STROKES, draw


def phone_photo(digit):
    """A blue pen on paper lit from one side, blurred, noisy."""
    image = draw(digit, (600, 450), 20, ink=(60, 60, 160), box=(200, 75, 400, 375))
    light = np.linspace(0.45, 1, 600)[None, :, None] * np.linspace(0.8, 1, 450)[:, None, None]
    noise = np.random.default_rng(digit).normal(0, 8, (450, 600, 3))
    photo = (0.85 * np.asarray(image) * light + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(photo).filter(ImageFilter.GaussianBlur(1))


def on_nothing(digit, *colour):
    return draw(digit, (210, 280), 18, ink=(*colour, 255), paper=(0, 0, 0, 0))


def sixteen_bit_scan(digit):
    grey = np.asarray(draw(digit, (210, 280), 17).convert("L")).astype(np.uint16) * 257
    return Image.fromarray(grey)


def stamp_sized(digit):
    return draw(digit, (300, 400), 36).convert("L").resize((24, 32), Image.Resampling.LANCZOS)


KINDS = {  # how a digit is pictured
    "thin pen on a page": lambda d: draw(d, (800, 1000), 8, box=(250, 300, 550, 800)),
    "phone photo": phone_photo,
    "chalk on a board": lambda d: draw(d, (200, 200), 18, ink=(255, 255, 255), paper=(0, 0, 0)),
    "red on nothing": lambda d: on_nothing(d, 200, 30, 30),
    "white on nothing": lambda d: on_nothing(d, 255, 255, 255),
    "16-bit scan": sixteen_bit_scan,
    "palette": lambda d: draw(d, (210, 280), 17, (0, 90, 0), (255, 240, 200)).convert("P"),
    "black and white": lambda d: draw(d, (210, 280), 17).convert("1"),
    "stamp-sized": stamp_sized,
}


def read(image, path, **options):
    image.save(path, **options)
    return read_digit(path)


@pytest.fixture(scope="module")
def model():
    return load_weights(MNISTNet())


def digits_in(model, images):
    return predict(model, normalise(images)).argmax(1).tolist()


@pytest.fixture(scope="module", params=KINDS)
def pictured(request, tmp_path_factory):
    """Digits, all ten of the first two kinds and five of the others, and what is read of them."""
    path = tmp_path_factory.mktemp("pictured") / "digit.png"
    digits = [*range(0, 10, 1 if request.param in [*KINDS][:2] else 2)]
    return digits, torch.stack([read(KINDS[request.param](digit), path) for digit in digits])


def test_every_digit_is_read(pictured, model):
    digits, images = pictured
    assert images.shape == (len(digits), 1, 28, 28)
    assert images.dtype == torch.uint8
    assert digits_in(model, images) == digits


def test_digits_are_made_as_mnist_was(pictured):
    for image in pictured[1][:, 0].numpy():
        rows, columns = np.nonzero(image)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 in (19, 20)  # the 20×20 box
        assert image.max() == 255
        assert np.abs(np.array(ndimage.center_of_mass(image)) - 14).max() <= 0.5
        assert image[0].max() == 0  # paper


def test_jpeg_and_its_orientation(tmp_path):
    upright = read(phone_photo(4), tmp_path / "upright.jpg", quality=90)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90° clockwise
    on_its_side = phone_photo(4).transpose(Image.Transpose.ROTATE_90)
    turned = read(on_its_side, tmp_path / "turned.jpg", exif=exif, quality=90)
    assert (upright.float() - turned.float()).abs().mean() < 6


def test_specks_and_the_edge_of_the_page_are_left_out(tmp_path):
    clean = draw(3, (400, 500), 26)
    dirty = clean.copy()
    dirty.paste((20, 20, 20), (0, 0, 6, 500))  # the table beside the page
    dirty.paste((20, 20, 20), (380, 40, 388, 46))  # a speck
    seen = [read(image, tmp_path / "page.png").float() for image in (dirty, clean)]
    assert (seen[0] - seen[1]).abs().max() <= 2


def test_mnist_images_come_back_nearly_as_they_were(mnist, model, tmp_path):
    images, labels = mnist.test[0][:100], mnist.test[1][:100]
    again = torch.stack(
        [read(Image.fromarray(255 - image[0].numpy()), tmp_path / "a.png") for image in images]
    )
    assert (again.float() - images.float()).abs().mean() < 6
    assert (predict(model, normalise(again)).argmax(1) == labels).float().mean() > 0.98


def test_blank_paper_shows_no_digit(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.normal(200, 3, (300, 300)).clip(0, 255).astype(np.uint8))
    for image in (Image.new("L", (50, 50), 255), Image.new("RGBA", (9, 9)), noise):
        with pytest.raises(UsageError, match="shows no digit"):
            read(image, tmp_path / "blank.png")


@pytest.mark.parametrize("ink", [20, 250])
@pytest.mark.parametrize("bar", [0, 128, 255])
def test_bars_along_the_edge_change_nothing(bar, ink, tmp_path):
    paper = 270 - ink - (60 if bar == 270 - ink else 0)  # so that a bar is seen at all
    clean = draw(5, (200, 240), 15, ink=(ink,) * 3, paper=(paper,) * 3)
    expected = read(clean, tmp_path / "clean.png").float()
    bars = [((0,), 2), ((2,), 20), ((1, 3), 2), ((0, 1, 2), 20), (range(4), 2), (range(4), 20)]
    for sides, width in bars:
        framed = np.array(clean)
        for side in sides:
            np.rot90(framed, side)[:width] = bar
        seen = read(Image.fromarray(framed), tmp_path / "framed.png").float()
        assert (seen - expected).abs().mean() < 3, (sides, width)


@pytest.mark.parametrize(
    "kind", [kind for kind, how in SCENES.items() if "bars" in how and "tight" not in kind]
)
def test_scenes_with_bars_are_read(kind, model, tmp_path):
    rng = np.random.default_rng(1)
    scenes = [picture(draw_shape(STROKES[d], rng), rng, **SCENES[kind]) for d in (4, 7)]
    images = torch.stack([read(scene, tmp_path / "scene.png") for scene in scenes])
    assert digits_in(model, images) == [4, 7]


def test_a_hard_shadow_is_no_ink(model, tmp_path):
    image = np.array(draw(3, (300, 360), 18, box=(170, 120, 250, 240)), float)
    image[:, :130] *= 0.55
    seen = read(Image.fromarray(image.astype(np.uint8)), tmp_path / "shadow.png")
    assert digits_in(model, seen[None]) == [3]


def test_a_marker_that_fills_a_dark_frame_is_the_digit(model, tmp_path):
    """Most of what is left of the paper is then enclosed, and looks like something written."""
    for digit in (0, 3, 8):
        image = draw(digit, (200, 260), 44, box=(24, 24, 176, 236))
        framed = np.array(image)
        framed[:6] = framed[-6:] = framed[:, :6] = framed[:, -6:] = 10
        seen = read(Image.fromarray(framed), tmp_path / "framed.png")
        assert digits_in(model, seen[None]) == [digit]


def test_several_digits_are_counted_and_with_many_read_in_order(model, tmp_path):
    page = Image.new("RGB", (620, 420), (250, 250, 245))
    for place, digit in enumerate([3, 1, 4, 5, 9, 2]):
        spot = draw(digit, (180, 200), 14)
        page.paste(spot, (10 + 200 * (place % 3), 5 + 205 * (place // 3) + 4 * (place % 2)))
    page.save(tmp_path / "page.png")
    with pytest.raises(
        UsageError, match=r"page.png shows 6 digits, not one: use --many to read them all"
    ):
        read_digit(tmp_path / "page.png")
    assert digits_in(model, read_digits(tmp_path / "page.png")) == [3, 1, 4, 5, 9, 2]


def test_a_very_thick_digit_beside_another_is_counted(tmp_path):
    page = Image.new("RGB", (400, 240), (250, 250, 245))
    page.paste(draw(3, (190, 220), 16), (5, 10))
    page.paste(draw(8, (190, 220), 66), (205, 10))
    with pytest.raises(UsageError, match="shows 2 digits"):
        read(page, tmp_path / "pair.png")


def drawn(rng):
    """A digit by strokes, and its name; no 1, whose flag makes it a 7 wherever it stands."""
    digit = int(rng.choice([0, *range(2, 10)]))
    return draw_shape(STROKES[digit], rng), digit


def test_pairs_rules_boxes_and_combs_are_read_in_order(model, tmp_path):
    """And a picture of several is never read as one."""
    path = tmp_path / "page.bmp"
    for kind, made in pages(drawn, 3, seed=3).items():
        counted, misread = 0, 0
        for image, names in made:
            image.save(path)
            digits = read_digits(path)
            if len(digits) == len(names):
                counted += 1
                misread += sum(map(ne, map(str, digits_in(model, digits)), names))
            if len(names) > 1:
                assert len(digits) > 1, kind
        assert counted >= (2 if kind == "comb" else 3), kind
        assert misread <= 2, kind  # a boxy 6 or a flagged 1: the strokes' own trouble


def test_rules_seen_from_an_angle_are_no_strokes(model, tmp_path):
    rng = np.random.default_rng(4)
    made = [
        (on_rules(ink, rng, 0.3, 0, fan=4), digit) for ink, digit in (drawn(rng) for _ in range(6))
    ]
    seen = torch.stack([read(image, tmp_path / "rules.png") for image, _ in made])
    assert sum(map(eq, digits_in(model, seen), [digit for _, digit in made])) >= 5


def test_a_digit_in_pieces_stays_one(model, tmp_path):
    seven = draw(7, (300, 400), 14)
    for top in (110, 170, 230):
        seven.paste((250, 250, 245), (0, top, 300, top + 12))
    one, five, four = (Image.new("L", (300, 300), 240) for _ in range(3))
    pen = ImageDraw.Draw(one)
    pen.line([(130, 235), (160, 150)], 20, 14)
    pen.line([(166, 133), (195, 50)], 20, 14)
    pen = ImageDraw.Draw(five)
    pen.line([(110, 60), (105, 140), (150, 125), (185, 160), (175, 215), (110, 230)], 20, 14)
    pen.line([(140, 60), (210, 55)], 20, 14)  # its bar, 15% of its height away
    pen = ImageDraw.Draw(four)
    pen.line([(120, 70), (90, 170), (172, 168)], 20, 14)  # it does not reach the stem
    pen.line([(195, 60), (190, 250)], 20, 14)
    for speck in ((150, 262), (230, 240)):
        pen.ellipse((*speck, speck[0] + 7, speck[1] + 7), 20)
    seen = torch.stack([read(image, tmp_path / "one.png") for image in (seven, one, five, four)])
    assert digits_in(model, seen) == [7, 1, 5, 4]


def test_the_straight_strokes_of_a_tight_crop_are_no_rules(model, tmp_path):
    for digit in (1, 4, 7):
        page = draw(digit, (200, 280), 20)
        ink = np.argwhere(np.asarray(page.convert("L")) < 128)
        (top, left), (bottom, right) = ink.min(0), ink.max(0)
        tight = page.crop((left, top, right + 1, bottom + 1))
        assert digits_in(model, read(tight, tmp_path / "tight.png")[None]) == [digit]


def test_what_is_no_digit_is_rejected_at_a_small_cost(model, mnist):
    """On letters and shapes that the reject was not fitted on, and digits that chose nothing."""
    others = torch.cat([letters(OTHER_FONTS, seed=11), other_shapes(100, seed=11)])
    said = [text for image in others for text in answers(model, image[None])]
    assert said.count(NOTHING) > 0.7 * len(said)
    assert sum(map(is_sure, said)) < 0.2 * len(said)
    assert answers(model, mnist.test[0][::4]).count(NOTHING) <= 12  # of 2,500


def test_pictures_of_text_faces_and_flowers_seldom_get_a_sure_answer(model, tmp_path):
    path, sure = tmp_path / "nothing.png", {}
    for kind, pictures in nothings(4, seed=11).items():
        said = [said_of(model, image, path, many=False) for image in pictures]
        sure[kind] = sum(is_sure(text) for (text,) in said)
    assert sure["a line of print"] == sure["a page of print"] == 0
    assert sum(sure.values()) <= 7, sure  # of 32; 9 without the reject


def test_a_line_of_print_is_rejected_as_a_whole_and_a_row_of_digits_is_not(model, mnist):
    text, digits = letters(OTHER_FONTS[:1], seed=11), mnist.test[0][:12]
    assert set(answers(model, text)) == {NOTHING}
    assert answers(model, torch.cat([digits, text[:6]])).count(NOTHING) < 7
    no_digits = text[[answers(model, letter[None]) == [NOTHING] for letter in text]]
    assert answers(model, torch.cat([digits[:2], no_digits[:1]])).count(NOTHING) == 1
    assert set(answers(model, torch.cat([digits[:3], no_digits[:2]]))) == {NOTHING}


def test_the_generator_of_rare_forms_draws_each_differently_and_by_its_seed():
    images, labels = rare_forms(40, seed=0)
    assert images.shape == (40, 1, 28, 28)
    assert sorted(set(labels.tolist())) == [1, 4, 6, 7]
    assert len({image.numpy().tobytes() for image in images}) == 40
    again, _ = rare_forms(40, seed=0)
    assert torch.equal(images, again)


def test_digits_of_rare_forms_drawn_by_hand_are_read(model):
    """But for the flagged 1 and 6s that MNIST's writers did not make."""
    rng = np.random.default_rng(2)
    images = torch.stack([as_mnist(draw_shape(strokes, rng)) for _, strokes in RARE.values()])
    right = sum(map(eq, digits_in(model, images), [digit for digit, _ in RARE.values()]))
    assert right >= len(RARE) - 2


def test_other_weights_reject_nothing(model):
    with torch.random.fork_rng():
        other = MNISTNet()
    assert NOTHING not in answers(other, other_shapes(20, seed=1))


def test_a_blob_looks_like_no_digit(tmp_path):
    image = Image.new("L", (200, 200), 240)
    ImageDraw.Draw(image).ellipse((40, 50, 140, 150), fill=20)
    with pytest.raises(UsageError, match="shows nothing that looks like a digit"):
        read(image, tmp_path / "blob.png")


def test_an_answer_says_when_it_is_not_sure(monkeypatch):
    monkeypatch.setattr(photos, "TEMPERATURE", 1.0)
    probabilities = torch.full((10,), 0.005)
    probabilities[4], probabilities[9] = 0.61, 0.35
    assert answer(probabilities.log()) == "not sure: 4 (61%) or 9 (35%)"
    probabilities[4], probabilities[9] = 0.93, 0.03
    assert answer(probabilities.log()) == "4 (93.0%)"
    monkeypatch.setattr(photos, "TEMPERATURE", 3.0)
    assert answer(probabilities.log()).startswith("not sure: 4 (")


def test_the_temperature_makes_deformed_digits_likelier(mnist, model):
    """It belongs to the shipped weights: after they change, fit it again."""
    made = deformed(*mnist.hold_out(10_000).test, count=8)
    images, labels = map(torch.cat, zip(*made.values(), strict=True))
    log_probs = predict(model, normalise(images))

    def loss(temperature):
        return F.cross_entropy(log_probs / temperature, labels).item()

    assert loss(photos.TEMPERATURE) < min(loss(1), loss(0.6 * photos.TEMPERATURE))
    assert loss(photos.TEMPERATURE) < loss(1.7 * photos.TEMPERATURE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF"])
def test_formats_are_known_by_their_content(kind, model, tmp_path):
    seen = read(draw(7, (200, 260), 16), tmp_path / "seven.txt", format=kind)
    assert digits_in(model, seen[None]) == [7]


def test_files_that_are_no_picture_are_named_for_what_they_are(tmp_path):
    whole = png_bytes(draw(7, (100, 100), 9))
    for name, content, reason in (
        ("empty.png", b"", "it is no picture"),
        ("text.png", b"seven", "it is no picture"),
        ("paper.png", b"%PDF-1.7", "it is a PDF"),
        ("new.png", b"\0\0\0\x1cftypavif", "it is an AVIF"),
        ("burst.heic", b"\0\0\0\x18ftypmif1", "it is an HEIC"),
        ("phone.jpg", b"\0\0\0\x18ftypheic", "it is an HEIC"),
        ("drawing.png", b'<svg xmlns="', "it is an SVG"),
        ("cut.png", whole[:200], ""),
        ("header.png", whole[:30], ""),
        ("picture.gif", b"GIF89a", ""),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"Can't read .*{name}: {reason}") as caught:
            read_digit(path)
        assert str(caught.value).count(name) == 1
    with pytest.raises(UsageError, match="No such file"):
        read_digit(tmp_path / "missing.png")
    with pytest.raises(UsageError, match="it is a folder"):
        read_digit(tmp_path)


def png_bytes(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_enormous_images_are_refused_by_their_header(side, tmp_path):
    header = bytearray(png_bytes(Image.new("1", (1, 1))))
    header[16:24] = 2 * side.to_bytes(4, "big")
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    path = tmp_path / "huge.png"
    path.write_bytes(header)
    with pytest.raises(UsageError, match=rf"huge.png: it has {side**2:,} pixels"):
        read_digit(path)


def test_a_phone_s_enormous_jpeg_is_decoded_small(model, tmp_path):
    """More pixels than are allowed in memory."""
    image = draw(7, (200, 260), 16).convert("L").resize((9000, 11_700), Image.Resampling.NEAREST)
    assert digits_in(model, read(image, tmp_path / "phone.jpg")[None]) == [7]


@pytest.mark.parametrize(("kind", "full"), [("uint16", 4095), ("float32", 255), ("float32", 1)])
def test_numbers_are_scaled_by_their_own_range(kind, full, model, tmp_path):
    grey = np.asarray(draw(7, (200, 260), 16).convert("L")) / 255 * full
    image = Image.fromarray(grey.astype(kind))
    assert digits_in(model, read(image, tmp_path / "deep.tiff")[None]) == [7]


def test_a_printed_line_has_pixels_however_small_the_picture():
    """A line without any would be looked for again and again."""
    for number in range(64):
        mask = np.array([*f"{number:06b}"]).reshape(2, 3) == "1"
        assert all(line.any() for line in paper.lines(mask, 0) + paper.lines(mask.T, 0)), mask
