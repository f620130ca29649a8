"""The checks of part 1: how far off an answer is, and probably why.

Students run them in their notebook, and graders run the same ones. Each compares what a student's
function returns with `backprop.network`, for the student's numbers, the class's and others, and
prints whether it is exactly or approximately equal, and the largest difference. What is wrong is
then compared with what comes of the usual slips.
"""

import re
import reprlib
import sys
from contextlib import redirect_stderr
from functools import partial
from itertools import product

import numpy as np
from matplotlib.text import Text

from backprop import network
from backprop.formulas import label
from backprop.network import ERRORS, GRADIENTS, UNITS, sigmoid
from notebooks.assignment.compare import FOLLOWS, AnswerError, ask, compare
from notebooks.assignment.personal import Numbers, personal_numbers
from notebooks.assignment.slips import (
    BIAS_SLIPS,
    FORWARD_SLIPS,
    GRADIENT_SLIPS,
    each,
    pass_back,
    pass_forward,
    slipped,
)

BIASES = (0.35, 0.60)
RATE, STEPS = 0.5, 5  # of the training that is checked
BATCH = 6  # examples


def trials(student) -> list[Numbers]:
    """A student's numbers, the class's, and three others, whose weights have either sign."""
    others = [personal_numbers(f"trial {k}") for k in range(3)]
    weights = [np.multiply((1, -1, -1, 1, 1, -1, 1, -1), one.weights).tolist() for one in others]
    mixed = [one._replace(weights=tuple(w)) for one, w in zip(others, weights, strict=True)]
    return [personal_numbers(student), personal_numbers(), *mixed]


# What a student's functions may call, as it should be


def update(inputs, targets, weights, rate):
    """w1 … w8 after a step."""
    return tuple(np.array(weights) - rate * np.array(network.gradients(inputs, targets, weights)))


RIGHT = {
    "forward": network.forward,
    "errors": network.errors,
    "output_gradients": lambda *numbers: network.gradients(*numbers)[4:],
    "hidden_gradients": lambda *numbers: network.gradients(*numbers)[:4],
    "gradients": network.gradients,
    "update": update,
}


# The checks, in the order of the exercises


def check_forward(forward, student=None) -> None:
    """Check `forward(inputs, weights, biases=(0, 0))`, which returns the values of `UNITS`."""
    asked = [(n.inputs, n.weights, b) for n, b in product(trials(student), ((0, 0), BIASES))]
    want = each(network.forward, asked)
    slips = slipped(pass_forward, asked, FORWARD_SLIPS)
    slips["the biases are missing"] = each(lambda i, w, _: network.forward(i, w), asked)
    got = ask(forward, UNITS, asked, want, RIGHT)
    slips[FOLLOWS] = [_from_before(row, *one) for row, one in zip(got, asked, strict=True)]
    compare(UNITS, got, want, slips)


def _from_before(units, _, weights, biases):
    """Units as they should be, given a student's own values of those before them."""
    h1, h2, a_h1, a_h2, o1, o2, *_ = units
    w5, w6, w7, w8 = weights[4:]
    o = w5 * a_h1 + w6 * a_h2 + biases[1], w7 * a_h1 + w8 * a_h2 + biases[1]
    return np.nan, np.nan, *sigmoid(np.array([h1, h2])), *o, *sigmoid(np.array([o1, o2]))


def check_errors(errors, student=None) -> None:
    """Check `errors(inputs, targets, weights)`, which returns E1, E2 and E_total."""
    asked = trials(student)
    want = each(network.errors, asked)
    targets = np.array([one.targets for one in asked])
    outputs = each(lambda inputs, _, weights: network.forward(inputs, weights)[6:], asked)
    sums = each(lambda inputs, _, weights: network.forward(inputs, weights)[4:6], asked)

    def with_sum(both):
        return np.column_stack([both, both.sum(axis=1)])

    slips = {
        "the ½ is missing": 2 * want,
        "the square is missing": with_sum((targets - outputs) / 2),
        "square and ½ are missing": with_sum(targets - outputs),
        "the error is of a_o1 and a_o2, not of o1 and o2": with_sum((targets - sums) ** 2 / 2),
        "E_total is the sum, not the mean": want * (1, 1, 0.5),
    }
    got = ask(errors, ERRORS, asked, want, RIGHT)
    slips[FOLLOWS] = with_sum(got[:, :2]) * (np.nan, np.nan, 1)
    compare(ERRORS, got, want, slips)


def check_output_gradients(output_gradients, student=None) -> None:
    """Check `output_gradients(inputs, targets, weights)`: ∂E/∂w5 … ∂E/∂w8."""
    _check_gradients(output_gradients, trials(student), slice(4, 8))


def check_hidden_gradients(hidden_gradients, student=None) -> None:
    """Check `hidden_gradients(inputs, targets, weights)`: ∂E/∂w1 … ∂E/∂w4."""
    _check_gradients(hidden_gradients, trials(student), slice(0, 4))


def _check_gradients(function, asked, part, slips=GRADIENT_SLIPS):
    names = [label(symbol) for symbol in (*GRADIENTS, "dE_db1", "dE_db2")[part]]
    want = each(pass_back, asked)[:, part]
    slips = slipped(pass_back, asked, slips, part)
    unbiased = each(lambda *one: pass_back(*one[:3]), asked)[:, part]
    slips["the biases are missing in the forward pass"] = unbiased
    compare(names, ask(function, names, asked, want, RIGHT), want, slips)


def check_update(update, student=None) -> None:
    """Check `update(inputs, targets, weights, rate)`, which returns w1 … w8 after one step."""
    asked = [(*one, rate) for one, rate in product(trials(student), (RATE, 2.0))]
    names = [label(f"new_w{k}") for k in range(1, 9)]
    weights = np.array([one[2] for one in asked])
    gradients = each(lambda *one: network.gradients(*one[:3]), asked)
    rates = np.array([[one[3]] for one in asked])
    want = weights - rates * gradients
    halves = np.hstack([weights[:, :4], want[:, 4:]]), np.hstack([want[:, :4], weights[:, 4:]])
    late, first = (
        np.array([network.gradients(*one[:2], w) for one, w in zip(asked, half, strict=True)])
        for half in halves
    )
    back = [pass_back(*one[:3], old=new)[:8] for one, new in zip(asked, want, strict=True)]
    early = "updated weights are used too early: all gradients are of the old weights, but"
    slips = {
        "the learning rate is missing": weights - gradients,
        "the sign is wrong: a step goes against the gradient": weights + rates * gradients,
        "this is the step alone, without the weight it changes": -rates * gradients,
        f"{early} these are of the new w5 … w8": weights - rates * late,
        f"{early} the new w5 … w8 carry the error back": weights - rates * back,
        f"{early} these are of the new w1 … w4": weights - rates * first,
    }
    compare(names, ask(update, names, asked, want, RIGHT), want, slips)


def check_train(train, student=None) -> None:
    """Check `train(inputs, targets, weights, rate, steps)`: E_total after 0, 1, … `steps` steps."""
    asked = [(*one, RATE, STEPS) for one in trials(student)]
    names = [f"E_total, step {step}" for step in range(STEPS + 1)]

    def curve(
        inputs, targets, start, rate, steps, move=lambda i, t, w, _, rate: update(i, t, w, rate)
    ):
        weights, E_total = start, []
        for _ in range(steps + 1):
            E_total.append(network.errors(inputs, targets, weights)[2])
            weights = move(inputs, targets, weights, start, rate)
        return E_total

    moves = {
        "the weights never change": lambda i, t, w, start, rate: w,
        "the learning rate is missing": lambda i, t, w, start, rate: update(i, t, w, 1),
        "the sign is wrong: the error rises": lambda i, t, w, start, rate: update(i, t, w, -rate),
        "every step takes the start's gradients: compute them anew": lambda i, t, w, start, rate: (
            np.add(w, update(i, t, start, rate)) - start
        ),
    }
    want = each(curve, asked)
    slips = {hint: each(partial(curve, move=move), asked) for hint, move in moves.items()}
    late = each(lambda *one: curve(*one[:4], STEPS + 1)[1:], asked)
    slips["each error is taken a step too late: the first is that of the start"] = late
    compare(names, ask(train, names, asked, want, RIGHT), want, slips)


def check_graph(error_graph, student=None) -> None:
    """Check `error_graph(curves)`, which draws {rate: E_total of every step} in a `Figure`."""
    numbers = personal_numbers(student)
    curves = {rate: network.train(rate, 50, *numbers)["E_total"] for rate in network.RATES}
    with redirect_stderr(sys.stdout):
        figure = error_graph({rate: list(curve) for rate, curve in curves.items()})
    if not hasattr(figure, "axes"):
        raise AnswerError(
            f"✗ error_graph should return a Figure, but returned {reprlib.repr(figure)}"
        )
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    drawn = [line.get_ydata() for axes in figure.axes for line in axes.get_lines()]
    undrawn = [r for r, curve in curves.items() if not any(np.array_equal(d, curve) for d in drawn)]
    named = {*map(float, re.findall(r"\d*\.?\d+", words))}
    unnamed = [rate for rate in curves if rate not in named]
    missing = [
        f"{what} {', '.join(map(str, rates))}"
        for what, rates in (("the curves of", undrawn), ("words that say which is", unnamed))
        if rates
    ]
    if not any(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes):
        missing.append("the names of both axes")
    if missing:
        raise AnswerError("\n".join(f"✗ the graph lacks {what}" for what in missing))
    print("✓ six curves, named, and both axes")


def check_bias_gradients(bias_gradients, student=None) -> None:
    """Check `bias_gradients(inputs, targets, weights, biases)`: ∂E/∂b1 and ∂E/∂b2."""
    asked = [(*one, BIASES) for one in trials(student)]
    _check_gradients(bias_gradients, asked, slice(8, 10), BIAS_SLIPS | GRADIENT_SLIPS)


def check_batch_gradients(batch_gradients, student=None) -> None:
    """Check `batch_gradients(inputs, targets, weights)`: the mean gradients of several examples.

    Inputs and targets are (examples, 2).
    """
    names = [label(symbol) for symbol in GRADIENTS]
    start, *_, other = trials(student)
    examples = [personal_numbers(f"example {k}") for k in range(BATCH)]
    inputs, targets = (np.array([one[k] for one in examples]) for k in (0, 1))
    asked = [(inputs, targets, one.weights) for one in (start, other)]
    of_all = [np.stack(network.gradients(i.T, t.T, w)) for i, t, w in asked]  # (8, examples)
    want = np.array([gradients.mean(axis=1) for gradients in of_all])
    slips = {
        "the mean over the batch is forgotten: this is the sum": BATCH * want,
        "only the first example is counted": [gradients[:, 0] for gradients in of_all],
        "only the last example is counted": [gradients[:, -1] for gradients in of_all],
        "these are the gradients of the mean example, not the mean of the gradients": each(
            lambda i, t, w: network.gradients(i.mean(axis=0), t.mean(axis=0), w), asked
        ),
    }
    compare(names, ask(batch_gradients, names, asked, want, RIGHT), want, slips)
