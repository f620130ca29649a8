"""How long does an epoch of CLASSIC take, against the original's way of training the network?

    python -m tests.benchmarks.epoch

The original's way: torchvision transforms, image by image, in a DataLoader; Adam, fp32. Ours is
`s4lib.train.fit` as it stands, in fp32 and, where the hardware computes with it, in bf16. Each
has a process of its own; they take turns, a piece of an epoch each, and the medians are compared.
Also printed: peak memory; the share of our time outside forward, backward and optimiser; the time
from the start of a process to the end of its first backward pass. Needs MNIST in $S4_DATA or
./data.
"""

import argparse
import contextlib
import multiprocessing
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
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST
from tqdm import tqdm

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


def original_way():
    """The original's loader and network, as a function that trains on some batches."""
    device = train.choose_device()
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
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.ReLU):
            model.set_submodule(name, nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), CLASSIC.lr)

    def piece(batches):
        correct = 0
        with open(os.devnull, "w") as null, tqdm(total=batches, file=null) as bar:
            for images, labels in islice(loader, batches):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                log_probs = model(images)
                loss = F.nll_loss(log_probs, labels)
                loss.backward()
                optimizer.step()
                correct += (log_probs.argmax(1) == labels).sum().item()
                bar.set_description(f"loss={loss.item()}")
                bar.update()

    return piece


def our_way(precision):
    """`fit` for one short epoch, tested on a handful of images."""
    dataset = load("mnist")
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
            train.fit(replace(CLASSIC, epochs=1), short)

    return piece


def seconds(call, *args, **kwargs):
    start = time.perf_counter()
    call(*args, **kwargs)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def worker(pipe, make_way, *args):
    """A process that trains on as many batches as it is asked to, and says how long it took."""
    piece = make_way(*args)
    piece(5)  # warm up
    for batches in iter(pipe.recv, 0):
        pipe.send(seconds(piece, batches))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if torch.cuda.is_available():
        peak = torch.cuda.max_memory_allocated() / 2**20
    pipe.send(peak)


@contextlib.contextmanager
def counting(spent):
    """Add the seconds spent in forward, loss, backward and optimiser to the list `spent`."""

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
            (torch.fx.GraphModule, "__call__"),
            (F, "nll_loss"),
            (torch.Tensor, "backward"),
            (torch.optim.Adam, "zero_grad"),
            (torch.optim.Adam, "step"),
        ):
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=117, help="in a piece")
    args = parser.parse_args()

    native = train.choose_precision(train.choose_device())
    ways = {"the original's way": (original_way,), "ours, fp32": (our_way, torch.float32)}
    if native != torch.float32:
        ways[f"ours, {str(native).removeprefix('torch.')}"] = (our_way, native)
    spawn, pipes = multiprocessing.get_context("spawn"), {}
    for name, way in ways.items():
        pipes[name], far_end = spawn.Pipe()
        spawn.Process(target=worker, args=(far_end, *way), daemon=True).start()

    times = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, pipe in pipes.items():
            pipe.send(args.batches)
            times[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(0)

    cuda = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores"
    print(f"{where}, torch {torch.__version__}, medians of {args.rounds} rounds\n")
    print("| way of training | s an epoch | images/s | times as fast | peak memory |")
    print("|---|---:|---:|---:|---:|")
    slowest = statistics.median(times["the original's way"])
    for name, values in times.items():
        median = statistics.median(values)
        epoch, rate = median / args.batches * EPOCH, args.batches * CLASSIC.batch_size / median
        memory = pipes[name].recv()
        print(
            f"| {name} | {epoch:.1f} | {rate:,.0f} | {slowest / median:.2f} | {memory:,.0f} MiB |"
        )

    spent = []
    with counting(spent):
        total = seconds(our_way(native), EPOCH)
    outside = 100 * (1 - sum(spent) / total)
    print(f"\nOutside forward, backward and optimiser: {outside:.1f} % of the time")
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
