"""What the experiments have shown, as the Markdown tables of `notebooks/README.md`."""

import re
from functools import cache
from pathlib import Path
from statistics import mean, median

import numpy as np
from scipy.stats import false_discovery_control, mannwhitneyu, spearmanr

from notebooks.experiments.catalogue import BASE, EXPERIMENTS, FEWEST_SEEDS, Variant
from notebooks.experiments.runner import MARKS, read
from notebooks.experiments.variants import build, multiplications
from s4lib.history import markdown, spread
from s4lib.receptive_field import receptive_fields

Runs = list[dict]  # of one variant, a run for each seed

FAILED = 50  # per cent: a run that ends below has failed
FALSE_DISCOVERIES = 0.05  # at most so many of the differences found are expected to be chance


def accuracies(runs: Runs) -> list[float]:
    return [run["held_out_accuracy"] for run in runs]


def failures(runs: Runs) -> int:
    return sum(accuracy < FAILED for accuracy in accuracies(runs))


def centre(values: list[float], runs: Runs) -> float:
    """The mean, which says nothing where some of the runs failed: there the median."""
    return median(values) if failures(runs) else mean(values)


def accuracy_cell(runs: Runs) -> str:
    if failed := failures(runs):
        return f"{median(accuracies(runs)):.2f}, median; {failed} of {len(runs)} failed"
    return spread(accuracies(runs))


def verdicts(kept: dict[Variant, Runs]) -> dict[tuple[Variant, Variant], str]:
    """How the variants compare with the first of their experiment: {(first, variant): verdict}.

    The exact test of Mann and Whitney, no matter which is higher, which asks nothing but how often
    a run of the one is above a run of the other; then the correction of Benjamini and Hochberg
    (1995) over all comparisons of all experiments.
    """
    differences = {}
    for experiment in EXPERIMENTS.values():
        first, *others = experiment.variants.values()
        for variant in others if experiment.compared else ():
            ours, theirs = (accuracies(kept.get(one, [])) for one in (variant, first))
            if min(len(ours), len(theirs)) >= FEWEST_SEEDS:
                p = mannwhitneyu(ours, theirs, method="exact").pvalue
                differences[first, variant] = (median(ours) - median(theirs), p)
    chance = false_discovery_control([p for _, p in differences.values()]) if differences else []
    return {
        pair: "not told apart" if q > FALSE_DISCOVERIES else "better" if difference > 0 else "worse"
        for (pair, (difference, _)), q in zip(differences.items(), chance, strict=True)
    }


@cache
def last_convolution(words: str):
    """The row of `receptive_fields` before global average pooling."""
    return [row for row in receptive_fields(build(words)) if not row.layer.endswith("gap")][-1]


def words(runs: Runs) -> str:
    return runs[0]["settings"]["network"]


def dead_cell(runs: Runs) -> str:
    """The mean over the runs, and of how many channels."""
    dead = mean(sum(dead for dead, _ in run["dead"]) for run in runs)
    return f"{dead:.1f} of {sum(channels for _, channels in runs[0]['dead'])}"


COLUMNS = {
    "parameters": lambda runs: f"{runs[0]['parameters']:,}",
    "multiplications": lambda runs: f"{multiplications(words(runs)) / 1e6:.1f} million",
    "sees": lambda runs: str(last_convolution(words(runs)).receptive_field),
    "last map": lambda runs: "{0}×{0}".format(last_convolution(words(runs)).size),
    "updates": lambda runs: f"{runs[0]['updates']:,}",
    "dead channels": dead_cell,
    "training accuracy": lambda runs: f"{centre([r['train_accuracy'] for r in runs], runs):.2f}",
    "gap": lambda runs: spread([r["train_accuracy"] - r["held_out_accuracy"] for r in runs]),
    "held-out accuracy": accuracy_cell,
}


def measured(name: str, kept: dict[Variant, Runs]) -> dict[str, Runs]:
    """The variants of an experiment that enough seeds have been run of: {name: runs}."""
    runs = {label: kept.get(one, []) for label, one in EXPERIMENTS[name].variants.items()}
    return {label: ones for label, ones in runs.items() if len(ones) >= FEWEST_SEEDS}


def table(name: str, results: dict[str, Runs], compared: dict | None = None) -> str:
    """An experiment's runs in Markdown, a row for every variant; `compared` are the verdicts."""
    _, variants, columns, is_compared = EXPERIMENTS[name]
    rows = [[label, *(COLUMNS[one](runs) for one in columns)] for label, runs in results.items()]
    header = ["", *columns]
    if compared and is_compared and len(rows) > 1:
        first, *_ = variants.values()
        header.append("than the first row")
        rows = [[*row, compared.get((first, variants[row[0]]), "")] for row in rows]
    return markdown(header, rows)


def softmax_table(results: dict[str, Runs]) -> str:
    rows = []
    for label, runs in results.items():
        for when in ("before", "after"):
            errors = [100 * run[when]["error"] for run in runs]
            losses = [run[when]["loss"] for run in runs]
            temperature = spread([run["temperature"] for run in runs]) if when == "after" else "1"
            rows.append([label, temperature, spread(errors), spread(losses, 4)])
    return markdown(["", "temperature", "calibration error (%)", "held-out loss"], rows)


def no_digits_table(results: dict[str, Runs]) -> str:
    """How sure the first variant is of images, digits or not."""
    runs = next(iter(results.values()))
    rows = [
        [kind, spread([100 * run["sure"][kind] for run in runs], 1)] for kind in runs[0]["sure"]
    ]
    return markdown(["image", "highest probability (%)"], rows)


def range_test(runs: Runs, smoothed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates, and the loss there: the mean of the runs, then of so many batches."""
    setting, updates = runs[0]["settings"], runs[0]["updates"]
    shortest = min(len(run["losses"]) for run in runs)
    losses = np.mean([run["losses"][:shortest] for run in runs], axis=0)
    smooth = np.convolve(losses, np.ones(smoothed) / smoothed, "valid")
    factor = setting["ramp"] / setting["lr"]
    return setting["lr"] * factor ** ((np.arange(len(smooth)) + smoothed // 2) / updates), smooth


def early_and_late(kept: dict[Variant, Runs]) -> list[dict]:
    """Every variant that saw as many images in as many updates as MNISTNet: accuracy by update.

    {50: accuracies on images set aside, of a seed each, …, "end": held-out accuracies} of each.
    """
    as_base = BASE.images, BASE.epochs, BASE.batch_size
    return [
        {mark: [run["early"][str(mark)] for run in runs[:FEWEST_SEEDS]] for mark in MARKS}
        | {"end": accuracies(runs[:FEWEST_SEEDS])}
        for variant, runs in kept.items()
        if (variant.images, variant.epochs, variant.batch_size) == as_base
        and not variant.updates
        and not variant.measure
        and len(runs) >= FEWEST_SEEDS
        and not any(run["diverged"] for run in runs)
    ]


def early_table(curves: list[dict]) -> str:
    """Spearman's rank correlation of accuracy so early with the final one, within a seed and
    averaged over the seeds: of all variants, and of the half that ends best.
    """
    by_end = sorted(curves, key=lambda curve: -mean(curve["end"]))
    groups = {f"all {len(by_end)}": by_end, f"best {len(by_end) // 2}": by_end[: len(by_end) // 2]}
    rows = []
    for mark in MARKS:
        rows.append([str(mark)])
        for group in groups.values():
            # (seeds, variants)
            early, end = (np.transpose([curve[at] for curve in group]) for at in (mark, "end"))
            seeds = [spearmanr(*pair).statistic for pair in zip(early, end, strict=True)]
            rows[-1].append(f"{mean(seeds):.2f}")
    return markdown(["updates", *groups], rows)


def tables(folder: Path) -> dict[str, str]:
    """Every table of `notebooks/README.md` for which there are runs, by its comment's name."""
    kept = read(folder)
    results = {name: measured(name, kept) for name in EXPERIMENTS}
    compared = verdicts(kept)
    found = {
        name: table(name, runs, compared)
        for name, runs in results.items()
        if runs and EXPERIMENTS[name].columns
    }
    if runs := results.get("softmax"):
        found |= {"softmax": softmax_table(runs), "no digits": no_digits_table(runs)}
    if len(curves := early_and_late(kept)) >= 6:
        found["early"] = early_table(curves)
    return found


def filled(page: str, folder: Path) -> str:
    """The page with the tables brought up to date, each below a comment that names it.

    Where there is none yet, the page says how to get it.
    """
    found, later = tables(folder), "*Not measured yet: `python -m notebooks.experiments`*"
    place = r"(<!-- table: (.+) -->\n)(?:.+\n)*"
    return re.sub(place, lambda one: f"{one[1]}{found.get(one[2], later)}\n", page)
