"""Digits drawn as a person would, with a few strokes: something to photograph in tests."""

import math

from PIL import Image, ImageDraw


def arc(x, y, width, height, start, end):
    """Points of an ellipse about (x, y), angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (end - start) * i / 40) for i in range(41))
    return [(x + width * math.cos(a), y + height * math.sin(a)) for a in angles]


STROKES = [  # in a unit square, y downwards
    [arc(0.5, 0.5, 0.36, 0.48, 0, 360)],
    [[(0.35, 0.2), (0.55, 0.02), (0.5, 0.98)]],
    [[*arc(0.5, 0.28, 0.33, 0.26, 190, 380), (0.15, 0.95), (0.88, 0.95)]],
    [arc(0.45, 0.26, 0.32, 0.24, 200, 450) + arc(0.45, 0.73, 0.37, 0.25, -90, 160)],
    [[(0.35, 0.03), (0.12, 0.6), (0.85, 0.58)], [(0.68, 0.1), (0.6, 0.98)]],
    [[(0.8, 0.04), (0.3, 0.04), (0.25, 0.42), *arc(0.48, 0.68, 0.34, 0.29, -120, 150)]],
    [[(0.7, 0.03), (0.38, 0.3), *arc(0.5, 0.7, 0.32, 0.27, 200, 560)]],
    [[(0.12, 0.06), (0.85, 0.06), (0.42, 0.97)]],
    [arc(0.5, 0.27, 0.27, 0.24, 90, 450), arc(0.5, 0.74, 0.34, 0.24, -90, 270)],
    [arc(0.5, 0.3, 0.3, 0.26, 0, 360), [(0.8, 0.3), (0.72, 0.97)]],
]


def draw(digit, size, pen, ink=(20, 20, 20), paper=(250, 250, 245), box=None):
    """A picture of `size` with a digit drawn by a round pen, within `box` or in the middle."""
    image = Image.new("RGBA" if len(paper) == 4 else "RGB", size, paper)
    width, height = size
    left, top, right, bottom = box or (0.2 * width, 0.15 * height, 0.8 * width, 0.85 * height)
    pencil = ImageDraw.Draw(image)
    for stroke in STROKES[digit]:
        points = [(left + (right - left) * x, top + (bottom - top) * y) for x, y in stroke]
        pencil.line(points, fill=ink, width=pen, joint="curve")
        for x, y in points:
            pencil.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=ink)
    return image


RARE = {  # name: (digit, strokes as above); MNIST's American writers seldom made these
    "hooked 7": (7, [[(0.1, 0.22), (0.13, 0.06), (0.86, 0.05), (0.55, 0.5), (0.4, 0.97)]]),
    "hooked and crossed 7": (
        7,
        [[(0.1, 0.2), (0.12, 0.06), (0.86, 0.06), (0.4, 0.97)], [(0.28, 0.5), (0.82, 0.46)]],
    ),
    "crossed 7 with a wavy bar": (
        7,
        [
            [(0.1, 0.05), (0.3, 0.13), (0.55, 0.13), (0.88, 0.04), (0.6, 0.42), (0.5, 0.98)],
            [(0.3, 0.53), (0.85, 0.5)],
        ],
    ),
    "1 with flag and base": (
        1,
        [[(0.2, 0.35), (0.52, 0.03), (0.52, 0.97)], [(0.22, 0.97), (0.84, 0.97)]],
    ),
    "1 with a steep flag": (1, [[(0.3, 0.4), (0.6, 0.03), (0.58, 0.98)]]),
    "closed 4 in one stroke": (4, [[(0.9, 0.64), (0.08, 0.62), (0.68, 0.03), (0.66, 0.98)]]),
    "narrow closed 4": (4, [[(0.62, 0.98), (0.62, 0.02), (0.3, 0.6), (0.75, 0.6)]]),
    "4 with a short stem": (
        4,
        [[(0.4, 0.03), (0.12, 0.55), (0.85, 0.55)], [(0.6, 0.35), (0.55, 0.98)]],
    ),
    "thin 6": (6, [[(0.6, 0.02), (0.4, 0.4), *arc(0.5, 0.77, 0.14, 0.2, 190, 545)]]),
    "6 with a small loop": (6, [[(0.8, 0.03), (0.3, 0.5), *arc(0.45, 0.8, 0.2, 0.17, 190, 540)]]),
    "curled 9": (
        9,
        [[*arc(0.5, 0.28, 0.28, 0.24, -20, 340), (0.76, 0.7), *arc(0.5, 0.75, 0.26, 0.22, 0, 150)]],
    ),
    "looped 2": (
        2,
        [
            [
                *arc(0.5, 0.25, 0.3, 0.22, 190, 400),
                (0.35, 0.85),
                *arc(0.25, 0.87, 0.12, 0.08, 0, 270),
                (0.9, 0.95),
            ]
        ],
    ),
}
