"""Turn a photo or a scan of a digit into an image like MNIST's, and the answer into words."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from scipy.sparse.csgraph import connected_components
from torch import Tensor, nn

from s4lib.data import normalise
from s4lib.paper import WIDE, at_border, boxes, combs, frame, rules, surface
from s4lib.runtime import UsageError
from s4lib.runtime.pictures import SIDE, read_grey
from s4lib.train import predict

TEMPERATURE = 0.69  # of the shipped weights: `python -m tests.benchmarks.photos` fits it
REJECT = Path(__file__).with_name("reject.npz")  # of the shipped weights: tests.benchmarks.nothing
NOTHING = "nothing here looks like a digit"
SURE = 0.8  # a less probable answer also names the second digit
TEXT, MOST = 3, 0.6  # pieces: a picture of so many is a text unless more than this share are digits

# Ink. Contrast is a share of full brightness, ink from 0, the paper, to 1.
FAINTEST = 0.06  # contrast: texture and noise of an even paper stay below it
NOISE = 0.25  # quantile of the contrast that is noise; most of a picture is paper
LOUDEST = 12  # times that noise, above which something stands out
GRAIN = 15  # the same of the fine grain alone, where the paper is no smooth surface
SHADOW = 0.25  # of the picture's shorter side: shadows are wider, strokes narrower
FREE = 0.18  # of the longer side: what stands free of a shadow is longer, or a scrap
USUAL = 0.4  # of the strongest contrast: what has more shows how dark the ink usually is
FULL = 0.2, 0.8  # of that usual contrast, from which on ink is seen, and is full
PALE = 0.6  # the darkest ink of a piece: paler ones are smears
SPECK = 0.05  # of the largest piece's ink: pieces with less are specks
OUTSIDE = 0.1  # of its ink counts, of a piece that reaches in from outside
AROUND, MOSTLY = 0.75, 0.9  # of the border, and at most of all, is the paper round a marker's digit
BLOB = 9  # of MNIST's 28 pixels: no stroke is as wide

# Digits. Lengths are shares of the usual piece's height.
APART = 0.3  # a bar or a foot that has come off, above or below
BROKEN = 0.15  # a slanted stroke that is broken
LOOSE = 0.1  # a stem that has come off, beside
LOW = 0.5  # what is lower is a piece of a digit
OVER = 0.5  # of the narrower piece's width lies below the other: a bar, not a neighbour
AFTER = 0.3  # of the lower piece's height, at most, lies beside the other: a stroke's next part
SHORTER = 0.7  # of the higher piece's height: a stem, which no whole digit beside another is
ROW = 0.5  # of the highest digit's height, by which a row lies below the one before

# Digits that touch
MIDDLE = 0.3, 0.7  # of the width, between which they are cut
TOUCH = 1.5  # strokes are cut through, at most: two would be a 0
HALF = 0.7  # of the height is reached by either half


def answers(model: nn.Module, digits: Tensor) -> list[str]:
    """Return what the network reads in a picture's images, uint8 (N, 1, 28, 28), in words.

    With the shipped weights, what is no digit is rejected, and a text, many of whose pieces are
    rejected, as a whole. `python -m tests.benchmarks.nothing` fits the reject.
    """
    log_probs, features = look(model, digits)
    reject = np.load(REJECT)
    is_digit = np.ones(len(digits), bool)
    if np.allclose(reject["fc_bias"], model.fc.bias.detach().cpu(), atol=1e-6):
        is_digit = digit_score(features, reject) > 0
        is_digit &= len(digits) < TEXT or is_digit.mean() > MOST
    return [answer(p) if is_one else NOTHING for p, is_one in zip(log_probs, is_digit, strict=True)]


def look(model: nn.Module, images: Tensor) -> tuple[Tensor, np.ndarray]:
    """Return log-probabilities (N, 10) of images, and features (N, 240) of the maps behind them.

    These are the mean and the maximum of each channel of blocks 2 and 3, and the means of the rows
    and columns of the map between the two.
    """
    pooled = {layer: [] for layer in (model.block2, model.transition2, model.block3)}

    def pool(layer: nn.Module, _, maps: Tensor) -> None:
        whole = layer is not model.transition2
        stats = (maps.mean((2, 3)), maps.amax((2, 3))) if whole else (maps.mean(2), maps.mean(3))
        pooled[layer].append(torch.cat([stat.flatten(1) for stat in stats], 1))

    hooks = [layer.register_forward_hook(pool) for layer in pooled]
    log_probs = predict(model, normalise(images))
    for hook in hooks:
        hook.remove()
    return log_probs, torch.cat(
        [torch.cat(batches) for batches in pooled.values()], 1
    ).cpu().numpy()


def digit_score(features: np.ndarray, reject) -> np.ndarray:
    """Return a quadratic form of features (N, 240): positive for digits, negative for all else."""
    away = features - reject["mean"]
    squares = (away @ reject["axes"]) ** 2
    return squares @ reject["weights"] + away @ reject["linear"] + reject["constant"]


def answer(log_probs: Tensor) -> str:
    """Return log-probabilities (10,) in words: `7 (99.3%)` or `not sure: 4 (61%) or 9 (35%)`."""
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
    raise UsageError(f"{path} shows {len(digits)} digits, not one: use --many to read them all.")


def read_digits(path: str | Path) -> Tensor:
    """Read every digit of a picture, row by row from the left, as `read_digit`: (N, 1, 28, 28)."""
    ink = find_ink(read_grey(path))
    if not ink.any():
        raise UsageError(f"{path} shows no digit: nothing stands out from the background.")
    ink = crop(ink)
    if (at_border(ink) > 0.5).mean() > AROUND and ink.mean() < MOSTLY:
        ink = 1 - ink
    ink = np.pad(ink, 2)  # nothing reaches in from outside any more
    ink = ink * ~boxes(ink)
    ink = without_specks(ink * ~combs(ink > 0))
    if not (ink > 0.5).any():
        raise UsageError(f"{path} shows no digit: what stands out is printed, or pale.")
    digits = np.stack([centre(fit_box(crop(digit))) for digit in separate(ink)])
    if ndimage.binary_erosion(digits > 127, np.ones((1, BLOB, BLOB))).any((1, 2)).all():
        raise UsageError(f"{path} shows nothing that looks like a digit.")
    return torch.from_numpy(digits)[:, None]


# What is ink


def find_ink(grey: np.ndarray) -> np.ndarray:
    """Return how much each pixel belongs to what is written, 0 to 1; all 0 if nothing is seen."""
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / SIDE)
    paper = surface(grey)
    contrast, floor = grey - paper, 0.0
    for noise, times in ((contrast, LOUDEST), (fine_grain(grey), GRAIN)):
        floor = max(FAINTEST, times * np.quantile(np.abs(noise), NOISE))
        if np.abs(contrast).max() > floor:  # else the surface fits badly; noise alone is less
            break
    for printed in (frame, rules):
        contrast = contrast * ~(printed(contrast > floor) | printed(contrast < -floor))
    if np.maximum(contrast - floor, 0).sum() < np.maximum(-contrast - floor, 0).sum():
        contrast, paper = -contrast, -paper  # dark on light
    ink = stand_out(contrast, floor)
    if at_border(ink).any():  # a shadow, perhaps: does something narrow stand free of the edge?
        free = without_shadow(paper + contrast)
        longest = max(free.any(0).sum(), free.any(1).sum())
        if longest > FREE * max(free.shape) and not at_border(free).any():
            ink = free
    return ink


def fine_grain(grey: np.ndarray) -> np.ndarray:
    """Return what changes within a hundredth of the picture."""
    return grey - ndimage.gaussian_filter(grey, max(1, max(grey.shape) / 100))


def without_shadow(grey: np.ndarray) -> np.ndarray:
    """Return the ink among what is narrower than any shadow."""
    span = round(SHADOW * min(grey.shape)) or 1
    narrow = grey - ndimage.grey_opening(grey, span, mode="nearest")
    return stand_out(narrow, max(FAINTEST, LOUDEST * np.quantile(narrow, NOISE)))


def stand_out(contrast: np.ndarray, floor: float) -> np.ndarray:
    """Return the ink, 0 to 1, by its contrast as a share of the usual."""
    if contrast.max() <= floor:
        return np.zeros_like(contrast)
    usual = np.median(contrast[contrast > max(floor, USUAL * contrast.max())])
    ink = np.interp(contrast / usual, FULL, (0, 1)) * (contrast > floor / 2)
    return without_specks(ink)


def without_specks(ink: np.ndarray) -> np.ndarray:
    """Return the ink without pieces that are pale or small, or, unless large, come from outside."""
    pieces, count = ndimage.label(ink, np.ones((3, 3)))
    weight = ndimage.sum_labels(ink, pieces, np.arange(count + 1))
    weight *= ndimage.maximum(ink, pieces, np.arange(count + 1)) > PALE
    weight[np.unique(at_border(pieces))] *= OUTSIDE
    return ink * (weight >= SPECK * weight.max())[pieces]


# Which ink is whose


def separate(ink: np.ndarray) -> list[np.ndarray]:
    """Return the ink of each digit, row by row from the left."""
    pieces, _ = ndimage.label(ink > 0.5, np.ones((3, 3)))
    nearest = ndimage.distance_transform_edt(pieces == 0, return_indices=True)[1]
    pieces = np.where(ink > 0, pieces[tuple(nearest)], 0)
    while True:
        sides = sides_of(pieces)
        weights = ndimage.sum_labels(ink, pieces, np.arange(1, len(sides) + 1))
        height = usual_height(sides, weights)
        count, groups = connected_components(same_digit(sides, height))
        if count == len(sides):
            break
        pieces = np.append(0, groups + 1)[pieces]
    # A low piece belongs to the nearest digit.
    middles, tall = sides.mean(2), np.ptp(sides, 2)[:, 0] >= LOW * height
    away = np.linalg.norm(middles[:, None] - middles[tall], axis=2)
    pieces = np.append(0, away.argmin(1) + 1)[pieces]
    digits = [ink * (pieces == number) for number in range(1, tall.sum() + 1)]
    return in_reading_order([part for digit in digits for part in halves(digit)])


def sides_of(pieces: np.ndarray) -> np.ndarray:
    """Return top and bottom, left and right of each of the labelled pieces: (N, 2, 2)."""
    found = ndimage.find_objects(pieces)
    return np.array([[(side.start, side.stop) for side in box] for box in found])


def usual_height(sides: np.ndarray, weights: np.ndarray) -> float:
    """Return the median height of the pieces, each counted by its ink."""
    heights = np.ptp(sides, 2)[:, 0]
    order = heights.argsort()
    sums = weights[order].cumsum()
    return heights[order][np.searchsorted(sums, sums[-1] / 2)]


def same_digit(sides: np.ndarray, height: float) -> np.ndarray:
    """Return which pieces (N, 2, 2) belong to one digit; the pieces' usual height is `height`.

    Digits stand side by side. A digit's pieces overlap from left to right, lie one below the other
    where a slanted stroke is broken, or are a stem beside a higher piece. Boolean (N, N).
    """
    starts, stops = sides.transpose(2, 1, 0)  # (2, N) each, from top to bottom, left to right
    lengths = stops - starts
    gaps = np.maximum(starts[:, :, None], starts[:, None]) - np.minimum(
        stops[:, :, None], stops[:, None]
    )  # negative where two overlap
    below, beside = gaps
    low, narrow = np.minimum(lengths[:, :, None], lengths[:, None])
    high = np.maximum(*np.meshgrid(lengths[0], lengths[0]))
    overlapping = (-beside >= OVER * narrow) & (below <= APART * height)
    broken = (-below < AFTER * low) & (np.maximum(below, beside) < BROKEN * height)
    stem = (low < SHORTER * high) & (below < 0) & (beside < LOOSE * height)
    return overlapping | broken | stem


def halves(ink: np.ndarray) -> list[np.ndarray]:
    """Cut digits that touch where the fewest strokes are crossed; else return the same ink."""
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    if width < WIDE * height:
        return [ink]
    middle = slice(*(columns[0] + round(share * width) for share in MIDDLE))
    crossed = ink[:, middle].sum(0)
    stroke = 2 * ndimage.distance_transform_edt(ink > 0.5).max()
    if not crossed.size or crossed.min() > TOUCH * stroke:
        return [ink]
    left = np.arange(ink.shape[1]) < middle.start + crossed.argmin()
    cut = [ink * left, ink * ~left]
    tall = all(np.ptp(np.flatnonzero((half > 0.5).any(1))) > HALF * height for half in cut)
    return cut if tall else [ink]


def in_reading_order(digits: list[np.ndarray]) -> list[np.ndarray]:
    """Return the digits row by row, from the left."""
    sides = np.array([sides_of((digit > 0).astype(int))[0] for digit in digits])
    down, right = sides.mean(2).T  # the middle of each
    apart = ROW * np.ptp(sides, 2)[:, 0].max()
    rows = []
    for number in down.argsort():
        if not rows or down[number] > down[rows[-1][-1]] + apart:
            rows.append([])
        rows[-1].append(number)
    return [digits[number] for row in rows for number in sorted(row, key=lambda k: right[k])]


# As MNIST has it


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
    """Put into 28×28, the centre of mass at the centre, as far as the border allows."""
    canvas = np.zeros((28, 28), np.uint8)
    corner = np.round(14 - np.array(ndimage.center_of_mass(digit)))
    top, left = corner.clip(0, 28 - np.array(digit.shape)).astype(int)
    canvas[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return canvas
