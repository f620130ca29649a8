"""How good is the network of the table, any network that the assignment allows, a small one?

    python -m tests.benchmarks.records consistent
    python -m tests.benchmarks.records open
    python -m tests.benchmarks.records small --seeds 5

trains the networks by the recipe CONSISTENT on all of MNIST, one run a core, and prints a Markdown
table: `consistent` is `MNISTNet`; `open` is the assignment's model answer; `small` are plain
networks of 2,000 to 20,000 parameters. Nothing is chosen by what they print: seeds are counted from
0, and the last epoch is a run's result. "Five views" averages the log-probabilities of an image and
of its copies moved by half a pixel to the four sides. Runs are kept in runs/records/, and the same
command continues them; their histories go to notebooks/results/. Needs MNIST in $S4_DATA or ./data.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn

from notebooks.assignment.model_answer import Net, convolution
from s4lib import CONSISTENT, Dataset, History, MNISTNet, fit, load, predict
from s4lib.__main__ import save_figure
from s4lib.augment import affine
from s4lib.history import dump, markdown, spread
from s4lib.plots import BLUE, GREY, Figure, styled
from s4lib.runtime.checkpoint import atomic_write
from s4lib.runtime.progress import silence

RUNS, RESULTS = Path("runs", "records"), Path("notebooks", "results")
HALF_A_PIXEL = [(0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)]


def plain(*channels: int) -> nn.Sequential:
    """The model answer's plan with other numbers of channels, of its six convolutions."""
    a, b, c, d, e, f = channels
    return nn.Sequential(
        *(convolution(1, a), convolution(a, b), nn.MaxPool2d(2)),
        *(convolution(b, c), convolution(c, d), nn.MaxPool2d(2)),
        *(convolution(d, e, padding=0), convolution(e, f, padding=0)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(f, 10), nn.LogSoftmax(dim=1)),
    )


SIZES = [
    (4, 4, 6, 6, 8, 10),  # 2,058 parameters
    (4, 6, 6, 8, 10, 12),  # 3,030
    (5, 6, 8, 8, 10, 14),  # 3,555
    (6, 8, 8, 10, 12, 16),  # 4,880
    (8, 8, 10, 12, 16, 20),  # 7,414
    (8, 12, 12, 16, 20, 24),  # 11,594
    (8, 16, 16, 24, 24, 32),  # 19,650: the model answer without its dropout
]
CLAIMED = [  # parameters and accuracy of the smallest published, the best epoch of one run
    (697, 99.03),  # JoshWarn/Parameter-Efficient-MNIST, the best of about 700 runs
    (4968, 99.45),  # Shankarganesh127, ERA v4
    (7070, 99.4),  # nitin-vig, ERA v4
    (7784, 99.47),  # SXD390, ERA v4
    (13808, 99.58),  # the same, another network
]
NETWORKS = {
    "consistent": {"MNISTNet": partial(MNISTNet, 0.03, 0.03)},
    "open": {"model answer": Net},
    "small": {"-".join(map(str, size)): partial(plain, *size) for size in SIZES},
}


def views(model: nn.Module, dataset: Dataset) -> float:
    """Per cent of the test images that are predicted correctly from five views of each."""
    images, labels = dataset.test
    count, images = len(labels), images.float()
    log_probs: Tensor | float = 0.0
    for right, down in HALF_A_PIXEL:
        shift = torch.tensor([[right, down]]).expand(count, 2)
        moved = affine(images, torch.zeros(count), shift, torch.ones(count))
        log_probs = log_probs + predict(model, dataset.normalise(moved))
    return 100 * (log_probs.argmax(1) == labels).float().mean().item()


def run(record: str, name: str, seed: int) -> tuple[History, float]:
    torch.set_num_threads(1)
    dataset, out = load("mnist"), RUNS / f"{name.replace(' ', '-')}-{seed}"
    with silence():
        model, history = fit(NETWORKS[record][name], dataset, CONSISTENT, seed, "cpu", out)
    return history, views(model, dataset)


def row(name: str, runs: list[tuple[History, float]], settled: int) -> list[str]:
    histories, averaged = zip(*runs, strict=True)
    curves = [[epoch.test_accuracy for epoch in history.epochs] for history in histories]
    last = [curve[-1] for curve in curves]
    means = [mean(accuracies) for accuracies in zip(*curves, strict=True)]
    return [
        *(name, f"{histories[0].parameters:,}", str(len(runs)), spread(last, 3)),
        *(f"{min(last):.2f}", f"{min(min(curve[settled - 1 :]) for curve in curves):.2f}"),
        *(f"{min(means[4:]):.3f}", f"{mean(averaged):.3f}"),
    ]


@styled
def against_parameters(runs: list[History]) -> Figure:
    """The last epoch's accuracy against the number of parameters, and what others claim."""
    fig = Figure(figsize=(8.3, 4.2))
    ax = fig.subplots()
    sizes = [run.parameters for run in runs]
    ax.plot(sizes, [run.epochs[-1].test_accuracy for run in runs], "o", c=BLUE, ms=4, alpha=0.5)
    by_size = {size: [run for run in runs if run.parameters == size] for size in sorted({*sizes})}
    means = [mean(run.epochs[-1].test_accuracy for run in its) for its in by_size.values()]
    ax.plot([*by_size], means, c=BLUE, label="ours: last epoch, every seed and the mean")
    ax.plot(
        *zip(*CLAIMED, strict=True), "D", c=GREY, mfc="none", label="others: best epoch, one run"
    )
    ax.axhline(99.4, color=GREY, lw=1, ls="-.", label="99.4 %")
    ax.set(xlabel="parameters", ylabel="test accuracy (%)", title="Small networks on MNIST")
    ax.legend(loc="lower right")
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("record", choices=NETWORKS)
    parser.add_argument("--seeds", type=int, default=10, help="how many, from 0 on (10)")
    args = parser.parse_args()
    settled = 6 if args.record == "open" else 8
    rows, kept = [], []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        futures = {
            name: [pool.submit(run, args.record, name, seed) for seed in range(args.seeds)]
            for name in NETWORKS[args.record]
        }
        for name, submitted in futures.items():
            runs = [future.result() for future in submitted]
            kept += [history for history, _ in runs]
            rows.append(row(name, runs, settled))
    header = ["network", "parameters", "seeds", "last epoch", "lowest seed"]
    header += [f"lowest from epoch {settled} on", "lowest mean from epoch 5 on", "five views"]
    print(markdown(header, rows))
    atomic_write(RESULTS / f"{args.record}.json", dump(kept).encode())
    if args.record == "small":
        save_figure(against_parameters(kept), Path("images", "small.png"))


if __name__ == "__main__":
    main()
