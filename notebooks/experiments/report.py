"""Write the experiments' results as the Markdown tables of `notebooks/README.md`."""

import re
from collections import Counter
from functools import cache
from itertools import combinations
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

import numpy as np
from scipy.stats import false_discovery_control, rankdata, ttest_ind

from notebooks.experiments import channels
from notebooks.experiments.catalogue import BASE, EXPERIMENTS, FEWEST_SEEDS, Variant
from notebooks.experiments.runner import MARKS, read
from notebooks.experiments.variants import build, multiplications
from s4lib.history import markdown, spread
from s4lib.receptive_field import receptive_fields

Runs = list[dict]  # the runs of one variant, one for each seed

FAILED = 50  # per cent: a run that ends below it has failed
FALSE_DISCOVERIES = 0.05  # of the claimed differences, at most this share is expected to be chance
JUST_UNDER = 0.04  # up to this limit, a difference is called borderline
LARGE = 1  # points: differences from here on are corrected by themselves
SMALL = 0.5  # points: smaller differences are claimed only if both rows have so many seeds
ENOUGH_SEEDS = 6


class Difference(NamedTuple):
    """Mean accuracy of a variant minus that of its experiment's first variant, in points."""

    points: float
    low: float  # the 95 % interval over seeds
    high: float
    word: str  # better, worse, borderline or no clear difference


def accuracies(runs: Runs) -> list[float]:
    return [run["held_out_accuracy"] for run in runs]


def failures(runs: Runs) -> int:
    return sum(accuracy < FAILED for accuracy in accuracies(runs))


def centre(values: list[float], runs: Runs) -> float:
    """Return the mean; if some of the runs failed, the median, because a mean would say nothing."""
    return median(values) if failures(runs) else mean(values)


def accuracy_cell(runs: Runs) -> str:
    if failed := failures(runs):
        return f"{median(accuracies(runs)):.2f}, median; {failed} of {len(runs)} failed"
    return spread(accuracies(runs))


def rank_test(ours: list[float], theirs: list[float]) -> float:
    """Return the two-sided p-value of Mann and Whitney's test, exact also with equal accuracies.

    It is the share, of all ways to deal the ranks to two groups of these sizes, in which the first
    group's sum is at least as far from its mean as here. Equal accuracies share their ranks.
    """
    ranks = (2 * rankdata([*ours, *theirs])).astype(int).tolist()
    ways = Counter({(0, 0): 1})  # {(how many ranks are dealt, their sum): the number of ways}
    for rank in ranks:
        ways += Counter({(n + 1, total + rank): count for (n, total), count in ways.items()})
    sums = {total: count for (n, total), count in ways.items() if n == len(ours)}
    centre = len(ours) * sum(ranks) / len(ranks)
    found = abs(sum(ranks[: len(ours)]) - centre)
    return sum(count for total, count in sums.items() if abs(total - centre) >= found) / sum(
        sums.values()
    )


def differences(kept: dict[Variant, Runs]) -> dict[tuple[Variant, Variant], Difference]:
    """Compare the variants with the first of their experiment: {(first, variant): difference}.

    The interval is Welch's, over seeds. Better and worse are claimed if the interval does not hold
    0 and the exact rank test, corrected for many comparisons (Benjamini and Hochberg 1995), agrees.
    All experiments are corrected together, but differences of a point and more in a pool of their
    own, because they would make the smaller ones look surer. Below half a point, three seeds are
    too few for a claim. Variants with a failed run are not compared.
    """
    tested = {}
    for experiment in EXPERIMENTS.values():
        first, *others = experiment.variants.values()
        for variant in others if experiment.compared else ():
            groups = [kept.get(one, []) for one in (variant, first)]
            if min(map(len, groups)) >= FEWEST_SEEDS and not any(map(failures, groups)):
                ours, theirs = map(accuracies, groups)
                interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval()
                found = mean(ours) - mean(theirs), *map(float, interval)
                fewest = min(len(ours), len(theirs))
                tested[first, variant] = found, fewest, rank_test(ours, theirs)
    compared = {}
    for large in (False, True):
        pool = {k: v for k, v in tested.items() if (abs(v[0][0]) >= LARGE) == large}
        corrected = false_discovery_control([p for *_, p in pool.values()]) if pool else []
        compared |= {
            pair: Difference(*found, word(found, fewest, q))
            for (pair, (found, fewest, _)), q in zip(pool.items(), corrected, strict=True)
        }
    return compared


def word(found: tuple[float, float, float], fewest_seeds: int, corrected: float) -> str:
    """Name a difference, from its interval, the seeds and the corrected p-value."""
    points, low, high = found
    if low <= 0 <= high:
        return "no clear difference"
    if corrected > JUST_UNDER or (abs(points) < SMALL and fewest_seeds < ENOUGH_SEEDS):
        return "borderline"
    return "better" if points > 0 else "worse"


def signed(points: float) -> str:
    return f"{points:+.2f}".replace("-", "−")


def plain(value: float) -> str:
    """Return two decimals with the sign as it is printed, and 0 without one."""
    return f"{round(float(value), 2) + 0:.2f}".replace("-", "−")


def difference_cell(found: Difference | None) -> str:
    if found is None:
        return ""
    return f"{signed(found.points)} ({signed(found.low)} to {signed(found.high)}), {found.word}"


@cache
def last_convolution(words: str):
    """Return the row of `receptive_fields` before global average pooling."""
    return [row for row in receptive_fields(build(words)) if not row.layer.endswith("gap")][-1]


def words(runs: Runs) -> str:
    return runs[0]["settings"]["network"]


def dead_cell(runs: Runs) -> str:
    """Return the mean number of dead channels over the runs, and the number of channels."""
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
    """Return the variants of an experiment with enough seeds: {name: runs}."""
    runs = {label: kept.get(one, []) for label, one in EXPERIMENTS[name].variants.items()}
    return {label: ones for label, ones in runs.items() if len(ones) >= FEWEST_SEEDS}


def table(name: str, results: dict[str, Runs], compared: dict | None = None) -> str:
    """Return an experiment's runs in Markdown, a row per variant; `compared` has differences."""
    _, variants, columns, is_compared = EXPERIMENTS[name]
    rows = [[label, *(COLUMNS[one](runs) for one in columns)] for label, runs in results.items()]
    header = ["", *columns]
    if compared and is_compared and len(rows) > 1:
        first, *_ = variants.values()
        header.append("minus row 1 (95 % interval)")
        rows = [[*row, difference_cell(compared.get((first, variants[row[0]])))] for row in rows]
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
    """Return the first variant's highest probability for images with and without a digit."""
    runs = next(iter(results.values()))
    rows = [
        [kind, spread([100 * run["sure"][kind] for run in runs], 1)] for kind in runs[0]["sure"]
    ]
    return markdown(["image", "highest probability (%)"], rows)


def range_test(runs: Runs, smoothed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Return learning rates, and the mean loss of the runs there, averaged over so many batches."""
    setting, updates = runs[0]["settings"], runs[0]["updates"]
    shortest = min(len(run["losses"]) for run in runs)
    losses = np.mean([run["losses"][:shortest] for run in runs], axis=0)
    smooth = np.convolve(losses, np.ones(smoothed) / smoothed, "valid")
    factor = setting["ramp"] / setting["lr"]
    return setting["lr"] * factor ** ((np.arange(len(smooth)) + smoothed // 2) / updates), smooth


def early_and_late(kept: dict[Variant, Runs]) -> list[dict]:
    """Return the accuracy by update of every variant with as many images and updates as MNISTNet.

    {50: accuracies on images set aside, one per seed, …, "end": held-out accuracies} for each.
    """
    as_base = BASE.images, BASE.epochs, BASE.batch_size
    return [
        {mark: [run["early"][str(mark)] for run in runs[:FEWEST_SEEDS]] for mark in MARKS}
        | {"end": accuracies(runs[:FEWEST_SEEDS])}
        for variant, runs in kept.items()
        if len(runs) >= FEWEST_SEEDS
        and (variant.images, variant.epochs, variant.batch_size) == as_base
        and not variant.updates
        and not variant.measure
        and not any(run["diverged"] for run in runs)
    ]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Spearman's rank correlation along the last axis."""
    x, y = (rankdata(one, axis=-1) for one in (x, y))
    x, y = (one - one.mean(-1, keepdims=True) for one in (x, y))
    return (x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))


def early_table(curves: list[dict], resamples: int = 1000) -> str:
    """Return Spearman's rank correlation of early with final accuracy, averaged over the seeds.

    The first column has all variants, the second the half that ends best. The last row compares the
    final accuracies of two seeds, averaged over all pairs, as a scale. The 95 % intervals are over
    variants: the table is made again of variants drawn with replacement.
    """
    by_end = sorted(curves, key=lambda curve: -mean(curve["end"]))
    groups = {f"all {len(by_end)}": by_end, f"best {len(by_end) // 2}": by_end[: len(by_end) // 2]}
    rows = [[str(mark)] for mark in MARKS] + [["the end, of another seed"]]
    for group in groups.values():
        drawn = np.random.default_rng(0).integers(len(group), size=(resamples, len(group)))
        drawn = np.concatenate([np.arange(len(group))[None], drawn])  # first the table itself
        at = {  # (draws, seeds, variants)
            mark: np.array([curve[mark] for curve in group])[drawn].swapaxes(1, 2)
            for mark in (*MARKS, "end")
        }
        found = [rank_correlation(at[mark], at["end"]).mean(1) for mark in MARKS]
        pairs = combinations(range(at["end"].shape[1]), 2)
        again = [rank_correlation(at["end"][:, one], at["end"][:, two]) for one, two in pairs]
        for row, draws in zip(rows, [*found, np.mean(again, axis=0)], strict=True):
            low, high = np.nanquantile(draws[1:], (0.025, 0.975))
            row.append("{} ({} to {})".format(*map(plain, (draws[0], low, high))))
    return markdown(["updates", *groups], rows)


def tables(folder: Path) -> dict[str, str]:
    """Return every table of `notebooks/README.md` that has runs, by its comment's name."""
    kept = read(folder)
    results = {name: measured(name, kept) for name in EXPERIMENTS}
    compared = differences(kept)
    found = {
        name: table(name, runs, compared)
        for name, runs in results.items()
        if runs and EXPERIMENTS[name].columns
    }
    if runs := results.get("softmax"):
        found |= {"softmax": softmax_table(runs), "no digits": no_digits_table(runs)}
    if len(curves := early_and_late(kept)) >= 6:
        found["early"] = early_table(curves)
    if text := channels.table(folder):
        found["channels"] = text
    return found


def filled(page: str, found: dict[str, str]) -> str:
    """Return the page with these tables, each below the comment with its name.

    A table without runs gets the command that makes them.
    """
    later = "*Not measured yet: `python -m notebooks.experiments`*"
    place = r"(<!-- table: (.+) -->\n)(?:.+\n)*"
    return re.sub(place, lambda one: f"{one[1]}{found.get(one[2], later)}\n", page)
