"""What a run measured, epoch by epoch."""

import csv
import json
import math
import platform
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torchvision

from s4lib import UsageError, __version__
from s4lib.recipes import Recipe


@dataclass
class Epoch:
    """One pass over the training set and the test that follows it."""

    epoch: int  # from 1
    lr: float  # of the epoch's first batch
    train_loss: float  # mean over the examples seen, while the weights were changing
    train_accuracy: float  # per cent of them
    test_loss: float  # mean over all test images
    test_accuracy: float  # per cent of them
    test_correct: int
    test_images: int
    seconds: float  # training and test

    def log(self) -> str:
        """The epoch's lines in the log, below its progress bar."""
        return (
            f"Train Accuracy: {self.train_accuracy:.2f} %   Train Loss: {self.train_loss:.4f}\n"
            f"Test Accuracy:  {self.test_accuracy:.2f} %   Test Loss:  {self.test_loss:.4f}\n"
            "Number of correct predictions in test set: "
            f"{self.test_correct}/{self.test_images}   ({self.seconds:.1f} s)\n"
        )


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "s4lib": __version__,
    }


@dataclass
class History:
    """What was trained, on what, with what, and how it went."""

    recipe: dict
    dataset: str
    seed: int
    device: str
    precision: str
    versions: dict[str, str] = field(default_factory=versions)
    epochs: list[Epoch] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "History":
        """The inverse of `to_json`. Raises UsageError when `text` is something else."""
        try:
            values = json.loads(text)
            epochs = [Epoch(**epoch) for epoch in values.pop("epochs")]
            return cls(**values, epochs=epochs)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"That is not a run's history: {error}") from error


def dump(runs: list[History]) -> str:
    """Several runs as one JSON text; `parse` is its inverse."""
    return json.dumps([asdict(run) for run in runs], indent=1)


def parse(text: str) -> list[History]:
    return [History.from_json(json.dumps(run)) for run in json.loads(text)]


def finished(path: Path, recipe: Recipe, dataset: str) -> History | None:
    """The run in `path` if it is this recipe's, on this data set, with all its epochs."""
    if not path.exists():
        return None
    run = History.from_json(path.read_text())
    same = run.recipe == json.loads(json.dumps(asdict(recipe))) and run.dataset == dataset
    return run if same and len(run.epochs) == recipe.epochs else None


def read_original(path: Path) -> dict[int, float]:
    """The original submission's log: test accuracy in per cent, by epoch."""
    with open(path, newline="") as file:
        return {int(row["epoch"]): float(row["test_accuracy"]) for row in csv.DictReader(file)}


def table(runs: list[History], original: dict[int, float], goal: float = 99.4) -> str:
    """Test accuracy after every epoch, as Markdown: the original's, and these runs' mean."""
    lines = [
        f"| epoch | the original | mean of {len(runs)} seeds | runs at {goal} % or more |",
        "|---:|---:|---:|---:|",
    ]
    for epochs in zip(*(run.epochs for run in runs), strict=True):
        accuracies = [epoch.test_accuracy for epoch in epochs]
        spread = f" ± {statistics.stdev(accuracies):.2f}" if len(runs) > 1 else ""
        reached = sum(accuracy >= goal for accuracy in accuracies)
        lines.append(
            f"| {epochs[0].epoch} | {original.get(epochs[0].epoch, math.nan):.2f} "
            f"| {statistics.mean(accuracies):.2f}{spread} | {reached} of {len(runs)} |"
        )
    return "\n".join(lines)


def summary(runs: list[History]) -> str:
    """The last epoch's test accuracy over several runs of one recipe, as a Markdown table."""
    from scipy import stats  # a second of import that training doesn't need

    last = [run.epochs[-1].test_accuracy for run in runs]
    mean, spread, within = statistics.mean(last), "", "?"
    if len(last) > 1:
        spread = f" ± {statistics.stdev(last):.2f}"
        half = stats.sem(last) * stats.t.ppf(0.975, len(last) - 1)
        within = f"{mean - half:.2f} to {mean + half:.2f}"
    return "\n".join(
        [
            "| recipe | epochs | seeds | last epoch | lowest | mean within (95 %) |",
            "|---|---:|---:|---:|---:|---:|",
            f"| {runs[0].recipe['name'].upper()} | {len(runs[0].epochs)} | {len(last)} "
            f"| {mean:.2f}{spread} | {min(last):.2f} | {within} |",
        ]
    )
