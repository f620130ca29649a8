"""What leaves a run's bits alone, and what does not: `python -m tests.benchmarks.determinism`.

Trains on the bundled digits on the CPU, three seeds each way, in processes of their own.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SEEDS = range(3)
OPTIONS = ["--recipe", "classic", "--dataset", "digits", "--device", "cpu"]
OPTIONS += ["--epochs", "3", "--batch-size", "48"]
WAYS = {  # the environment, and how many processes
    "nothing": ({}, 1),
    "a processor without AMX and AVX-512": (
        {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
        1,
    ),
    "float32 instead of bfloat16": ({"S4_TEST_FLOAT32": "1"}, 1),
    "2 processes instead of 1": ({}, 2),
    "2 threads instead of 1": ({"OMP_NUM_THREADS": "2"}, 1),
}
TRAIN = """
import os, sys, torch
if os.environ.get("S4_TEST_FLOAT32"):
    torch.cpu.get_capabilities = dict
from s4lib.__main__ import main
for seed in sys.argv[2].split(","):
    main(["train", *sys.argv[3:], "--seed", seed, "--out", f"{sys.argv[1]}/{seed}"])
"""


def train(folder: Path, environment: dict, processes: int) -> None:
    script = folder.with_suffix(".py")
    script.write_text(TRAIN)
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
    for seeds in [",".join(map(str, SEEDS))] if processes == 1 else map(str, SEEDS):
        subprocess.run(
            [*(start if processes > 1 else start[:1]), script, folder, seeds, *OPTIONS],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), **environment},
            check=True,
            capture_output=True,
        )


def main() -> int:
    print("| what changes | the weights' bits | test accuracy |")
    print("|---|---|---:|")
    first = None
    with tempfile.TemporaryDirectory() as scratch:
        for number, (way, (environment, processes)) in enumerate(WAYS.items()):
            for again in range(2 if number == 0 else 1):
                folder = Path(scratch, f"{number}-{again}")
                train(folder, environment, processes)
                weights = [(folder / str(seed) / "weights.pt").read_bytes() for seed in SEEDS]
                bits = [hashlib.sha256(content).hexdigest() for content in weights]
                first = first or bits
            runs = [json.loads((folder / str(seed) / "history.json").read_text()) for seed in SEEDS]
            ends = [run["epochs"][-1]["test_accuracy"] for run in runs]
            print(
                f"| {way} | {'the same' if bits == first else 'others'} "
                f"| {statistics.mean(ends):.1f} ± {statistics.stdev(ends):.1f}% |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
