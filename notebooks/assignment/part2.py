"""The checks of part 2: how far off an answer is, and probably why.

They compare what a student's function does with `s4lib`, on small made-up data, and what is wrong
with what comes of the usual slips.
"""

import copy
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from notebooks.assignment import checklist
from notebooks.assignment.compare import AnswerError, compare, numbers
from s4lib import load, receptive_fields
from s4lib.recipes import GOAL, settings
from s4lib.runs import read_history
from s4lib.runtime.device import MixedPrecision
from s4lib.train import make_network, train_epoch

LAYERS = (  # kernel and stride of six layers, in networks that are asked about
    ((3, 1), (3, 1), (2, 2), (3, 1), (2, 2), (3, 1)),
    ((5, 2), (1, 1), (3, 1), (3, 2), (3, 1), (7, 1)),
    ((3, 1), (2, 2), (2, 2), (5, 1), (3, 3), (3, 1)),
)
SIZES = (5, 5, 2)  # of batches
MEASURES = ("mean loss", "accuracy in %")
SEEDS = (0, 1, 2)


def show(lines: Sequence[checklist.Requirement]) -> None:
    """Print a checklist; raises AnswerError with what is not met."""
    print(*(line for line in lines if line.met), sep="\n")
    if not all(line.met for line in lines):
        raise AnswerError("\n".join(str(line) for line in lines if not line.met))


def check_network(network) -> None:
    """Check a network's outputs, its size, and the layers at work in it."""
    with redirect_stderr(sys.stdout), torch.random.fork_rng(devices=[]):
        check_log_probs(network)
        show(checklist.check_network(network))


@torch.no_grad()
def check_log_probs(network) -> None:
    """Raises AnswerError unless the network makes ten log-probabilities of every image."""
    model = copy.deepcopy(make_network(network)).cpu().eval()
    output = model(torch.randn(4, 1, 28, 28))
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (4, 10):
        raise AnswerError(f"✗ of 4 images the network makes {shape}, where it should make (4, 10)")

    def adds_up(values, dim):
        return torch.allclose(values.sum(dim), torch.ones(()), atol=0.01)

    if adds_up(output.exp(), 1):
        print("✓ ten log-probabilities of every image")
    elif adds_up(output, 1):
        raise AnswerError("✗ the outputs are probabilities: end with log_softmax, not softmax")
    elif adds_up(output.exp(), 0):
        raise AnswerError("✗ log_softmax takes the images for the classes: it needs dim=1")
    else:
        raise AnswerError("✗ the outputs are no log-probabilities: end with log_softmax(x, dim=1)")


def grow(layers, *, start=1, less=1, own=False, add=False, far=True, pools=True, times=False):
    """The receptive field after each of `layers`, (kernel, stride), right unless an option puts a
    slip in.
    """
    fields, field, jump = [], start, 1
    for kernel, stride in layers:
        before = jump
        jump = jump + stride - 1 if add else jump * stride
        distance = (jump if own else before) if far else 1
        if pools or kernel != stride or kernel == 1:
            field += (kernel - less) * distance
        field *= stride if times else 1
        fields.append(field)
    return fields


FIELD_SLIPS = {
    "a kernel of k taps reaches k − 1 taps further, not k": {"less": 0},
    "the jump is forgotten: after a stride of 2 neighbouring taps are 2 pixels apart": {
        "far": False
    },
    "a stride counts from the next layer on: the layer's own taps are as far apart as before": {
        "own": True
    },
    "strides multiply: after two of 2 the jump is 4": {"add": True},
    "a field begins with 1: a pixel sees itself": {"start": 0},
    "a pooling sees as much as its kernel is large: it widens the field, too": {"pools": False},
    "a stride multiplies the jump, not the field": {"times": True},
}


def check_fields(fields) -> None:
    """Check `fields(layers)`: the receptive field after each (kernel, stride)."""
    names = [f"after layer {k}" for k in range(1, 7)]
    got = []
    with redirect_stderr(sys.stdout):
        for layers in LAYERS:
            got.append(numbers(fields, fields([*layers]), names))
    slips = {hint: [grow(one, **slip) for one in LAYERS] for hint, slip in FIELD_SLIPS.items()}
    compare(names, got, [grow(layers) for layers in LAYERS], slips)


def check_by_hand(sees, network) -> None:
    """Check `sees`: what an activation sees after each convolution and pooling of a network."""
    with redirect_stderr(sys.stdout), torch.random.fork_rng(devices=[]):
        rows = receptive_fields(make_network(network))
    names = [row.layer for row in rows]
    if len(sees) != len(rows):
        raise AnswerError(
            f"✗ {len(rows)} numbers are asked for, of {', '.join(names)}, but sees has {len(sees)}"
        )
    want = [[row.receptive_field for row in rows]]
    layers = [(row.kernel, row.stride) for row in rows]
    slips = {hint: [grow(layers, **slip)] for hint, slip in FIELD_SLIPS.items()}
    slips["count on where the image ends: what the kernels would reach is asked for"] = np.minimum(
        want, 28
    )
    compare(names, [sees], want, slips)


class Half(nn.Module):
    """In place of dropout: drops the same half every time, so that no random numbers are drawn.

    Counts the passes in which gradients are recorded.
    """

    recorded = 0

    def forward(self, x):
        self.recorded += torch.is_grad_enabled()
        keep = torch.arange(x.shape[1]) % 2 * 2
        return x * keep if self.training else x


def small_network(seed: int) -> nn.Sequential:
    """A network for (N, 1, 4, 4), in double precision, that tells training from testing."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), Half(), nn.Linear(8, 10)
        return nn.Sequential(*layers, nn.LogSoftmax(dim=1)).double()


def small_batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    """Images (N, 1, 4, 4) and labels in batches of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(sum(SIZES), 1, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (sum(SIZES),), generator=generator)
    return [*zip(images.split(SIZES), labels.split(SIZES), strict=True)]


def fingerprint(values: Tensor) -> float:
    """A number that changes when one of `values` does."""
    return (values.detach().flatten() @ torch.arange(1.0, values.numel() + 1).double()).item()


def after_training(train, seed: int) -> list[float]:
    """What `train(model, batches, optimizer)` returns and leaves of a network in testing mode."""
    model = small_network(seed).eval()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    measures = numbers(train, train(model, small_batches(seed), optimizer), MEASURES)
    return [*measures, *map(fingerprint, (model[1].weight, model[4].weight, model[2].running_mean))]


def s4lib_train(model, batches, optimizer) -> tuple[float, float]:
    """`s4lib`'s own loop, at one learning rate."""
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    amp = MixedPrecision(torch.device("cpu"), torch.float32)
    return train_epoch(model, batches, optimizer, schedule, amp)


def slipped_train(
    model,
    batches,
    optimizer,
    mode=nn.Module.train,
    clear="before",
    loss=F.nll_loss,
    late=False,
    **slips,
):
    """A training loop, right unless an option puts a slip in.

    `mode` is what is done first, `clear` says when gradients become zero, `loss` is what falls,
    and with `late` the network is asked again after the step. `slips` are those of `means`.
    """
    mode(model)
    measured = []
    for images, labels in batches:
        if clear == "before":
            optimizer.zero_grad()
        log_probs = model(images)
        value = loss(log_probs, labels)
        value.backward()
        if clear == "after":
            optimizer.zero_grad()
        optimizer.step()
        if late:
            log_probs = model(images)
            value = loss(log_probs, labels)
        measured.append((value.item(), (log_probs.argmax(1) == labels).sum().item(), len(labels)))
    return means(measured, **slips)


def slipped_test(model, batches, mode=nn.Module.eval, record=torch.no_grad, **slips):
    """A loop over test batches, right unless an option puts a slip in."""
    mode(model)
    with record():
        every = [(model(images), labels) for images, labels in batches]
    return means(
        [
            (F.nll_loss(x, labels).item(), (x.argmax(1) == labels).sum().item(), len(labels))
            for x, labels in every
        ],
        **slips,
    )


def means(measured, weigh=True, divide=True, by_batches=False, share=100) -> tuple[float, float]:
    """Mean loss and per cent correct of batches, each (loss, number correct, size).

    The options are slips: to count batches alike, to leave the sum, to divide it by their number.
    """
    losses, corrects, sizes = map(np.array, zip(*measured, strict=True))
    total = len(sizes) if by_batches else sizes.sum()
    if weigh:
        loss, correct = (losses * sizes).sum() / total, corrects.sum() / total
    else:
        loss, correct = losses.mean(), (corrects / sizes).mean()
    count = 1 if divide else total if weigh else len(sizes)
    return loss * count, share * correct * count


def leave(model) -> None:
    """In place of model.train() and model.eval(): nothing."""


def on_probabilities(log_probs, labels):
    return F.nll_loss(log_probs.exp(), labels)


def summed(log_probs, labels):
    return F.nll_loss(log_probs, labels, reduction="sum")


MEAN_SLIPS = {
    "the batches are of unequal size: weigh each by its number of images": {"weigh": False},
    "this is the sum over all images: divide by their number": {"divide": False},
    "this is the sum of the batches' means: weigh each by its size, and divide by all images": {
        "weigh": False,
        "divide": False,
    },
    "divide by the number of images, not of batches": {"by_batches": True},
    "per cent are asked for, not a fraction": {"share": 1},
}
TRAIN_SLIPS = {
    "zero_grad is forgotten: the gradients of all batches pile up": {"clear": "never"},
    "the weights never change: optimizer.step() is forgotten, or zero_grad comes before it": {
        "clear": "after"
    },
    "model.train() is forgotten: dropout rests, and batch norm takes its running statistics": {
        "mode": leave
    },
    "the loss takes log-probabilities, but it is given probabilities": {"loss": on_probabilities},
    "the loss of a batch is the mean over its images, not the sum": {"loss": summed},
    "loss and predictions are those before the step, not after it": {"late": True},
    **MEAN_SLIPS,
}


def check_train_epoch(train_epoch) -> None:
    """Check `train_epoch(model, batches, optimizer)`, which returns mean loss and accuracy."""
    names = (*MEASURES, "weights of the first layer", "weights of the last", "batch norm's mean")

    def after(train):
        return [after_training(train, seed) for seed in SEEDS]

    with redirect_stderr(sys.stdout):
        got = after(train_epoch)
    slips = {hint: after(partial(slipped_train, **slip)) for hint, slip in TRAIN_SLIPS.items()}
    compare(names, got, after(s4lib_train), slips)


def check_test(test) -> None:
    """Check `test(model, batches)`, which returns mean loss and accuracy and changes nothing."""
    names = (*MEASURES, "batch norm's mean", "passes that record gradients")

    def after(test):
        rows = []
        for seed in SEEDS:
            model = small_network(seed).train()
            measures = numbers(test, test(model, small_batches(seed)), MEASURES)
            rows.append([*measures, fingerprint(model[2].running_mean), model[3].recorded])
        return rows

    with redirect_stderr(sys.stdout):
        got = after(test)
    slips = {
        "model.eval() is forgotten: dropout drops, and batch norm takes the batch's mean": {
            "mode": leave
        },
        "put it under torch.no_grad(): recording what no backward() needs takes memory": {
            "record": torch.enable_grad
        },
        **MEAN_SLIPS,
    }
    slips = {hint: after(partial(slipped_test, **slip)) for hint, slip in slips.items()}
    compare(names, got, after(slipped_test), slips)


def check_run(network, folder: str | Path) -> float:
    """Check the run in `folder`; a point for each of the last five epochs at 99.4 % or more.

    Its weights are tested if the data set is at hand.
    """
    network, folder = make_network(network), Path(folder)
    history = read_history(folder)
    with redirect_stderr(sys.stdout):
        *lines, accuracy = checklist.check_runs(network, [history])
        digits = load(settings()[1])
        if digits.name == history.dataset:
            lines.append(checklist.check_weights(network, folder, history, digits))
        else:
            print(f"({history.dataset} is not at hand: what the weights give is not tested)")
    show(lines)
    print(accuracy)
    last = history.epochs[-checklist.LAST :]
    return float(sum(100 * one.test_correct >= GOAL * one.test_images for one in last))
