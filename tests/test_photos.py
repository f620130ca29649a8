"""Photos and scans of digits that these tests draw come out as MNIST would have them."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from scipy import ndimage
from strokes import draw

from s4lib import UsageError
from s4lib.checkpoint import SHIPPED_WEIGHTS, load_weights
from s4lib.data import normalise
from s4lib.photos import LARGEST, read_digit
from s4lib.train import predictions


def thin_pen_on_a_page(digit):
    return draw(digit, (800, 1000), 8, box=(250, 300, 550, 800))


def chalk_on_a_board(digit):
    return draw(digit, (200, 200), 18, ink=(255, 255, 255), paper=(0, 0, 0))


def phone_photo(digit):
    """A blue pen on paper lit from one side, blurred, noisy."""
    image = draw(digit, (1200, 900), 40, ink=(60, 60, 160), box=(400, 150, 800, 750))
    light = np.linspace(0.45, 1, 1200)[None, :, None] * np.linspace(0.8, 1, 900)[:, None, None]
    noise = np.random.default_rng(digit).normal(0, 8, (900, 1200, 3))
    photo = (0.85 * np.asarray(image) * light + noise).clip(0, 255).astype(np.uint8)
    return Image.fromarray(photo).filter(ImageFilter.GaussianBlur(2))


def red_on_nothing(digit):
    return draw(digit, (300, 400), 26, ink=(200, 30, 30, 255), paper=(0, 0, 0, 0))


def white_on_nothing(digit):
    return draw(digit, (300, 400), 26, ink=(255, 255, 255, 255), paper=(0, 0, 0, 0))


def sixteen_bit_scan(digit):
    grey = np.asarray(draw(digit, (300, 400), 24).convert("L")).astype(np.uint16) * 257
    return Image.fromarray(grey)


def palette(digit):
    return draw(digit, (300, 400), 24, ink=(0, 90, 0), paper=(255, 240, 200)).convert("P")


def black_and_white(digit):
    return draw(digit, (300, 400), 24).convert("1")


def stamp_sized(digit):
    return draw(digit, (300, 400), 36).convert("L").resize((24, 32), Image.Resampling.LANCZOS)


KINDS = [
    thin_pen_on_a_page,
    chalk_on_a_board,
    phone_photo,
    red_on_nothing,
    white_on_nothing,
    sixteen_bit_scan,
    palette,
    black_and_white,
    stamp_sized,
]


def read(image, path, **options):
    image.save(path, **options)
    return read_digit(path)


@pytest.fixture(scope="module")
def model():
    return load_weights(SHIPPED_WEIGHTS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_digit_is_read(kind, model, tmp_path):
    images = torch.stack([read(kind(digit), tmp_path / "digit.png") for digit in range(10)])
    assert images.shape == (10, 1, 28, 28)
    assert images.dtype == torch.uint8
    assert predictions(model, normalise(images)).argmax(1).tolist() == list(range(10))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("digit", [1, 5, 8])
def test_digits_are_made_as_mnist_was(kind, digit, tmp_path):
    image = read(kind(digit), tmp_path / "digit.png")[0].numpy()
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
    assert read(dirty, tmp_path / "a.png").equal(read(clean, tmp_path / "b.png"))


def test_mnist_images_come_back_nearly_as_they_were(mnist, model, tmp_path):
    images, labels = mnist.test[0][:200], mnist.test[1][:200]
    again = torch.stack(
        [read(Image.fromarray(255 - image[0].numpy()), tmp_path / "a.png") for image in images]
    )
    assert (again.float() - images.float()).abs().mean() < 6
    assert (predictions(model, normalise(again)).argmax(1) == labels).float().mean() > 0.98


def test_blank_paper_shows_no_digit(tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.normal(200, 3, (300, 300)).clip(0, 255).astype(np.uint8))
    for image in (Image.new("L", (50, 50), 255), Image.new("RGBA", (9, 9)), noise):
        with pytest.raises(UsageError, match="shows no digit"):
            read(image, tmp_path / "blank.png")


def test_files_that_are_no_image_are_refused(tmp_path):
    for name, content in {
        "empty.png": b"",
        "text.png": b"seven",
        "cut.png": png_bytes(draw(7, (100, 100), 9))[:200],
        "header.png": png_bytes(draw(7, (100, 100), 9))[:30],
        "picture.gif": b"GIF89a",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UsageError, match=f"Can't read .*{name} as a PNG or JPEG"):
            read_digit(path)
    with pytest.raises(UsageError, match="No such file"):
        read_digit(tmp_path / "missing.png")
    with pytest.raises(UsageError, match="Is a directory"):
        read_digit(tmp_path)


def png_bytes(image):
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("side", [int(LARGEST**0.5) + 1, 60_000])
def test_enormous_images_are_refused_by_their_header(side, tmp_path):
    def chunk(kind, content):
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))))
    with pytest.raises(UsageError, match=r"too large|pixels"):
        read_digit(path)
