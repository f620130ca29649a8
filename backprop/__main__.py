"""`python -m backprop` builds the workbook and the pictures; `--check` only compares."""

import argparse
import sys
from pathlib import Path

from backprop import build
from backprop.network import check_rate
from s4lib.runtime import Parser

PROJECT = Path(__file__).resolve().parents[1]
FOLDER = "where backprop/ and images/ are or will be (default: this project, if it is one)"
RATE = "of the sheet with one training (default: %(default)s)"


def home(project: Path = PROJECT) -> Path:
    """The project's folder, or the current one if this is an installed package, without a project
    around it.
    """
    return project if (project / "pyproject.toml").exists() else Path()


def rate(text: str) -> float:
    """A learning rate as it was typed."""
    try:
        check_rate(float(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number") from None
    return float(text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 if all is well, 1 if a file is not current, 2 for a user's mistake."""
    parser = Parser(prog="python -m backprop", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell if the files are current")
    parser.add_argument("--learning-rate", type=rate, default=0.5, metavar="RATE", help=RATE)
    parser.add_argument("--folder", type=Path, default=home(), help=FOLDER)
    chosen = parser.parse_args(arguments)
    if chosen.check:
        return 0 if build.check(chosen.folder, chosen.learning_rate) else 1
    try:
        build.build(chosen.folder, chosen.learning_rate)
    except OSError as problem:
        where, why = problem.filename or chosen.folder, problem.strerror or problem
        parser.error(f"cannot write to {where}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
