"""A network as a tape of the layers in `layers.py`, run forward and backward in NumPy alone.

Going forward, the tape keeps what every layer gave. Going backward, it hands each layer its dy and
what it saw on the way there; the dx that comes back is the dy of whatever gave x. That loop is
backpropagation, for eight weights and for any number.
"""

from typing import Any, NamedTuple

from backprop import layers


class Step(NamedTuple):
    """One call of a layer: values[output] = <kind>_forward(*(values of inputs), **options)."""

    output: str
    kind: str
    inputs: tuple[str, ...]
    options: dict[str, Any]  # those that are not what layers.py takes for granted


def forward(steps, values):
    """`values` and with them every step's output, as arrays by name.

    `values` holds what the steps start from: "images", (N, C, H, W), the weights, dropout's masks.
    """
    values = dict(values)
    for step in steps:
        layer = getattr(layers, f"{step.kind}_forward")
        values[step.output] = layer(*(values[name] for name in step.inputs), **step.options)
    return values


def backward(steps, values, labels):
    """The gradient of the loss along each of the `values`, which `forward` returned, by name.

    The last step is log-softmax, and the loss is the negative log-likelihood of `labels`, (N,). A
    weight or an output that is used more than once gets a gradient from each use, and they add.
    """
    *steps, last = steps
    grads = {last.inputs[0]: layers.log_softmax_nll_backward(values[last.output], labels)}
    for step in reversed(steps):
        layer = getattr(layers, f"{step.kind}_backward")
        handed = (values[name] for name in step.inputs)
        result = layer(grads[step.output], *handed, **step.options)
        result = result if isinstance(result, tuple) else (result,)
        for name, gradient in zip(step.inputs, result, strict=False):
            grads[name] = grads[name] + gradient if name in grads else gradient
    return grads
