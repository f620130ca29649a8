"""The measurements of a run, epoch by epoch, and tables of them."""

import csv
import json
import platform
import statistics
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from torch import Tensor

import s4lib
from s4lib.recipes import GOAL
from s4lib.runtime import UsageError


@dataclass
class Epoch:
    """One pass over the training images, or a share of them, and the test after it."""

    epoch: int  # from 1
    lr: float  # of the epoch's first batch
    train_loss: float  # mean over the examples seen, while the weights were changing
    train_accuracy: float  # per cent of them
    test_loss: float  # mean over all test images
    test_accuracy: float  # per cent of them
    test_correct: int
    test_images: int
    seconds: float  # training and test

    def __str__(self) -> str:
        """Return the epoch's lines in the log, which follow its progress bar."""
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
        "s4lib": s4lib.__version__,
    }


@dataclass
class History:
    """A run: the network, data, recipe and versions, and the measurements of every epoch."""

    network: str
    parameters: int
    recipe: dict
    dataset: str
    seed: int
    device: str
    precision: str
    versions: dict = field(default_factory=versions)  # of Python, torch and s4lib
    epochs: list = field(default_factory=list)  # of Epoch

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "History":
        """Return the run that `to_json` wrote. Raises UsageError if `text` is something else."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"That is not a run's history: {error}") from error

    @classmethod
    def from_dict(cls, values: dict) -> "History":
        """Invert `asdict`. Raises TypeError for a value that a field cannot have."""
        run = check_types(cls(**values))
        run.epochs = [check_types(Epoch(**epoch)) for epoch in run.epochs]
        return run


def check_types(record: Epoch | History) -> Epoch | History:
    """Invert `asdict`. Raises TypeError unless every field has the type that its class names."""
    for item in fields(record):
        value, kind = getattr(record, item.name), item.type
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise TypeError(f"its {item.name} is {value!r:.40}")
    return record


def dump(runs: list[History]) -> str:
    """Write several runs as one JSON text; `parse` is the inverse."""
    return json.dumps([asdict(run) for run in runs], indent=1)


def parse(text: str) -> list[History]:
    return [History.from_dict(run) for run in json.loads(text)]


def read_original(path: Path) -> dict[int, float]:
    """Read the original submission's log: the test accuracy in per cent, by epoch."""
    with open(path, newline="") as file:
        return {int(row["epoch"]): float(row["test_accuracy"]) for row in csv.DictReader(file)}


def table(runs: list[History], original: dict[int, float] | None = None) -> str:
    """Return a Markdown table of these runs' mean test accuracy by epoch, and the original's."""
    header = ["epoch", *(["the original"] if original else [])]
    header += [f"mean of {len(runs)} seeds", f"runs at {GOAL} % or more"]
    rows = []
    for epochs in zip(*(run.epochs for run in runs), strict=True):
        accuracies = [epoch.test_accuracy for epoch in epochs]
        number = epochs[0].epoch
        theirs = [f"{original[number]:.2f}" if number in original else ""] if original else []
        reached = sum(accuracy >= GOAL for accuracy in accuracies)
        rows.append([str(number), *theirs, spread(accuracies), f"{reached} of {len(runs)}"])
    return markdown(header, rows)


def summary(runs: list[History]) -> str:
    """Return a Markdown table of the last epoch's test accuracy over several runs of a recipe."""
    from scipy import stats  # importing it takes a second, and training doesn't need it

    last = [run.epochs[-1].test_accuracy for run in runs]
    mean, within = statistics.mean(last), "?"
    if len(last) > 1:
        half = stats.sem(last) * stats.t.ppf(0.975, len(last) - 1)
        within = f"{mean - half:.2f} to {mean + half:.2f}"
    header = ["recipe", "epochs", "seeds", "last epoch", "lowest", "mean within (95 %)"]
    row = [runs[0].recipe["name"].upper(), str(len(runs[0].epochs)), str(len(last))]
    return markdown(header, [[*row, spread(last), f"{min(last):.2f}", within]])


def spread(values: list[float], digits: int = 2) -> str:
    """Return the mean and, for several values, the standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, numbers aligned right; the first column is text or counts epochs."""
    first = "---:" if header[0] == "epoch" else "---"
    rule = f"|{'|'.join([first, *['---:'] * (len(header) - 1)])}|"
    lines = [f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in [header, *rows]]
    return "\n".join([lines[0], rule, *lines[1:]])


def per_class(labels: Tensor, predicted: Tensor) -> str:
    """Return a table, a line for each digit: images, how many were right, commonest mistake."""
    counts = torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10)
    lines = ["digit  images  correct  accuracy  most often mistaken for"]
    for digit, row in enumerate(counts):
        images, correct = row.sum().item(), row[digit].item()
        row[digit] = 0
        mistaken = f"{row.argmax()} ({row.max()} times)" if row.max() else "nothing"
        lines.append(
            f"{digit:>5}  {images:>6}  {correct:>7}  {100 * correct / max(images, 1):>6.2f} %"
            f"  {mistaken}"
        )
    return "\n".join(lines)
