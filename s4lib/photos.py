"""From a photo or a scan of one digit to an image like MNIST's."""

import os
import stat
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from scipy import ndimage
from torch import Tensor

from s4lib.runtime import UsageError

LARGEST = 100_000_000  # pixels
LARGEST_FILE = 200_000_000  # bytes
MOST_SCANS = 100  # of a JPEG; progressive ones have about ten, and thousands would take hours
WORKING_SIDE = 400  # pixels; plenty for a digit that ends up 20 pixels tall


def read_digit(path: str | os.PathLike) -> Tensor:
    """Read a PNG or JPEG of one digit the way MNIST was made: uint8 (1, 28, 28), 255 the ink.

    Any size; dark on light or light on dark; colour, grey or transparent. The digit is fitted
    into 20×20 pixels, and its centre of mass put at the centre of 28×28. Source: LeCun et al.,
    "Gradient-based learning applied to document recognition", 1998. Raises UsageError when the
    file can't be read, is too large or shows no digit.
    """
    ink = find_ink(read_grey(path))
    if not ink.any():
        raise UsageError(f"{path} shows no digit: nothing stands out from the background.")
    return torch.from_numpy(centre(fit_box(thicken(crop(ink)))))[None]


def read_grey(path: str | os.PathLike) -> np.ndarray:
    """The image as brightness from 0 to 1, no side longer than WORKING_SIDE, the right way up."""
    try:
        check_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts; the size is checked here
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                if image.width * image.height > LARGEST:
                    raise UsageError(
                        f"{path} is too large ({image.width} × {image.height} pixels). "
                        "Crop it to the digit, or scale it down."
                    )
                image.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # JPEG can decode small at once
                ImageOps.exif_transpose(image, in_place=True)
                if image.mode[0] in "IF":  # 16 bits a pixel
                    grey = np.asarray(image) // 257
                    image = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
                image = image.convert("RGBA")
                image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(
            f"Can't read {path} as a PNG or JPEG: {error.strerror or error}."
        ) from error
    except Exception as error:  # whatever Pillow meets in a foreign file
        raise UsageError(f"Can't read {path} as a PNG or JPEG: {error}.") from error
    *colours, alpha = np.moveaxis(np.asarray(image) / 255, -1, 0)
    grey = np.tensordot((0.299, 0.587, 0.114), colours, 1)  # ITU-R BT.601, as Pillow's "L"
    if alpha.mean() > 0.5:  # a picture with holes: fill them with its usual brightness
        behind = np.median(grey[alpha > 0.5])
    else:  # strokes on nothing: put them on the opposite
        behind = np.average(grey, weights=alpha + 1e-9) < 0.5
    return grey * alpha + behind * (1 - alpha)


def check_file(path: str | os.PathLike) -> None:
    """Raise UsageError for what would take for ever to read: a pipe, or endless JPEG scans."""
    mode, size = os.stat(path).st_mode, os.stat(path).st_size
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or size > LARGEST_FILE:
        raise UsageError(f"{path} is not a PNG or JPEG of at most {LARGEST_FILE:,} bytes.")
    if stat.S_ISREG(mode):
        content = Path(path).read_bytes()
        if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > MOST_SCANS:
            raise UsageError(f"{path} is a JPEG of more than {MOST_SCANS} scans. Save it anew.")


def paper(grey: np.ndarray) -> np.ndarray:
    """The brightness of the background: a quadratic surface, so that light may fall unevenly.

    Least squares, starting from the border, each time without the pixels far off the surface.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    surface = np.full_like(grey, np.median(border))
    for _ in range(5):
        near = np.abs(grey - surface) < 0.15
        near[np.arange(len(near)) % 4 > 0] = False  # every fourth row is plenty
        if near.sum() < 6:
            break
        surface = terms @ np.linalg.lstsq(terms[near], grey[near], rcond=None)[0]
    return surface


def find_ink(grey: np.ndarray) -> np.ndarray:
    """How much each pixel belongs to the digit, 0 to 1; all 0 if nothing stands out."""
    contrast = ndimage.gaussian_filter(grey, max(grey.shape) / WORKING_SIDE) - paper(grey)
    noise = 1.5 * np.median(np.abs(contrast))
    floor = max(0.06, 4 * noise)
    if np.maximum(contrast - floor, 0).sum() < np.maximum(-contrast - floor, 0).sum():
        contrast = -contrast  # dark on light
    if contrast.max() <= floor:
        return np.zeros_like(grey)
    level = np.median(contrast[contrast > max(floor, 0.4 * contrast.max())])
    ink = ((contrast - 0.2 * level) / (0.6 * level)).clip(0, 1) * (contrast > floor / 2)
    return drop_specks(ink)


def drop_specks(ink: np.ndarray) -> np.ndarray:
    """Without the pieces far lighter than the largest, and what reaches in from the border."""
    pieces, count = ndimage.label(ink > 0, np.ones((3, 3)))
    weight = ndimage.sum_labels(ink, pieces, np.arange(count + 1))
    on_border = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    weight[on_border] *= 0.1
    return ink * (weight >= 0.05 * weight.max())[pieces]


def crop(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(ink > 0.1)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def thicken(ink: np.ndarray, width: float = 2.0) -> np.ndarray:
    """Widen strokes that would end up thinner than `width` of the 20 pixels: a pen's on a page."""
    scale = 20 / max(ink.shape)
    depth = ndimage.distance_transform_edt(np.pad(ink, 1) > 0.5)
    # Across a stroke the distance to its edge rises and falls: on average a quarter of the width.
    missing = width - 4 * depth[depth > 0].mean() * scale
    radius = round(missing / scale / 2)
    if radius < 1:
        return ink
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return ndimage.grey_dilation(np.pad(ink, radius), footprint=x * x + y * y <= radius * radius)


def fit_box(ink: np.ndarray) -> np.ndarray:
    """Scale to 20 pixels along the longer side; uint8, the darkest ink at 255."""
    scale = 20 / max(ink.shape)
    size = [max(1, round(side * scale)) for side in reversed(ink.shape)]
    small = Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.LANCZOS)
    small = np.asarray(small).clip(0)
    return (small * (255 / small.max())).round().astype(np.uint8)


def centre(digit: np.ndarray) -> np.ndarray:
    """Into 28×28, the centre of mass at the centre, as far as the border allows."""
    canvas = np.zeros((28, 28), np.uint8)
    top, left = (
        min(max(round(14 - mass), 0), 28 - side)
        for mass, side in zip(ndimage.center_of_mass(digit), digit.shape, strict=True)
    )
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return canvas
