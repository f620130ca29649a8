"""What training needs and a reader need not: devices, files, processes, downloads."""

import argparse


class UsageError(ValueError):
    """A mistake of the user's; the message says what was wrong and what to do about it."""

    def _render_traceback_(self):
        """What a notebook shows: the message alone."""
        return [str(self)]


def check_choice(name: str, value, choices) -> None:
    """Raises UsageError unless `value` is one of them."""
    if value not in [*choices]:
        raise UsageError(f"There is no {name} {value!r}. Choose one of {', '.join(choices)}.")


class Parser(argparse.ArgumentParser):
    """The parser of all commands: complains in one line, without the usage."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")
