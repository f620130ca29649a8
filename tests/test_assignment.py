"""The assignment as a course lives it, with nbgrader itself: released, handed in, graded, returned.

Three submissions go through nbgrader's own commands: a right one with all three parts, one that
nobody has written anything in, and one that is broken and cheats. Each broken kind and each cheat
by itself is in test_grade.py, each mistake in test_part1.py, test_part2.py and
test_part3.py.
"""

import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path

import pytest

from notebooks.assignment import report
from notebooks.assignment.personal import personal_numbers
from tests.mistakes import part2_network
from tests.workbooks import LAYOUTS, write

if find_spec("nbgrader") is None:
    pytest.skip("needs nbgrader", allow_module_level=True)
import nbclient  # nbgrader itself takes a second, and is imported where it is needed
import nbformat

PROJECT = Path(__file__).resolve().parents[1]
ASSIGNMENT = PROJECT / "notebooks/assignment"
SOURCES = sorted((ASSIGNMENT / "source/session4").glob("*.ipynb"))
STEMS = [path.stem for path in SOURCES]
STUDENT = "4711"
SMALL = {"S4_DATASET": "digits", "S4_EPOCHS": "1", "OMP_NUM_THREADS": "1"}
PART1 = STEMS[0]

each = pytest.mark.parametrize("stem", STEMS)


def read(path):
    return nbformat.read(path, as_version=4)


def marked(notebook) -> dict:
    """The cells of a notebook that nbgrader knows, by grade_id."""
    cells = (cell for cell in notebook.cells if "nbgrader" in cell.metadata)
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def points(stem, automatic=True) -> dict[str, float]:
    """The points of the cells that are graded by a check, or of those that people read."""
    found = marked(read(ASSIGNMENT / f"source/session4/{stem}.ipynb"))
    return {
        name: cell.metadata.nbgrader.points
        for name, cell in found.items()
        if cell.metadata.nbgrader.grade and cell.metadata.nbgrader.solution != automatic
    }


# What is handed out


def solved(stem, changed=None):
    """A release with all answers filled in; `changed`, {grade_id: source}, with other ones."""
    notebook = read(ASSIGNMENT / f"release/session4/{stem}.ipynb")
    answers = marked(read(ASSIGNMENT / f"source/session4/{stem}.ipynb"))
    for name, cell in marked(notebook).items():
        if cell.metadata.nbgrader.solution:
            lines = answers[name].source.splitlines()
            cell.source = "\n".join(line for line in lines if "### " not in line)
            cell.source = (changed or {}).get(name, cell.source)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source = cell.source.replace('student = ""', f'student = "{STUDENT}"')
    return notebook


@each
def test_points_add_up_and_every_check_is_below_its_answer(stem):
    notebook = read(ASSIGNMENT / f"source/session4/{stem}.ipynb")
    names = [*marked(notebook)]
    assert len(names) == sum("nbgrader" in cell.metadata for cell in notebook.cells)
    for name in points(stem):
        assert name.startswith("check-")
        if name != "check-workbook":
            assert names[names.index(name) - 1] == name.removeprefix("check-")
    every = {**points(stem), **points(stem, automatic=False)}
    most, by_people = sum(every.values()), sum(points(stem, automatic=False).values())
    assert notebook.cells[0].source.splitlines()[0].endswith(f" ({most} points)")
    row = rf"^\|.*{stem}\.ipynb.*\| {most} \| {by_people} \| \S+ \|$"
    assert re.search(row, (ASSIGNMENT / "README.md").read_text(), re.M)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    in_headings = re.findall(r"^##.* \((?:(\d+) \+ )?(\d+) points?\)$", text, re.M)
    assert sum(int(one or 0) for pair in in_headings for one in pair) == most
    assert all(not cell.get("outputs") for cell in notebook.cells)


def test_the_page_says_how_much_people_read():
    cells = [n for path in SOURCES for n in points(path.stem, automatic=False).values()]
    read_by_people = [n for n in cells if n]  # one answer has no points
    text = " ".join((ASSIGNMENT / "README.md").read_text().split())
    assert len(read_by_people) == 10
    assert f"The checks give {100 - sum(read_by_people)} of the 100 points. You read ten" in text


def test_all_three_set_up_as_the_guided_tour_does():
    tour = [*(ASSIGNMENT.parent).glob("[0-9]*.ipynb")]
    setups = {marked(read(path))["setup"].source for path in SOURCES}
    assert len(setups | {read(path).cells[2].source for path in tour}) == 1


@each
def test_the_release_holds_no_solution(stem):
    release = (ASSIGNMENT / f"release/session4/{stem}.ipynb").read_text()
    text = "\n".join(cell.source for cell in nbformat.reads(release, 4).cells)
    there = {line.strip() for line in text.splitlines()}
    for cell in read(ASSIGNMENT / f"source/session4/{stem}.ipynb").cells:
        for solution in re.findall(r"### BEGIN SOLUTION\n(.*?)### END", cell.source, re.S):
            for line in filter(None, map(str.strip, solution.splitlines())):
                assert line not in there
    assert "SOLUTION" not in release
    assert "HIDDEN" not in release
    assert all(not cell.get("outputs") for cell in nbformat.reads(release, 4).cells)


# Anywhere


@each
def test_the_release_imports_nothing_that_the_requirements_do_not_name(stem):
    source = "\n".join(
        cell.source
        for cell in read(ASSIGNMENT / f"release/session4/{stem}.ipynb").cells
        if cell.cell_type == "code"
    )
    named = {"numpy", "scipy", "matplotlib", "torch", "torchvision", "IPython"}
    named |= {"backprop", "s4lib", "notebooks", *sys.stdlib_module_names}
    modules = [
        name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    ]
    assert {*modules} <= named


@pytest.fixture
def origin(tmp_path):
    """A repository to clone, with what a fork has."""
    origin = tmp_path / "origin"
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in tracked.stdout.splitlines():
        if name.startswith(("s4lib/", "backprop/", "images/backprop", "notebooks/")):
            (origin / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, origin / name)
    for command in ("init", "add .", "-c user.name=A -c user.email=a@b.invalid commit -m all"):
        subprocess.run(["git", *command.split()], cwd=origin, check=True, capture_output=True)
    return origin


def test_the_releases_run_alone_in_an_empty_folder_without_nbgrader(origin, tmp_path):
    """Nothing fails but what is yet to be written, and what needs that; no cell gets a point.

    In one kernel, so that torch is imported once: each forgets the names of the one before.
    """
    from nbgrader.utils import determine_grade

    (tmp_path / "without/nbgrader").mkdir(parents=True)
    (tmp_path / "without/nbgrader/__init__.py").write_text("raise ImportError")
    alone = tmp_path / "alone"
    alone.mkdir()
    together, parts = nbformat.v4.new_notebook(), []
    for stem in STEMS:
        parts.append(read(ASSIGNMENT / f"release/session4/{stem}.ipynb"))
        setup = marked(parts[-1])["setup"]
        setup.source = re.sub(r'(repository = ")[^"]*"', rf'\g<1>{origin}"', setup.source)
        together.cells += [nbformat.v4.new_code_cell("%reset -f"), *parts[-1].cells]
    client = nbclient.NotebookClient(
        together, allow_errors=True, resources={"metadata": {"path": str(alone)}}
    )
    client.execute(env={**os.environ, **SMALL, "PYTHONPATH": str(tmp_path / "without")})

    assert (alone / "session4-code/s4lib").is_dir()
    for notebook in parts:
        outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
        errors = [o for o in outputs if o.output_type == "error"]
        expected = {"NotImplementedError", "NameError", "AnswerError"}
        assert {"NotImplementedError"} <= {o.ename for o in errors} <= expected
        said = [o.evalue for o in errors if o.ename == "AnswerError"]
        assert [text for text in said if not text.endswith("is not written yet")] == []
        assert [o.text for o in outputs if o.get("name") == "stderr"] == []
        graded = [cell for cell in marked(notebook).values() if cell.metadata.nbgrader.grade]
        assert {determine_grade(cell)[0] for cell in graded} == {0}


# A course


NBGRADER = """
import os, sys
from nbgrader.apps import NbGraderApp
for words in sys.argv[1:]:
    print("$ nbgrader", words, flush=True)
    if not os.fork():
        sys.argv = ["nbgrader", *words.split()]
        sys.exit(NbGraderApp.launch_instance(sys.argv[1:]))
    print("exit status", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""  # importing nbgrader takes two seconds for each command


def nbgrader(course, *commands) -> list[tuple[int, str]]:
    """The status of every command and what it says, in a course's folder, without activation."""
    paths = os.pathsep.join(
        path for path in os.environ["PATH"].split(os.pathsep) if not Path(path, "alembic").exists()
    )
    done = subprocess.run(
        [sys.executable, "-c", NBGRADER, *commands],
        cwd=course,
        env={**os.environ, **SMALL, "PATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _, *parts = done.stdout.split("$ nbgrader ")
    ends = [part.rsplit("exit status ", 1) for part in parts]
    return [(int(status), said) for said, status in ends]


CHEAT = """
import sqlite3
import notebooks.assignment.part1 as part1
for name in dir(part1):
    if name.startswith("check_"):
        setattr(part1, name, lambda *_: print("✓ right"))
book = sqlite3.connect("../../../gradebook.db")
book.execute("update grade set manual_score = 40")
book.commit()
"""


def hand_in(folder, notebooks) -> Path:
    """Put notebooks, {name of a file: notebook}, into a folder."""
    folder.mkdir(parents=True)
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course's folder beside the project's code, with what a learning platform delivers."""
    home = tmp_path_factory.mktemp("project")
    for name in ("s4lib", "backprop", "notebooks", "images"):
        (home / name).symlink_to(PROJECT / name)
    course = home / "course"
    shutil.copytree(ASSIGNMENT / "source", course / "source")
    shutil.copy(ASSIGNMENT / "nbgrader_config.py", course)

    everything = tmp_path_factory.mktemp("platform")
    folder = hand_in(everything / "solution", {stem: solved(stem) for stem in STEMS})
    write(folder / "workbook.xlsx", LAYOUTS["across"], personal_numbers(STUDENT), steps=50)
    part2_network.write_run(folder)
    blank = read(ASSIGNMENT / f"release/session4/{PART1}.ipynb")
    folder = hand_in(everything / "untouched", {f"{PART1} (1)": blank})
    for name in ("s4lib", "backprop"):  # in place of the course's own code, all is well
        (folder / name).mkdir()
        forged = "def __getattr__(name):\n    return lambda *_: (1, 2, 3)"
        (folder / name / "__init__.py").write_text(forged)
    notebook = solved(PART1)
    for name in ("explain-graph", "check-update"):
        notebook.cells.remove(marked(notebook)[name])
    marked(notebook)["train"].source = "import os\nos._exit(3)"
    marked(notebook)["bias-gradients"].source = CHEAT
    folder = hand_in(everything / "broken/session4", {f"{PART1}-Copy1": notebook})
    hand_in(everything / "broken/session4/inner", {PART1: blank})
    (everything / "broken/part3_experiment.ipynb").write_text("<<<<<<< HEAD")

    archive = course / "downloaded/session4/archive"
    archive.mkdir(parents=True)
    with zipfile.ZipFile(archive / "CS101-Session 4-815.zip", "w") as delivered:
        moodle = {"untouched": "file_", "broken": "file"}
        for number, (student, plugin) in enumerate(moodle.items(), 1):
            for path in (everything / student).rglob("*"):
                where = f"{student.title()} Doe_{number}_assignsubmission_{plugin}"
                delivered.write(path, f"{where}/{path.relative_to(everything / student)}")
    with zipfile.ZipFile(archive / "submissions.zip", "w") as delivered:  # Canvas has no folders
        for number, path in enumerate(p for p in (everything / "solution").rglob("*.*")):
            delivered.write(path, f"doesolution_12345_{67890 + number}_{path.stem}-1{path.suffix}")
    return course


SOLUTION, UNTOUCHED, BROKEN = "doesolution_12345", "Untouched Doe_1", "Broken Doe_2"


@pytest.fixture(scope="module")
def graded(course):
    """Return each command's output, from release to grades; and {student: {stem: {id: points}}}."""
    from nbgrader.api import Gradebook

    commands = {
        "release": "generate_assignment session4 --create",
        "collect": "zip_collect session4",
        "autograde": "autograde session4 --force --Grade.jobs=1",  # each imports torch
        "feedback": "generate_feedback session4",
        "export": "export --to=grades.csv",
    }
    said = dict(zip(commands, nbgrader(course, *commands.values()), strict=True))

    scores = {}
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        for submission in book.assignment_submissions("session4"):
            of_student = scores.setdefault(submission.student.id, {})
            for notebook in submission.notebooks:
                of_student[notebook.name] = {g.name: g.auto_score for g in notebook.grades}
    return said, scores


def test_the_next_notebooks_begin_while_one_is_awaited(tmp_path, monkeypatch):
    """As many as there are jobs; those of students who are graded already do not."""
    from notebooks.assignment import nbgrader_steps

    begun = []

    class Pool:
        def submit(self, _, path, seconds):
            begun.append(path.parts[-3])
            future = Future()
            future.set_result(f"{begun[-1]}'s outputs")
            return future

        def shutdown(self, **_):
            pass

    class Step(nbgrader_steps.Grade):
        pool, ahead, queue = None, {}, None

    monkeypatch.setattr(nbgrader_steps, "ProcessPoolExecutor", lambda *_, **__: Pool())
    monkeypatch.setattr(nbgrader_steps, "prepared", [f"{tmp_path}/prepared"])
    for folder, students in (("prepared", "abcde"), ("autograded", "ad")):
        for student in students:
            (tmp_path / folder / student / "session4").mkdir(parents=True)
            (tmp_path / folder / student / "session4/part1.ipynb").touch()
    step = Step(jobs=2)
    for student, expected in {"a": "ab", "b": "abc", "c": "abce", "e": "abce"}.items():
        path = tmp_path / "autograded" / student / "session4/part1.ipynb"
        assert step.graded(path, student) == f"{student}'s outputs"
        assert begun == [*expected]


def automatic(scores, stem):
    """The points that checks gave."""
    return {name: scores[stem][name] for name in points(stem)}


@each
@pytest.mark.usefixtures("graded")
def test_the_release_is_current(course, stem):
    made, committed = (
        json.loads((folder / f"release/session4/{stem}.ipynb").read_text())
        for folder in (course, ASSIGNMENT)
    )
    command = "cd notebooks/assignment && nbgrader generate_assignment session4 --force"
    assert made == committed, f"make the release again: {command}"


def test_every_command_does_its_work(graded):
    assert {name: status for name, (status, _) in graded[0].items()} == {
        **dict.fromkeys(graded[0], 0)
    }, graded[0]


@each
def test_the_solution_gets_every_automatic_point(graded, stem):
    got = automatic(graded[1][SOLUTION], stem)
    ungraded = {"check-run": None} if "check-run" in got else {}  # as MNIST is not available
    assert got == points(stem) | ungraded


def test_the_untouched_release_gets_none_whatever_lies_beside_it(graded):
    scores = graded[1][UNTOUCHED][PART1]
    assert set(scores) == {*points(PART1), *points(PART1, automatic=False)}
    assert set(scores.values()) == {0}


@each
def test_written_answers_wait_for_people(graded, stem):
    scores = graded[1][SOLUTION][stem]
    assert {scores[name] for name in points(stem, automatic=False)} <= {None}


def test_what_is_broken_or_cheats_costs_its_own_exercise(graded):
    said, scores = graded
    lost = ("check-train", "check-bias-gradients", "check-workbook")
    want = points(PART1) | dict.fromkeys(lost, 0)
    assert automatic(scores[BROKEN], PART1) == want
    told = said["autograde"][1].rpartition("Not graded, look at these:")[2]
    assert f"{BROKEN}, part3_experiment: part3_experiment.ipynb: no notebook" in told


def test_feedback_and_grades_come_out(course, graded):
    page = (course / f"feedback/{SOLUTION}/session4/{PART1}.html").read_text()
    assert "data:image/png" in page  # the network
    assert "✓ right" in page
    with (course / "grades.csv").open() as file:
        exported = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    broken = sum(points(PART1).values()) - 3 - 3 - 6
    want = sum(
        value or 0 for stem in STEMS for value in automatic(graded[1][SOLUTION], stem).values()
    )
    assert exported == {SOLUTION: want, UNTOUCHED: 0, BROKEN: broken}


def test_the_overview_reads_the_gradebook(course, graded):
    found = {row["student"]: row for row in report.overview(course / "submitted")}
    for stem in STEMS:
        got = sum(value or 0 for value in automatic(graded[1][SOLUTION], stem).values())
        assert found[SOLUTION]["parts"][stem]["automatic"] == got
        ungraded = {"part2_network": "check-run"}.get(stem, "")
        assert found[SOLUTION]["parts"][stem]["not_graded"] == ungraded
    assert found[BROKEN]["parts"]["part3_experiment"]["not_graded"]
    remarks = "\n".join(found[BROKEN]["remarks"])
    assert "bias-gradients uses" in remarks
    assert "check-update: put back" in remarks
