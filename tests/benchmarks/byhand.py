"""Forward and backward for 128 images, by hand and by PyTorch: seconds, and the ratio.

python -m tests.benchmarks.byhand [--rounds 7]
"""

import argparse
import os
import statistics
import time

import torch
from threadpoolctl import threadpool_limits

from backprop.record import record
from backprop.referee import by_autograd
from backprop.tape import backward, forward
from s4lib.model import MNISTNet

COUNT = 128


def seconds(function, *arguments):
    """Return how long one call takes."""
    started = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - started


def differentiate(steps, values, labels):
    """Compute by hand all that `by_autograd` computes."""
    return backward(steps, forward(steps, values), labels)


def main():
    """Alternate the two, so that whatever else the machine does slows both; print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each (7)")
    rounds = max(1, parser.parse_args().rounds)

    torch.manual_seed(0)
    net = MNISTNet().double()
    images, labels = torch.randn(COUNT, 1, 28, 28).double(), torch.randint(10, (COUNT,))
    ours = *record(net, images), labels.numpy()
    theirs = net, images, labels

    torch.set_num_threads(1)  # one core each: a fair ratio, on a busy machine too
    with threadpool_limits(1, "blas"):
        differentiate(*ours), by_autograd(*theirs)  # warm up
        times = [
            (seconds(differentiate, *ours), seconds(by_autograd, *theirs)) for _ in range(rounds)
        ]
    by_hand, by_torch = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(ours / theirs for ours, theirs in times)
    print(f"{COUNT} images, forward and backward, float64, medians of {rounds}:")
    print(f"by hand {by_hand:.2f} s, PyTorch {by_torch:.2f} s, ratio {ratio:.1f}")
    print(f"on one core of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
