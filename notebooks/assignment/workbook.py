"""Grade a student's workbook, whatever its layout.

Every number that is asked for is looked for by its value, in all cells of all sheets. Then the
inputs, targets and weights are changed, LibreOffice calculates both versions, and what does not
follow was pasted. Without LibreOffice the values are those that the file keeps, and a number
counts as calculated if its formula refers to another cell.

Nothing in the file is executed, and no link is followed: LibreOffice sees a new workbook into
which constants, formulas, names and tables have been copied, and nothing else.
"""

import re
import tempfile
import warnings
import zipfile
from copy import copy
from pathlib import Path

import numpy as np
import openpyxl
from openpyxl.formula.tokenizer import Tokenizer, TokenizerError
from openpyxl.utils import get_column_letter, range_boundaries

from backprop import network, office
from backprop.formulas import label
from backprop.network import ERRORS, GRADIENTS, RATES, UNITS
from notebooks.assignment.personal import CLASS, Numbers, personal_numbers
from notebooks.assignment.slips import GRADIENT_SLIPS, pass_back

POINTS = {"forward pass": 1.0, "errors": 0.5, "gradients": 2.0, "trainings": 1.5, "chart": 1.0}
STEPS = 50  # of a training, at least
LARGEST = 20e6  # bytes unpacked; six trainings of a hundred steps have about two million
ROUNDED = 6e-7  # how far off a number may be: six decimals will do
EXACT = 1e-10  # how far off a formula's value can be
OUTSIDE = re.compile(  # formulas that reach out of the workbook
    r"\[\d+\]|\[[^\]]*[./\\:]|\b(WEBSERVICE|DDE|RTD|CALL|REGISTER|SQL|IMPORT)[\w.]*\(", re.I
)
RIGHT, MISSING = "right", "missing"
PASTED = "right, but does not follow when the inputs change: a number was pasted or typed"


class WorkbookError(ValueError):
    """Why a file can't be graded, in a line."""


def check_workbook(path: Path, student=None) -> float:
    """Print what is right in the workbook at `path`, and return its points, of 6."""
    try:
        lines, points = grade(path, personal_numbers(student))
    except WorkbookError as problem:
        lines, points = [f"✗ {problem}", "0 points"], 0.0
    print(*lines, sep="\n")
    return points


def grade(path: Path, numbers: Numbers) -> tuple[list[str], float]:
    """The report on a workbook and its points; raises a WorkbookError if it can't be read."""
    cells, drawn = Cells(path, numbers), curves_drawn(path)
    asked = {"forward pass": UNITS, "errors": ERRORS, "gradients": GRADIENTS}
    states = {
        part: {label(symbol): cells.state(symbol) for symbol in symbols}
        for part, symbols in asked.items()
    }
    states["trainings"] = {f"η = {rate}": cells.training(rate) for rate in RATES}
    states["chart"] = {f"curve {k}": RIGHT if k <= drawn else MISSING for k in range(1, 7)}

    lines, points = [*cells.notes], 0.0
    for part, found in states.items():
        good = [*found.values()].count(RIGHT)
        half = [*found.values()].count(PASTED)
        points += POINTS[part] * (good + half / 2) / len(found)
        lines.append(f"{'✓' if good == len(found) else '✗'} {part}: {good} of {len(found)} right")
        for state in sorted({*found.values()} - {RIGHT}):
            names = [name for name in found if found[name] == state]
            lines.append(f"    {', '.join(names)}: {state}")
        if part == "gradients":
            lines += cells.slips()
    if {*states["forward pass"].values()} == {MISSING} and numbers != CLASS:
        lines.append("None of your numbers is there: are these the class's, or somebody else's?")
    points = round(points, 2)
    return [*lines, f"{points:g} of {sum(POINTS.values()):g} points"], points


class Cells:
    """The numbers of a workbook, as they are and as they are when its inputs have changed."""

    def __init__(self, path: Path, numbers: Numbers):
        book = load(path)
        typed = {number(cell.value) for cell in every_cell(book)}
        change = {v: v + 0.013 for part in numbers for v in part if v in typed and v not in RATES}
        self.numbers = numbers
        self.changed = Numbers(*(tuple(change.get(v, v) for v in part) for part in numbers))
        self.formulas = {place(cell): formula(cell) for cell in every_cell(book) if formula(cell)}
        self.notes, before, after = [], {}, {}
        if office.program():
            try:
                before, after = calculate(book, {}, change)
            except Exception:  # whatever a strange file makes openpyxl or LibreOffice raise
                self.notes.append("LibreOffice can't calculate it: the values in the file count.")
        before = before or values(load(path, data_only=True))
        if not before:
            what = "no results are in it: open it in a spreadsheet program and save it."
            raise WorkbookError(f"{path.name}: {what}")

        self.places = sorted(before)
        self.before = np.array([before[where] for where in self.places])
        self.after = np.array([after.get(where, np.nan) for where in self.places])
        self.recalculated = bool(after)
        self.lines = {}  # rows and columns, as indices of their cells
        for index, (sheet, row, column) in enumerate(self.places):
            for line in (sheet, "row", row), (sheet, "column", column):
                self.lines.setdefault(line, []).append(index)
        self.start = network.train(1, 0, *numbers)[0]  # a row with every symbol's value
        self.then = network.train(1, 0, *self.changed)[0]

    def find(self, value: float, off: float = ROUNDED) -> np.ndarray:
        """Indices of the cells with a value."""
        return np.flatnonzero(np.abs(self.before - value) <= off)

    def follows(self, index: int, now: float, then: float) -> bool:
        """Whether a cell with the value `now` has the value `then` after the change."""
        if self.recalculated and abs(then - now) > ROUNDED:
            return abs(self.after[index] - then) <= ROUNDED
        exact = abs(self.before[index] - now) <= EXACT
        return exact and refers(self.formulas.get(self.places[index], ""))

    def state(self, symbol: str) -> str:
        """What there is of a number: `RIGHT`, `PASTED` or `MISSING`.

        A formula whose value is only nearly right, and does not follow, is another number's.
        """
        now, then = self.start[symbol], self.then[symbol]
        spots = self.find(now)
        if any(self.follows(index, now, then) for index in spots):
            return RIGHT
        exact = {*self.find(now, EXACT)}
        typed = (index in exact or self.places[index] not in self.formulas for index in spots)
        return PASTED if any(typed) else MISSING

    def training(self, rate: float) -> str:
        """The same of a training's errors, in a row or a column, with or without gaps."""
        now = network.train(rate, STEPS, *self.numbers)["E_total"]
        then = network.train(rate, STEPS, *self.changed)["E_total"]
        first = {*self.find(now[1])}
        lines = (line for line in self.lines.values() if not first.isdisjoint(line))
        best = max((self._along(line, now[1:]) for line in lines), key=len, default=[])
        if len(best) < STEPS:
            return f"right up to step {len(best)}, of {STEPS}" if best else MISSING
        live = all(self.follows(*one) for one in zip(best, now[1:], then[1:], strict=True))
        return RIGHT if live else PASTED

    def _along(self, line: list[int], curve: np.ndarray) -> list[int]:
        """The cells of a line that have the values of a curve, one after the other."""
        found = []
        for index in line:
            if len(found) < len(curve) and abs(self.before[index] - curve[len(found)]) <= ROUNDED:
                found.append(index)
        return found

    def slips(self) -> list[str]:
        """For gradients that are missing, a cell with what comes of a usual slip."""
        lines = []
        missing = [k for k in range(8) if self.state(GRADIENTS[k]) == MISSING]
        for hint, options in GRADIENT_SLIPS.items():
            wrong = pass_back(*self.numbers, **options)
            spots = {k: self.find(wrong[k], EXACT) for k in missing}
            if spots := {k: where[0] for k, where in spots.items() if len(where)}:
                names = ", ".join(label(GRADIENTS[k]) for k in spots)
                sheet, row, column = self.places[next(iter(spots.values()))]
                where = f"{sheet}!{get_column_letter(column)}{row}"
                lines.append(f"    {where} looks like {names} with a slip: {hint}")
                missing = [k for k in missing if k not in spots]
        return lines


# Reading a file that may be anything


def load(path: Path, data_only: bool = False) -> openpyxl.Workbook:
    """A workbook's cells, or, with `data_only`, the values it keeps for them."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(part.file_size for part in archive.infolist())
        if size < LARGEST:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return openpyxl.load_workbook(path, data_only=data_only, keep_links=False)
        problem = f"unpacked it has {size / 1e6:,.0f} MB, more than {LARGEST / 1e6:g}."
    except FileNotFoundError:
        problem = "there is no such file. Save your workbook under this name."
    except Exception as error:  # whatever a damaged or malicious file makes openpyxl raise
        reason = str(error).splitlines() or [type(error).__name__]
        problem = f"this is no workbook: {reason[0]}. Save it as .xlsx."
    raise WorkbookError(f"{path.name}: {problem}")


def every_cell(book) -> list:
    """All cells with something in them; iter_rows would go through millions of empty ones."""
    return [cell for sheet in book.worksheets for cell in sheet._cells.values()]


def place(cell) -> tuple[str, int, int]:
    """Sheet, row and column of a cell."""
    return cell.parent.title, cell.row, cell.column


def number(value) -> float | None:
    """A cell's value as a number: also one that is text, also with a decimal comma."""
    try:
        value = float(str(value).replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def values(book) -> dict[tuple, float]:
    """Every number of a workbook that holds values, by its place."""
    return {place(c): v for c in every_cell(book) if (v := number(c.value)) is not None}


def formula(cell) -> str:
    """A cell's formula, also one of an array, or nothing."""
    text = getattr(cell.value, "text", cell.value)
    return text if cell.data_type == "f" and isinstance(text, str) else ""


def refers(formula: str) -> bool:
    """Whether another cell, a range or a name occurs in a formula."""
    try:
        return any(part.subtype == "RANGE" for part in Tokenizer(formula).items)
    except TokenizerError:
        return False


def stays_inside(formula: str) -> bool:
    """Whether a formula, of the length that Excel allows, reaches nothing but the workbook."""
    return len(formula) <= 8192 and not OUTSIDE.search(formula)


def calculate(book, *changes: dict[float, float]) -> list[dict[tuple, float]]:
    """All numbers as LibreOffice calculates them, with each of `changes` made to the constants."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{k}.xlsx") for k in range(len(changes))]
        for path, change in zip(paths, changes, strict=True):
            changed_copy(book, change).save(path)
        made = office.convert("xlsx", paths, Path(folder, "calculated"), timeout=100)
        return [values(load(path, data_only=True)) for path in made]


def changed_copy(book, change: dict[float, float]) -> openpyxl.Workbook:
    """A workbook with the same constants, but for `change`, and the same formulas."""
    new = openpyxl.Workbook()
    new.remove(new.active)
    for name, defined in book.defined_names.items():
        if stays_inside(defined.attr_text or ""):
            new.defined_names[name] = copy(defined)
    for sheet in book.worksheets:
        page = new.create_sheet(sheet.title)
        for cell in sheet._cells.values():
            if stays_inside(formula(cell)):
                value = change.get(number(cell.value), cell.value)
                page.cell(cell.row, cell.column).value = value
        for table in sheet.tables.values():
            page.add_table(copy(table))
    return new


def curves_drawn(path: Path) -> int:
    """How many columns or rows of at least 20 cells the workbook's charts draw."""
    with zipfile.ZipFile(path) as archive:
        charts = [one for one in archive.namelist() if re.match(r"xl/charts/chart\d*\.xml$", one)]
        text = "".join(archive.read(chart).decode(errors="replace") for chart in charts)
    drawn = {*re.findall(r"<(?:\w+:)?(?:val|yVal)>.{,200}?<(?:\w+:)?f>([^<]+)<", text, re.S)}

    def length(reference):
        try:
            left, top, right, bottom = range_boundaries(reference.rpartition("!")[2])
            return max(right - left, bottom - top) + 1
        except (ValueError, TypeError):
            return 0

    return sum(length(reference) >= 20 for reference in drawn)
