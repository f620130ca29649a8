"""Find finished runs and their folders."""

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from s4lib.data import Dataset
from s4lib.history import History
from s4lib.recipes import Recipe
from s4lib.runtime import UsageError, check_number
from s4lib.runtime.checkpoint import load_weights, read
from s4lib.runtime.rehearsal import copied
from s4lib.train import Network, fit, make_network

LARGEST = 2**22  # bytes of a history.json; an epoch has about 400


def finished_run(
    network: Network, dataset: Dataset, recipe: Recipe, seed: int, device: str, folder: Path
) -> tuple[nn.Module, History]:
    """Return the finished run in `folder`, whatever its recipe; if there is none, call `fit`.

    Raises UsageError for a run of another network, and as `fit` does.
    """
    if (folder / "history.json").exists():
        history = read_history(folder)
        if len(history.epochs) == history.recipe["epochs"]:
            return load_run(network, folder), history
    return fit(network, dataset, recipe, seed, device, folder)


def load_run(network: Network, folder: Path) -> nn.Module:
    """Return the network with the weights in `folder`. Raises UsageError if they do not fit."""
    try:
        return load_weights(copied(make_network(network)).cpu(), folder / "weights.pt")
    except UsageError as error:
        raise UsageError(f"{error}\nTo train again, delete {folder}, or choose another.") from error


def read_history(folder: str | Path) -> History:
    """Return the history of the run in `folder`. Raises UsageError if there is none."""
    try:
        history = History.from_json(read(Path(folder, "history.json"), LARGEST).decode())
        tests = [epoch.test_images for epoch in history.epochs]
        if type(history.recipe.get("epochs")) is not int or min(tests, default=0) < 1:
            raise ValueError
    except ValueError as error:
        raise UsageError(f"{folder} holds no history of a run. Train into it first.") from error
    return history


def seeds_and_folders(
    seed: int, seeds: int | None, out: Path | None, base: Path, name: str
) -> Iterator[tuple[int, Path]]:
    """Return the seed and the folder of each run that a command asks for, one or `seeds` of them.

    The folders are below `out`, else below `base`; the folder of a single run is `out` itself.
    Raises UsageError unless `seeds` is at least 1.
    """
    if seeds is None:
        yield seed, out or base / f"{name}-{seed}"
        return
    check_number("--seeds", seeds, int, 1)
    for number in range(seeds):
        yield number, (out or base) / f"{name}-{number}"
