"""How much faster are two processes than one? `python -m tests.benchmarks.processes`

A step of training is forward, backward and the optimizer, on the CPU with one thread a process.
Each figure is the fastest of several rounds, because other programs only ever slow a step down.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from s4lib.model import MNISTNet
from s4lib.runtime.device import choose_precision
from s4lib.runtime.distributed import init_distributed, parallel, rank, shard, world_size

SIZES = (32, 64, 128, 256, 512, 1024)
ROUNDS = 8


def step_seconds(folder: str) -> None:
    """Write the seconds of a step, by batch size, as measured by the first process."""
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    with init_distributed(cpu):
        model = MNISTNet().to(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        network, fastest = parallel(model), {}
        for size in SIZES:
            images, labels = torch.randn(size, 1, 28, 28), torch.randint(10, (size,))
            images, labels = shard(images, labels)
            seconds = []
            for _ in range(ROUNDS):
                started = time.perf_counter()
                for _ in range(4):
                    with torch.autocast("cpu", choose_precision(cpu)):
                        loss = F.nll_loss(network(images), labels)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                seconds.append((time.perf_counter() - started) / 4)
            fastest[size] = min(seconds)
        if rank() == 0:
            Path(folder, f"{world_size()}.json").write_text(json.dumps(fastest))


def main() -> int:
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            config = LaunchConfig(
                1, 1, count, rdzv_backend="c10d", rdzv_endpoint="localhost:0", run_id=str(count),
                start_method="fork", max_restarts=0,
            )  # fmt: skip
            elastic_launch(config, step_seconds)(folder)
        one, two = (json.loads(Path(folder, f"{count}.json").read_text()) for count in (1, 2))
    print("| images in a batch | ms a step, one process | two processes | times as fast |")
    print("|---:|---:|---:|---:|")
    for size in map(str, SIZES):
        print(
            f"| {size} | {1000 * one[size]:.1f} | {1000 * two[size]:.1f} "
            f"| {one[size] / two[size]:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
