"""Find the trainings in a workbook, and which of their steps are right.

A training is judged by its E_total: in one row or column, with or without gaps, there should be a
cell for each step. If the values are wrong, they are compared first with a training that uses the
student's own gradients, and then, step by step, with the student's own cells: each weight should be
the weight before it minus the rate times the student's gradient, and the error should belong to
these weights.
"""

import re
import textwrap
from collections import defaultdict
from itertools import product, takewhile
from typing import NamedTuple

import numpy as np

from backprop.network import GRADIENTS, RATES
from notebooks.assignment.spreadsheet import TOKEN, Book, Place
from notebooks.assignment.workbook_cells import EXACT, Cells
from notebooks.assignment.workbook_slips import RIGHT, SYMBOLS, evaluate

STEPS = 50  # the fewest steps of a training
WEIGHTS = tuple(f"w{k}" for k in range(1, 9))


class Training(NamedTuple):
    """What was found of a training: how much each of its steps counts, and its cells."""

    credits: dict[int, float]  # {step: 1 for a right one, ½ for one that was pasted}
    cells: list[int]  # indices, in the order of the steps
    own: bool = False  # with the student's own gradients
    slip: str = ""

    @property
    def score(self) -> float:
        """Return the part of its steps that counts."""
        return sum(self.credits.values()) / STEPS

    @property
    def pasted(self) -> list[int]:
        return sorted(step for step, credit in self.credits.items() if credit < 1)


def simulate(world, numbers, rate, steps, **options) -> np.ndarray:
    """Return E_total of a training in which every symbol has the formula of `world`.

    `numbers` and the result, (copies, steps + 1), are for each changed copy of the workbook. `sign`
    multiplies the step, `uses` holds the gradient that each weight uses, `early` lets the hidden
    gradients see the new output weights, `still` are weights that are never updated, `once` stops
    after a step, and `lost` are symbols that are 0 from step 1 on.
    """
    values, curve = dict(numbers) | {"rate": rate}, []
    sign, uses = options.get("sign", 1), options.get("uses", GRADIENTS)
    for step in range(steps + 1):
        if step and "lost" in options:
            values |= {symbol: 0 * values[symbol] for symbol in options["lost"]}
        for symbol in SYMBOLS:
            if symbol == "dE_dw1" and options.get("early"):
                new = {w: values[w] - rate * values["dE_d" + w] for w in WEIGHTS[4:]}
                for late in GRADIENTS[:4]:
                    values[late] = evaluate(world[late], values | new)
                break
            values[symbol] = evaluate(world[symbol], values)
        curve.append(values["E_total"] + 0 * numbers["w1"])
        if not (step and options.get("once")):
            new = {
                w: values[w] - sign * rate * values[gradient]
                for w, gradient in zip(WEIGHTS, uses, strict=True)
                if w not in options.get("still", ())
            }
            values |= {w: evaluate(world[w], {w: v}) if w in world else v for w, v in new.items()}
    return np.array(curve).T


def slips(rate: float):
    """Return the usual slips of an update, as (hint, options of `simulate`)."""
    yield "the sign of the update is wrong: w⁺ = w − η · ∂E/∂w", {"sign": -1}
    if rate != 1:
        yield "η is missing in the update: w⁺ = w − η · ∂E/∂w", {"sign": 1 / rate}
    yield "the new w5 … w8 are used too early: all gradients take the old weights", {"early": True}
    yield "the weights change only once: is a $ missing before η's cell?", {"once": True}
    for lost in (("t1", "t2"), ("i1", "i2"), ("t1",), ("t2",), ("i1",), ("i2",)):
        yield f"{' and '.join(lost)} are lost from step 1 on: is a $ missing?", {"lost": lost}
    yield "the hidden layer's weights never change", {"still": WEIGHTS[:4]}
    yield "the output layer's weights never change", {"still": WEIGHTS[4:]}
    for k, weight in enumerate(WEIGHTS):
        yield f"{weight} never changes", {"still": (weight,)}
        for other in range(8):
            if other != k:
                uses = (*GRADIENTS[:k], GRADIENTS[other], *GRADIENTS[k + 1 :])
                yield f"∂E/∂w{other + 1} stands in the update of {weight}", {"uses": uses}
    yield "the weights never change", {"still": WEIGHTS}


class Trainings:
    """Find the trainings among the cells; `world` has the student's own formulas, or None."""

    def __init__(self, cells: Cells, world: dict, own: dict):
        self.cells, self.world, self.own = cells, world, own
        self.known = None not in world.values()
        self.differs = any(world[symbol] != RIGHT[symbol] for symbol in RIGHT)
        self.lines = None

    def find(self) -> dict[float, Training]:
        """Return the best training found for each rate, in ascending order of the rates."""
        found = {rate: self.best(rate) for rate in sorted(RATES)}
        right = {
            index for training in found.values() if training.score > 0.9 for index in training.cells
        }
        begun = self.known and np.isin(self.own["E_total"][0], self.cells.values[0])
        for rate, training in found.items():
            if begun and len(training.credits) < 3:
                found[rate] = training._replace(slip=self.slip(rate, right))
        return found

    def best(self, rate: float) -> Training:
        """Return the best training found for a rate."""
        best = self.along(simulate(RIGHT, self.cells.numbers, rate, STEPS))
        if best.score < 1 and self.known and self.differs:
            own = self.along(simulate(self.world, self.cells.numbers, rate, STEPS))
            best = max(best, own._replace(own=True), key=lambda found: found.score)
        if best.score < 1:
            best = max(best, self.step_by_step(rate), key=lambda found: found.score)
        return best

    def slip(self, rate: float, right: set[int]) -> str:
        """Return the slip in an update that leads to some cells, all of them wrong, or nothing."""
        for hint, options in slips(rate):
            constant = options.get("once") or options.get("still") == WEIGHTS
            steps = STEPS if constant else min(STEPS, 8)  # six equal numbers may stand in a row
            curve = simulate(self.world, self.cells.numbers, rate, steps, **options)
            if len(self.along(curve, typed=False, without=right).credits) == steps:
                return hint
        return ""

    def along(self, curve: np.ndarray, typed=True, without=frozenset()) -> Training:
        """Return the row or column with most steps of a curve, (copies, steps + 1).

        Cells `without` are left out, and typed numbers unless they are asked for.
        """
        cells, lines = self.cells, defaultdict(list)
        rounds = 20 * cells.rounding
        for step in range(1, curve.shape[1]):
            want = curve[:, step]
            if not np.isfinite(want).all():
                break
            exact = cells.exact(want)
            live = exact[cells.follow(exact, want)]
            near = cells.near(want[0], 2e-4) if np.any(rounds) else exact[:0]
            near = near[(rounds[near] > 0) & (abs(cells.values[0][near] - want[0]) < rounds[near])]
            live = np.union1d(live, near[cells.follow(near, want, rounds[near])])
            still = np.union1d(np.union1d(exact, near), cells.typed(want[0])) if typed else live
            for index in {*still.astype(int)} - without:
                sheet, row, column = cells.places[index]
                credit = 1.0 if index in live else 0.5
                lines[sheet, "row", row].append((column, step, index, credit))
                lines[sheet, "column", column].append((row, step, index, credit))
        found = [_rising(line) for line in lines.values() if len(line) > 1 or curve.shape[1] < 4]
        credits, indices = max(found, key=lambda result: sum(result[0].values()), default=({}, []))
        if len(credits) < 3 and not (1 in credits and credits[1] == 1):
            return Training({}, [])  # a few equal numbers are no training
        return Training(credits, indices)

    def step_by_step(self, rate: float) -> Training:
        """Return the best training of a rate whose steps follow from the student's own cells."""
        start = self.cells.near(self.own["E_total"][0], EXACT * self.own["E_total"][0])
        found = [Training({}, [])]
        for index in start[:40]:
            for line in self.filled(index):
                if (steps := self._steps(line, rate)) is not None:
                    found.append(Training(steps, line[1:], own=self.differs))
        return max(found, key=lambda training: training.score)

    def filled(self, index: int):
        """Yield the lines of cells below, or to the right of, a cell, at equal distances.

        The distance is that to the next cell with the same formula, compared by its references.
        """
        cells, place = self.cells, self.cells.places[index]
        formula = cells.book.formulas.get(place)
        if formula is None:
            return
        own, book = cells.book.relative(place), cells.book
        for down, right in ((1, 0), (0, 1)):
            for distance in range(1, 80):
                second = Place(
                    place.sheet, place.row + distance * down, place.column + distance * right
                )
                if second in book.formulas and book.relative(second) == own:
                    spots = (_step(place, [place, second], k) for k in range(STEPS + 1))
                    line = [cells.index[p] for p in takewhile(cells.index.__contains__, spots)]
                    if len(line) > 3:
                        yield line
                    break

    def _steps(self, line: list[int], rate: float) -> dict[int, float] | None:
        """Return the right steps of a line of E_total, or None if no weights lead to it."""
        cells, world = self.cells, self.world
        known = [symbol for symbol in SYMBOLS if world[symbol] is not None]
        if {*SYMBOLS[:11]} - {*known}:  # the units and errors
            return None
        places = [cells.places[index] for index in line]
        nearby = self._precedents(places[1], 400)
        found = {weight: self._update(weight, rate, places, nearby) for weight in WEIGHTS}
        for weight in WEIGHTS:
            if not found[weight]:
                if any("{" + weight + "}" in world[symbol] for symbol in known):
                    return None
                del found[weight]

        values = {n: cells.numbers[n][:, None] for n in ("i1", "i2", "t1", "t2")}
        values |= {w: cells.values[:, column] for w, (column, _) in found.items()} | {"rate": rate}
        for symbol in known:
            values[symbol] = evaluate(world[symbol], values)
        errors = cells.values[:, line]
        good = _close(errors, values["E_total"], cells.rounding[line])
        rough = 1e-5 if np.any(cells.rounding[line]) else 0.0
        for weight, (column, gradient) in found.items():
            slope = cells.values[:, gradient]
            step = values[weight][:, :-1] - rate * slope[:, :-1]
            good[1:] &= _close(values[weight][:, 1:], step, cells.rounding[column][1:])
            if "dE_d" + weight in known:
                good &= _close(slope, values["dE_d" + weight], rough)
        good &= cells.formula[line]
        if cells.recalculated[line].all():  # numbers that never change prove nothing
            good &= np.ptp(errors[1:], axis=0) > 1e-6 * np.abs(errors[0])
        return {int(step): 1.0 for step in np.flatnonzero(good) if step}

    def _update(self, weight: str, rate: float, places, nearby):
        """Return a weight's cells and its gradient's, step by step along a line, or None."""
        cells, start = self.cells, self.cells.numbers[weight][0]
        for needed, back in product(nearby, (-1, 0)):
            first = cells.index.get(_step(needed, places, back))
            if first is None or abs(cells.values[0][first] - start) > EXACT * abs(start):
                continue
            column = self._column(needed, places, back)
            if column is None:
                continue
            change = (cells.values[:, column[0]] - cells.values[:, column[1]]) / rate
            after = cells.places[column[1]]
            for place in cells.book.cells(cells.book.formulas.get(after, ""), after.sheet):
                gradient = self._column(place, places, 0)
                if gradient is not None:
                    first = cells.values[:, gradient[0]]
                    if np.allclose(first, change, rtol=1e-7, atol=1e-13):
                        return column, gradient
        return None

    def _precedents(self, place: Place, most: int) -> list[Place]:
        """Return the cells that a cell's formula needs, the nearest first."""
        book, found, queue = self.cells.book, {}, [place]
        while queue and len(found) < most:
            cell = queue.pop(0)
            for p in book.cells(book.formulas.get(cell, ""), cell.sheet, most):
                if p not in found:
                    found[p] = None
                    queue.append(p)
        return [*found]

    def _column(self, place: Place, places: list[Place], start: int) -> list[int] | None:
        """Return the cells as far from each step of a line as a cell is from step −`start`."""
        if place.sheet != places[0].sheet:
            return None
        steps = range(start, start + len(places))
        column = [self.cells.index.get(_step(place, places, k)) for k in steps]
        if column[-1] is None:  # what comes after the last error may be missing
            column[-1] = column[-2]
        return None if None in column else column


def _step(place: Place, places: list[Place], k: int) -> Place:
    """Return the cell at the distance, from a cell, of k steps of a line."""
    down, right = places[1].row - places[0].row, places[1].column - places[0].column
    return Place(place.sheet, place.row + k * down, place.column + k * right)


def _close(got: np.ndarray, want: np.ndarray, rounding=0.0) -> np.ndarray:
    """Return for which steps, (copies, steps), all copies agree, apart from rounding formulas."""
    return (np.abs(got - want) <= 1e-8 * np.abs(want) + 1e-12 + 1.01 * rounding).all(axis=0)


def _rising(line: list[tuple]) -> tuple[dict[int, float], list[int]]:
    """Return, of the cells of a row or column, the most valuable with rising steps."""
    best = {0: (0.0, None)}  # the last step: (value, the chain that leads there)
    for position in sorted({entry[0] for entry in line}):
        fresh = {}
        for _, step, index, credit in (entry for entry in line if entry[0] == position):
            value, chain = max(
                ((v, c) for last, (v, c) in best.items() if last < step), key=lambda pair: pair[0]
            )
            if value + credit > fresh.get(step, (0.0,))[0]:
                fresh[step] = value + credit, (chain, step, index, credit)
        for step, found in fresh.items():
            if found[0] > best.get(step, (0.0,))[0]:
                best[step] = found
    chain, credits, indices = max(best.values(), key=lambda pair: pair[0])[1], {}, []
    while chain:
        chain, step, index, credit = chain
        credits[step] = credit
        indices.append(index)
    return credits, indices[::-1]


def lost_dollar(cells: Cells) -> str:
    """Return a formula with a wrong cell in it, as from a missing $, or nothing.

    In filled formulas, it is the first that no longer uses a typed number.
    """
    if strayed := next(_strayed(cells), ""):
        return strayed
    book = cells.book
    for place in sorted(book.formulas):
        for token in TOKEN.finditer(book.formulas[place]):
            if not token["cells"] or ":" in token["cells"]:
                continue
            title, row, column, *_ = book.areas(token[0], place.sheet)[0]
            spot = Place(title, row, column)
            what = _no_number(cells, place, spot)
            if what == "is empty" and token["cells"].count("$") < 2:
                return f"{place} refers to {spot.address}, which is empty: is a $ missing?"
            if what.startswith("holds"):
                return f"{place} calculates with {spot}, which {what}: a number belongs there."
    return ""


def _strayed(cells: Cells):
    """Return a remark on a formula that uses a typed number, if the next like it does not."""
    book, relative = cells.book, {}
    for place in sorted(book.formulas):
        taken = _single_cells(book, place)
        if not any(map(book.is_typed, taken)):
            continue
        for following, way in _filled_from(book, place, relative):
            for typed, spot in zip(taken, _single_cells(book, following), strict=False):
                if typed == spot or spot is None or not book.is_typed(typed):
                    continue
                rate = book.numbers[typed] in RATES and typed not in cells.inputs
                what = _no_number(cells, following, spot)
                if rate and place in _single_cells(book, following):
                    what = what or _another(cells, typed, spot)
                if what:
                    names = [n for n, v in cells.numbers.items() if v[0] == cells.inputs.get(typed)]
                    whose = f"the cell of {names[0]}" if names else f"the cell {typed.address}"
                    whose = "the learning rate's cell" if rate else whose
                    home = str(typed).removesuffix(typed.address) * (typed.sheet != place.sheet)
                    fixed = re.sub(r"([A-Z]+)(\d+)", r"$\1$\2", typed.address)
                    yield (
                        f"{following} {'multiplies by' if rate else 'calculates with'} {spot}, "
                        f"which {what}. Did {whose} move when you filled {way}? "
                        f"Write {home}{fixed}."
                    )


def _single_cells(book: Book, place: Place) -> list[Place | None]:
    """Return the cells that a formula uses one by one, and None for each range of several."""
    areas = book.areas(book.formulas[place], place.sheet)
    return [Place(*area[:3]) if area[1:3] == area[3:] else None for area in areas]


def _filled_from(book: Book, place: Place, relative: dict):
    """Return the next cells below and to the right with the same formula, by its references."""

    def formula(spot):
        if spot not in relative:
            relative[spot] = book.relative(spot)
        return relative[spot]

    for down, right, way in ((1, 0, "down"), (0, 1, "to the right")):
        for k in range(1, 80):
            spot = Place(place.sheet, place.row + k * down, place.column + k * right)
            if spot in book.formulas and formula(spot) == formula(place):
                yield spot, way
                break


def _no_number(cells: Cells, place: Place, spot: Place) -> str:
    """Return what stands instead of a number in a cell that a formula uses, or nothing."""
    book = cells.book
    if not (spot in book.numbers or spot in book.words or spot in book.formulas):
        return "is empty"
    index = cells.index.get(place)
    failed = index is None or np.isnan(cells.values[0][index])
    if failed and spot in book.words and spot not in book.formulas:
        return f"holds a word, “{textwrap.shorten(book.words[spot], 30, placeholder=' …')}”"
    return ""


def _another(cells: Cells, typed: Place, spot: Place) -> str:
    """Return a remark on a cell with another number than a typed one, or nothing."""
    index = cells.index.get(spot)
    value = cells.values[0][index] if index is not None else np.nan
    return "holds another number" if abs(value - cells.book.numbers[typed]) > EXACT else ""
