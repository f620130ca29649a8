"""The usual slips in a derivation by hand, each with its effect on the network's numbers.

A slip is a set of options of `pass_forward` or `pass_back`; the tables give the hint for each. A
slip that takes several forms has a list of options.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np

from backprop import network
from backprop.network import sigmoid, slope


def pass_forward(
    inputs,
    weights,
    biases=(0, 0),
    *,
    own=None,
    activation=sigmoid,
    order="12345678",
    comes_from="a_h",
    times=(1, 1, 1, 1),
):
    """Compute `network.forward`, or, with an option, what a slip makes of it.

    With a student's `own` eight values, each unit is computed from the student's values of the
    units before it, so that one slip in two places explains both. `activation` replaces the
    sigmoid, `order` exchanges weights, `comes_from` names what the output layer takes in, and
    `times` is what the bias of h1, h2, o1 and o2 is multiplied by.
    """
    (i1, i2), (b1, b2) = inputs, biases
    w1, w2, w3, w4, w5, w6, w7, w8 = (weights[int(k) - 1] for k in order)
    h = w1 * i1 + w2 * i2 + b1 * times[0], w3 * i1 + w4 * i2 + b1 * times[1]
    own_h = h if own is None else own[:2]
    a_h = activation(np.array(own_h))
    x1, x2 = {"a_h": a_h if own is None else own[2:4], "h": own_h, "i": inputs}[comes_from]
    o = w5 * x1 + w6 * x2 + b2 * times[2], w7 * x1 + w8 * x2 + b2 * times[3]
    return *h, *a_h, *o, *activation(np.array(o if own is None else own[4:6]))


def pass_back(
    inputs,
    targets,
    weights,
    biases=(0, 0),
    *,
    factor=1,
    out=slope,
    hidden=slope,
    path_shares=(1, 1),
    unit_shares=(1, 1),
    order_back="5768",
    old=None,
    second=("a_o2", "t2", "o2", "h2"),
    swap=False,
    into_hidden=("i1", "i2", "i1", "i2"),
    into_out=("a_h1", "a_h2", "a_h1", "a_h2"),
    into_biases=("1", "1", "1", "1"),
    carried=("1", "1"),
    unbiased=False,
):
    """Compute ∂E/∂w1 … ∂E/∂w8, ∂E/∂b1 and ∂E/∂b2, or, with an option, what a slip makes of them.

    `factor` multiplies the error's slope; `out` and `hidden` are the slopes of the sigmoids.
    `path_shares` holds the share of each output's error that comes back to the hidden units, and
    `unit_shares` the share of each unit's error that a bias gets. `order_back` names the weights on
    the way back, and `old` the weights that these are taken from. Options with names choose other
    values: `second` those of the second output and the second hidden unit, `carried` the factors of
    the errors that come back to h1 and h2, `into_…` the last factor of a unit's error. `swap`
    exchanges the outputs' targets, and `unbiased` leaves the biases out of the forward pass.
    """
    targets = targets[::-1] if swap else targets
    names = (*network.UNITS, "i1", "i2", "t1", "t2", *(f"w{k}" for k in range(1, 9)), "b1", "b2")
    units_there = network.forward(inputs, weights, (0, 0) if unbiased else biases)
    value = dict(zip(names, (*units_there, *inputs, *targets, *weights, *biases), strict=True))
    value |= {"1": 1, "i1+i2": sum(inputs), "a_h1+a_h2": value["a_h1"] + value["a_h2"]}
    w5, w7, w6, w8 = ((weights if old is None else old)[int(k) - 1] for k in order_back)
    a_o2, t2, o2, h2 = (value[name] for name in second)

    dE_do1 = factor * (value["a_o1"] - value["t1"]) * out(value["o1"])
    dE_do2 = factor * (a_o2 - t2) * out(o2)
    dE_dh1 = (path_shares[0] * dE_do1 * w5 + path_shares[1] * dE_do2 * w7) * hidden(value["h1"])
    dE_dh2 = (path_shares[0] * dE_do1 * w6 + path_shares[1] * dE_do2 * w8) * hidden(h2)
    dE_dh1, dE_dh2 = dE_dh1 * value[carried[0]], dE_dh2 * value[carried[1]]

    lines = (dE_dh1, dE_dh1, dE_dh2, dE_dh2), (dE_do1, dE_do1, dE_do2, dE_do2)
    lines = *lines, (dE_dh1, dE_dh2, dE_do1, dE_do2)
    to_hidden, to_out, to_biases = (
        [dE * value[name] for dE, name in zip(line, into, strict=True)]
        for line, into in zip(lines, (into_hidden, into_out, into_biases), strict=True)
    )
    dE_db1 = unit_shares[0] * to_biases[0] + unit_shares[1] * to_biases[1]
    dE_db2 = unit_shares[0] * to_biases[2] + unit_shares[1] * to_biases[3]
    return *to_hidden, *to_out, dE_db1, dE_db2


# Instead of the sigmoid, or of its slope. To leave one out, use np.positive or np.ones_like.


def falling(x):
    """Return the sigmoid with the wrong sign."""
    return sigmoid(-x)


def without_brackets(x):
    """Return 1 / 1 + e^−x."""
    return 1 + np.exp(-x)


def relu(x):
    return np.maximum(x, 0)


def twice(x):
    return sigmoid(sigmoid(x))


def of_the_sum(x):
    """Return a (1 − a) with the weighted sum for a."""
    return x * (1 - x)


def of_the_activation(x):
    """Return σ′ at a instead of at the weighted sum."""
    return slope(sigmoid(x))


def one_minus(x):
    return sigmoid(-x)


def squared(x):
    return sigmoid(x) ** 2


def of_tanh(x):
    return 1 - sigmoid(x) ** 2


FORWARD_SLIPS = {
    "the sigmoid is missing": {"activation": np.positive},
    "the sign in the exponent is wrong: the sigmoid is 1 / (1 + e^−x)": {"activation": falling},
    "1 / 1 + e^−x is 1 + e^−x: the sum needs brackets": {"activation": without_brackets},
    "this is tanh, another function than the sigmoid": {"activation": np.tanh},
    "this is ReLU, another function than the sigmoid": {"activation": relu},
    "the sigmoid is taken twice": {"activation": twice},
    "w2 and w3 are swapped: w1 and w2 lead to h1, w3 and w4 to h2": {"order": "13245678"},
    "each weight has the other input: w1 and w3 come from i1, w2 and w4 from i2": {
        "order": "21435678"
    },
    "w6 and w7 are swapped: w5 and w6 lead to o1, w7 and w8 to o2": {"order": "12345768"},
    "w5 and w6 are swapped: w5 comes from a_h1, w6 from a_h2": {"order": "12346578"},
    "w7 and w8 are swapped: w7 comes from a_h1, w8 from a_h2": {"order": "12345687"},
    "o1 and o2 add up a_h1 and a_h2, not i1 and i2": {"comes_from": "i"},
    "o1 and o2 add up a_h1 and a_h2, not h1 and h2": {"comes_from": "h"},
    "the biases are missing": {"times": (0, 0, 0, 0)},
    "a unit's bias is added once, not once for each weight": {"times": (2, 2, 2, 2)},
}
GRADIENT_SLIPS = {
    "the sign is wrong: ½ (t − a)² falls when a rises towards t, so its slope is a − t": {
        "factor": -1
    },
    "twice too large: the ½ in the error cancels the 2 of the square": {"factor": 2},
    "half of what it should be: the square's 2 has already cancelled the ½, and paths add up": {
        "factor": 0.5
    },
    "the slope of the output's sigmoid, a_o (1 − a_o), is missing": {"out": np.ones_like},
    "the slope of the hidden unit's sigmoid, a_h (1 − a_h), is missing": {"hidden": np.ones_like},
    "the slopes of both sigmoids, a (1 − a), are missing": {
        "out": np.ones_like,
        "hidden": np.ones_like,
    },
    "the output's slope is a_o (1 − a_o), not o (1 − o)": {"out": of_the_sum},
    "the hidden unit's slope is a_h (1 − a_h), not h (1 − h)": {"hidden": of_the_sum},
    "both slopes are a (1 − a), of the sigmoid and not of the sum": {
        "out": of_the_sum,
        "hidden": of_the_sum,
    },
    "the sum over both outputs is missing: only the path through o1 counts": {
        "path_shares": (1, 0)
    },
    "the sum over both outputs is missing: only the path through o2 counts": {
        "path_shares": (0, 1)
    },
    "w6 and w7 are swapped on the way back: a_h1 goes out through w5 and w7": {
        "order_back": "5678"
    },
    "w5 and w6 are swapped on the way back: w5 goes out of a_h1, w6 of a_h2": {
        "order_back": "6758"
    },
}
# Slips in code: copied lines, and σ′ of the wrong argument.
CODE_SLIPS = {
    "the slope is σ′(o) = a_o (1 − a_o), with a_o = σ(o): here the sigmoid of a_o is taken": {
        "out": of_the_activation
    },
    "the slope is σ′(h) = a_h (1 − a_h), with a_h = σ(h): here the sigmoid of a_h is taken": {
        "hidden": of_the_activation
    },
    "both slopes are a (1 − a), with a = σ(sum): here the sigmoid of a is taken": {
        "out": of_the_activation,
        "hidden": of_the_activation,
    },
    "the output's slope is a_o (1 − a_o): a factor of it is missing": [
        {"out": sigmoid},
        {"out": one_minus},
        {"out": squared},
    ],
    "the hidden unit's slope is a_h (1 − a_h): a factor of it is missing": [
        {"hidden": sigmoid},
        {"hidden": one_minus},
        {"hidden": squared},
    ],
    "1 − a² is the slope of tanh; the sigmoid's is a (1 − a)": [
        {"out": of_tanh},
        {"hidden": of_tanh},
        {"out": of_tanh, "hidden": of_tanh},
    ],
    "the line was copied from the first output: the second has a_o2, t2 and its own slope": [
        {"second": (a_o, t, o, "h2")}
        for a_o in ("a_o1", "a_o2")
        for t in ("t1", "t2")
        for o in ("o1", "o2")
        if (a_o, t, o) != ("a_o2", "t2", "o2")
    ],
    "the line was copied from the first hidden unit: the second has a_h2 (1 − a_h2)": {
        "second": ("a_o2", "t2", "o2", "h1")
    },
    "the targets are swapped: t1 belongs to a_o1, t2 to a_o2": {"swap": True},
    "the last factor, a_h, is missing": {"into_out": ("1", "1", "1", "1")},
    "the last factor is a_h, not h": {"into_out": ("h1", "h2", "h1", "h2")},
    "the last factor is a_h, not the weight": {"into_out": ("w5", "w6", "w7", "w8")},
    "the last factor is a_h, not the input": {"into_out": ("i1", "i2", "i1", "i2")},
    "the last factor, i1 or i2, is missing": {"into_hidden": ("1", "1", "1", "1")},
    "the last factor is i1 or i2, not the weight": {"into_hidden": ("w1", "w2", "w3", "w4")},
    "the last factor is i1 or i2, not a_h": {"into_hidden": ("a_h1", "a_h1", "a_h2", "a_h2")},
    "back to a_h1 goes ∂E/∂o1 times w5, not ∂E/∂w5 times w5": [
        {"carried": names, "hidden": hidden}
        for names in (("a_h1", "a_h2"), ("a_h1", "a_h1"), ("a_h2", "a_h2"))
        for hidden in (slope, np.ones_like)
    ],
    "back to a_h1 goes ∂E/∂o1 times w5, not ∂E/∂w5 alone": [
        {"carried": names, "old": (1,) * 8}
        for names in (("a_h1", "a_h2"), ("a_h1", "a_h1"), ("a_h2", "a_h2"))
    ],
    "the weights on the way back are missing: back to a_h1 goes ∂E/∂o1 times w5": {"old": (1,) * 8},
    "the sign is wrong in one of the two paths from the outputs": [
        {"path_shares": (1, -1)},
        {"path_shares": (-1, 1)},
    ],
}
BIAS_SLIPS = {
    "a bias enters two units, and only the first one's error is counted": {"unit_shares": (1, 0)},
    "a bias enters two units, and only the second one's error is counted": {"unit_shares": (0, 1)},
    "the two units' errors add up; this is their mean": {"unit_shares": (0.5, 0.5)},
    "the two units' errors add up; this is their difference": [
        {"unit_shares": (1, -1)},
        {"unit_shares": (-1, 1)},
    ],
    "a bias has no input: its last factor is 1, not i or a_h": [
        {"into_biases": (*first, *last)}
        for first in (("i1", "i2"), ("i1", "i1"), ("i2", "i2"))
        for last in (("a_h1", "a_h2"), ("a_h1", "a_h1"), ("a_h2", "a_h2"))
    ],
    "a bias's gradient is the sum of ∂E/∂h1 and ∂E/∂h2, not of the weights' gradients": [
        {"into_biases": ("i1+i2", "i1+i2", "a_h1+a_h2", "a_h1+a_h2"), "unbiased": unbiased}
        for unbiased in (False, True)
    ],
    "the last factor of a bias is 1, not the bias": {"into_biases": ("b1", "b1", "b2", "b2")},
}


def results_of(function, trials) -> np.ndarray:
    """Return `function` of every trial, as (trials, names)."""
    return np.array([function(*trial) for trial in trials])


def slipped(function, trials, slips, part=slice(None)) -> Iterator[tuple[str, np.ndarray]]:
    """Return each hint of `slips`, with what its options make of `part` of `function`'s values."""
    for hint, forms in slips.items():
        for options in [forms] if isinstance(forms, dict) else forms:
            yield hint, results_of(partial(function, **options), trials)[:, part]
