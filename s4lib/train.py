"""Train and test a network."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4lib.data import Batches, Dataset
from s4lib.history import Epoch, History
from s4lib.optim import make_average, make_optimizer, make_schedule
from s4lib.recipes import Recipe
from s4lib.runtime import UsageError, check_number, distributed
from s4lib.runtime.checkpoint import resumable
from s4lib.runtime.device import (
    MixedPrecision,
    choose_device,
    choose_precision,
    chunk_size,
    keep_freed_memory,
    uncounted,
)
from s4lib.runtime.progress import progress, show_loss
from s4lib.runtime.rehearsal import explained, materialise, memory_format

Network = nn.Module | Callable[[], nn.Module]  # or a class or function that makes one
OnBatch = Callable[[int, Tensor], None]  # called after every step with its number and its loss


def train_epoch(
    model, batches, optimizer, schedule, amp, smoothing=0.0, on_batch=None
) -> tuple[float, float]:
    """Make one pass over `batches`; return mean loss per example, and per cent predicted correctly.

    Both are measured while the weights change, with dropout on. After every step `on_batch` is
    called with its number, its loss and its log-probabilities (B, 10).
    """
    model.train()
    loss_sum = correct = seen = 0
    for step, (images, labels) in enumerate(batches):
        with amp.autocast():
            log_probs = model(images)  # (B, 10)
            loss = objective = F.nll_loss(log_probs, labels)
            if smoothing:  # its softmax leaves log-probabilities as they are
                objective = F.cross_entropy(log_probs, labels, label_smoothing=smoothing)
        optimizer.zero_grad()
        amp.backward(objective)
        if amp.step(optimizer):
            schedule.step()

        loss_sum += loss.detach() * len(labels)  # stays on the device: reading it would wait
        correct += (log_probs.argmax(1) == labels).sum()
        seen += len(labels)
        if on_batch:
            on_batch(step, loss.detach(), log_probs.detach())
    loss_sum, correct, seen = distributed.all_reduce(loss_sum, correct, seen)
    return loss_sum.item() / seen.item(), 100 * correct.item() / seen.item()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Return log-probabilities (N, 10) of normalised images (N, 1, 28, 28), in fp32."""
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(chunk_size(images.device))])


def evaluate(model: nn.Module, dataset: Dataset) -> tuple[float, int]:
    """Return, for the test images, mean loss per example and number predicted correctly."""
    images, labels = distributed.shard(*dataset.test)
    distributed.broadcast_buffers(model)
    log_probs = predict(model, dataset.normalise(images))
    # If there are more processes than images, some have none, and a mean of none is no number.
    loss_sum = F.nll_loss(log_probs, labels) * len(labels) if len(labels) else 0.0
    correct = (log_probs.argmax(1) == labels).sum()
    loss_sum, correct = distributed.all_reduce(loss_sum, correct)
    return loss_sum.item() / len(dataset.test[1]), correct.item()


def fit(
    network: Network,
    dataset: Dataset,
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    out: str | Path | None = None,
    on_batch: OnBatch | None = None,
) -> tuple[nn.Module, History]:
    """Train a network and test it after every epoch.

    `network` takes normalised images (N, 1, 28, 28) to log-probabilities (N, 10). A class or a
    function that makes one is called after seeding. After every epoch all that decides the rest is
    saved in the folder `out`: the same call resumes the run there, and ends with the same bits.
    Ctrl-C ends a run with the network and the history of the last whole epoch. If the recipe
    averages the weights, the averaged ones are tested, saved and returned.

    Raises UsageError for a missing device, a network with other outputs, a batch that is too large,
    a loss that is not a finite number, or a folder that is in use, read-only or another run's.
    """
    check_number("seed", seed, int, 0, 2**63 - 1)
    device = choose_device(device)
    keep_freed_memory(device)
    amp = MixedPrecision(device, choose_precision(device))
    dataset = dataset.to(device)
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    model = place(make_network(network), dataset, recipe.batch_size, amp)
    batches = Batches(dataset, recipe.batch_size, generator)
    optimizer = make_optimizer(model.parameters(), recipe, fused=amp.dtype != torch.float16)
    steps = [batches.steps(recipe.share(epoch)) for epoch in range(1, recipe.epochs + 1)]
    schedule = make_schedule(optimizer, recipe, steps)
    average = make_average(model, recipe, sum(steps))
    tested = average.module if average else model
    history = describe(model, dataset, recipe, seed, device, amp)
    if distributed.rank():
        torch.manual_seed(seed + distributed.rank())  # every process has its own dropout

    def after_batch(step, loss, log_probs):
        show_loss(bar, step, loss)
        if recipe.hard_share < 1:
            batches.record(log_probs)
        if average and (step + 1) % recipe.ema_every == 0:
            average.update_parameters(model)
        if on_batch:
            on_batch(step, loss)

    with resumable(
        out, dataset, history, generator, tested, model=model, optimizer=optimizer,
        schedule=schedule, scaler=amp.scaler, batches=batches, average=average,
    ) as run:  # fmt: skip
        synchronised = distributed.parallel(model)  # also its gradients, with several processes
        for epoch in range(len(history.epochs) + 1, recipe.epochs + 1):
            batches.augment = recipe.augmentation(generator, epoch)
            batches.share = recipe.share(epoch)
            print(f"Epoch {epoch}{batches}:", flush=True)
            start, lr = time.perf_counter(), schedule.get_last_lr()[0]
            with progress(batches) as bar, uncounted(len(batches), model, tested):
                trained = train_epoch(
                    synchronised, bar, optimizer, schedule, amp, recipe.label_smoothing, after_batch
                )
            loss, correct = evaluate(tested, dataset)
            count, seconds = len(dataset.test[1]), time.perf_counter() - start
            test = (loss, 100 * correct / count, correct, count)
            history.epochs.append(Epoch(epoch, lr, *trained, *test, seconds))
            run.save()
            print(history.epochs[-1], flush=True)
    return tested, history


def make_network(network: Network) -> nn.Module:
    """Return the network itself. Raises UsageError if `network` neither is one nor makes one."""
    model = network if isinstance(network, nn.Module) or not callable(network) else network()
    if not isinstance(model, nn.Module):
        raise UsageError(
            "The first argument of fit must be an nn.Module, or a class or function without "
            f"arguments that makes one, not {type(model).__name__}."
        )
    if not any(True for _ in model.parameters()):
        raise UsageError(f"{type(model).__name__} has no parameters: there is nothing to train.")
    materialise(model)
    return model


def place(model: nn.Module, dataset: Dataset, batch_size: int, amp) -> nn.Module:
    """Move the network to the data, try it on them, and choose the layout that trains fastest."""
    images, _ = dataset.train
    model = model.to(images.device)
    with explained(model):
        check_output(model, dataset)
    first = dataset.normalise(images[:batch_size])
    return model.to(memory_format=memory_format(model, first, amp))


@torch.no_grad()
def check_output(model: nn.Module, dataset: Dataset) -> None:
    """Raises UsageError, with the line to write, unless outputs are log-probabilities."""
    model.eval()
    output = model(dataset.normalise(dataset.test[0][:4]))
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if shape != (len(dataset.test[0][:4]), 10):
        raise UsageError(
            f"The network returns {shape} for 4 images, not (4, 10). Let forward "
            "end with:\nx = self.fc(x.flatten(1))  # nn.Linear(features, 10)"
        )
    total = output.exp().sum(1)
    if not torch.allclose(total, torch.ones_like(total), atol=0.01):
        raise UsageError(
            "The network's outputs are not log-probabilities: their exponentials should add up to "
            f"1, not {total[0]:.3g}. Let forward end with:\n"
            "return torch.nn.functional.log_softmax(x, dim=1)"
        )


def identity(model: nn.Module) -> tuple[str, int]:
    """Return name and number of parameters, as a history has them."""
    return type(model).__name__, sum(parameter.numel() for parameter in model.parameters())


def describe(model, dataset, recipe, seed, device, amp) -> History:
    """Return a history without epochs, whose facts begin the log."""
    processes = distributed.world_size()
    where = str(device) if processes == 1 else f"{device} × {processes}"
    name, parameters = identity(model)
    print(
        f"{name}, {parameters:,} parameters, with the recipe {recipe.name} on {dataset.name}: "
        f"{len(dataset.train[1]):,} training and {len(dataset.test[1]):,} test images, "
        f"seed {seed}, {where}, {amp.name}\n"
    )
    return History(name, parameters, asdict(recipe), dataset.name, seed, where, amp.name)
