"""`python -m notebooks.experiments`: the runs that are missing, then tables and pictures."""

import sys
from pathlib import Path

from filelock import FileLock, Timeout

from notebooks.experiments import channels, report, runner
from notebooks.experiments.plots import figures
from s4lib.data import load
from s4lib.plots import save_figure
from s4lib.runtime import INTERRUPTED, Parser, UsageError
from s4lib.runtime.checkpoint import atomic_write, make_dir

ROOT = Path(__file__).parents[2]


def make(args) -> None:
    names = runner.check(args.names)
    make_dir(args.results)
    make_dir(args.out)
    try:
        with FileLock(args.results / ".lock", timeout=0):
            dataset = load("mnist", args.data)
            runner.run_missing(names, dataset, args.results, args.device)
    except Timeout as error:
        raise UsageError(f"Another process is at work in {args.results}.") from error
    drawn = figures(args.results) | {"channels": channels.make(dataset, args.results)}
    for name, figure in drawn.items():
        save_figure(figure, args.out / f"experiment_{name}.png")
    tables = report.tables(args.results)
    for name, text in tables.items():
        print(f"\n{name}\n\n{text}")
    page = args.results.parent / "README.md"
    if page.exists():
        atomic_write(page, report.filled(page.read_text("utf-8"), tables).encode())


def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="python -m notebooks.experiments", description=__doc__.split(": ")[1])
    parser.add_argument("names", nargs="*", metavar="NAME", help="some of the experiments (all)")
    parser.add_argument("--data", type=Path, help="folder of MNIST ($S4_DATA, else ./data)")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu (the fastest)")
    parser.add_argument("--results", type=Path, default=ROOT / "notebooks/results",
                        help="folder of the runs (notebooks/results)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=ROOT / "images",
                        help="folder for pictures (images)")  # fmt: skip
    args = parser.parse_args(argv)
    try:
        make(args)
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nStopped. The finished runs are kept in {args.results}.")
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
