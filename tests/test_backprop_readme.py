"""Every number that backprop/README.md states is computed here again."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from backprop import chain
from backprop.network import INPUTS, NO_BIASES, RATES, TARGETS, WEIGHTS, errors, gradients, train
from backprop.workbook import ROUNDING, chain_rule
from tests.test_network import autograd, central_differences

README = Path(__file__).resolve().parents[1] / "backprop/README.md"
TEXT = README.read_text(encoding="utf-8").partition("## With biases")[0]
EQUATIONS = re.findall(r"^\$\$\n(.+?)\n\$\$$", TEXT, re.M)


def values():
    """Every symbol of the walkthrough, with the class's values and a rate of 0.5."""
    return chain_rule(train(0.5, 1)) | {"eta": 0.5, "exp": math.exp}


def python(latex: str) -> str:
    """A term of the README's LaTeX as a Python expression of the symbols in `values`."""
    for pattern, replacement in (
        (r"w_(\d)\^{\+}", r"new_w\1"),
        (r"a_{(\w\d)}", r"a_\1"),
        (r"E_{total}", "E_total"),
        (r"\b([ihotwE])_(\d)", r"\1\2"),
        (r"\\frac{\\partial (\w+)}{\\partial (\w+)}", r"d\1_d\2"),
        ("dE_total_d", "dE_d"),
        (r"e\^{(.+?)}", r"exp(\1)"),
        (r"\\t?frac{(.+?)}{(.+?)}(?= |$)", r"((\1)/(\2))"),
        (r"\\cdot|\\times", "*"),
        (r"\\eta", "eta"),
        (r"\^2", "**2"),
    ):
        latex = re.sub(pattern, replacement, latex)
    return latex


@pytest.mark.parametrize("equation", EQUATIONS)
def test_each_equation_holds(equation):
    """In symbols exactly, with the numbers put in to the digits shown, and in its result."""
    known = values()
    symbol, *terms = (python(term) for term in equation.split(" = "))
    for term in terms:
        value = eval(term, {"__builtins__": {}}, known)
        if re.search(r"[a-df-z]\w*\d", term):
            assert value == pytest.approx(known[symbol], rel=1e-14)
        else:
            assert value == pytest.approx(known[symbol], abs=1.5e-9)
    rounded = {f"{abs(value):.9f}" for value in known.values() if isinstance(value, float)}
    assert set(re.findall(r"\d\.\d{5,}", equation)) <= rounded
    if not re.search("[a-z]", terms[-1]):
        decimals = len(terms[-1].partition(".")[2])
        assert f"{known[symbol]:.{decimals}f}" == terms[-1]


def test_every_symbol_has_its_equation():
    symbols = {python(equation.split(" = ")[0]) for equation in EQUATIONS}
    given = {"i1", "i2", "t1", "t2", *(f"w{k}" for k in range(1, 9))}
    assert symbols == set(values()) - given - {"step", "eta", "exp", "new_E_total"}
    for symbol, value in zip(("i_1", "i_2", "t_1", "t_2"), INPUTS + TARGETS, strict=True):
        assert f"${symbol} = {value:.2f}$" in TEXT
    for k, weight in enumerate(WEIGHTS, 1):
        assert f"$w_{k} = {weight:.2f}$" in TEXT


def test_maths_that_github_would_garble():
    """Markdown eats a backslash before punctuation, and `$` next to a digit or letter is text."""
    for formula in [*EQUATIONS, *re.findall(r"(?<!\$)\$([^$\n]+)\$", TEXT)]:
        assert not re.search(r"\\[^a-zA-Z]", formula)
        assert formula.count("{") == formula.count("}")
        assert formula.strip() == formula


def rows(heading):
    """The cells of the first table after `heading`, without its head."""
    table = re.search(r"^\|.+?\n\n", TEXT.partition(heading)[2], re.M | re.S)[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:-2]]


def test_the_gradient_table():
    """The spreadsheet's column is LibreOffice's, which test_workbook.py compares."""
    network = (INPUTS, TARGETS, WEIGHTS, NO_BIASES)
    by_formula, by_autograd = gradients(), autograd()[1]
    by_difference = [*central_differences(*network)]
    table = rows("## Four ways")
    assert len(table) == 8
    for k, (name, formula, sheet, by_torch, difference, largest) in enumerate(table):
        assert name == f"∂E/∂w{k + 1}"
        assert formula == sheet == by_torch == f"{by_formula[k]:.12f}" == f"{by_autograd[k]:.12f}"
        assert abs(by_formula[k] - by_autograd[k]) < 1e-16
        assert float(difference) == pytest.approx(by_difference[k], abs=5e-12)
        # Its last digits are rounding, which another processor may do differently.
        assert float(largest) == pytest.approx(abs(by_difference[k] - by_formula[k]), abs=5e-12)
        assert float(largest) < 5e-12


def test_the_table_of_learning_rates():
    table = rows("## Six learning rates")
    for rate, row in zip(RATES, table, strict=True):
        E_total = train(rate, 200)["E_total"]
        shown = [f"{E_total[step]:.6f}" for step in (1, 10, 50, 100)]
        assert row == [str(rate), *shown, str((E_total >= 0.1).sum())]


def test_what_is_said_of_the_six_rates():
    curves = {rate: train(rate, 1000)["E_total"] for rate in RATES}
    for smaller, larger in itertools.pairwise(RATES):
        assert (np.diff(curves[larger][:101]) < 0).all()
        assert (curves[larger][1:101] < curves[smaller][1:101]).all()
    assert f"{curves[0.1][100] / curves[2.0][100]:.0f} times lower" in TEXT
    assert curves[0.1][20] == pytest.approx(curves[2.0][1], rel=0.003)

    products = np.arange(4, 101, 4)
    same = np.array([curves[rate][np.rint(products / rate).astype(int)] for rate in RATES])
    spread = (same.max(axis=0) - same.min(axis=0)) / same.max(axis=0)
    assert f"less than {math.ceil(100 * spread.max())}%" in TEXT
    assert f"= {0.99**2 / 2 + 0.99**2 / 2:.4f}." in TEXT


def test_what_is_said_of_the_surface():
    for rate in RATES:
        table = train(rate)
        assert abs(table["w6"] - table["w5"] - 0.05).max() < 0.02
        assert abs(table["w8"] - table["w7"] - 0.05).max() < 0.02
        slice_ = (*WEIGHTS[:4], table["w5"], table["w5"] + 0.05, table["w7"], table["w7"] + 0.05)
        assert abs(errors(weights=slice_)[2] - table["E_total"]).max() < 0.0008
    assert "to within 0.02" in TEXT
    assert "by less\nthan 0.0008" in TEXT


def sweep(rates, **options) -> np.ndarray:
    """The class network trained at many rates: E_total, (101, len(rates))."""
    parts = np.array_split(rates, 1 + len(rates) // 1000)  # a table holds all that is computed
    return np.hstack([train(part, **options)["E_total"] for part in parts])


def test_the_chain_descends_by_its_gradient():
    w = torch.full((3,), 1.5, dtype=torch.float64, requires_grad=True)
    E = (w.prod() - 1) ** 2 / 2
    E.backward()
    after = ((w - 0.05 * w.grad).prod() - 1) ** 2 / 2
    expected = [E.item(), after.item()]
    np.testing.assert_allclose(chain.chain(np.array([0.05]), 3, 1.5, 1)[:, 0], expected, rtol=1e-12)


def rises(curves) -> np.ndarray:
    """Which of the curves, (steps + 1, N), have a step that raises the error: (N,)."""
    return (curves[1:] > curves[:-1] + ROUNDING).any(axis=0)


def spans_of_rises(rates, curves) -> list[tuple[str, str]]:
    """First and last of neighbouring rates at which some step raises the error, to two digits."""
    edges = np.flatnonzero(np.diff(rises(curves), prepend=False, append=False)).reshape(-1, 2)
    return [
        tuple(f"{float(f'{rates[k]:.2g}'):,.0f}" for k in (first, past - 1))
        for first, past in edges
    ]


def test_what_is_said_of_larger_rates():
    rates = np.geomspace(0.1, 1e6, 1621)  # 1% apart
    curves = sweep(rates)
    best = rates[curves[-1].argmin()]
    assert f"Up to about {best:.0f}, larger is faster" in TEXT
    assert (np.diff(curves[-1, rates <= 70]) < 0).all()
    fine = np.geomspace(1e5, 1e6, 23_027)  # 0.01% apart
    (start, end), *bands = spans_of_rises(fine, sweep(fine))
    assert f"Between about {start} and {end} some step does" in TEXT
    assert f"from about {bands[0][0]} to {bands[-1][1]} at some" in TEXT
    assert len(bands) >= 24
    mild = sweep(rates, targets=(0.4, 0.6))
    start, end = spans_of_rises(rates, mild)[0]
    assert f"at every rate from about {start} to about {end}" in TEXT

    thrown = train(1000)
    assert thrown["a_o1"][1] < 1e-15
    assert thrown["a_o2"][1] > 1 - 1e-15
    assert thrown["E_total"][1:] == pytest.approx(0.0001, rel=1e-9)
    assert abs(train(150_000)["a_h1"][1]) < 0.001
    stuck = train(1_000_000)
    for name, value in {"a_h1": 0, "a_h2": 0, "a_o1": 0.5, "a_o2": 0.5, "E_total": 0.2401}.items():
        assert stuck[name][1:] == pytest.approx(value)
    rises = np.diff(train(70, targets=(0.4, 0.6))["E_total"]) > ROUNDING
    assert f"counts {rises.sum()} steps" in TEXT


def test_the_table_of_the_chain_is_what_the_command_measures():
    kept = chain.RESULTS.read_text("utf-8")
    assert chain.measured() == kept, "run python -m backprop.chain"
    place = f"<!-- table: python -m backprop.chain -->\n{chain.table(kept)}\n"
    assert place in README.read_text("utf-8")


@pytest.mark.parametrize("depth", chain.DEPTHS)
def test_from_just_above_1_the_limit_falls_with_depth_alone(depth):
    assert chain.first_rising(depth, 1.1) == pytest.approx(2 / depth, rel=0.25)


def test_at_depth_1_the_limit_is_2():
    below, above = (chain.chain(np.array([rate]), 1, 0.5)[:, 0] for rate in (1.999, 2.001))
    assert (np.diff(below) < 0).all()
    assert (np.diff(above) > 0).all()
    assert 2 < chain.first_rising(1, 0.5) < 2.03


def test_other_numbers_in_the_prose():
    known = values()
    assert f"is {known['dE_do1'] / known['dE_dh1']:.0f} times\nsmaller" in TEXT
    slope, weight = known["a_h1"] * (1 - known["a_h1"]), known["w5"]
    second = known["dE_do1"] * slope * weight / known["dE_dh1"]
    for factor in (1 / slope, 1 / weight, second):
        assert f"by {factor:.2f}" in TEXT
    table = train(0.5, 1)["E_total"]
    assert f"The new error is {table[1]:.9f}, down from {table[0]:.9f}." in TEXT
    biased = train(0.5, 1, biases=(0.35, 0.60))["E_total"]
    whole = README.read_text(encoding="utf-8")
    assert f"first error, {biased[0]:.9f}. Its error after one step" in whole
    assert f"we find to be {biased[1]:.9f}." in whole


def test_linked_files_exist():
    whole = README.read_text(encoding="utf-8")
    for target in re.findall(r"(?:\]\(|src=\")(?!https?://)([^)\"#]+)[)\"]", whole):
        assert (README.parent / target).is_file(), target
