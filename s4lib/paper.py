"""Find what is paper in a photo: the surface under the ink, frames, and printed lines and boxes.

Masks are boolean (height, width). A length without a unit is a share of the picture's side.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

NEAR_PAPER = 0.15  # of full brightness, within which a pixel takes part in fitting the surface
FRAME = 0.12  # within which bars, borders and the table beside a sheet lie
BAR = 0.95  # of the side is covered by a bar, which a digit may touch
STEEPEST = 4  # degrees that a printed line may be tilted by
TILTS = 3  # times that lines are looked for: from an angle, they aren't parallel
LINE = 0.8  # of the side is covered by a printed line, where a stroke doesn't hide it
ENDS = 0.05  # at either end, where a printed line is seen as well
CROSSED = 1.5  # times its thickness: where it is thicker, a stroke crosses a line
THINNER = 0.7  # of the strokes' thickness, under which a line across is no stroke
ALIKE = 1.5  # times, up to which lines of one kind differ in thickness
ALONE, TOGETHER = 0.25, 0.1  # by which one line, or each of several, is longer than what's written
WIDE = 1.4  # times its height, from which a piece may be a row of digits: none is as wide
CELL = 0.08  # the smallest printed box
TICKS = 1.25  # times, up to which the ticks of a comb differ in length
FULL = 0.75  # of its bounding box is filled by a printed box, and hardly by the inside of a 0
WRITTEN = 0.3  # of a box's height is reached by what is written in it
WALL = 0.05  # of a box's width, up to which its wall is thick
INSET = 0.03  # of the same, by which it may bulge inwards


def surface(grey: np.ndarray) -> np.ndarray:
    """Return the paper's brightness: a quadratic surface, fitted five times to what is near it."""
    paper = np.full_like(grey, np.median(grey))
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in grey.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    some = (slice(None, None, max(1, max(grey.shape) // 100)),) * 2  # are plenty
    for _ in range(5):
        near = np.abs(grey - paper)[some] < NEAR_PAPER
        paper = terms @ np.linalg.lstsq(terms[some][near], grey[some][near], rcond=None)[0]
    return paper


def at_border(image: np.ndarray) -> np.ndarray:
    """Return the outermost pixels, in a row."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def frame(mask: np.ndarray) -> np.ndarray:
    """Return what of a mask touches the edge: pieces, and bars right across."""
    bars = (mask.mean(1, keepdims=True) > BAR) | (mask.mean(0, keepdims=True) > BAR)
    edge = min(round(FRAME * min(mask.shape) + 1.5), (min(mask.shape) - 1) // 2)  # and some blur
    inside = (slice(edge, mask.shape[0] - edge), slice(edge, mask.shape[1] - edge))
    kept = np.zeros_like(mask)
    for part in (mask, bars):
        pieces, _ = ndimage.label(part, np.ones((3, 3)))
        kept |= ~np.isin(pieces, pieces[inside]) & part
    return mask & kept


def rules(mask: np.ndarray) -> np.ndarray:
    """Return lines of ruled or squared paper, right across the picture; strokes over them left out.

    A line along the edge does not count: it is the paper beside a stroke that fills a tight crop.
    """
    across, down = lines(mask), [line.T for line in lines(mask.T)]
    inner = [line for line in across if not (line[0] | line[-1]).any()]
    inner += [line for line in down if not (line[:, 0] | line[:, -1]).any()]
    return union(inner, mask)


def union(masks: list[np.ndarray], like: np.ndarray) -> np.ndarray:
    return np.logical_or.reduce([np.zeros_like(like), *masks])


def lines(mask: np.ndarray, margin: float = 0.02) -> list[np.ndarray]:
    """Return printed lines from left to right, a mask each, with the ticks on them.

    What is written leaves `margin` of the width free at one end; otherwise the line is a stroke.
    """
    runs = ndimage.label(mask, [[0, 1, 0]] * 3)[0]  # of pixels from top to bottom
    lengths = np.bincount(runs.ravel())
    found, left = [], mask
    for _ in range(TILTS):
        for rows in straight(left):
            band = np.zeros_like(mask)
            band[rows, np.arange(mask.shape[1])] = True
            crossed = np.unique(runs[band & left])
            if not len(crossed):  # the line has gone with the one beside it
                continue
            thickness = np.median(lengths[crossed])
            line = np.isin(runs, crossed[lengths[crossed] <= CROSSED * thickness + 1])
            found.append((thickness, line))
            left = left & ~line
    rest = mask & ~union([line for _, line in found], mask)
    printed = []
    for thickness, line in found:
        like_it = sum(1 / ALIKE < (other + 1) / (thickness + 1) < ALIKE for other, _ in found)
        if is_printed(rest, thickness, margin, several=like_it > 1):
            printed.append(line | ticks(rest, line, thickness))
    return printed


def straight(mask: np.ndarray) -> list[np.ndarray]:
    """Return bands right across, at the tilt with most of them: (thickness, width) rows of each."""
    height, width = mask.shape
    thick = ndimage.binary_dilation(mask, np.ones((3, 1)))
    best = np.empty((0, width), int)
    some = np.arange(0, width, max(1, width // 100))  # columns are plenty
    end = 1 + round(ENDS * len(some))
    tilts = np.arange(-STEEPEST, STEEPEST + 0.1, 0.5) if thick.any(0).mean() > LINE else ()
    for degrees in tilts:
        drop = np.round(np.tan(np.radians(degrees)) * (np.arange(width) - width / 2)).astype(int)
        rows = np.arange(-drop.min(), height - drop.max())[:, None] + drop
        sheared = thick[rows[:, some], some]
        across = sheared[:, :end].any(1) & sheared[:, -end:].any(1) & (sheared.mean(1) > LINE)
        if across.sum() > len(best):
            best = rows[across]
    parts = np.split(best, np.flatnonzero(np.diff(best[:, 0]) > 1) + 1)
    return [rows for rows in parts if len(rows)]


def is_printed(rest: np.ndarray, thickness: float, margin: float, several: bool) -> bool:
    """Return whether a line across is thinner than the strokes, or longer than what is written.

    The bar of a 7 and the stem of a 4 in a tight crop are neither.
    """
    if not rest.any():
        return False
    stroke = 2 * np.quantile(ndimage.distance_transform_edt(rest)[rest], 0.9)
    columns, width = np.flatnonzero(rest.any(0)), rest.shape[1]
    free = columns[0] / width, 1 - columns[-1] / width  # before and after what is written
    thinner = thickness < THINNER * stroke and max(free) >= margin
    return thinner or min(free) > (TOGETHER if several else ALONE)


def ticks(rest: np.ndarray, line: np.ndarray, thickness: float) -> np.ndarray:
    """Return short bars of one length on a printed line, as thin as the line, between digits."""
    pieces, _ = ndimage.label(rest)
    runs = ndimage.label(rest, [[0, 0, 0], [1, 1, 1], [0, 0, 0]])[0]  # from left to right
    lengths = np.bincount(runs.ravel())
    touching = np.unique(pieces[ndimage.binary_dilation(line, iterations=2) & rest])
    bars = {}
    for number in touching[touching > 0]:
        bar = pieces == number
        if np.median(lengths[np.unique(runs[bar])]) <= CROSSED * thickness + 1:
            bars[number] = np.ptp(np.flatnonzero(bar.any(1)))
    if len(bars) < 2 or max(bars.values()) > TICKS * min(bars.values()) + 2:
        return np.zeros_like(rest)
    return ndimage.binary_dilation(np.isin(pieces, [*bars]), iterations=2)


def combs(mask: np.ndarray) -> np.ndarray:
    """Return lines under or over a whole row of digits, with the walls or ticks between them."""
    found = np.zeros_like(mask)
    while (left := mask & ~found).any():
        box = ndimage.find_objects(left.astype(int))[0]
        across, down = lines(left[box], 0), [wall.T for wall in lines(left[box].T, 0)]
        near = ndimage.binary_dilation(found[box] | union(across, left[box]), iterations=3)
        if near.any():
            down = [wall for wall in down if (wall & near).any()]
        elif len(down) < 3:  # the stems of a 1 and a thin 7, not the walls of a row of boxes
            down = []
        rows, columns = left[box].shape
        if columns < WIDE * rows or not across + down:  # the bar of a single 7 is a stroke
            break
        found[box] |= ndimage.binary_dilation(union(across + down, left[box]))
    return found


def boxes(ink: np.ndarray) -> np.ndarray:
    """Return the walls of printed boxes in which something is written, from ink 0 to 1."""
    pieces, _ = ndimage.label(ink == 0)
    walls = np.zeros(ink.shape, bool)
    for number, box in enumerate(ndimage.find_objects(pieces), 1):
        sides = np.array([side.stop - side.start for side in box])
        starts, stops = zip(*((side.start, side.stop) for side in box), strict=True)
        if min(starts) == 0 or any(np.equal(stops, ink.shape)):
            continue
        if min(sides) < max(6, CELL * min(ink.shape)):
            continue
        room = 3 + round(WALL * min(sides))
        wide = tuple(slice(max(0, side.start - room), side.stop + room) for side in box)
        hull = convex_hull(pieces[wide] == number)
        core = ndimage.binary_erosion(hull, iterations=2 + round(INSET * min(sides)))
        written = np.flatnonzero((core & (ink[wide] >= 0.5)).any(1))
        if hull.sum() > FULL * sides.prod() and len(written) > WRITTEN * sides[0]:
            walls[wide] |= ndimage.binary_dilation(hull, np.ones((3, 3)), iterations=room) & ~core
    return walls


def convex_hull(mask: np.ndarray) -> np.ndarray:
    """Return the smallest convex polygon that holds all pixels of a mask, as a mask."""
    points = np.argwhere(mask)
    corners = points[ConvexHull(points).vertices, ::-1]
    image = Image.new("1", mask.shape[::-1])
    ImageDraw.Draw(image).polygon([*map(tuple, corners.tolist())], fill=1, outline=1)
    return np.asarray(image)
