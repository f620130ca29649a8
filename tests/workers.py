"""What two processes do together, started and restarted by torchrun's own engine.

    python -m tests.workers FOLDER SCENARIO…

One process imports torch; the workers are forked from it.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from s4lib import UsageError, checkpoint, processes
from s4lib import __main__ as cli
from s4lib.data import load
from s4lib.model import MNISTNet
from s4lib.recipes import CLASSIC
from tests.faults import QUICK, few_digits

LEARNS = CLASSIC.adjusted(epochs=4, batch_size=48)
LEARNS_WELL = CLASSIC.adjusted(epochs=10, batch_size=64)
SEEDS = range(5)


def digits():
    return few_digits(load("digits"))


def gradients(model, images, labels) -> dict[str, torch.Tensor]:
    model.zero_grad()
    F.nll_loss(model(images), labels).backward()
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}


def network() -> MNISTNet:
    """Without dropout, whose draws differ from process to process."""
    torch.manual_seed(0)
    return MNISTNet(0, 0).train()


def measure(folder: Path) -> None:
    """One step's gradients, the shares, and sums."""
    with processes.joined(torch.device("cpu")):
        images, labels = (part[:40] for part in digits().train)
        share = processes.share(digits().normalise(images), labels)
        found = {
            "gradients": gradients(processes.parallel(network()), *share),
            "share": processes.share(torch.arange(41))[0],
            "total": processes.total(torch.tensor(10 ** processes.rank())),
            "all": processes.gather(processes.rank()),
        }
        torch.save(found, folder / f"{processes.rank()}.pt")


def train(folder: Path, recipe=QUICK, dataset=digits, seed=0) -> None:
    """By the command line."""
    cli.RECIPES["classic"], cli.load = recipe, lambda *_: dataset()
    words = ["train", "--recipe", "classic", "--device", "cpu", "--seed", str(seed)]
    words += ["--out", str(folder)]
    if status := cli.main(words):
        sys.exit(status)


def learn(folder: Path) -> None:
    train(folder, LEARNS, lambda: load("digits"))


def learn_well(folder: Path, seed: str) -> None:
    train(folder, LEARNS_WELL, lambda: load("digits"), int(seed))


def stop_in_second_epoch(stop) -> None:
    """Have process 1 stop so on its 14th batch, unless it has been restarted."""
    share, calls = processes.share, []

    def stopping_share(*tensors):
        calls.append(1)
        if len(calls) == 15 and processes.rank() and not processes.restarted():  # a test between
            stop()
        return share(*tensors)

    processes.share = stopping_share


def killed(folder: Path) -> None:
    stop_in_second_epoch(lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(folder)


def failing(folder: Path) -> None:
    def fail():
        raise UsageError("The dog has eaten batch 14.")

    stop_in_second_epoch(fail)
    train(folder)


def uneven(folder: Path) -> None:
    train(folder, replace(QUICK, batch_size=25))


SCENARIOS = {f.__name__: f for f in (measure, train, learn, learn_well, killed, failing, uneven)}


def main() -> int:
    folder, *names = sys.argv[1:]
    torch.set_num_threads(1)
    checkpoint.EVERY = 2
    for name in names:
        scenario, *arguments = name.split("-")
        out = Path(folder, name)
        out.mkdir(exist_ok=True)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=2,
            max_restarts=1 if name == "killed" else 0,
            monitor_interval=0.1,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            run_id=name,
            start_method="fork",
        )
        try:
            elastic_launch(config, SCENARIOS[scenario])(out, *arguments)
        except ChildFailedError as error:
            print(f"{name} failed: {error.get_first_failure()[1].exitcode}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
