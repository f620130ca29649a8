"""How FAST and BEST came about, a change at a time, on 10,000 held-out training images.

    python -m tests.benchmarks.ladder
    python -m tests.benchmarks.ladder best --seeds 2

Every recipe trains on the other 50,000, one run a core, three seeds. Finished runs are kept in
runs/ladder/ and skipped when the command is started again. Prints Markdown tables: the rungs, each
with all changes before it; then what was tried from the last and not taken. A run's seconds are
those of one core.
"""

import argparse
import contextlib
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch

from s4lib import history
from s4lib.checkpoint import writable
from s4lib.data import load
from s4lib.recipes import BEST, CLASSIC, FAST, Recipe
from s4lib.train import fit

RUNS = Path("runs", "ladder")


def climb(start: str, recipe: Recipe, changes: dict[str, dict]) -> dict[str, Recipe]:
    """The recipe that it starts from, and after every change."""
    rungs = {start: recipe}
    for change, values in changes.items():
        recipe = rungs[change] = replace(recipe, **values)
    return rungs


RUNGS = {
    "fast": climb(
        "CLASSIC, shortened",
        CLASSIC.adjusted(epochs=2),
        {
            "lr up, then down to 0": {"warm_up": 0.15, "milestones": ()},
            "no dropout": {"dropout_block3": 0, "dropout_head": 0},
            "Muon for the convolutions, lr 0.02": {"optimizer": "muon", "lr": 0.02},
            "label smoothing 0.1": {"label_smoothing": 0.1},
            "batches of 64": {"batch_size": 64},
            "bilinear rotation: FAST": {"interpolation": "bilinear"},
        },
    ),
    "best": climb(
        "FAST, prolonged",
        FAST.adjusted(epochs=19),
        {
            "±10°, ±1 pixel, ±10 %": {"rotation": 10, "shift": 1, "scale": 0.1},
            "the last two epochs plain: BEST": {"plain": 2},
        },
    ),
}
TRIED = {
    "fast": {
        "half the lr": replace(FAST, lr=FAST.lr / 2),
        "twice the lr": replace(FAST, lr=FAST.lr * 2),
        "batches of 32": replace(FAST, batch_size=32),
        "label smoothing 0.2": replace(FAST, label_smoothing=0.2),
        "no rotation": replace(FAST, rotation=0),
        "rotation, shift and scale": replace(FAST, rotation=10, shift=1, scale=0.1),
        "CLASSIC's dropout": replace(FAST, dropout_block3=0.1, dropout_head=0.15),
        "Adam instead of Muon, lr 0.01": replace(FAST, optimizer="adam", lr=0.01),
        "images cropped to 24×24": FAST,
        "one epoch": replace(FAST, epochs=1),
    },
    "best": {
        "the last four epochs plain": replace(BEST, plain=4),
        "±15°, ±2 pixels, ±15 %": replace(BEST, rotation=15, shift=2, scale=0.15),
        "half of CLASSIC's dropout": replace(BEST, dropout_block3=0.05, dropout_head=0.075),
        "no label smoothing": replace(BEST, label_smoothing=0),
        "Adam instead of Muon, lr 0.01": replace(BEST, optimizer="adam", lr=0.01),
    },
}


def run(name: str, recipe: Recipe, seed: int) -> history.History:
    torch.set_num_threads(1)
    recipe = replace(recipe, name=name)
    dataset = load("mnist").hold_out(10_000)
    if "cropped" in name:
        images, labels = dataset.train
        dataset = replace(dataset, train=(images[..., 2:-2, 2:-2].contiguous(), labels))
    out = RUNS / f"{name.replace(' ', '-')}-{seed}"
    writable(out)
    done = history.finished(out / "history.json", recipe, dataset.name)
    if done is None:
        with (
            open(os.devnull, "w") as null,
            contextlib.redirect_stderr(null),
            contextlib.redirect_stdout(null),
        ):
            _, done = fit(recipe, dataset, seed, "cpu", out)
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("recipe", nargs="?", choices=RUNGS, default="fast")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    rungs, tried = RUNGS[args.recipe], TRIED[args.recipe]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {
            (name, recipe): [pool.submit(run, name, recipe, seed) for seed in range(args.seeds)]
            for name, recipe in {**rungs, **tried}.items()
        }
        for title, recipes in {
            "change": rungs,
            f"tried, from {args.recipe.upper()}": tried,
        }.items():
            print(f"| {title} | epochs | seconds | held-out accuracy |\n|---|---:|---:|---:|")
            for name, recipe in recipes.items():
                runs = [future.result() for future in futures[name, recipe]]
                last = [run.epochs[-1].test_accuracy for run in runs]
                spread = f" ± {stdev(last):.2f}" if len(last) > 1 else ""
                seconds = mean(sum(epoch.seconds for epoch in run.epochs) for run in runs)
                print(
                    f"| {name} | {recipe.epochs} | {seconds:.0f} | {mean(last):.2f}{spread} |",
                    flush=True,
                )
            print()


if __name__ == "__main__":
    main()
