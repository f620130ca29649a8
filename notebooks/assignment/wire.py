"""Exchange messages between the grader and the process that runs a student's answers.

What the grader sends is pickled, because it is trusted. What comes back is JSON: numbers, text,
arrays, and values made of them, never code. A student's function, class or network stays where it
is, and a number comes back, with which the grader may call it.
"""

import base64
import json
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import islice

import numpy as np

LONGEST = 100_000_000  # the most bytes of a message
MANY = 1_000_000  # the most items of one list
DEEPEST = 20  # the most lists inside each other
WAITING = 3  # times the seconds that an answer may compute, for waiting and for a busy machine
PANEL = ("xlabel", "ylabel", "title", "xscale", "yscale")
FIGURE = ("suptitle", "supxlabel", "supylabel")


class LostError(Exception):
    """The other side has gone, or breaks the rules of the exchange."""


def send(file, content: bytes) -> None:
    try:
        file.write(struct.pack(">Q", len(content)) + content)
        file.flush()
    except (OSError, ValueError) as error:
        raise LostError(str(error)) from error


def receive(file) -> bytes:
    """Receive one message. Raises LostError at the end, or if it is too long."""
    try:
        head = file.read(8)
        (length,) = struct.unpack(">Q", head)
        content = file.read(length) if length <= LONGEST else b""
    except (OSError, ValueError, struct.error) as error:
        raise LostError("it has ended") from error
    if len(content) != length:
        raise LostError("it has ended")
    return content


# In the student's process: values to JSON


def encode(value, keep, depth: int = 0):
    """Return a value as plain data; `keep(value)` returns a number for what stays here."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if depth > DEEPEST:
        return opaque(value)
    inner = partial(encode, keep=keep, depth=depth + 1)
    if (made := of_a_library(value, keep, inner)) is not None:
        return made
    has_fields = is_dataclass(value) and not isinstance(value, type)
    if (sent := keep.number_of(value)) is not None:
        return {"sent": sent} | ({"now": record(value, inner)} if has_fields else {})
    if has_fields:
        return record(value, inner)
    if (made := collection(value, inner)) is not None:
        return made
    if callable(value):
        name = str(getattr(value, "__name__", ""))
        return {"answer": keep(value), "name": name or type(value).__name__}
    if isinstance(value, str | os.PathLike):
        return str(value)
    if isinstance(value, Iterator) or (hasattr(value, "__iter__") and not hasattr(value, "read")):
        return {"list": [*map(inner, islice(value, MANY))]}
    try:
        return float(value)
    except (TypeError, ValueError):
        return opaque(value)


def of_a_library(value, keep, inner) -> dict | None:
    """Return an array, tensor, network or figure as data, and None for anything else."""
    torch, figure = sys.modules.get("torch"), sys.modules.get("matplotlib.figure")
    if isinstance(value, np.ndarray | np.generic):
        return array(value)
    if torch and isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        plain = plain.float() if plain.dtype == torch.bfloat16 else plain  # which NumPy lacks
        return {"tensor": array(plain.contiguous().numpy())}
    if torch and isinstance(value, torch.nn.Module):
        return {"network": keep(value)}
    if figure and isinstance(value, figure.Figure):
        return {"figure": drawing(value, inner)}
    return None


def collection(value, inner) -> dict | None:
    """Return a dictionary, list, tuple or set as data, and None for anything else."""
    if isinstance(value, Mapping):
        return {"dict": [[inner(key), inner(item)] for key, item in islice(value.items(), MANY)]}
    for kind, name in ((tuple, "tuple"), (list, "list"), (set | frozenset, "set")):
        if isinstance(value, kind):
            return {name: [*map(inner, islice(value, MANY))]}
    return None


def opaque(value) -> dict:
    return {"opaque": type(value).__name__, "shown": repr(value)[:200]}


def array(value) -> dict:
    """Return an array or one of its numbers as data; of objects, a list."""
    made = np.asarray(value)
    if made.dtype.hasobject or made.dtype.kind not in "biufc":
        return opaque(value)
    content = base64.b64encode(np.ascontiguousarray(made).tobytes()).decode()
    return {"array": content, "dtype": made.dtype.str, "shape": [*made.shape]}


def record(value, inner) -> dict:
    """Return a dataclass by the names of its fields."""
    content = {field.name: inner(getattr(value, field.name, None)) for field in fields(value)}
    return {"record": type(value).__name__, "fields": content}


def drawing(figure, inner) -> dict:
    """Return the curves of a figure, its legends and its words."""

    def colour(of):
        from matplotlib.colors import to_hex

        try:
            return to_hex(of.get_color(), keep_alpha=True)
        except (AttributeError, ValueError):
            return None

    def legend(of):
        handles = getattr(of, "legend_handles", None) or []
        return [[t.get_text(), colour(h)] for t, h in zip(of.get_texts(), handles, strict=False)]

    def words(of):
        return [[inner([*map(float, t.get_position())]), t.get_text()] for t in of.texts]

    def numbers(values):
        return inner(np.ma.filled(np.ma.asarray(values, float), np.nan))

    def panel(axes):
        lines = [
            [*map(numbers, line.get_data(orig=False)), str(line.get_label()), colour(line)]
            for line in axes.get_lines()
        ]
        dots = [
            [numbers(points.get_offsets()), str(points.get_label())] for points in axes.collections
        ]
        shown = axes.get_legend()
        texts = {name: getattr(axes, f"get_{name}")() for name in PANEL}
        own = {"lines": lines, "dots": dots, "words": words(axes), "texts": texts}
        return own | {"legends": [legend(shown)] if shown else []}

    texts = {name: getattr(figure, f"get_{name}")() for name in FIGURE}
    own = {"panels": [*map(panel, figure.axes)], "words": words(figure), "texts": texts}
    return own | {"legends": [*map(legend, figure.legends)]}


# In the grader's process: JSON to values


class Opaque:
    """Something of the student's that is not plain data."""

    def __init__(self, shown: str):
        self.shown = shown

    def __repr__(self) -> str:
        return self.shown


def decode(data, known):
    """Return the value that `encode` made `data` of.

    `known` makes what is not plain: `known.answer(number, name)`, `known.network(number)`,
    `known.sent[number]`, and `known.records`, the dataclasses that may come back by name. Raises
    LostError for anything else.
    """
    try:
        return decoded(data, known)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, MemoryError) as error:
        raise LostError(f"what can't be read: {error}") from error


def decoded(data, known):
    if not isinstance(data, dict):
        return data

    def inner(item):
        return decoded(item, known)

    if "array" in data:
        made = np.frombuffer(base64.b64decode(data["array"]), np.dtype(str(data["dtype"])))
        made = made.reshape([int(side) for side in data["shape"]]).copy()
        return made if made.shape else made[()]
    if "tensor" in data:
        import torch

        return torch.from_numpy(np.array(inner(data["tensor"])))
    for kind in (list, tuple, set):
        if kind.__name__ in data:
            return kind(map(inner, data[kind.__name__]))
    if "dict" in data:
        return {inner(k): inner(v) for k, v in data["dict"]}
    if "sent" in data:
        return known.sent[int(data["sent"])] if "now" not in data else known.again(data, inner)
    if "record" in data:
        kind = known.records().get(data["record"])
        content = {str(name): inner(item) for name, item in data["fields"].items()}
        return kind(**content) if kind else Opaque(f"{data['record']}(…)")
    if "answer" in data:
        return known.answer(int(data["answer"]), str(data["name"]))
    if "network" in data:
        return known.network(int(data["network"]))
    if "figure" in data:
        return drawn(data["figure"], inner)
    kind = type(str(data["opaque"]) or "object", (Opaque,), {})
    return kind(str(data["shown"]))


def drawn(data: dict, inner):
    """Return a figure with the same curves, legends and words."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    def add_words(to, data):
        for place, text in data["words"]:
            to.text(*inner(place), str(text))
        for names in data["legends"]:
            handles = [Line2D([], [], color=shade or "black") for _, shade in names]
            to.legend(handles, [str(name) for name, _ in names])

    figure = Figure()
    for panel in data["panels"]:
        axes = figure.add_axes([0.1, 0.1, 0.8, 0.8])
        for x, y, name, shade in panel["lines"]:
            axes.plot(inner(x), inner(y), label=str(name), color=shade)
        for points, name in panel["dots"]:
            axes.scatter(*np.reshape(inner(points), (-1, 2)).T, label=str(name))
        axes.set(**{name: str(panel["texts"][name]) for name in PANEL})
        add_words(axes, panel)
    add_words(figure, data)
    for name in FIGURE:
        if data["texts"][name]:
            getattr(figure, name)(str(data["texts"][name]))
    return figure


def to_json(value) -> bytes:
    return json.dumps(value).encode()


def from_json(content: bytes) -> dict:
    """Return a message of the student's process. Raises LostError if it is none."""
    try:
        made = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LostError("a message that is none") from error
    if not isinstance(made, dict):
        raise LostError("a message that is none")
    return made
