"""`python -m backprop` builds workbooks, playground and pictures; `--check` only compares."""

import sys
from pathlib import Path

from backprop import build
from s4lib.runtime import Parser

PROJECT = Path(__file__).resolve().parents[1]


def main(arguments: list[str] | None = None, folder: Path = PROJECT) -> int:
    """Run the command; 0 if all is well, 1 if a file is not current, 2 for a user's mistake."""
    parser = Parser(prog="python -m backprop", description=__doc__)
    parser.add_argument("--check", action="store_true", help="report whether the files are current")
    chosen = parser.parse_args(arguments)
    if chosen.check:
        return 0 if build.check(folder) else 1
    try:
        build.build(folder)
    except OSError as problem:
        where, why = problem.filename or folder, problem.strerror or problem
        parser.error(f"cannot write to {where}: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
