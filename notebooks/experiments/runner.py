"""Running experiments: each run trained, measured and kept, none of them twice."""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4lib import UsageError
from s4lib.augment import random_affine
from s4lib.checkpoint import Checkpoint, save
from s4lib.data import Batches, Dataset, Pairs
from notebooks.experiments.catalogue import EXPERIMENTS, Variant
from notebooks.experiments.measures import MEASURES
from notebooks.experiments.variants import build
from s4lib.history import History, versions
from s4lib.model import pool_before_relu
from s4lib.recipes import CLASSIC
from s4lib.train import choose_device, choose_precision, evaluate, keep_freed_memory, train_epoch

SEEDS = 3
MARKS = (50, 100, 200, 468)  # updates after which held-out images are tested
HELD_OUT = 2_000  # at most so many of the training images, those at the end


@dataclass
class Updates:
    """The batches of so many updates, over as many passes as that takes, for `train_epoch`.

    After every update `watch` is called with its number, from 1, and its labels.
    """

    batches: Batches
    count: int
    watch: Callable[[int, Tensor], None]

    def __post_init__(self):
        self.dataset, self.batch_size = self.batches.dataset, self.batches.batch_size

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        passes = chain.from_iterable(repeat(self.batches))
        for number, batch in enumerate(islice(passes, self.count), 1):
            yield batch
            self.watch(number, batch[1])


def run(variant: Variant, dataset: Dataset, seed: int, device: str = "auto") -> dict:
    """Train `variant` once. What was set and what was measured, ready for JSON.

    Raises UsageError if the network can't be built or there are too few training images.
    """
    device = choose_device(device)
    precision = choose_precision(device)
    if device.type == "cpu":
        keep_freed_memory()
    data, held_out = parts(variant, dataset.to(device))
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    turn = partial(
        random_affine, generator=generator, rotation=variant.rotation, mode=CLASSIC.interpolation
    )
    batches = Batches(data, variant.batch_size, generator, turn)
    updates = variant.updates or variant.epochs * len(batches)
    model = build(variant.network).to(device, memory_format=torch.channels_last)

    def accuracy(pair: Pairs) -> float:
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            return 100 * evaluate(model, replace(data, test=pair))[1] / len(pair[1])

    seen, watch = watching(model, variant, lambda: accuracy(held_out) if len(held_out[1]) else None)
    optimizer = torch.optim.Adam(model.parameters(), variant.lr, fused=True)
    schedule = lr_schedule(optimizer, variant, updates)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
    name = str(precision).removeprefix("torch.")
    history = History({}, dataset.name, seed, device.type, name)
    nowhere = Checkpoint(None, "", {"model": model}, generator, device, history)
    watched = Updates(batches, updates, watch)
    quick = pool_before_relu(model)
    start, diverged = time.process_time(), False
    try:
        train_epoch(quick, watched, optimizer, schedule, scaler, precision, 0, nowhere)
    except FloatingPointError:
        diverged = True
    seconds = time.process_time() - start - seen.pop("aside")

    return {
        "seed": seed,
        "dataset": dataset.name,
        "settings": asdict(variant),
        "device": device.type,
        "precision": name,
        "versions": versions(),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "updates": updates,
        "seconds": round(seconds, 2),  # of the processor, for training alone
        "diverged": diverged,  # the loss was no longer a number
        **seen,
        "train_accuracy": accuracy(tuple(part[:HELD_OUT] for part in data.train)),
        "test_accuracy": accuracy(data.test),
        **(MEASURES[variant.measure](model, data, held_out) if variant.measure else {}),
    }


def watching(model: nn.Module, variant: Variant, held_out_accuracy: Callable):
    """What a run measures on its way, and the function to call after every update that does.

    "early" is the accuracy on held-out training images, by update; "losses", if the learning rate
    grows, those of the batches while they are finite; "aside" the seconds that this took.
    """
    seen = {"early": {}, "aside": 0.0}
    last = {}
    if variant.ramp:
        seen["losses"] = []
        model.log_softmax.register_forward_hook(
            lambda _layer, _inputs, output: last.update(log_probs=output.detach().float())
        )

    def watch(update: int, labels: Tensor) -> None:
        start = time.process_time()
        if variant.ramp:
            loss = F.nll_loss(last["log_probs"], labels).item()
            seen["losses"] += [round(loss, 4)] if math.isfinite(loss) else []
        if update in MARKS and (accuracy := held_out_accuracy()) is not None:
            seen["early"][str(update)] = accuracy
            model.train()
        seen["aside"] += time.process_time() - start

    return seen, watch


def parts(variant: Variant, dataset: Dataset) -> tuple[Dataset, Pairs]:
    """What `variant` trains on, with its normalisation, and training images that it never sees."""
    images, labels = dataset.train
    if variant.images > len(labels):
        raise UsageError(
            f"{dataset.name} has {len(labels):,} training images; {variant.images:,} are wanted."
        )
    train = images[: variant.images], labels[: variant.images]
    held_out = images[variant.images :][-HELD_OUT:], labels[variant.images :][-HELD_OUT:]
    return replace(dataset, train=train, mean=variant.mean, std=variant.std), held_out


def lr_schedule(optimizer, variant: Variant, updates: int):
    """One step an update: as CLASSIC's, in so many updates; or growing up to `variant.ramp`."""
    if variant.ramp:
        factor = variant.ramp / variant.lr
        return torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda update: factor ** (update / updates)
        )
    falls = [round(epoch / CLASSIC.epochs * updates) for epoch in CLASSIC.milestones]
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, falls, CLASSIC.gamma)


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
    if not path.exists():
        return []
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        [Variant(**kept["settings"]) for kept in runs]
    except (ValueError, TypeError, KeyError) as error:
        raise UsageError(f"{path} holds no results of an experiment. Delete it.") from error
    return runs


def runs_of(folder: Path, variant: Variant, dataset: str) -> list[dict]:
    """The kept runs of exactly this variant on this data set, by seed."""
    kept = [
        run
        for run in read(folder, owner(variant)[0])
        if run["dataset"] == dataset and Variant(**run["settings"]) == variant
    ]
    return sorted(kept, key=lambda run: run["seed"])


def keep(folder: Path, variant: Variant, result: dict) -> None:
    """Add a run to those of its experiment: a line of the file, which is never half-written."""
    name, label = owner(variant)
    runs = [*read(folder, name), {"variant": label, **result}]
    lines = ",\n".join(json.dumps(run, ensure_ascii=False) for run in runs)
    question = json.dumps(EXPERIMENTS[name].question, ensure_ascii=False)
    text = f'{{"experiment": "{name}", "question": {question}, "runs": [\n{lines}\n]}}\n'
    save(folder / f"{name}.json", text.encode())


def missing(names: list[str], dataset: str, folder: Path, seeds: int) -> list[tuple[Variant, int]]:
    """The variants of these experiments and the seeds that `folder` doesn't hold yet."""
    wanted = dict.fromkeys(
        variant for name in names for variant in EXPERIMENTS[name].variants.values()
    )
    jobs = []
    for variant in wanted:
        done = {run["seed"] for run in runs_of(folder, variant, dataset)}
        jobs += [(variant, seed) for seed in range(seeds) if seed not in done]
    return jobs


def run_missing(
    names: list[str], dataset: Dataset, folder: Path, seeds: int = SEEDS, device: str = "auto"
) -> None:
    """Make the runs of these experiments that `folder` doesn't hold, and keep each at once."""
    jobs = missing(names, dataset.name, folder, seeds)
    images = [
        variant.updates * variant.batch_size if variant.updates else variant.epochs * variant.images
        for variant, _ in jobs
    ]
    start = time.perf_counter()
    for number, (variant, seed) in enumerate(jobs):
        left = ""
        if number:
            rate = (time.perf_counter() - start) / sum(images[:number])
            left = f", {rate * sum(images[number:]) / 60:.0f} min left"
        name, label = owner(variant)
        print(f"[{number + 1}/{len(jobs)}{left}] {name}: {label}, seed {seed}", flush=True)
        result = run(variant, dataset, seed, device)
        keep(folder, variant, result)
        print(f"  {result['test_accuracy']:.2f} %, {result['seconds']:.0f} s", flush=True)


def rerun(
    name: str, dataset: Dataset, images: int, epochs: int, seeds: int = 1, device: str = "auto"
) -> dict[str, list[dict]]:
    """An experiment on fewer images and with fewer epochs, to see how it goes; nothing is kept."""
    results = {}
    for label, variant in EXPERIMENTS[name].variants.items():
        print(label, flush=True)
        size = min(variant.batch_size, images)
        small = replace(variant, images=images, epochs=epochs, batch_size=size)
        results[label] = [run(small, dataset, seed, device) for seed in range(seeds)]
    return results
