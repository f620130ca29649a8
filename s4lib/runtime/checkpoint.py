"""Runs that can resume, and files that are written whole and read without executing anything."""

import contextlib
import copy
import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from s4lib.runtime import UsageError
from s4lib.runtime.distributed import per_rank, rank, world_size
from s4lib.runtime.identity import differences, identify

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights.pt"
LARGEST = 2**30  # bytes of the largest file that is read; MNISTNet's checkpoint has half a million
ELSEWHERE = "choose another folder, `out`."


class DivergedError(UsageError):
    """The loss is no longer a finite number."""


def atomic_write(path: Path, content: bytes) -> None:
    """Write the whole file or leave the old one, by writing a temporary file and renaming it.

    A file that already has this content is left alone. Raises UsageError if there is no room for
    the file, or no permission.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(
            f"Can't write {path} ({error.strerror}). What was saved before is whole: "
            "make room or allow writing, and run again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def read(path: str | os.PathLike, largest: int = LARGEST) -> bytes:
    """Return a file's bytes. Raises UsageError if it can't be read or is larger than `largest`."""
    path = Path(path)
    try:
        if path.stat().st_size > largest or not path.is_file():
            raise UsageError(f"Can't read {path}: it is not a file of at most {largest:,} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"Can't read {path}: {error.strerror}.") from error


def pack(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpack(content: bytes) -> Any:
    """Return the tensors, numbers, text and containers of what `pack` made, or raise some error."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(part.file_size for part in archive.infolist()) > len(content):
            raise ValueError("it would grow when unpacked, and torch never compresses")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Save a network's state_dict() in a form that any device can read."""
    atomic_write(path, pack({name: value.cpu().contiguous() for name, value in weights.items()}))


def load_weights(model: nn.Module, path: str | os.PathLike = SHIPPED_WEIGHTS) -> nn.Module:
    """Load the weights of `path` into `model`, and set it to evaluation mode.

    Raises UsageError if the file can't be read, contains anything but tensors or doesn't fit.
    """
    content, name = read(path), type(model).__name__
    try:
        state = unpack(content)
    except Exception as error:  # a damaged or malicious file may raise anything
        raise UsageError(f"{path} is not a file of weights that `train` has saved.") from error
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds the weights of another network than {name}.") from error
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise UsageError(f"{path} holds weights that are not finite numbers.")
    return model.eval()


def make_dir(folder: Path) -> None:
    """Make `folder` if it is missing. Raises UsageError unless files can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UsageError(f"Can't write into {folder} ({error.strerror}): {ELSEWHERE}") from error


def random_state(device: torch.device) -> Tensor:
    """Return the state of the random generator that dropout uses on a device."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        (torch.mps if device.type == "mps" else torch).set_rng_state(state)


@contextlib.contextmanager
def resumable(folder: str | Path | None, *facts, **stateful) -> Iterator["Run"]:
    """Open a `Run`, resume it from its folder, and lock the folder while the context lasts.

    Ctrl-C ends the context with the network and history of the last whole epoch. Raises UsageError
    if the folder can't be written, another process is using it, it holds another run, or its
    checkpoint is damaged.
    """
    run = Run(Path(folder) if folder else None, *facts, **stateful)
    if len({*per_rank(run.config)}) > 1:
        raise UsageError("The processes do not agree on the run: start all alike.")
    with lock(run.folder) if run.writes else contextlib.nullcontext():
        if run.folder is not None:
            run.resume()
        run.kept = copy.deepcopy(run.state_dict())
        run.publish()
        try:
            yield run
        except KeyboardInterrupt:
            run.load_state_dict(run.kept)
            run.publish()
            print(f"\nStopped in epoch {len(run.history.epochs) + 1}.")


def lock(folder: Path) -> contextlib.AbstractContextManager:
    """Make the folder, and keep other processes from writing into it while this one does."""
    make_dir(folder)
    try:
        return FileLock(folder / ".lock").acquire(timeout=0)
    except (Timeout, PermissionError) as error:
        raise UsageError(
            f"Another process is at work in {folder}, or its .lock is another user's. "
            f"Wait for the end, or {ELSEWHERE}"
        ) from error
    except (OSError, NotImplementedError):
        return contextlib.nullcontext()  # some file systems have no locks


class Run:
    """A training run and its folder; without a folder the run is in memory only.

    `checkpoint.pt` holds all that decides the rest of the run, after its SHA-256. `weights.pt` and
    `history.json` are for everybody's use.
    """

    def __init__(self, folder: Path | None, dataset, history, generator, tested, **stateful):
        self.folder, self.history, self.generator = folder, history, generator
        self.tested = tested  # the network whose weights are saved in weights.pt
        self.stateful = {name: thing for name, thing in stateful.items() if thing is not None}
        self.writes = folder is not None and rank() == 0
        compared = folder is not None or world_size() > 1
        self.config = json.dumps(identify(stateful["model"], dataset, history) if compared else {})

    def resume(self) -> None:
        if self.writes:  # this process has the lock, so no other process writes here
            for left in self.folder.glob("*.part"):  # by a killed process
                left.unlink(missing_ok=True)
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            for name in ("weights.pt", "history.json"):
                if (self.folder / name).exists():
                    lost = f"{self.folder} holds a {name} of another run, which would be lost"
                    raise UsageError(f"{lost}: {ELSEWHERE}")
            return
        content = read(path)
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            advice = f"Delete {self.folder} to train again, or {ELSEWHERE}"
            raise UsageError(f"{path} is damaged. {advice}")
        try:
            state = unpack(content[32:])
            changes = differences(json.loads(state["config"]), json.loads(self.config))
            if not changes:
                return self.load_state_dict(state)
        except Exception as error:  # a damaged or malicious file may contain anything
            raise UsageError(f"{path} is not a checkpoint: {ELSEWHERE}") from error
        raise UsageError(
            f"{self.folder} holds a run with {changes}.\n"
            f"Give the same settings to continue it, or {ELSEWHERE}"
        )

    def state_dict(self) -> dict:
        """Return all that decides the rest of the run. Every process must call this."""
        return {
            "config": self.config,
            "history": self.history.to_json(),
            "generator": self.generator.get_state(),
            "random": per_rank(random_state(self.generator.device)),
            **{name: thing.state_dict() for name, thing in self.stateful.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        for name, thing in self.stateful.items():
            thing.load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        if rank() < len(state["random"]):  # otherwise there are more processes now than before
            set_random_state(self.generator.device, state["random"][rank()])
        self.history.epochs = type(self.history).from_json(state["history"]).epochs

    def save(self) -> None:
        """Save the last epoch of the history. Every process must call this.

        Raises DivergedError if its loss is not a number, and UsageError if it can't be written.
        """
        last = self.history.epochs[-1]
        if not math.isfinite(last.train_loss + last.test_loss):
            self.history.epochs.pop()
            raise DivergedError(
                f"Stopped in epoch {last.epoch}: the loss is no longer a finite number. What was "
                f"saved before is kept.\nTry a smaller lr than {self.history.recipe['lr']}."
            )
        state = copy.deepcopy(self.state_dict())
        if self.writes:
            content = pack(state)
            digest = hashlib.sha256(content).digest()
            atomic_write(self.folder / "checkpoint.pt", digest + content)
        self.kept = state
        self.publish()

    def publish(self) -> None:
        """Write weights and history of the last whole epoch for everybody's use."""
        if self.writes and self.history.epochs:
            save_weights(self.folder / "weights.pt", self.tested.state_dict())
            atomic_write(self.folder / "history.json", self.history.to_json().encode())
