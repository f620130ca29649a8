"""The process that runs a student's answers, and answers the grader's requests.

It has neither the expected values nor the points. Whatever an answer does to the process, it can
only change its own results.
"""

import base64
import contextlib
import io
import os
import pickle
import signal
import sys
import traceback
from unittest.mock import patch

from notebooks.assignment import wire

RESULTS = ("text/plain", "text/latex", "image/png")


class Keep:
    """Numbers for the objects that stay here, and for the objects that the grader has sent."""

    def __init__(self):
        self.kept, self.numbers, self.sent = [], {}, {}

    def __call__(self, value) -> int:
        if id(value) not in self.numbers:
            self.numbers[id(value)] = len(self.kept)
            self.kept.append(value)
        return self.numbers[id(value)]

    def number_of(self, value) -> int | None:
        """Return the number under which the grader sent this very object."""
        number, original = self.sent.get(id(value), (None, None))
        return number if original is value else None

    def remember(self, number: int, value):
        self.sent[id(value)] = number, value
        return value


class Callback:
    """A function of the grader's, which runs in the grader."""

    def __init__(self, worker, number: int, name: str):
        self._ask, self.__name__ = lambda *call: worker.call_back(number, *call), name

    def __call__(self, *args, **kwargs):
        return self._ask(args, kwargs)


class Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, worker):
        super().__init__(io.BytesIO(content))
        self.worker = worker

    def persistent_load(self, reference):
        kind, number, name = reference
        if kind == "answer":
            return self.worker.keep.kept[number]
        return self.worker.keep.remember(number, Callback(self.worker, number, name))


class Worker:
    """Answer requests until there are no more."""

    def __init__(self, requests, replies):
        self.requests, self.replies, self.keep, self.nonce = requests, replies, Keep(), ""
        from IPython.core.interactiveshell import InteractiveShell

        self.shell = InteractiveShell.instance()
        self.shell.display_trap.hook = self.show
        self.results = []
        self.shell.user_ns["__name__"] = "__main__"

    def serve(self) -> None:
        while True:
            try:
                self.nonce, seconds, kind, *details = self.read()
            except wire.LostError:
                return
            with at_most(seconds):
                self.answer(getattr(self, f"do_{kind}"), details)

    def answer(self, do, details) -> None:
        """Do what is asked; send the result, or the error."""
        try:
            reply = {"value": do(*details)}
        except wire.LostError:
            raise
        except BaseException as error:  # the answer's SystemExit and KeyboardInterrupt as well
            reply = {"error": self.failure(error)}
        self.write(reply)

    def read(self):
        return Unpickler(wire.receive(self.requests), self).load()

    def write(self, reply: dict) -> None:
        wire.send(self.replies, wire.to_json({"nonce": self.nonce, **reply}))

    def encode(self, value):
        return wire.encode(value, self.keep)

    def failure(self, error: BaseException) -> dict:
        """Return what was raised, and the line and cell."""
        frames = [
            (frame.filename, frame.lineno, frame.name, frame.line or "")
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename.startswith("<ipython-input")  # as IPython calls a cell
        ]
        if isinstance(error, SyntaxError) and error.lineno:
            frames.append((error.filename or "", error.lineno, "", error.text or ""))
        kinds = [kind.__name__ for kind in type(error).__mro__]
        return {"kinds": kinds, "text": str(error)[:2000], "frames": frames[-20:]}

    # What can be asked

    def show(self, value) -> None:
        """Keep what a cell's last line gives, instead of printing it."""
        if value is not None:
            self.results.append(self.shell.display_formatter.format(value)[0])

    def do_run(self, source: str, name: str):
        """Run a cell; return its outputs as a notebook stores them."""
        from IPython.utils.capture import capture_output

        outputs, self.results = [], []
        with capture_output() as captured, quiet():
            result = self.shell.run_cell(source, store_history=True)
        if captured.stdout:
            outputs.append({"output_type": "stream", "name": "stdout", "text": captured.stdout})
        for data in [*(output.data for output in captured.outputs), *self.results]:
            kept = {
                kind: base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
                for kind, value in data.items()
                if kind in RESULTS
            }
            outputs.append({"output_type": "display_data", "data": kept, "metadata": {}})
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            told = self.failure(error)
            text = [f"{told['kinds'][0]}: {told['text']}"]
            kind = told["kinds"][0]
            outputs.append({"output_type": "error", "ename": kind, "evalue": told["text"]})
            outputs[-1]["traceback"] = text
        return outputs

    def do_get(self, name: str):
        """Return the value of a name in the notebook."""
        if name not in self.shell.user_ns:
            raise NameError(f"name '{name}' is not defined")
        return self.encode(self.shell.user_ns[name])

    def do_call(self, function, args, kwargs, stand_ins: dict, random_state, objects: list):
        """Return what a function returns, and how it changed the networks that it was given."""
        for number, value in objects:
            self.keep.remember(number, value)
        torch = sys.modules.get("torch")
        if torch and random_state is not None:
            torch.set_rng_state(torch.from_numpy(random_state))
        replaced = stand_ins_of(stand_ins, function, self.shell.user_ns)
        with contextlib.ExitStack() as changes, quiet():
            for space, new in replaced:
                changes.enter_context(patch.dict(space, new))
            said = changes.enter_context(contextlib.redirect_stdout(io.StringIO()))
            value = self.encode(function(*args, **kwargs))
        reply = {"value": value, "said": said.getvalue()[:10_000]}
        if torch and random_state is not None:
            reply["random_state"] = wire.array(torch.get_rng_state().numpy())
            is_module = [pair for pair in objects if isinstance(pair[1], torch.nn.Module)]
            reply["left"] = [[number, self.left(model)] for number, model in is_module]
        return reply

    def left(self, model) -> dict:
        """Return what a network from the grader now has: tensors, gradients, plain attributes."""
        tensors = [*model.named_parameters(), *model.named_buffers()]
        grads = [(n, p.grad) for n, p in model.named_parameters() if p.grad is not None]
        plain = [
            [name, key, value]
            for name, module in model.named_modules()
            for key, value in vars(module).items()
            if type(value) in (bool, int, float, str)
        ]
        encoded = [[[n, self.encode(t)] for n, t in pairs] for pairs in (tensors, grads)]
        return {"tensors": encoded[0], "grads": encoded[1], "plain": plain}

    def do_describe(self, number: int, shapes: list):
        """Return a network as data: its layers, its weights and its results for images."""
        from notebooks.assignment import replica

        return replica.describe(self.keep.kept[number], shapes, self.keep, self.failure)

    def do_outputs(self, number: int, images, training: bool, direction, random_state):
        """Return a network's results for images, and the gradients of its parameters."""
        from notebooks.assignment import replica

        model = self.keep.kept[number]
        return self.encode(replica.outputs(model, images, training, direction, random_state))

    def call_back(self, number: int, args, kwargs):
        """Call a function of the grader's, during a call from the grader."""
        call = {"callback": number, "args": self.encode(args), "kwargs": self.encode(kwargs)}
        self.write(call)
        _, _, kind, value = self.read()
        if kind == "raise":
            raise value
        return value


def stand_ins_of(stand_ins: dict, function, own: dict) -> list[tuple[dict, dict]]:
    """Find what functions of the grader's replace, by name: where, and the functions to put there.

    As in the notebook's own check, other names of such a function are replaced as well, but never
    the function that is being called.
    """
    if not stand_ins:
        return []
    there = {
        id(own[name]): replacement
        for name, replacement in stand_ins.items()
        if callable(own.get(name))
    }
    there.pop(id(function), None)
    modules = [m for n, m in [*sys.modules.items()] if n.partition(".")[0] in ("s4lib", "backprop")]
    found = []
    for space in (own, getattr(function, "__globals__", own), *map(vars, modules)):
        new = {name: there[id(value)] for name, value in [*space.items()] if id(value) in there}
        if space is own:
            new |= {
                name: replacement
                for name, replacement in stand_ins.items()
                if own.get(name) is not function
            }
        found.append((space, new))
    return found


class TooLong(BaseException):
    """Not an Exception, so that an answer does not catch it by accident."""


@contextlib.contextmanager
def at_most(seconds: float):
    """Raise TooLong, again and again, in whatever takes longer.

    The seconds are the processor's, so that other work on the machine does not count. What only
    waits may take `WAITING` times as long.
    """

    def stop(*_):
        raise TooLong(f"it took longer than {seconds:g} seconds")

    timers = []
    if hasattr(signal, "setitimer"):
        timers = [(signal.SIGPROF, signal.ITIMER_PROF, seconds)]
        timers += [(signal.SIGALRM, signal.ITIMER_REAL, wire.WAITING * seconds)]
    for number, timer, most in timers:
        signal.signal(number, stop)
        signal.setitimer(timer, most, 1)
    try:
        yield
    finally:
        for _, timer, _ in timers:
            signal.setitimer(timer, 0)


@contextlib.contextmanager
def quiet():
    """Turn off warnings and logs, which do not belong into a graded output."""
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def main() -> None:
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # what C libraries write there is nobody's answer
        os.dup2(nothing, number)
    requests, replies = io.BufferedReader(requests), io.BufferedWriter(replies)
    worker = Worker(requests, replies)
    os.chdir("work")
    sys.path.insert(1, os.getcwd())  # after the course's code, as the notebooks' first cell does
    worker.serve()


if __name__ == "__main__":
    main()
