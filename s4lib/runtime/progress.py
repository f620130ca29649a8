"""Show a progress bar for every epoch."""

import builtins
import contextlib
import math
import os
import sys

from torch import Tensor
from tqdm import tqdm

from s4lib.runtime.distributed import rank


@contextlib.contextmanager
def silence():
    """Hide the logs and bars of many runs in a row."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def progress(batches) -> tqdm:
    """Show a bar around `batches`: on a terminal, in a notebook's log, or as one line in a file."""
    options = {"disable": rank() > 0}
    if hasattr(builtins, "__IPYTHON__"):
        options["file"] = sys.stdout
    elif not sys.stderr.isatty():
        options |= {"mininterval": math.inf, "delay": 1e-9}
    return tqdm(batches, **options)


def show_loss(bar: tqdm, step: int, loss: Tensor) -> None:
    """Write the loss beside the bar every fiftieth time: reading it waits for the device."""
    if step % 50 == 0 or step == bar.total - 1:
        bar.set_description(f"loss={loss.item():.6f} batch_id={step}", refresh=False)
