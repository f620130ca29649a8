"""Replace nbgrader's `autograde`: submissions are put in order, and checks run out of their reach.

`nbgrader_config.py` uses these steps instead of nbgrader's own, which would run a student's
notebook beside the gradebook.
"""

import atexit
import functools
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from nbformat.notebooknode import from_dict
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from traitlets import Float, Integer

from notebooks.assignment import grade, submission
from notebooks.assignment.sandbox import SECONDS

NOT_GRADED = "NotGraded"  # the name of the error in the output of such a check
unsettled: list[str] = []  # reported at the end
prepared: list[str] = []  # the folder with the submissions put in order, if there is one


@functools.cache
def prepare(course: Path, assignment: str = "session4") -> str:
    """Make a folder like `submitted`, in which every submission has been put in order.

    nbgrader skips what does not lie where it looks, so this runs before it looks. In the end the
    folder is deleted, and what could not be graded is reported.
    """
    folder = tempfile.TemporaryDirectory(prefix="s4-")
    atexit.register(folder.cleanup)
    prepared.append(folder.name)
    atexit.register(tell)
    submitted = course / "submitted"
    for path in sorted(submitted.iterdir()) if submitted.is_dir() else []:
        if path.is_dir() and not path.name.startswith("."):
            own = path / assignment
            source = own if own.is_dir() and any(own.rglob("*.ipynb")) else path
            target = Path(folder.name, path.name, assignment)
            for stem, notebook in submission.collect(source, target).items():
                if notebook.problem not in ("", submission.NOTHING):
                    unsettled.append(f"{path.name}, {stem}: {notebook.problem}")
            if not any(target.glob("*.ipynb")):
                unsettled.append(f"{path.name}: no notebook of this assignment")
    return folder.name


def tell() -> None:
    """Report at the very end what could not be graded."""
    if unsettled:
        print(
            "\nNot graded, look at these:", *dict.fromkeys(unsettled), sep="\n  ", file=sys.stderr
        )
    if grade.warning():
        print(grade.warning(), file=sys.stderr)


def grade_file(path: Path, seconds: float) -> dict:
    """Return `grade_cells` of a notebook that has been put in order."""
    return grade.grade_cells(submission.cells_of(path), path.parent, seconds)


class Grade(NbGraderPreprocessor):
    """Instead of nbgrader's Execute: outputs of answers and checks, several notebooks ahead."""

    seconds = Float(SECONDS, help="that a cell or a call of an answer may take").tag(config=True)
    jobs = Integer(os.cpu_count(), help="notebooks that are graded at a time").tag(config=True)
    pool, ahead, queue = None, {}, None  # the next notebooks, and those that have begun

    def preprocess(self, nb, resources):
        path = Path(resources["metadata"]["path"], f"{resources['nbgrader']['notebook']}.ipynb")
        made = self.graded(path, resources["nbgrader"]["student"])
        if len(made["outputs"]) != len(nb.cells):  # not put in order, as when Formgrader grades
            cells = [submission.tidy(cell) for cell in nb.cells]
            made = grade.grade_cells(cells, path.parent, self.seconds)
        for cell, outputs in zip(nb.cells, made["outputs"], strict=True):
            if cell.cell_type == "code":
                cell.outputs = [from_dict(output) for output in outputs]
        for check in made["checks"]:
            if check["points"] is None:
                where = f"{resources['nbgrader']['student']}, {path.stem}, {check['name']}"
                unsettled.append(f"{where}: {check['output'].splitlines()[-1]}")
        return nb, resources

    def graded(self, path: Path, student: str) -> dict:
        """Return what `grade_file` makes of a notebook; meanwhile the next ones begin."""
        cls, again = type(self), {"--force", "-f"} & {*sys.argv}
        if cls.pool is None:
            cls.pool = ProcessPoolExecutor(self.jobs, mp_context=get_context("spawn"))
            atexit.register(cls.pool.shutdown, wait=True, cancel_futures=True)
            everything = [
                notebook for place in prepared for notebook in Path(place).glob("*/*/*.ipynb")
            ]
            done = {p.name for p in path.parents[2].iterdir() if p.name != student and not again}
            cls.queue = [
                notebook for notebook in sorted(everything) if notebook.parts[-3] not in done
            ]
        places = [Path(place, student, *path.parts[-2:]) for place in prepared]
        own = next((place for place in places if place.exists()), path)
        for notebook in [own, *cls.queue[cls.queue.index(own) + 1 if own in cls.queue else 0 :]]:
            if notebook not in cls.ahead and len(cls.ahead) < max(self.jobs, 1):
                cls.ahead[notebook] = cls.pool.submit(grade_file, notebook, self.seconds)
        return cls.ahead.pop(own).result()


class SaveGrades(SaveAutoGrades):
    """As nbgrader's, but a check that was not graded has no points and waits for a person."""

    def _add_score(self, cell, resources) -> None:
        super()._add_score(cell, resources)
        outputs = cell.get("outputs", [])
        if any(output.get("ename") == NOT_GRADED for output in outputs):
            name = cell.metadata["nbgrader"]["grade_id"]
            where = self.notebook_id, self.assignment_id, self.student_id
            found = self.gradebook.find_grade(name, *where)
            found.auto_score, found.needs_manual_grade = None, True
            self.gradebook.db.commit()
