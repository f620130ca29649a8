"""Do drawn digits of forms that MNIST seldom has help, if they are mixed into its training images?

    python -m tests.benchmarks.rare_forms [--seeds 5] [--show DRAWN.PNG]

A generator draws crossed and hooked 7s, flagged 1s, 4s in one stroke or closed, and thin 6s. FAST
trains on 50,000 images without them, and with a share of them. Each run is tested on the 10,000
images held out (the price), on strokes drawn by hand, which the generator does not know (the gain),
and on scikit-learn's 1,797 digits by 43 Turkish writers. Finished runs are kept in
runs/rare_forms/. Prints a Markdown table, writes notebooks/results/rare_forms.json, and fills in
the library's page.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from notebooks.pictures import RESULTS, fill
from s4lib import FAST, load, plots
from s4lib.data import Dataset, normalise
from s4lib.history import markdown, spread
from s4lib.recipes import NETWORKS
from s4lib.runs import finished_run
from s4lib.runtime.checkpoint import atomic_write
from s4lib.runtime.progress import silence
from s4lib.train import predict
from tests.scenes import LARGE, SHAPES, as_mnist, draw_shape
from tests.strokes import RARE, arc

RUNS, KEPT = Path("runs", "rare_forms"), RESULTS / "rare_forms.json"
SHARES = (0, 0.01, 0.04)  # of the training images, added to them

# The generator: each form is drawn from ranges; strokes in a unit square, y downwards.


def seven(rng):
    """Crossed, hooked or both."""
    crossed, hooked = [(True, False), (False, True), (True, True)][rng.integers(3)]
    left, right, top = rng.uniform(0, 0.25), rng.uniform(0.7, 1), rng.uniform(0, 0.1)
    foot = rng.uniform(0.2, 0.6)
    stem = [(left, top + rng.uniform(0, 0.08)), (right, top), (foot, 1)]
    if rng.random() < 0.3:  # a bent stem
        stem.insert(2, ((right + foot) / 2 - rng.uniform(0.05, 0.15), rng.uniform(0.4, 0.6)))
    if hooked:
        stem.insert(0, (left - rng.uniform(-0.03, 0.08), top + rng.uniform(0.1, 0.3)))
    middle, height = (right + foot) / 2, rng.uniform(0.4, 0.62)
    reach, rise = rng.uniform(0.12, 0.35, 2), rng.uniform(-0.08, 0.08)
    bar = [(middle - reach[0], height + rise), (middle + reach[1], height - rise)]
    return [stem, bar] if crossed else [stem]


def one(rng):
    """With a flag, short to as long as half the stem, and perhaps a base."""
    top, foot = rng.uniform(0.45, 0.6), rng.uniform(0.4, 0.6)
    flag = (top - rng.uniform(0.12, 0.4), rng.uniform(0.15, 0.5))
    strokes = [[flag, (top, 0), (foot, 1)]]
    if rng.random() < 0.4:
        strokes.append([(foot - rng.uniform(0.12, 0.35), 1), (foot + rng.uniform(0.12, 0.35), 1)])
    return strokes


def four(rng):
    """Closed, its top a corner, or open; in one stroke from either end."""
    stem, bar, left = rng.uniform(0.55, 0.75), rng.uniform(0.5, 0.75), rng.uniform(0, 0.3)
    foot, right = stem + rng.uniform(-0.12, 0.05), stem + rng.uniform(0.08, 0.35)
    if rng.random() < 0.6:
        slope = rng.uniform(-0.05, 0.05)
        return [[(right, bar + slope), (left, bar - slope), (stem, 0), (foot, 1)]]
    side = left + rng.uniform(-0.05, 0.2)  # open: down, across, up again, down
    return [[(side, rng.uniform(0, 0.2)), (left, bar), (stem, bar - 0.05), (stem + 0.05, 0),
             (foot, 1)]]  # fmt: skip


def six(rng):
    """Thin: a narrow or a small loop under a nearly straight stem."""
    width, height = rng.uniform(0.1, 0.25), rng.uniform(0.13, 0.25)
    x, y = rng.uniform(0.4, 0.55), 1 - height
    start = (x + rng.uniform(-0.05, 0.35), 0)
    return [[start, (x - width, y - rng.uniform(0.05, 0.3)), *arc(x, y, width, height, 180, 540)]]


FORMS = {7: seven, 1: one, 4: four, 6: six}


def rounded(points: np.ndarray, times: int) -> np.ndarray:
    """The polyline (N, 2) with its corners cut, so many times. Source: Chaikin, 1974."""
    for _ in range(times):
        first, second = points[:-1], points[1:]
        cut = np.stack([0.75 * first + 0.25 * second, 0.25 * first + 0.75 * second], 1)
        points = np.concatenate([points[:1], cut.reshape(-1, 2)[1:-1], points[-1:]])
    return points


def written(strokes, rng) -> Tensor:
    """The strokes by an unsteady, slanting hand and a pen 1.5 to 4.5 of 28 pixels wide."""
    slant, width, times = rng.uniform(-0.25, 0.35), rng.uniform(0.7, 1.1), rng.integers(3)
    pen, image = rng.uniform(6, 18), Image.new("L", (2 * LARGE, 2 * LARGE))
    pencil = ImageDraw.Draw(image)
    for stroke in strokes:
        points = np.array(stroke) + rng.normal(0, 0.012, (len(stroke), 2))
        points[:, 0] = width * (points[:, 0] - 0.5) - slant * (points[:, 1] - 0.5)
        points = rounded(points - [0, 0.5], times) * 0.55 * image.width + image.width / 2
        pencil.line([*map(tuple, points)], 255, round(pen), joint="curve")
        for x, y in points:
            pencil.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=255)
    return as_mnist(np.asarray(image) / 255)


def rare_forms(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """As many of each of FORMS as make `count`: uint8 (count, 1, 28, 28) and int64 (count,)."""
    rng = np.random.default_rng(seed)
    labels = [[*FORMS][n % len(FORMS)] for n in range(count)]
    images = [written(FORMS[label](rng), rng) for label in labels]
    return torch.stack(images), torch.tensor(labels)


# The trial


def mixed(dataset: Dataset, share: float, seed: int) -> Dataset:
    """The data set with a `share` of its training images' number of rare forms added to them."""
    count = round(share * len(dataset.train[1]))
    if not count:
        return dataset
    both = zip(dataset.train, rare_forms(count, seed), strict=True)
    name = f"{dataset.name}, {count:,} rare forms added"
    return replace(dataset, name=name, train=tuple(torch.cat(pairs) for pairs in both))


def run(share: float, seed: int) -> nn.Module:
    """The network after its run, which is made if it isn't there."""
    torch.set_num_threads(1)
    dataset = mixed(load("mnist").hold_out(10_000), share, seed)
    out = RUNS / f"{100 * share:.0f}-{seed}"
    with silence():
        return finished_run(NETWORKS["fast"], dataset, FAST, seed, "cpu", out)[0]


def by_hand(count: int = 100) -> dict[str, tuple[Tensor, Tensor]]:
    """Drawings of each of the forms that tests/strokes.py and scenes.py hold, by name."""
    rng, made = np.random.default_rng(0), {}
    for name, (digit, strokes) in {**RARE, **SHAPES}.items():
        images = [as_mnist(draw_shape(strokes, rng)) for _ in range(count)]
        made[name] = torch.stack(images), torch.full((count,), digit)
    return made


MNIST = "10,000 MNIST images held out"
FORMS_DRAWN = "21 forms drawn by strokes, unknown to the generator"
TURKISH = "scikit-learn's 1,797 digits, by Turkish writers"
SHOWN = (MNIST, FORMS_DRAWN, "1 with a long flag", "boxy 6", TURKISH)  # on the page
COMMAND = "python -m tests.benchmarks.rare_forms"


def correct(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the per cent of the images that the network classifies correctly."""
    return 100 * (predict(model, normalise(images)).argmax(1) == labels).double().mean().item()


def table(kept: dict[str, dict[str, list[float]]]) -> str:
    """Return mean and standard deviation over the seeds, by test and by share of rare forms."""
    header = ["correct, per cent", *(f"{100 * s:.0f}% added" if s else "none" for s in SHARES)]
    return markdown(header, [[name, *map(spread, by.values())] for name, by in kept.items()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--show", type=Path, help="a picture of what the generator draws")
    args = parser.parse_args()
    if args.show:
        images, labels = rare_forms(64, seed=0)
        titles = [str(label) for label in labels.tolist()]
        plots.image_grid([*images], titles, 16, "Rare forms").savefig(args.show)
    turkish = load("digits")
    drawn = by_hand()
    tests = {
        MNIST: load("mnist").hold_out(10_000).test,
        FORMS_DRAWN: tuple(map(torch.cat, zip(*drawn.values(), strict=True))),
        **drawn,
        TURKISH: tuple(map(torch.cat, zip(turkish.train, turkish.test, strict=True))),
    }
    networks = {share: [run(share, seed) for seed in range(args.seeds)] for share in SHARES}
    kept = {
        name: {str(share): [correct(model, *test) for model in models]
               for share, models in networks.items()}
        for name, test in tests.items()
    }  # fmt: skip
    print(table(kept))
    atomic_write(KEPT, (json.dumps(kept) + "\n").encode())
    fill({COMMAND: table({name: kept[name] for name in SHOWN})})


if __name__ == "__main__":
    main()
