"""The checks let right answers pass, by any route, and name every usual slip."""

import contextlib
import inspect
import io
import re
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from backprop import network
from notebooks.assignment import part1, slips
from notebooks.assignment.compare import AnswerError, call, compare, is_students, numbers
from notebooks.assignment.personal import CLASS, personal_numbers
from notebooks.assignment.slips import pass_back, pass_forward
from s4lib.runtime import UsageError
from tests import answers, mistakes
from tests.mistakes.part1_backpropagation import MISTAKES

README = Path(__file__).parents[1] / "notebooks/assignment/README.md"
students = st.integers(1, 10**8).map(str)
STEM = "part1_backpropagation"
cells, attempt, solve = (
    partial(function, STEM) for function in (answers.cells, answers.attempt, answers.solve)
)


# Personal numbers


@settings(max_examples=25)  # of six trainings each
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
    assert personal_numbers("Straße 1") == personal_numbers("STRASSE 1")
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
    biases = part1.BIASES[0] if with_biases else (0.0, 0.0)
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
        assert re.fullmatch("✓ .*\n", attempt(check, student)), "a right answer has one line"


def by_matrices(inputs, targets, weights, biases=(0, 0)):
    """Return all ten derivatives, computed in another way than the course's."""
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


def forward_by_matrices(inputs, weights, biases=(0, 0)):
    W, V = np.reshape(weights, (2, 2, 2))
    h = W @ inputs + biases[0]
    a = 1 / (1 + np.exp(-h))
    o = V @ a + biases[1]
    return np.concatenate([h, a, o, 1 / (1 + np.exp(-o))])


def forward_in_float32(inputs, weights, biases=(0, 0)):
    return forward_by_matrices(*(np.float32(one) for one in (inputs, weights, biases)))


def forward_that_prints(i, w, b=(0, 0)):
    print("i, w =", i, w)
    yield from network.forward(i, w, b)


def errors_of_a_loop(inputs, targets, weights):
    outputs = network.forward(inputs, weights)[-2:]
    both = [0.5 * (t - a) ** 2 for t, a in zip(targets, outputs, strict=True)]
    return *both, sum(both)


def recursive_training(inputs, targets, weights, rate, steps):
    first = network.errors(inputs, targets, weights)[2]
    if steps == 0:
        return [first]
    new = part1.update(inputs, targets, weights, rate)
    return [first, *recursive_training(inputs, targets, new, rate, steps - 1)]


def update_in_place(inputs, targets, weights, rate):
    weights = np.array(weights)
    weights -= rate * np.array(network.gradients(inputs, targets, weights))
    return weights


def batch_by_matrices(inputs, targets, weights):
    rows = [by_matrices(i, t, weights)[:8] for i, t in zip(inputs, targets, strict=True)]
    inputs *= 0  # what it is given is its own
    return np.mean(rows, 0)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (part1.check_forward, forward_by_matrices),
        (part1.check_forward, forward_in_float32),
        (part1.check_forward, forward_that_prints),
        (part1.check_forward, lambda i, w, b=(0, 0): [*map(str, network.forward(i, w, b))]),
        (part1.check_forward, partial(network.forward)),
        (part1.check_errors, errors_of_a_loop),
        (part1.check_errors, lambda *n: torch.tensor(network.errors(*n), requires_grad=True)),
        (part1.check_errors, lambda *n: np.float32(network.errors(*n))),
        (part1.check_hidden_gradients, lambda *n: (g for g in by_matrices(*n)[:4])),
        (part1.check_update, update_in_place),
        (part1.check_train, recursive_training),
        (part1.check_train, lambda *n: torch.tensor(recursive_training(*n), dtype=torch.float32)),
        (part1.check_batch_gradients, batch_by_matrices),
        (part1.check_bias_gradients, lambda *n: by_differences_of_biases(*n)),
    ],
)
def test_routes_that_people_take(check, answer):
    for student in ("", "4711"):
        check(answer, student)


def by_differences_of_biases(inputs, targets, weights, biases):
    nudges = np.array([(1e-5, 0), (0, 1e-5)])
    E = partial(network.errors, inputs, targets, weights)
    return [(E(biases + n)[2] - E(np.subtract(biases, n))[2]) / 2e-5 for n in nudges]


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
    mine = cells()["errors"].replace("*_, a_o1", "_, *_, a_o1")
    use = cells()["output-gradients"].replace("h1, h2, a_h1", "_, h1, h2, a_h1", 1)
    assert "✓" in attempt("check-output-gradients", "1", forward=own, **{"output-gradients": use})
    assert "✓" in attempt("check-errors", "1", forward=own, errors=mine)


# What is stood in for

CIRCULAR = {
    "forward": "def forward2(*a):\n    return forward(*a)\n\n\nforward = forward2",
    "errors": "def errors2(*a):\n    return errors(*a)\n\n\nerrors = errors2",
    "output-gradients": "def output_gradients(*n):\n    return gradients(*n)[4:]",
    "hidden-gradients": "def hidden_gradients(*n):\n    return gradients(*n)[:4]",
    "update": "def update2(*a):\n    return update(*a)\n\n\nupdate = update2",
    "train": "def train(*a):\n    return train(*a)",
    "bias-gradients": "def bias_gradients(*a):\n    return bias_gradients(*a)",
    "batch-gradients": "def batch_gradients(*a):\n    return batch_gradients(*a)",
}


@pytest.mark.parametrize("cell", CIRCULAR)
def test_what_calls_only_itself_earns_nothing(cell):
    """Nor does an alias of it: what is asked, and what comes after it, is not stood in for."""
    name = cell.replace("-", "_")
    for source in (
        CIRCULAR[cell],
        f"{CIRCULAR[cell]}\nmine = {name}\n{name} = lambda *a: mine(*a)",
    ):
        with pytest.raises(AnswerError, match="calls itself without end"):
            attempt(f"check-{cell}", "4711", **{cell: source})


def test_an_alias_of_an_earlier_exercise_is_stood_in_for():
    wrong = cells()["forward"].replace("1 / (1 + np.exp(-h1))", "h1") + "\n\nahead = forward"
    mine = cells()["errors"].replace("forward(", "ahead(")
    assert "✓ right" in attempt("check-errors", "4711", forward=wrong, errors=mine)


def test_the_student_s_functions_are_there_again_after_a_check():
    space = solve("4711")
    before = dict(space)
    with contextlib.redirect_stdout(io.StringIO()):
        exec(cells()["check-update"], space)
    assert all(space[name] is one for name, one in before.items() if inspect.isfunction(one))


# Errors in an answer


def test_an_error_has_one_line_with_the_student_s_own():
    def helper(x):
        return np.linalg.inv(x)

    def errors(inputs, targets, weights):
        return helper("no matrix")

    line = inspect.getsourcelines(helper)[1] + 1
    with pytest.raises(AnswerError) as caught:
        part1.check_errors(errors)
    said = str(caught.value)
    assert said.startswith("✗ errors raised LinAlgError: 0-dimensional array given.")
    assert said.endswith(f"(line {line} of helper: return np.linalg.inv(x))")
    assert "\n" not in said
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_line_of_ours_is_ours_through_a_link_as_well(tmp_path):
    (tmp_path / "course").symlink_to(Path(network.__file__).parents[1])
    for file in ("backprop/network.py", "notebooks/assignment/part1.py"):
        assert not is_students(str(tmp_path / "course" / file))
    assert is_students(str(tmp_path / "course" / "own.py"))
    assert is_students("<ipython-input-1>")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (SystemExit(), "✗ answer raised SystemExit"),
        (KeyError("x"), "✗ answer raised KeyError: 'x'"),
        (ValueError("one\ntwo"), "✗ answer raised ValueError: one (line"),
        (RuntimeError(300 * "word "), "word … (line"),
        (NotImplementedError(), "✗ answer is not written yet"),
        (UsageError("said already"), "said already"),
    ],
)
def test_whatever_an_answer_raises(error, said):
    def answer():
        raise error

    with pytest.raises((AnswerError, UsageError)) as caught:
        call(answer)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_calls_an_exercise_that_is_not_written_says_which():
    def bias_gradients(*numbers):
        return unwritten(*numbers)

    def unwritten(*numbers):
        raise NotImplementedError()

    with pytest.raises(AnswerError, match=r"^✗ bias_gradients calls unwritten, which is not"):
        part1.check_bias_gradients(bias_gradients)


def test_an_untouched_release_is_not_written_yet():
    for cell, name in {c: c.replace("-", "_") for c in CIRCULAR}.items():
        stub = f"def {name}(*n, **more):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
        with pytest.raises(AnswerError, match=f"^✗ {name} is not written yet$"):
            attempt(f"check-{cell}", "4711", **{cell: stub})


def test_the_checks_of_part_1_need_no_torch():
    code = "import sys; from notebooks.assignment import part1; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=README.parents[2], check=True)


# Wrong answers


@pytest.mark.parametrize("slip", mistakes.rows(MISTAKES), ids="{0[0]}: {0[3]}".format)
@pytest.mark.filterwarnings("ignore:No artists")
def test_every_slip_is_named(slip):
    said = mistakes.said(STEM, *slip)
    assert slip[-1] in said
    assert said.count("\n") <= 2


def test_every_hint_is_planted():
    tables = slips.FORWARD_SLIPS, slips.GRADIENT_SLIPS, slips.CODE_SLIPS, slips.BIAS_SLIPS
    assert mistakes.never_said(STEM, MISTAKES, *tables) == []


def test_the_readme_shows_what_a_check_prints(capsys):
    readme = README.read_text()
    with pytest.raises(AnswerError) as caught:
        part1.check_hidden_gradients(lambda *numbers: pass_back(*numbers, back="5678")[:4])
    assert f"```\n{capsys.readouterr().out}{caught.value}\n```" in readme


def test_the_table_says_how_far_off(capsys):
    with pytest.raises(AnswerError, match="✗ b: off by one"):
        compare(
            ["a", "b"], [[1, 2], [3, 4.0]], [[1, 3], [3, 5]], [("off by one", [[2, 2], [4, 4]])]
        )
    assert capsys.readouterr().out.splitlines() == [
        "      largest difference",
        "a  ✓  0.0e+00",
        "b  ✗  1.0e+00",
    ]
    compare(["a"], [[1.0]], [[1.0]])
    compare(["a"], [[1.0 + 2**-50]], [[1.0]])
    assert capsys.readouterr().out == "✓ right, to the bit\n✓ right (largest difference 8.9e-16)\n"


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


# The graph


def labelled(label):
    def graph(curves):
        figure = Figure()
        axes = figure.subplots()
        for rate, curve in curves.items():
            axes.plot(curve, label=label.format(rate))
        axes.set(xlabel="step", ylabel="error")
        axes.legend()
        return figure

    return graph


def scattered(curves):
    figure, axes = plt.subplots()
    for rate, curve in curves.items():
        axes.scatter(range(len(curve)), curve, label=rate, s=4)
    axes.legend(title="η")
    axes.set(xlabel="iteration", ylabel="E")
    return figure


def every_fifth(curves):
    figure, axes = plt.subplots()
    for rate, curve in curves.items():
        axes.plot(range(0, len(curve), 5), curve[::5], "o-", label=rate)
    axes.legend()
    axes.set(xlabel="Schritt", ylabel="Fehler $E$")
    return figure


def named_by_the_figure(curves):
    figure = Figure()
    axes = figure.subplots()
    for rate, curve in curves.items():
        axes.semilogy(np.arange(len(curve)), np.float32(curve))
        axes.annotate(f"{rate:g}", (len(curve) - 1, curve[-1]))
    figure.supxlabel("number of updates")
    figure.supylabel("$E_{total}$ (log)")
    return figure


def with_an_inset(curves):
    figure = named_by_the_figure(curves)
    small = figure.axes[0].inset_axes([0.5, 0.5, 0.4, 0.4])
    small.plot(curves[min(curves)][:5])
    return figure


@pytest.mark.parametrize(
    "graph",
    [
        *map(labelled, ("{:g}", "η = {:.2f}", "rate {}, 6 of them")),
        lambda curves: labelled("{}")({rate: np.array(c) for rate, c in curves.items()}),
        scattered,
        every_fifth,
        named_by_the_figure,
        with_an_inset,
    ],
)
def test_graphs_that_a_reader_understands(graph, capsys):
    part1.check_graph(graph, "4711")
    assert capsys.readouterr().out == "✓ six curves, named, and both axes\n"
    plt.close("all")


def test_a_decimal_comma_is_a_decimal_point():
    def graph(curves):
        figure = labelled("{}")(curves)
        for text in figure.axes[0].get_legend().get_texts():
            text.set_text("η = " + text.get_text().replace(".", ","))
        return figure

    part1.check_graph(graph)


def own_curves_alone(curves):
    own = personal_numbers("4711")
    return labelled("{}")({r: network.train(r, 50, *own)["E_total"] for r in network.RATES})


def other_steps(curves):
    return labelled("{}")({rate: curve[::-1] for rate, curve in curves.items()})


def three_points(curves):
    return labelled("{}")({rate: [curve[0], curve[-1]] for rate, curve in curves.items()})


@pytest.mark.parametrize(
    ("graph", "hint"),
    [
        (labelled("1{}"), "no label names the curve of 0.1, 0.2"),
        (lambda curves: labelled("{}")(curves).axes, "should return a Figure, but returned list"),
        (lambda curves: Figure(), "lacks the curves of 0.1, 0.2"),
        (own_curves_alone, "it draws only your own curves"),
        (other_steps, "lacks the curves of 0.1, 0.2"),
        (three_points, "lacks the curves of 0.1, 0.2"),
    ],
)
def test_graphs_that_lack_something(graph, hint):
    with pytest.raises(AnswerError, match=re.escape(hint)):
        part1.check_graph(graph, "4711")


def test_no_figure_is_left_open_by_a_graph_that_fails():
    def graph(curves):
        plt.subplots()
        raise NotImplementedError()

    open_before = plt.get_fignums()
    with pytest.raises(AnswerError, match="not written yet"):
        part1.check_graph(graph)
    assert plt.get_fignums() == open_before
