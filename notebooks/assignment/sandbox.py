"""Run a student's answers in a process of their own; here they are called like functions.

If bubblewrap (`bwrap`) works, that process sees the course's code, Python and a copy of the
submission, and nothing else: no network, no other student, no gradebook, no solution. Elsewhere it
is an ordinary process with limits of time and memory.
"""

import builtins
import contextlib
import functools
import io
import linecache
import os
import pickle
import secrets
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path

import numpy as np

from notebooks.assignment import wire
from notebooks.assignment.compare import AnswerError
from notebooks.assignment.submission import harmless

PROJECT = Path(__file__).resolve().parents[2]
SECONDS = 60  # seconds of the processor that a cell or a call may take
ALONE = ("--unshare-all", "--die-with-parent", "--cap-drop", "ALL")  # for bubblewrap
OWN = ("--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev")
OUTSIDE = "the network can't be examined outside of its process"
GRACE = 5  # seconds until a process that does not end by itself is killed
MEMORY = 6 * 2**30  # bytes


class EndedError(Exception):
    """The process of the answers has ended, or had to be ended."""


class UnclearError(Exception):
    """An answer that can't be judged here: people have to look at it."""


@functools.cache
def confined() -> bool:
    """Return whether bubblewrap works here."""
    program = shutil.which("bwrap")
    if not program:
        return False
    command = [program, *ALONE, "--ro-bind", "/", "/", *OWN, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def command_line(home: Path) -> list[str]:
    """Return the command that starts a worker in `home`, confined if that is possible."""
    python = [sys.executable, "-m", "notebooks.assignment.worker"]
    if not confined():
        return python
    seen = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc"]
    seen += [sys.prefix, sys.base_prefix, site.getusersitepackages(), *site.getsitepackages()]
    seen += [os.path.dirname(os.path.realpath(sys.executable)), data_folder()]
    binds = [
        ("--ro-bind", path, path) for path in dict.fromkeys(map(str, seen)) if Path(path).exists()
    ]
    code = [(path, home / path.relative_to(PROJECT)) for path in code_files()]
    binds += [("--ro-bind", str(path), str(place)) for path, place in code]
    return [
        *("bwrap", *ALONE, *OWN),
        *(part for bind in binds[:-len(code)] for part in bind),
        *("--bind", str(home), str(home)),
        *(part for bind in binds[-len(code):] for part in bind),
        *("--chdir", str(home), *python),
    ]  # fmt: skip


def code_files() -> list[Path]:
    """Return the course's code that answers may import: no solution, no test."""
    assignment = PROJECT / "notebooks/assignment"
    return [PROJECT / "s4lib", PROJECT / "backprop", PROJECT / "images", *assignment.glob("*.py")]


def data_folder() -> Path:
    return Path(os.environ.get("S4_DATA") or PROJECT / "data").absolute()


def limits() -> None:
    """Set limits in the new process before anything else runs there."""
    import resource

    for kind, most in ((resource.RLIMIT_DATA, MEMORY), (resource.RLIMIT_FSIZE, 500 * 2**20)):
        resource.setrlimit(kind, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Process:
    """One worker, and the requests to it."""

    def __init__(self, submission: Path, seconds: float = SECONDS):
        self.seconds, self.home = seconds, Path(tempfile.mkdtemp(prefix="s4-"))
        ignored = shutil.ignore_patterns(*("s4lib", "backprop", "notebooks", "*.ipynb"))
        shutil.copytree(submission, self.home / "work", ignore=ignored, symlinks=True)
        self.sent, self.calls, self.networks = {}, [], {}
        (self.home / "notebooks/assignment").mkdir(parents=True)
        for path in code_files():
            place = self.home / path.relative_to(PROJECT)
            if not confined():
                place.symlink_to(path)
            elif path.is_dir():
                place.mkdir()
            else:
                place.touch()
        mine = ("PATH", "LANG", "LC_ALL")
        kept = {k: v for k, v in os.environ.items() if k in mine or k.startswith("S4_")}
        environment = kept | {
            **{"PYTHONPATH": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"},
            **{"HOME": str(self.home / "work"), "IPYTHONDIR": str(self.home / "ipython")},
            **{"TMPDIR": "/tmp", "TERM": "dumb"},
            **{"MPLBACKEND": "module://matplotlib_inline.backend_inline"},
            **{"MPLCONFIGDIR": str(self.home / "fonts"), "S4_DATA": str(data_folder())},
            **{"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")},
            **{"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
        }
        (self.home / "fonts").mkdir()
        for path in matplotlib_folder().glob("fontlist*"):  # making it takes seconds
            shutil.copy(path, self.home / "fonts")
        self.process = subprocess.Popen(
            command_line(self.home), cwd=self.home, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=limits if os.name == "posix" else None,
        )  # fmt: skip

    def close(self) -> None:
        """End the process and delete its copy of the submission."""
        self.process.kill()
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                file.close()
        shutil.rmtree(self.home, ignore_errors=True)

    def ask(self, *request, seconds: float | None = None):
        """Return the reply to a request, {"value": …} or {"error": …}.

        Meanwhile the worker may call functions of the grader's. Raises EndedError if the process
        ends or takes too long. A reply without the request's random token does not count.
        """
        token, seconds, late = secrets.token_hex(8), seconds or self.seconds, []

        def stop():
            late.append(True)
            self.process.kill()

        timer = threading.Timer(wire.WAITING * seconds + GRACE, stop)
        timer.start()
        try:
            wire.send(self.process.stdin, self.pickled((token, seconds, *request)))
            while True:
                reply = wire.from_json(wire.receive(self.process.stdout))
                if reply.get("nonce") != token:
                    raise wire.LostError("a reply to nothing that was asked")
                if "callback" not in reply:
                    return reply
                wire.send(self.process.stdin, self.pickled((token, 0, *self.call_back(reply))))
        except wire.LostError as error:
            if late:
                raise EndedError(f"took longer than {seconds:g} seconds") from error
            raise EndedError("ended the process that it ran in") from error
        finally:
            timer.cancel()

    def call_back(self, reply: dict):
        function = self.sent.get(reply["callback"])
        try:
            if not callable(function):
                raise wire.LostError("a call of nothing")
            args, kwargs = (wire.decode(reply[k], self) for k in ("args", "kwargs"))
            return "value", self.prepared(function(*args, **kwargs), [])
        except (wire.LostError, EndedError):
            raise
        except Exception as error:
            return "raise", error if pickles(error) else RuntimeError(str(error))

    # What is sent: values, with numbers for what is called or recognised again

    def pickled(self, value) -> bytes:
        buffer = io.BytesIO()
        Pickler(buffer).dump(value)
        return buffer.getvalue()

    def number(self, value) -> int:
        for number, known in self.sent.items():
            if known is value:
                return number
        self.sent[len(self.sent)] = value
        return len(self.sent) - 1

    def prepared(self, value, objects: list):
        """Return a value with references for functions; `objects` gets what may come back."""
        if isinstance(value, Answer):
            return Reference("answer", value.number, value.__name__)
        if isinstance(value, dict) and type(value) is dict:
            return {key: self.prepared(one, objects) for key, one in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self.prepared(one, objects) for one in value)
        if isinstance(value, Iterator):
            return iter([self.prepared(one, objects) for one in value])
        torch = sys.modules.get("torch")
        module = torch and isinstance(value, torch.nn.Module)
        if callable(value) and not module:
            return Reference("callback", self.number(value), getattr(value, "__name__", "function"))
        numbers = isinstance(value, np.ndarray | np.generic | str | bytes | int | float | complex)
        if value is None or numbers or (torch and isinstance(value, torch.Tensor)):
            return value
        if not pickles(value):
            return Reference("callback", self.number(value), type(value).__name__)
        objects.append((self.number(value), value))
        return value

    # What comes back

    def answer(self, number: int, name: str) -> "Answer":
        return Answer(self, number, name)

    def network(self, number: int):
        """Build the network that has a number in the student's process, from its data."""
        from notebooks.assignment.replica import DifferenceError

        if number not in self.networks:
            try:
                self.networks[number] = self.replica(number)
            except DifferenceError as error:
                raise UnclearError(
                    f"the network can't be examined outside of its process: {error}"
                ) from error
        return self.networks[number]

    def replica(self, number: int):

        from notebooks.assignment.replica import DifferenceError, Replica

        shape = [1, 28, 28]
        data = self.value(self.ask("describe", number, shape), plain=True)
        try:
            data["tensors"] = [wire.decode(entry[1], self) for entry in data["state"]]
            kind = type(str(data["name"]), (Replica,), {})
            model = kind(data, raise_of_network)
        except (
            KeyError,
            TypeError,
            ValueError,
            AttributeError,
            RuntimeError,
            wire.LostError,
        ) as error:
            raise DifferenceError(f"{type(error).__name__}: {error}") from error
        model.number = number
        self.compare(model, number)
        model.train(bool(data["modules"][0][3]))
        return model

    def compare(self, model, number: int) -> None:
        """Raises DifferenceError unless network and replica agree on newly drawn images."""
        import torch

        from notebooks.assignment.replica import DifferenceError, outputs

        generator = torch.Generator().manual_seed(secrets.randbits(60))
        images = torch.randn(5, 1, 28, 28, generator=generator)
        direction = torch.randn(5, 10, generator=generator)
        for training in (False, True):
            if model.steps["train" if training else "eval"][2]:
                continue  # it raises an error, which is reported when the network is called
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                random_state = torch.Generator().manual_seed(0).get_state()
                own = outputs(model, images, training, direction, random_state)
                reply = self.ask("outputs", number, images, training, direction, random_state)
            theirs = self.value(reply)
            pairs = zip([own[0], *own[1]], [theirs[0], *theirs[1]], strict=False)
            same = len(own[1]) == len(theirs[1]) and all(alike(a, b) for a, b in pairs)
            if not same:
                raise DifferenceError("it computes something else each time it is asked")

    def again(self, data, inner):
        """Return an object that was sent; if the student's code changed it, the changed object."""
        original, now = self.sent[int(data["sent"])], wire.decoded(data["now"], self)
        return original if same_fields(original, now) else now

    def records(self) -> dict[str, type]:
        """Return the dataclasses that an answer may make."""
        from s4lib.data import Dataset
        from s4lib.history import Epoch, History
        from s4lib.recipes import Recipe

        return {kind.__name__: kind for kind in (Dataset, Epoch, History, Recipe)}

    def value(self, reply: dict, plain: bool = False):
        """Return the result of a request; raise the error that it raised."""
        if "error" in reply:
            raise_again(reply["error"])
        if plain:
            return reply["value"]
        return wire.decode(reply["value"], self)

    def name(self, name: str):
        """Return the value of a name in the notebook. Raises a NameError if there is none."""
        return self.value(self.ask("get", name))

    def run(self, source: str) -> list[dict]:
        """Run a cell; return its outputs."""
        reply = self.ask("run", source, "")
        if "error" in reply:
            raise EndedError("broke the process that it ran in")
        return harmless(reply["value"])

    def call(self, answer: "Answer", args, kwargs, stand_ins: dict):
        """Call a function of the student's."""
        torch, objects = sys.modules.get("torch"), []
        args, kwargs = self.prepared(tuple(args), objects), self.prepared(kwargs, objects)
        stand_ins = self.prepared(dict(stand_ins), [])
        state = torch.get_rng_state().numpy() if torch else None
        function = Reference("answer", answer.number, answer.__name__)
        reply = self.ask("call", function, args, kwargs, stand_ins, state, objects)
        got = self.value(reply, plain=True)
        if torch and "random_state" in got:
            torch.set_rng_state(torch.from_numpy(wire.decode(got["random_state"], self)))
            for number, left in got.get("left", []):
                put_back(self.sent[number], left, self)
        if got.get("said"):
            print(got["said"], end="")
        return wire.decode(got["value"], self)


class Reference:
    """Return what stands for a function in a message."""

    def __init__(self, kind: str, number: int, name: str):
        self.key = kind, number, str(name)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value.key if isinstance(value, Reference) else None


class Answer:
    """A function or class of the student's, which runs in its own process when it is called."""

    def __init__(self, process: Process, number: int, name: str):
        self.process, self.number, self.__name__ = process, number, name
        self.__qualname__, self.__globals__, self.__module__ = name, {}, "__main__"

    def __call__(self, *args, **kwargs):
        return self.process.call(self, args, kwargs, self.__globals__)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"

    def __eq__(self, other) -> bool:
        return isinstance(other, Answer) and other.number == self.number

    def __hash__(self) -> int:
        return hash(self.number)

    def __deepcopy__(self, memo):
        return self


def pickles(value) -> bool:
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True


def alike(one, other) -> bool:
    """Return whether two tensors are equal up to rounding, or both are missing."""
    import torch

    if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor):
        return one is None and other is None
    return one.shape == other.shape and torch.allclose(
        one.float(), other.float(), rtol=1e-3, atol=1e-4, equal_nan=True
    )


def same_fields(one, other) -> bool:
    """Return whether two dataclasses hold the same values."""
    if type(one) is not type(other) or not is_dataclass(one):
        return False
    return pickle.dumps(vars(one)) == pickle.dumps(vars(other)) or equal(vars(one), vars(other))


def equal(one, other) -> bool:
    if isinstance(one, dict | list | tuple):
        keys = one.keys() if isinstance(one, dict) else range(len(one))
        return len(one) == len(other) and all(equal(one[k], other[k]) for k in keys)
    return bool(np.all(np.asarray(one == other)))


def put_back(model, left: dict, known) -> None:
    """Put into a network what a function changed: its tensors, gradients and plain attributes."""
    import torch

    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    modules = dict(model.named_modules())
    with torch.no_grad():
        for name, data in left["tensors"]:
            if name in tensors:
                tensors[name].copy_(wire.decode(data, known))
    for name, data in left["grads"]:
        if name in tensors:
            tensors[name].grad = wire.decode(data, known).to(tensors[name].dtype)
    for name, key, value in left["plain"]:
        if type(value) in (bool, int, float, str) and key in vars(modules.get(name, model)):
            setattr(modules[name], key, value)


def raise_of_network(problem: dict):
    """The error of a network that can't be followed."""
    if "error" in problem:
        raise_again(problem["error"])
    if "returned" in problem:
        raise AnswerError(f"✗ the network returns a {problem['returned']}, not a tensor")
    raise UnclearError(f"{OUTSIDE}: {problem['unknown']}")


def raise_again(told: dict):
    """Raise the error that the student's process reported, in the line where it was raised."""
    kinds = [str(kind) for kind in told["kinds"]]
    found = next(
        (getattr(builtins, k) for k in kinds if isinstance(getattr(builtins, k, None), type)),
        Exception,
    )
    if not issubclass(found, Exception):
        found = RuntimeError  # SystemExit and KeyboardInterrupt end the answer, but not the grading
    text = str(told["text"])
    if found in (UnicodeDecodeError, UnicodeEncodeError, UnicodeTranslateError, KeyError):
        found = type(found.__name__, (Exception,), {})
    error = found(text) if found.__name__ == kinds[0] else type(kinds[0], (found,), {})(text)
    error.of_the_answer = True
    action = partial(_throw, error)
    for file, line, name, source in reversed(told["frames"]):
        action = in_line(str(file), int(line), str(name), str(source), action)
    action()


def _throw(error):
    raise error


def in_line(file: str, line: int, name: str, source: str, action):
    """Call `action` so that a traceback shows it in a line of a file, with its source."""
    above = "\n" * (max(line, 1) - 1)
    linecache.cache[file] = len(source), None, f"{above}{source}\n".splitlines(True), file
    code = compile(f"{above}action()", file, "exec")
    if name.isidentifier():
        code = code.replace(co_name=name)
    return lambda: exec(code, {"action": action, "__name__": "__main__"})


@functools.cache
def matplotlib_folder() -> Path:
    """Return the folder where matplotlib keeps its list of fonts."""
    import matplotlib

    return Path(matplotlib.get_cachedir())
