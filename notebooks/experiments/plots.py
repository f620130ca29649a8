"""The figures of `notebooks/README.md`, drawn from the experiments' runs."""

import math
from pathlib import Path
from statistics import mean

from notebooks.experiments.report import (
    FAILED,
    accuracies,
    failures,
    measured,
    range_test,
)
from notebooks.experiments.runner import read
from s4lib.plots import BLUE, GREY, ORANGE, Figure, styled

Results = dict[str, list[dict]]  # the runs of every variant, one for each seed


@styled
def against_parameters(results: Results) -> Figure:
    """Draw mistakes on the held-out images against the number of parameters, both logarithmic."""
    fig = Figure(figsize=(8, 3.6))
    ax = fig.subplots()
    results = dict(sorted(results.items(), key=lambda item: item[1][0]["parameters"]))
    sizes = [runs[0]["parameters"] for runs in results.values()]
    # No mistakes are drawn as one in 10,000, because a logarithmic axis has no 0.
    wrong = [
        [max(100 - accuracy, 0.01) for accuracy in accuracies(runs)] for runs in results.values()
    ]
    for name, size, percents in zip(results, sizes, wrong, strict=True):
        ax.plot([size] * len(percents), percents, "o", color=BLUE, alpha=0.6, ms=6, mew=0)
        ax.annotate(name, (size, max(percents)), (4, 4), textcoords="offset points", fontsize=9)
    ax.plot(sizes, [mean(percents) for percents in wrong], color=BLUE, lw=1.2)
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="mistakes (%)")
    ax.set_title("the same network at several widths")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ticks = (0.01, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100)
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_ylim(0.8 * min(map(min, wrong)), 1.25 * max(map(max, wrong)))
    ax.minorticks_off()
    return fig


@styled
def learning_rates(ranged: Results, results: Results) -> Figure:
    """Draw the range test, loss against a growing learning rate, and below it whole runs."""
    fig = Figure(figsize=(8, 5.4))
    top, bottom = fig.subplots(2, 1, sharex=True)
    for runs in ranged.values():
        for run in runs:
            top.plot(*range_test([run], smoothed=1), color=GREY, lw=0.6, alpha=0.6)
        rates, losses = range_test(runs)
        top.plot(rates, losses, color=BLUE)
        lowest = losses.argmin()
        top.annotate(f"lowest at {rates[lowest]:.2g}", (rates[lowest], losses[lowest]), (0, 36),
                     textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
        top.text(rates[0], math.log(10) - 0.05, "ln 10: guessing", va="top", fontsize=9)
    top.axhline(math.log(10), color=GREY, lw=1, ls="--")
    top.set(xscale="log", ylabel="loss of the batch", ylim=(0, 4))
    top.set_title("range test: the learning rate grows with every batch")
    for runs in results.values():
        rate = runs[0]["settings"]["lr"]
        learned = [accuracy for accuracy in accuracies(runs) if accuracy >= FAILED]
        bottom.plot([rate] * len(learned), learned, "o", color=BLUE, alpha=0.7, mew=0)
        if failed := failures(runs):
            text = f"{failed} of {len(runs)}\nfailed"
            bottom.annotate(text, (rate, 0.03), (8, 0), xycoords=("data", "axes fraction"),
                            textcoords="offset points", fontsize=9, color=ORANGE)  # fmt: skip
    bottom.set(xlabel="learning rate", ylabel="held-out accuracy (%)")
    bottom.set_title("whole runs that begin at this learning rate")
    return fig


@styled
def reliability(results: Results) -> Figure:
    """Draw the share predicted correctly against the claimed probability, also after scaling."""
    fig = Figure(figsize=(3.6 * len(results), 4))
    for ax, (name, runs) in zip(
        fig.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True
    ):
        ax.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
        for when, colour, marker in (("before", ORANGE, "o"), ("after", BLUE, "s")):
            for number, run in enumerate(runs):
                bins = [bucket for bucket in run[when]["bins"] if bucket["images"] >= 20]
                points = (
                    [bucket["confidence"] for bucket in bins],
                    [bucket["accuracy"] for bucket in bins],
                )
                label = None if number else f"{when} scaling"
                ax.plot(*points, marker, color=colour, alpha=0.7, ms=6, mew=0, label=label)
        ax.set(xlabel="probability claimed", ylabel="share correct", aspect="equal")
        ax.set(xlim=(0.2, 1.02), ylim=(0.2, 1.02), title=name)
        ax.legend(loc="upper left")
    return fig


def figures(folder: Path) -> dict[str, Figure]:
    """Return the figures for which `folder` has results, by name."""
    kept = read(folder)
    draw = {
        "width": against_parameters,
        "lr": lambda runs: learning_rates(measured("lr_range", kept), runs),
        "softmax": reliability,
    }
    return {name: draw[name](runs) for name in draw if (runs := measured(name, kept))}
