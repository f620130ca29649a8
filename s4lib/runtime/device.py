"""Choose the device, and the precision of the computation."""

import contextlib
import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from s4lib.runtime import UsageError

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def choose_device(name: str = "auto") -> torch.device:
    """Return the device; `auto` is CUDA, MPS or the CPU. Raises UsageError if `name` is absent."""
    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    found = [kind for kind, available in here.items() if available] + ["cpu"]
    if name == "auto":
        return torch.device(found[0])
    try:
        device = torch.device(name)
        if device.type not in found:  # "meta" is also a device, but computes nothing
            raise RuntimeError
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UsageError(
            f"There is no device {name!r} here. Choose from: {', '.join(found)}."
        ) from error
    return device


def choose_precision(device: torch.device) -> torch.dtype:
    """Return the type for convolutions: bfloat16 if the hardware computes with it."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu":
        has = getattr(torch.cpu, "get_capabilities", dict)()
        if has.get("amx_bf16") or has.get("avx512_bf16"):
            return torch.bfloat16
    return torch.float32


class MixedPrecision:
    """Compute in `dtype` where that is precise enough, and scale the loss if float16 needs it."""

    def __init__(self, device: torch.device, dtype: torch.dtype):
        self.device, self.dtype = device, dtype
        self.name = str(dtype).removeprefix("torch.")
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss).backward()

    def step(self, optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the optimizer took its step; it skips one if a float16 gradient overflows.

        The scaler waits for the device to find out. To ask the scaler would be to wait once more.
        """
        taken = []
        hook = optimizer.register_step_post_hook(lambda *_: taken.append(True))
        self.scaler.step(optimizer)
        self.scaler.update()
        hook.remove()
        return bool(taken)


def chunk_size(device: torch.device) -> int:
    """Return how many images to test at once: their maps should fit a CPU's cache or fill a GPU."""
    return 250 if device.type == "cpu" else 2_000


@contextlib.contextmanager
def uncounted(steps: int, *models: nn.Module) -> Iterator[None]:
    """Make batch normalisation count a context's training `steps` at its end, all at once.

    PyTorch counts every batch in every layer, which is six calls a step in MNISTNet. Only a layer
    without a `momentum` reads the counter; that layer and layers of the author's own keep counting.
    """
    counters = {
        layer: layer.num_batches_tracked
        for model in models
        for layer in model.modules()
        if type(layer) in BATCH_NORMS and layer.momentum is not None and layer.track_running_stats
    }
    try:
        for layer in counters:
            layer.num_batches_tracked = None
        yield
        for counter in counters.values():
            counter += steps  # in place
    finally:
        for layer, counter in counters.items():
            layer.num_batches_tracked = counter


def keep_freed_memory(device: torch.device) -> None:
    """Make glibc keep a batch's memory for the next batch, if the device is the CPU.

    By default glibc returns large blocks to the kernel, which clears them and maps them again for
    every batch. That takes a fifth of an fp32 epoch on a CPU. With another C library, do nothing.
    """
    if device.type != "cpu":
        return
    trim_threshold, mmap_threshold = -1, -3  # from malloc.h
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**25)  # the largest value that it accepts
