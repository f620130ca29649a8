"""Saving so that nothing is lost, and loading so that nothing is executed."""

import io
import os
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn

from s4lib import UsageError
from s4lib.model import MNISTNet

SHIPPED_WEIGHTS = Path(__file__).with_name("weights.pt")


def save(path: Path, content: bytes) -> None:
    """Write the whole file or leave the old one: a temporary neighbour, flushed, renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def save_weights(path: Path, model: nn.Module) -> None:
    buffer = io.BytesIO()
    torch.save(
        {name: value.cpu().contiguous() for name, value in model.state_dict().items()}, buffer
    )
    save(path, buffer.getvalue())


def load_weights(path: str | os.PathLike) -> MNISTNet:
    """The network with the weights of `path`, on the CPU, in evaluation mode.

    Raises UsageError when the file can't be read, holds anything but tensors or doesn't fit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's doubts about foreign pickles
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"Can't read {path}: {error.strerror}.") from error
    except Exception as error:  # whatever the unpickler meets in a foreign file
        raise UsageError(f"{path} is not a file of weights that `train` has saved.") from error
    model = MNISTNet()
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds the weights of another network than MNISTNet.") from error
    return model.eval()


def writable(folder: Path) -> None:
    """Make `folder` if it isn't there. Raises UsageError unless files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(
            f"Can't write into {folder} ({error.strerror}). Choose another folder with --out."
        ) from error


def claim(folder: Path) -> None:
    """Make a run's folder. Raises UsageError if it can't be written or already holds a run."""
    writable(folder)
    if (folder / "history.json").exists():
        raise UsageError(
            f"{folder} already holds a run. Choose another folder with --out, or delete that one."
        )
