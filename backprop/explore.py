"""Sliders for the class network, in a notebook that can show them."""

import importlib.util
import os

from backprop.network import WEIGHTS, train
from backprop.plots import one_training
from s4lib.runtime import UsageError


def switch(name: str, value) -> bool:
    """A notebook's parameter that is yes or no; the environment's S4_SLIDERS, say, overrides it.

    Raises UsageError for anything else.
    """
    value = os.environ.get(f"S4_{name.upper()}") or value
    if value in ("yes", "no") or isinstance(value, bool):
        return value in ("yes", True)
    raise UsageError(f"{name} must be yes or no, not {value!r}.")


def training(rate: float = 0.5, **weights: float):
    """The figure of a hundred steps from the given weights, the class's where none is given."""
    start = {f"w{k}": w for k, w in enumerate(WEIGHTS, 1)} | weights
    return one_training(train(rate, weights=tuple(start.values())), rate)


def explore(sliders: bool = True):
    """The figure of `training`; under a slider for the rate and one for each weight, if wanted.

    Without ipywidgets there are no sliders, and the figure stands alone.
    """
    if not sliders or importlib.util.find_spec("ipywidgets") is None:
        return training()
    from ipywidgets import FloatLogSlider, FloatSlider, interactive

    found = {"rate": FloatLogSlider(value=0.5, min=-1, max=4, description="η")}
    for k, w in enumerate(WEIGHTS, 1):
        found[f"w{k}"] = FloatSlider(value=w, min=-10, max=10, step=0.05, description=f"w{k}")
    return interactive(training, {"auto_display": True}, **found)
