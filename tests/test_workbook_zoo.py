"""Twenty-five layouts of a workbook, with slips, pasted and forged, each get their points.

The slips' places are drawn; `S4_SEED` repeats a failure. LibreOffice calculates all of them in one
run; without it the values in the files count.
"""

import contextlib
import os
import random
import shutil
import zlib
from itertools import chain

import numpy as np
import pytest

from backprop import office
from backprop.formulas import FORMULAS, TO_A_H1, TO_A_H2
from notebooks.assignment.personal import personal_numbers
from notebooks.assignment.workbook import POINTS, grade
from tests.workbooks import GRADIENTS, LAYOUTS, SYMBOLS, UNITS, WEIGHTS, cell, few_steps, write

STEPS = 7  # of these workbooks, so that they are small
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))  # the same in every worker
SEED = int(os.environ.get("S4_SEED", zlib.crc32(RUN.encode()) % 10_000))
ROADS = TO_A_H1[1:-1].split("+")  # the ways through o1 and o2
SLIPS = {  # what each makes of the formulas, and a part of what should be said
    "another unit's slope": (
        {g: FORMULAS[g].replace("{a_h2}*(1-{a_h2})", "{a_h1}*(1-{a_h1})") for g in GRADIENTS[2:4]},
        "a_h1 stands where a_h2 belongs",
    ),
    "a · t": ({"dE_dw5": FORMULAS["dE_dw5"].replace("-{t1}", "*{t1}")}, "a · t stands where a − t"),
    "no brackets": (
        {"dE_dw1": f"{ROADS[0]}+{ROADS[1]}" + FORMULAS["dE_dw1"].removeprefix(TO_A_H1)},
        "the brackets round the sum over both outputs are missing",
    ),
    "h for a_h": ({"dE_dw6": FORMULAS["dE_dw6"].replace("{a_h2}", "{h2}")}, "h2 stands where a_h2"),
    "another input": ({"dE_dw2": FORMULAS["dE_dw2"].replace("{i2}", "{i1}")}, "i1 stands where i2"),
    "no half": (
        {"E1": "({t1}-{a_o1})^2", "E2": "({t2}-{a_o2})^2"},
        "the ½ is missing",
    ),
    "e^+x": ({"a_h1": "1/(1+EXP({h1}))"}, "the sign in the exponent is wrong"),
    "wrong sign": (
        {g: FORMULAS[g].replace("({a_o2}-{t2})", "({t2}-{a_o2})") for g in GRADIENTS[6:]},
        "the sign is wrong",
    ),
    "one way only": (
        {"dE_dw4": TO_A_H2.split("+")[0] + ")*{a_h2}*(1-{a_h2})*{i2}"},
        "only the way through o1 counts",
    ),
    "no output slope": (
        {"dE_dw7": "({a_o2}-{t2})*{a_h1}"},
        "the slope of the output's sigmoid, a_o (1 − a_o), is missing",
    ),
    "no hidden slope": ({"dE_dw3": TO_A_H2 + "*{i1}"}, "the slope of the hidden unit's sigmoid"),
    "w7 for w6": ({"dE_dw3": FORMULAS["dE_dw3"].replace("{w6}", "{w7}")}, "w7 stands where w6"),
    "another target": ({"E2": "({t1}-{a_o2})^2/2"}, "t1 stands where t2 belongs"),
    "the mean error": ({"E_total": "({E1}+{E2})/2"}, "this is their mean"),
    "a lost term": ({"h2": "{w3}*{i1}"}, "a term of the sum is missing"),
    "swapped weight": ({"o1": "{w5}*{a_h1}+{w7}*{a_h2}"}, "w7 stands where w6 belongs"),
    "no last factor": (
        {"dE_dw8": "({a_o2}-{t2})*{a_o2}*(1-{a_o2})"},
        "the last factor is missing",
    ),
    "new weights too early": (
        {"dE_dw1": FORMULAS["dE_dw1"].replace("{w5}", "{new_w5}").replace("{w7}", "{new_w7}")},
        "the new w5 … w8 are used too early",
    ),
}
UPDATES = {  # an update with a slip, and what should be said
    "uphill": ({"update": "{w}+{rate}*{gradient}"}, "the sign of the update is wrong"),
    "without a rate": ({"update": "{w}-{gradient}"}, "η is missing in the update"),
    "another gradient": ({"uses": {"w3": "dE_dw4"}}, "∂E/∂w4 stands in the update of w3"),
    "another weight": ({"uses": {"w8": "dE_dw7"}}, "∂E/∂w7 stands in the update of w8"),
}


def decoy(value, start):
    """A pasted number that refers to an input, too."""
    return f"{value!r}+0*{start}"


def two_faces(value, start):
    """A pasted number that shows another one when the input changes."""
    return f"IF(ABS({start}-0.5)<0.5,{value!r},{value * 1.1!r})"


def part_of(symbol: str) -> float:
    """The points for a symbol."""
    if symbol in GRADIENTS:
        return POINTS["gradients"] / 8
    return POINTS["forward pass"] / 8 if symbol in UNITS else POINTS["errors"] / 3


def cases():
    """For each layout the honest workbook and two others: (name, options, lost points, words)."""
    draw = random.Random(SEED)
    slips, updates = [*SLIPS], [*UPDATES]
    for k, (name, layout) in enumerate(LAYOUTS.items()):
        yield f"{name}: honest", {"layout": layout}, 0.0, ()
        one = slips[k % len(slips)]
        two = draw.choice([s for s in slips if not {*SLIPS[s][0]} & {*SLIPS[one][0]}])
        both = [one, two] if k % 2 else [one]
        if layout.order[0] != "w1" and "new weights too early" in both:
            both = ["a · t"]
        wrong = {s: f for slip in both for s, f in SLIPS[slip][0].items()}
        lost = sum(part_of(symbol) for symbol in wrong)
        gradients = sum(symbol in GRADIENTS for symbol in wrong)
        if gradients > 2:
            lost += POINTS["trainings"] * gradients / 8
        words = tuple(SLIPS[slip][1] for slip in both)
        yield f"{name}: {' and '.join(both)}", {"layout": layout, "wrong": wrong}, lost, words
        kind = k % 5
        if kind == 0:
            update = updates[k // 5 % len(updates)]
            options, text = UPDATES[update]
            lost = POINTS["trainings"] * (5 / 6 if update == "without a rate" else 1)  # 1 is right
            yield f"{name}: {update}", {"layout": layout} | options, lost, (text,)
        if kind == 1:
            options = {"layout": layout, "pasted": {*SYMBOLS}}
            yield f"{name}: pasted", options, 2.5, ("typed or pasted",)
        if kind == 2:
            training, step = draw.randrange(6), draw.randrange(2, STEPS - 1)
            symbol = draw.choice((*WEIGHTS, *UNITS, *GRADIENTS))
            options = {"layout": layout, "pasted": {(training, step, symbol)}}
            lost = POINTS["trainings"] / 6 / STEPS
            yield f"{name}: {symbol} pasted at step {step}", options, (0, 1.01 * lost), ()
        if kind in (3, 4):
            forged = (decoy, two_faces)[kind - 3]
            words = ("does not follow when the inputs change",)
            yield f"{name}: {forged.__name__}", {"layout": layout, "forged": forged}, 2.5, words


CASES = {name: rest for name, *rest in cases()}
CALCULATED = [*CASES][SEED % 2 :: 4]  # LibreOffice takes a quarter of a second for each copy


@pytest.fixture(scope="module", autouse=True)
def small():
    """Few steps are enough, and what is drawn is the same in both passes of a batch."""
    with pytest.MonkeyPatch.context() as patch:
        few_steps(patch, STEPS)
        rng = np.random.default_rng
        patch.setattr(np.random, "default_rng", lambda seed=SEED: rng(seed))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All workbooks: {name: path}."""
    folder = tmp_path_factory.mktemp("zoo")
    numbers = personal_numbers(4711 + SEED)
    return numbers, {
        name: write(folder / f"{k}.xlsx", numbers=numbers, steps=STEPS, **options)
        for k, (name, (options, _, _)) in enumerate(CASES.items())
    }


class CollectedError(Exception):
    """Raised in place of calculating."""


@pytest.fixture(scope="module")
def recalculated(files, tmp_path_factory):
    """All workbooks as LibreOffice calculates them, in one run: {name: paths of the copies}."""
    if not office.program():
        pytest.skip("LibreOffice is not installed, so nothing can recalculate the workbooks")
    folder, copies = tmp_path_factory.mktemp("copies"), {}

    def collect(paths, *_):
        copies[name] = [folder / f"{len(copies)}-{path.name}" for path in paths]
        for path, copy in zip(paths, copies[name], strict=True):
            shutil.copy(path, copy)
        raise CollectedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(office, "calculate", collect)
        for name in CALCULATED:
            with contextlib.suppress(CollectedError):  # without a formula nothing is calculated
                grade(files[1][name], files[0])
    office.calculate([*chain(*copies.values())], folder / "made", timeout=500)
    return {name: [folder / "made" / p.name for p in paths] for name, paths in copies.items()}


def verdict(name, path, numbers):
    """Whether a workbook gets its points, and the words that go with them."""
    lines, points = grade(path, numbers)
    report = "\n".join([f"{name}, S4_SEED={SEED}", *lines])
    options, lost, words = CASES[name]
    low, high = lost if isinstance(lost, tuple) else (lost, lost)
    everything = sum(POINTS.values())
    assert everything - high - 0.011 <= points <= everything - low + 0.011, report
    for text in words:
        assert text in report, report
    for symbol in options.get("wrong", ()):
        assert cell(options["layout"], symbol) in report, report
    assert len(lines) < 30, report


@pytest.mark.parametrize("name", CALCULATED)
def test_recalculated(name, files, recalculated, monkeypatch):
    monkeypatch.setattr(office, "calculate", lambda *_: recalculated.get(name))
    verdict(name, files[1][name], files[0])


@pytest.mark.parametrize("name", [name for name in CASES if "two_faces" not in name])
def test_as_the_file_keeps_it(name, files, monkeypatch):
    monkeypatch.setattr(office, "engine", lambda: None)
    verdict(name, files[1][name], files[0])
