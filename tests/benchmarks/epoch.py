"""How long does an epoch of CLASSIC take, against the original's way of training the network?

    python -m tests.benchmarks.epoch

The original's way: torchvision transforms, image by image, in a DataLoader; Adam, fp32. Ours is
`s4lib.train.fit` as it stands, in fp32 and, where the hardware computes with it, in bf16. They
take turns, a piece of an epoch each; the medians are compared. Also printed: the share of our
time outside forward, backward and step; peak memory; and the time from the start of a process to
the end of its first backward pass. Needs MNIST in $S4_DATA or ./data.
"""

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from s4lib import train
from s4lib.data import MNIST_MEAN, MNIST_STD, load
from s4lib.model import MNISTNet
from s4lib.recipes import CLASSIC

EPOCH = 468  # batches of 128
FIRST_BATCH = """
import os, sys, torch
torch.optim.Adam.step = lambda *_, **__: os._exit(0)
from s4lib.__main__ import main
main(["train", "--dataset", "mnist", "--out", sys.argv[1]])
"""


def original_way(device):
    """The original's loader and network, as a function that trains on some batches."""
    turn_and_normalise = transforms.Compose(
        [
            transforms.RandomRotation((-CLASSIC.rotation, CLASSIC.rotation)),
            transforms.ToTensor(),
            transforms.Normalize((MNIST_MEAN,), (MNIST_STD,)),
        ]
    )
    digits = MNIST(os.environ.get("S4_DATA", "data"), train=True, transform=turn_and_normalise)
    workers = {"num_workers": 4, "pin_memory": True} if device.type == "cuda" else {}
    loader = DataLoader(digits, CLASSIC.batch_size, shuffle=True, drop_last=True, **workers)
    model = MNISTNet().to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), CLASSIC.lr)

    def piece(batches):
        for images, labels in islice(loader, batches):
            images, labels = images.to(device), labels.to(device)
            optimizer.zero_grad()
            loss = F.nll_loss(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()  # for the progress bar

    return piece


def our_way(dataset, precision, device):
    """`fit` for one short epoch, tested on a handful of images."""
    images, labels = dataset.train
    test = tuple(part[:10] for part in dataset.test)

    def piece(batches):
        count = batches * CLASSIC.batch_size
        short = replace(dataset, train=(images[:count], labels[:count]), test=test)
        with (
            patch.object(train, "choose_precision", lambda _: precision),
            open(os.devnull, "w") as null,
            contextlib.redirect_stdout(null),
            contextlib.redirect_stderr(null),
        ):
            train.fit(replace(CLASSIC, epochs=1), short, device=str(device))

    return piece


def seconds(piece, *args, **kwargs):
    start = time.perf_counter()
    piece(*args, **kwargs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


@contextlib.contextmanager
def counting(spent):
    """Add the seconds spent in forward, loss, backward and step to the list `spent`."""

    def timed(function):
        def wrapper(*args, **kwargs):
            result = None

            def call():
                nonlocal result
                result = function(*args, **kwargs)

            spent.append(seconds(call))
            return result

        return wrapper

    with contextlib.ExitStack() as patches:
        for owner, name in (
            (MNISTNet, "forward"),
            (F, "nll_loss"),
            (torch.Tensor, "backward"),
            (torch.optim.Adam, "step"),
        ):
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=40, help="in a piece")
    args = parser.parse_args()

    device = train.choose_device()
    dataset = load("mnist")
    native = train.choose_precision(device)
    ways = {"ours, fp32": our_way(dataset, torch.float32, device)}
    if native != torch.float32:
        name = str(native).removeprefix("torch.")
        ways[f"ours, {name}"] = our_way(dataset, native, device)
    for piece in ways.values():
        piece(5)  # warm up
    memory = (
        torch.cuda.max_memory_allocated() / 2**20
        if device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    ways["the original's way"] = original_way(device)
    ways["the original's way"](5)

    times = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, piece in ways.items():
            times[name].append(seconds(piece, args.batches))
    medians = {name: statistics.median(values) for name, values in times.items()}
    slowest = medians["the original's way"]
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    print(f"{where}, torch {torch.__version__}, medians of {args.rounds} rounds\n")
    print("| way of training | s an epoch | images/s | times as fast |")
    print("|---|---:|---:|---:|")
    for name, median in sorted(medians.items(), key=lambda item: -item[1]):
        batch = median / args.batches
        rate, faster = CLASSIC.batch_size / batch, slowest / median
        print(f"| {name} | {batch * EPOCH:.1f} | {rate:,.0f} | {faster:.2f} |")

    fastest = min(ways, key=medians.get)
    spent = []
    with counting(spent):
        total = seconds(ways[fastest], EPOCH)
    outside = 100 * (1 - sum(spent) / total)
    print(f"\nOutside forward, backward and step: {outside:.1f} % of the time")
    print(f"Peak memory: {memory:,.0f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        start = [
            seconds(
                subprocess.run,
                [sys.executable, "-c", FIRST_BATCH, folder],
                stdout=subprocess.DEVNULL,
            )
            for _ in range(3)
        ]
    print(f"From the start of the process to the first training batch: {min(start):.1f} s")


if __name__ == "__main__":
    main()
