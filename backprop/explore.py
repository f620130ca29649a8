"""Sliders for the class network, in notebooks that can show them."""

import importlib.util
import os

from backprop.network import WEIGHTS, train
from backprop.plots import one_training
from s4lib.runtime import UsageError


def switch(name: str, value) -> bool:
    """Turn a notebook's parameter, yes or no, into a bool; S4_SLIDERS, for example, overrides it.

    Raises UsageError for anything else.
    """
    value = os.environ.get(f"S4_{name.upper()}") or value
    if value in ("yes", "no") or isinstance(value, bool):
        return value in ("yes", True)
    raise UsageError(f"{name} must be yes or no, not {value!r}.")


def training(rate: float = 0.5, **weights: float):
    """Draw a hundred steps from the given weights; a weight that is not given is the class's."""
    start = {f"w{k}": w for k, w in enumerate(WEIGHTS, 1)} | weights
    return one_training(train(rate, weights=tuple(start.values())), rate)


def explore(sliders: bool = True):
    """Return the figure of `training`; if `wanted`, with a slider for the rate and each weight.

    Without ipywidgets there are no sliders, only the figure.
    """
    if not sliders or importlib.util.find_spec("ipywidgets") is None:
        return training()
    from ipywidgets import FloatLogSlider, FloatSlider, interactive

    found = {"rate": FloatLogSlider(value=0.5, min=-1, max=4, description="η")}
    for k, w in enumerate(WEIGHTS, 1):
        found[f"w{k}"] = FloatSlider(value=w, min=-10, max=10, step=0.05, description=f"w{k}")
    return interactive(training, {"auto_display": True}, **found)
