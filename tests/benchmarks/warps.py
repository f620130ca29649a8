"""Would the network read unusual hands better if it had been trained on deformed digits?

    python -m tests.benchmarks.warps [NAME ...] [--seeds N] [--epochs N]

trains `MNISTNet` by the recipe CONSISTENT on all but the last 10,000 training images, which are
deformed in addition by each of WARPS, but for the last two epochs; then tests it on those 10,000
as they are, and on digits that tests/scenes.py deforms, which no choice was made by. Prints a
Markdown table: means over the seeds, and under "deformed" the range from the worst to the best
seed, too. Needs MNIST in $S4_DATA or ./data.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor

from s4lib import CONSISTENT, Recipe, fit, load, predict
from s4lib.__main__ import NETWORKS
from s4lib.history import markdown
from s4lib.runtime.progress import silence
from tests.scenes import deformed

KINDS = ("open 6", "boxy 6", "1 with a long flag")  # that are misread most often


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    return 2 * torch.rand(shape, generator=generator) - 1


def resample(images: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(images, grid, align_corners=False)


def slant(images: Tensor, generator: torch.Generator) -> Tensor:
    """Sheared by up to 0.15 either way; up to a tenth narrower or wider, and as much the other."""
    shear, stretch = (
        0.15 * uniform(generator, len(images)),
        1 + 0.1 * uniform(generator, len(images)),
    )
    nothing = torch.zeros_like(shear)
    rows = [1 / stretch, shear, nothing, nothing, stretch, nothing]
    theta = torch.stack(rows, 1).view(-1, 2, 3)
    return resample(images, F.affine_grid(theta, images.shape, align_corners=False))


def stroke(images: Tensor, generator: torch.Generator) -> Tensor:
    """Strokes up to half a pixel wider or thinner: blended with the 3×3's darkest or lightest."""
    draw = 0.5 * uniform(generator, len(images), 1, 1, 1)
    wide, thin = F.max_pool2d(images, 3, 1, 1), -F.max_pool2d(-images, 3, 1, 1)
    return torch.lerp(images, torch.where(draw > 0, wide, thin), draw.abs())


def elastic(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of 5×5 points moved by up to a pixel along both axes, and smoothly what is between."""
    knots = uniform(generator, len(images), 2, 5, 5) * (2 / images.shape[-1])
    moved = F.interpolate(knots, images.shape[-2:], mode="bicubic", align_corners=True)
    still = F.affine_grid(torch.eye(2, 3)[None], images[:1].shape, align_corners=False)
    return resample(images, still + moved.permute(0, 2, 3, 1))


WARPS = {
    "none": (),
    "slant": (slant,),
    "stroke": (stroke,),
    "elastic": (elastic,),
    "all": (slant, elastic, stroke),
}


@dataclass(frozen=True)
class Warped(Recipe):
    """A recipe that deforms its images further, except in its plain epochs."""

    warp: str = "none"

    def augmentation(self, generator, epoch=1):
        augment = super().augmentation(generator, epoch)
        if epoch > self.epochs - self.plain_epochs:
            return augment

        def further(images: Tensor) -> Tensor:
            images = augment(images)
            for warp in WARPS[self.warp]:
                images = warp(images, generator)
            return images

        return further


@cache
def test_sets():
    held_out = load("mnist").hold_out(10_000)
    return held_out, deformed(*held_out.test, count=300)


def run(warp: str, seed: int, epochs: int | None) -> tuple[float, dict[str, float]]:
    """Per cent of the held-out images predicted correctly, and of each kind of deformed digits."""
    torch.set_num_threads(1)
    dataset, hard = test_sets()
    recipe = Warped(**asdict(CONSISTENT), warp=warp).adjusted(epochs=epochs)
    with silence():
        model, history = fit(NETWORKS["consistent"], dataset, recipe, seed, "cpu")
    right = {
        kind: 100 * (predict(model, dataset.normalise(x)).argmax(1) == y).double().mean().item()
        for kind, (x, y) in hard.items()
    }
    return history.epochs[-1].test_accuracy, right


def row(warp: str, runs: list[tuple[float, dict[str, float]]]) -> list[str]:
    plain, kinds = zip(*runs, strict=True)
    hard = [mean(right.values()) for right in kinds]
    spread = f"{mean(hard):.1f} ({min(hard):.1f} to {max(hard):.1f})"
    single = [f"{mean(right[kind] for right in kinds):.0f}" for kind in KINDS]
    return [warp, str(len(runs)), f"{mean(plain):.2f}", spread, *single]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", choices=[[], *WARPS], metavar="NAME", help="all")
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on (3)")
    parser.add_argument("--epochs", type=int, help="instead of the recipe's 19")
    args = parser.parse_args()
    test_sets()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {
            warp: [pool.submit(run, warp, seed, args.epochs) for seed in range(args.seeds)]
            for warp in args.names or WARPS
        }
        rows = [row(warp, [one.result() for one in runs]) for warp, runs in futures.items()]
    print(markdown(["warp", "seeds", "held out, %", "deformed, %", *KINDS], rows))


if __name__ == "__main__":
    main()
