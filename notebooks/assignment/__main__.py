"""`python -m notebooks.assignment`: check a workbook or a network; grade, report on a course."""

import sys

if __name__ == "__main__" and sys.argv[1:2] in (["grade"], ["report"]):
    from notebooks.assignment import report  # it imports PyTorch only when it grades a network

    sys.exit(report.main())

import math
import os
from argparse import ArgumentTypeError
from pathlib import Path
from threading import Timer

from notebooks.assignment import checklist
from notebooks.assignment.checklist import check_assignment
from notebooks.assignment.personal import personal_numbers
from notebooks.assignment.source_files import errors_of, import_network
from notebooks.assignment.spreadsheet import WorkbookError
from notebooks.assignment.workbook import POINTS, grade
from s4lib.data import DATASETS, SHORT_NAMES, load
from s4lib.recipes import RECIPES
from s4lib.runs import finished_run, seeds_and_folders
from s4lib.runtime import INTERRUPTED, Parser, UsageError, run_command

ABOUT = "Check an assignment's files. Teachers also have the commands `grade` and `report`."
SECONDS = 300  # for a workbook; the course's takes two


def check(args) -> int:
    """Return 0 for a workbook with all points or a network that meets the assignment, else 1."""
    path = Path(args.file)
    if path.suffix.lower() not in (".xlsx", ".xlsm", ".ods", ".xls"):
        return check_network(args)
    numbers = personal_numbers(args.student)
    given = {name: getattr(args, name) for name in numbers._fields if getattr(args, name)}
    limit = Timer(SECONDS, give_up, [path])
    limit.start()
    try:
        lines, points = grade(path, numbers._replace(**given))
    except WorkbookError as problem:
        raise UsageError(str(problem)) from problem
    finally:
        limit.cancel()
    print(*lines, sep="\n")
    return 0 if points == sum(POINTS.values()) else 1


def give_up(path: Path) -> None:
    """End the process, whatever it is at work on."""
    print(
        f"{path.name}: checking it takes more than {SECONDS} seconds. Delete the cells that are "
        "not part of the assignment.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def check_network(args) -> int:
    """Train the network, or load its finished runs, and print the checklist."""
    path, network = import_network(args.file)
    with errors_of(path):
        checklist.check_network(network)  # report what can't be checked before training starts
    dataset = load(args.dataset, args.data)
    recipe = RECIPES[args.recipe]
    name = f"{recipe.name}-{SHORT_NAMES[dataset.name]}"
    base, folders = Path("runs", path.stem), []
    with errors_of(path):
        for seed, out in seeds_and_folders(args.seed, args.seeds, args.out, base, name):
            _, run = finished_run(network, dataset, recipe, seed, args.device, out)
            if len(run.epochs) < run.recipe["epochs"]:
                print("The same command continues the run.")
                return INTERRUPTED
            folders.append(out)
        return 0 if check_assignment(network, folders, dataset) else 1


def numbers(count: int):
    """Return a parser of so many numbers, separated by commas."""

    def parse(text: str) -> tuple[float, ...]:
        try:
            values = tuple(float(number) for number in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count or not all(map(math.isfinite, values)):
            raise ArgumentTypeError(f"{count} numbers with commas between them, not {text}")
        return values

    return parse


def parser() -> Parser:
    main = Parser(prog="python -m notebooks.assignment", description=ABOUT)
    commands = main.add_subparsers(required=True, metavar="command")
    text = "check a workbook, or whether a network meets the assignment"
    command = commands.add_parser("check", help=text, description=text)
    command.set_defaults(run=check)
    add = command.add_argument
    add("file", metavar="FILE.xlsx|FILE.py[:Name]|FILE.ipynb[:Name]", help="a workbook; or where "
        "a network is defined, and the class or function without arguments that makes it; what it "
        "needs of the file is executed: check only what you would run yourself")  # fmt: skip
    add("--student", metavar="NUMBER", help="whose numbers the workbook has (the class's)")
    what = "the workbook's numbers where they are others, with commas between them"
    add("--inputs", type=numbers(2), metavar="I1,I2", help=what)
    add("--targets", type=numbers(2), metavar="T1,T2", help="likewise")
    add("--weights", type=numbers(8), metavar="W1,…,W8", help="likewise")
    add("--recipe", choices=RECIPES, default="best", help="hyperparameters (best)")
    add("--dataset", choices=DATASETS, default="auto", help="mnist, digits or auto (auto)")
    add("--data", type=Path, help="folder of MNIST ($S4_DATA, else ./data)")
    add("--device", default="auto", help="cuda, mps or cpu (the fastest)")
    add("--seed", type=int, default=0, help="fixes all that is random (0)")
    add("--seeds", type=int, metavar="N", help="train with each of the seeds from 0 to N - 1")
    add("--out", type=Path, help="folder of the run, to train into or to find (below runs)")
    return main


def main(argv: list[str] | None = None) -> int:
    return run_command(parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
