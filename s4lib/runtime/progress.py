"""A bar for every epoch."""

import builtins
import contextlib
import math
import os
import sys

from tqdm import tqdm

from s4lib.runtime.distributed import rank


@contextlib.contextmanager
def silence():
    """For many runs in a row: neither their logs nor their bars."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


@contextlib.contextmanager
def progress(batches, on_batch):
    """A bar around `batches`, and a callback that writes the loss beside it and calls `on_batch`.

    The bar lives on a terminal, or in a notebook's log, and is one line in a file.
    """
    options = {"disable": rank() > 0}
    if hasattr(builtins, "__IPYTHON__"):
        options["file"] = sys.stdout
    elif not sys.stderr.isatty():
        options |= {"mininterval": math.inf, "delay": 1e-9}
    with tqdm(batches, **options) as bar:

        def after_batch(step, loss, log_probs):
            # Reading the loss waits for the device: every fiftieth time is enough.
            if step % 50 == 0 or step == len(batches) - 1:
                bar.set_description(f"loss={loss.item():.6f} batch_id={step}", refresh=False)
            on_batch(step, loss, log_probs)

        yield bar, after_batch
