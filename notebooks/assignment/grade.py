"""Grade a submission: the checks run here, and the answers run in a process of their own.

The right results and the points are never in a process that runs a student's code. Every check cell
is the released one. A name in it stands for the student's object of that name, as it is at that
place in the student's notebook.
"""

import ast
import builtins
import contextlib
import csv
import io
import json
import multiprocessing
import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from notebooks.assignment import submission
from notebooks.assignment.compare import AnswerError, NotGradedError
from notebooks.assignment.sandbox import (
    PROJECT,
    SECONDS,
    EndedError,
    Process,
    UnclearError,
    confined,
)
from notebooks.assignment.wire import LostError

RESTARTS = 5  # the process of one notebook
UNCONFINED = (
    "No bubblewrap (bwrap) here: answers run as you, with limits of time and, on Unix, memory. "
    "Grade in a container, or as a user who can read and write nothing else."
)


class Session:
    """A notebook's answers, in a process that starts again if one of them ends it."""

    def __init__(self, folder: Path, seconds: float = SECONDS):
        self.folder, self.seconds = folder, seconds
        self.ran, self.left, self.process, self.number = [], RESTARTS, None, None

    def start(self) -> Process:
        if self.process is None:
            if not self.left:
                raise UnclearError(f"its answers have ended their process {RESTARTS} times")
            self.left -= 1
            self.process = Process(self.folder, self.seconds)
            for source in self.ran:
                self.process.run(source)
        return self.process

    def stop(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None

    def run(self, source: str) -> list[dict]:
        """Return the outputs of a cell. From then on, a cell that ends the process is left out."""
        try:
            outputs = self.start().run(source)
        except EndedError as error:
            self.stop()
            return [failed("Ended", f"this cell {error}, and was left out")]
        self.ran.append(source)
        return outputs


class Names(dict):
    """The names that a check cell uses: the student's, except the folder of the submission.

    The student number is that of the first check, whatever it is set to afterwards.
    """

    def __init__(self, session: Session):
        number = {} if session.number is None else {"student": session.number}
        super().__init__(here=session.folder, **number)
        self.session = session

    def __missing__(self, name: str):
        if hasattr(builtins, name):
            raise KeyError(name)
        return self.session.start().name(name)


def check(cell: dict, session: Session) -> tuple[float | None, list[dict]]:
    """Return the points of a check cell, None if they can't be decided here, and its outputs."""
    most = float(submission.mark(cell)["points"])
    tree = ast.parse(cell["source"])
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    names, said, outputs, points = Names(session), io.StringIO(), [], most
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(tree, "<check>", "exec"), {}, names)
            value = last and eval(compile(ast.Expression(last.value), "<check>", "eval"), {}, names)
        if isinstance(value, float | int):
            points = min(max(float(value), 0.0), most)
            outputs = [shown(points)]
    except EndedError as error:
        session.stop()
        points, outputs = 0.0, [failed("Ended", f"✗ the answer {error}")]
    except UnclearError as error:
        points, outputs = None, [failed("NotGraded", f"Not graded: {error}")]
    except Exception as error:
        points, outputs = told(error)
    text = said.getvalue().replace(str(session.folder), "").strip("\n")
    if text:
        stream = {"output_type": "stream", "name": "stdout", "text": text + "\n"}
        outputs.insert(0, stream)
    return points, outputs


def told(error: Exception) -> tuple[float | None, list[dict]]:
    """Return points and output for an error: 0 if the answer is at fault, None if the check is."""
    if isinstance(error, NotGradedError):
        text = str(error)
        return None, [failed("NotGraded", text[:1].upper() + text[1:])]
    if isinstance(error, AnswerError) or hasattr(error, "_render_traceback_"):
        return 0.0, [failed(type(error).__name__, str(error))]
    if isinstance(error, LostError):
        return 0.0, [failed("LostError", f"✗ the answer returned {error}")]
    text = f"{type(error).__name__}: {error}"
    if getattr(error, "of_the_answer", False):
        return 0.0, [failed(type(error).__name__, f"✗ the answer raised {text}")]
    return None, [failed("NotGraded", f"Not graded: the check failed with {text}")]


def failed(kind: str, text: str) -> dict:
    """Return the output of a cell that raised an error."""
    return {"output_type": "error", "ename": kind, "evalue": text, "traceback": text.splitlines()}


def shown(points: float) -> dict:
    """Return the output of a cell whose last value is its points."""
    data = {"text/plain": f"{points:g}"}
    return {"output_type": "execute_result", "execution_count": 1, "data": data, "metadata": {}}


def grade_cells(cells: list[dict], folder: Path, seconds: float = SECONDS) -> dict:
    """Run a notebook's cells and checks.

    Returns the outputs of each cell, the points of each check, the student's number, and notes.
    """
    os.environ.setdefault("S4_DATA", str(PROJECT / "data"))
    session, outputs, checks, notes = Session(folder, seconds), [], [], []
    try:
        kept = submission.shown(cells)
        for k, cell in enumerate(cells):
            made = []
            if k in kept:
                made = cell["outputs"]
            elif cell["cell_type"] == "code" and is_check(cell):
                if session.number is None:
                    session.number = number_of(session)
                points, made = check(cell, session)
                most = float(submission.mark(cell)["points"])
                result = {"name": submission.name_of(cell), "points": points, "max": most}
                checks.append({**result, "output": text_of(made)})
            elif cell["cell_type"] == "code":
                try:
                    made = session.run(cell["source"])
                except UnclearError as error:
                    made = [failed("NotGraded", f"Not graded: {error}")]
            outputs.append(made)
        number, last = session.number, number_of(session)
        if number is not None and last != number:
            notes = [f"the student number is {number} at the first check, and {last} at the end"]
    finally:
        session.stop()
    number = last if number is None else number
    return {"outputs": outputs, "checks": checks, "number": number, "notes": notes}


def number_of(session: Session) -> str | int | None:
    """Return the student number, or nothing."""
    with contextlib.suppress(Exception):
        number = session.start().name("student")
        return number if isinstance(number, str | int) else None
    return None


def is_check(cell: dict) -> bool:
    """Return whether a cell is graded by running it."""
    marked = submission.mark(cell)
    return bool(marked.get("grade") and not marked.get("solution"))


def text_of(outputs: list[dict]) -> str:
    """Return what a reader sees of a cell's outputs."""
    texts = []
    for output in outputs:
        data = output.get("data", {}).get("text/plain", "")
        texts.append(
            "\n".join(output.get("traceback", [])) or output.get("text", "") or f"{data} points"
        )
    return "\n".join(text.rstrip() for text in texts)


def grade(source: Path, seconds: float = SECONDS) -> dict:
    """Return a student's automatic points, part by part, whatever was handed in."""
    source = Path(source)
    name = source.name if source.name != "session4" else source.parent.name
    result = {"student": name.removesuffix(".zip"), "parts": {}}
    with tempfile.TemporaryDirectory(prefix="s4-") as folder:
        folder = Path(folder, "session4")
        for stem, notebook in submission.collect(source, folder).items():
            release = submission.cells_of(submission.RELEASE / f"{stem}.ipynb")
            made = {"checks": [], "number": None, "notes": []}
            if not notebook.problem:
                try:
                    made = grade_cells(notebook.cells, folder, seconds)
                except Exception as error:  # an error of ours costs a student's part, and is named
                    notebook = notebook._replace(problem=f"{type(error).__name__}: {error}")
            result["parts"][stem] = summary(made, notebook, release)
    return result


def summary(made: dict, notebook: submission.Notebook, release: list[dict]) -> dict:
    """Return the points of a part, and remarks on it."""
    undecided = [check["name"] for check in made["checks"] if check["points"] is None]
    graded = [submission.mark(cell) for cell in release if submission.mark(cell).get("grade")]
    return {
        "points": round(sum(check["points"] or 0 for check in made["checks"]), 4),
        "max": sum(float(mark["points"]) for mark in graded if not mark["solution"]),
        "by_people": sum(float(mark["points"]) for mark in graded if mark["solution"]),
        "not_graded": notebook.problem or ", ".join(undecided),
        "number": made["number"],
        "notes": [*notebook.notes, *made["notes"]],
        "checks": made["checks"],
    }


def grade_all(sources: list[Path], jobs: int, seconds: float = SECONDS) -> Iterator[dict]:
    """Do the same for many submissions, several at a time; results come in the given order."""
    if jobs < 2 or len(sources) < 2:
        yield from (grade(source, seconds) for source in sources)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(sources)), mp_context=context) as pool:
        yield from pool.map(grade, sources, [seconds] * len(sources))


# What other programs read


def total(result: dict) -> float:
    return round(sum(part["points"] for part in result["parts"].values()), 4)


def as_json(results: list[dict]) -> str:
    made = [{**result, "points": total(result)} for result in results]
    return json.dumps(made[0] if len(made) == 1 else made, ensure_ascii=False, indent=1)


def as_gradescope(results: list[dict]) -> str:
    """Write Gradescope's results.json: a test for every check, of one submission.

    Source: https://gradescope-autograders.readthedocs.io/en/latest/specs/#output-format. Without
    tests, Gradescope needs a score of the whole.
    """
    (result,) = results
    tests, lines = [], []
    for stem, part in result["parts"].items():
        lines += [f"{stem}: {text}" for text in said_of(part)]
        for check in part["checks"]:
            test = {"name": f"{stem}: {check['name']}", "output": check["output"]}
            if check["points"] is not None:
                test["status"] = "passed" if check["points"] == check["max"] else "failed"
            tests.append({**test, "score": check["points"] or 0.0, "max_score": check["max"]})
    made = {"score": total(result), "output": "\n".join(lines), "tests": tests}
    return json.dumps(made, ensure_ascii=False, indent=1)


def said_of(part: dict) -> list[str]:
    """Return what a teacher should know about a part."""
    return [f"not graded: {part['not_graded']}"] * bool(part["not_graded"]) + part["notes"]


def as_moodle(results: list[dict]) -> str:
    """Write Moodle's worksheet for grading offline, for folders with Moodle's names.

    The columns are those that Moodle's `mod/assign/feedback/offline/importgradeslib.php` reads, if
    Moodle is set to English; "-" means that the grade has no time yet. A student with a part that
    was not graded gets no points from this.
    """
    rows = []
    for result in results:
        found = re.search(r"^(.*?)_(\d+)(?:_assignsubmission_file_?)?$", result["student"])
        name, number = found.groups() if found else (result["student"], result["student"])
        complete = not any(part["not_graded"] for part in result["parts"].values())
        lines = [f"{stem}: {t}" for stem, part in result["parts"].items() for t in said_of(part)]
        points = f"{total(result):g}" if complete else ""
        rows.append([f"Participant {number}", name, points, "-", "\n".join(lines)])
    columns = "Identifier", "Full name", "Grade", "Last modified (grade)", "Feedback comments"
    return as_table(columns, rows)


def as_csv(results: list[dict]) -> str:
    columns = ["student", *submission.stems(), "total", "not graded"]
    rows = []
    for result in results:
        parts = result["parts"]
        missing = [f"{stem}: {p['not_graded']}" for stem, p in parts.items() if p["not_graded"]]
        points = [f"{part['points']:g}" for part in parts.values()]
        rows.append([result["student"], *points, f"{total(result):g}", "; ".join(missing)])
    return as_table(columns, rows)


def as_table(columns, rows) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([columns, *rows])
    return buffer.getvalue().rstrip("\n")


FORMATS = {"json": as_json, "gradescope": as_gradescope, "moodle": as_moodle, "csv": as_csv}


def warning() -> str:
    """Return a warning for a machine on which answers can't be confined."""
    return "" if confined() else UNCONFINED
