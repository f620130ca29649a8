"""Run experiments: train, measure and keep each run, once."""

import json
import math
import os
from dataclasses import asdict, replace
from itertools import chain, islice, repeat
from operator import itemgetter
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR

from notebooks.experiments.catalogue import EXPERIMENTS, FEWEST_SEEDS, SEEDS, Variant
from notebooks.experiments.measures import dead_channels, softmax
from notebooks.experiments.variants import build
from s4lib import UsageError, evaluate, fit
from s4lib.data import Batches, Dataset, Pairs
from s4lib.history import versions
from s4lib.recipes import CLASSIC
from s4lib.runtime import check_choice
from s4lib.runtime.checkpoint import DivergedError, atomic_write
from s4lib.runtime.device import MixedPrecision, choose_device, choose_precision
from s4lib.runtime.progress import silence
from s4lib.train import train_epoch

FILE = "experiments.jsonl"
MARKS = (50, 100, 200, 468)  # updates after which images set aside are tested
HELD_OUT = 1 / 6  # of the training images, 10,000 of MNIST's: no run trains on these
ASIDE = 2_000  # at most so many more that a run does not train on, to choose something with them


class Enough(Exception):  # noqa: N818
    """The run has made all the updates that were asked for; this is no error."""


def run(variant: Variant, dataset: Dataset, seed: int, device: str = "auto") -> dict:
    """Train `variant` once, and return its settings and measurements, ready for JSON.

    The accuracy is that of held-out training images; the test images are used for nothing. Raises
    UsageError if the network can't be built or there are too few training images.
    """
    device = choose_device(device)
    data, aside = split_data(variant, dataset.to(device))
    updates = variant.updates or variant.epochs * steps_per_epoch(variant)
    model, losses, early = nn.Identity(), [], {}

    def make() -> nn.Module:
        nonlocal model
        model = build(variant.network)
        return model

    def on_batch(_step: int, loss: Tensor, *_) -> None:
        losses.append(loss)
        if len(losses) in MARKS and len(aside[1]):
            early[str(len(losses))] = accuracy(model, data, aside)
            model.train()
        if len(losses) == updates:
            raise Enough

    by_fit = not variant.ramp and variant.batch_factor == 1
    train, diverged = (train_by_fit if by_fit else train_without_fit), False
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
        "diverged": diverged,  # the loss was not a finite number any more
        "early": early,  # accuracy on the images set aside, by update
        "train_accuracy": accuracy(model, data, tuple(part[:ASIDE] for part in data.train)),
        "held_out_accuracy": accuracy(model, data, data.test),
        "dead": dead_channels(model, data.normalise(data.test[0][:1_000])),
    }
    if variant.ramp:
        result["losses"] = [round(loss.item(), 4) for loss in losses if loss.isfinite()]
    if variant.measure == "softmax":
        result |= softmax(model, data, aside)
    return result


def steps_per_epoch(variant: Variant) -> int:
    return max(1, variant.images // variant.batch_size)


def accuracy(model: nn.Module, data: Dataset, pairs: Pairs) -> float:
    """Return the percentage of these images predicted correctly, in fp32."""
    return 100 * evaluate(model, replace(data, test=pairs))[1] / len(pairs[1])


def train_by_fit(make, variant, data, updates, seed, device, on_batch) -> None:
    """Follow CLASSIC's schedule in so many updates: lr falls after the same shares of them."""
    steps = steps_per_epoch(variant)
    recipe = replace(
        CLASSIC,
        epochs=-(-updates // steps),
        batch_size=variant.batch_size,
        lr=variant.lr,
        milestones=tuple(m / CLASSIC.epochs * updates / steps for m in CLASSIC.milestones),
        rotation=variant.rotation,
    )
    handful = replace(data, test=tuple(part[:10] for part in data.test))  # its result is not used
    with silence():
        fit(make, handful, recipe, seed, str(device), on_batch=on_batch)


def train_without_fit(make, variant, data, updates, seed, device, on_batch) -> None:
    """Do what `fit` does, where `fit` can't: lr grows geometrically up to `variant.ramp`, or Adam's
    other numbers change as well.

    A κ times larger batch gets a √κ times larger learning rate, and 1 - β₁, 1 - β₂ and 1/ε² are κ
    times as large. Source: Malladi et al., 2022, "On the SDEs and Scaling Rules for Adaptive
    Gradient Algorithms", definition 5.3.
    """
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model = make().to(device, memory_format=torch.channels_last)
    factor = variant.batch_factor
    betas, eps = (1 - 0.1 * factor, 1 - 0.001 * factor), 1e-8 / math.sqrt(factor)
    optimizer = torch.optim.Adam(model.parameters(), variant.lr, betas, eps, fused=True)
    if variant.ramp:
        growth = variant.ramp / variant.lr
        schedule = LambdaLR(optimizer, lambda update: growth ** (update / updates))
    else:
        falls = [round(m / CLASSIC.epochs * updates) for m in CLASSIC.milestones]
        schedule = MultiStepLR(optimizer, falls, CLASSIC.gamma)
    augment = replace(CLASSIC, rotation=variant.rotation).augmentation(generator)
    passes = repeat(Batches(data, variant.batch_size, generator, augment))
    batches = islice(chain.from_iterable(passes), updates)
    amp = MixedPrecision(device, choose_precision(device))
    train_epoch(model, batches, optimizer, schedule, amp, on_batch=on_batch)


def split_data(variant: Variant, dataset: Dataset) -> tuple[Dataset, Pairs]:
    """Return what `variant` trains and is tested on, normalised as it asks, and images that it uses
    for neither. All are training images.
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
    """Return these names, or all. Raises UsageError for a name that no experiment has."""
    for name in names:
        check_choice("experiment", name, EXPERIMENTS)
    return names or [*EXPERIMENTS]


def read(folder: Path) -> dict[Variant, list[dict]]:
    """Return `folder`'s runs, by variant and seed. Raises UsageError for a file of another kind."""
    path, runs = folder / FILE, {}
    try:
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            run = json.loads(line)
            runs.setdefault(Variant(**run["settings"]), []).append(run)
        return {variant: sorted(kept, key=itemgetter("seed")) for variant, kept in runs.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} holds no results of experiments. Delete it.") from error


def keep(folder: Path, result: dict) -> None:
    """Add a run to the file as one line, which is never half-written."""
    path = folder / FILE
    before = path.read_text("utf-8") if path.exists() else ""
    atomic_write(path, (before + json.dumps(result, ensure_ascii=False) + "\n").encode())


def missing(names: list[str], folder: Path) -> dict[tuple[Variant, int], str]:
    """Return the runs of these experiments that `folder` lacks: {(variant, seed): description}."""
    done = {(variant, run["seed"]) for variant, runs in read(folder).items() for run in runs}
    jobs = {}
    for name in names:
        for label, variant in EXPERIMENTS[name].variants.items():
            for seed in range(SEEDS.get(variant, FEWEST_SEEDS)):
                if (variant, seed) not in done:
                    jobs.setdefault((variant, seed), f"{name}: {label}, seed {seed}")
    return jobs


def run_missing(names: list[str], dataset: Dataset, folder: Path, device: str = "auto") -> None:
    """Make the runs that are missing, and keep each at once."""
    jobs = missing(names, folder)
    for number, ((variant, seed), what) in enumerate(jobs.items(), 1):
        print(f"[{number}/{len(jobs)}] {what}", flush=True)
        result = run(variant, dataset, seed, device)
        keep(folder, result)
        print(f"  {result['held_out_accuracy']:.2f} %", flush=True)


def rerun(
    name: str, dataset: Dataset, images: int, epochs: int, seeds: int = 1, device: str = "auto"
) -> dict[str, list[dict]]:
    """Run an experiment on fewer images and with fewer epochs; nothing is kept."""
    total = len(dataset.train[1])
    images = int(os.environ.get("S4_IMAGES") or images)
    images = min(images, total - round(HELD_OUT * total))
    results = {}
    for label, variant in EXPERIMENTS[name].variants.items():
        size = min(variant.batch_size, images)
        small = replace(variant, images=images, epochs=epochs, batch_size=size)
        results[label] = [run(small, dataset, seed, device) for seed in range(seeds)]
        accuracies = ", ".join(f"{result['held_out_accuracy']:.2f} %" for result in results[label])
        print(f"{label}: {accuracies}", flush=True)
    return results
