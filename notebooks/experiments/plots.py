"""The figures of `notebooks/README.md`: functions of the experiments' runs."""

import math
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from matplotlib.ticker import MaxNLocator

from notebooks.experiments.catalogue import BASE
from notebooks.experiments.report import early_and_late, measured, range_test
from notebooks.experiments.runner import MARKS
from s4lib.plots import BLUE, GREEN, GREY, ORANGE, Figure, styled

Results = dict[str, list[dict]]  # the runs of every variant, a run for each seed


def accuracies(runs: list[dict]) -> list[float]:
    return [run["test_accuracy"] for run in runs]


@styled
def dots(results: Results, title: str, lowest: float | None = None) -> Figure:
    """Test accuracy of every run, a row for each variant; the mean is a bar, the reference, which
    is the first variant, a dashed line.

    Runs below `lowest` are left out of the picture and written beside its edge.
    """
    fig = Figure(figsize=(8, 0.42 * len(results) + 1.3))
    ax = fig.subplots()
    values = [accuracies(runs) for runs in results.values()]
    lowest = lowest or min(map(min, values)) - 0.1
    for row, ones in enumerate(values):
        inside = [one for one in ones if one >= lowest]
        ax.plot(inside, [row] * len(inside), "o", color=BLUE, alpha=0.7, ms=6, mew=0)
        if mean(ones) >= lowest:
            ax.plot([mean(ones)], [row], "|", color="black", ms=17, mew=2, zorder=3)
        if outside := sorted(one for one in ones if one < lowest):
            text = "◂ " + ", ".join(f"{one:.2f}" for one in outside)
            text += f"; mean {mean(ones):.2f}" if mean(ones) < lowest else ""
            ax.text(lowest, row, text, va="center", fontsize=9, color=ORANGE)
    ax.axvline(mean(values[0]), color=GREY, lw=1, ls="--")
    ax.set_yticks(range(len(values)), list(results))
    ax.set(xlabel="test accuracy (%)", ylim=(len(values) - 0.5, -0.5), xlim=(lowest, None))
    ax.grid(visible=False, axis="y")
    ax.set_title(title)
    return fig


@styled
def against_parameters(results: Results, title: str) -> Figure:
    """Mistakes on the test images against the number of parameters, both logarithmic."""
    fig = Figure(figsize=(8, 3.6))
    ax = fig.subplots()
    sizes = [runs[0]["parameters"] for runs in results.values()]
    wrong = [[100 - one for one in accuracies(runs)] for runs in results.values()]
    for size, ones in zip(sizes, wrong, strict=True):
        ax.plot([size] * len(ones), ones, "o", color=BLUE, alpha=0.6, ms=6, mew=0)
    ax.plot(sizes, [mean(ones) for ones in wrong], color=BLUE, lw=1.2)
    ax.set(xscale="log", yscale="log", xlabel="parameters", ylabel="mistakes (%)", title=title)
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ticks = [tick for tick in (1, 2, 3, 4, 5, 7, 10, 20) if tick < 1.2 * max(map(max, wrong))]
    ax.set_yticks(ticks, list(map(str, ticks)))
    ax.minorticks_off()
    for (name, _), size, ones in zip(results.items(), sizes, wrong, strict=True):
        ax.annotate(name, (size, max(ones)), (4, 4), textcoords="offset points", fontsize=9)
    return fig


@styled
def learning_rates(ranged: list[dict], results: Results) -> Figure:
    """The range test, loss against a growing learning rate; below it, whole runs at some rates."""
    fig = Figure(figsize=(8, 5.4))
    top, bottom = fig.subplots(2, 1, sharex=True)
    for run in ranged:
        top.plot(*range_test([run], smoothed=1), color=GREY, lw=0.6, alpha=0.6)
    rates, losses = range_test(ranged)
    top.plot(rates, losses, color=BLUE)
    top.axhline(math.log(10), color=GREY, lw=1, ls="--")
    top.text(rates[0], math.log(10) - 0.05, "ln 10: guessing", va="top", fontsize=9)
    top.set(xscale="log", ylabel="loss of the batch", ylim=(0, 4))
    top.set_title("range test: the learning rate grows with every batch")
    rates = [runs[0]["settings"]["lr"] for runs in results.values()]
    for rate, runs in zip(rates, results.values(), strict=True):
        bottom.plot([rate] * len(runs), accuracies(runs), "o", color=BLUE, alpha=0.7, mew=0)
    bottom.plot(rates, [mean(accuracies(runs)) for runs in results.values()], color=BLUE, lw=1.2)
    bottom.set(xlabel="learning rate", ylabel="test accuracy (%)")
    bottom.set_title("whole runs that begin at this learning rate")
    return fig


@styled
def gradient_noise(runs: list[dict]) -> Figure:
    """Distance of a batch's gradient from the whole one against the batch size."""
    fig = Figure(figsize=(8, 3.4))
    ax = fig.subplots()
    sizes = [int(size) for size in runs[0]["noise"]]
    for run in runs:
        ax.plot(sizes, run["noise"].values(), "o-", color=BLUE, lw=1, alpha=0.7)
    first = mean(run["noise"][str(sizes[0])] for run in runs)
    law = [first * math.sqrt(sizes[0] / size) for size in sizes]
    ax.plot(sizes, law, "--", color=GREY, label="∝ 1/√(batch size)")
    ax.set(xscale="log", yscale="log", xlabel="batch size", ylabel="distance / length")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.set_yticks([0.25, 0.5, 1, 2, 4], ["¼", "½", "1", "2", "4"])
    ax.minorticks_off()
    ax.set_title("how far a batch's gradient is from that of 8,192 images")
    ax.legend()
    return fig


@styled
def reliability(results: Results) -> Figure:
    """Share predicted correctly against the probability claimed, before and after scaling."""
    fig = Figure(figsize=(4.1 * len(results), 4))
    for ax, (name, runs) in zip(
        fig.subplots(1, len(results), squeeze=False)[0], results.items(), strict=True
    ):
        ax.plot([0, 1], [0, 1], "--", color=GREY, lw=1)
        for when, colour, marker in (("before", ORANGE, "o"), ("after", BLUE, "s")):
            for number, run in enumerate(runs):
                bins = [one for one in run[when]["bins"] if one["images"] >= 20]
                ax.plot(
                    [one["confidence"] for one in bins],
                    [one["accuracy"] for one in bins],
                    marker,
                    color=colour,
                    alpha=0.7,
                    ms=6,
                    mew=0,
                    label=f"{when} scaling" if not number else None,
                )
        ax.set(xlabel="probability claimed", ylabel="share correct", aspect="equal")
        ax.set(xlim=(0.2, 1.02), ylim=(0.2, 1.02), title=name)
        ax.legend(loc="upper left")
    return fig


@styled
def gaps(results: Results, title: str) -> Figure:
    """Training and test accuracy of every variant, the gap between them drawn as a line."""
    fig = Figure(figsize=(8, 0.45 * len(results) + 1.5))
    ax = fig.subplots()
    for row, runs in enumerate(results.values()):
        test = mean(accuracies(runs))
        train = mean(run["train_accuracy"] for run in runs)
        ax.plot([test, train], [row, row], color=GREY, lw=3, alpha=0.5, zorder=1)
        ax.errorbar(
            test, row, xerr=stdev(accuracies(runs)), fmt="o", color=BLUE, ms=7, capsize=3,
            label=None if row else "test",
        )  # fmt: skip
        ax.plot([train], [row], "s", color=ORANGE, ms=7, label=None if row else "training")
    ax.set_yticks(range(len(results)), list(results))
    ax.set(xlabel="accuracy (%)", ylim=(len(results) - 0.5, -0.5), title=title)
    ax.grid(visible=False, axis="y")
    ax.legend(loc="best", frameon=True)
    return fig


@styled
def early_signs(curves: dict[str, dict], marks) -> Figure:
    """Final rank of every variant against its rank so early, a panel for each moment."""
    fig = Figure(figsize=(9, 2.9))
    ranks = {
        mark: np.argsort(np.argsort([-mean(curve[mark]) for curve in curves.values()])) + 1
        for mark in (*marks, "end")
    }
    axes = fig.subplots(1, len(marks), sharey=True)
    for ax, mark in zip(axes, marks, strict=True):
        ax.plot([1, len(curves)], [1, len(curves)], "--", color=GREY, lw=1)
        ax.plot(ranks[mark], ranks["end"], "o", color=GREEN, ms=5, mew=0)
        ax.set(title=f"after {mark} updates", xlabel="rank then (1 = best)", aspect="equal")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes[0].set_ylabel("final rank (1 = best)")
    axes[0].yaxis.set_major_locator(MaxNLocator(4, integer=True))
    return fig


BUDGET = f"{BASE.images:,} images, {BASE.epochs} epochs"


def figures(folder: Path) -> dict[str, Figure]:
    """Those figures for which `folder` has results, by name."""
    results = {
        name: measured(name, folder)
        for name in ("width", "lr_range", "lr", "noise", "softmax", "dropout", "norm")
    }
    ranged = [run for runs in results["lr_range"].values() for run in runs]
    noisy = [run for runs in results["noise"].values() for run in runs]
    curves = early_and_late(folder)
    drawn = {
        "width": len(results["width"]) > 2
        and against_parameters(results["width"], f"one network, several widths: {BUDGET}"),
        "lr": len(results["lr"]) > 1 and ranged and learning_rates(ranged, results["lr"]),
        "noise": noisy and gradient_noise(noisy),
        "softmax": results["softmax"] and reliability(results["softmax"]),
        "dropout": len(results["dropout"]) > 1
        and gaps(results["dropout"], "training and test accuracy, without turning the images"),
        "norm": len(results["norm"]) > 2
        and dots(results["norm"], f"with and without batch normalisation: {BUDGET}", 91),
        "early": len(curves) >= 6 and early_signs(curves, MARKS),
    }
    return {name: figure for name, figure in drawn.items() if figure}
