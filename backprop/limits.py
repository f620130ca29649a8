"""How large may the learning rate be? Two experiments: the class network, and a deep chain."""

import numpy as np

from backprop.network import TARGETS, WEIGHTS, errors, gradients

ROUNDING = 1e-15  # an error that rises by less has not risen: float64 has no more digits of it


def sweep(rates: np.ndarray, steps: int = 100, targets=TARGETS) -> np.ndarray:
    """The class network trained at many rates at once: E_total, (steps + 1, len(rates))."""
    weights = [np.full(len(rates), w) for w in WEIGHTS]
    curves = []
    for _ in range(steps + 1):
        curves.append(errors(targets=targets, weights=weights)[2])
        grads = gradients(targets=targets, weights=weights)
        weights = [w - rates * dE_dw for w, dE_dw in zip(weights, grads, strict=True)]
    return np.array(curves)


def chain(rates: np.ndarray, depth: int, steps: int = 100) -> np.ndarray:
    """A chain of `depth` linear units, one a layer: E, (steps + 1, len(rates)).

    Input 1, target 1, every weight 1.5 at the start. The weights get the same gradient, so they
    stay equal and one number w stands for all: y = w^depth, E = ½ (y − 1)² and, for each of
    them, ∂E/∂w = (y − 1) · w^(depth − 1). An error beyond the range of float64 is infinite.
    """
    w = np.full(len(rates), 1.5)
    curves = []
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps + 1):
            curves.append((w**depth - 1) ** 2 / 2)
            w = w - rates * (w**depth - 1) * w ** (depth - 1)
    return np.nan_to_num(curves, nan=np.inf, posinf=np.inf)


def rises(curves: np.ndarray) -> np.ndarray:
    """Which of the curves, (steps + 1, N), have a step that raises the error: (N,)."""
    return (curves[1:] > curves[:-1] + ROUNDING).any(axis=0)


def first_rise(rates: np.ndarray, curves: np.ndarray) -> float | None:
    """The smallest of `rates` at which some step raises the error by more than rounding."""
    rose = rises(curves)
    return float(rates[rose][0]) if rose.any() else None
