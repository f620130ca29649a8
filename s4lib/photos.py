"""From a photo or a scan of a digit to an image like MNIST's, and the answer in words."""

import io
import warnings
from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from scipy import ndimage
from scipy.spatial import ConvexHull
from torch import Tensor, nn

from s4lib.data import normalise
from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import read
from s4lib.train import predict

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
OTHERS = {
    **{b"%PDF": "a PDF", b"PK\3\4": "an archive", b"<svg": "an SVG", b"ftypavi": "an AVIF"},
    **dict.fromkeys((b"ftyphe", b"ftypmif", b"ftypmsf"), "an HEIC"),
}
MOST_PIXELS = 90e6  # in memory; a JPEG is decoded small, so it may have 64 times as many
DEPTHS = (1, 255, 4095, 65535)  # full brightness in fractions, 8, 12 and 16 bits
MOST_SCANS = 100  # of a JPEG; progressive ones have about ten, and thousands would take hours
WORKING_SIDE = 400  # pixels; plenty for a digit that ends up 20 pixels tall
TEMPERATURE = 0.69  # of the shipped weights: what `python -m tests.benchmarks.photos` fits
REJECT = Path(__file__).with_name("reject.npz")
NOTHING = "nothing here looks like a digit"
SURE = 0.8  # a less probable answer also names the second
FAINTEST = 0.06  # of brightness: texture and noise of an even paper stay below it
MOST_TILT = 4  # degrees, of printed lines
LINE_COVERS = 0.8  # of the picture's width, where a stroke doesn't hide it
CELL_FILLS = 0.75  # of its bounding box, which a printed box does and the inside of a 0 hardly
WIDE = 1.4  # times its height: no digit is, two that touch are


def answers(model: nn.Module, digits: Tensor) -> list[str]:
    """What the network reads in each of the images, uint8 (N, 1, 28, 28), in words.

    With the shipped weights, what is no digit is rejected: a quadratic form of the last features,
    fitted to digits, letters and shapes by `python -m tests.benchmarks.nothing`, is negative.
    """
    features = []
    hook = model.fc.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    log_probs = predict(model, normalise(digits))
    hook.remove()
    fitted = np.load(REJECT)
    is_digit = np.ones(len(digits), bool)
    if np.allclose(fitted["fc_bias"], model.fc.bias.detach().cpu(), atol=1e-6):
        is_digit = digit_score(torch.cat(features).cpu().numpy(), fitted) > 0
    return [answer(p) if is_one else NOTHING for p, is_one in zip(log_probs, is_digit, strict=True)]


def digit_score(features: np.ndarray, fitted) -> np.ndarray:
    """Positive for digits, negative for all else: f·Q·f + f·b + c of the features f (N, 32)."""
    squares = np.einsum("ni,ij,nj->n", features, fitted["quadratic"], features)
    return squares + features @ fitted["linear"] + fitted["constant"]


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
    raise UsageError(f"{path} shows {len(digits)} digits, not one: use --many to read them all.")


def read_digits(path: str | Path) -> Tensor:
    """Every digit of a picture, row by row from the left, as `read_digit`: (N, 1, 28, 28)."""
    ink = find_ink(read_grey(path))
    if not ink.any():
        raise UsageError(f"{path} shows no digit: nothing stands out from the background.")
    box = crop(ink)
    if (at_border(box) > 0.5).mean() > 0.75 and box.mean() < 0.9:  # it is the paper round a digit
        ink = 1 - box
    ink = ink * in_cells(ink)
    ink = without_specks(ink * ~combs(ink > 0.25))
    if not (ink > 0.5).any():
        raise UsageError(f"{path} shows no digit: what stands out is printed, or pale.")
    digits = [centre(fit_box(crop(digit))) for digit in separate(ink)]
    blobs = [ndimage.binary_erosion(digit > 127, np.ones((9, 9))).any() for digit in digits]
    if all(blobs):  # no stroke is 9 of 28 pixels wide
        raise UsageError(f"{path} shows nothing that looks like a digit.")
    return torch.from_numpy(np.stack(digits)[~np.array(blobs)])[:, None]


def read_grey(path: str | Path) -> np.ndarray:
    """The image as brightness from 0 to 1, no side longer than WORKING_SIDE, the right way up."""
    if Path(path).is_dir():
        raise UsageError(f"Can't read {path}: it is a folder. Name the pictures in it.")
    content = read(path)
    try:
        if content[:2] == b"\xff\xd8" and content.count(b"\xff\xda") > MOST_SCANS:
            raise ValueError(f"it is a JPEG of more than {MOST_SCANS} scans")
        with warnings.catch_warnings(), patch.object(Image, "MAX_IMAGE_PIXELS", None):
            warnings.simplefilter("ignore")  # Pillow's doubts
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.draft("RGB", (WORKING_SIDE, WORKING_SIDE))  # JPEG can decode small at once
                if image.width * image.height > MOST_PIXELS:
                    raise ValueError(f"it has {image.width * image.height:,} pixels")
                image = shrink(image)
    except UnidentifiedImageError as error:
        what = next((kind for mark, kind in OTHERS.items() if mark in content[:1000]), "no picture")
        raise UsageError(f"Can't read {path}: it is {what}. Save it as PNG or JPEG.") from error
    except Exception as error:  # whatever else Pillow meets in a foreign file
        raise UsageError(f"Can't read {path}: {error}.") from error
    grey, alpha = np.moveaxis(np.asarray(image.convert("LA")) / 255, -1, 0)
    # Holes in a picture get its usual brightness; strokes on nothing, the opposite of theirs.
    usual = np.median(grey[alpha >= min(0.5, alpha.max())])
    behind = usual if alpha.mean() > 0.5 else usual < 0.5
    return grey * alpha + behind * (1 - alpha)


def shrink(image: Image.Image) -> Image.Image:
    """The image with transparency, the right way up, no side longer than WORKING_SIDE."""
    if image.mode[0] in "IF":  # 16 bits a pixel, or fractions
        values = np.nan_to_num(np.asarray(image, np.float32))
        full = next((depth for depth in DEPTHS if values.max() <= depth), values.max())
        image = Image.fromarray((values / full * 255).clip(0, 255).astype(np.uint8))
    if image.mode not in ("L", "RGB", "LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
    image.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    return ImageOps.exif_transpose(image).convert("RGBA")


def find_ink(grey: np.ndarray) -> np.ndarray:
    """How much each pixel belongs to what is written, 0 to 1; all 0 if nothing stands out."""
    grey = ndimage.gaussian_filter(grey, max(grey.shape) / WORKING_SIDE)
    surface = paper(grey)
    contrast, floor = grey - surface, 0.0
    for noise, times in ((contrast, 12), (fine_grain(grey), 15)):
        floor = max(FAINTEST, times * np.quantile(np.abs(noise), 0.25))
        if np.abs(contrast).max() > floor:  # else the surface fits badly; noise alone is less
            break
    for outside in (frame, rules):
        contrast = contrast * ~(outside(contrast > floor) | outside(contrast < -floor))
    if np.maximum(contrast - floor, 0).sum() < np.maximum(-contrast - floor, 0).sum():
        contrast, surface = -contrast, -surface  # dark on light
    ink = stand_out(contrast, floor)
    if at_border(ink).any():  # a shadow, perhaps: does something narrow stand free of the edge?
        free = without_shadow(surface + contrast)
        if free.any() and not at_border(free).any():
            ink = free
    return ink


def fine_grain(grey: np.ndarray) -> np.ndarray:
    """What changes within a hundredth of the picture."""
    return grey - ndimage.gaussian_filter(grey, max(1, max(grey.shape) / 100))


def without_shadow(grey: np.ndarray) -> np.ndarray:
    """The ink among what is narrower than a quarter of the picture, which no shadow is."""
    span = round(0.25 * min(grey.shape)) or 1
    narrow = grey - ndimage.grey_opening(grey, span, mode="nearest")
    return stand_out(narrow, max(FAINTEST, 12 * np.quantile(narrow, 0.25)))


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
    return without_specks(ink)


def without_specks(ink: np.ndarray) -> np.ndarray:
    """The ink without pieces that are pale or small, or that reach in from outside."""
    pieces, count = ndimage.label(ink, np.ones((3, 3)))
    weight = ndimage.sum_labels(ink, pieces, np.arange(count + 1))
    weight *= ndimage.maximum(ink, pieces, np.arange(count + 1)) > 0.6
    weight[np.unique(at_border(pieces))] *= 0.1
    return ink * (weight >= 0.05 * weight.max())[pieces]


def rules(mask: np.ndarray) -> np.ndarray:
    """Where printed lines run right across the picture, strokes that cross them left out."""
    return ruled(mask) | ruled(mask.T).T


def ruled(mask: np.ndarray, margin: float = 0.02) -> np.ndarray:
    """The same of lines from left to right, none steeper than MOST_TILT degrees.

    What else there is leaves `margin` of the width free at one end, or the line is a stroke.
    """
    height, width = mask.shape
    columns, best = np.arange(width), np.empty((0, width), int)
    thick = ndimage.binary_dilation(mask, np.ones((3, 1)))
    for degrees in np.arange(-MOST_TILT, MOST_TILT + 0.1, 0.5):
        drop = np.round(np.tan(np.radians(degrees)) * (columns - width / 2)).astype(int)
        rows = np.arange(height)[:, None] + drop  # of the sheared picture (height, width)
        within = (rows >= 0) & (rows < height)
        sheared = thick[rows.clip(0, height - 1), columns] & within
        ends = sheared[:, : width // 20 + 1].any(1) & sheared[:, -width // 20 - 1 :].any(1)
        covered = sheared.mean(1) > LINE_COVERS * within.mean(1).clip(0.5)
        if (ends & covered).sum() > len(best):
            best = rows[ends & covered]
    lines, runs = np.zeros_like(mask), ndimage.label(mask, [[0, 1, 0]] * 3)[0]  # top to bottom
    lengths = np.bincount(runs.ravel())
    found = []
    for rows in np.split(best, np.flatnonzero(np.diff(best[:, 0]) > 1) + 1):
        on_line = np.zeros_like(mask)
        on_line[rows.clip(0, height - 1), np.broadcast_to(columns, rows.shape)] = True
        crossed = np.unique(runs[on_line & mask])
        thickness = np.median(lengths[crossed]) if len(crossed) else 0
        found.append((thickness, crossed[lengths[crossed] <= 1.5 * thickness + 1]))
    rest = mask & ~np.isin(runs, np.concatenate([[-1], *(crossed for _, crossed in found)]))
    for thickness, crossed in found:
        alike = sum(2 / 3 < (other + 1) / (thickness + 1) < 1.5 for other, _ in found)
        if is_printed(rest, thickness, margin, alike > 1):
            line = np.isin(runs, crossed)
            lines |= line | ticks(rest, line, thickness)
    return lines


def ticks(rest: np.ndarray, line: np.ndarray, thickness: float) -> np.ndarray:
    """Short bars of one length that stand on a printed line, as thin as that: where digits go."""
    pieces, _ = ndimage.label(rest)
    runs = ndimage.label(rest, [[0, 0, 0], [1, 1, 1], [0, 0, 0]])[0]
    lengths = np.bincount(runs.ravel())
    touching = np.unique(pieces[ndimage.binary_dilation(line, iterations=2) & rest])
    bars = {}
    for number in touching[touching > 0]:
        bar = pieces == number
        if np.median(lengths[np.unique(runs[bar])]) <= 1.5 * thickness + 1:
            bars[number] = np.ptp(np.flatnonzero(bar.any(1)))
    if len(bars) < 2 or max(bars.values()) > 1.25 * min(bars.values()) + 2:
        return np.zeros_like(rest)
    return ndimage.binary_dilation(np.isin(pieces, [*bars]), iterations=2)


def combs(mask: np.ndarray) -> np.ndarray:
    """Lines under or over a whole row of digits, with the walls or ticks between them."""
    found, lined = np.zeros_like(mask), False
    while (left := mask & ~found).any():
        box = ndimage.find_objects(left.astype(int))[0]
        rows, columns = left[box].shape
        lines, walls = ruled(left[box], 0), ruled(left[box].T, 0).T
        lined |= lines.any()
        if lined or ndimage.label(walls)[1] > 2:  # else it is the stem of a thin 7 among others
            lines |= walls
        if columns < WIDE * rows or not lines.any():  # the bar of a single 7 is a stroke
            break
        found[box] |= ndimage.binary_dilation(lines)
    return found


def is_printed(rest: np.ndarray, thickness: float, margin: float, several: bool) -> bool:
    """Whether a line across is thinner than the strokes, or one of several longer than the rest.

    The bar of a 7 and the stem of a 4 in a tight crop are neither.
    """
    if not rest.any():
        return False
    stroke = 2 * np.quantile(ndimage.distance_transform_edt(rest)[rest], 0.9)
    across, width = np.flatnonzero(rest.any(0)), rest.shape[1]
    before, after = across[0] / width, 1 - across[-1] / width
    thinner = thickness < 0.7 * stroke and max(before, after) >= margin
    return thinner or min(before, after) > (0.1 if several else 0.25)


def in_cells(ink: np.ndarray) -> np.ndarray:
    """Everything but the walls of printed boxes in which something is written."""
    pieces, _ = ndimage.label(ink < 0.25)
    kept = np.ones(ink.shape, bool)
    for number, box in enumerate(ndimage.find_objects(pieces), 1):
        sides = np.array([side.stop - side.start for side in box])
        at_edge = any(
            side.start == 0 or side.stop == whole
            for side, whole in zip(box, ink.shape, strict=True)
        )
        if at_edge or min(sides) < max(6, 0.08 * min(ink.shape)):
            continue
        room = 3 + round(0.05 * min(sides))  # for the wall
        wide = tuple(slice(max(0, side.start - room), side.stop + room) for side in box)
        hull = convex_hull(pieces[wide] == number)
        core = ndimage.binary_erosion(hull, iterations=2 + round(0.03 * min(sides)))
        written = np.flatnonzero((core & (ink[wide] >= 0.5)).any(1))
        if hull.sum() > CELL_FILLS * sides.prod() and len(written) > 0.3 * sides[0]:
            kept[wide] &= core | ~ndimage.binary_dilation(hull, np.ones((3, 3)), iterations=room)
    return kept


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """The smallest convex polygon that holds all pixels of a mask, as a mask."""
    points = np.argwhere(mask)
    corners = points[ConvexHull(points).vertices, ::-1]
    image = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(image).polygon([*map(tuple, corners.tolist())], fill=1, outline=1)
    return np.asarray(image)


def separate(ink: np.ndarray) -> list[np.ndarray]:
    """The ink of each digit, row by row from the left.

    Pieces that overlap from left to right are one digit's, pieces side by side two digits'. What
    is low belongs to the nearest.
    """
    pieces, count = ndimage.label(ink > 0.5, np.ones((3, 3)))
    nearest = ndimage.distance_transform_edt(pieces == 0, return_indices=True)[1]
    pieces = np.where(ink > 0, pieces[tuple(nearest)], 0)
    weights = ndimage.sum_labels(ink, pieces, np.arange(1, count + 1))
    groups = [[n] for n in range(1, count + 1)]
    boxes = [[(side.start, side.stop) for side in box] for box in ndimage.find_objects(pieces)]
    height = usual_height(boxes, weights)
    while pair := next(
        (
            (i, j)
            for i, j in combinations(range(len(boxes)), 2)
            if same_digit(boxes[i], boxes[j], height)
        ),
        None,
    ):
        i, j = pair
        boxes[i] = [
            (min(a, c), max(b, d)) for (a, b), (c, d) in zip(boxes[i], boxes.pop(j), strict=True)
        ]
        groups[i] += groups.pop(j)
    middle, tall = np.mean(boxes, 2), np.ptp(boxes, 2)[:, 0]
    mass = [weights[np.array(group) - 1].sum() for group in groups]
    height = usual_height(boxes, mass)
    digits = np.flatnonzero(tall >= 0.5 * height)
    owner = np.linalg.norm(middle[:, None] - middle[digits], axis=2).argmin(1)
    found = []
    for number in range(len(digits)):
        mine = np.concatenate([groups[i] for i in np.flatnonzero(owner == number)])
        found += halves(ink * np.isin(pieces, mine))
    return in_reading_order(found)


def usual_height(boxes: list, weights) -> float:
    """The median height of the boxes, each counted by its ink."""
    heights = np.ptp(boxes, 2)[:, 0]
    order = heights.argsort()
    sums = np.cumsum(np.asarray(weights)[order])
    return heights[order][np.searchsorted(sums, sums[-1] / 2)]


def same_digit(box, other, height: float) -> bool:
    """Whether two pieces, ((top, bottom), (left, right)) each, belong to one digit."""
    (top, bottom), (left, right) = box
    (top2, bottom2), (left2, right2) = other
    below = max(top, top2) - min(bottom, bottom2)  # negative if they overlap
    beside = max(left, left2) - min(right, right2)
    if below > 0.3 * height:
        return False
    lower, taller = sorted((bottom - top, bottom2 - top2))
    if lower < 0.7 * taller and below < 0 and beside < 0.1 * height:
        return lower > 0.25 * height or beside < 0  # a stem that has come off a 4
    return -beside >= 0.5 * min(right - left, right2 - left2)


def halves(ink: np.ndarray) -> list[np.ndarray]:
    """Two digits that touch, cut where the fewest strokes are crossed; else the same ink."""
    rows, columns = (np.flatnonzero((ink > 0.5).any(axis)) for axis in (1, 0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    if width < WIDE * height:
        return [ink]
    middle = slice(columns[0] + round(0.3 * width), columns[0] + round(0.7 * width))
    crossed = ink[:, middle].sum(0)
    stroke = 2 * ndimage.distance_transform_edt(ink > 0.5).max()
    if not crossed.size or crossed.min() > 1.5 * stroke:
        return [ink]
    cut = middle.start + int(crossed.argmin())
    left = np.arange(ink.shape[1]) < cut
    parts = [ink * left, ink * ~left]
    tall = all(np.ptp(np.flatnonzero((part > 0.5).any(1))) > 0.7 * height for part in parts)
    return parts if tall else [ink]


def in_reading_order(digits: list[np.ndarray]) -> list[np.ndarray]:
    """Row by row from the left."""
    boxes = [ndimage.find_objects((digit > 0).astype(int))[0] for digit in digits]
    middle = np.array([[(side.start + side.stop) / 2 for side in box] for box in boxes])
    height = max(box[0].stop - box[0].start for box in boxes)
    down = middle[:, 0].argsort()
    row = np.empty(len(digits), int)
    row[down] = np.cumsum(np.diff(middle[down, 0], prepend=0) > 0.5 * height)
    return [digits[i] for i in np.lexsort((middle[:, 1], row))]


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
