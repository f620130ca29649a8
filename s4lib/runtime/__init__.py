"""What training needs and a reader need not: devices, files, processes, downloads."""

import argparse
import math


class UsageError(ValueError):
    """A mistake of the user's; the message says what was wrong and what to do about it."""

    def _render_traceback_(self):
        """What a notebook shows: the message alone."""
        return [str(self)]


def check_number(name: str, value, kind: type, low: float, high: float = math.inf) -> None:
    """Raises UsageError unless `value` is a number of that kind in that range."""
    types = (int,) if kind is int else (int, float)
    if type(value) not in types or not low <= value <= high or value == math.inf:
        what = "a whole number" if kind is int else "a number"
        to = f"from {low} on" if high == math.inf else f"from {low} to {high}"
        raise UsageError(f"{name} must be {what} {to}, not {value!r}.")


def check_choice(name: str, value, choices) -> None:
    """Raises UsageError unless `value` is one of them."""
    if value not in [*choices]:
        raise UsageError(f"There is no {name} {value!r}. Choose one of {', '.join(choices)}.")


class Parser(argparse.ArgumentParser):
    """The parser of all commands: complains in one line, without the usage."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")
