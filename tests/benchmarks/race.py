"""How long until 99.4 %? Two examples, the original's way, CLASSIC, FAST and SPRINT, in turns.

    python -m tests.benchmarks.race

Every run has a process of its own and the machine to itself. The clock starts when the process
begins to read MNIST from disk and runs through all training and all tests. The original's way
ends with its first epoch at 99.4 %, ours and the examples of PyTorch and of Keras with their own
last; FAST and SPRINT count from start to end.
Keeps all runs in notebooks/results/race.json, draws images/race.png and prints a Markdown table;
with --draw, of the runs that are kept. A way with 0 runs keeps those of an earlier race.
Needs MNIST in $S4_DATA or ./data.
"""

import argparse
import json
import multiprocessing
import os
import time
from itertools import product
from pathlib import Path
from statistics import mean

import torch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from notebooks.assignment.model_answer import Net
from s4lib import MNISTNet, fit, load
from s4lib.history import markdown, spread
from s4lib.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, Figure, save_figure, styled
from s4lib.recipes import CLASSIC, FAST, GOAL, NETWORKS
from s4lib.runtime.checkpoint import atomic_write
from s4lib.runtime.progress import silence
from tests.benchmarks.peers import PEERS, original_way, train
from tests.benchmarks.records import SPRINT

SKY = "#56B4E9"  # Okabe and Ito's sixth colour
EPOCH = 468  # batches of 128
IMAGES, KERAS_IMAGES = 60_000, 54_000  # in a whole epoch, all but a few of them
ORIGINAL = "the original's way"
OURS = {
    "classic": (NETWORKS["classic"], CLASSIC),
    "fast": (NETWORKS["fast"], FAST),
    "sprint": (Net, SPRINT),
}
LOOKS = {
    **{ORIGINAL: (GREY, "s", ":"), "classic": (BLUE, "o", "--"), "fast": (ORANGE, "^", "-")},
    **{"sprint": (SKY, "P", "-"), "PyTorch's example": (GREEN, "v", ":")},
    "Keras's example": (PURPLE, "D", ":"),
}


def peak_memory() -> float:
    """The process's largest in MiB: of the GPU if there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource  # which Windows lacks

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def original(seed: int) -> dict:
    start = time.perf_counter()
    torch.manual_seed(seed)
    train_on, test, schedule = original_way()
    seconds, accuracies = [], []
    while len(accuracies) < CLASSIC.epochs and max(accuracies, default=0) < GOAL:
        train_on(EPOCH)
        schedule.step()
        accuracies.append(test())
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "accuracies": accuracies}


def ours(way: str, seed: int) -> dict:
    start = time.perf_counter()
    network, recipe = OURS[way]
    _, history = fit(network, load("mnist"), recipe, seed)
    end = time.perf_counter() - start
    epochs = history.epochs
    return {
        "seconds": [end - sum(later.seconds for later in epochs[e.epoch :]) for e in epochs],
        "accuracies": [epoch.test_accuracy for epoch in epochs],
    }


def worker(pipe, way: str, seed: int) -> None:
    with silence():
        if way in PEERS:
            run = train(way, seed)
        else:
            run = original(seed) if way == ORIGINAL else ours(way, seed)
    pipe.send({"way": way, "seed": seed, **run, "MiB": peak_memory()})


def to_goal(run: dict) -> tuple[int, float] | None:
    """Epochs and seconds until the run was at 99.4 %; FAST's, SPRINT's and an example's until it
    was over.
    """
    if run["way"] in ("fast", "sprint", *PEERS):
        return len(run["seconds"]), run["seconds"][-1]
    for epoch, accuracy in enumerate(run["accuracies"], 1):
        if accuracy >= GOAL:
            return epoch, run["seconds"][epoch - 1]
    return None


def trained_on(way: str, epochs: int) -> float:
    """How many images that is."""
    share = OURS[way][1].share if way in OURS else lambda _: 1
    whole = KERAS_IMAGES if way == "Keras's example" else IMAGES
    return whole * sum(share(epoch) for epoch in range(1, 1 + epochs))


def table(runs: list[dict]) -> str:
    """A row for each way. Only those that get to 99.4 % are compared with the first."""
    header = ["way of training", "parameters", "runs", "epochs", "time (s)", "times as fast"]
    rows, first = [], None
    for way in dict.fromkeys(run["way"] for run in runs):
        its = [run for run in runs if run["way"] == way]
        reached = [
            (*point, run["accuracies"][point[0] - 1]) for run in its if (point := to_goal(run))
        ]
        epochs, seconds, then = zip(*reached, strict=True)
        rate = sum(trained_on(way, n) for n in epochs) / sum(seconds)
        network = PEERS[way][0] if way in PEERS else OURS.get(way, [MNISTNet])[0]
        epochs, seconds = mean(epochs), mean(seconds)
        first = first or seconds
        times = f"{first / seconds:.1f}" if mean(then) >= GOAL else ""
        parameters = sum(parameter.numel() for parameter in network().parameters())
        memory = max(run["MiB"] for run in its)
        rows.append(
            [
                *(way, f"{parameters:,}", str(len(its)), f"{epochs:.1f}", f"{seconds:.1f}"),
                *(times, f"{rate:,.0f}"),
                *(spread(then), f"{memory:,.0f} MiB"),
            ]
        )
    return markdown([*header, "images per second", "accuracy", "peak memory"], rows)


@styled
def figure(runs: list[dict]) -> Figure:
    """Test accuracy against seconds and against epochs: every run, and the mean of several."""
    fig = Figure(figsize=(11, 4.8))
    left, right = fig.subplots(1, 2, sharey=True)
    ways = list(dict.fromkeys(run["way"] for run in runs))
    for way in ways:
        color, marker, line = LOOKS[way]
        its = [run for run in runs if run["way"] == way]
        means = {
            key: [mean(values) for values in zip(*(run[key] for run in its), strict=True)]
            for key in ("seconds", "accuracies")
        }
        one = {"color": color, "marker": ".", "ls": "-", "ms": 4, "lw": 0.6, "alpha": 0.4}
        all_of_them = {"color": color, "marker": marker, "ls": line, "ms": 6, "lw": 1.6}
        label = f"{way}, mean of {len(its)}" if len(its) > 1 else way
        for ax, x in ((left, "seconds"), (right, None)):
            for run in its if len(its) > 1 else ():
                ax.plot(run.get(x, range(1, 1 + len(run["accuracies"]))), run["accuracies"], **one)
            epochs = range(1, 1 + len(means["accuracies"]))
            ax.plot(means.get(x, epochs), means["accuracies"], label=label, **all_of_them)
    for ax in (left, right):
        ax.axhline(GOAL, color=GREY, lw=1, ls="-.")
    right.text(19.3, GOAL - 0.015, f"{GOAL} %", color=GREY, va="top", ha="right")
    left.set(
        xscale="log", xlabel="seconds since the start, on a logarithmic scale",
        ylabel="test accuracy (%)",
    )  # fmt: skip
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_locator(NullLocator())
    right.set(xlabel="epoch", xlim=(0.5, 19.5), ylim=(97.9, 99.6))
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    right.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="white")
    fig.suptitle(f"The way to {GOAL} % on MNIST", x=0.01, ha="left")
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--original", type=int, default=1, help="runs of the original's way (1)")
    parser.add_argument("--classic", type=int, default=1, help="runs of CLASSIC (1)")
    parser.add_argument("--fast", type=int, default=10, help="runs of FAST (10)")
    parser.add_argument("--sprint", type=int, default=10, help="runs of SPRINT (10)")
    parser.add_argument("--peers", type=int, default=1, help="runs of each example (1)")
    parser.add_argument("--results", type=Path, default=Path("notebooks/results"))
    parser.add_argument("--out", type=Path, default=Path("images"), help="folder for the picture")
    parser.add_argument("--draw", action="store_true", help="draw the runs that are kept")
    args = parser.parse_args()
    kept = args.results / "race.json"
    if args.draw:
        report = json.loads(kept.read_text())
        save_figure(figure(report["runs"]), args.out / "race.png")
        print(f"\n{report['machine']}\n\n{table(report['runs'])}")
        return
    counts = {ORIGINAL: args.original, "classic": args.classic, "fast": args.fast}
    counts |= {"sprint": args.sprint, **dict.fromkeys(PEERS, args.peers)}
    spawn, runs = multiprocessing.get_context("spawn"), []
    turns = product(range(max(counts.values())), counts)
    for way, seed in ((way, seed) for seed, way in turns if seed < counts[way]):
        pipe, far_end = spawn.Pipe()
        process = spawn.Process(target=worker, args=(far_end, way, seed), daemon=True)
        process.start()
        runs.append(pipe.recv())
        process.join()
        print(f"{way}, seed {seed}: {runs[-1]['accuracies'][-1]:.2f} %", flush=True)
    cuda = torch.cuda.is_available()
    where = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} CPU cores"
    if kept.exists():
        earlier = json.loads(kept.read_text())["runs"]
        runs += [run for run in earlier if not counts[run["way"]]]
    runs.sort(key=lambda run: [*counts].index(run["way"]))
    report = {"machine": f"{where}, torch {torch.__version__}", "runs": runs}
    atomic_write(kept, json.dumps(report, indent=1).encode())
    save_figure(figure(runs), args.out / "race.png")
    print(f"\n{report['machine']}\n\n{table(runs)}")


if __name__ == "__main__":
    main()
