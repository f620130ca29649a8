"""Autograd as the referee: one batch through the network by hand and by PyTorch.

Same weights, same images, same dropout masks: `compare` differentiates both ways, `table` shows
every tensor on one line. `python -m backprop.referee` prints it for a batch of real digits.
"""

import sys
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from backprop.cnn import SILENCED, differentiate, to_numpy
from s4lib.runtime import Parser, UsageError
from s4lib.data import DATASETS, load
from s4lib.model import MNISTNet

LOSS_TOLERANCE = 1e-13
GRADIENT_TOLERANCE = 1e-10


class Row(NamedTuple):
    """How far two versions of one tensor are apart."""

    tensor: str
    values: int
    exact: bool  # the same bits everywhere
    approximate: bool  # equal up to rounding
    difference: float  # the largest, over all values
    relative: float  # that, as a fraction of the largest value


def dropout_masks(net, count, seed):
    """The masks that `net`, training, draws for `count` images after `torch.manual_seed(seed)`.

    Dropout of a map of ones is the mask: 0 where it drops, 1/(1 − p) where it keeps.
    """
    torch.manual_seed(seed)
    in_block3 = net.block3.dropout(torch.ones(count, 16, 5, 5, dtype=torch.float64))
    in_head = net.dropout(torch.ones(count, 32, 1, 1, dtype=torch.float64))
    return {"block3.dropout": in_block3.numpy(), "dropout": in_head.numpy()}


def by_autograd(net, images, labels, seed):
    """The loss and the gradients as `cnn.differentiate` returns them, computed by PyTorch."""
    images = images.clone().requires_grad_()
    torch.manual_seed(seed)
    loss = F.nll_loss(net(images), labels)
    parameters = dict(net.named_parameters())
    *gradients, dimages = torch.autograd.grad(loss, [*parameters.values(), images])
    gradients = {name: g.numpy() for name, g in zip(parameters, gradients, strict=True)}
    return loss.item(), gradients, dimages.numpy()


def compare(net, images, labels, seed=0):
    """One `Row` each for the loss, the gradient at the images and every parameter's gradient.

    `net` and `images` are float64. A silenced bias has a true gradient of zero: what either side
    finds is rounding, of which no fraction makes sense. It is measured by the largest gradient of
    the same convolution's weights.
    """
    net.train()
    masks = dropout_masks(net, len(images), seed)
    weights = to_numpy(net.state_dict())
    loss, gradients, dimages = differentiate(weights, images.numpy(), labels.numpy(), masks)
    torch_loss, torch_gradients, torch_dimages = by_autograd(net, images, labels, seed)

    rows = [
        measure("loss", np.array(loss), np.array(torch_loss), np.ones(()), LOSS_TOLERANCE),
        measure("images", dimages, torch_dimages),
    ]
    for name, expected in torch_gradients.items():
        ruler = torch_gradients[name.replace("bias", "weight")] if name in SILENCED else expected
        rows.append(measure(name, gradients[name], expected, ruler))
    return rows


def measure(name, ours, theirs, ruler=None, tolerance=GRADIENT_TOLERANCE):
    """Compare two arrays, relative to the largest absolute value of `theirs` or of `ruler`."""
    difference = np.abs(ours - theirs).max()
    relative = difference / np.abs(theirs if ruler is None else ruler).max()
    exact = np.array_equal(ours, theirs)
    return Row(name, theirs.size, exact, bool(relative <= tolerance), difference, relative)


def table(rows):
    """The rows as a Markdown table; a star marks a bias that a batch norm silences."""
    lines = [
        f"| {'tensor':27} | values | exact | approximate | largest difference | relative |",
        f"|:{'-' * 27}-|-------:|:-----:|:-----------:|-------------------:|---------:|",
    ]
    for row in rows:
        name = f"`{row.tensor}`" + (" *" if row.tensor in SILENCED else "")
        exact, approximate = ("yes" if answer else "no" for answer in (row.exact, row.approximate))
        lines.append(
            f"| {name:27} | {row.values:6,} | {exact:^5} | {approximate:^11} "
            f"| {row.difference:18.1e} | {row.relative:8.1e} |"
        )
    return "\n".join(lines)


def real_digits(dataset, count):
    """The first `count` training digits, normalised, in float64, and their labels."""
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
        """The data set that was asked for, once the seed is known to be one."""
        if not 0 <= options.seed < 2**63:
            self.error(f"--seed must be from 0 to 2**63 − 1, not {options.seed}.")
        try:
            return load(options.dataset, options.data)
        except UsageError as error:
            self.error(error)


def main(argv=None):
    """Print the table for a fresh network; 1 if any tensor disagrees, 2 for a user's mistake."""
    parser = DigitsParser("referee", "Compare gradients by hand with autograd's on real digits.")
    parser.add_argument("--images", type=int, default=16, help="digits in the batch (16)")
    options = parser.parse_args(argv)
    if not 1 <= options.images <= 1000:
        parser.error(f"--images must be from 1 to 1000, not {options.images}.")
    dataset = parser.load(options)

    torch.manual_seed(options.seed)
    rows = compare(MNISTNet().double(), *real_digits(dataset, options.images), options.seed)
    parameters = sum(row.values for row in rows[2:])
    print(f"{dataset.name}, {options.images} digits, {parameters:,} parameters\n")
    print(table(rows))
    return 0 if all(row.approximate for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
