"""How FAST, BEST and SPRINT came about, step by step, on 10,000 held-out training images.

    python -m tests.benchmarks.ladder
    python -m tests.benchmarks.ladder best --seeds 2
    python -m tests.benchmarks.ladder sprint

Every recipe trains on the other 50,000, one run a core, three seeds. Finished runs are kept in
runs/ladder/ and skipped when the command is started again. Prints Markdown tables: the rungs, each
with all changes before it; then what was tried from one of them and not taken. A run's seconds are
those of one core. The accuracies go to notebooks/results/ladder.json.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean
from unittest.mock import patch

import torch

from notebooks.assignment.model_answer import Net
from s4lib import CLASSIC, FAST, History, MNISTNet, Recipe, fit, load
from s4lib.data import Batches
from s4lib.history import spread
from s4lib.runtime.checkpoint import atomic_write
from s4lib.runtime.progress import silence

RUNS, KEPT = Path("runs", "ladder"), Path("notebooks", "results", "ladder.json")

Way = tuple[Recipe, partial]  # how a run is trained, and the network that is


def climb(start: str, way: Way, changes: dict[str, dict]) -> dict[str, Way]:
    """The way that it starts from, and after every change of the recipe's fields or `network`."""
    recipe, network = way
    rungs = {start: way}
    for name, change in changes.items():
        fields = {"network": network, **change}
        network = fields.pop("network")
        recipe = replace(recipe, **fields)
        rungs[name] = recipe, network
    return rungs


PLAIN, DROPOUT = partial(MNISTNet, 0, 0), partial(MNISTNet)
LITTLE = partial(MNISTNet, 0.03, 0.03)
RUNGS = {
    "fast": climb(
        "CLASSIC, shortened",
        (CLASSIC.adjusted(epochs=2), DROPOUT),
        {
            "lr up, then down to 0": {"warm_up": 0.15, "milestones": ()},
            "no dropout": {"network": PLAIN},
            "Muon for the convolutions, lr 0.02": {"optimizer": "muon", "lr": 0.02},
            "label smoothing 0.1": {"label_smoothing": 0.1},
            "batches of 64": {"batch_size": 64},
            "bilinear rotation": {"interpolation": "bilinear"},
            "then twice the hardest fifth": {"epochs": 3, "hard_share": 0.2},
            "batches of 96, lr 0.025: FAST": {"batch_size": 96, "lr": 0.025},
        },
    ),
    "best": climb(
        "FAST of all images, batches of 64",
        (FAST.adjusted(epochs=19, hard_share=1, batch_size=64, lr=0.02), PLAIN),
        {
            "±10°, ±1 pixel, ±10 %": {"rotation": 10, "translate": 1, "scale": 0.1},
            "the last two epochs plain": {"plain_epochs": 2},
            "averaged weights, dropout 0.03": {
                "ema_decay": 0.99,
                "ema_every": 4,
                "network": LITTLE,
            },
            "batches of 32, lr 0.012: BEST": {"batch_size": 32, "lr": 0.012, "ema_every": 8},
        },
    ),
    "sprint": climb(
        "FAST, the model answer's network",
        (FAST, Net),
        {"the hardest fifth once: SPRINT": {"epochs": 2}},
    ),
}
SHORT, _ = RUNGS["sprint"]["the hardest fifth once: SPRINT"]
RAW, _ = RUNGS["best"]["the last two epochs plain"]  # the third
TRIED = {
    "fast": {
        "half the lr": (replace(FAST, lr=FAST.lr / 2), PLAIN),
        "twice the lr": (replace(FAST, lr=FAST.lr * 2), PLAIN),
        "batches of 48": (replace(FAST, batch_size=48), PLAIN),
        "label smoothing 0.2": (replace(FAST, label_smoothing=0.2), PLAIN),
        "no rotation": (replace(FAST, rotation=0), PLAIN),
        "rotation, shift and scale": (replace(FAST, rotation=10, translate=1, scale=0.1), PLAIN),
        "CLASSIC's dropout": (FAST, DROPOUT),
        "Adam instead of Muon, lr 0.01": (replace(FAST, optimizer="adam", lr=0.01), PLAIN),
        "images cropped to 24×24": (FAST, PLAIN),
        "a fifth at random": (FAST, PLAIN),
        "the hardest tenth": (replace(FAST, hard_share=0.1), PLAIN),
        "the hardest two fifths, once": (replace(FAST, epochs=2, hard_share=0.4), PLAIN),
        "one epoch": (replace(FAST, epochs=1), PLAIN),
    },
    "best": {
        "the last four epochs plain": (replace(RAW, plain_epochs=4), PLAIN),
        "±15°, ±2 pixels, ±15 %": (replace(RAW, rotation=15, translate=2, scale=0.15), PLAIN),
        "half of CLASSIC's dropout": (RAW, partial(MNISTNet, 0.05, 0.075)),
        "no label smoothing": (replace(RAW, label_smoothing=0), PLAIN),
        "Adam instead of Muon, lr 0.01": (replace(RAW, optimizer="adam", lr=0.01), PLAIN),
    },
    "sprint": {
        "lr 0.02": (replace(SHORT, lr=0.02), Net),
        "lr 0.035": (replace(SHORT, lr=0.035), Net),
        "batches of 64, lr 0.02": (replace(SHORT, batch_size=64, lr=0.02), Net),
        "batches of 128, lr 0.03": (replace(SHORT, batch_size=128, lr=0.03), Net),
        "the hardest three tenths": (replace(SHORT, hard_share=0.3), Net),
        "one epoch alone": (replace(SHORT, epochs=1), Net),
    },
}
TRIED_FROM = {"fast": "FAST", "best": "the third", "sprint": "SPRINT"}


def run(name: str, way: Way, seed: int) -> History:
    torch.set_num_threads(1)
    recipe, network = way
    dataset = load("mnist").hold_out(10_000)
    if "cropped" in name:
        images, labels = dataset.train
        dataset = replace(dataset, train=(images[..., 2:-2, 2:-2].contiguous(), labels))
    forget = patch.object(Batches, "record", lambda *_: None)
    with silence(), forget if "random" in name else nullcontext():
        out = RUNS / f"{name.replace(' ', '-')}-{seed}"
        return fit(network, dataset, replace(recipe, name=name), seed, "cpu", out)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", nargs="?", choices=RUNGS, default="fast")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    rungs, tried = RUNGS[args.recipe], TRIED[args.recipe]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {
            name: [pool.submit(run, name, way, seed) for seed in range(args.seeds)]
            for name, way in {**rungs, **tried}.items()
        }
        for title, ways in {
            "change": rungs,
            f"tried, from {TRIED_FROM[args.recipe]}": tried,
        }.items():
            print(f"| {title} | epochs | seconds | held-out accuracy |\n|---|---:|---:|---:|")
            for name, (recipe, _) in ways.items():
                runs = [future.result() for future in futures[name]]
                last = [run.epochs[-1].test_accuracy for run in runs]
                kept.setdefault(args.recipe, {})[name] = last
                seconds = mean(sum(epoch.seconds for epoch in run.epochs) for run in runs)
                print(
                    f"| {name} | {recipe.epochs} | {seconds:.0f} | {spread(last)} |",
                    flush=True,
                )
            print()
    atomic_write(KEPT, (json.dumps(kept, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
