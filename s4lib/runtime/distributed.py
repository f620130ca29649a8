"""Several processes that train one network. To a process on its own, all of this is nothing.

`torchrun` starts them. Each holds the whole data set and makes the same batches from the same
seed, then trains on its own shard of every batch: so the data, their order and their augmentation
do not depend on how many processes there are. What that repeats in each of them takes a
millisecond a batch.
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

TIMEOUT = timedelta(minutes=5)  # for a process that says nothing


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0. Only process 0 prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


@contextlib.contextmanager
def init_distributed(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that `torchrun` has started, if it has, and yield this one's device.

    NCCL connects GPUs, one for each process, and Gloo CPUs. Raises UsageError if there are fewer
    GPUs than processes.
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
    # torchrun --standalone keeps its store over a restart, so each attempt has its own keys.
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
    """The network whose gradients are the mean over all processes. Batch norm's statistics stay
    those of a process's own shard; its running averages are process 0's.
    """
    return nn.parallel.DistributedDataParallel(model) if world_size() > 1 else model


def shard(*tensors: Tensor) -> tuple[Tensor, ...]:
    """This process's part of tensors of equal length: every K-th row, K the number of processes."""
    return tuple(tensor[rank() :: world_size()] for tensor in tensors)


def all_reduce(*values: Any) -> list[Tensor]:
    """The sums of tensors and numbers over all processes, which all of them must ask for."""
    device = next((v.device for v in values if isinstance(v, Tensor)), None)
    sums = [torch.as_tensor(value, device=device).clone() for value in values]
    if world_size() > 1:
        for value in sums:
            dist.all_reduce(value)
    return sums


def per_rank(mine: Any) -> list:
    """Every process's object, by rank. All of them must ask for it."""
    objects = [mine] * world_size()
    if world_size() > 1:
        dist.all_gather_object(objects, mine)
    return objects


def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the batch norm statistics of process 0."""
    if world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
