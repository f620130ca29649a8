"""What two processes do together, started and restarted by torchrun's own engine.

    python -m tests.workers FOLDER SCENARIO…

One process imports torch; the workers are forked from it.
"""

import os
import signal
import sys
from functools import cache, partial
from itertools import count
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would: a second in every fork
import torch.nn.functional as F
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from s4lib import CLASSIC, MNISTNet, UsageError, fit, load
from s4lib import __main__ as cli
from s4lib.data import Batches, Dataset
from s4lib.runtime.distributed import all_reduce, init_distributed, parallel, per_rank, rank, shard
from s4lib.train import evaluate
from tests.faults import QUICK, few_digits

LEARNS_WELL = CLASSIC.adjusted(epochs=10, batch_size=64)


@cache
def digits() -> Dataset:
    return load("digits")


def network() -> MNISTNet:
    """Without dropout, whose draws differ from process to process."""
    torch.manual_seed(0)
    return MNISTNet(0, 0).train()


def gradients(model, images, labels) -> dict[str, torch.Tensor]:
    F.nll_loss(model(images), labels).backward()
    return {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}


def measure(folder: Path) -> None:
    """One step's gradients, shards and sums; then a fault without a message."""
    try:
        with init_distributed(torch.device("cpu")):
            images, labels = digits().train
            part = shard(digits().normalise(images[:40]), labels[:40])
            found = {
                "gradients": gradients(parallel(network()), *part),
                "evaluating": gradients(parallel(network().eval()), *part),
                "shard": shard(torch.arange(41))[0],
                "sums": all_reduce(10 ** rank(), torch.tensor(0.5)),
                "ranks": per_rank(rank()),
                "losses": losses(),
                **evaluation(),
            }
            raise RuntimeError("")
    except RuntimeError as error:
        torch.save({**found, "error": repr(error)}, folder / f"{os.environ['RANK']}.pt")


def evaluation() -> dict:
    """Evaluate with statistics that differ between processes, on three images and on one."""
    model, few = network(), few_digits(digits())
    model.block1.norm1.running_mean += rank()
    tested = [evaluate(model, few_digits(few, test=count)) for count in (3, 1)]
    return {"tested": tested, "statistics": model.block1.norm1.running_mean}


def losses() -> torch.Tensor:
    """Return what is known after a pass in which image i has a loss of i."""
    batches = Batches(digits(), 200, torch.Generator().manual_seed(0))
    for _ in batches:
        batches.record(-batches.shown.float()[:, None].expand(-1, 10))
    return batches.losses


def train(folder: Path, recipe=QUICK, dataset=few_digits, seed=0) -> None:
    """Train from the command line."""
    cli.RECIPES["classic"], cli.load = recipe, lambda *_: dataset(digits())
    words = ["train", "--recipe", "classic", "--device", "cpu", "--seed", str(seed)]
    if status := cli.main([*words, "--out", str(folder)]):
        sys.exit(status)


def learn_well(folder: Path, seed: str) -> None:
    train(folder, LEARNS_WELL, lambda digits: digits, int(seed))


def stop_in_second_epoch(stop) -> None:
    """Have process 1 stop so after its 14th batch, unless it has been restarted."""
    steps = count(1)
    first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def after_batch(*_):
        if next(steps) == 14 and rank() and first:
            stop()

    cli.fit = partial(fit, on_batch=after_batch)


def killed(folder: Path) -> None:
    stop_in_second_epoch(lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(folder)


def failing(folder: Path) -> None:
    def fail():
        raise UsageError("The dog has eaten batch 14.")

    stop_in_second_epoch(fail)
    train(folder)


SCENARIOS = {f.__name__: f for f in (measure, train, learn_well, killed, failing)}


def main() -> int:
    folder, *names = sys.argv[1:]
    torch.set_num_threads(1)
    digits()  # here, once, and not in every fork
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
