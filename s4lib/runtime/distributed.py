"""Train one network in several processes. In a single process, these functions do nothing.

`torchrun` starts the processes. Each process holds the whole data set and makes the same batches
from the same seed, then trains on its own shard of every batch. So the data, their order and their
augmentation do not depend on the number of processes. The repeated work takes a millisecond per
batch.
"""

import contextlib
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from s4lib.runtime import UsageError

TIMEOUT = timedelta(minutes=5)  # after which a silent process counts as dead


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, from 0. Only process 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def init_distributed(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` has started, if any, and yield this process's device.

    NCCL connects GPUs, one for each process, and Gloo connects CPUs. Raises UsageError if there are
    fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    if device.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise UsageError(f"There are {gpus} GPUs here: start no more processes than that.")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # torchrun --standalone keeps its store when it restarts, so each attempt needs its own keys.
    store, me, size = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=me, world_size=size)
    try:
        with open(os.devnull, "w") as nowhere, contextlib.ExitStack() as stack:
            if rank():
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield device
    finally:
        dist.destroy_process_group()


def parallel(model: nn.Module) -> nn.Module:
    """Wrap the network: its gradients are the mean over all processes. Batch norm uses each
    process's own shard; its running averages are process 0's.
    """
    return nn.parallel.DistributedDataParallel(model) if world_size() > 1 else model


def shard(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return this process's part of tensors of equal length: every K-th row, for K processes."""
    return tuple(tensor[rank() :: world_size()] for tensor in tensors)


def all_reduce(*values: Any) -> list[Tensor]:
    """Return the sums of tensors and numbers over all processes. Every process must call this."""
    device = next((v.device for v in values if isinstance(v, Tensor)), None)
    sums = [torch.as_tensor(value, device=device).clone() for value in values]
    if world_size() > 1:
        for value in sums:
            dist.all_reduce(value)
    return sums


def per_rank(mine: Any) -> list:
    """Return every process's object, by rank. Every process must call this."""
    objects = [mine] * world_size()
    if world_size() > 1:
        dist.all_gather_object(objects, mine)
    return objects


def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the batch norm statistics of process 0."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
