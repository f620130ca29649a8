"""Compare gradients by hand with autograd's, for one batch through a network.

With the same weights, images and dropout masks, `compare` differentiates a network made of the
layers in `layers.py` in both ways, and `table` has a line for every tensor. `python -m
backprop.referee` prints the table for `MNISTNet` and a batch of real digits.
"""

import sys
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from backprop.layers import nll_forward
from backprop.record import as_log_probs, record
from backprop.tape import backward, forward
from s4lib.data import DATASETS, load
from s4lib.model import MNISTNet
from s4lib.runtime import Parser, UsageError, check_number
from s4lib.runtime.rehearsal import copied, explained, plain
from s4lib.train import make_network

LOSS_TOLERANCE = 1e-13
GRADIENT_TOLERANCE = 1e-10
SETTLED = 1e-9  # a smaller difference of two outputs, as a fraction of the largest, is rounding
NUDGES, ROUNDING = 2, 1000  # how often rounding is tried, and how many times as much is allowed


class Row(NamedTuple):
    """The difference between two versions of one tensor."""

    tensor: str
    values: int
    exact: bool  # the same bits everywhere
    approximate: bool  # equal up to rounding
    difference: float  # the largest, over all values
    relative: float  # that, as a fraction of the largest value
    vanishes: bool = False  # both sides are nothing but rounding


def by_hand(net, images, labels, seed=0):
    """Return the loss and its gradients along "images" and the parameters, from `layers.py`.

    `net` and `images`, (N, C, H, W), are float64; `labels`, (N,), are integers. Dropout draws its
    masks after `torch.manual_seed(seed)`. Raises UsageError if a layer has no derivative by hand.
    """
    loss, steps, values = computed(net, images, labels, seed)
    return loss, backward(steps, values, labels.numpy())


def computed(net, images, labels, seed):
    """Return the loss by hand, its steps, and the values at which to differentiate them.

    A slope jumps where two activations of a window are equal, or where one is 0. There, rounding
    decides, and not always as in PyTorch. So if a step's output equals PyTorch's except for
    rounding, PyTorch's output is used, and both sides take their slopes at the same bits.
    """
    seen = {}
    steps, values = record(net, images, seed, seen)
    values = forward(steps, values)
    loss = nll_forward(values[steps[-1].output], labels.numpy())
    for name, theirs in seen.items():
        if np.shape(values[name]) == theirs.shape:
            size = np.abs(theirs).max(initial=0)
            if np.abs(values[name] - theirs).max(initial=0) <= SETTLED * size:
                values[name] = theirs
    return loss, steps, values


def rounding(steps, values, labels, grads):
    """Return how far rounding can move the gradients, by name: the most that it moved any value.

    This goes backward again with every gradient changed by up to one unit in its last place. Where
    large terms cancel, such a change is large compared with the difference that remains.

    Source: Monte Carlo arithmetic, as in Parker, Pierce and Eggert, 2000.
    """
    rng = np.random.default_rng(0)

    def nudge(gradient):
        return gradient * (1 + np.finfo(float).eps * rng.uniform(-1, 1, gradient.shape))

    moved = dict.fromkeys(grads, 0.0)
    for _ in range(NUDGES):
        for name, other in backward(steps, values, labels, nudge).items():
            moved[name] = max(moved[name], np.abs(other - grads[name]).max(initial=0))
    return moved


def by_autograd(net, images, labels, seed=0):
    """Return the same as `by_hand`, computed by PyTorch: the loss, and {name: gradient}."""
    parameters = {name: p for name, p in net.named_parameters() if p.requires_grad}
    inputs = {"images": images.clone().requires_grad_(), **parameters}
    torch.manual_seed(seed)
    loss = F.nll_loss(as_log_probs(net(inputs["images"].clone())), labels)
    grads = torch.autograd.grad(loss, [*inputs.values()], materialize_grads=True)
    return loss.item(), {name: g.numpy(force=True) for name, g in zip(inputs, grads, strict=True)}


def compare(net, images, labels, seed=0):
    """Return one `Row` each for the loss, the images' gradient and every parameter's gradient.

    `net` is any network with layers in `layers.py` or `more_layers.py` that ends in log-softmax, or
    in logits as nn.CrossEntropyLoss takes them. A copy of it is compared, in float64 and in
    training mode. `images` are (N, C, H, W) and `labels` (N,).

    A gradient is approximately equal if the largest difference is at most 1e-10 of the gradient's
    largest value, or as large as rounding can make it where sums cancel. A bias before a batch norm
    has a gradient of zero, and both sides return rounding errors, whose relative difference is
    meaningless. So it is divided by the largest gradient in the network.

    Raises UsageError if a layer has no derivative by hand.
    """
    net = plain(copied(make_network(net)).cpu()).double().train()
    images = images.detach().cpu().double()
    with explained(net):
        loss, steps, values = computed(net, images, labels, seed)
        torch_loss, torch_grads = by_autograd(net, images, labels, seed)
    grads = backward(steps, values, labels.numpy())
    settled = all(
        np.abs(grads.get(name, 0.0) - expected).max() <= GRADIENT_TOLERANCE * np.abs(expected).max()
        for name, expected in torch_grads.items()
    )
    moved = {} if settled else rounding(steps, values, labels.numpy(), grads)

    rows = [measure("loss", np.array(loss), np.array(torch_loss), 1.0, LOSS_TOLERANCE)]
    largest = max(np.abs(expected).max() for expected in torch_grads.values())
    for name, expected in torch_grads.items():
        size, allowed = np.abs(expected).max(), ROUNDING * moved.get(name, 0.0)
        vanishes = bool(size <= max(allowed, np.finfo(float).eps * largest))
        allowed = max(allowed, GRADIENT_TOLERANCE * size, np.finfo(float).eps * largest)
        ours = grads.get(name, np.zeros_like(expected))
        unit = (largest if vanishes else size) or 1
        row = measure(name, ours, expected, unit, allowed / unit)
        rows.append(row._replace(vanishes=vanishes))
    return rows


def measure(name, ours, theirs, size, tolerance):
    """Compare two arrays; their difference is measured in units of `size`."""
    difference = np.abs(ours - theirs).max()
    relative = difference / size
    exact = np.array_equal(ours, theirs)
    return Row(name, theirs.size, exact, bool(relative <= tolerance), difference, relative)


def table(rows):
    """Return the rows as a Markdown table; a star marks gradients that are only rounding errors."""
    lines = [
        f"| {'tensor':27} | values | exact | approximate | largest difference | relative |",
        f"|:{'-' * 27}-|-------:|:-----:|:-----------:|-------------------:|---------:|",
    ]
    for row in rows:
        name = f"`{row.tensor}`" + (" *" if row.vanishes else "")
        exact, approximate = ("yes" if answer else "no" for answer in (row.exact, row.approximate))
        lines.append(
            f"| {name:27} | {row.values:6,} | {exact:^5} | {approximate:^11} "
            f"| {row.difference:18.1e} | {row.relative:8.1e} |"
        )
    return "\n".join(lines)


def real_digits(dataset, count):
    """Return the first `count` training digits, normalised, in float64, and their labels."""
    images, labels = dataset.train
    return dataset.normalise(images[:count].float()).double(), labels[:count]


class DigitsParser(Parser):
    """The options that the commands on real digits share."""

    def __init__(self, prog, description):
        super().__init__(prog=f"python -m backprop.{prog}", description=description)
        self.add_argument("--seed", type=int, default=0, help="of all that is random (0)")
        self.add_argument("--dataset", choices=DATASETS, default="auto", help="which digits (auto)")
        self.add_argument("--data", metavar="FOLDER", help="MNIST's ($S4_DATA, else ./data)")

    def load(self, options):
        """Return the data set that the user asked for, after checking the seed."""
        try:
            check_number("--seed", options.seed, int, 0, 2**63 - 1)
            return load(options.dataset, options.data)
        except UsageError as error:
            self.error(error)


def main(argv=None):
    """Print the table for a fresh network; 1 if a tensor disagrees, 2 for a user's mistake."""
    parser = DigitsParser("referee", "Compare gradients by hand with autograd's on real digits.")
    parser.add_argument("--images", type=int, default=16, help="digits in the batch (16)")
    options = parser.parse_args(argv)
    if not 1 <= options.images <= 1000:
        parser.error(f"--images must be from 1 to 1000, not {options.images}.")
    dataset = parser.load(options)

    torch.manual_seed(options.seed)
    rows = compare(MNISTNet(), *real_digits(dataset, options.images), options.seed)
    parameters = sum(row.values for row in rows[2:])
    print(f"{dataset.name}, {options.images} digits, {parameters:,} parameters\n")
    print(table(rows))
    return 0 if all(row.approximate for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
