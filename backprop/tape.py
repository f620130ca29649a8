"""A network as a tape of layers, run forward and backward in NumPy alone.

Going forward, the tape keeps every layer's output. Going backward, it hands each layer its dy and
the inputs that it had; the layer's dx is the dy of the layer that computed x. That loop is
backpropagation, for eight weights and for any number.
"""

from typing import Any, NamedTuple

from backprop import layers, more_layers


class Step(NamedTuple):
    """One call of a layer: values[output] = <kind>_forward(*(values of inputs), **options)."""

    output: str
    kind: str
    inputs: tuple[str, ...]
    options: dict[str, Any]  # those that differ from the defaults in layers.py


def pair(kind):
    """Return the functions `<kind>_forward` and `<kind>_backward`, or None for a missing one."""
    names = f"{kind}_forward", f"{kind}_backward"
    return [getattr(layers, name, getattr(more_layers, name, None)) for name in names]


def forward(steps, values):
    """Return a copy of `values` with every step's output added, as arrays by name.

    `values` holds what the steps start from: "images", (N, C, H, W), weights and dropout masks.
    """
    values = dict(values)
    for step in steps:
        layer, _ = pair(step.kind)
        values[step.output] = layer(*(values[name] for name in step.inputs), **step.options)
    return values


def backward(steps, values, labels, nudge=lambda gradient: gradient):
    """Return the gradient of the loss along each of the `values` that `forward` returned, by name.

    The loss is the negative log-likelihood of `labels`, (N,); the last step's output is the
    log-probabilities. If a weight or an output is used more than once, its gradients add up.
    `nudge` may change each gradient before it is handed on.
    """
    *before, last = steps
    log_probs = values[last.output]
    if last.kind == "log_softmax" and not last.options:  # one step together with the loss
        steps = before
        grads = {last.inputs[0]: nudge(layers.log_softmax_nll_backward(log_probs, labels))}
    else:
        grads = {last.output: nudge(layers.nll_backward(log_probs, labels))}
    for step in reversed(steps):
        _, layer = pair(step.kind)
        handed = (values[name] for name in step.inputs)
        result = layer(grads[step.output], *handed, **step.options)
        result = result if isinstance(result, tuple) else (result,)
        for name, gradient in zip(step.inputs, map(nudge, result), strict=False):
            grads[name] = grads[name] + gradient if name in grads else gradient
    return grads
