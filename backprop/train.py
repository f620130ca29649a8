"""Train `MNISTNet` with the hand-written gradients alone: `python -m backprop.train`."""

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from backprop.layer_plots import training
from backprop.layers import batch_statistics, nll_forward
from backprop.record import record
from backprop.referee import DigitsParser
from backprop.tape import backward, forward
from s4lib.data import Batches
from s4lib.model import MNISTNet

SUBSET, EPOCHS, BATCH_SIZE = 2000, 6, 32
LR, MOMENTUM = 0.05, 0.9


def to_numpy(state_dict):
    """Return a copy of a PyTorch state_dict as float64 arrays."""
    return {name: tensor.cpu().numpy().astype(np.float64) for name, tensor in state_dict.items()}


def sgd_step(weights, grads, velocity, lr):
    """Move every parameter, in place, as `torch.optim.SGD` does: v ← μv + g, then w ← w − lr·v."""
    for name in weights.keys() & grads.keys():
        velocity[name] = MOMENTUM * velocity.get(name, 0) + grads[name]
        weights[name] -= lr * velocity[name]


def update_running_statistics(weights, steps, values):
    """Move every batch norm's running mean and variance a tenth of the way to this batch's.

    As in PyTorch, the running variance is the unbiased estimate for unseen digits.
    """
    for step in steps:
        if step.kind == "batch_norm":
            x = values[step.inputs[0]]
            mean, var = batch_statistics(x)
            count = x[:, 0].size
            layer = step.inputs[1].removesuffix("weight")
            for name, batch in (("mean", mean), ("var", var * count / (count - 1))):
                running = weights[f"{layer}running_{name}"]
                running += 0.1 * (batch - running)


def training_batches(dataset, epochs, seed):
    """Return all batches of a run, in order: float64 images and labels."""
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(dataset, BATCH_SIZE, generator)
    return [(images.double(), labels) for _ in range(epochs) for images, labels in batches]


def falling_lr(step, steps):
    """Return the learning rate, which falls linearly to zero at the end of the run."""
    return LR * (1 - step / steps)


def train_by_hand(net, batches):
    """Train with one step for each batch, starting from `net`'s weights; return weights and losses.

    PyTorch only provides the order of the layers and dropout's masks; NumPy does the computing.
    """
    weights, velocity, losses = to_numpy(net.state_dict()), {}, []
    net.train()
    bar = tqdm(batches, desc="by hand", unit="batch")
    for step, (images, labels) in enumerate(bar):
        steps, values = record(net, images, seed=step)
        values = forward(steps, values | weights)
        update_running_statistics(weights, steps, values)
        grads = backward(steps, values, labels.numpy())
        sgd_step(weights, grads, velocity, falling_lr(step, len(batches)))
        losses.append(float(nll_forward(values[steps[-1].output], labels.numpy())))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return weights, losses


def train_by_autograd(net, batches):
    """Repeat the steps with PyTorch's gradients and optimizer; train `net`, return the losses."""
    net.train()
    optimizer, losses = torch.optim.SGD(net.parameters(), LR, MOMENTUM), []
    for step, (images, labels) in enumerate(tqdm(batches, desc="autograd", unit="batch")):
        torch.manual_seed(step)
        loss = F.nll_loss(net(images), labels)
        optimizer.param_groups[0]["lr"] = falling_lr(step, len(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def accuracy(net, weights, dataset):
    """Return the percentage of the test digits that `net` with `weights`, by hand, reads right."""
    images, labels = dataset.test
    digits = dataset.normalise(images.float()).double()
    steps, values = record(net.eval(), digits[:1])
    correct = 0
    for part, answers in zip(digits.split(100), labels.split(100), strict=True):
        outputs = forward(steps, values | weights | {"images": part.numpy()})
        correct += np.sum(outputs[steps[-1].output].argmax(1) == answers.numpy())
    return 100 * correct / len(labels)


def main(argv=None):
    """Train, test and print the result; with --plot, train with autograd as well and draw both."""
    parser = DigitsParser("train", "Train with hand-written gradients, then read test digits.")
    add = parser.add_argument
    add("--epochs", type=int, default=EPOCHS, help=f"passes over the images ({EPOCHS})")
    add("--plot", metavar="PNG", type=Path, help="train with autograd as well, and draw both here")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs must be 1 or more, not {options.epochs}.")
    if options.plot and not (options.plot.suffix == ".png" and options.plot.parent.is_dir()):
        parser.error(f"--plot must be a .png in a folder that exists, not {options.plot}.")
    dataset = parser.load(options)
    dataset = replace(dataset, train=tuple(part[:SUBSET] for part in dataset.train))
    torch.manual_seed(options.seed)
    net = MNISTNet().double()
    batches = training_batches(dataset, options.epochs, options.seed)
    started = time.perf_counter()
    with threadpool_limits(1, "blas"):  # a second core does not help here
        weights, losses = train_by_hand(net, batches)
        score = accuracy(net, weights, dataset)
    seconds = time.perf_counter() - started
    digits = f"{len(dataset.train[1]):,} digits of {dataset.name}"
    print(
        f"By hand, {options.epochs} epochs of {digits}: {score:.2f}% of "
        f"{len(dataset.test[1]):,} held-out digits right, in {seconds:.0f} s."
    )
    if options.plot:
        referee = train_by_autograd(net, batches)
        score = accuracy(net, to_numpy(net.state_dict()), dataset)
        apart = max(abs(a - b) for a, b in zip(losses, referee, strict=True))
        print(f"By autograd: {score:.2f}%. The losses are never further apart than {apart:.1e}.")
        training(losses, referee, digits).savefig(options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
