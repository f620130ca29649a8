"""Running experiments: each run trained, measured and kept, none of them twice."""

import contextlib
import json
import math
import os
from dataclasses import asdict, replace
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from notebooks.experiments.catalogue import EXPERIMENTS, FEWEST_SEEDS, SEEDS, Variant
from notebooks.experiments.measures import MEASURES, dead_channels
from notebooks.experiments.variants import build
from s4lib import UsageError, evaluate, fit
from s4lib.data import Batches, Dataset, Pairs
from s4lib.history import versions
from s4lib.recipes import CLASSIC
from s4lib.runtime.checkpoint import DivergedError, atomic_write
from s4lib.runtime.device import MixedPrecision, choose_device, choose_precision
from s4lib.train import train_epoch

MARKS = (50, 100, 200, 468)  # updates after which images set aside are tested
HELD_OUT = 1 / 6  # of the training images, 10,000 of MNIST's: no run trains on these
ASIDE = 2_000  # at most so many of the others that a run doesn't train on, for what it chooses


class Enough(Exception):  # noqa: N818
    """The run has made all the updates that were asked for; nothing is wrong."""


def run(variant: Variant, dataset: Dataset, seed: int, device: str = "auto") -> dict:
    """Train `variant` once. What was set and what was measured, ready for JSON.

    The accuracy is that of training images held out; the test images are used for nothing.
    Raises UsageError if the network can't be built or there are too few training images.
    """
    device = choose_device(device)
    data, aside = parts(variant, dataset.to(device))
    updates = variant.updates or variant.epochs * steps_per_epoch(variant, data)
    model, losses, early = nn.Identity(), [], {}

    def make() -> nn.Module:
        nonlocal model
        model = build(variant.network)
        return model

    def on_batch(_step: int, loss: Tensor) -> None:
        losses.append(loss)
        if len(losses) in MARKS and len(aside[1]):
            early[str(len(losses))] = accuracy(model, data, aside)
            model.train()
        if len(losses) == updates:
            raise Enough

    train, diverged = (range_test if variant.ramp else train_by_fit), False
    try:
        train(make, variant, data, updates, seed, device, on_batch)
    except Enough:
        diverged = not math.isfinite(losses[-1])
    except DivergedError:
        diverged = True

    result = {
        "seed": seed,
        "dataset": data.name,
        "settings": asdict(variant),
        "device": device.type,
        "precision": str(choose_precision(device)).removeprefix("torch."),  # of the training
        "versions": versions(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "updates": updates,
        "diverged": diverged,  # the loss was no longer a number
        "early": early,  # accuracy on the images set aside, by update
        "train_accuracy": accuracy(model, data, tuple(part[:ASIDE] for part in data.train)),
        "held_out_accuracy": accuracy(model, data, data.test),
        "dead": dead_channels(model, data.normalise(data.test[0][:1_000])),
    }
    if variant.ramp:
        result["losses"] = [round(loss.item(), 4) for loss in losses if loss.isfinite()]
    if variant.measure:
        result |= MEASURES[variant.measure](model, data, aside)
    return result


def steps_per_epoch(variant: Variant, data: Dataset) -> int:
    return max(1, len(data.train[1]) // variant.batch_size)


def accuracy(model: nn.Module, data: Dataset, pairs: Pairs) -> float:
    """Per cent of these images predicted correctly, tested as everywhere: in fp32."""
    return 100 * evaluate(model, replace(data, test=pairs))[1] / len(pairs[1])


def train_by_fit(make, variant, data, updates, seed, device, on_batch) -> None:
    """As CLASSIC does, in so many updates: lr falls after the same shares of them."""
    steps = steps_per_epoch(variant, data)
    recipe = replace(
        CLASSIC,
        epochs=-(-updates // steps),
        batch_size=variant.batch_size,
        lr=variant.lr,
        milestones=tuple(m / CLASSIC.epochs * updates / steps for m in CLASSIC.milestones),
        rotation=variant.rotation,
    )
    handful = replace(data, test=tuple(part[:10] for part in data.test))  # looked at by nobody
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        fit(make, handful, recipe, seed, str(device), on_batch=on_batch)


def range_test(make, variant, data, updates, seed, device, on_batch) -> None:
    """As `fit` begins, but lr grows geometrically after every update, up to `variant.ramp`."""
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model = make().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), variant.lr, fused=True)
    growth = variant.ramp / variant.lr
    schedule = LambdaLR(optimizer, lambda update: growth ** (update / updates))
    augment = CLASSIC.augmentation(generator)
    passes = repeat(Batches(data, variant.batch_size, generator, augment))
    batches = islice(chain.from_iterable(passes), updates)
    amp = MixedPrecision(device, choose_precision(device))
    train_epoch(model, batches, optimizer, schedule, amp, on_batch=on_batch)


def parts(variant: Variant, dataset: Dataset) -> tuple[Dataset, Pairs]:
    """What `variant` trains and is tested on, with its normalisation, and images that it uses for
    neither. All are training images.
    """
    dataset = dataset.hold_out(round(HELD_OUT * len(dataset.train[1])))
    images, labels = dataset.train
    if variant.images > len(labels):
        raise UsageError(
            f"There are {len(labels):,} images to train on ({dataset.name}); "
            f"{variant.images:,} are wanted."
        )
    train = images[: variant.images], labels[: variant.images]
    aside = images[variant.images :][-ASIDE:], labels[variant.images :][-ASIDE:]
    return replace(dataset, train=train, mean=variant.mean, std=variant.std), aside


def check(names: list[str]) -> list[str]:
    """These names, or all. Raises UsageError for one that no experiment has."""
    for name in names:
        if name not in EXPERIMENTS:
            raise UsageError(
                f"There is no experiment {name!r}. Choose from {', '.join(EXPERIMENTS)}."
            )
    return names or [*EXPERIMENTS]


def owner(variant: Variant) -> tuple[str, str]:
    """The first experiment that has this variant, and the variant's name there."""
    return next(
        (name, label)
        for name, experiment in EXPERIMENTS.items()
        for label, other in experiment.variants.items()
        if other == variant
    )


def read(folder: Path, name: str) -> list[dict]:
    """The runs that `folder` keeps of one experiment. Raises UsageError for another file."""
    path = folder / f"{name}.json"
    try:
        runs = json.loads(path.read_text("utf-8"))["runs"] if path.exists() else []
        return [run for run in runs if Variant(**run["settings"])]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} holds no results of an experiment. Delete it.") from error


def runs_of(folder: Path, variant: Variant) -> list[dict]:
    """The kept runs of exactly this variant, by seed."""
    kept = read(folder, owner(variant)[0])
    alike = [run for run in kept if Variant(**run["settings"]) == variant]
    return sorted(alike, key=lambda run: run["seed"])


def keep(folder: Path, variant: Variant, result: dict) -> None:
    """Add a run to those of its experiment: a line of the file, which is never half-written."""
    name, label = owner(variant)
    runs = [*read(folder, name), {"variant": label, **result}]
    lines = ",\n".join(json.dumps(run, ensure_ascii=False) for run in runs)
    question = json.dumps(EXPERIMENTS[name].question, ensure_ascii=False)
    text = f'{{"experiment": "{name}", "question": {question}, "runs": [\n{lines}\n]}}\n'
    atomic_write(folder / f"{name}.json", text.encode())


def seeds_of(variant: Variant) -> int:
    return SEEDS.get(variant, FEWEST_SEEDS)


def missing(names: list[str], folder: Path) -> list[tuple[Variant, int]]:
    """The runs of these experiments that `folder` doesn't hold: variants and seeds."""
    variants = dict.fromkeys(one for name in names for one in EXPERIMENTS[name].variants.values())
    done = {one: {run["seed"] for run in runs_of(folder, one)} for one in variants}
    return [
        (one, seed) for one in variants for seed in range(seeds_of(one)) if seed not in done[one]
    ]


def run_missing(names: list[str], dataset: Dataset, folder: Path, device: str = "auto") -> None:
    """Make the runs that are missing, and keep each at once."""
    jobs = missing(names, folder)
    for number, (variant, seed) in enumerate(jobs, 1):
        print(f"[{number}/{len(jobs)}] {': '.join(owner(variant))}, seed {seed}", flush=True)
        result = run(variant, dataset, seed, device)
        keep(folder, variant, result)
        print(f"  {result['held_out_accuracy']:.2f} %", flush=True)


def rerun(
    name: str, dataset: Dataset, images: int, epochs: int, seeds: int = 1, device: str = "auto"
) -> dict[str, list[dict]]:
    """An experiment on fewer images and with fewer epochs, to see how it goes; nothing is kept."""
    images = min(images, round((1 - HELD_OUT) * len(dataset.train[1])))
    results = {}
    for label, variant in EXPERIMENTS[name].variants.items():
        size = min(variant.batch_size, images)
        small = replace(variant, images=images, epochs=epochs, batch_size=size)
        results[label] = [run(small, dataset, seed, device) for seed in range(seeds)]
        accuracies = ", ".join(f"{one['held_out_accuracy']:.2f} %" for one in results[label])
        print(f"{label}: {accuracies}", flush=True)
    return results
