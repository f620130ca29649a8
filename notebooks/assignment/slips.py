"""The usual slips in a derivation by hand, each as what it makes of the network's numbers.

A slip is options of `pass_forward` or of `pass_back`; the tables give each its hint.
"""

from functools import partial

import numpy as np

from backprop import network
from backprop.network import sigmoid, slope


def pass_forward(inputs, weights, biases=(0, 0), *, inner=sigmoid, outer=sigmoid, order="12345678"):
    """`network.forward` with other sigmoids, or with weights in each other's place."""
    (i1, i2), (b1, b2) = inputs, biases
    w1, w2, w3, w4, w5, w6, w7, w8 = (weights[int(k) - 1] for k in order)
    h1, h2 = w1 * i1 + w2 * i2 + b1, w3 * i1 + w4 * i2 + b1
    a_h1, a_h2 = inner(h1), inner(h2)
    o1, o2 = w5 * a_h1 + w6 * a_h2 + b2, w7 * a_h1 + w8 * a_h2 + b2
    return h1, h2, a_h1, a_h2, o1, o2, outer(o1), outer(o2)


def pass_back(
    inputs,
    targets,
    weights,
    biases=(0, 0),
    *,
    factor=1,
    out=slope,
    hidden=slope,
    roads=(1, 1),
    units=(1, 1),
    back="5768",
    old=None,
):
    """∂E/∂w1 … ∂E/∂w8, ∂E/∂b1 and ∂E/∂b2, right unless an option puts a slip in.

    `factor` multiplies the error's slope, `out` and `hidden` are the slopes of the sigmoids,
    `roads` says how much of each output's error comes back to the hidden units, `units` how much
    of each unit's error a bias gets, `back` which weights it comes back by, and `old` which
    weights these are taken from.
    """
    (i1, i2), (t1, t2) = inputs, targets
    h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2 = network.forward(inputs, weights, biases)
    w5, w7, w6, w8 = ((weights if old is None else old)[int(k) - 1] for k in back)

    dE_do1 = factor * (a_o1 - t1) * out(o1)
    dE_do2 = factor * (a_o2 - t2) * out(o2)
    dE_dh1 = (roads[0] * dE_do1 * w5 + roads[1] * dE_do2 * w7) * hidden(h1)
    dE_dh2 = (roads[0] * dE_do1 * w6 + roads[1] * dE_do2 * w8) * hidden(h2)

    into_hidden = dE_dh1 * i1, dE_dh1 * i2, dE_dh2 * i1, dE_dh2 * i2
    into_out = dE_do1 * a_h1, dE_do1 * a_h2, dE_do2 * a_h1, dE_do2 * a_h2
    dE_db1 = units[0] * dE_dh1 + units[1] * dE_dh2
    dE_db2 = units[0] * dE_do1 + units[1] * dE_do2
    return *into_hidden, *into_out, dE_db1, dE_db2


def falling(x):
    """In place of the sigmoid: the one with the wrong sign."""
    return sigmoid(-x)


def of_the_sum(x):
    """In place of the sigmoid's slope: a (1 − a) with the weighted sum for a."""
    return x * (1 - x)


# A sigmoid that is left out is np.positive, which changes nothing; its slope is np.ones_like.
FORWARD_SLIPS = {
    "the sigmoid is missing": {"inner": np.positive},
    "the outputs' sigmoid is missing": {"outer": np.positive},
    "the sign in the exponent is wrong: the sigmoid is 1 / (1 + e^−x)": {"inner": falling},
    "the sign in the outputs' exponent is wrong: it is 1 / (1 + e^−o)": {"outer": falling},
    "w2 and w3 are swapped: w1 and w2 lead to h1, w3 and w4 to h2": {"order": "13245678"},
    "w6 and w7 are swapped: w5 and w6 lead to o1, w7 and w8 to o2": {"order": "12345768"},
    "w5 and w6 are swapped: w5 comes from a_h1, w6 from a_h2": {"order": "12346578"},
}
GRADIENT_SLIPS = {
    "the sign is wrong: ½ (t − a)² falls when a rises towards t, so its slope is a − t": {
        "factor": -1
    },
    "twice too large: the ½ in the error cancels the 2 of the square": {"factor": 2},
    "half of what it should be: the square's 2 has already cancelled the ½": {"factor": 0.5},
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
    "the sum over both outputs is forgotten: only the way through o1 counts": {"roads": (1, 0)},
    "the sum over both outputs is forgotten: only the way through o2 counts": {"roads": (0, 1)},
    "w6 and w7 are swapped on the way back: a_h1 goes out by w5 and w7": {"back": "5678"},
    "w5 and w6 are swapped on the way back: w5 goes out of a_h1, w6 of a_h2": {"back": "6758"},
}
BIAS_SLIPS = {
    "a bias enters two units, and only the first one's error is counted": {"units": (1, 0)},
    "a bias enters two units, and only the second one's error is counted": {"units": (0, 1)},
    "the two units' errors add up; this is their mean": {"units": (0.5, 0.5)},
}


def each(function, trials) -> np.ndarray:
    """`function` of every trial, as (trials, names)."""
    return np.array([function(*trial) for trial in trials])


def slipped(function, trials, slips, part=slice(None)) -> dict[str, np.ndarray]:
    """What each of `slips`, {hint: options of `function`}, makes of `part` of its values."""
    return {
        hint: each(partial(function, **options), trials)[:, part] for hint, options in slips.items()
    }
