"""Twenty-five layouts of a workbook, with slips, pasted and forged, each get their points.

Which layout has which fault, and where, is drawn; `S4_SEED` repeats a failure. Nothing but this
project's own calculation is used: what LibreOffice makes of the same formulas is compared in
test_workbook_calculation.py.
"""

import os
import random
import zlib

import pytest

from backprop import office
from backprop.formulas import FORMULAS, TO_A_H1, TO_A_H2
from notebooks.assignment.personal import personal_numbers
from notebooks.assignment.workbook import POINTS, grade
from tests.workbooks import GRADIENTS, LAYOUTS, SYMBOLS, UNITS, WEIGHTS, cell, few_steps, write

STEPS = 4  # of these workbooks, so that they are small
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
        "only the path through o1 counts",
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
APART = (  # E_total is right again; where nothing is labelled, two gradients change places
    {"no half", "the mean error"},
    {"another input", "no brackets"},
)
UPDATES = {  # an update with a slip, and what should be said
    "uphill": ({"update": "{w}+{rate}*{gradient}"}, "the sign of the update is wrong"),
    "without a rate": ({"update": "{w}-{gradient}"}, "η is missing in the update"),
    "another gradient": ({"uses": {"w3": "dE_dw4"}}, "∂E/∂w4 stands in the update of w3"),
    "another weight": ({"uses": {"w8": "dE_dw7"}}, "∂E/∂w7 stands in the update of w8"),
}


def decoy(value, start):
    """A pasted number that also refers to an input."""
    return f"{value!r}+0*{start}"


def two_faces(value, start):
    """A pasted number that shows another one when the input changes."""
    return f"IF(ABS({start}-0.5)<0.5,{value!r},{value * 1.1!r})"


def part_of(symbol: str) -> float:
    """The points for a symbol."""
    if symbol in GRADIENTS:
        return POINTS["gradients"] / 8
    return POINTS["forward pass"] / 8 if symbol in UNITS else POINTS["errors"] / 3


def with_slips(layout, names) -> tuple:
    """A workbook with slips in its formulas: (name, options, lost points, words)."""
    wrong = {symbol: formula for name in names for symbol, formula in SLIPS[name][0].items()}
    lost = sum(part_of(symbol) for symbol in wrong)
    gradients = sum(symbol in GRADIENTS for symbol in wrong)
    if gradients > 2:
        lost += POINTS["trainings"] * gradients / 8
    words = tuple(SLIPS[name][1] for name in names)
    return " and ".join(names), {"layout": layout, "wrong": wrong}, lost, words


def with_update(layout, name) -> tuple:
    """Return a case with a slip in the update."""
    options, text = UPDATES[name]
    lost = POINTS["trainings"] * (5 / 6 if name == "without a rate" else 1)  # η = 1 is right
    return name, {"layout": layout} | options, lost, (text,)


def dishonest(layout, draw) -> list[tuple]:
    """Return cases with something pasted or forged."""
    training, step = draw.randrange(6), draw.randrange(2, STEPS - 1)
    symbol = draw.choice((*WEIGHTS, *UNITS, *GRADIENTS))
    one = {"layout": layout, "pasted": {(training, step, symbol)}}
    lost = POINTS["trainings"] / 6 / STEPS
    half = {"layout": layout, "pasted": {*SYMBOLS[: len(SYMBOLS) // 2]}}
    forged = ("does not follow when the inputs change",)
    return [
        ("pasted", {"layout": layout, "pasted": {*SYMBOLS}}, 2.5, ("typed or pasted",)),
        ("half pasted", half, (0.3, 2.5), ("typed or pasted",)),
        (f"{symbol} pasted at step {step}", one, (0, 1.01 * lost), ()),
        *((f.__name__, {"layout": layout, "forged": f}, 2.5, forged) for f in (decoy, two_faces)),
    ]


def cases():
    """For each layout the honest workbook and another: (name, options, lost points, words)."""
    draw = random.Random(SEED)
    slips = draw.sample([*SLIPS], len(SLIPS))
    for name, layout in LAYOUTS.items():
        yield f"{name}: honest", {"layout": layout}, 0.0, ()
    others = draw.sample([*LAYOUTS.items()], len(LAYOUTS))
    for k, (name, layout) in enumerate(others):
        if k < len(UPDATES):
            other = with_update(layout, [*UPDATES][k])
        elif k < len(UPDATES) + 5:
            other = dishonest(layout, draw)[k - len(UPDATES)]
        else:
            if len(slips) < 2:  # each is taken before one is taken again
                slips += draw.sample([*SLIPS], len(SLIPS))
            forward = layout.order[0] == "w1"
            fits = [s for s in slips if forward or s != "new weights too early"]
            symbols = {*SLIPS[fits[0]][0]}
            beside = [s for s in fits if not symbols & {*SLIPS[s][0]} and {fits[0], s} not in APART]
            names = fits[:1] + beside[: k % 2]
            slips = [s for s in slips if s not in names]
            other = with_slips(layout, names)
        kind, options, lost, words = other
        yield f"{name}: {kind}", options, lost, words


CASES = {name: rest for name, *rest in cases()}
NUMBERS = personal_numbers(4711 + SEED)


@pytest.mark.parametrize("name", CASES)
def test_every_workbook_gets_its_points_and_its_faults_are_named(name, tmp_path, monkeypatch):
    few_steps(monkeypatch, STEPS)
    monkeypatch.setattr(office, "engine", lambda: pytest.fail("nothing else has to calculate"))
    options, lost, words = CASES[name]
    lines, points = grade(
        write(tmp_path / "w.xlsx", numbers=NUMBERS, steps=STEPS, **options), NUMBERS
    )
    report = "\n".join([f"{name}, S4_SEED={SEED}", *lines])
    low, high = lost if isinstance(lost, tuple) else (lost, lost)
    everything = sum(POINTS.values())
    assert everything - high - 0.011 <= points <= everything - low + 0.011, report
    for text in words:
        assert text in report, report
    for symbol in options.get("wrong", ()):
        assert cell(options["layout"], symbol) in report, report
    assert len(lines) < 30, report
