"""Check whether a network and its training meet the assignment."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from notebooks.assignment.inspection import (
    ALL_DROPPED,
    AVERAGE,
    DROPOUT,
    LINEAR,
    NORM,
    inspect_network,
    never_used,
    prepared,
)
from s4lib.data import Dataset, load
from s4lib.history import History
from s4lib.recipes import GOAL
from s4lib.runs import load_run, read_history
from s4lib.train import Network, evaluate, identity, make_network

PARAMETERS, EPOCHS = 20_000, 20  # a network must have fewer
LAST = 5  # the last epochs, each of which must reach `GOAL`
WHOLE = ("MNIST", 10_000)  # the data set and its test images
SLACK = 5  # so many test images may be predicted differently on another device

LAYERS = {  # the modules that count, and how to use one
    NORM: (_BatchNorm, "Put nn.BatchNorm2d(channels) after a convolution"),
    DROPOUT: (_DropoutNd, "Put nn.Dropout(p), with p > 0, before the fully connected layer"),
    AVERAGE: (
        (nn.AdaptiveAvgPool2d, nn.AvgPool2d),
        "Let nn.AdaptiveAvgPool2d(1) average the last map, larger than 1×1",
    ),
    LINEAR: (nn.Linear, "End with nn.Linear(channels, 10), not a convolution"),
}


class Requirement(NamedTuple):
    """One line of the checklist."""

    met: bool
    text: str  # with the figure
    advice: str = ""  # advice while the line is not met

    def __str__(self) -> str:
        return f"✓ {self.text}" if self.met else f"✗ {self.text}. {self.advice}."


def check_assignment(
    network: Network, runs: Sequence[History | str | Path], dataset: Dataset | None = None
) -> bool:
    """Print what the assignment requires, with a reason for every ✗; return whether all is met.

    Each of `runs` is a history, or a run's folder, whose saved weights are then tested on
    `dataset`, by default `load()`. Raises UsageError for a folder without such a run.
    """
    histories = [run if isinstance(run, History) else read_history(run) for run in runs]
    lines = [*check_network(network), *check_runs(network, histories)]
    for folder, history in zip(runs, histories, strict=True):
        if folder is not history:
            dataset = dataset or load()
            lines.append(check_weights(network, Path(folder), history, dataset))
    print(*lines, sep="\n")
    return all(line.met for line in lines)


def check_network(network: Network) -> list[Requirement]:
    """Yield lines on the network's size, and on the layers at work in it."""
    model = prepared(network)
    training, testing = inspect_network(model.train()), inspect_network(model.eval())
    size, idle = identity(model)[1], never_used(model, training, testing)
    text = f"{size:,} parameters, {'not ' * (size >= PARAMETERS)}fewer than {PARAMETERS:,}"
    advice = f"Save {size - PARAMETERS + 1:,}: take fewer channels"
    if idle:
        named = " and ".join(f"the {count:,} of {name}" for name, count in idle.items())
        text += f", with {named}, which forward never uses"
        if size - sum(idle.values()) < PARAMETERS:
            advice = f"Delete {' and '.join(idle)}"
    lines = [Requirement(size < PARAMETERS, text, advice)]
    for layer, (modules, advice) in LAYERS.items():
        there = [name for name, module in model.named_modules() if isinstance(module, modules)]
        working = layer in training.layers
        text = f"{'no ' * (not working)}{layer} at work"
        if there and not working:
            name = there[-1] if layer == AVERAGE else there[0]
            module = model.get_submodule(name)
            text += f", although {name} is there: {module}, {place(training.calls.get(module))}"
            advice = f"Let the output depend on it. {advice}"
        if layer == DROPOUT and ALL_DROPPED in training.layers:
            working, text = False, "dropout: p is 1 in training, so every value is dropped"
            advice = (
                "Write F.dropout(x, 0.1, self.training): in F.dropout(x, self.training), "
                "self.training is p"
            )
        lines.append(Requirement(working, text, advice))
    if testing.layers & {DROPOUT, ALL_DROPPED}:
        advice = "Use nn.Dropout(p), or F.dropout(x, p, self.training)"
        lines.append(Requirement(False, "dropout at work in testing as well", advice))
    return lines


def place(call: tuple | None) -> str:
    """Describe a layer: its shapes, whether it is called, and whether its result is used."""
    if not call:
        return "which forward never calls"
    before, after, used = call
    text = f"which makes {after} of {before}"
    return text if used else f"{text} that the output does not depend on"


def check_runs(network: Network, runs: Sequence[History]) -> list[Requirement]:
    """Yield lines on what was trained, for how long, on which data, and with what result."""
    if not runs:
        return [Requirement(False, "no run yet", "Train: model, history = fit(Net, load(), BEST)")]
    model = identity(make_network(network))
    trained = sorted({(run.network, run.parameters) for run in runs})
    text = " and ".join(f"{name} with {count:,} parameters" for name, count in trained)
    lines = [Requirement(trained == [model], f"trained: {text}", f"Train {model[0]} again")]

    seeds = [run.seed for run in runs]
    if len({*seeds}) < len(seeds):
        text = f"{len(seeds)} runs of only {len({*seeds})} different seeds"
        lines.append(Requirement(False, text, "Give each run a seed of its own"))
    planned = max(run.recipe["epochs"] for run in runs)
    text = f"{planned} epochs, {'not ' * (planned >= EPOCHS)}fewer than {EPOCHS}"
    lines.append(Requirement(planned < EPOCHS, text, "Try recipe.adjusted(epochs=19)"))
    for run in runs:
        numbers = [epoch.epoch for epoch in run.epochs]
        if numbers != [*range(1, len(numbers) + 1)] or len(numbers) != run.recipe["epochs"]:
            text = f"seed {run.seed} has {len(run.epochs)} of {run.recipe['epochs']} epochs"
            lines.append(Requirement(False, text, "The same call of fit continues the run"))

    sets = sorted({(run.dataset, epoch.test_images) for run in runs for epoch in run.epochs})
    if sets:
        text = " and ".join(f"{name} with {count:,} test images" for name, count in sets)
        advice = 'Take all of MNIST: load("mnist")'
        lines.append(Requirement(sets == [WHOLE], f"data: {text}", advice))
    return [*lines, check_accuracy(runs)]


def check_accuracy(runs: Sequence[History]) -> Requirement:
    """Return whether every run is at `GOAL` in each of its last epochs."""
    last = [(epoch, run.seed) for run in runs for epoch in run.epochs[-LAST:]]
    if len(last) < LAST * len(runs):
        text = f"too few epochs to show whether {GOAL} % lasts for {LAST}"
        return Requirement(False, text, "Train with the recipe BEST, 19 epochs")
    below = sum(100 * epoch.test_correct < GOAL * epoch.test_images for epoch, _ in last)
    lowest, seed = min(last, key=lambda pair: pair[0].test_correct / pair[0].test_images)
    accuracy = 100 * lowest.test_correct / lowest.test_images
    text = f"{accuracy:.2f} % in epoch {lowest.epoch} of seed {seed}, the lowest of the last {LAST}"
    left = PARAMETERS - 1 - max(run.parameters for run in runs)
    return Requirement(
        not below,
        f"{text}: {GOAL} % is the goal" + f", missed in {below} of {len(last)}" * bool(below),
        "Try the recipe BEST, or wider layers" + f": {left:,} parameters are left" * (left > 0),
    )


def check_weights(
    network: Network, folder: Path, history: History, dataset: Dataset
) -> Requirement:
    """Return whether the weights in `folder` predict as many test images as its history has."""
    model = load_run(network, folder)
    if history.dataset != dataset.name:
        text = f"{folder}: its weights are for {history.dataset}, and here is {dataset.name}"
        return Requirement(False, text, "Check where the data set is")
    correct, said = evaluate(model, dataset)[1], history.epochs[-1].test_correct
    text = f"{folder}: the weights predict {correct:,} correctly, its history has {said:,}"
    advice = "Keep both files of one run together, and train a changed network again"
    return Requirement(abs(correct - said) <= SLACK, text, advice)
