"""Train `MNISTNet` by the hand-written gradients alone: `python -m backprop.train`."""

import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from backprop.cnn import LAYERS, NORM, backward, forward, to_numpy
from backprop.layer_plots import training
from backprop.layers import batch_statistics, nll_forward
from backprop.referee import DigitsParser, dropout_masks
from s4lib.data import Batches
from s4lib.model import MNISTNet

SUBSET, EPOCHS, BATCH_SIZE = 2000, 6, 32
LR, MOMENTUM = 0.05, 0.9


def sgd_step(weights, gradients, velocity, lr, momentum=MOMENTUM):
    """Move every parameter, in place, as `torch.optim.SGD` does: v ← μv + g, then w ← w − lr·v."""
    for name, gradient in gradients.items():
        velocity[name] = momentum * velocity.get(name, 0) + gradient
        weights[name] -= lr * velocity[name]


def update_running_statistics(weights, outputs, momentum=0.1):
    """Move every batch norm's running mean and variance a tenth of the way to this batch's.

    As in PyTorch the running variance is the unbiased one, the estimate for digits not seen yet.
    """
    for before, name in pairwise(LAYERS):
        if LAYERS[name] is NORM:
            mean, var = batch_statistics(outputs[before])
            count = outputs[before][:, 0].size
            unbiased = var * count / (count - 1)
            weights[f"{name}.running_mean"] += momentum * (mean - weights[f"{name}.running_mean"])
            weights[f"{name}.running_var"] += momentum * (unbiased - weights[f"{name}.running_var"])


def training_batches(dataset, epochs, seed):
    """All batches of a run, in order: float64 images and labels."""
    generator = torch.Generator().manual_seed(seed)
    batches = Batches(dataset, BATCH_SIZE, generator)
    return [(images.double(), labels) for _ in range(epochs) for images, labels in batches]


def falling(lr, step, steps):
    """The learning rate falls in a straight line, to reach zero when the run ends."""
    return lr * (1 - step / steps)


def train_by_hand(net, batches, lr=LR):
    """The weights after one step for each batch, starting from `net`'s, and the losses."""
    net.train()  # for its dropout; its weights stay as they are
    weights, velocity, losses = to_numpy(net.state_dict()), {}, []
    bar = tqdm(batches, desc="by hand", unit="batch")
    for step, (images, labels) in enumerate(bar):
        labels, masks = labels.numpy(), dropout_masks(net, len(labels), seed=step)
        outputs = forward(weights, images.numpy(), masks)
        gradients, _ = backward(weights, outputs, labels, masks)
        update_running_statistics(weights, outputs)
        sgd_step(weights, gradients, velocity, falling(lr, step, len(batches)))
        losses.append(float(nll_forward(outputs["log_softmax"], labels)))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return weights, losses


def train_by_autograd(net, batches, lr=LR):
    """The same steps with PyTorch's gradients and optimiser; trains `net`, returns the losses."""
    net.train()
    optimizer, losses = torch.optim.SGD(net.parameters(), lr, MOMENTUM), []
    for step, (images, labels) in enumerate(tqdm(batches, desc="autograd", unit="batch")):
        torch.manual_seed(step)
        loss = F.nll_loss(net(images), labels)
        optimizer.param_groups[0]["lr"] = falling(lr, step, len(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def accuracy(weights, dataset):
    """Per cent of the held-out digits that the forward pass by hand gets right."""
    correct = 0
    images, labels = dataset.test
    for pick in torch.arange(len(labels)).split(100):
        digits = dataset.normalise(images[pick].float()).double().numpy()
        predicted = forward(weights, digits)["log_softmax"].argmax(1)
        correct += np.sum(predicted == labels[pick].numpy())
    return 100 * correct / len(labels)


def subset(dataset, count):
    """The data set with only its first `count` training images."""
    images, labels = dataset.train
    return replace(dataset, train=(images[:count], labels[:count]))


def parse(argv):
    """The command's options and the digits that they ask for."""
    parser = DigitsParser("train", "Train by hand-written gradients, then read held-out digits.")
    add = parser.add_argument
    add("--epochs", type=int, default=EPOCHS, help=f"passes over the images ({EPOCHS})")
    add("--images", type=int, help=f"to train on ({SUBSET:,}, or all there are)")
    add("--plot", metavar="PNG", type=Path, help="train by autograd too, and draw both here")
    options = parser.parse_args(argv)
    if options.epochs < 1:
        parser.error(f"--epochs must be 1 or more, not {options.epochs}.")
    if options.plot and not (options.plot.suffix == ".png" and options.plot.parent.is_dir()):
        parser.error(f"--plot must be a .png in a folder that exists, not {options.plot}.")
    dataset = parser.load(options)
    most = len(dataset.train[1])
    count = min(SUBSET, most) if options.images is None else options.images
    if not BATCH_SIZE <= count <= most:
        parser.error(
            f"--images must be from {BATCH_SIZE}, one batch, to the {most:,} of {dataset.name}, "
            f"not {count}."
        )
    return options, subset(dataset, count)


def main(argv=None):
    """Train, test, say how it went; with --plot, let autograd do the same and draw both."""
    options, dataset = parse(argv)
    torch.manual_seed(options.seed)
    net = MNISTNet().double()
    batches = training_batches(dataset, options.epochs, options.seed)
    started = time.perf_counter()
    with threadpool_limits(1, "blas"):  # a second core gains nothing here, and loses if it is busy
        weights, losses = train_by_hand(net, batches)
        score = accuracy(weights, dataset)
    seconds = time.perf_counter() - started
    digits = f"{len(dataset.train[1]):,} digits of {dataset.name}"
    print(
        f"By hand, {options.epochs} epochs of {digits}: {score:.2f}% of "
        f"{len(dataset.test[1]):,} held-out digits right, in {seconds:.0f} s."
    )
    if options.plot:
        referee = train_by_autograd(net, batches)
        score = accuracy(to_numpy(net.state_dict()), dataset)
        apart = max(abs(a - b) for a, b in zip(losses, referee, strict=True))
        print(f"By autograd: {score:.2f}%. The losses are never further apart than {apart:.1e}.")
        training(losses, referee, digits).savefig(options.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
