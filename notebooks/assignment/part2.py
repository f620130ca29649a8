"""The checks of part 2: how far off an answer is, and probably why.

They compare what a student's function does with `s4lib`, on small made-up data, and compare wrong
results with those of usual slips.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from notebooks.assignment import checklist, model_answer
from notebooks.assignment.compare import (
    FOLLOWS,
    AnswerError,
    NotGradedError,
    ask,
    call,
    compare,
    numbers,
)
from notebooks.assignment.shipped import is_shipped
from s4lib import load, receptive_fields
from s4lib.recipes import GOAL, settings
from s4lib.runs import load_run, read_history
from s4lib.runtime.device import MixedPrecision
from s4lib.runtime.rehearsal import copied
from s4lib.train import make_network, train_epoch

LAYERS = (  # kernel and stride of the layers in the trial networks
    ((3, 1), (3, 1), (2, 2), (1, 1), (3, 1), (2, 2), (3, 1), (5, 1)),
    ((5, 2), (1, 1), (3, 1), (3, 2), (3, 1), (7, 1)),
    ((3, 1), (2, 2), (2, 2), (5, 1), (3, 3), (3, 1)),
    ((7, 2), (3, 2), (3, 1), (3, 1)),
    ((3, 2), (3, 1)),
)
MEASURES = ("mean loss", "accuracy in %")
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}  # a right answer may be off by so much after some steps


def show(lines: Sequence[checklist.Requirement]) -> None:
    """Print a checklist; raises AnswerError with what is not met."""
    print(*(line for line in lines if line.met), sep="\n")
    if not all(line.met for line in lines):
        raise AnswerError("\n".join(str(line) for line in lines if not line.met))


def made(network) -> nn.Module:
    """Return a copy of the student's network on the CPU; an error becomes one line."""
    name = getattr(network, "__name__", type(network).__name__)
    return copied(with_shapes(call(make_network, network, name=name))).cpu()


@torch.no_grad()
def with_shapes(model: nn.Module) -> nn.Module:
    """Return the network, after lazy layers, if there are any, have got their shapes."""
    if any(isinstance(one, UninitializedParameter) for one in model.parameters()):
        call(model.eval(), torch.zeros(2, 1, 28, 28), name=type(model).__name__)
    return model


def check_network(network) -> None:
    """Check a network's outputs, its size, and the layers at work in it."""
    with redirect_stderr(sys.stdout), torch.random.fork_rng(devices=[]):
        model = made(network)
        check_log_probs(model)
        refuse_model_answer(model)
        lines = call(checklist.check_network, model, name=type(model).__name__)
    show(lines)


def refuse_model_answer(model) -> None:
    """Raises AnswerError for the network that comes with the course as an example."""
    if layers_of(model) == layers_of(model_answer.Net()):
        raise AnswerError("✗ this is the course's model answer, layer by layer: build your own")


def layers_of(model) -> list[str]:
    """Return the layers that have parameters, as they describe themselves, in any order."""
    return sorted(
        str(layer)
        for layer in model.modules()
        if not any(layer.children()) and any(True for _ in layer.parameters())
    )


@torch.no_grad()
def check_log_probs(network) -> None:
    """Raises AnswerError unless the network makes ten log-probabilities of every image."""
    model = made(network)
    name, images = type(model).__name__, torch.randn(16, 1, 28, 28)
    output = call(model.eval(), images[:4], name=name)
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (4, 10):
        raise AnswerError(f"✗ for 4 images the network returns {shape}, not (4, 10)")

    def adds_up(values, dim):
        return torch.allclose(values.sum(dim), torch.ones(()), atol=0.01)

    if adds_up(output, 1):
        raise AnswerError("✗ the outputs are probabilities: end with log_softmax, not softmax")
    if not adds_up(output.exp(), 1):
        if adds_up(output.exp(), 0):
            raise AnswerError("✗ log_softmax takes the images for the classes: it needs dim=1")
        raise AnswerError("✗ the outputs are not log-probabilities: end with log_softmax(x, dim=1)")
    in_training = call(model.train(), images, name=name)
    if not adds_up(in_training.exp(), 1):
        raise AnswerError(
            "✗ in training the outputs are not log-probabilities: put dropout before the last layer"
        )
    lowest = (in_training == in_training.min(1, keepdim=True).values).sum(1)
    if ((lowest > 1) & (lowest < 10)).float().mean() > 0.5:
        raise AnswerError(
            "✗ the least likely classes are exactly alike: leave out the ReLU before log_softmax"
        )
    print("✓ ten log-probabilities of every image")


def grow(
    layers,
    *,
    start=1,
    less=1,
    own=False,
    add=False,
    far=True,
    pools=True,
    times=False,
    keep=False,
    swap=False,
    before=False,
    double=False,
    most=np.inf,
):
    """Return the receptive field after each of `layers`, (kernel, stride), or, with options, a
    slip.
    """
    fields, field, jump = [], start, 1
    for layer in layers:
        kernel, stride = layer[::-1] if swap else layer
        old = jump
        jump = stride if keep else jump + stride - (add == "s - 1") if add else jump * stride
        distance = (jump if own else old) if far else 1
        if double and kernel == stride > 1:
            field *= kernel
        elif before:
            field = (field - 1) * stride + kernel
        elif pools or kernel != stride or kernel == 1:
            field += (kernel - less) * distance
        field *= stride if times else 1
        fields.append(min(field, most))
    return fields


FIELD_SLIPS = {
    "a kernel k wide reaches k − 1 positions further, not k": {"less": 0},
    "the jump is forgotten: after a stride of 2, neighbouring inputs are 2 pixels apart": {
        "far": False
    },
    "a stride counts from the next layer on: the layer's own inputs are as far apart as before": {
        "own": True
    },
    "strides multiply: after two of 2 the jump is 4": {"add": "s - 1"},
    "strides multiply: the jump is not their sum": {"add": "s"},
    "strides multiply: the jump is not the last layer's stride alone": {"keep": True},
    "a layer is (kernel, stride), in this order": {"swap": True},
    "a field begins with 1: a pixel sees itself": {"start": 0},
    "a pooling sees as much as its kernel is large: it widens the field as well": {"pools": False},
    "a stride multiplies the jump, not the field": {"times": True},
    "a pooling widens the field by (k − 1) jumps: it does not multiply it": {"double": True},
    "(field − 1) · stride + kernel goes from the last layer back, not from the first on": {
        "before": True
    },
    "count the full square, even where it extends beyond the image": {"most": 28},
}


def field_slips(networks, got, length=0) -> Iterator[tuple[str, list]]:
    """Return what each of `FIELD_SLIPS` gives for networks, each a list of layers."""

    def padded(values):
        return [*values, *np.full(max(0, length - len(values)), np.nan)]

    for hint, slip in FIELD_SLIPS.items():
        yield hint, [padded(grow(layers, **slip)) for layers in networks]
    follows = []
    for layers, own in zip(networks, got, strict=True):
        steps = np.diff(grow(layers))
        follows.append(
            padded([np.nan, *(before + step for before, step in zip(own, steps, strict=False))])
        )
    yield FOLLOWS, follows


def check_fields(fields) -> None:
    """Check `fields(layers)`: the receptive field after each (kernel, stride)."""
    names = [f"after layer {k}" for k in range(1, 1 + max(map(len, LAYERS)))]
    networks = [[*layers] for layers in LAYERS]
    rest = [np.full(len(names) - len(layers), np.nan) for layers in networks]
    want = np.array([[*grow(one), *more] for one, more in zip(networks, rest, strict=True)])
    got = ask(fields, names, [(layers,) for layers in networks], want)
    compare(names, got, want, field_slips(networks, got, len(names)))


def check_by_hand(sees, network) -> None:
    """Check `sees`: the field after each convolution and pooling of the student's network."""
    if sees is None:
        raise AnswerError("✗ sees is not written yet")
    with redirect_stderr(sys.stdout), torch.random.fork_rng(devices=[]):
        model = made(network)
        rows = call(receptive_fields, model, name=type(model).__name__)
    names = [row.layer for row in rows]
    try:
        count = len(sees)
        got = numbers(None, sees, names)
    except (AnswerError, TypeError):
        has = f"sees has {count}" if isinstance(sees, (list, tuple)) else f"sees is {sees!r}"
        raise AnswerError(
            f"✗ {len(rows)} numbers are needed, of {', '.join(names)}, but {has}"
        ) from None
    layers = [(row.kernel, row.stride) for row in rows]
    want = [[row.receptive_field for row in rows]]
    compare(names, [got], want, field_slips([layers], [got]))


class Half(nn.Module):
    """Instead of dropout, drop the same half every time, so that no random numbers are drawn.

    It counts the passes in which gradients are recorded.
    """

    recorded = 0

    def forward(self, x):
        self.recorded += torch.is_grad_enabled()
        keep = torch.arange(x.shape[1]) % 2 * 2
        return x * keep if self.training else x


class Case(NamedTuple):
    """A trial for a loop: a network, batches of unequal size, an optimizer."""

    seed: int
    sizes: tuple[int, ...]
    optimizer: Callable[..., torch.optim.Optimizer]
    training: bool  # the mode in which the network is handed over


CASES = (
    Case(0, (5, 5, 2), partial(torch.optim.SGD, lr=0.1), False),
    Case(1, (3, 6), partial(torch.optim.SGD, lr=0.03, momentum=0.9), True),
    Case(2, (4, 2, 4, 3), partial(torch.optim.Adam, lr=0.01), False),
)


def small_network(case: Case) -> nn.Sequential:
    """Return a network for (N, 1, 4, 4) that behaves differently in training and testing."""
    width = 8 + 2 * case.seed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(case.seed)
        first, last = nn.Linear(16, width, bias=False), nn.Linear(width, 10)
        layers = nn.Flatten(), first, nn.BatchNorm1d(width), Half(), last, nn.LogSoftmax(dim=1)
        return nn.Sequential(*layers).train(case.training)


def small_batches(case: Case) -> list[tuple[Tensor, Tensor]]:
    """Return images (N, 1, 4, 4) and labels in batches of unequal size."""
    generator = torch.Generator().manual_seed(case.seed)
    images = torch.randn(sum(case.sizes), 1, 4, 4, generator=generator)
    labels = torch.randint(10, (sum(case.sizes),), generator=generator)
    return [*zip(images.split(case.sizes), labels.split(case.sizes), strict=True)]


def fingerprint(values: Tensor) -> float:
    """Return a number that changes when one of `values` does."""
    weights = torch.arange(1.0, values.numel() + 1, dtype=torch.float64) / values.numel()
    return (values.detach().flatten().double().cpu() @ weights).item()


def left_of(model) -> list[float]:
    """Return what a loop changes in a network: its weights, and batch norm's mean."""
    return [*map(fingerprint, (model[1].weight, model[4].weight, model[2].running_mean))]


class Watched:
    """A network's optimizer that notes when gradients are made, and what its steps find."""

    def __init__(self, model, make):
        self.optimizer, self.notes = make(model.parameters()), ""
        weight = model[4].weight
        weight.register_hook(lambda gradient: self.note("b"))  # a backward pass
        self.optimizer.register_step_pre_hook(
            lambda *_: self.note("0" if weight.grad is None or not weight.grad.any() else "s")
        )

    def note(self, what: str) -> None:
        self.notes += what

    def reason(self, changed: bool) -> str | None:
        """Return why the weights are wrong, if the order of the calls shows it.

        For an answer that runs in another process, the order is unknown.
        """
        if not self.notes:
            never = "the weights never change: loss.backward() or optimizer.step() is missing"
            return None if changed else never
        if not {*"s0"} & {*self.notes}:
            own = "take the steps with the optimizer that is given, not with your own"
            return own if changed else "the weights never change: optimizer.step() is forgotten"
        if "b" not in self.notes:
            return "the weights never change: loss.backward() is missing"
        if "s" not in self.notes and self.notes[0] == "0":
            return "the weights never change: optimizer.step() comes before loss.backward()"
        if "s" not in self.notes:
            return "the weights never change: zero_grad() comes between backward() and step()"
        if self.notes[0] == "0":
            return "optimizer.step() comes before loss.backward(): it takes the last batch's"
        return None


def s4lib_train(model, batches, optimizer) -> tuple[float, float]:
    """Return the result of `s4lib`'s own loop, at one learning rate."""
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    amp = MixedPrecision(torch.device("cpu"), torch.float32)
    return train_epoch(model, batches, optimizer, schedule, amp)


def right_means(losses, corrects, sizes) -> tuple[float, float]:
    """Return mean loss and per cent correct from batches' mean losses, numbers correct, sizes."""
    return losses @ sizes / sizes.sum(), 100 * corrects.sum() / sizes.sum()


def slipped_train(
    model,
    batches,
    optimizer,
    mode=nn.Module.train,
    clear=True,
    loss=F.nll_loss,
    late=False,
    passes=1,
    means=right_means,
):
    """A training loop, right unless an option makes it wrong.

    `mode` is called first, `clear` is whether gradients become zero, `loss` is what falls; with
    `late` the network is called again after the step, and `means` makes the two numbers.
    """
    mode(model)
    measured = []
    for images, labels in batches * passes:
        if clear:
            optimizer.zero_grad()
        log_probs = model(images)
        value = loss(log_probs, labels)
        value.backward()
        optimizer.step()
        if late:
            log_probs = model(images)
            value = loss(log_probs, labels)
        measured.append((value.item(), (log_probs.argmax(1) == labels).sum().item(), len(labels)))
    return means(*map(np.array, zip(*measured, strict=True)))


def slipped_test(model, batches, mode=nn.Module.eval, record=torch.no_grad, means=right_means):
    """A loop over test batches, right unless an option makes it wrong."""
    mode(model)
    with record():
        every = [(model(images), labels) for images, labels in batches]
    measured = [
        (F.nll_loss(x, labels).item(), (x.argmax(1) == labels).sum().item(), len(labels))
        for x, labels in every
    ]
    return means(*map(np.array, zip(*measured, strict=True)))


def of_a_batch(k: int):
    return lambda losses, corrects, sizes: (losses[k], 100 * corrects[k] / sizes[k])


def of_fixed_size(size: int):
    def means(losses, corrects, sizes):
        return losses @ sizes / (size * len(sizes)), 100 * corrects.sum() / (size * len(sizes))

    return means


MEAN_SLIPS = {
    "the batches are of unequal size: weigh each by its number of images": [
        lambda losses, corrects, sizes: (losses.mean(), 100 * (corrects / sizes).mean())
    ],
    "this is the sum over all images: divide by their number": [
        lambda losses, corrects, sizes: (losses @ sizes, 100 * corrects.sum())
    ],
    "this is the sum of the batches' means: weigh each by its size, and divide by all images": [
        lambda losses, corrects, sizes: (losses.sum(), 100 * (corrects / sizes).sum())
    ],
    "a batch's loss is already a mean: multiply it by len(labels) before it is added up": [
        lambda losses, corrects, sizes: (losses.sum() / sizes.sum(), np.nan),
    ],
    "a batch's share is already a mean: add up the numbers of correct images": [
        lambda losses, corrects, sizes: (np.nan, 100 * (corrects / sizes).sum() / sizes.sum()),
    ],
    "divide by the number of images, not of batches": [
        lambda losses, corrects, sizes: (
            losses @ sizes / len(sizes),
            100 * corrects.sum() / len(sizes),
        )
    ],
    "this counts only the last batch": [of_a_batch(-1)],
    "this counts only the first batch: does return stand inside the loop?": [of_a_batch(0)],
    "a batch's size is len(labels), not a fixed number": [
        of_fixed_size(size) for size in (32, 50, 64, 100, 128, 250, 256, 512, 1000)
    ],
    "return per cent, not a fraction": [
        lambda losses, corrects, sizes: (np.nan, corrects.sum() / sizes.sum())
    ],
    "return per cent, not the number of correct images": [
        lambda losses, corrects, sizes: (np.nan, corrects.sum())
    ],
    "this is the share of mistakes": [
        lambda losses, corrects, sizes: (np.nan, 100 - 100 * corrects.sum() / sizes.sum())
    ],
    "the loss is −log p, which is positive": [
        lambda losses, corrects, sizes: (-losses @ sizes / sizes.sum(), np.nan)
    ],
}


def leave(model) -> None:
    """Do nothing, instead of model.train() or model.eval()."""


def on_probabilities(log_probs, labels):
    return F.nll_loss(log_probs.exp(), labels)


def summed(log_probs, labels):
    return F.nll_loss(log_probs, labels, reduction="sum")


TRAIN_SLIPS = {
    "zero_grad is forgotten: the gradients of all batches pile up": {"clear": False},
    "model.train() is forgotten: dropout is off, and batch norm uses its running statistics": {
        "mode": nn.Module.eval
    },
    "the loss takes log-probabilities, but it is given probabilities": {"loss": on_probabilities},
    "the loss of a batch is the mean over its images, not the sum": {"loss": summed},
    "loss and predictions are those before the step, not after it": {"late": True},
    "this goes through the batches twice: make one pass": {"passes": 2},
}
TEST_SLIPS = {
    "model.eval() is forgotten: dropout is on, and batch norm uses the batch's mean": {
        "mode": leave
    },
    "put it under torch.no_grad(): recording what no backward() needs takes memory": {
        "record": torch.enable_grad
    },
}


def measure(loop, case: Case, *optimizers) -> tuple[np.ndarray, ...]:
    """Return mean losses, numbers correct and sizes of a case's batches, in a right loop."""
    model = small_network(case)
    made = [make(model.parameters()) for make in optimizers]
    return loop(model, small_batches(case), *made, means=lambda *measured: measured)


def slipped_means(measured, want) -> Iterator[tuple[str, list]]:
    """Return what each of `MEAN_SLIPS` makes of the two measures; all else is as in `want`."""
    for hint, forms in MEAN_SLIPS.items():
        for means in forms:
            rows = zip(measured, want, strict=True)
            yield hint, [[*means(*of_case), *row[2:]] for of_case, row in rows]


def check_train_epoch(train_epoch) -> None:
    """Check `train_epoch(model, batches, optimizer)`, which returns mean loss and accuracy."""
    names = (*MEASURES, "weights of the first layer", "weights of the last", "batch norm's mean")
    watched = []

    def after(train, case, run=lambda train, *args: train(*args)):
        model = small_network(case)
        watched.append(Watched(model, case.optimizer))
        answer = run(train, model, small_batches(case), watched[-1].optimizer)
        return [*numbers(train, answer, MEASURES), *left_of(model)]

    got = np.array([after(train_epoch, case, run=call) for case in CASES])
    of_student = watched[:]
    want = np.array([after(s4lib_train, case) for case in CASES])

    def slips():
        fresh = np.array([left_of(small_network(case)) for case in CASES])
        changed = not np.allclose(got[:, 2:4], fresh[:, :2])
        reason = of_student[-1].reason(changed)
        if reason:
            yield reason, got * (np.nan, np.nan, 1, 1, np.nan)
        for hint, slip in TRAIN_SLIPS.items():
            yield hint, [after(partial(slipped_train, **slip), case) for case in CASES]
        measured = [measure(slipped_train, case, case.optimizer) for case in CASES]
        yield from slipped_means(measured, want)
        if reason:  # then the numbers after the first batch differ as well
            yield FOLLOWS, got

    compare(names, got, want, slips(), **FLOAT32)


def check_test(test) -> None:
    """Check `test(model, batches)`, which returns mean loss and accuracy and changes nothing."""
    names = (*MEASURES, "weights", "batch norm's mean", "passes that record gradients")

    def after(test, case, run=lambda test, *args: test(*args)):
        model = small_network(case).train()
        answer = run(test, model, small_batches(case))
        first, last, mean = left_of(model)
        return [*numbers(test, answer, MEASURES), first + last, mean, model[3].recorded]

    got = [after(test, case, run=call) for case in CASES]
    want = [after(slipped_test, case) for case in CASES]

    def slips():
        for hint, slip in TEST_SLIPS.items():
            yield hint, [after(partial(slipped_test, **slip), case) for case in CASES]
        yield from slipped_means([measure(slipped_test, case) for case in CASES], want)

    compare(names, got, want, slips(), **FLOAT32)


def check_run(network, folder: str | Path) -> float:
    """Check the run in `folder`; a point for each of the last five epochs at 99.4 % or more.

    Its weights are tested on MNIST. Raises NotGradedError if MNIST is not available.
    """
    model, folder = made(network), Path(folder)
    refuse_model_answer(model)
    history = read_history(folder)
    if history.dataset != checklist.WHOLE[0]:
        raise AnswerError(
            f"✗ data: {history.dataset}, so this was practice. Delete {folder.name}, and train on "
            "MNIST: run the cells again from the one that loads the data"
        )
    if not (folder / "weights.pt").is_file():
        raise AnswerError(f"✗ {folder.name} holds no weights.pt: hand in both files of the run")
    if is_shipped(load_run(model, folder)):
        raise AnswerError("✗ these weights came with the course: hand in those that you trained")
    with redirect_stderr(sys.stdout):
        *lines, accuracy = checklist.check_runs(model, [history])
        digits = load(settings()[1])
        if digits.name == history.dataset:
            lines.append(checklist.check_weights(model, folder, history, digits))
    show(lines)
    print(accuracy)
    if digits.name != history.dataset:
        raise NotGradedError(f"{history.dataset} is not available, so the weights can't be tested")
    last = history.epochs[-checklist.LAST :]
    return float(sum(100 * one.test_correct >= GOAL * one.test_images for one in last))
