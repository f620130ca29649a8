"""Saving so that nothing is lost, loading so that nothing is executed, and going on exactly."""

import contextlib
import copy
import errno
import hashlib
import io
import json
import os
import pickletools
import re
import tempfile
import time
import warnings
import zipfile
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s4lib import UsageError, processes
from s4lib.data import Dataset
from s4lib.history import Epoch, History
from s4lib.model import MNISTNet
from s4lib.recipes import Recipe

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

SHIPPED_WEIGHTS = Path(__file__).with_name("weights.pt")
LARGEST = 2**25  # bytes; a checkpoint has a third of a million
HARMLESS = re.compile(
    r"torch \w+Storage|torch\._utils _rebuild_tensor_v2|collections (OrderedDict|Counter)"
)

EVERY = 200  # batches from one checkpoint to the next within an epoch
SLOTS = ("checkpoint-0.pt", "checkpoint-1.pt")  # the two latest, in turns
SOURCES = ("augment", "data", "model", "muon", "processes", "recipes", "train")  # of all numbers


def save(path: Path, content: bytes) -> None:
    """Write the whole file or leave the old one: a temporary neighbour, flushed, renamed.

    Raises UsageError when there is no room for it, or no permission.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise UsageError(
                f"Can't write {path} ({error.strerror}). What was saved before is whole: "
                "make room, or mend that, and go on from there."
            ) from error
        raise


def read(path: str | os.PathLike) -> bytes:
    """The bytes of a file. Raises UsageError if it can't be read or is far too large."""
    try:
        size = os.stat(path).st_size
        if not os.path.isfile(path):
            raise OSError(errno.EINVAL, "it is not a file")
        if size > LARGEST:
            raise OSError(errno.EFBIG, f"{size:,} bytes are far too many")
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"Can't read {path}: {error.strerror}.") from error


def pack(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def unpack(content: bytes) -> Any:
    """Tensors, numbers, text and their containers, from what `pack` made; some error otherwise.

    `weights_only` keeps the unpickler from running code, but not from building what a few bytes
    may ask for: a terabyte of zeros. So nothing in the file may be compressed, overlap or name
    anything but tensors and dictionaries.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > len(content):
            raise ValueError("larger inside than outside")
        (pickled,) = (part for part in parts if part.filename.endswith("data.pkl"))
        for operation, argument, _ in pickletools.genops(archive.read(pickled)):
            names = operation.name in ("GLOBAL", "STACK_GLOBAL", "INST")
            if names and not HARMLESS.fullmatch(str(argument)):
                raise ValueError(f"names {argument}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's doubts about foreign pickles
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Save a network's state_dict() in a form that any device can read."""
    save(path, pack({name: value.cpu().contiguous() for name, value in weights.items()}))


def load_weights(path: str | os.PathLike) -> MNISTNet:
    """The network with the weights of `path`, on the CPU, in evaluation mode.

    Raises UsageError when the file can't be read, holds anything but tensors or doesn't fit.
    """
    content = read(path)
    try:
        state = unpack(content)
    except Exception as error:  # whatever can be wrong with a foreign file
        raise UsageError(f"{path} is not a file of weights that `train` has saved.") from error
    model = MNISTNet()
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UsageError(f"{path} holds the weights of another network than MNISTNet.") from error
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        raise UsageError(f"{path} holds weights that are not finite numbers.")
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


def has_checkpoint(folder: Path) -> bool:
    return any((folder / name).exists() for name in SLOTS)


def claim(folder: Path) -> None:
    """Make a run's folder. Raises UsageError if it can't be written or already holds a run."""
    writable(folder)
    if (folder / "history.json").exists() or has_checkpoint(folder):
        raise UsageError(
            f"{folder} already holds a run. Go on with it by --resume {folder}, choose another "
            "folder with --out, or delete that one."
        )


def lock(folder: Path) -> Any:
    """An open file that keeps other processes from writing into `folder` until it is closed.

    The system closes it with its process, however that ends. Raises UsageError if another holds
    it. On a file system without locks there is none.
    """
    file = open(folder / ".lock", "ab")  # noqa: SIM115 (it stays open as long as the run lasts)
    try:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            return file
        file.close()
        raise UsageError(
            f"Another process is at work in {folder}. Wait for its end, or choose another folder."
        ) from error
    return file


def newest(folder: Path) -> tuple[dict, list[Path]]:
    """A run's latest whole checkpoint, and the files beside it that are damaged.

    A checkpoint begins with the SHA-256 of the rest. Raises UsageError when none is whole.
    """
    whole, damaged = [], []
    for path in (folder / name for name in SLOTS):
        if not os.path.lexists(path):
            continue
        try:
            content = read(path)
            if hashlib.sha256(content[32:]).digest() != content[:32]:
                raise ValueError("not what was written")
            state = unpack(content[32:])
            whole.append((int(state["number"]), state))
        except Exception:  # whatever can be wrong with a foreign file
            damaged.append(path)
    if not whole:
        names = " and ".join(path.name for path in damaged)
        raise UsageError(
            f"{folder} holds no whole checkpoint: {names} can't be used. Train anew."
            if damaged
            else f"{folder} holds no checkpoint to go on from."
        )
    return max(whole, key=lambda pair: pair[0])[1], damaged


def begun(folder: Path) -> tuple[Recipe, str, int]:
    """The recipe, the data set's name and the seed of the run in `folder`."""
    state, _ = newest(folder)
    try:
        identity = json.loads(state["identity"])
        recipe = {k: tuple(v) if isinstance(v, list) else v for k, v in identity["recipe"].items()}
        return Recipe(**recipe), str(identity["data set"]), int(identity["seed"])
    except Exception as error:  # a recipe of another version, or a foreign file
        raise UsageError(f"The checkpoint in {folder} is of another version of s4lib.") from error


def fingerprint(*contents: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:12]


def identity(
    recipe: Recipe, dataset: Dataset, seed: int, device: torch.device, precision: str
) -> str:
    """All that must be the same for a run to end with the bits that it would have had, as JSON.

    The code is known by the source text of the modules that decide a number, and by torch's
    version. A changed comment counts, too: better to refuse once too often than to finish a
    network that no version of the code can make. The other modules may change freely.
    """
    scale = repr((round(dataset.mean, 9), round(dataset.std, 9)))  # threads decide the last bits
    pixels = (part.cpu().contiguous().numpy().data for part in (*dataset.train, *dataset.test))
    sources = (Path(__file__).with_name(f"{name}.py").read_text("utf-8") for name in SOURCES)
    return json.dumps(
        {
            "recipe": asdict(recipe),
            "data set": dataset.name,
            "its contents": fingerprint(scale.encode(), *pixels),
            "seed": seed,
            "device": device.type,
            "precision": precision,
            "torch": torch.__version__,
            "code of s4lib": fingerprint(*(source.encode() for source in sources)),
        }
    )


def differences(then: str, now: str) -> str:
    """What is not the same in two identities: `lr 0.1, not 0.2; seed 1, not 0`."""
    then, now = ({**values.pop("recipe"), **values} for values in map(json.loads, (then, now)))
    return "; ".join(
        f"{name} {then.get(name)}, not {now.get(name)}"
        for name in {**then, **now}
        if then.get(name) != now.get(name)
    )


def fits(saved: Any, own: Any) -> bool:
    """Whether `saved` has all that `own` has, with the same types and shapes. It may have more."""
    if isinstance(own, Tensor):
        return isinstance(saved, Tensor) and (saved.shape, saved.dtype) == (own.shape, own.dtype)
    if isinstance(own, dict):
        return isinstance(saved, dict) and all(
            key in saved and fits(saved[key], value) for key, value in own.items()
        )
    if isinstance(own, list | tuple):
        return type(saved) is type(own) and len(saved) == len(own) and all(map(fits, saved, own))
    if isinstance(own, int | float):
        return isinstance(saved, int | float)
    return own is None or type(saved) is type(own)


def check_moments(optimizer: torch.optim.Optimizer) -> None:
    """Raise ValueError unless what it remembers has its parameters' shapes: it never looks."""
    for parameter, memory in optimizer.state.items():
        if any(value.dim() and value.shape != parameter.shape for value in memory.values()):
            raise ValueError("shapes of another network")


def random_state(device: torch.device) -> Tensor:
    """Where dropout's generator is."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        (torch.mps if device.type == "mps" else torch).set_rng_state(state)


@dataclass
class Checkpoint:
    """The state of a run, kept on disk so that it can go on as if it had never stopped.

    It is saved at the start, after every epoch and every EVERY batches, in turns into two files,
    so that one is whole whatever happens to the other. In the middle of an epoch the batches
    already trained on are made again and skipped, which takes a millisecond each and is right
    however many of them draw their random numbers together.
    """

    folder: Path | None  # where to save; nowhere if None
    identity: str
    parts: dict[str, Any]  # all that has state_dict() and load_state_dict(), the model as "model"
    generator: torch.Generator  # of the batches
    device: torch.device
    history: History
    number: int = 0  # of the next checkpoint
    batch: int = 0  # batches trained on in the epoch under way
    lr: float = 0.0  # when it began
    seconds: float = 0.0  # spent on it before `started`
    started: float = 0.0
    order: Tensor | None = None  # the batches' generator when it began
    random: Tensor | None = None  # dropout's generator, on return to the middle of an epoch
    locked: Any = None
    loss_sum: Tensor = field(init=False)  # over this process's examples
    correct: Tensor = field(init=False)

    def __post_init__(self):
        self.loss_sum = torch.zeros((), device=self.device)
        self.correct = torch.zeros((), device=self.device, dtype=torch.int64)
        self.writes = self.folder is not None and processes.rank() == 0
        self.keep_epoch(self.parts["model"])

    def keep_epoch(self, model: nn.Module) -> None:
        """Remember `model`'s weights, and the history, as those of the last whole epoch."""
        self.whole = copy.deepcopy(model.state_dict()), [*self.history.epochs]

    def open(self, resume: bool) -> None:
        """Lock the folder; then go back to its latest checkpoint, or save the first.

        Raises UsageError if another process trains there, or if the checkpoint is missing,
        damaged or of a run that differs from this one.
        """
        if self.writes:
            writable(self.folder)
            self.locked = lock(self.folder)
            for path in [*self.folder.glob("*.part"), *(() if resume else self.slots())]:
                path.unlink(missing_ok=True)  # what a killed process left, or an earlier run
        if len({*processes.gather(self.identity)}) > 1:
            raise UsageError("The processes do not agree on recipe, data and code.")
        if resume:
            self.restore()
        else:
            self.save()

    def slots(self) -> list[Path]:
        return [self.folder / name for name in SLOTS]

    def close(self) -> None:
        if self.locked:
            self.locked.close()

    def state(self) -> dict:
        """All of it. Every process must ask for it."""
        weights, epochs = self.whole
        mine = {"loss_sum": self.loss_sum, "correct": self.correct}
        return {
            "number": self.number,
            "identity": self.identity,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "weights": weights,
            "epochs": json.dumps([asdict(epoch) for epoch in epochs]),
            "batch": self.batch,
            "lr": self.lr,
            "seconds": self.elapsed() if self.batch else 0.0,
            "order": self.order if self.batch else self.generator.get_state(),
            "everyone": processes.gather({**mine, "random": random_state(self.device)}),
        }

    def save(self) -> None:
        if self.folder is None:
            return
        state = self.state()
        if self.writes:
            content = pack(state)
            save(self.slots()[self.number % 2], hashlib.sha256(content).digest() + content)
        self.number += 1

    def restore(self) -> None:
        """Go back to the latest checkpoint. With another number of processes than it had, the sums
        go to process 0, and dropout is drawn anew.
        """
        state, damaged = newest(self.folder)
        for path in damaged:
            print(f"{path} is damaged: going on from the checkpoint beside it.")
        try:
            other = differences(state["identity"], self.identity)
            if not other:
                self.take(state)
        except Exception as error:  # a foreign file may hold anything
            raise UsageError(f"The checkpoint in {self.folder} does not fit this run.") from error
        if other:
            raise UsageError(
                f"The run in {self.folder} was begun with {other}.\n"
                "Go on as it was begun, or train anew into another folder with --out."
            )
        if self.writes and self.history.epochs:
            self.publish()

    def take(self, state: dict) -> None:
        """Go on from `state`. Some error if it is of another kind than this run's own."""
        own, everyone, rank = self.state(), state["everyone"], processes.rank()
        own["everyone"] = own["everyone"][:1]
        if not all(fits({**state, "everyone": [each]}, own) for each in everyone):
            raise ValueError("other types or shapes")
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
            if isinstance(part, torch.optim.Optimizer):
                check_moments(part)
        self.number, self.batch = state["number"] + 1, state["batch"]
        self.lr, self.seconds, self.order = state["lr"], state["seconds"], state["order"]
        self.history.epochs = [Epoch(**epoch) for epoch in json.loads(state["epochs"])]
        self.whole = state["weights"], [*self.history.epochs]
        self.generator.set_state(self.order)
        if len(everyone) == processes.count():
            mine = everyone[rank]
            self.random = mine["random"]
            set_random_state(self.device, self.random)
            self.loss_sum.copy_(mine["loss_sum"])
            self.correct.copy_(mine["correct"])
        elif rank == 0:
            self.loss_sum.copy_(sum(each["loss_sum"] for each in everyone))
            self.correct.copy_(sum(each["correct"] for each in everyone))

    def begin_epoch(self, lr: float) -> None:
        """Note how an epoch begins, unless this is the return to its middle."""
        self.started = time.perf_counter()
        if not self.batch:
            self.lr, self.order = lr, self.generator.get_state()
            self.loss_sum.zero_()
            self.correct.zero_()

    def remaining(self, batches: Iterable) -> Iterator[tuple[int, list[Tensor]]]:
        """The epoch's batches that are still to be trained on, numbered; saves every EVERY."""
        numbered = enumerate(batches)
        if self.batch:
            deque(islice(numbered, self.batch), maxlen=0)
            if self.random is not None:
                set_random_state(self.device, self.random)
        for batch_id, batch in numbered:
            yield batch_id, processes.share(*batch)
            self.batch = batch_id + 1
            if self.batch % EVERY == 0:
                self.save()

    def elapsed(self) -> float:
        """Seconds of training and testing in this epoch, those before an interruption too."""
        return self.seconds + time.perf_counter() - self.started

    def finish_epoch(self, measured: Epoch, model: nn.Module) -> None:
        """Add what an epoch measured and save everything, `model` as the run's weights."""
        self.history.epochs.append(measured)
        self.keep_epoch(model)
        self.batch, self.seconds = 0, 0.0
        self.save()
        if self.writes:
            self.publish()

    def publish(self) -> None:
        """Save the weights and the history of the last whole epoch, for everyone to use."""
        weights, epochs = self.whole
        self.history.epochs = [*epochs]
        save_weights(self.folder / "weights.pt", weights)
        save(self.folder / "history.json", self.history.to_json().encode())

    def rewind(self, model: nn.Module) -> None:
        """Go back to the weights and the history of the last whole epoch, on disk too."""
        weights, epochs = self.whole
        model.load_state_dict(weights)
        self.history.epochs = [*epochs]
        if self.writes and epochs:
            self.publish()
