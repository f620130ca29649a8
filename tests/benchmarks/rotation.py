"""How should CLASSIC turn its training images? Chosen on 10,000 held-out training images.

    python -m tests.benchmarks.rotation

Trains on the other 50,000, two seeds of every variant, through the first drop of the learning
rate (12 epochs: half an hour on two cores), one run a core. Finished runs are kept in
runs/rotation/ and skipped when the command is started again. Prints a Markdown table.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from s4lib import CLASSIC, History, MNISTNet, fit, load
from s4lib.history import spread
from s4lib.runtime.progress import silence

RUNS = Path("runs", "rotation")
VARIANTS = [
    (0, "nearest"),
    (7, "nearest"),
    (7, "bilinear"),
    (7, "bicubic"),
]


def run(variant: tuple[float, str], epochs: int, seed: int) -> History:
    degrees, interpolation = variant
    torch.set_num_threads(1)
    recipe = replace(CLASSIC, rotation=degrees, interpolation=interpolation, epochs=epochs)
    dataset = load("mnist").hold_out(10_000)
    out = RUNS / f"{interpolation}-{degrees}-{seed}"
    with silence():
        return fit(MNISTNet, dataset, recipe, seed, "cpu", out)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        runs = {
            variant: [pool.submit(run, variant, args.epochs, seed) for seed in range(args.seeds)]
            for variant in VARIANTS
        }
        print("| rotation | interpolation | held-out accuracy after the last two epochs |")
        print("|---:|---|---:|")
        for (degrees, interpolation), futures in runs.items():
            last_two = [e.test_accuracy for f in futures for e in f.result().epochs[-2:]]
            print(
                f"| ±{degrees}° | {interpolation} | {spread(last_two, 3)} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
