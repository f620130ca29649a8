"""The class network, differentiated by hand.

    i1 ─┬─ w1 ─► h1 ─ σ ─► a_h1 ─┬─ w5 ─► o1 ─ σ ─► a_o1 ─► E1 = ½ (t1 − a_o1)² ─┐
        ╳ w2, w3                 ╳ w6, w7                                        ├─► E_total
    i2 ─┴─ w4 ─► h2 ─ σ ─► a_h2 ─┴─ w8 ─► o2 ─ σ ─► a_o2 ─► E2 = ½ (t2 − a_o2)² ─┘

Everything is float64. `forward`, `errors` and `gradients` take numbers, or arrays that
broadcast against each other, such as one weight's values over a grid.

Without biases this is the network of the class. With `biases=(0.35, 0.60)` it is the example of
https://mattmazur.com/2015/03/17/a-step-by-step-backpropagation-example/, which, as here, never
updates its biases.
"""

import numpy as np

INPUTS = (0.05, 0.10)  # i1, i2
TARGETS = (0.01, 0.99)  # t1, t2
WEIGHTS = (0.15, 0.20, 0.25, 0.30, 0.40, 0.45, 0.50, 0.55)  # w1 … w8
NO_BIASES = (0.0, 0.0)  # b1 enters h1 and h2, b2 enters o1 and o2
RATES = (0.1, 0.2, 0.5, 0.8, 1.0, 2.0)

UNITS = ("h1", "h2", "a_h1", "a_h2", "o1", "o2", "a_o1", "a_o2")
ERRORS = ("E1", "E2", "E_total")
GRADIENTS = tuple(f"dE_dw{k}" for k in range(1, 9))
COLUMNS = (
    *("step", "i1", "i2", "t1", "t2", "w1", "w2", "w3", "w4", "h1", "h2", "a_h1", "a_h2"),
    *("w5", "w6", "w7", "w8", "o1", "o2", "a_o1", "a_o2", *ERRORS, *GRADIENTS),
)


def sigmoid(x):
    """Return 1 / (1 + e^−x) without a positive power of e, which could overflow."""
    z = np.exp(-np.abs(x))
    return np.where(np.asarray(x) >= 0, 1.0, z) / (1 + z)


def slope(x):
    """Return the sigmoid's derivative, a (1 − a), with 1 − a computed as σ(−x).

    Both are the same number, but the subtraction loses digits where a is close to 1.
    """
    return sigmoid(x) * sigmoid(-x)


def forward(inputs=INPUTS, weights=WEIGHTS, biases=NO_BIASES):
    """Return the eight values of `UNITS`, in that order."""
    i1, i2 = inputs
    w1, w2, w3, w4, w5, w6, w7, w8 = weights
    b1, b2 = biases

    h1 = w1 * i1 + w2 * i2 + b1
    h2 = w3 * i1 + w4 * i2 + b1
    a_h1 = sigmoid(h1)
    a_h2 = sigmoid(h2)

    o1 = w5 * a_h1 + w6 * a_h2 + b2
    o2 = w7 * a_h1 + w8 * a_h2 + b2
    a_o1 = sigmoid(o1)
    a_o2 = sigmoid(o2)

    return h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2


def errors(inputs=INPUTS, targets=TARGETS, weights=WEIGHTS, biases=NO_BIASES):
    """Return E1, E2 and E_total: half the squared distance from each target, and their sum."""
    t1, t2 = targets
    *_, a_o1, a_o2 = forward(inputs, weights, biases)

    E1 = (t1 - a_o1) ** 2 / 2
    E2 = (t2 - a_o2) ** 2 / 2

    return E1, E2, E1 + E2


def gradients(inputs=INPUTS, targets=TARGETS, weights=WEIGHTS, biases=NO_BIASES):
    """Return the partial derivatives ∂E_total/∂w1 … ∂E_total/∂w8, by the chain rule."""
    i1, i2 = inputs
    t1, t2 = targets
    _, _, _, _, w5, w6, w7, w8 = weights
    h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2 = forward(inputs, weights, biases)

    # output layer: ∂E/∂w5 = ∂E/∂a_o1 · ∂a_o1/∂o1 · ∂o1/∂w5; the first two factors make ∂E/∂o1
    dE_do1 = (a_o1 - t1) * slope(o1)
    dE_do2 = (a_o2 - t2) * slope(o2)

    dE_dw5 = dE_do1 * a_h1
    dE_dw6 = dE_do1 * a_h2
    dE_dw7 = dE_do2 * a_h1
    dE_dw8 = dE_do2 * a_h2

    # hidden layer: a_h1 reaches the error through o1 (with w5) and o2 (with w7); both paths add up
    dE_dh1 = (dE_do1 * w5 + dE_do2 * w7) * slope(h1)
    dE_dh2 = (dE_do1 * w6 + dE_do2 * w8) * slope(h2)

    dE_dw1 = dE_dh1 * i1
    dE_dw2 = dE_dh1 * i2
    dE_dw3 = dE_dh2 * i1
    dE_dw4 = dE_dh2 * i2

    return dE_dw1, dE_dw2, dE_dw3, dE_dw4, dE_dw5, dE_dw6, dE_dw7, dE_dw8


def train(
    rate, steps=100, inputs=INPUTS, targets=TARGETS, weights=WEIGHTS, biases=NO_BIASES
) -> np.ndarray:
    """Gradient descent, w ← w − rate · ∂E_total/∂w, as a table with one row per step.

    Row n, of `steps` + 1, is the network after n updates. The table is a structured array with the
    fields `COLUMNS`: `train(0.5)["E_total"]` is the error curve, of shape (steps + 1,). Each rate
    of an array trains its own network, and the curves are (steps + 1, rates). Raises ValueError
    unless every rate is positive and finite.
    """
    if not np.all(np.isfinite(rate) & (np.asarray(rate) > 0)):
        raise ValueError(f"the learning rate must be a positive number, not {rate}")
    table = np.zeros(steps + 1, dtype=[(name, float, np.shape(rate)) for name in COLUMNS])
    for step in range(steps + 1):
        units = forward(inputs, weights, biases)
        E = errors(inputs, targets, weights, biases)
        grads = gradients(inputs, targets, weights, biases)
        hidden, output = (*weights[:4], *units[:4]), (*weights[4:], *units[4:])
        table[step] = (step, *inputs, *targets, *hidden, *output, *E, *grads)
        weights = [w - rate * dE_dw for w, dE_dw in zip(weights, grads, strict=True)]
    return table
