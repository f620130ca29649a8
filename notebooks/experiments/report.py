"""What the experiments have shown, as the Markdown tables of `notebooks/README.md`."""

import math
import re
from functools import cache
from operator import itemgetter
from pathlib import Path
from statistics import mean, stdev

import numpy as np
from scipy.stats import spearmanr

from notebooks.experiments.catalogue import BASE, EXPERIMENTS, Variant
from notebooks.experiments.runner import MARKS, SEEDS, owner, read, runs_of
from notebooks.experiments.variants import build, multiplications
from s4lib.history import markdown
from s4lib.receptive_field import receptive_fields

Runs = list[dict]  # of one variant, a run for each seed


def spread(values, digits: int = 2) -> str:
    """Mean ± standard deviation; of one value, the value."""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


@cache
def last_convolution(words: str):
    """The row of `receptive_fields` before global average pooling."""
    return [row for row in receptive_fields(build(words)) if not row.layer.endswith("gap")][-1]


def words(runs: Runs) -> str:
    return runs[0]["settings"]["network"]


def epoch_seconds(run: dict) -> float:
    """Of the processor, for 10,000 images."""
    return 10_000 * run["seconds"] / (run["updates"] * run["settings"]["batch_size"])


COLUMNS = {
    "parameters": lambda runs: f"{runs[0]['parameters']:,}",
    "multiplications": lambda runs: f"{multiplications(words(runs)) / 1e6:.1f} million",
    "sees": lambda runs: str(last_convolution(words(runs)).receptive_field),
    "last map": lambda runs: "{0}×{0}".format(last_convolution(words(runs)).size),
    "updates": lambda runs: f"{runs[0]['updates']:,}",
    "seconds for 10,000 images": lambda runs: f"{mean(map(epoch_seconds, runs)):.1f}",
    "training accuracy": lambda runs: f"{mean(run['train_accuracy'] for run in runs):.2f}",
    "gap": lambda runs: spread([run["train_accuracy"] - run["test_accuracy"] for run in runs]),
    "worst run": lambda runs: f"{min(run['test_accuracy'] for run in runs):.2f}",
    "test accuracy": lambda runs: spread([run["test_accuracy"] for run in runs]),
}


def measured(name: str, folder: Path) -> dict[str, Runs]:
    """The variants of an experiment that enough seeds have been run of: {name: runs}."""
    runs = {label: runs_of(folder, one) for label, one in EXPERIMENTS[name].variants.items()}
    return {label: kept for label, kept in runs.items() if len(kept) >= SEEDS}


def table(name: str, results: dict[str, Runs]) -> str:
    """An experiment's runs in Markdown, a row for every variant."""
    if name in SPECIAL:
        return SPECIAL[name](results)
    columns = EXPERIMENTS[name].columns
    rows = [[label, *(COLUMNS[one](runs) for one in columns)] for label, runs in results.items()]
    return markdown(["", *columns], rows)


def noise_table(results: dict[str, Runs]) -> str:
    (runs,) = results.values()
    rows = [[f"{int(n):,}", spread([run["noise"][n] for run in runs])] for n in runs[0]["noise"]]
    return markdown(["batch size", "distance from the whole gradient, in its lengths"], rows)


def softmax_table(results: dict[str, Runs]) -> str:
    rows = []
    for label, runs in results.items():
        for when in ("before", "after"):
            errors = [100 * run[when]["error"] for run in runs]
            losses = [run[when]["loss"] for run in runs]
            temperature = spread([run["temperature"] for run in runs]) if when == "after" else "1"
            rows.append([label, temperature, spread(errors), spread(losses, 4)])
    return markdown(["", "temperature", "calibration error (%)", "test loss"], rows)


def no_digits_table(results: dict[str, Runs]) -> str:
    """What the first variant says to images, digits or not: how often it is more than 90 % sure."""
    runs = next(iter(results.values()))
    shown = {"test digits": [run["test digits"] for run in runs]} | {
        kind: [run["no digits"][kind] for run in runs] for kind in runs[0]["no digits"]
    }
    rows = [
        [
            kind,
            spread([100 * s["mean"] for s in sure], 1),
            spread([s["above 0.9"] for s in sure], 1),
        ]
        for kind, sure in shown.items()
    ]
    return markdown(["image", "highest probability (%)", "images above 90 % (%)"], rows)


def range_test(runs: Runs, smoothed: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Learning rates, and the loss there: the mean of the runs, then of so many batches."""
    setting, updates = runs[0]["settings"], runs[0]["updates"]
    shortest = min(len(run["losses"]) for run in runs)
    losses = np.mean([run["losses"][:shortest] for run in runs], axis=0)
    smoothed = min(smoothed, shortest)
    smooth = np.convolve(losses, np.ones(smoothed) / smoothed, "valid")
    factor = setting["ramp"] / setting["lr"]
    return setting["lr"] * factor ** ((np.arange(len(smooth)) + smoothed // 2) / updates), smooth


def range_table(results: dict[str, Runs]) -> str:
    (runs,) = results.values()
    rates, losses = range_test(runs)
    lowest = losses.argmin()
    guessing = math.log(10)
    moments = {
        "has fallen by a tenth": (losses < 0.9 * guessing).argmax(),
        "is lowest": lowest,
        f"is first above guessing ({guessing:.2f}) again":
            lowest + (losses[lowest:] > guessing).argmax(),
    }  # fmt: skip
    rows = [[name, f"{rates[at]:.2g}", f"{losses[at]:.2f}"] for name, at in moments.items()]
    return markdown(["the loss …", "at the learning rate", "loss"], rows)


SPECIAL = {"noise": noise_table, "softmax": softmax_table, "lr_range": range_table}


def early_and_late(folder: Path) -> dict[str, dict]:
    """Every variant that saw as many images in as many updates as MNISTNet: accuracy by update.

    {experiment and variant: {50: held-out accuracies, a seed each, …, "end": test accuracies}}
    """
    curves = {}
    kept = [run for name in EXPERIMENTS for run in read(folder, name)]
    for run in sorted(kept, key=itemgetter("seed")):
        settings = Variant(**run["settings"])
        alike = (settings.images, settings.batch_size) == (BASE.images, BASE.batch_size)
        if alike and not settings.updates and not settings.measure and not run["diverged"]:
            curves.setdefault(settings, []).append(run)
    return {
        ": ".join(owner(settings)): {
            mark: [run["early"][str(mark)] for run in runs[:SEEDS]] for mark in MARKS
        }
        | {"end": [run["test_accuracy"] for run in runs[:SEEDS]]}
        for settings, runs in curves.items()
        if len(runs) >= SEEDS
    }


def early_table(curves: dict[str, dict]) -> str:
    """Spearman's rank correlation of accuracy so early with the final one: of all variants, and of
    the half that ends best; of the means over the seeds, and within a seed, averaged over them.
    """
    by_end = sorted(curves.values(), key=lambda curve: -mean(curve["end"]))
    groups = {f"all {len(by_end)}": by_end, f"best {len(by_end) // 2}": by_end[: len(by_end) // 2]}
    rows = [[str(mark)] for mark in MARKS]
    for row, mark in zip(rows, MARKS, strict=True):
        for group in groups.values():
            early, end = ([curve[at] for curve in group] for at in (mark, "end"))
            of_means = spearmanr([*map(mean, early)], [*map(mean, end)]).statistic
            seeds = zip(zip(*early, strict=True), zip(*end, strict=True), strict=True)
            of_seeds = [spearmanr(*both).statistic for both in seeds]
            row += [f"{of_means:.2f}", f"{mean(of_seeds):.2f}"]
    header = [f"{group}: {what}" for group in groups for what in ("means", "one seed")]
    return markdown(["updates", *header], rows)


def tables(folder: Path) -> dict[str, str]:
    """Every table of `notebooks/README.md` for which there are runs, by its comment's name."""
    results = {name: measured(name, folder) for name in EXPERIMENTS}
    found = {name: table(name, runs) for name, runs in results.items() if runs}
    if results.get("softmax"):
        found["no digits"] = no_digits_table(results["softmax"])
    if len(curves := early_and_late(folder)) >= 6:
        found["early"] = early_table(curves)
    return found


def filled(page: str, folder: Path) -> str:
    """The page with the tables brought up to date, each below a comment that names it.

    Where there is none yet, the page says how to get it.
    """
    found = tables(folder)

    def fill(match) -> str:
        experiment = {"no digits": "softmax", "early": ""}.get(match[2], match[2])
        command = f"python -m notebooks.experiments {experiment}".strip()
        return match[1] + found.get(match[2], f"*Not measured yet: `{command}`*") + "\n"

    return re.sub(r"(<!-- table: (.+) -->\n)(?:.+\n)*", fill, page)
