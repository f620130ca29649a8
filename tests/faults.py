"""Training killed with SIGKILL at random moments, gone on with each time, and what it ends with.

    python -m tests.faults FOLDER --moments 20 --seed 0

prints how many were killed, how many of them while a checkpoint was being written, and how many
runs were finished. It fails unless each run ends with the state of a run never interrupted, to
the bit, and every file is whole after each kill. One process imports torch; those that it kills
are forked from it.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from s4lib import history
from s4lib.runtime import checkpoint
from s4lib.runtime.checkpoint import load_weights
from s4lib.data import Dataset, load
from s4lib.recipes import CLASSIC
from s4lib.train import fit

QUICK = replace(CLASSIC, epochs=3, batch_size=20, milestones=(1, 2))
SECONDS = 0.4  # less than a run of it takes


def few_digits(digits: Dataset, train: int = 200, test: int = 50) -> Dataset:
    pairs = [
        tuple(part[:count] for part in pair)
        for pair, count in ((digits.train, train), (digits.test, test))
    ]
    return replace(digits, train=pairs[0], test=pairs[1])


def alike(one, other) -> bool:
    """Whether two checkpoints hold the same bits in the same order; times of day aside."""
    if isinstance(one, dict):
        keys = one.keys() - {"number", "seconds"}
        return keys == other.keys() - {"number", "seconds"} and all(
            alike(one[key], other[key]) for key in keys
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, torch.Tensor):
        return one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, str) and one.startswith("["):  # the epochs
        return alike(*(json.loads(text) for text in (one, other)))
    return one == other


def die_while_writing(moment: int, rng: random.Random) -> None:
    """Have this process killed at its `moment`-th save: half written, or just before or after the
    new file takes the old one's place.
    """
    where, saves = rng.choice(["half", "before", "after"]), []
    fsync, rename = os.fsync, os.replace

    def dying_fsync(handle):
        saves.append(1)
        if where == "half" and len(saves) == moment:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    def dying_rename(*names):
        if where == "after":
            rename(*names)
        if where != "half" and len(saves) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        if where != "after":
            rename(*names)

    checkpoint.os.fsync, checkpoint.os.replace = dying_fsync, dying_rename


def start(dataset: Dataset, folder: Path, while_writing: int, rng: random.Random) -> int:
    """Fork a process that trains into `folder`, or goes on with what is there; its id."""
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        if while_writing:
            die_while_writing(while_writing, rng)
        fit(QUICK, dataset, 0, "cpu", folder, resume=has_checkpoint(folder))
        os._exit(0)
    os._exit(1)


def check_files(folder: Path) -> None:
    if has_checkpoint(folder):
        assert newest(folder)[1] == []
    if (folder / "weights.pt").exists():
        load_weights(folder / "weights.pt")
    if (folder / "history.json").exists():
        history.History.from_json((folder / "history.json").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint.EVERY = 2
    rng = random.Random(args.seed)
    dataset = few_digits(load("digits"))

    reference = args.folder / "reference"
    assert os.waitstatus_to_exitcode(os.waitpid(start(dataset, reference, 0, rng), 0)[1]) == 0
    expected, _ = newest(reference)
    killed = writing = runs = 0
    while killed < args.moments:
        folder = args.folder / str(runs)
        finished = False
        while not finished:
            moment = rng.randint(1, 8) * rng.randint(0, 1)  # 0: by the clock
            child = start(dataset, folder, moment, rng)
            if not moment:
                time.sleep(rng.uniform(0, SECONDS))
                os.kill(child, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            assert status in (0, -signal.SIGKILL), status
            finished = status == 0
            killed += not finished
            writing += not finished and moment > 0
            check_files(folder)
        assert alike(newest(folder)[0], expected), folder
        weights = load_weights(folder / "weights.pt").state_dict()
        for name, value in load_weights(reference / "weights.pt").state_dict().items():
            assert torch.equal(value, weights[name]), name
        runs += 1
    print(f"{killed} kills, {writing} of them while writing; {runs} runs, all with the same end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
