"""The checks let right answers pass, by any route, and name every usual slip."""

import contextlib
import functools
import io
import re
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from backprop import network
from notebooks.assignment import part1, slips
from notebooks.assignment.compare import AnswerError, compare, numbers
from notebooks.assignment.personal import CLASS, personal_numbers
from notebooks.assignment.slips import pass_back, pass_forward
from s4lib.runtime import UsageError
from tests.mistakes.part1_backpropagation import MISTAKES

SOURCE = Path(__file__).parents[1] / "notebooks/assignment/source/session4"
students = st.integers(1, 10**8).map(str)


@functools.cache
def cells() -> dict[str, str]:
    """The code of the source notebook, by grade_id, in its order."""
    notebook = nbformat.read(SOURCE / "part1_backpropagation.ipynb", as_version=4)
    return {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "nbgrader" in cell.metadata
    }


def attempt(check: str, student: str, **changed: str) -> str:
    """Run the solution, with some of its cells `changed`, and a check; what the check printed."""
    space = {"student": student, "here": Path()}
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for name, source in {**cells(), **changed}.items():
            if name == check or not name.startswith(("setup", "network", "draw", "check-")):
                exec(source, space)
            if name == check:
                return said.getvalue()


# Personal numbers


@given(students)
def test_every_student_has_numbers_that_suit(student):
    (i1, i2), (t1, t2), weights = numbers = personal_numbers(student)
    every = [i1, i2, t1, t2, *weights, *network.RATES]
    assert len(set(every)) == 18
    assert all(value == round(value, 2) for value in every)
    assert all(0.15 <= value <= 0.85 for value in (i1, i2, *weights))
    assert 0 < t1 < 0.15
    assert 0.85 < t2 < 1
    curves = [network.train(rate, 20, *numbers)["E_total"] for rate in network.RATES]
    assert (np.diff(curves) < 0).all()


def test_numbers_stay_what_they_are():
    weights = (0.31, 0.47, 0.37, 0.66, 0.4, 0.28, 0.79, 0.67)
    stored = ((0.55, 0.63), (0.14, 0.9), weights)
    for spelling in ("4711", 4711, " 0047-11 "):
        assert personal_numbers(spelling) == stored
    assert personal_numbers("S4711") == personal_numbers("s4711") != stored
    assert personal_numbers() == personal_numbers("") == CLASS
    assert len({personal_numbers(student) for student in range(1, 1001)}) == 1000


@pytest.mark.parametrize("senseless", ["-", "  ", 47.11])
def test_what_is_no_student_number_is_refused(senseless):
    with pytest.raises(UsageError, match="a student number is text or a whole number"):
        personal_numbers(senseless)


# The checks' own derivation


@given(students, st.booleans())
def test_the_derivation_without_a_slip_is_autograd_s(student, with_biases):
    numbers = personal_numbers(student)
    i, t, w = (torch.tensor(part, dtype=torch.float64) for part in numbers)
    biases = part1.BIASES if with_biases else (0.0, 0.0)
    w.requires_grad_()
    b = torch.tensor(biases, dtype=torch.float64, requires_grad=True)
    a_h = torch.sigmoid(w[:4].view(2, 2) @ i + b[0])
    a_o = torch.sigmoid(w[4:].view(2, 2) @ a_h + b[1])
    ((t - a_o) ** 2 / 2).sum().backward()
    by_hand = pass_back(*numbers, biases)
    np.testing.assert_allclose(by_hand, [*w.grad, *b.grad], rtol=1e-10, atol=1e-15)
    ahead = pass_forward(numbers.inputs, numbers.weights, biases)
    np.testing.assert_allclose(ahead[6:], a_o.detach(), rtol=1e-14)


# Right answers


@pytest.mark.parametrize("student", ["", "4711", "s12-3456"])
def test_the_solution_is_right(student):
    for check in filter(re.compile("check-(?!workbook)").match, cells()):
        assert attempt(check, student).splitlines()[-1].startswith("✓")


def by_matrices(inputs, targets, weights, biases=(0, 0)):
    """All ten derivatives, in another way than the course's."""
    W, V = np.reshape(weights[:4], (2, 2)), np.reshape(weights[4:], (2, 2))
    hidden = 1 / (1 + np.exp(-(W @ inputs + biases[0])))
    out = 1 / (1 + np.exp(-(V @ hidden + biases[1])))
    delta = (out - targets) * out * (1 - out)
    before = V.T @ delta * hidden * (1 - hidden)
    first, last = np.outer(before, inputs).ravel(), np.outer(delta, hidden).ravel()
    return np.array([*first, *last, before.sum(), delta.sum()])


def by_float32_autograd(inputs, targets, weights):
    i, t, w = (torch.tensor(part, dtype=torch.float32) for part in (inputs, targets, weights))
    w.requires_grad_()
    out = torch.sigmoid(w[4:].view(2, 2) @ torch.sigmoid(w[:4].view(2, 2) @ i))
    return torch.autograd.grad(torch.nn.functional.mse_loss(out, t), w)[0]


def by_differences(inputs, targets, weights):
    nudges = 1e-5 * np.eye(8)
    E = [network.errors(inputs, targets, np.add(weights, n))[2] for n in (*nudges, *-nudges)]
    return np.subtract(E[:8], E[8:]) / 2e-5


@pytest.mark.parametrize("route", [by_matrices, by_float32_autograd, by_differences])
@given(student=students)
@settings(max_examples=20)
def test_a_right_answer_by_another_route_passes(route, student):
    with contextlib.redirect_stdout(io.StringIO()):
        part1.check_hidden_gradients(lambda *numbers: route(*numbers)[:4], student)
        part1.check_output_gradients(lambda *numbers: route(*numbers)[4:8], student)
        part1.check_update(
            lambda *n: np.subtract(n[2], n[3] * np.asarray(route(*n[:3]))[:8]), student
        )


def test_other_routes_through_the_other_exercises(capsys):
    part1.check_bias_gradients(lambda *numbers: by_matrices(*numbers)[8:])
    part1.check_batch_gradients(
        lambda i, t, w: [gradient.mean() for gradient in network.gradients(i.T, t.T, w)]
    )
    part1.check_train(lambda i, t, w, rate, n: network.train(rate, n, i, t, w)["E_total"])
    part1.check_forward(lambda i, w, b=(0, 0): torch.tensor(network.forward(i, w, b)))
    assert capsys.readouterr().out.count("✓ right") == 4


@pytest.mark.filterwarnings("error")
def test_an_answer_may_carry_gradients():
    torch.set_warn_always(True)
    try:
        answer = torch.tensor([0.5, 0.25], requires_grad=True)
        assert numbers(None, answer, ["a", "b"]) == [0.5, 0.25]
    finally:
        torch.set_warn_always(False)


def test_a_mistake_in_one_exercise_costs_nothing_in_the_next():
    wrong = cells()["forward"].replace("1 / (1 + np.exp(-h1))", "h1")
    assert "✓ right" in attempt("check-hidden-gradients", "4711", forward=wrong)
    stub = "def forward(inputs, weights, biases=(0, 0)):\n    raise NotImplementedError"
    for check in filter(re.compile("check-(?!workbook|forward)").match, cells()):
        assert "✓" in attempt(check, "4711", forward=stub)


def test_own_functions_of_another_form_will_do_too():
    own = cells()["forward"].replace("return h1", "return 'mine', h1")
    mine = cells()["errors"].replace("*_, a_o1", "_, *_, a_o1").replace("forward(", "forward(")
    use = cells()["output-gradients"].replace("h1, h2, a_h1", "_, h1, h2, a_h1", 1)
    assert "✓" in attempt("check-output-gradients", "1", forward=own, **{"output-gradients": use})
    assert "✓" in attempt("check-errors", "1", forward=own, errors=mine)


# Wrong answers


@pytest.mark.parametrize(
    ("cell", "there", "instead", "hint"),
    MISTAKES,
    ids=[f"{cell}: {hint}" for cell, _, _, hint in MISTAKES],
)
@given(student=students)
@settings(max_examples=3)
@pytest.mark.filterwarnings("ignore:No artists")
def test_every_slip_is_named(cell, there, instead, hint, student):
    source = cells()[cell]
    assert source.count(there) == 1
    with pytest.raises(AnswerError) as caught:
        attempt(f"check-{cell}", student, **{cell: source.replace(there, instead)})
    assert hint in str(caught.value)
    assert str(caught.value).count("\n") <= 2


def test_every_hint_is_planted():
    every = (*slips.FORWARD_SLIPS, *slips.GRADIENT_SLIPS, *slips.BIAS_SLIPS)
    planted = [hint.split(": ")[-1] for *_, hint in MISTAKES]
    assert [hint for hint in every if not any(words in hint for words in planted)] == []


def test_the_readme_shows_what_a_check_prints(capsys):
    readme = (SOURCE.parents[1] / "README.md").read_text()
    with pytest.raises(AnswerError) as caught:
        part1.check_hidden_gradients(lambda *numbers: pass_back(*numbers, back="5678")[:4])
    assert f"```\n{capsys.readouterr().out}{caught.value}\n```" in readme


def test_the_table_says_how_far_off(capsys):
    with pytest.raises(AnswerError, match="✗ b: off by one"):
        compare(["a", "b"], [[1, 2], [3, 4.0]], [[1, 3], [3, 5]], {"off by one": [[2, 2], [4, 4]]})
    assert capsys.readouterr().out.splitlines() == [
        "   exact  approximate  largest difference",
        "a  yes    yes          0.0e+00",
        "b  no     no           1.0e+00",
    ]


def test_no_number_is_not_taken_for_a_right_one():
    for nothing in (np.nan, np.inf):
        with pytest.raises(AnswerError, match="not right, and none of the usual slips"):
            compare(["a"], [[nothing]], [[1.0]])


@pytest.mark.parametrize("answer", [None, 0.5, "no numbers", {}, [[1, 2], [3, 4]]])
def test_what_is_no_answer_is_refused_in_one_line(answer):
    def output_gradients(*numbers):
        return answer

    with pytest.raises(AnswerError, match="output_gradients should return 4 numbers") as caught:
        part1.check_output_gradients(output_gradients)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:this would cost")
def test_warnings_do_not_reach_stderr(capfd):
    def forward(inputs, weights, biases=(0, 0)):
        warnings.warn("this would cost all points", stacklevel=1)
        return network.forward(inputs, weights, biases)

    part1.check_forward(forward)
    said = capfd.readouterr()
    assert said.err == ""
    assert "✓ right" in said.out


def test_every_wrong_answer_is_named_that_is_another_s_value():
    with pytest.raises(AnswerError, match=r"E2, E_total: this is the value of E1$"):
        part1.check_errors(lambda *numbers: (network.errors(*numbers)[0],) * 3)


@pytest.mark.parametrize(("label", "right"), [("{:g}", True), ("η = {:.2f}", True), ("1{}", False)])
def test_a_rate_is_named_by_a_number_of_its_size(label, right):
    def graph(curves):
        figure = Figure()
        axes = figure.subplots()
        for rate, curve in curves.items():
            axes.plot(curve, label=label.format(rate))
        axes.set(xlabel="step", ylabel="error")
        axes.legend()
        return figure

    if right:
        part1.check_graph(graph)
    else:
        with pytest.raises(AnswerError, match=r"lacks words that say which is 0\.1, 0\.2"):
            part1.check_graph(graph)


def test_no_graph_is_no_graph():
    with pytest.raises(AnswerError, match="should return a Figure, but returned None"):
        part1.check_graph(lambda curves: None)
    with pytest.raises(AnswerError, match=r"lacks the curves of 0\.1, 0\.2"):
        part1.check_graph(lambda curves: Figure())
