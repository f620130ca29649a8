"""What identifies a run: its settings, its data, and what the author of the network wrote."""

import ast
import contextlib
import hashlib
import inspect
import re
from collections.abc import Iterator
from itertools import chain
from types import FunctionType
from typing import Any

from torch import nn

CHANGE = {  # methods that change a list, a dictionary or a set
    *("append", "extend", "insert", "remove", "pop", "clear", "sort", "reverse"),
    *("add", "discard", "update", "setdefault", "popitem"),
}


def identify(model: nn.Module, dataset, history) -> dict[str, Any]:
    """Return, by name, all that must stay the same for a run to end with the same bits.

    A network is identified by its layers and by what the author of its classes wrote: their
    settings and methods, with all that these name from their own module.
    """
    images = (part.cpu().contiguous().numpy() for part in (*dataset.train, *dataset.test))
    return {
        **history.recipe,
        "network": history.network,
        **layers(model),
        **written(model),
        "data set": history.dataset,
        "set of images": fingerprint(*images),
        "mean": round(dataset.mean, 9),  # the number of threads changes the last bits
        "standard deviation": round(dataset.std, 9),
        "seed": history.seed,
        "device": re.match(r"\w+", history.device)[0],
        "precision": history.precision,
        "torch": history.versions["torch"],
        "s4lib": history.versions["s4lib"],
    }


def differences(saved: dict, own: dict) -> str:
    """Describe the differences between the values of two such dictionaries."""
    words = []
    for name in {**saved, **own}:
        before, now = saved.get(name, "none"), own.get(name, "none")
        if repr(before) != repr(now):  # NaN counts as equal to NaN here
            unreadable = any(str(value).startswith("#") for value in (before, now))
            words.append(f"another {name}" if unreadable else f"{name} {before}, not {now}")
    more = [f"{len(words) - 4} more differences"] if len(words) > 4 else []
    return "; ".join(words[:4] + more)


def fingerprint(*contents) -> str:
    return f"#{hashlib.sha256(b''.join(contents)).hexdigest()[:12]}"


def layers(model: nn.Module) -> dict[str, str]:
    """Return each layer by its place, as PyTorch prints it; of the author's own, only the class."""
    return {
        f"layer {place}": type(layer).__name__
        + ("" if is_own(type(layer)) else f"({layer.extra_repr()})")
        for place, layer in model.named_modules()
        if place
    }


def is_own(thing) -> bool:
    """Return whether a class or a function is the author's, not PyTorch's or Python's."""
    return str(thing.__module__).split(".")[0] not in ("torch", "builtins")


def own_classes(layer: nn.Module) -> list[type]:
    return [kind for kind in type(layer).__mro__ if is_own(kind)]


def written(model: nn.Module) -> dict[str, Any]:
    """Return the author's settings, and the fingerprint of every function's syntax tree.

    A tree has no comments and no blank lines. A function without a source is left out, and so is
    what a method other than `__init__` assigns or changes: it is a state, not a setting.
    """
    values = {
        f"{place or type(layer).__name__}.{name}": value
        for place, layer in model.named_modules()
        for name, value in attributes(layer).items()
    }
    members = [vars(kind).values() for layer in model.modules() for kind in own_classes(layer)]
    texts, states = {}, set()
    for function, tree, named in functions_behind([*values.values(), *chain(*members)]):
        name = f"{function.__qualname__.split('<locals>.')[-1]}()"
        texts[name] = texts.get(name, "") + ast.unparse(tree)
        if function.__name__ != "__init__":
            states |= changed(tree)
        values |= {f"constant {name}": value for name, value in named.items()}
    settings = {
        name: setting(value)
        for name, value in sorted(values.items())
        if is_plain(value) and re.split("[. ]", name)[-1] not in states
    }
    trees = {name: fingerprint(text.encode()) for name, text in sorted(texts.items())}
    return settings | trees


def functions_behind(values: list) -> Iterator[tuple[FunctionType, ast.AST, dict[str, Any]]]:
    """Yield the author's functions among values, and among what those name from their module.

    Each comes with its syntax tree, and with the outside names that it uses.
    """
    waiting, seen = values, set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple | frozenset):
            waiting += value
        if isinstance(value, property):
            value = value.fget
        function = inspect.unwrap(getattr(value, "__func__", value))  # a method's, a decorated one
        if not isinstance(function, FunctionType) or function in seen or not is_own(function):
            continue
        seen.add(function)
        if (tree := syntax_tree(function)) is None:
            continue
        named = outside(function, tree)
        yield function, tree, named
        for value in named.values():
            if getattr(value, "__module__", None) == function.__module__:
                kind = value if inspect.isclass(value) else type(value)
                waiting += [value, *vars(kind).values()]


def attributes(layer: nn.Module) -> dict[str, Any]:
    """Return the attributes, of an author's layer or of its class, that not every module has."""
    kinds, found = own_classes(layer), {}
    for owner in [*reversed(kinds), layer] if kinds else []:
        found |= vars(owner)
    common = vars(nn.Module())
    return {name: found[name] for name in found if name not in common and name[:2] != "__"}


def is_plain(value) -> bool:
    """Return whether a value is a number, text, or a container of them."""
    if isinstance(value, dict):
        return all(map(is_plain, chain.from_iterable(value.items())))
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(is_plain, value))
    return value is None or isinstance(value, int | float | str)


def setting(value):
    """Return a plain value, or the fingerprint of a list, dictionary or set, which may be long."""
    if isinstance(value, tuple):
        return tuple(map(setting, value))
    if not isinstance(value, dict | list | set | frozenset):
        return value
    items = [*map(setting, value.items() if isinstance(value, dict) else value)]
    if isinstance(value, set | frozenset):
        items.sort(key=repr)  # every process has an order of its own
    return fingerprint(repr(items).encode())


def syntax_tree(function: FunctionType) -> ast.AST | None:
    """Return a function's syntax tree without docstrings; None if there is no source."""
    try:
        source = inspect.getsource(function)
        tree = ast.parse(f"if True:\n{source}" if source[0].isspace() else source)
    except (OSError, TypeError, SyntaxError):  # the last for a lambda in the middle of a statement
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return tree


def outside(function: FunctionType, tree: ast.AST) -> dict[str, Any]:
    """Return the outside objects that `function` names, by name."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names -= {node.id for node in ast.walk(tree) if is_assigned(node, ast.Name)}
    values = dict(function.__globals__)
    with contextlib.suppress(ValueError):  # a variable that was never assigned
        values |= inspect.getclosurevars(function).nonlocals
    return {name: values[name] for name in sorted(names & values.keys())}


def changed(tree: ast.AST) -> set[str]:
    """Return the names of attributes that a function assigns, and of containers that it changes."""
    changes = set()
    for node in ast.walk(tree):
        if is_assigned(node, ast.Attribute):
            changes.add(node.attr)
        if is_assigned(node, ast.Subscript):  # x[0] = 1
            changes.add(name_of(node.value))
        if isinstance(node, ast.Attribute) and node.attr in CHANGE:  # x.append
            changes.add(name_of(node.value))
    return changes


def name_of(node: ast.AST) -> str:
    """Return the last part of a variable's or an attribute's name."""
    return getattr(node, "attr", getattr(node, "id", ""))


def is_assigned(node: ast.AST, kind: type) -> bool:
    return isinstance(node, kind) and isinstance(node.ctx, ast.Store)
