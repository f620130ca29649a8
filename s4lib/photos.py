"""From a photo or a scan of a digit to an image like MNIST's, and the answer in words."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor

from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import read

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
OTHERS = {b"%PDF": "a PDF", b"PK\3\4": "an archive", b"<svg": "an SVG", b"ftyphe": "an HEIC"}
MOST_SCANS = 100  # of a JPEG; progressive ones have about ten, and thousands would take hours
WORKING_SIDE = 400  # pixels; plenty for a digit that ends up 20 pixels tall
TEMPERATURE = 0.69  # of the shipped weights: what `python -m tests.benchmarks.photos` fits
SURE = 0.8  # a less probable answer names the second, too


def answer(log_probs: Tensor) -> str:
    """Log-probabilities (10,) in words: `7 (99.3%)` or `not sure: 4 (61%) or 9 (35%)`."""
    (first, second), digits = (100 * (log_probs / TEMPERATURE).softmax(0)).topk(2)
    if first >= 100 * SURE:
        return f"{digits[0]} ({first:.1f}%)"
    return f"not sure: {digits[0]} ({first:.0f}%) or {digits[1]} ({second:.0f}%)"


def read_digit(path: str | Path) -> Tensor:
    """Read a picture of one digit the way MNIST was made: uint8 (1, 28, 28), 255 the ink.

    Any size; dark on light or light on dark; colour, grey or transparent; framed or not. Source:
    LeCun et al., "Gradient-based learning applied to document recognition", 1998. Raises UsageError
    when the file can't be read, is too large, or shows no digit or several.
    """
    digits = read_digits(path)
    if len(digits) == 1:
        return digits[0]
    raise UsageError(f"{path} shows {len(digits)} digits, not one: read them by --many.")


def read_digits(path: str | Path) -> Tensor:
    """Every digit of a picture, row by row from the left, as `read_digit`: (N, 1, 28, 28)."""
    ink = find_ink(read_grey(path))
    if not ink.any():
        raise UsageError(f"{path} shows no digit: nothing stands out from the background.")
    box = crop(ink)
    if (at_border(box) > 0.5).mean() > 0.75 and box.mean() < 0.9:  # it is the paper round a digit
        ink = 1 - box
    digits = [centre(fit_box(crop(digit))) for digit in separate(ink)]
    blobs = [ndimage.binary_erosion(digit > 127, np.ones((9, 9))).any() for digit in digits]
    if all(blobs):  # no stroke is 9 of 28 pixels wide
        raise UsageError(f"{path} shows nothing that looks like a digit.")
    return torch.from_numpy(np.stack(digits)[~np.array(blobs)])[:, None]


def read_grey(path: str | Path) -> np.ndarray:
    """The image as brightness from 0 to 1, no side longer than WORKING_SIDE, the right way up."""
    content = read(path)
    try:
        if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > MOST_SCANS:
            raise ValueError(f"it is a JPEG of more than {MOST_SCANS} scans")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts, except for those about the size
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # JPEG can decode small at once
                ImageOps.exif_transpose(image, in_place=True)
                if image.mode[0] in "IF":  # 16 bits a pixel, or fractions
                    values = np.asarray(image) / (257 if image.mode[0] == "I" else 1 / 255)
                    image = Image.fromarray(np.nan_to_num(values).clip(0, 255).astype(np.uint8))
                image = image.convert("RGBA")
                image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    except UnidentifiedImageError as error:
        what = next((kind for mark, kind in OTHERS.items() if mark in content[:256]), "no picture")
        raise UsageError(f"Can't read {path}: it is {what}. Save it as PNG or JPEG.") from error
    except Exception as error:  # whatever else Pillow meets in a foreign file
        raise UsageError(f"Can't read {path}: {error}.") from error
    grey, alpha = np.moveaxis(np.asarray(image.convert("LA")) / 255, -1, 0)
    # Holes in a picture get its usual brightness; strokes on nothing, the opposite of theirs.
    usual = np.median(grey[alpha >= min(0.5, alpha.max())])
    behind = usual if alpha.mean() > 0.5 else usual < 0.5
    return grey * alpha + behind * (1 - alpha)


def find_ink(grey: np.ndarray) -> np.ndarray:
    """How much each pixel belongs to what is written, 0 to 1; all 0 if nothing stands out."""
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / WORKING_SIDE)
    surface = paper(grey)
    contrast = grey - surface
    # Texture and noise stay below this, if at least a quarter of the picture is paper.
    floor = max(0.06, 12 * np.quantile(np.abs(contrast), 0.25))
    if np.abs(contrast).max() <= floor:  # the surface fits badly; noise alone is less
        grain = grey - ndimage.gaussian_filter(grey, max(1, max(grey.shape) / 100))
        floor = max(0.06, 15 * np.quantile(np.abs(grain), 0.25))
    contrast = contrast * ~(frame(contrast > floor) | frame(contrast < -floor))
    if np.maximum(contrast - floor, 0).sum() < np.maximum(-contrast - floor, 0).sum():
        contrast, surface = -contrast, -surface  # dark on light
    ink = stand_out(contrast, floor)
    if at_border(ink).any():  # a shadow, perhaps: does something narrow stand free of the edge?
        grey, span = surface + contrast, round(0.25 * min(grey.shape)) or 1
        narrow = grey - ndimage.grey_opening(grey, span, mode="nearest")
        free = stand_out(narrow, max(0.06, 12 * np.quantile(narrow, 0.25)))
        if free.any() and not at_border(free).any():
            return free
    return ink


def paper(grey: np.ndarray) -> np.ndarray:
    """The background: a quadratic surface of brightness, each time fitted to what is near it."""
    surface = np.full_like(grey, np.median(grey))
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    some = (slice(None, None, max(1, max(grey.shape) // 100)),) * 2  # are plenty
    for _ in range(5):
        near = np.abs(grey - surface)[some] < 0.15
        surface = terms @ np.linalg.lstsq(terms[some][near], grey[some][near], rcond=None)[0]
    return surface


def at_border(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def frame(mask: np.ndarray) -> np.ndarray:
    """What of a mask keeps to the edge: pieces, and bars right across, which a digit may touch."""
    bars = (mask.mean(1, keepdims=True) > 0.95) | (mask.mean(0, keepdims=True) > 0.95)
    kept = np.zeros_like(mask)
    for part in (mask, bars):
        pieces, _ = ndimage.label(part, np.ones((3, 3)))
        kept |= ~np.isin(pieces, inside(pieces)) & part
    return mask & kept


def inside(image: np.ndarray) -> np.ndarray:
    """What no frame reaches: farther than a tenth of the image, and some blur, from its edges."""
    edge = min(round(0.12 * min(image.shape) + 1.5), (min(image.shape) - 1) // 2)
    return image[edge : len(image) - edge, edge : image.shape[1] - edge]


def stand_out(contrast: np.ndarray, floor: float) -> np.ndarray:
    """The ink, 0 to 1: without what is pale, what is small, what reaches in from outside."""
    if contrast.max() <= floor:
        return np.zeros_like(contrast)
    level = np.median(contrast[contrast > max(floor, 0.4 * contrast.max())])
    ink = ((contrast - 0.2 * level) / (0.6 * level)).clip(0, 1) * (contrast > floor / 2)
    pieces, count = ndimage.label(ink, np.ones((3, 3)))
    weight = ndimage.sum_labels(ink, pieces, np.arange(count + 1))
    weight *= ndimage.maximum(ink, pieces, np.arange(count + 1)) > 0.6
    weight[np.unique(at_border(pieces))] *= 0.1
    return ink * (weight >= 0.05 * weight.max())[pieces]


def separate(ink: np.ndarray) -> list[np.ndarray]:
    """The ink of each digit, row by row from the left; what is low belongs to the nearest."""
    boxes = ndimage.find_objects(ndimage.label(ink, np.ones((3, 3)))[0])
    size = max(side.stop - side.start for box in boxes for side in box)
    # Strokes are one digit's over gaps of 15% of that, one above the other of 30%.
    near = ndimage.distance_transform_edt(ink == 0, (0.5, 1)) <= 0.075 * size
    pieces, _ = ndimage.label(near, np.ones((3, 3)))
    boxes = [[(side.start, side.stop) for side in box] for box in ndimage.find_objects(pieces)]
    middle, height = np.mean(boxes, 2), np.ptp(boxes, 2)[:, 0]
    digits = np.flatnonzero(height >= 0.5 * height.max())
    digits = digits[middle[digits, 0].argsort()]
    row = np.cumsum(np.diff(middle[digits, 0], prepend=0) > 0.5 * height.max())
    digits = digits[np.lexsort((middle[digits, 1], row))]
    nearest = np.linalg.norm(middle[:, None] - middle[digits], axis=2).argmin(1)
    return [ink * np.isin(pieces, 1 + np.flatnonzero(nearest == i)) for i in range(len(digits))]


def crop(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(ink > 0.1)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


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
    corner = np.round(14 - np.array(ndimage.center_of_mass(digit)))
    top, left = corner.clip(0, 28 - np.array(digit.shape)).astype(int)
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return canvas
