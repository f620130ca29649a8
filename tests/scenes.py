"""Digits as hands make them, and pictures of them as people take them: hard cases, by seed.

`deformed` makes digits like MNIST's, to judge a network; `photographs` makes pictures of digits,
to judge the reader as well. Both start from MNIST digits that the caller has held out, and from
shapes that MNIST's American writers seldom made, drawn by strokes.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from sklearn.datasets import load_sample_image
from torch import Tensor

from s4lib.photos import centre, crop, fit_box
from tests.strokes import arc

ZOOM = 4  # a digit is deformed at four times MNIST's size
LARGE = ZOOM * 28

SHAPES = {  # name: (digit, strokes in a unit square, y downwards)
    "triangular 4": (4, [[(0.7, 0.98), (0.72, 0.03), (0.08, 0.66), (0.93, 0.67)]]),
    "open 4 in one stroke": (
        4,
        [[(0.16, 0.05), (0.12, 0.5), (0.3, 0.56), (0.82, 0.5), (0.86, 0.04), (0.78, 0.98)]],
    ),
    "open 6": (6, [[(0.72, 0.03), (0.34, 0.34), *arc(0.5, 0.71, 0.33, 0.27, 190, -80)]]),
    "boxy 6": (
        6,
        [[(0.72, 0.03), (0.2, 0.08), (0.15, 0.95), (0.82, 0.95), (0.84, 0.52), (0.18, 0.5)]],
    ),
    "1 with a base": (1, [[(0.3, 0.2), (0.5, 0.03), (0.5, 0.97)], [(0.2, 0.97), (0.82, 0.97)]]),
    "1 with a long flag": (1, [[(0.12, 0.5), (0.6, 0.03), (0.6, 0.98)]]),
    "crossed 7": (7, [[(0.12, 0.06), (0.88, 0.06), (0.42, 0.97)], [(0.25, 0.5), (0.85, 0.5)]]),
    "flat-topped 3": (
        3,
        [[(0.15, 0.05), (0.82, 0.05), (0.42, 0.4), *arc(0.45, 0.68, 0.36, 0.28, -75, 150)]],
    ),
    "9 with a straight leg": (
        9,
        [arc(0.45, 0.28, 0.32, 0.25, 0, 360), [(0.77, 0.1), (0.77, 0.98)]],
    ),
}


# Digits, drawn large: arrays (height, width) from 0, the paper, to 1, the ink


def enlarge(image: np.ndarray) -> np.ndarray:
    """An MNIST image, uint8 (28, 28), drawn large, with edges as sharp as a pen's."""
    smooth = ndimage.zoom(image / 255, LARGE / len(image), order=3)
    return ((ndimage.gaussian_filter(smooth, ZOOM / 3) - 0.15) / 0.3).clip(0, 1)


def skeleton(ink: np.ndarray) -> np.ndarray:
    """The middle of the strokes, one pixel wide. Source: Zhang and Suen, 1984."""
    inside = np.pad(ink > 0.5, 1)
    while True:
        before = inside.sum()
        for first in (True, False):
            n, e, s, w = (np.roll(inside, *by) for by in ((1, 0), (-1, 1), (-1, 0), (1, 1)))
            ring = [n, np.roll(n, -1, 1), e, np.roll(s, -1, 1), s, np.roll(s, 1, 1), w]
            ring = np.stack([*ring, np.roll(n, 1, 1)])  # clockwise from the north
            starts = (~ring & np.roll(ring, -1, 0)).sum(0)
            spared = (n & e & s) | (e & s & w) if first else (n & e & w) | (n & s & w)
            edge = (starts == 1) & (ring.sum(0) >= 2) & (ring.sum(0) <= 6) & ~spared
            inside &= ~edge
        if inside.sum() == before:
            return inside[1:-1, 1:-1]


def by_pen(line: np.ndarray, width: float) -> np.ndarray:
    """A skeleton drawn again by a round pen, its width in MNIST's pixels."""
    radius = ZOOM * width / 2
    line = np.pad(line, round(radius) + 2)
    return (radius + 0.5 - ndimage.distance_transform_edt(~line)).clip(0, 1)


def warp(ink: np.ndarray, matrix, wave: float, rng) -> np.ndarray:
    """A linear map (2, 2) of y and x, then smooth waves of so many of MNIST's pixels."""
    ink = np.pad(ink, len(ink) // 3)
    shape = np.array(ink.shape)
    places = np.indices(ink.shape) - shape.reshape(2, 1, 1) / 2
    places = np.tensordot(np.linalg.inv(matrix), places, 1) + shape.reshape(2, 1, 1) / 2
    waves = ndimage.gaussian_filter(rng.normal(size=places.shape), (0, LARGE / 7, LARGE / 7))
    return ndimage.map_coordinates(ink, places + ZOOM * wave * waves / waves.std(), order=1)


def draw_shape(strokes, rng) -> np.ndarray:
    """Strokes by an unsteady hand: they stray, are slanted, narrow or wide, bent; by any pen."""
    image = Image.new("L", (LARGE, LARGE))
    for stroke in strokes:
        stray = rng.normal(size=(len(stroke), 2)).cumsum(0) * 0.07 / len(stroke) ** 0.5
        points = LARGE * (0.15 + 0.7 * (np.array(stroke) + stray))
        ImageDraw.Draw(image).line([*map(tuple, points)], fill=255, width=2)
    matrix = [[1, 0], [rng.uniform(-0.3, 0.3), np.exp(rng.uniform(-0.35, 0.2))]]
    bent = warp(np.asarray(image) / 255, matrix, 0.5, rng)
    return by_pen(skeleton(bent * 2), rng.uniform(1, 3.6))


def slanted(ink, rng):
    return warp(ink, [[1, 0], [rng.choice([-1, 1]) * rng.uniform(0.2, 0.5), 1]], 0, rng)


HANDS = {  # what a hand may do to a digit
    "unchanged": lambda ink, rng: ink,
    "slanted": slanted,
    "narrow": lambda ink, rng: warp(ink, [[1, 0], [0, rng.uniform(0.5, 0.75)]], 0, rng),
    "wide": lambda ink, rng: warp(ink, [[1, 0], [0, rng.uniform(1.3, 1.8)]], 0, rng),
    "thin": lambda ink, rng: by_pen(skeleton(ink), rng.uniform(0.7, 1.3)),
    "thick": lambda ink, rng: by_pen(skeleton(ink), rng.uniform(3.6, 5.5)),
    "bent": lambda ink, rng: warp(ink, np.eye(2), rng.uniform(0.5, 1.1), rng),
}


def as_mnist(ink: np.ndarray) -> Tensor:
    """A large digit as MNIST would have it: uint8 (1, 28, 28)."""
    return torch.from_numpy(centre(fit_box(crop(ink))))[None]


def deformed(
    images: Tensor, labels: Tensor, count: int = 200, seed: int = 0
) -> dict[str, tuple[Tensor, Tensor]]:
    """Digits as MNIST would have them, by kind of deformation: what a network is judged by.

    images: uint8 (N, 1, 28, 28), held out from training; `count` of them, other ones, are chosen
    for each of HANDS, and each of SHAPES is drawn `count` times. Returns for each kind uint8
    (count, 1, 28, 28) and int64 (count,).
    """
    rng = np.random.default_rng(seed)
    made = {}
    for kind, hand in HANDS.items():
        pick = rng.choice(len(images), count, replace=False)
        digits = [as_mnist(hand(enlarge(images[i, 0].numpy()), rng)) for i in pick]
        made[kind] = torch.stack(digits), labels[pick].clone()
    for kind, (digit, strokes) in SHAPES.items():
        digits = [as_mnist(draw_shape(strokes, rng)) for _ in range(count)]
        made[kind] = torch.stack(digits), torch.full((count,), digit)
    return made


# What is no digit


FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSansMono")
OTHER_FONTS = ("STIXGeneral", "STIXGeneralItalic", "cmr10", "cmtt10", "cmss10")
LETTERS = "ABCDEFGHJKLMNPQRTUVWXYabcdefhjkmnprtuvwxy&@#?!%"  # none that is a digit, too


def by_hand(ink: np.ndarray, rng) -> Tensor:
    """Slanted, narrowed, bent and drawn by any pen, as MNIST would have it."""
    matrix = [[1, 0], [rng.uniform(-0.3, 0.3), np.exp(rng.uniform(-0.25, 0.2))]]
    bent = warp(ink, matrix, 0.3, rng)
    return as_mnist(by_pen(skeleton(bent), rng.uniform(1, 3.6)) if rng.random() < 0.5 else bent)


def printed(text: str, name: str, size: int) -> np.ndarray:
    """Text in one of matplotlib's fonts, so many pixels high: ink from 0 to 1."""
    path = Path(matplotlib.get_data_path(), "fonts/ttf", f"{name}.ttf")
    font = ImageFont.truetype(str(path), size)
    lines = text.split("\n")
    image = Image.new("L", ((1 + max(map(len, lines))) * size, (1 + 2 * len(lines)) * size))
    ImageDraw.Draw(image).multiline_text((size // 2, size // 2), text, 255, font)
    return np.asarray(image.crop(image.getbbox())) / 255


def letters(fonts, seed: int) -> Tensor:
    """Each of LETTERS in each of matplotlib's fonts, uint8 (N, 1, 28, 28)."""
    rng = np.random.default_rng(seed)
    inks = (np.pad(printed(letter, name, 80), 20) for name in fonts for letter in LETTERS)
    return torch.stack([by_hand(ink, rng) for ink in inks])


def shapes(count: int, seed: int) -> Tensor:
    """Stars, crosses, houses, arrows, spirals and scribbles, uint8 (count, 1, 28, 28)."""
    rng = np.random.default_rng(seed)
    turns = np.linspace(0, 4 * np.pi, 60)
    spiral = [(0.5 + t / 28 * np.cos(t), 0.5 + t / 28 * np.sin(t)) for t in turns]
    corners = [(0.5 + 0.48 * np.sin(k * 0.8 * np.pi), 0.5 - 0.48 * np.cos(k * 0.8 * np.pi))
               for k in range(6)]  # fmt: skip
    house = [(0.1, 0.5), (0.5, 0.05), (0.9, 0.5), (0.8, 0.5), (0.8, 0.95), (0.2, 0.95), (0.2, 0.5)]
    kinds = [
        [spiral],
        [corners],
        [house],
        [[(0.05, 0.05), (0.95, 0.95)], [(0.05, 0.95), (0.95, 0.05)]],
        [[(0.05, 0.5), (0.95, 0.5)], [(0.5, 0.05), (0.5, 0.95)]],
        [[(0.1, 0.5), (0.9, 0.5)], [(0.6, 0.2), (0.9, 0.5), (0.6, 0.8)]],
    ]
    made = []
    for number in range(count):
        scribble = [[tuple(point) for point in rng.random((rng.integers(5, 10), 2))]]
        strokes = [*kinds, scribble][number % 7]
        made.append(as_mnist(draw_shape(strokes, rng)))
    return torch.stack(made)


def other_shapes(count: int, seed: int) -> Tensor:
    """Flowers, faces, waves, grids and triangles, which nothing is fitted on."""
    rng = np.random.default_rng(seed)
    return torch.stack([as_mnist(other_shape(number, rng)) for number in range(count)])


def other_shape(number: int, rng) -> np.ndarray:
    """One of five, drawn large."""
    turn = np.linspace(0, 2 * np.pi, 80)
    petals = [(0.5 + 0.48 * np.cos(5 * t) * np.cos(t), 0.5 + 0.48 * np.cos(5 * t) * np.sin(t))
              for t in turn]  # fmt: skip
    face = [arc(0.5, 0.5, 0.48, 0.48, 0, 360), arc(0.5, 0.55, 0.25, 0.2, 20, 160)]
    face += [[(0.33, 0.33), (0.34, 0.38)], [(0.66, 0.33), (0.67, 0.38)]]
    wave = [[(x, y + 0.1 * np.sin(12 * x)) for x in np.linspace(0, 1, 40)] for y in (0.2, 0.5, 0.8)]
    grid = [[(at, 0), (at, 1)] for at in (0, 0.5, 1)] + [[(0, at), (1, at)] for at in (0, 0.5, 1)]
    triangle = [[(0.5, 0.02), (0.98, 0.95), (0.02, 0.95), (0.5, 0.02)]]
    kinds = [[petals], face, wave, grid, triangle]
    return draw_shape(kinds[number % 5], rng)


# Pictures: arrays (height, width) of brightness, 0 to 1, then Pillow images


def fine_pen(ink, rng):
    return by_pen(skeleton(ink), rng.uniform(0.35, 0.7))


def any_pen(ink, rng):
    return by_pen(skeleton(ink), rng.uniform(0.8, 3.5))


def broken(ink, rng):
    """Lifted pens leave one to three gaps of 4 to 9% of the height."""
    line, width = skeleton(ink), rng.uniform(1, 2.5)
    gaps = np.zeros_like(line)
    for place in rng.choice(np.argwhere(line), rng.integers(1, 4)):
        away = np.hypot(*(np.indices(line.shape) - place[:, None, None]))
        gaps |= away < ZOOM * (width + rng.uniform(0.8, 1.8)) / 2
    return by_pen(line & ~gaps, width)


def dry_pen(ink, rng):
    """Ink that does not cover: scratches of paper along and across."""
    scratches = ndimage.gaussian_filter(rng.normal(size=ink.shape), (0.5, 2.5))
    return ink * (scratches < scratches.std() * rng.uniform(0.5, 1))


def texture(shape, size, rng):
    """Noise of mean 0 and standard deviation 1, its grains about `size` pixels."""
    grains = ndimage.gaussian_filter(rng.normal(size=shape), size)
    return grains / grains.std()


def place(ink, shape, height, angle, tilt, rng) -> np.ndarray:
    """The digit in a picture of `shape`, its longer side so large a part, somewhere inside."""
    image = Image.fromarray((255 * np.pad(crop(ink), 2)).astype(np.uint8))
    image = image.rotate(rng.uniform(-angle, angle), Image.Resampling.BICUBIC, expand=True)
    image = image.crop(image.getbbox())
    scale = height * min(shape) / max(image.size)
    size = [max(1, round(side * scale)) for side in image.size]
    image = image.resize(size, Image.Resampling.BICUBIC)
    free = np.array(shape[::-1]) - size
    left, top = (free * (0.5 + rng.uniform(-0.5, 0.5, 2) * (1 - height))).round().astype(int)
    canvas = Image.new("L", shape[::-1])
    canvas.paste(image, (int(left), int(top)))
    if tilt:  # the camera looks askance: each corner moves, the lines stay straight
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * shape[::-1]
        seen = corners + rng.uniform(-tilt, tilt, (4, 2)) * shape[::-1]
        pairs = [*zip(seen, corners, strict=True)]
        rows = [[x, y, 1, 0, 0, 0, -x * u, -y * u] for (x, y), (u, _) in pairs]
        rows += [[0, 0, 0, x, y, 1, -x * v, -y * v] for (x, y), (_, v) in pairs]
        eight = np.linalg.solve(rows, corners.T.ravel())
        canvas = canvas.transform(
            canvas.size, Image.Transform.PERSPECTIVE, eight, Image.Resampling.BICUBIC
        )
    return ((np.asarray(canvas) / 255 - 0.5) * 1.5 + 0.5).clip(0, 1)


def edges(shape, sides, width, slant, rng) -> np.ndarray:
    """Where bars are, boolean: along `sides` of them, each up to `width` of the picture wide."""
    covered = np.zeros(shape, bool)
    for side in rng.permutation(4)[:sides] if isinstance(sides, int) else sides:
        turned = np.rot90(covered, side)  # a view: the bar is painted along its top
        first, last = rng.uniform(*width, 2) if slant else [rng.uniform(*width)] * 2
        depth = min(shape) * np.linspace(first, last, turned.shape[1])
        turned |= np.arange(turned.shape[0])[:, None] < depth.clip(0 if slant else 2)
    return covered


def picture(
    ink,
    rng,
    hand=any_pen,
    side=(100, 450),
    height=(0.3, 0.7),
    dark=(0.0, 0.4),
    light=(0.75, 1),
    angle=6,
    tilt=0.0,
    grain=0.015,
    shade=0.3,
    shadow=0.0,
    lines=(),
    specks=0,
    box=False,
    bars=0,
    width=(0.01, 0.1),
    slant=False,
    bar=(0.0, 0.2),
    table=False,
    blur=0.004,
    noise=0.015,
    negative=False,
    shrink=1,
) -> Image.Image:
    """A picture of a large digit, drawn by `hand`; pairs are ranges from which `rng` draws.

    Lengths are parts of the picture's shorter side, brightness runs from 0 to 1: `dark` ink on
    `light` paper with `grain`, `lines` and `specks`, under light that falls off by `shade` and,
    in a half of it, by a hard `shadow`; `box`: drawn round the digit; `bars`: their number, or
    which, `bar` their brightness; `table`: the sheet lies crooked on a dark one; `negative`:
    light on dark; `shrink`: taken so many times larger, then scaled down.
    """
    shape = tuple(int(shrink * n) for n in rng.uniform(*side) * rng.uniform(0.8, 1.25, 2))
    short = min(shape)
    cover = place(hand(ink, rng), shape, rng.uniform(*height), angle, tilt, rng)
    y, x = (grid / short for grid in np.indices(shape))

    paper = rng.uniform(*light) * (1 + grain * texture(shape, short / 150, rng))
    for horizontal in lines:
        gap, at = rng.uniform(0.08, 0.2), rng.uniform()
        rule = ((y if horizontal else x) + 0.03 * (x + y) + at * gap) % gap < 0.006
        paper *= 1 - rng.uniform(0.1, 0.25) * rule
    for _ in range(specks):
        away = np.hypot(y - rng.uniform(0, shape[0] / short), x - rng.uniform(0, shape[1] / short))
        cover = np.maximum(cover, away < rng.uniform(0.004, 0.012))
    if box:
        inset = rng.uniform(0.03, 0.08)
        depth = np.minimum(np.minimum(y, x), np.minimum(y[-1, 0] - y, x[0, -1] - x))
        cover = np.maximum(cover, np.abs(depth - inset) < rng.uniform(0.004, 0.012))
    ink_level = rng.uniform(*dark)
    grey = paper * (1 - cover) + ink_level * cover
    if table:
        lean = rng.uniform(-0.06, 0.06, 2)
        margin = rng.uniform(0.02, 0.06, 4)
        sheet = (y + lean[0] * x > margin[0]) & (x - lean[0] * y > margin[1])
        sheet &= y[-1, 0] - y - lean[0] * (x - x[0, -1]) > margin[2]
        sheet &= x[0, -1] - x + lean[0] * (y - y[-1, 0]) > margin[3]
        wood = rng.uniform(0.05, 0.4) * (1 + 0.15 * texture(shape, (short / 200, short / 15), rng))
        grey = np.where(sheet, grey, wood)
    grey = np.where(edges(shape, bars, width, slant, rng), rng.uniform(*bar), grey)

    direction = rng.uniform(0, 2 * np.pi)
    along = (y - y.mean()) * np.sin(direction) + (x - x.mean()) * np.cos(direction)
    grey = grey * (1 - rng.uniform(0, shade) * (along - along.min()) / np.ptp(along))
    if shadow:
        fall = (along - rng.uniform(-0.3, 0.3)) / rng.uniform(0.005, 0.05)
        grey = grey * (1 - rng.uniform(0.5, 1) * shadow / (1 + np.exp(-fall.clip(-50, 50))))

    grey = 1 - grey if negative else grey
    grey = ndimage.gaussian_filter(grey, short * rng.uniform(0.2, 1) * blur)
    image = Image.fromarray((255 * grey.clip(0, 1)).round().astype(np.uint8))
    if shrink > 1:
        image = image.resize([n // shrink for n in image.size], Image.Resampling.BOX)
    grey = np.asarray(image) + 255 * rng.uniform(0.2, 1) * noise * rng.normal(size=image.size[::-1])
    return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8))


SCREEN = {"grain": 0, "shade": 0, "noise": 0, "blur": 0.002}
ROOM = {"height": (0.3, 0.6)}  # so that bars up to a tenth do not cover the digit

KINDS = {
    "scan": {**SCREEN, "light": (0.95, 1), "dark": (0, 0.2)},
    "photo": {"blur": 0.006},
    "photo, fine pen": {"hand": fine_pen},
    "photo, marker": {"hand": HANDS["thick"]},
    "photo, pencil": {"dark": (0.45, 0.6), "light": (0.75, 0.9)},
    "photo, askance": {"tilt": 0.12, "angle": 12},
    "chalk on a board": {"negative": True, "hand": dry_pen, "grain": 0.03},
    "drawn on a screen": {**SCREEN, "negative": True, "dark": (0, 0), "light": (1, 1)},
    "uneven light": {"shade": 0.7},
    "hard shadow": {"shadow": 0.5},
    "ruled paper": {"lines": [True]},
    "squared paper": {"lines": [True, False]},
    "specks": {"specks": 8},
    "two bars of 2 pixels": {"bars": (1, 3), "width": (0, 0), "height": (0.5, 0.9)},
    "one bar": {**ROOM, "bars": 1},
    "two bars": {**ROOM, "bars": 2},
    "three bars": {**ROOM, "bars": 3},
    "black border": {**ROOM, "bars": 4},
    "slanted bars": {**ROOM, "bars": 3, "slant": True, "width": (0, 0.1)},
    "grey bars": {**ROOM, "bars": 3, "bar": (0.3, 0.6)},
    "white border, chalk": {**ROOM, "bars": 4, "negative": True},
    "white border, grey paper": {**ROOM, "bars": 4, "bar": (0.95, 1), "light": (0.6, 0.7)},
    "boxed": {**ROOM, "box": True},
    "sheet on a table": {**ROOM, "table": True},
    "small crop": {"side": (28, 40), "height": (0.85, 1), "shrink": 6, "blur": 0.03},
    "small crop, marker": {
        "side": (28, 40), "height": (0.85, 1), "shrink": 6, "blur": 0.03, "hand": HANDS["thick"],
    },
    "small crop, faint": {
        "side": (28, 40), "height": (0.75, 1), "shrink": 6, "blur": 0.045, "shade": 0.5,
        "dark": (0.4, 0.55), "light": (0.7, 0.85),
    },
    "small crop between bars": {
        "side": (28, 40), "height": (0.75, 0.9), "shrink": 6, "blur": 0.03, "angle": 0,
        "bars": 2, "width": (0.05, 0.07),
    },
    "tight crop between bars": {
        "height": (0.9, 1), "angle": 0, "bars": (1, 3), "width": (0.005, 0.05),
    },
    "tight crop in a border, marker": {
        "height": (0.75, 0.9), "angle": 0, "bars": 4, "width": (0.01, 0.05), "hand": HANDS["thick"],
    },
    "dim room": {"noise": 0.08, "dark": (0.05, 0.2), "light": (0.4, 0.55), "shade": 0.5},
    "tight crop": {"height": (0.95, 1), "angle": 0},
    "broken strokes": {"hand": broken},
    "dry pen": {"hand": dry_pen},
}  # fmt: skip


def photographs(
    images: Tensor, labels: Tensor, count: int = 30, seed: int = 0
) -> dict[str, tuple[list[Image.Image], list[int]]]:
    """Pictures of held-out digits, by kind: `count` of each of KINDS, and of each of SHAPES."""
    made = {}
    for number, (kind, options) in enumerate(KINDS.items()):
        rng = np.random.default_rng([seed, number])
        pick = rng.choice(len(images), count, replace=False)
        pictures = [picture(enlarge(images[i, 0].numpy()), rng, **options) for i in pick]
        made[kind] = pictures, labels[pick].tolist()
    for number, (kind, (digit, strokes)) in enumerate(SHAPES.items()):
        rng = np.random.default_rng([seed, 1000 + number])
        plain = {"hand": lambda ink, _: ink, **KINDS["photo"]}
        made[kind] = (
            [picture(draw_shape(strokes, rng), rng, **plain) for _ in range(count)],
            [digit] * count,
        )
    return made


# Pages: several digits, or one on printed paper


def by_height(ink: np.ndarray, height: int) -> np.ndarray:
    """A large digit cut out and scaled, (height, width)."""
    image = Image.fromarray((255 * crop(ink)).astype(np.uint8))
    width = max(4, round(image.width * height / image.height))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) / 255


def photographed(cover: np.ndarray, printed: np.ndarray, rng, tilt=0.0) -> Image.Image:
    """Ink over printed paper, both 0 to 1, taken with a little noise and blur."""
    grey = np.minimum(0.93 - printed, 0.93 - 0.75 * cover)
    image = Image.fromarray((255 * grey).clip(0, 255).astype(np.uint8))
    image = image.rotate(tilt, Image.Resampling.BICUBIC, fillcolor=237)
    grey = ndimage.gaussian_filter(np.asarray(image, float), 0.8) + rng.normal(0, 2, cover.shape)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def pair(inks, rng, gap: float) -> Image.Image:
    """Digits in a row, the paper between them `gap` of their height wide."""
    cut = [by_height(ink, 150) for ink in inks]
    cover = np.zeros((230, sum(one.shape[1] for one in cut) + round(150 * gap * len(cut)) + 80))
    left = 40
    for one in cut:
        cover[40:190, left : left + one.shape[1]] = one
        left += one.shape[1] + round(150 * gap)
    return photographed(cover, np.zeros_like(cover), rng)


def on_rules(ink, rng, contrast: float, tilt: float, fan=0.0) -> Image.Image:
    """A digit over ruled lines of that contrast and tilt in degrees.

    Seen from an angle, lines above the middle are tilted by up to `fan` less, those below by more.
    """
    cover, one = np.zeros((300, 300)), by_height(ink, 105)
    cover[100:205, 150 - one.shape[1] // 2 :][:, : one.shape[1]] = one
    y, x = np.indices(cover.shape)
    tilts = np.radians(tilt + fan * (y / 150 - 1))
    away = (y - np.tan(tilts) * (x - 150) - rng.integers(110)) % 110
    return photographed(cover, contrast * (away < 4), rng)


def in_boxes(inks, rng, kind: str) -> Image.Image:
    """A row of digits in printed boxes with common walls or apart, or over a comb."""
    cell, width = int(rng.integers(75, 105)), int(rng.integers(2, 4))
    step = cell + (int(rng.integers(10, 25)) if kind == "boxes apart" else 0)
    cover = np.zeros((cell + 80, 60 + step * len(inks)))
    printed = np.zeros_like(cover)
    for number, ink in enumerate(inks):
        left, top, level = 30 + step * number, 40, rng.uniform(0.3, 0.7)
        wall = cell // 3 if kind == "comb" else cell
        for x in (left, left + cell):
            printed[top + cell - wall : top + cell, x : x + width] = level
        for y in (top + cell,) if kind == "comb" else (top, top + cell):
            printed[y : y + width, left : left + cell + width] = level
        one = by_height(ink, int(cell * rng.uniform(0.6, 0.78)))
        if one.shape[1] > cell - 12:
            one = by_height(ink, one.shape[0] * (cell - 12) // one.shape[1])
        down, right = top + (cell - one.shape[0]) // 2, left + (cell - one.shape[1]) // 2 + 1
        cover[down : down + one.shape[0], right : right + one.shape[1]] = one
    return photographed(cover, printed, rng, rng.uniform(-2, 2))


def pages(draw, count: int, seed: int) -> dict[str, list[tuple[Image.Image, str]]]:
    """Pictures with their digits, by kind; `draw(rng)` gives a large digit and its name."""
    rng, made = np.random.default_rng(seed), {}

    def row(length):
        inks, names = zip(*(draw(rng) for _ in range(length)), strict=True)
        return inks, "".join(map(str, names))

    for gap in (0.03, 0.06, 0.1, 0.15, 0.2):
        rows = [row(2) for _ in range(count)]
        made[f"pairs, {100 * gap:.0f}% apart"] = [
            (pair(inks, rng, gap), names) for inks, names in rows
        ]
    for contrast in (0.15, 0.25, 0.4):
        rows = [row(1) for _ in range(count)]
        made[f"rules, contrast {contrast}"] = [
            (on_rules(*inks, rng, contrast, rng.choice([0, 1, 2.5, 4])), names)
            for inks, names in rows
        ]
    for kind in ("boxes with common walls", "boxes apart", "comb"):
        rows = [row(int(rng.integers(3, 7))) for _ in range(count)]
        made[kind] = [(in_boxes(inks, rng, kind), names) for inks, names in rows]
    return made


# Pictures of what is no digit

PROSE = "the quick brown fox jumps over a lazy dog while two wizards mix some very new jam"


def nothings(count: int, seed: int) -> dict[str, list[Image.Image]]:
    """Pictures without a digit, by kind, `count` of each.

    The photographs come with scikit-learn (a temple, a flower) and matplotlib (Grace Hopper).
    """
    rng = np.random.default_rng(seed)

    def font() -> str:
        return OTHER_FONTS[rng.integers(len(OTHER_FONTS))]

    def words(number: int) -> str:
        return " ".join(rng.choice(PROSE.split(), number))

    def letter(_) -> Image.Image:
        ink = np.pad(printed(rng.choice([*LETTERS]), font(), 80), 20)
        return picture(ink, rng, hand=[any_pen, lambda ink, _: ink][rng.integers(2)])

    def drawing(number: int) -> Image.Image:
        return picture(other_shape(number, rng), rng, hand=lambda ink, _: ink)

    def text(lines: int, length: int) -> Image.Image:
        ink = printed("\n".join(words(length) for _ in range(lines)), font(), rng.integers(16, 50))
        return photographed(np.pad(ink, rng.integers(10, 60)), np.zeros(1), rng, rng.uniform(-2, 2))

    def crop_of(photo: np.ndarray) -> Image.Image:
        side = int(rng.uniform(0.25, 0.9) * min(photo.shape[:2]))
        top, left = (rng.integers(free - side + 1) for free in photo.shape[:2])
        return Image.fromarray(photo[top : top + side, left : left + side])

    hopper = np.asarray(Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)))
    temple, flower = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
    kinds = {
        "a letter": letter,
        "a flower, a face, a wave, drawn": drawing,
        "a printed word": lambda _: text(1, 1),
        "a line of print": lambda _: text(1, 5),
        "a page of print": lambda _: text(6, 5),
        "photograph of a face": lambda _: crop_of(hopper[20:320, 120:400]),
        "photograph of a flower": lambda _: crop_of(flower),
        "photograph of a temple": lambda _: crop_of(temple),
    }
    return {kind: [make(number) for number in range(count)] for kind, make in kinds.items()}
