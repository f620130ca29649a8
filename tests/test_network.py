"""`network.py` against autograd, finite differences, plain SGD and a published example."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backprop.network import (
    COLUMNS,
    GRADIENTS,
    INPUTS,
    NO_BIASES,
    RATES,
    TARGETS,
    UNITS,
    WEIGHTS,
    errors,
    forward,
    gradients,
    sigmoid,
    slope,
    train,
)


def accurate_sigmoid(x):
    """A sigmoid whose autograd keeps its digits in both tails, which torch.sigmoid's loses."""
    return torch.exp(torch.nn.functional.logsigmoid(x))


def error_in_torch(inputs, targets, weights, biases, activation=torch.sigmoid):
    """E_total of `weights`, a tensor of eight, in float64."""
    x, t, b = (torch.tensor(v, dtype=torch.float64) for v in (inputs, targets, biases))
    hidden = activation(weights[:4].reshape(2, 2) @ x + b[0])
    output = activation(weights[4:].reshape(2, 2) @ hidden + b[1])
    return ((t - output) ** 2).sum() / 2


def autograd(
    inputs=INPUTS, targets=TARGETS, weights=WEIGHTS, biases=NO_BIASES, activation=torch.sigmoid
):
    """E_total and its eight derivatives."""
    w = torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    E_total = error_in_torch(inputs, targets, w, biases, activation)
    E_total.backward()
    return E_total.item(), w.grad.numpy()


def test_the_class_values():
    assert errors()[2] == pytest.approx(0.242519857348, abs=5e-13)
    np.testing.assert_allclose(gradients(), autograd()[1], rtol=0, atol=1e-15)


def magnitudes(inputs, targets, weights, biases):
    """What each gradient would be if none of its terms cancelled another.

    Where a − t, or ∂E/∂o1 · w5 + ∂E/∂o2 · w7, is a small difference of large numbers, no float64
    program has twelve digits of it. Twelve digits of the large numbers is what can be asked.
    """
    i1, i2 = np.abs(inputs)
    t1, t2 = np.abs(targets)
    w5, w6, w7, w8 = np.abs(weights[4:])
    h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2 = forward(inputs, weights, biases)
    do1 = (a_o1 + t1) * a_o1 * sigmoid(-o1)
    do2 = (a_o2 + t2) * a_o2 * sigmoid(-o2)
    dh1 = (do1 * w5 + do2 * w7) * a_h1 * sigmoid(-h1)
    dh2 = (do1 * w6 + do2 * w8) * a_h2 * sigmoid(-h2)
    return np.array(
        [dh1 * i1, dh1 * i2, dh2 * i1, dh2 * i2, do1 * a_h1, do1 * a_h2, do2 * a_h1, do2 * a_h2]
    )


def networks(bound, weight_bound):
    """Random inputs, targets, weights and biases."""

    def reals(size, bound):
        return st.lists(st.floats(-bound, bound), min_size=size, max_size=size)

    return st.tuples(reals(2, bound), reals(2, 2), reals(8, weight_bound), reals(2, bound))


@settings(max_examples=60)
@given(networks(1, 1))
def test_gradients_are_autograds(network):
    E_total, expected = autograd(*network)
    assert errors(*network)[2] == pytest.approx(E_total, rel=1e-12, abs=1e-15)
    assert (np.abs(np.array(gradients(*network)) - expected) <= 1e-12 * magnitudes(*network)).all()


@settings(max_examples=100)
@given(networks(10, 60))
def test_gradients_are_autograds_where_sigmoids_saturate(network):
    """h reaches ±1200 here, and gradients e^−1200: below 1e-290 float64 has fewer digits."""
    E_total, expected = autograd(*network, activation=accurate_sigmoid)
    assert errors(*network)[2] == pytest.approx(E_total, rel=1e-12, abs=1e-15)
    difference = np.abs(np.array(gradients(*network)) - expected)
    assert (difference <= 1e-12 * magnitudes(*network) + 1e-290).all()


def test_a_saturated_slope_keeps_its_digits():
    """torch.sigmoid's derivative is a (1 − a), whose 1 − a is 0 here: hence `accurate_sigmoid`."""
    x = torch.tensor(40.0, dtype=torch.float64, requires_grad=True)
    torch.sigmoid(x).backward()
    assert x.grad == 0
    assert slope(40.0) == pytest.approx(math.exp(-40), rel=1e-15)


def central_differences(inputs, targets, weights, biases, step=1e-5):
    """The eight derivatives, from the errors on both sides of each weight."""
    for k in range(8):
        up, down = list(weights), list(weights)
        up[k] += step
        down[k] -= step
        above, below = (errors(inputs, targets, w, biases)[2] for w in (up, down))
        yield (above - below) / (up[k] - down[k])


@settings(max_examples=30)
@given(networks(1, 1))
@example((INPUTS, TARGETS, WEIGHTS, NO_BIASES))
def test_finite_differences_agree(network):
    np.testing.assert_allclose(
        gradients(*network), [*central_differences(*network)], rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("rate", RATES)
def test_fifty_steps_of_plain_sgd(rate):
    w = torch.tensor(WEIGHTS, dtype=torch.float64, requires_grad=True)
    descent = torch.optim.SGD([w], lr=rate)
    curve = []
    for _ in range(51):
        E_total = error_in_torch(INPUTS, TARGETS, w, NO_BIASES)
        curve.append(E_total.item())
        descent.zero_grad()
        E_total.backward()
        descent.step()
    np.testing.assert_allclose(train(rate, 50)["E_total"], curve, rtol=0, atol=1e-12)


def test_the_published_example_with_biases():
    """The figures of https://mattmazur.com/2015/03/17/a-step-by-step-backpropagation-example/.

    Its error after one step, 0.291027924, is 1.5e-7 above what its own weights give, as others
    have found too. After 10,000 steps its outputs and ours are 1.5e-6 apart.
    """
    first, second, *_, last = train(0.5, 10_000, biases=(0.35, 0.60))
    assert first["E_total"] == pytest.approx(0.298371109, abs=5e-10)
    weights = (0.149780716, 0.19956143, 0.24975114, 0.29950229)
    weights += (0.35891648, 0.408666186, 0.511301270, 0.561370121)
    assert [second[f"w{k}"] for k in range(1, 9)] == pytest.approx(weights, abs=6e-9)
    assert second["E_total"] == pytest.approx(0.291027924, abs=2e-7)
    assert (last["a_o1"], last["a_o2"]) == pytest.approx((0.015912196, 0.984065734), abs=2e-6)


def test_the_table_holds_every_step():
    table = train(0.5, 3)
    assert table.dtype.names == COLUMNS
    assert [*table["step"]] == [0, 1, 2, 3]
    assert [table[0][f"w{k}"] for k in range(1, 9)] == [*WEIGHTS]
    for row, after in itertools.pairwise(table):
        weights = [row[f"w{k}"] for k in range(1, 9)]
        assert [row[name] for name in UNITS] == [*forward(weights=weights)]
        assert [row[name] for name in GRADIENTS] == [*gradients(weights=weights)]
        assert after["w5"] == row["w5"] - 0.5 * row["dE_dw5"]


@pytest.mark.parametrize("rate", [0, -0.1, math.nan, math.inf])
def test_a_learning_rate_must_be_positive(rate):
    with pytest.raises(ValueError, match="learning rate must be a positive number"):
        train(rate)


def test_many_rates_are_many_trainings():
    rates = np.array([0.1, 2, 500])
    single = np.stack([train(rate, 20) for rate in rates], axis=1)
    for name in COLUMNS:
        np.testing.assert_array_equal(train(rates, 20)[name], single[name])
    with pytest.raises(ValueError, match="learning rate must be a positive number"):
        train(np.array([0.1, 0]))
