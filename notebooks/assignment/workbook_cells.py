"""The numbers of a workbook, as they are and after its inputs have changed."""

import re
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from backprop import office
from backprop.network import COLUMNS, RATES, train
from notebooks.assignment.personal import Numbers
from notebooks.assignment.spreadsheet import Book, Place, WorkbookError, read, stays_inside
from notebooks.assignment.workbook_calculation import calculate

EXACT = 1e-9  # relative: how far off a formula's number may be
SHOWN = 6e-7  # how far off a typed number may be: six decimals are enough
COPIES = 2  # with changed inputs
NAMES = ("i1", "i2", "t1", "t2", *(f"w{k}" for k in range(1, 9)))
LEFT_OPEN = "keep the value in the file; whether they follow other inputs is left open."
NO_RESULTS = "have no value: open the workbook in a spreadsheet program and save it."
ROUNDS = re.compile(r"\bROUND(?:UP|DOWN)?\(.*,\s*(\d+)\s*\)", re.IGNORECASE)
ANYWHERE = re.compile(r"\b(INDIRECT|OFFSET|INDEX|TABLE)\(", re.IGNORECASE)
HEADINGS = (  # headings of a number, without blanks, underscores, brackets and capitals
    (r"([iwth][1-8])(?:\(.*)?", r"\1"),
    (r"x([12])|inp(?:ut)?([12])", r"i\1\2"),
    (r"(?:target|y)([12])", r"t\1"),
    (r"o([12])(?:\(.*)?|neto([12])", r"o\1\2"),
    (r"(?:a|act|out|σ|sigma|sigmoid|s)\(?([ho][12]).*", r"a_\1"),
    (r"e([12])|error([12])|e(?:rror)?o([12])", r"E\1\2\3"),
    (r"e|et|etot|etotal|totalerror|error|loss|totalloss", "E_total"),
    (r"[∂δd𝜕𝝏][el](?:t|tot|total)?/?[∂δd𝜕𝝏]w([1-8]).*|gradw([1-8])", r"dE_dw\1\2"),
)


def rounding_of(formula: str) -> float:
    """Return the last digit that a formula keeps, 0.0001 for four decimals; 0 if it does not round.

    Two decimals and fewer count as no rounding, because they would lose the result.
    """
    rounds = ROUNDS.search(formula)
    return 10.0 ** -int(rounds[1]) if rounds and int(rounds[1]) > 2 else 0


class Cells:
    """The numbers of a workbook, at first and with each change of its inputs.

    `values` is (1 + COPIES, cells): NaN where a changed copy has no number. `numbers` is the
    required inputs, targets and weights, {symbol: array of (1 + COPIES,)}.
    """

    def __init__(self, book: Book, numbers: Numbers, excluded: set[str]):
        self.book, self.notes = book, []
        asked = dict(zip(NAMES, sum(map(tuple, numbers), ()), strict=True))
        self.inputs = self._inputs(asked)
        self.sources = dict(self.inputs)  # and pasted numbers: what a formula can depend on
        changes = self._changes(asked)
        values = self._calculated(self._typed(numbers, changes))
        self.places = sorted(values)
        self.values = np.array([values[place] for place in self.places]).T.reshape(1 + COPIES, -1)
        self.recalculated = np.isfinite(self.values).all(axis=0)
        self.index = {place: k for k, place in enumerate(self.places)}
        self.formula = np.array([p in book.formulas for p in self.places], bool)
        self.rounding = np.array([rounding_of(book.formulas.get(p, "")) for p in self.places])
        earning = {title for title, shown in book.visible.items() if shown} - excluded
        self.earns = np.array([place.sheet in earning for place in self.places], bool)
        self.order = np.argsort(self.values[0])
        self.sorted = self.values[0][self.order]
        self.numbers = {
            name: np.array([value, *(value + c.get(value, 0) for c in changes)])
            for name, value in asked.items()
        }
        self._precedents = {}

    # The workbook's inputs, and what becomes of it when they change

    def _inputs(self, asked: dict[str, float]) -> dict[Place, float]:
        """Return where the required numbers are typed: {place: number}.

        A formula without references, such as =1/20, counts as a typed number, and is named.
        """
        wanted, found, written = set(asked.values()), {}, []
        for place, value in self.book.numbers.items():
            near = min(wanted, key=lambda v: abs(v - value))
            if abs(near - value) > EXACT * abs(near):
                continue
            formula = self.book.formulas.get(place)
            if formula is None:
                found[place] = near
            elif not self.book.areas(formula, place.sheet):
                found[place] = near
                written.append(f"{place} holds ={formula}")
        if written:
            self.notes.append(f"{', '.join(written[:3])}: an input is typed as a number, 0.05.")
        return found

    def _changes(self, asked: dict[str, float]) -> list[dict[float, float]]:
        """Return for each copy what is added to every typed number that is not a learning rate.

        The amounts are random, so that no formula can contain them.
        """
        draw = np.random.default_rng()
        typed = {value for value in asked.values() if value in {*self.inputs.values()}}
        typed = sorted(value for value in typed if value not in RATES)
        return [
            dict(zip(typed, draw.uniform(0.011, 0.037, len(typed)).tolist(), strict=True))
            for _ in range(COPIES)
        ]

    def _typed(self, numbers: Numbers, changes: list) -> list[dict[Place, float]]:
        """Return what is typed into each copy: changed inputs, and changed results where pasted.

        So a formula that uses a pasted number has to follow it as well.
        """
        table = train(np.array(sorted(RATES)), 50, *numbers)
        results = np.unique([table[name] for name in COLUMNS[5:]])
        pasted = {}
        for place, value in self.book.numbers.items():
            if self.book.is_typed(place) and place not in self.inputs and round(value, 3) != value:
                nearest = results[np.abs(results - value).argmin()]
                if abs(nearest - value) <= min(SHOWN, 0.01 * abs(value)):
                    pasted[place] = value
        self.sources |= pasted
        copies = [{}]
        for change in changes:
            copies.append({p: v + change.get(v, 0) for p, v in self.inputs.items()})
            factors = np.random.default_rng().uniform(1.01, 1.03, len(pasted)).tolist()
            copies[-1] |= {p: v * f for (p, v), f in zip(pasted.items(), factors, strict=True)}
        return copies

    def _calculated(self, typed: list[dict[Place, float]]) -> dict[Place, np.ndarray]:
        """Return all numbers in each copy: {place: array of (1 + COPIES,)}.

        Functions that we lack are calculated by a spreadsheet program, if there is one.
        """
        values, unknown = calculate(self.book, typed)
        inside = [p for p in unknown if stays_inside(self.book.formulas[p])]
        if inside and (name := office.engine()):
            try:
                runs = self._by_program(typed)
            except (RuntimeError, WorkbookError, OSError) as problem:
                reason = "takes too long over" if "longer" in str(problem) else "can't calculate"
                self.notes.append(f"{name} {reason} this workbook.")
            else:
                rest = runs[1:]
                values = {
                    place: np.array([first, *(run.get(place, np.nan) for run in rest)])
                    for place, first in (self.book.numbers | runs[0]).items()
                }
                unknown = {place: what for place, what in unknown.items() if place not in runs[0]}
        if unknown:
            what, kept = ", ".join(sorted({*unknown.values()})), unknown.keys() & self.book.numbers
            left = (
                f"{what} can't be calculated here: {len(unknown):,} cells, {min(unknown)} first, "
            )
            self.notes.append(left + (LEFT_OPEN if kept else NO_RESULTS))
        return values

    def _by_program(self, typed: list[dict[Place, float]]) -> list[dict[Place, float]]:
        """Return all numbers as LibreOffice or Gnumeric calculates them in each copy."""
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{k}.xlsx") for k in range(len(typed))]
            for path, inputs in zip(paths, typed, strict=True):
                self.book.write(path, inputs)
            return [read(path).numbers for path in office.calculate(paths, Path(folder, "made"))]

    def mistyped(self) -> dict[str, tuple[Place, float]]:
        """Return the required numbers with another number in their cell: {name: (cell, number)}."""
        found = {}
        for name, (value, *_) in self.numbers.items():
            places = [p for p in self.headed(name) if self.book.is_typed(p)]
            if places and not any(self.inputs.get(place) == value for place in places):
                found[name] = places[0], self.book.numbers[places[0]]
        return found

    def missing(self) -> dict[str, str]:
        """Return the required numbers that are typed nowhere, and what stands in their places."""
        mistyped, found = self.mistyped(), {*self.inputs.values()}
        return {
            name: f"{name} = {value:g}"
            + (f" ({mistyped[name][0]} has {mistyped[name][1]:g})" if name in mistyped else "")
            for name, (value, *_) in self.numbers.items()
            if value not in found
        }

    # Finding

    def near(self, value: float, off: float) -> np.ndarray:
        """Return the cells that earn points and have nearly this value at first."""
        low, high = np.searchsorted(self.sorted, (value - off, value + off), side="left")
        found = np.sort(self.order[low : high + 1])
        return found[(np.abs(self.values[0][found] - value) <= off) & self.earns[found]]

    def exact(self, want: np.ndarray) -> np.ndarray:
        """Return the cells with formulas that have this value at first."""
        found = self.near(want[0], EXACT * abs(want[0]) + 1e-15)
        return found[self.formula[found]]

    def follow(self, found: np.ndarray, want: np.ndarray, off=0.0, depends=4) -> np.ndarray:
        """Return which of these cells have the wanted value in every copy.

        If nothing was recalculated, or the wanted value does not change: which have formulas that
        depend on so many typed numbers. Four are enough to separate a formula from a pasted number
        with a decoy.
        """
        close = np.abs(self.values[:, found] - want[:, None]) <= EXACT * np.abs(want[:, None]) + (
            1e-15 + off
        )
        follows = self.formula[found] & close[0]
        follows &= np.where(self.recalculated[found], close.all(axis=0), True)
        apart = np.abs(np.subtract.outer(want, want)) > 1e-6 * np.abs(want).max()
        shows = (apart | np.eye(len(want), dtype=bool)).all()  # each copy has another value
        for k, index in enumerate(found):
            if follows[k] and not (shows and self.recalculated[index]):
                follows[k] = self.reaches(index, depends)
        return follows

    def reaches(self, index: int, most: int) -> bool:
        """Return whether a cell's formula depends on at least so many different typed numbers."""
        most = max(1, min(most, len({*self.inputs.values()})))
        seen, inputs, queue = set(), set(), [self.places[index]]
        while queue and len(seen) < 5000:
            place = queue.pop()
            if place in self.sources:
                inputs.add(self.sources[place])
                if len(inputs) >= most:
                    return True
                continue
            formula = self.book.formulas.get(place, "")
            if ANYWHERE.search(formula):
                return True
            if place not in self._precedents:
                self._precedents[place] = {*self.book.cells(formula, place.sheet)}
            fresh = self._precedents[place] - seen
            seen |= fresh
            queue += fresh
        return False

    def rounded(self, want: np.ndarray) -> np.ndarray:
        """Return the cells whose formula rounds, and is right in every copy apart from that."""
        found = self.near(want[0], 1e-3)
        found = found[self.rounding[found] > 0]
        off = 1.01 * self.rounding[found]
        close = np.abs(self.values[:, found] - want[:, None]) <= off
        close = np.where(self.recalculated[found], close.all(axis=0), close[0])
        return found[close & (off < 0.2 * abs(want[0]))]

    def typed(self, want: float) -> np.ndarray:
        """Return the cells with a typed number that is the wanted one, to the digits it shows."""
        found = self.near(want, min(SHOWN, 0.01 * abs(want)))
        return found[~self.formula[found]]

    def headed(self, symbol: str) -> list[Place]:
        """Return the cells with a number to the right of a heading, or below it."""
        if not hasattr(self, "_headed"):
            self._headed = defaultdict(list)
            for place, text in sorted(self.book.words.items()):
                if meaning := heading(text):
                    for cell in (
                        Place(place.sheet, place.row, place.column + 1),
                        Place(place.sheet, place.row + 1, place.column),
                    ):
                        if cell in self.index and self.earns[self.index[cell]]:
                            self._headed[meaning].append(cell)
                            break
        return self._headed[symbol]

    def updated(self, weight: str) -> list[int]:
        """Return the cells that a weight's update takes as gradient: in w − η · g those with g."""
        if not hasattr(self, "_updated"):
            self._updated = defaultdict(list)
            first, weights = self.values[0], {self.numbers[w][0]: w for w in NAMES[4:]}
            for place, formula in self.book.formulas.items():
                index = self.index.get(place)
                if index is None or formula.count("(") > 3:
                    continue
                cells = self.book.cells(formula, place.sheet, 8)
                cells = [self.index[p] for p in cells if p in self.index]
                for k in cells:
                    near = min(weights, key=lambda v: abs(v - first[k]))
                    if abs(first[k] - near) > EXACT * abs(near):
                        continue
                    for g in cells:
                        rate = (near - first[index]) / first[g] if first[g] else 0
                        if self.formula[g] and any(abs(rate - r) < 1e-7 * r for r in RATES):
                            self._updated[weights[near]].append(g)
        return self._updated[weight]


def heading(text: str) -> str:
    """Return the symbol that a cell's words stand for, or nothing."""
    plain = re.sub(r"[\s_=:*·²$\\{}]", "", text.casefold())
    if len(plain) > 16:
        return ""
    for pattern, symbol in HEADINGS:
        if match := re.fullmatch(pattern, plain):
            return match.expand(symbol)
    return ""
