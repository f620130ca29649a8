"""Recognise a network whose weights come, or once came, with the course.

For every file of weights that was ever shipped, `shipped.json` holds a few sorted values of each
large tensor: enough to recognise it, too few to use it. After other weights are shipped, add them:
`python -m notebooks.assignment.shipped`.
"""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from s4lib import MNISTNet
from s4lib.runtime.checkpoint import load_weights

KNOWN = Path(__file__).with_name("shipped.json")
LARGE = 100  # so many values make a tensor large enough to be compared
VALUES = 17  # of each tensor, from the smallest to the largest
NEAR = 1e-3  # a weight that is off by no more is still the same


def fingerprint(tensor: Tensor) -> list[float]:
    """Return some of a tensor's sorted values, which do not depend on its order and shape.

    If no value of the tensor changes by more than a distance, none of these does.
    """
    values = tensor.detach().flatten().double().cpu().sort().values
    places = torch.linspace(0, len(values) - 1, VALUES).round().long()
    return [round(value, 5) for value in values[places].tolist()]


def fingerprints(model: nn.Module) -> list[list]:
    """Return pairs of a large tensor's number of values and its fingerprint."""
    tensors = model.state_dict().values()
    large = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.numel() >= LARGE]
    return [[tensor.numel(), fingerprint(tensor)] for tensor in large]


def is_shipped(model: nn.Module) -> bool:
    """Return whether `model` has most large tensors of a shipped network, under any names."""
    own = fingerprints(model)

    def there(count, values) -> bool:
        return any(
            count == other and max(map(distance, values, found)) <= NEAR + 2e-5
            for other, found in own
        )

    known = json.loads(KNOWN.read_text())
    return any(2 * sum(there(*tensor) for tensor in tensors) > len(tensors) for tensors in known)


def distance(a: float, b: float) -> float:
    return abs(a - b)


def remember(model: nn.Module) -> None:
    """Add the weights of `model` to the known ones."""
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else []
    if not (known and is_shipped(model)):
        rows = [*known, fingerprints(model)]
        KNOWN.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    remember(load_weights(MNISTNet()))
