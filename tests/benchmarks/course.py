"""A course of many: submissions right, wrong, broken and cheating, graded several at a time.

python -m tests.benchmarks.course [--students 200] [--jobs 2] [--parts 1]
"""

import argparse
import copy
import json
import os
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

from notebooks.assignment import report, submission
from notebooks.assignment.personal import personal_numbers
from tests import test_grade
from tests.mistakes import part1_backpropagation, part2_network
from tests.workbooks import LAYOUTS, write

SOURCE = submission.RELEASE.parents[1] / "source/session4"
SOLUTION = re.compile(r"^ *### (BEGIN|END) SOLUTION\n?", re.M)
CHANGES = [kind for kind in test_grade.CHANGED if kind != "answer split"]  # of another answer
CHEATS = [*test_grade.CHEATS]


def solved(stem: str, student: str) -> list[dict]:
    """The cells of a part with the answers of its source, and a student's number."""
    answers = {submission.name_of(c): c for c in submission.cells_of(SOURCE / f"{stem}.ipynb")}
    cells = submission.cells_of(submission.RELEASE / f"{stem}.ipynb")
    for cell in cells:
        if submission.mark(cell).get("solution"):
            cell["source"] = SOLUTION.sub("", answers[submission.name_of(cell)]["source"])
        if submission.is_parameters(cell):
            cell["source"] = cell["source"].replace('student = ""', f'student = "{student}"')
        if submission.name_of(cell) == "errors":
            cell["source"] += f"\n\n\nseen = {student}"  # so that no two have the same code
        if submission.name_of(cell).startswith("check-"):
            shown = {"output_type": "stream", "name": "stdout", "text": "✓ right"}
            cell["outputs"] = [shown]  # as of one's own run
    return cells


def wrong(cells: list[dict], number: int) -> float:
    """Plant one of the usual mistakes in Part 1; the points that it costs."""
    name, there, instead, _ = part1_backpropagation.MISTAKES[
        number % len(part1_backpropagation.MISTAKES)
    ]
    cell = cells[test_grade.index(cells, name)]
    cell["source"] = cell["source"].replace(there, instead)
    return float(submission.mark(cells[test_grade.index(cells, f"check-{name}")])["points"])


def make(folder: Path, number: int, parts: list[str]) -> tuple[str, float]:
    """Write the submission of one student; its kind, and the points of Part 1 that it deserves."""
    student = str(310_000 + number)
    place = folder / student / "session4"
    kind, lost, name = ("right", "right", "wrong", "broken", "cheating")[number % 5], 0.0, parts[0]
    for stem in parts:
        cells = solved(stem, student)
        if stem == parts[0] and kind == "wrong":
            lost = wrong(cells, number // 5)
        if stem == parts[0] and kind == "broken":
            change = CHANGES[number // 5 % len(CHANGES)]
            cells = test_grade.CHANGED[change](copy.deepcopy(cells))
            name = f"{stem} ({number})"
        if stem == parts[0] and kind == "cheating":
            cheat = CHEATS[number // 5 % len(CHEATS)]
            cell = cells[test_grade.index(cells, "forward")]
            own = "def forward" in test_grade.CHEATS[cheat]
            cell["source"] = ("" if own else f"{test_grade.WRONG}\n") + test_grade.CHEATS[cheat]
            lost = 3.0
        test_grade.write(place, cells, f"{name if stem == parts[0] else stem}.ipynb")
    write(place / "workbook.xlsx", LAYOUTS["across"], personal_numbers(student), steps=50)
    if len(parts) > 1:
        part2_network.write_run(place)
    return kind, 32.0 - lost


def processor() -> float:
    """Seconds that this process and those that it has ended have computed."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main():
    """Make, grade and compare; print the time a student takes, and what was named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--students", type=int, default=200, help="how many hand in (200)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at a time (all cores)")
    parser.add_argument("--parts", type=int, default=1, choices=(1, 3), help="handed in (1)")
    args = parser.parse_args()
    parts = submission.stems()[: args.parts]
    with tempfile.TemporaryDirectory() as folder:
        submitted = Path(folder, "submitted")
        want = {str(310_000 + n): make(submitted, n, parts) for n in range(args.students)}
        started, before = time.perf_counter(), processor()
        found = report.overview(submitted, args.jobs)
        seconds, computing = time.perf_counter() - started, processor() - before
        graded = json.loads(Path(folder, "grades.json").read_text("utf-8"))

    kinds, as_deserved, named = Counter(), Counter(), Counter()
    for row in found:
        kind, points = want[row["student"]]
        part = graded[row["student"]]["parts"][parts[0]]
        kinds[kind] += 1
        # What a cheat has patched may spoil its other answers as well.
        fits = part["points"] == points or (kind == "cheating" and part["points"] < points)
        as_deserved[kind] += fits
        named[kind] += bool(row["remarks"] or part["not_graded"])
        if not fits:
            print(f"{row['student']}, {kind}: {part['points']:g} points, not {points:g}")
    print(f"{args.students} students, {args.jobs} at a time: {seconds:.0f} s, "
          f"{seconds / args.students:.1f} s each; {computing / args.students:.1f} s of a "
          "processor each, however busy the machine is\n")  # fmt: skip
    print("| submissions | | points as deserved | named |\n|---|---:|---:|---:|")
    for kind, count in kinds.items():
        print(f"| {kind} | {count} | {as_deserved[kind]} | {named[kind]} |")


if __name__ == "__main__":
    main()
