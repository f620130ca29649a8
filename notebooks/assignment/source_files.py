"""A network from a file of the user's, which is executed for it."""

import contextlib
import inspect
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import nn

from s4lib.runtime import UsageError


def import_network(target: str) -> tuple[Path, Callable[[], nn.Module]]:
    """The file of FILE.py or FILE.py:Name, and the class or function there that makes a network.

    Without a name, it is the only network that the file defines. Executes the file. Raises
    UsageError for an error in it, or if there is no such class or function.
    """
    before, _, name = target.rpartition(":")
    path, name = (Path(before), name) if name.isidentifier() and before else (Path(target), "")
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(f"There is no Python file {path}. Give FILE.py, or FILE.py:Name.")
    module, folders = f"checked.{path.stem}", [*sys.path]
    sys.path.insert(0, str(path.absolute().parent))  # for what lies beside it, as when it is run
    try:
        with errors_of(path):
            defined = runpy.run_path(str(path.absolute()), run_name=module)
    finally:
        sys.path[:] = folders

    classes = [one for one in defined.values() if inspect.isclass(one) and one.__module__ == module]
    here = [one.__name__ for one in classes if issubclass(one, nn.Module)]
    if not name and len(here) != 1:
        found = ", ".join(here) or "no network"
        raise UsageError(f"{path} defines {found}. Say what to check: {path}:Name")
    make = defined.get(name or here[0])
    try:
        inspect.signature(make).bind()
        if isinstance(make, nn.Module):
            raise TypeError("it is a network itself, whose weights no seed can fix")
    except TypeError as error:
        raise UsageError(
            f"{path}: {name or here[0]} is no class or function without arguments that makes a "
            f"network: {error}."
        ) from error
    return path, make


@contextlib.contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turns an error whose origin is in the file `path` into a UsageError with the line."""
    try:
        yield
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
        if isinstance(error, SyntaxError) and Path(error.filename or "") == path.absolute():
            lines.append(error.lineno)
        if not lines:
            raise
        reason = str(getattr(error, "msg", error)).strip().split("\n")[0]
        raise UsageError(f"{path}, line {lines[-1]}: {type(error).__name__}: {reason}") from error
