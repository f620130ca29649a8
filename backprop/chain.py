"""`python -m backprop.chain`: the largest learning rates at which chains of linear units descend.

It measures them for several depths and starts, keeps them in notebooks/results/chain.csv, and
prints the table of backprop/README.md.
"""

import csv
import io
from pathlib import Path

import numpy as np

from s4lib.runtime.checkpoint import atomic_write

RESULTS = Path(__file__).parents[1] / "notebooks/results/chain.csv"
DEPTHS = (1, 2, 4, 8, 16)
STARTS = (0.5, 1.1, 1.5)
RATES = np.geomspace(1e-6, 100, 1852)  # 1% apart
ROUNDING = 1e-15  # a smaller rise does not count


def slope(w, depth: int):
    """Return ∂E/∂w of each weight of a chain of `depth` linear units, if all weights are w.

    Input 1, target 1: y = w^depth, E = ½ (y − 1)², ∂E/∂w = (y − 1) · w^(depth − 1).
    """
    return (w**depth - 1) * w ** (depth - 1)


def chain(rates: np.ndarray, depth: int, start: float, steps: int = 100) -> np.ndarray:
    """Return the error of a chain at every step, for every rate: (steps + 1, len(rates)).

    The weights get the same gradient, so they stay equal and one number stands for all. An error
    beyond the range of float64 is infinite.
    """
    w = np.full(len(rates), start)
    curves = []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps + 1):
            curves.append((w**depth - 1) ** 2 / 2)
            w = w - rates * slope(w, depth)
    return np.nan_to_num(curves, nan=np.inf, posinf=np.inf)


def first_rising(depth: int, start: float) -> float:
    """Return the smallest of RATES at which some step of a hundred raises the error."""
    curves = chain(RATES, depth, start)
    return float(RATES[(curves[1:] > curves[:-1] + ROUNDING).any(axis=0).argmax()])


def measured() -> str:
    """Return comma-separated values, a line for every depth and start."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["depth", "start", "slope", "first_rising_rate"])
    for depth in DEPTHS:
        for start in STARTS:
            rate = first_rising(depth, start)
            lines.writerow([depth, start, f"{slope(start, depth):.3g}", f"{rate:.3g}"])
    return text.getvalue()


def digits(number: str, count: int) -> str:
    return np.format_float_positional(float(number), count, fractional=False, trim="-")


def table(text: str) -> str:
    """Turn the lines of `measured` into the Markdown table of the page."""
    cells = {
        (depth, start): f"{digits(rate, 3)} ({digits(at_start, 2)})"
        for depth, start, at_start, rate in [*csv.reader(io.StringIO(text))][1:]
    }
    lines = [["depth", *(f"all weights {start}" for start in STARTS)], ["---:"] * (1 + len(STARTS))]
    lines += [[str(n), *(cells[str(n), str(w)] for w in STARTS)] for n in DEPTHS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("(-", "(−")


def main() -> None:
    text = measured()
    atomic_write(RESULTS, text.encode())
    print(table(text))


if __name__ == "__main__":
    main()
