"""Grade a student's workbook in any layout.

Every required number is looked for by its value, in all cells of all visible sheets. Then the
inputs, targets and weights are changed, by random amounts, and all formulas are calculated again: a
number that does not follow was pasted. Each result is judged with the student's own cells before
it, so that a slip costs its own points only and is named.
"""

import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from backprop.formulas import HIDDEN_LAYER, OUTPUT_LAYER, label
from backprop.network import ERRORS, GRADIENTS, RATES, UNITS
from notebooks.assignment.personal import CLASS, Numbers, personal_numbers
from notebooks.assignment.spreadsheet import Book, Place, WorkbookError, read
from notebooks.assignment.workbook_cells import NAMES, Cells
from notebooks.assignment.workbook_slips import (
    RIGHT,
    SYMBOLS,
    double_slips,
    evaluate,
    in_cells,
    slips,
)
from notebooks.assignment.workbook_trainings import STEPS, Training, Trainings, lost_dollar

POINTS = {"forward pass": 1.0, "errors": 0.5, "gradients": 2.0, "trainings": 1.5, "chart": 1.0}
FEW = 3  # so many may be typed wrongly: with more, the numbers are somebody else's
MISTYPED = 0.25  # points that each of them costs
PARTS = ("none of", "an eighth of", "a quarter of", "three eighths of", "half", "five eighths of")
DRAWN = 20  # cells of a curve, at least
PROJECT = Path(__file__).resolve().parents[2] / "backprop" / "backpropagation.xlsx"


class Finding(NamedTuple):
    """What was found of a number: how much it counts, its cell, and what is wrong with it."""

    credit: float
    fault: str = ""
    index: int | None = None
    formula: str | None = None  # the student's own; None if it isn't known


def check_workbook(path: Path, student=None, numbers: Numbers | None = None) -> float:
    """Print what is right in the workbook at `path`, and return its points, of 6.

    The `numbers` are the `student`'s unless others are given.
    """
    try:
        lines, points = grade(Path(path), numbers or personal_numbers(student))
    except WorkbookError as problem:
        lines, points = [f"✗ {problem}", "0 points"], 0.0
    print(*lines, sep="\n")
    return points


def grade(path: Path, numbers: Numbers) -> tuple[list[str], float]:
    """Return a workbook's report and points; raises a WorkbookError if it can't be read."""
    book = read(path)
    copied = copied_sheets(book)
    if copied and copied >= {place.sheet for place in book.formulas}:
        raise WorkbookError(
            f"{path.name}: this is the project's own workbook, {PROJECT.name}, with other numbers "
            "or names at most. Build one of your own."
        )
    try:
        return judged(book, numbers, copied)
    except WorkbookError as problem:
        raise WorkbookError(f"{path.name}: {problem}") from None
    except (ArithmeticError, LookupError, RecursionError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"  # a formula that we did not foresee
        raise WorkbookError(f"{path.name}: it can't be checked ({reason}).") from error


def judged(book: Book, numbers: Numbers, copied: set[str]) -> tuple[list[str], float]:
    """Return the report and the points of a workbook; `copied` sheets earn nothing.

    A few wrongly typed numbers cost their own points, and all else is judged with them.
    """
    lines, points, typed = assessed(book, numbers, copied)
    if 0 < len(typed) <= FEW:
        flat = dict(zip(NAMES, sum(map(tuple, numbers), ()), strict=True))
        as_typed = flat | {name: value for name, (_, value) in typed.items()}
        others = [as_typed[name] for name in NAMES]
        again, most, _ = assessed(
            book, Numbers((*others[:2],), (*others[2:4],), (*others[4:],)), copied
        )
        if most - MISTYPED * len(typed) > points:
            points = most - MISTYPED * len(typed)
            wrong = (f"{n} = {flat[n]:g} ({at} has {value:g})" for n, (at, value) in typed.items())
            lines = [
                f"✗ typed numbers: {', '.join(wrong)}; they cost {MISTYPED * len(typed):g}, and "
                "all else is judged with what stands there",
                *again,
            ]
    points = round(float(points), 2)  # nbgrader gives full points for a number of NumPy's
    return [*lines, f"{points:g} of {sum(POINTS.values()):g} points"], points


def assessed(book: Book, numbers: Numbers, copied: set[str]) -> tuple[list[str], float, dict]:
    """Return the report for these numbers, its points, and the numbers typed instead."""
    cells = Cells(book, numbers, copied)
    found = Derivation(cells)
    lines, points = notes(cells, numbers, copied), 0.0
    for part, symbols in (("forward pass", UNITS), ("errors", ERRORS), ("gradients", GRADIENTS)):
        credit = sum(found[symbol].credit for symbol in symbols) / len(symbols)
        points += POINTS[part] * credit
        good = sum(found[symbol].credit == 1 for symbol in symbols)
        lines.append(headline(part, credit, f"{good} of {len(symbols)} right"))
        lines += faults(cells, found, symbols)

    trained = Trainings(cells, {symbol: found[symbol].formula for symbol in SYMBOLS}, found.own)
    trained = trained.find()
    share = sum(found[symbol].credit > 0 for symbol in GRADIENTS) / 8
    share = 1.0 if share >= 0.75 else share  # up to two wrong gradients cost their own points alone
    credits = [
        min(1.0, training.score) * (share if training.own else 1) for training in trained.values()
    ]
    points += POINTS["trainings"] * sum(credits) / len(RATES)
    good = f"{sum(training.score >= 1 for training in trained.values())} of {len(RATES)} right"
    if share < 1 and any(training.own and training.credits for training in trained.values()):
        good = good.replace("right", "follow your gradients")
    lines.append(headline("trainings", sum(credits) / len(RATES), good))
    lines += training_faults(cells, trained, share)

    drawn = curves_drawn(cells, found.own, trained)
    points += POINTS["chart"] * drawn / len(RATES)
    lines.append(headline("chart", drawn / len(RATES), f"{drawn} of {len(RATES)} curves"))
    return lines, points, cells.mistyped()


def notes(cells: Cells, numbers: Numbers, copied: set[str]) -> list[str]:
    """Return remarks on a workbook that come before its parts."""
    lines = list(cells.notes)
    if copied:
        names = ", ".join(f"“{title}”" for title in sorted(copied))
        lines.append(f"Copied from the project's own workbook, and worth no points: {names}.")
    if hidden := [title for title, shown in cells.book.visible.items() if not shown]:
        lines.append(f"Hidden, and worth no points: {', '.join(hidden)}.")
    if missing := cells.missing():
        listed = ", ".join(missing.values())
        lines.append(f"Asked for, and typed nowhere as numbers: {listed}.")
        if len(missing) > 6:
            whose = "a student's" if numbers == CLASS else "the class's, or somebody else's"
            lines.append(f"Are they {whose}? Give them with --inputs, --targets and --weights.")
    return lines


def headline(part: str, credit: float, text: str) -> str:
    """Return the line of a part of the report."""
    points = f"{round(POINTS[part] * credit, 2):g} of {POINTS[part]:g}"
    return f"{'✓' if credit == 1 else '✗'} {part}: {text} ({points})"


# The derivation


class Derivation(dict):
    """Return what was found of every symbol, {symbol: Finding}.

    Symbols come in the order of the derivation, and each is judged with the student's cells for
    those before it: `own` has their values.
    """

    def __init__(self, cells: Cells):
        super().__init__()
        self.cells, self.truth = cells, dict(cells.numbers)
        for symbol in SYMBOLS:
            self.truth[symbol] = evaluate(RIGHT[symbol], self.truth)
        self.taken, self.missing = claimed(cells, self.truth), {*cells.missing()}
        self.own = dict(cells.numbers)
        # The typed numbers that each depends on: in the student's sheet, and in a right one.
        self.depends = {name: {name} for name in cells.numbers}
        self.leads = dict(self.depends)
        for symbol in SYMBOLS:
            self.judge(symbol)

    def judge(self, symbol: str) -> None:
        """Find a symbol's cell, and what it shows about the symbols that depend on it."""
        self.leads[symbol] = inputs(RIGHT[symbol], self.leads)
        other = bool(self.missing & self.leads[symbol])
        wanted = [evaluate(RIGHT[symbol], self.own), self.truth[symbol]]
        if other:  # with other numbers than asked, nothing that depends on them is right
            wanted = wanted[1:]
        finding = self.right(symbol, wanted) or (other and self.astray(symbol))
        finding = finding or self.slipped(symbol)
        finding = finding or Finding(
            0.0, "not found", None, None if symbol in GRADIENTS else RIGHT[symbol]
        )
        self[symbol], at = finding, finding.index
        typed = at is not None and not self.cells.formula[at]
        formula = finding.formula or RIGHT[symbol]
        self.depends[symbol] = {symbol} if typed else inputs(formula, self.depends)
        values = wanted[0] if at is None or other else self.cells.values[:, at]
        self.own[symbol] = np.where(np.isfinite(values), values, wanted[0])

    def following(self, indices, want: np.ndarray, formula: str) -> np.ndarray:
        """Return which of these cells follow changed inputs as the formula does."""
        indices = np.array([*indices], int)
        needed = min(4, len(inputs(formula, self.depends)))
        return indices[self.cells.follow(indices, want, depends=needed)]

    def right(self, symbol: str, wanted: list[np.ndarray]) -> Finding | None:
        """Return a cell with the right number, also if it was rounded or pasted, or None."""
        cells, formula, others = self.cells, RIGHT[symbol], self.elsewhere(symbol)
        exact = [[k for k in cells.exact(want) if k not in others] for want in wanted]
        for want, spots in zip(wanted, exact, strict=True):
            live = self.following(spots, want, formula)
            if len(live):
                return Finding(1.0, "", live[0], formula)
        for want in wanted:
            rounded = cells.rounded(want)
            if len(rounded):
                best = min(rounded, key=lambda index: (cells.rounding[index], index))
                digits = round(-np.log10(cells.rounding[best]))
                fault = f"right, but rounded to {digits} digits by the formula"
                rule = f"ROUND({formula},{digits})"
                return Finding(1.0 if digits >= 6 else 0.5, fault, best, rule)
        for want, spots in zip(wanted, exact, strict=True):
            if spots:
                fault = "right, but the formula does not follow when the inputs change"
                return Finding(0.5, fault, spots[0], formula)
            pasted = cells.typed(want[0])
            if len(pasted):
                fault = "right, but typed or pasted: a number in place of a formula"
                return Finding(0.5, fault, pasted[0], formula)
        return None

    def headed(self, symbol: str) -> list[int]:
        """Return the cells that words name as a symbol's."""
        return [self.cells.index[place] for place in self.cells.headed(symbol)]

    def elsewhere(self, symbol: str) -> set[int]:
        """Return cells with another symbol's heading, if some have this one's.

        With i1 instead of i2, ∂E/∂w2 has the value of ∂E/∂w1, and must not be found for it.
        """
        own = self.headed(symbol)
        others = (k for s in SYMBOLS if own and s != symbol for k in self.headed(s))
        return {*others} - {*own}

    def astray(self, symbol: str) -> Finding:
        """Return what was found of a number that depends on inputs other than asked."""
        fault = "not right: it depends on numbers that are not there"
        return Finding(0.0, fault, next(iter(self.headed(symbol)), None), None)

    def slipped(self, symbol: str) -> Finding | None:
        """Return a cell with the result of a slip, or one with the symbol's heading, or None.

        A gradient's cell is also known from the update that uses it. If neither words nor an update
        name the cell, a cell that is right for something else is not chosen.
        """
        headed = self.headed(symbol)
        if symbol in GRADIENTS and not headed:
            headed = self.cells.updated(symbol.removeprefix("dE_d"))
        live = [index for index in headed if self.cells.formula[index]]
        for formula, hint, values in self.cases(symbol, bool(live)):
            want = evaluate(formula, values) + 0 * self.own["w1"]
            if not np.isfinite(want).all() or np.allclose(want, 0):
                continue
            spots = self.cells.exact(want)
            spots = [k for k in spots if (k in live if live else k not in self.taken)]
            spots = self.following(spots, want, formula)
            if len(spots):
                return Finding(0.0, hint, spots[0], formula if values is self.own else None)
        if live:
            return Finding(0.0, "not right, and none of the usual slips", live[0], None)
        if headed:
            return Finding(0.0, "not right, and a number in place of a formula", headed[0], None)
        return None

    def cases(self, symbol: str, located: bool):
        """Return what may have happened, as (formula, hint, values), the likeliest first.

        Two slips at once are looked for only where a cell is `located` and all before it are known.
        """
        own = self.own
        for formula, hint in slips(symbol).items():
            if ready(formula, own):
                yield formula, hint, own
        if symbol in GRADIENTS[:4]:
            for hint, new in early_weights(own):
                yield RIGHT[symbol], hint, own | new
        known = {*self.cells.numbers, *(s for s in self if self[s].index is not None)}
        if located and not any("{" + s + "}" in RIGHT[symbol] for s in own.keys() - known):
            for formula, hint in double_slips(symbol).items():
                if ready(formula, own):
                    yield formula, hint, own


def inputs(formula: str, depends: dict[str, set[str]]) -> set[str]:
    """Return the typed numbers that a formula's value depends on."""
    return set().union(*(depends.get(name, ()) for name in re.findall(r"{(\w+)}", formula)))


def claimed(cells: Cells, truth: dict) -> set[int]:
    """Return the cells that are right for some number, a result or a step on the way to one."""
    values = dict(truth)
    for symbol, _, _, formula in (*OUTPUT_LAYER, *HIDDEN_LAYER):
        values[symbol] = evaluate(formula, values)
    return {
        index
        for symbol, want in values.items()
        for index in cells.exact(want)
        if cells.follow(np.array([index]), want)[0]
    }


def ready(formula: str, own: dict) -> bool:
    """Return whether a formula uses nothing that comes only later in the derivation."""
    return {*re.findall(r"{(\w+)}", formula)} <= own.keys()


def early_weights(own: dict):
    """Return the output layer's weights after an update, as a hint and values for each rate."""
    for rate in RATES:
        new = {w: own[w] - rate * own[f"dE_d{w}"] for w in ("w5", "w6", "w7", "w8")}
        yield "the new w5 … w8 are used too early: all gradients take the old weights", new


def faults(cells: Cells, found: Derivation, symbols) -> list[str]:
    """Return a line for each fault: the cells, what is wrong, and the expected formula."""
    lines, groups = [], defaultdict(list)
    for symbol in symbols:
        if found[symbol].fault:
            groups[found[symbol].fault].append(symbol)
    for fault, names in groups.items():
        where = {s: cells.places[found[s].index] for s in names if found[s].index is not None}
        which = ", ".join(map(label, names))
        if where:
            first, *rest = where.values()
            rest = (p.address if p.sheet == first.sheet else str(p) for p in rest)
            which += f" ({', '.join((str(first), *rest))})"
        lines.append(f"    {which}: {fault}")
        if where and found[names[0]].credit == 0 and not fault.endswith("not there"):
            symbol, place = next(iter(where.items()))
            expected = in_cells(RIGHT[symbol], addresses(cells, symbol, place, found.own))
            lines.append(f"        {place} should be {expected}")
    return lines


def addresses(cells: Cells, symbol: str, place: Place, own: dict) -> dict[str, str]:
    """Return for each symbol of a formula the student's cell that is nearest to the formula's."""
    known = {}
    for name, values in own.items():
        if "{" + name + "}" not in RIGHT[symbol]:
            continue
        spots = cells.near(values[0], 1e-9 * abs(values[0]))
        headed = {cells.index[p] for p in cells.headed(name)}
        spots = [k for k in spots if k in headed] or [*spots]
        spots = [cells.places[k] for k in spots]
        if spots:
            far = min(
                spots,
                key=lambda p: (
                    p.sheet != place.sheet,
                    abs(p.row - place.row),
                    abs(p.column - place.column),
                ),
            )
            known[name] = far.address if far.sheet == place.sheet else str(far)
    return known


# The trainings


def training_faults(cells: Cells, trained: dict[float, Training], share: float) -> list[str]:
    """Return a line for each fault of the trainings; a fault of several rates has one line."""
    groups = defaultdict(list)
    for rate, training in trained.items():
        groups[training_fault(training)].append(rate)
    lines = [
        f"    {', '.join(f'η = {rate:g}' for rate in rates)}: {fault}"
        for fault, rates in groups.items()
        if fault
    ]
    if any(training.own and training.credits for training in trained.values()):
        right = round(8 * share)
        lines.append(
            "    The trainings follow your own formulas, and are judged by them."
            if share == 1
            else f"    The trainings follow your gradients, of which {right} of 8 are right: "
            f"they get {PARTS[right]} the points."
        )
    wrong = any(training.score < 1 for training in trained.values())
    if wrong and (lost := lost_dollar(cells)):
        lines.append(f"    {lost}")
    return lines


def training_fault(training: Training) -> str:
    """Return what is wrong with a training, or nothing."""
    if training.score >= 1:
        return ""
    if training.slip:
        return training.slip
    if not training.credits:
        return "not found"
    count = len(training.credits)
    fault = f"{count} of {STEPS} steps right" if count < STEPS else "all steps right"
    if training.pasted:
        which = (
            f"step {training.pasted[0]}"
            if len(training.pasted) == 1
            else f"{len(training.pasted)} steps"
        )
        fault += f", but {which} pasted, or not following when the inputs change"
    return fault


# The chart


def curves_drawn(cells: Cells, own: dict, trained: dict[float, Training]) -> int:
    """Return how many columns or rows of E_total the charts draw, one for each rate at most.

    A curve counts if it has the cells of a training, or begins with E_total.
    """
    book, drawn = cells.book, set()
    steps = {index for training in trained.values() for index in training.cells}
    start = own["E_total"][0]  # with other numbers than asked, the right E_total
    for chart in book.charts:
        if not book.visible[chart.sheet]:
            continue
        for series in chart.series:
            places = [p for p in book.cells(series, chart.sheet) if p in cells.index]
            indices = [cells.index[p] for p in places]
            indices = [k for k in indices if cells.earns[k]]
            if len(indices) < DRAWN:
                continue
            values = cells.values[0][indices]
            if len(steps.intersection(indices)) >= DRAWN or abs(values[0] - start) < 1e-5:
                drawn.add(tuple(indices))
    return min(len(drawn), len(RATES))


# The project's own workbook


@cache
def project_formulas() -> tuple[set[str], ...]:
    """Return the formulas of each sheet of the project's workbook, with references as distances."""
    return tuple(relative_formulas(read(PROJECT)).values())


def relative_formulas(book: Book) -> dict[str, set[str]]:
    """Return the formulas in the first rows of each sheet, with references as distances."""
    found = {title: set() for title in book.visible}
    for title, formulas in found.items():
        rows = sorted({place.row for place in book.formulas if place.sheet == title})[:40]
        last = rows[-1] if rows else 0  # the rest of a training repeats them
        formulas |= {book.relative(p) for p in book.formulas if p.sheet == title and p.row <= last}
    return found


def copied_sheets(book: Book) -> set[str]:
    """Return the sheets with the project's own formulas, at the same distances from each other."""
    copied = set()
    for title, formulas in relative_formulas(book).items():
        steps = any("ROW()-ROW(" in formula for formula in formulas)
        for k, project in enumerate(project_formulas()):
            common = len(project & formulas) / len(project)
            if common >= 0.6 and (steps or k == 0):
                copied.add(title)
    return copied
