"""Training killed with SIGKILL at random moments, resumed each time, and what it ends with.

    python -m tests.faults FOLDER --moments 20 --seed 0

prints how many were killed, how many of them while a file was being written, and how many runs
were finished. It fails unless each run ends with the state of a run never interrupted, to the
bit, and every file is whole after each kill. One process imports torch; those that it kills are
forked from it.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch._dynamo  # the first optimizer would: a second in every fork

from s4lib import CLASSIC, Dataset, History, MNISTNet, fit, load
from s4lib.runtime import checkpoint
from s4lib.runtime.checkpoint import load_weights, unpack

QUICK = replace(CLASSIC, epochs=3, batch_size=20, milestones=(1, 2))


def few_digits(digits: Dataset, train: int = 200, test: int = 50) -> Dataset:
    pairs = [
        tuple(part[:count] for part in pair)
        for pair, count in ((digits.train, train), (digits.test, test))
    ]
    return replace(digits, train=pairs[0], test=pairs[1])


def end(folder: Path) -> dict:
    """Return what the checkpoint of `folder` holds, except how long the epochs took."""
    content = (folder / "checkpoint.pt").read_bytes()
    assert hashlib.sha256(content[32:]).digest() == content[:32]
    state = unpack(content[32:])
    history = json.loads(state["history"])
    epochs = [{**epoch, "seconds": 0} for epoch in history["epochs"]]
    return {**state, "history": {**history, "epochs": epochs}}


def alike(one, other) -> bool:
    """Return whether two checkpoints hold the same bits in the same order."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, torch.Tensor):
        return one.stride() == other.stride() and torch.equal(one, other)
    return one == other


def die_while_writing(moment: int, where: str) -> None:
    """Have this process killed at its `moment`-th file: half written, or just before or after the
    new file takes the old one's place.
    """
    files = []
    fsync, rename = os.fsync, os.replace

    def dying_fsync(handle):
        files.append(handle)
        if where == "half" and len(files) == moment:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    def dying_rename(*names):
        if where == "after":
            rename(*names)
        if where != "half" and len(files) == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        if where != "after":
            rename(*names)

    checkpoint.os.fsync, checkpoint.os.replace = dying_fsync, dying_rename


def start(dataset: Dataset, folder: Path, moment: int = 0, where: str = "half") -> int:
    """Fork a process that trains into `folder`, or resumes what is there; its id."""
    child = os.fork()
    if child:
        return child
    with contextlib.suppress(BaseException), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        if moment:
            die_while_writing(moment, where)
        fit(MNISTNet, dataset, QUICK, 0, "cpu", folder)
        os._exit(0)
    os._exit(1)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def check_files(folder: Path) -> None:
    if (folder / "checkpoint.pt").exists():
        end(folder)
    if (folder / "weights.pt").exists():
        load_weights(MNISTNet(), folder / "weights.pt")
    if (folder / "history.json").exists():
        History.from_json((folder / "history.json").read_text())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(args.seed)
    dataset = few_digits(load("digits"), 60, 20)

    reference = args.folder / "reference"
    began = time.perf_counter()
    assert wait(start(dataset, reference)) == 0
    seconds = time.perf_counter() - began
    killed = writing = runs = 0
    while killed < args.moments:
        folder = args.folder / str(runs)
        finished = False
        while not finished:
            moment = rng.randint(1, 9) * rng.randint(0, 1)  # 0: by the clock
            child = start(dataset, folder, moment, rng.choice(["half", "before", "after"]))
            if not moment:
                time.sleep(rng.uniform(0, seconds))
                os.kill(child, signal.SIGKILL)
            status = wait(child)
            assert status in (0, -signal.SIGKILL), status
            finished = status == 0
            killed += not finished
            writing += not finished and moment > 0
            check_files(folder)
        assert alike(end(folder), end(reference)), folder
        assert (folder / "weights.pt").read_bytes() == (reference / "weights.pt").read_bytes()
        runs += 1
    print(f"{killed} kills, {writing} of them while writing; {runs} runs, all with the same end")
    return 0


if __name__ == "__main__":
    sys.exit(main())
