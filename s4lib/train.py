"""Training and testing a network."""

import builtins
import contextlib
import ctypes
import math
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from s4lib import UsageError, processes
from s4lib.checkpoint import Checkpoint, identity
from s4lib.data import Batches, Dataset
from s4lib.history import Epoch, History
from s4lib.model import MNISTNet, pool_before_relu
from s4lib.muon import Muon
from s4lib.recipes import Recipe


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU. Raises UsageError if `name` isn't here."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind, found in here.items() if found), "cpu"))
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        found = ", ".join([kind for kind, found in here.items() if found] + ["cpu"])
        raise UsageError(f"There is no device {name!r} here. Choose from: {found}.") from error
    return device


def choose_precision(device: torch.device) -> torch.dtype:
    """The type for convolutions: bfloat16 where the hardware computes with it, else the best."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu":
        has = getattr(torch.cpu, "get_capabilities", dict)()
        if has.get("amx_bf16") or has.get("avx512_bf16"):
            return torch.bfloat16
    return torch.float32


def keep_freed_memory() -> None:
    """Have glibc keep a batch's memory for the next batch.

    Left alone it hands large blocks back to the kernel, which clears them and faults them in
    again at every batch: a fifth of an fp32 epoch on a CPU. With another C library, do nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)  # the largest that it takes


def make_optimizer(
    parameters: Iterable[Tensor], recipe: Recipe, fused: bool
) -> torch.optim.Optimizer:
    parameters = list(parameters)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, recipe.lr, fused=fused)
    kernels = [parameter for parameter in parameters if parameter.ndim >= 4]
    others = [parameter for parameter in parameters if parameter.ndim < 4]
    groups = [{"params": others}, {"params": kernels, "momentum": 0.95}]
    return Muon(groups, recipe.lr, fused=fused)


def make_schedule(optimizer, recipe: Recipe, batches: int) -> torch.optim.lr_scheduler.LRScheduler:
    """To be stepped after each of an epoch's `batches`."""
    if recipe.warm_up is None:
        milestones = [round(epoch * batches) for epoch in recipe.milestones]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, recipe.gamma)
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.lr,
        total_steps=recipe.epochs * batches,
        pct_start=recipe.warm_up,
        anneal_strategy="linear",
        cycle_momentum=False,
    )


def smooth(loss: Tensor, log_probs: Tensor, share: float) -> Tensor:
    """The loss (…) of log_probs (…, B, 10) when `share` of the target is spread over all classes.

    Szegedy et al., 2016, "Rethinking the Inception Architecture", call it label smoothing.
    """
    if not share:
        return loss
    return torch.lerp(loss, -log_probs.mean((-2, -1), dtype=loss.dtype), share)


def train_epoch(
    model, batches, optimizer, schedule, scaler, precision, label_smoothing, checkpoint
) -> tuple[float, float]:
    """One pass over `batches`: mean loss per example, and per cent predicted correctly.

    Both are taken while the weights change, with dropout on. The checkpoint leaves out batches
    that were trained on before an interruption. Raises FloatingPointError when the loss stops
    being a finite number.
    """
    model.train()
    device = batches.dataset.train[0].device
    loss_sum, correct = checkpoint.loss_sum, checkpoint.correct
    mixed = torch.autocast(device.type, precision, enabled=precision != torch.float32)
    next_look = 0.0
    with progress(batches) as bar:
        for batch_id, (images, labels) in checkpoint.remaining(bar):
            with mixed:
                log_probs = model(images)
                loss = F.nll_loss(log_probs, labels)
                target = smooth(loss, log_probs, label_smoothing)
            optimizer.zero_grad()
            scaler.scale(target).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()

            loss_sum += loss.detach() * len(labels)
            correct += (log_probs.argmax(1) == labels).sum()
            # Reading the loss waits for the device: a few times a second is enough.
            if time.perf_counter() > next_look or batch_id == len(batches) - 1:
                if not math.isfinite(loss.item()):
                    raise FloatingPointError("the loss is no longer a finite number")
                bar.set_description(f"loss={loss.item():.6f} batch_id={batch_id}", refresh=False)
                next_look = time.perf_counter() + 0.3
    seen = len(batches) * batches.batch_size
    return processes.total(loss_sum).item() / seen, 100 * processes.total(correct).item() / seen


def progress(batches):
    """A bar that lives on a terminal, or in a notebook's log, and is one line in a file."""
    if hasattr(builtins, "__IPYTHON__"):
        return tqdm(batches, file=sys.stdout)
    live = sys.stderr.isatty()
    options = {} if live else {"mininterval": math.inf, "delay": 1e-9}
    return tqdm(batches, disable=processes.rank() > 0, **options)


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """Log-probabilities (N, 10) of normalised images (N, 1, 28, 28), in fp32, without dropout."""
    model.eval()
    return torch.cat([model(chunk) for chunk in images.split(250)])  # whose maps fit into a cache


def evaluate(model: nn.Module, dataset: Dataset) -> tuple[float, int]:
    """On the test images: mean loss per example, number predicted correctly."""
    images, labels = processes.share(*dataset.test)
    processes.agree_on_buffers(model)
    log_probs = predictions(model, dataset.normalise(images))
    loss_sum = processes.total(F.nll_loss(log_probs, labels) * len(labels))
    correct = processes.total((log_probs.argmax(1) == labels).sum())
    return loss_sum.item() / len(dataset.test[1]), correct.item()


def per_class(labels: Tensor, predicted: Tensor) -> str:
    """A table, a line for each digit: its images, how many were right, what it was mistaken for."""
    counts = torch.bincount(labels * 10 + predicted, minlength=100).view(10, 10)
    lines = ["digit  images  correct  accuracy  most often mistaken for"]
    for digit, row in enumerate(counts):
        images, correct = row.sum().item(), row[digit].item()
        row[digit] = 0
        mistaken = f"{row.argmax()} ({row.max()} times)" if row.max() else "nothing"
        lines.append(
            f"{digit:>5}  {images:>6}  {correct:>7}  {100 * correct / max(images, 1):>6.2f} %"
            f"  {mistaken}"
        )
    return "\n".join(lines)


def fit(
    recipe: Recipe,
    dataset: Dataset,
    seed: int = 0,
    device: str = "auto",
    out: Path | None = None,
    resume: bool = False,
) -> tuple[MNISTNet, History]:
    """Train a new network and test it after every epoch.

    Every epoch's weights and history are saved in the folder `out`, if one is given, and
    checkpoints: with `resume` the run in that folder goes on, and ends as if it had never
    stopped. Ctrl-C ends it early, with the network and the history of the last whole epoch.
    Raises UsageError for a device that isn't here, too large a batch, a loss that is no longer a
    number, a folder that another process trains into, or a run that was begun differently.
    """
    device = choose_device(device)
    precision = choose_precision(device)
    if device.type == "cpu":
        keep_freed_memory()
    processes.check_batch_size(recipe.batch_size)
    name = str(precision).removeprefix("torch.")
    begun = identity(recipe, dataset, seed, device, name)
    dataset = dataset.to(device)
    torch.manual_seed(seed)
    generator = torch.Generator(device).manual_seed(seed)
    batches = Batches(dataset, recipe.batch_size, generator)
    model = MNISTNet(recipe.dropout_block3, recipe.dropout_head)
    model = model.to(device, memory_format=torch.channels_last)
    optimizer = make_optimizer(model.parameters(), recipe, fused=precision != torch.float16)
    schedule = make_schedule(optimizer, recipe, len(batches))
    scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)

    where = str(device) if processes.count() == 1 else f"{device} × {processes.count()}"
    history = History(asdict(recipe), dataset.name, seed, where, name)
    test_images = len(dataset.test[1])
    print(
        f"{recipe.name} on {dataset.name}: {len(dataset.train[1]):,} training and "
        f"{test_images:,} test images, seed {seed}, {where}, {name}\n"
    )
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    checkpoint = Checkpoint(out, begun, parts, generator, device, history)
    parallel = processes.parallel(pool_before_relu(model))
    if processes.rank():
        torch.manual_seed(seed + processes.rank())  # dropout of its own for every process
    try:
        checkpoint.open(resume)
        for epoch in range(len(history.epochs) + 1, recipe.epochs + 1):
            print(f"Epoch {epoch}:", flush=True)
            checkpoint.begin_epoch(schedule.get_last_lr()[0])
            batches.augment = recipe.augmentation(generator, epoch)
            train_loss, train_accuracy = train_epoch(
                parallel,
                batches,
                optimizer,
                schedule,
                scaler,
                precision,
                recipe.label_smoothing,
                checkpoint,
            )
            test_loss, correct = evaluate(model, dataset)
            if not math.isfinite(train_loss + test_loss):
                raise FloatingPointError("the loss is no longer a finite number")
            measured = Epoch(
                epoch,
                checkpoint.lr,
                train_loss,
                train_accuracy,
                test_loss,
                100 * correct / test_images,
                correct,
                test_images,
                checkpoint.elapsed(),
            )
            checkpoint.finish_epoch(measured, model)
            print(history.epochs[-1].log(), flush=True)
    except KeyboardInterrupt:
        checkpoint.rewind(model)
        print(f"\nStopped in epoch {len(history.epochs) + 1}.")
    except FloatingPointError as error:
        kept = f"the weights of epoch {epoch - 1} are kept" if epoch > 1 else "nothing is kept"
        raise UsageError(
            f"Stopped in epoch {epoch}: {error}; {kept}.\nTry a smaller lr than {recipe.lr}."
        ) from error
    finally:
        checkpoint.close()
    return model, history
