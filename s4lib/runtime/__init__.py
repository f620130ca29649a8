"""What training needs and a first reader can skip: devices, files, processes, downloads."""

import argparse
import math
import os
import sys

INTERRUPTED = 130  # the exit status that shells expect after Ctrl-C


class UsageError(ValueError):
    """A user's mistake; the message says what was wrong and what to do about it."""

    def _render_traceback_(self):
        """Show the message alone in a notebook."""
        return [str(self)]


def check_number(name: str, value, kind: type, low: float, high: float = math.inf) -> None:
    """Raises UsageError unless `value` is a number of that kind in that range."""
    types = (int,) if kind is int else (int, float)
    if type(value) not in types or not low <= value <= high or value == math.inf:
        what = "a whole number" if kind is int else "a number"
        to = f"from {low} on" if high == math.inf else f"from {low} to {high}"
        raise UsageError(f"{name} must be {what} {to}, not {value!r}.")


def check_choice(name: str, value, choices) -> None:
    """Raises UsageError unless `value` is one of these."""
    if value not in [*choices]:
        raise UsageError(f"There is no {name} {value!r}. Choose one of {', '.join(choices)}.")


class Parser(argparse.ArgumentParser):
    """The parser of all commands; it reports a mistake in one line, without the usage."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def run_command(parser: argparse.ArgumentParser, argv: list[str] | None = None) -> int:
    """Parse the command line, run `run(args)`; return the exit status, 2 for a user's mistake."""
    args = parser.parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may contain any bytes
    try:
        status = args.run(args)
        sys.stdout.flush()  # a closed pipe is noticed here, not at the exit
        return status
    except UsageError as error:
        print(error, file=sys.stderr)
    except BrokenPipeError:  # the reader has gone, as in `summary | head`; that is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        what = error.filename or "the output"
        print(f"Can't use {what}: {error.strerror or error}.", file=sys.stderr)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED
    return 2
