"""Every number that backprop/README.md and backprop/LAYERS.md state is computed here again."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from backprop import chain, layers
from backprop.network import (
    INPUTS,
    NO_BIASES,
    RATES,
    TARGETS,
    WEIGHTS,
    errors,
    forward,
    gradients,
    train,
)
from backprop.referee import compare, real_digits
from backprop.workbook import ROUNDING, chain_rule
from s4lib.data import load
from s4lib.model import MNISTNet
from tests.test_network import central_differences

README = Path(__file__).resolve().parents[1] / "backprop/README.md"
LAYERS = README.with_name("LAYERS.md")
TEXT, SECOND = (page.read_text(encoding="utf-8") for page in (README, LAYERS))
EQUATIONS = re.findall(r"^\$\$(.+?)\$\$$", TEXT, re.M)
FOLDED = re.findall(r"^\| \$(.+?)\$ \| (−?\d\.\d{9}) \|$", TEXT, re.M)  # formula and value


def plain(text):
    """The page without its line breaks."""
    return " ".join(text.split())


def values():
    """Return every symbol of the lesson, with the class's values and a rate of 0.5."""
    symbols = chain_rule(train(0.5, 1))
    return symbols | {"do1_dw5": symbols["a_h1"], "eta": 0.5, "exp": math.exp}


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
    """It holds in symbols exactly, with numbers to the digits shown, and in its result."""
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


@pytest.mark.parametrize(("formula", "shown"), FOLDED)
def test_each_folded_formula_holds(formula, shown):
    known = values()
    symbol, term = (python(part) for part in formula.split(" = "))
    value = eval(term, {"__builtins__": {}}, known)
    assert value == pytest.approx(known[symbol], rel=1e-14)
    assert f"{value:.9f}".replace("-", "−") == shown


def test_every_symbol_has_its_equation_once_but_for_two_chains():
    """Two slopes, ∂E/∂w5 and ∂E/∂a_h1, come first in symbols and then with their numbers."""
    formulas = [*EQUATIONS, *(formula for formula, _ in FOLDED)]
    symbols = sorted(python(formula.split(" = ")[0]) for formula in formulas)
    given = {"i1", "i2", "t1", "t2", *(f"w{k}" for k in range(1, 9))}
    derived = set(values()) - given - {"step", "eta", "exp", "new_E_total", "do1_dw5"}
    assert symbols == sorted([*derived, "dE_dw5", "dE_da_h1"])
    for symbol, value in zip(("i_1", "i_2", "t_1", "t_2"), INPUTS + TARGETS, strict=True):
        assert f"${symbol} = {value:.2f}$" in TEXT
    for k, weight in enumerate(WEIGHTS, 1):
        assert f"$w_{k} = {weight:.2f}$" in TEXT


def rows(heading, text=TEXT):
    """The cells of the first table after `heading`, without its head."""
    table = re.search(r"^\|.+?\n\n", text.partition(heading)[2], re.M | re.S)[0]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.split("\n")[2:-2]]


def test_the_smallest_example_and_its_nudges():
    x, y, z = (int(re.search(rf"\${name} = (-?\d)\$", TEXT)[1]) for name in "xyz")
    f = (x + y) * z
    assert f"q = x + y = {x + y}$, then $f = q \\cdot z = {f}$" in TEXT
    by_x, by_z = ((x + 0.001 + y) * z - f, (x + y) * (z + 0.001) - f)
    assert f"the output falls by {-by_x:.3f}, because" in plain(TEXT)
    assert f"Raise $z$ by 0.001, and the output rises by {by_z:.3f}." in plain(TEXT)
    assert f"$({x + 0.001} + {y}) \\cdot ({z}) = {f + by_x:.3f}$" in TEXT
    assert f"along $q$, which is −{-z}." in plain(TEXT)


def test_the_nudge_of_w5():
    nudged = (*WEIGHTS[:4], WEIGHTS[4] + 0.001, *WEIGHTS[5:])
    before, after = (
        (
            weights[4],
            forward(weights=weights)[4],
            forward(weights=weights)[6],
            errors(weights=weights)[0],
        )
        for weights in (WEIGHTS, nudged)
    )
    changes = np.subtract(after, before)
    shares = ["", *(f"{share:.3f}" for share in changes[1:] / changes[:-1])]
    for row, *numbers, share in zip(
        rows("## 3. Chain rule"), before, after, changes, shares, strict=True
    ):
        assert row[1:] == [*(f"{number:.6f}" for number in numbers), share]


def test_the_nudge_that_checks_the_gradient():
    (*_, difference), formula = (
        itertools.islice(central_differences(INPUTS, TARGETS, WEIGHTS, NO_BIASES), 5),
        gradients()[4],
    )
    assert f"gives {difference:.12f}, and the formula gives {formula:.12f}." in plain(TEXT)


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
    assert f"at 2.0 is one {curves[0.1][100] / curves[2.0][100]:.0f}th of" in plain(TEXT)

    products = np.arange(4, 101, 4)
    same = np.array([curves[rate][np.rint(products / rate).astype(int)] for rate in RATES])
    spread = (same.max(axis=0) - same.min(axis=0)) / same.max(axis=0)
    assert f"differ by less than {math.ceil(100 * spread.max())}%" in plain(TEXT)
    assert f"= {0.99**2 / 2 + 0.99**2 / 2:.4f}." in TEXT


def test_what_is_said_of_the_surface():
    for rate in RATES:
        table = train(rate)
        assert abs(table["w6"] - table["w5"] - 0.05).max() < 0.02
        assert abs(table["w8"] - table["w7"] - 0.05).max() < 0.02
        slice_ = (*WEIGHTS[:4], table["w5"], table["w5"] + 0.05, table["w7"], table["w7"] + 0.05)
        assert abs(errors(weights=slice_)[2] - table["E_total"]).max() < 0.0008
    assert "differs from the true error by less than 0.0008." in plain(TEXT)


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


def test_what_is_said_of_larger_rates():
    rates = np.geomspace(0.1, 1e6, 1621)  # 1% apart
    last = sweep(rates)[-1]
    assert f"Up to about {rates[last.argmin()]:.0f}, larger is faster." in TEXT
    assert (np.diff(last[rates <= 70]) < 0).all()
    shown = rates[rates <= 1e4]  # those in the picture
    assert not rises(sweep(shown)).any()
    rising = rates[rises(sweep(rates, targets=(0.4, 0.6)))]
    first = np.split(rising, np.flatnonzero(np.diff(np.log(rising)) > 0.02) + 1)[0]
    start, end = (float(f"{rate:.2g}") for rate in (first[0], first[-1]))
    assert f"at every rate from about {start:,.0f} to about {end:,.0f}." in plain(TEXT)


def test_the_answers_to_the_five_questions():
    idle = np.array(gradients(inputs=(0, 0.1)))
    assert (idle[[0, 2]] == 0).all()
    twins = train(0.5, weights=(0.2, 0.3, 0.2, 0.3, 0.4, 0.4, 0.5, 0.5))
    assert (twins["w1"] == twins["w3"]).all()
    assert (twins["w5"] == twins["w6"]).all()
    assert f"$0.9899 \\cdot 0.9999 \\cdot 0.0001 = {0.9899 * 0.9999 * 0.0001:.6f}$" in TEXT
    thrown = train(1000)
    assert thrown["a_o1"][1] < 1e-15
    assert thrown["a_o2"][1] > 1 - 1e-15
    assert thrown["E_total"][1:] == pytest.approx(0.0001, rel=1e-9)


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


def test_the_three_causes_of_the_small_hidden_gradient():
    known = values()
    parts = known["dE_do1"] * known["w5"], known["dE_do2"] * known["w7"]
    slope, weight = known["a_h1"] * (1 - known["a_h1"]), known["w5"]
    causes = 1 / slope, 1 / weight, parts[0] / sum(parts)
    whole = known["dE_do1"] / known["dE_dh1"]
    assert math.prod(causes) == pytest.approx(whole, rel=1e-12)
    written = " × ".join(f"{cause:.2f}" for cause in causes)
    assert f"multiply, {written} = {whole:.0f}:" in TEXT
    assert f"is one {whole:.0f}th of" in TEXT
    assert f"brings +{parts[0]:.4f}, the path through $o_2$ brings −{-parts[1]:.4f}." in TEXT
    for cause, end in zip(causes, ("divides by", "divides by", "factor of"), strict=True):
        assert f"{end} {cause:.2f}." in TEXT


def test_the_error_after_one_step():
    table = train(0.5, 1)["E_total"]
    assert f"The new error is {table[1]:.9f}, down from {table[0]:.9f}." in TEXT


def test_the_published_example_has_biases():
    """Its first error is printed there; its second, to our arithmetic, ends in 774, not 924."""
    biased = train(0.5, 1, biases=(0.35, 0.60))["E_total"]
    assert f"{biased[0]:.9f}" == "0.298371109"
    assert biased[1] == pytest.approx(0.291027774, abs=1e-9)


# The second lesson


def test_the_gradient_of_the_three_classes():
    log_probs = np.log([[0.7, 0.2, 0.1]])
    (dz,) = layers.log_softmax_nll_backward(log_probs, np.array([1]))
    assert f"$({', '.join(f'{slope:.1f}' for slope in dz)})$" in SECOND


def test_the_three_paths_of_batch_norm():
    x, dy = np.array([1.0, 2, 3, 6]), np.array([1.0, -2, 1, 2])
    std = np.sqrt(x.var() + layers.EPS)
    x_hat = (x - x.mean()) / std
    parts = [dy, np.full(4, -dy.mean()), -x_hat * (dy * x_hat).mean()]
    dx = layers.batch_norm_backward(
        dy[:, None, None, None], x[:, None, None, None], np.ones(1), np.zeros(1)
    )[0].ravel()
    table = [*parts, sum(parts), dx]
    for row, numbers in zip(rows("All three carry", SECOND), table, strict=True):
        assert row[1:] == [f"{number + 0.0:.2f}".replace("-", "−") for number in numbers]
    shown = f"$({x_hat[0]:.2f}, {x_hat[1]:.2f}, 0, {x_hat[3]:.2f})$"
    assert f"$\\mu = {x.mean():.0f}$" in SECOND
    assert f"$\\sigma = {std:.2f}$ and $\\hat x = {shown[1:]}" in SECOND
    terms = dy * x_hat
    assert (
        f"$({terms[0]:.2f} + {terms[1]:.2f} + 0 + {terms[3]:.2f}) / 4 = {terms.mean():.2f}$"
        in SECOND
    )
    assert f"(1 - 2 + 1 + 2) / 4 = {dy.mean()}$" in SECOND
    assert abs(sum(sum(parts))) < 1e-12


def judged(monkeypatch, name="", changed=None):
    """The referee's rows for sixteen digits, with one function of the layers replaced."""
    if name:
        monkeypatch.setattr(layers, name, changed)
    torch.manual_seed(0)
    return compare(MNISTNet().double(), *real_digits(load("digits"), 16))


def test_the_referees_table(monkeypatch):
    """Its tensors, how many values they have, and which have a star; differences by their size."""
    pattern = r"^\| `([\w.]+)`( \*)? \| ([\d,]+) \| (\d\.\de-\d\d) \|$"
    shown = re.findall(pattern, SECOND, re.M)
    found = {row.tensor: row for row in judged(monkeypatch)}
    assert sorted(name for name, *_ in shown) == sorted(found)
    starred = 0
    for name, star, count, relative in shown:
        assert (count, bool(star)) == (f"{found[name].values:,}", found[name].vanishes)
        assert found[name].relative < 1e-12
        assert float(relative) < 1e-12
        starred += found[name].values if star else 0
    assert f"These {starred} parameters change nothing" in plain(SECOND)


def test_which_rows_a_lost_path_of_batch_norm_changes(monkeypatch):
    whole = layers.batch_norm_backward

    def without_the_mean(dy, x, gamma, beta, **options):
        """The path through the mean left out: the mean of dy taken for 0."""
        dx, *others = whole(dy, x, gamma, beta, **options)
        std = np.sqrt(x.var(axis=(0, 2, 3), keepdims=True) + layers.EPS)
        mean = dy.mean(axis=(0, 2, 3), keepdims=True)
        return dx + gamma.reshape(1, -1, 1, 1) / std * mean, *others

    found = judged(monkeypatch, "batch_norm_backward", without_the_mean)
    wrong = {row.tensor for row in found if not row.approximate}
    right = {row.tensor for row in found} - wrong
    assert {
        name for name in right if not re.match(r"loss|block3|fc|transition2.norm", name)
    } == set()
    assert {"images", "transition2.conv.weight"} <= wrong


def test_which_row_shared_ties_change(monkeypatch):
    """Ties between values above 0 share the gradient; below the ReLU it would be lost anyway."""
    right = layers.max_pool_backward

    def shared(dy, x, *options, **named):
        dx = right(dy, x, *options, **named)
        n, c, h, w = x.shape
        windows = x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2)
        ties = windows == windows.max(axis=(3, 5), keepdims=True)
        parts = ties / ties.sum(axis=(3, 5), keepdims=True) * dy[:, :, :, None, :, None]
        dx[:, :, : h // 2 * 2, : w // 2 * 2] = parts.reshape(n, c, h // 2 * 2, w // 2 * 2)
        return dx

    found = judged(monkeypatch, "max_pool_backward", shared)
    assert [row.tensor for row in found if not row.approximate] == ["images"]
