"""How long does an epoch of CLASSIC take, against the original's way of training the network?

    python -m tests.benchmarks.epoch

The original's way: torchvision transforms, image by image, in a DataLoader; Adam, fp32. Ours is
`s4lib.train.fit` as it stands, in fp32 and, where the hardware computes with it, in bf16. Each
has a process of its own; they take turns, a piece of an epoch each, and the medians are compared.
Also printed: where a step's time goes, for CLASSIC and for FAST; the share of the machine's own
peak that forward and backward reach; peak memory; the time from the start of a process to the end
of its first backward pass. Needs MNIST in $S4_DATA or ./data.
"""

import argparse
import contextlib
import multiprocessing
import os
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
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms
from torchvision.datasets import MNIST
from tqdm import tqdm

from s4lib import train
from s4lib.__main__ import NETWORKS
from s4lib.data import MNIST_MEAN, MNIST_STD, Batches, load
from s4lib.model import MNISTNet
from s4lib.optim import Muon
from s4lib.recipes import CLASSIC, FAST
from s4lib.runtime.device import choose_device, choose_precision
from s4lib.runtime.progress import silence

EPOCH = 468  # batches of 128
FIRST_BATCH = """
import os, sys, torch
torch.optim.Adam.step = lambda *_, **__: os._exit(0)
from s4lib.__main__ import main
main(["train", "--dataset", "mnist", "--out", sys.argv[1]])
"""


def original_way():
    """The original's loader, network and optimizer: (train on some batches, test, schedule)."""
    device = choose_device()
    to_normal = [transforms.ToTensor(), transforms.Normalize((MNIST_MEAN,), (MNIST_STD,))]
    turn = transforms.RandomRotation((-CLASSIC.rotation, CLASSIC.rotation))
    workers = {"num_workers": 4, "pin_memory": True} if device.type == "cuda" else {}
    train_loader, test_loader = (
        DataLoader(
            MNIST(
                os.environ.get("S4_DATA", "data"), train=training, transform=transforms.Compose(way)
            ),
            CLASSIC.batch_size,
            shuffle=True,
            drop_last=training,
            **workers,
        )
        for training, way in ((True, [turn, *to_normal]), (False, to_normal))
    )
    model = MNISTNet().to(device)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.ReLU):
            model.set_submodule(name, nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), CLASSIC.lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, CLASSIC.milestones, CLASSIC.gamma)

    def train_on(batches):
        model.train()
        correct = 0
        with open(os.devnull, "w") as null, tqdm(total=batches, file=null) as bar:
            for images, labels in islice(train_loader, batches):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                log_probs = model(images)
                loss = F.nll_loss(log_probs, labels)
                loss.backward()
                optimizer.step()
                correct += (log_probs.argmax(1) == labels).sum().item()
                bar.set_description(f"loss={loss.item()}")
                bar.update()

    @torch.no_grad()
    def test():
        model.eval()
        correct = 0
        for images, labels in test_loader:
            log_probs = model(images.to(device))
            correct += (log_probs.argmax(1) == labels.to(device)).sum().item()
        return 100 * correct / len(test_loader.dataset)

    return train_on, test, schedule


def original_piece():
    train_on, _, _ = original_way()
    return train_on


def our_way(precision, recipe=CLASSIC):
    """`fit` for one short epoch, tested on a handful of images."""
    dataset = load("mnist")
    images, labels = dataset.train
    test = tuple(part[:10] for part in dataset.test)

    def piece(batches):
        count = batches * recipe.batch_size
        short = replace(dataset, train=(images[:count], labels[:count]), test=test)
        with (
            patch.object(train, "choose_precision", lambda _: precision),
            silence(),
        ):
            train.fit(NETWORKS[recipe.name], short, replace(recipe, epochs=1))

    return piece


def seconds(call, *args, **kwargs):
    if not torch.cuda.is_available():
        start = time.perf_counter()
        call(*args, **kwargs)
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call(*args, **kwargs)
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1000


def worker(pipe, make_way, *args):
    """A process that trains on as many batches as it is asked to, and says how long it took."""
    piece = make_way(*args)
    piece(5)  # warm up
    for batches in iter(pipe.recv, 0):
        pipe.send(seconds(piece, batches))
    pipe.send(peak_memory())


def peak_memory() -> float:
    """The process's largest in MiB: of the GPU if there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource  # which Windows lacks

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


@contextlib.contextmanager
def counting(spent, optimizer):
    """Add to `spent` the seconds of every part of a training step."""

    def timed(part, function):
        def wrapper(*args, **kwargs):
            result = None

            def call():
                nonlocal result
                result = function(*args, **kwargs)

            spent[part] = spent.get(part, 0) + seconds(call)
            return result

        return wrapper

    def timed_batches(self, iterate=Batches.__iter__):
        batches = iterate(self)
        following = timed("data", lambda: next(batches, None))
        return iter(following, None)

    with contextlib.ExitStack() as patches:
        patches.enter_context(patch.object(Batches, "__iter__", timed_batches))
        for part, owner, name in (
            ("forward", nn.Sequential, "__call__"),
            ("forward", F, "nll_loss"),
            ("backward", torch.Tensor, "backward"),
            ("optimizer", optimizer, "zero_grad"),
            ("optimizer", optimizer, "step"),
        ):
            patches.enter_context(patch.object(owner, name, timed(part, getattr(owner, name))))
        yield


def breakdown(recipe, precision) -> dict[str, float]:
    """Seconds an epoch takes in each part of its steps, and in all else."""
    spent = {}
    train_on = our_way(precision, recipe)
    train_on(5)  # warm up
    with counting(spent, Muon if recipe.optimizer == "muon" else torch.optim.Adam):
        total = seconds(train_on, EPOCH * CLASSIC.batch_size // recipe.batch_size)
    return {**spent, "other": total - sum(spent.values())}


def operations(images: int) -> int:
    """Floating-point operations of one forward and backward pass, counted layer by layer."""
    model = MNISTNet()
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(images, 1, 28, 28)).sum().backward()
    return counter.get_total_flops()


def peak_rate(precision) -> float:
    """The most floating-point operations a second that a matrix product reaches here."""
    device, rates = choose_device(), []
    for size in (1024, 2048, 4096):
        matrix = torch.randn(size, size, device=device, dtype=precision)
        rates += [2 * size**3 / seconds(torch.mm, matrix, matrix) for _ in range(10)]
    return max(rates)


def test_time() -> float:
    """Seconds that a test on all 10,000 images takes."""
    dataset = load("mnist").to(choose_device())
    model = MNISTNet().to(choose_device(), memory_format=torch.channels_last)
    return statistics.median(seconds(train.evaluate, model, dataset) for _ in range(5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=117, help="in a piece")
    args = parser.parse_args()

    native = choose_precision(choose_device())
    ways = {"the original's way": (original_piece,), "ours, fp32": (our_way, torch.float32)}
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

    parts = {recipe.name: breakdown(recipe, native) for recipe in (CLASSIC, FAST)}
    print("\n| part of an epoch | " + " | ".join(f"{name}, s | share" for name in parts) + " |")
    print("|---|" + "---:|---:|" * len(parts))
    for part in parts["classic"]:
        cells = (f"{p[part]:.2f} | {100 * p[part] / sum(p.values()):.1f} %" for p in parts.values())
        print(f"| {part} | {' | '.join(cells)} |")
    print(f"\nTesting 10,000 images: {test_time():.2f} s, once an epoch")
    count, peak = operations(1), peak_rate(native)
    print(f"{count / 1e6:.1f} million floating-point operations an image, forward and backward.")
    print(f"A matrix product reaches {peak / 1e9:,.0f} thousand million a second here;")
    for name, spent in parts.items():
        rate = EPOCH * CLASSIC.batch_size * count / (spent["forward"] + spent["backward"])
        print(
            f"{name}'s forward and backward {rate / 1e9:,.0f}, {100 * rate / peak:.1f} % of that."
        )
    start = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, "-c", FIRST_BATCH, folder]
            start.append(seconds(subprocess.run, words, stdout=subprocess.DEVNULL))
    print(f"From the start of the process to the first training batch: {min(start):.1f} s")


if __name__ == "__main__":
    main()
