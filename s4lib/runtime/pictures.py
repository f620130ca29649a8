"""Read picture files of any kind, size and depth, with limits, as one small grey image."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import read

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
OTHERS = {  # a mark near the beginning: the kind of file that has it
    **{b"%PDF": "a PDF", b"PK\3\4": "an archive", b"<svg": "an SVG", b"ftypavi": "an AVIF"},
    **dict.fromkeys((b"ftyphe", b"ftypmif", b"ftypmsf"), "an HEIC"),
}
SIDE = 400  # pixels, the longest side of the image; plenty for a digit that will be 20 pixels tall
MOST_PIXELS = 90e6  # in memory; a JPEG is decoded smaller, so its file may have 64 times as many
MOST_SCANS = 100  # of a JPEG; progressive JPEGs have about ten, and thousands would take hours
DEPTHS = (1, 255, 4095, 65535)  # full brightness in fractions, 8, 12 and 16 bits


def read_grey(path: str | Path) -> np.ndarray:
    """Return the picture as brightness from 0 to 1 (height, width), upright, at most SIDE long.

    Raises UsageError for a folder, and for a file that is too large, damaged or not a picture.
    """
    if Path(path).is_dir():
        raise UsageError(f"Can't read {path}: it is a folder. Name the pictures in it.")
    content = read(path)
    try:
        if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > MOST_SCANS:
            raise ValueError(f"it is a JPEG of more than {MOST_SCANS} scans")
        with our_limits(), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            image.draft("RGB", (SIDE, SIDE))  # JPEG can be decoded at a smaller size
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it has {image.width * image.height:,} pixels")
            image = shrink(image)
    except UnidentifiedImageError as error:
        what = next((kind for mark, kind in OTHERS.items() if mark in content[:1000]), "no picture")
        raise UsageError(f"Can't read {path}: it is {what}. Save it as PNG or JPEG.") from error
    except Exception as error:  # a damaged file may make Pillow raise anything
        raise UsageError(f"Can't read {path}: {error}.") from error
    grey, alpha = np.moveaxis(np.asarray(image.convert("LA")) / 255, -1, 0)
    # Holes in a picture get its usual brightness; strokes without a background get the opposite.
    usual = np.median(grey[alpha >= min(0.5, alpha.max())])
    behind = usual if alpha.mean() > 0.5 else usual < 0.5
    return grey * alpha + behind * (1 - alpha)


@contextmanager
def our_limits() -> Iterator[None]:
    """Pillow without its own limit, which counts a JPEG's pixels before the size is reduced."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about damaged tags
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def shrink(image: Image.Image) -> Image.Image:
    """Return the picture in RGBA, upright, with no side longer than SIDE."""
    if image.mode[0] in "IF":  # 16 bits per pixel, or fractions
        values = np.nan_to_num(np.asarray(image, np.float32))
        full = next((depth for depth in DEPTHS if values.max() <= depth), values.max())
        image = Image.fromarray((values / full * 255).clip(0, 255).astype(np.uint8))
    if image.mode not in ("L", "RGB", "LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return ImageOps.exif_transpose(image).convert("RGBA")
