"""The assignment as a course lives it, with nbgrader itself: released, handed in, graded, returned.

Every notebook in `source/` takes part, and the first also with the mistakes that `tests/mistakes/`
plants in it; test_part2.py and test_part3.py make those of the others.
"""

import ast
import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from notebooks.assignment.personal import personal_numbers
from tests.mistakes import part1_backpropagation, part2_network
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


def gradable(stem) -> dict[str, float]:
    """The points of the solution where MNIST is not at hand: the run is then not graded."""
    return points(stem) | {name: 0 for name in points(stem) if name == "check-run"}


def mistakes() -> list[list[tuple]]:
    """The planted mistakes of part 1: of each answer the first, then of each the second."""
    rounds = [{}, {}]
    for mistake in part1_backpropagation.MISTAKES:
        free = [one for one in rounds if mistake[0] not in one]
        if free:
            free[0][mistake[0]] = mistake
    return [[*one.values()] for one in rounds]


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
    row = rf"^\|.*{stem}\.ipynb.*\| {most} \| {by_people} \|$"
    assert re.search(row, (ASSIGNMENT / "README.md").read_text(), re.M)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    in_headings = re.findall(r"^##.* \((?:(\d+) \+ )?(\d+) points?\)$", text, re.M)
    assert sum(int(one or 0) for pair in in_headings for one in pair) == most
    assert all(not cell.get("outputs") for cell in notebook.cells)


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
        sys.exit(NbGraderApp.launch_instance(words.split()))
    print("exit status", os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""  # of which every command alone takes two seconds to import


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


def hand_in(course, student, notebooks) -> Path:
    """Put notebooks, {stem: notebook}, where nbgrader collects them."""
    folder = course / "submitted" / student / "session4"
    folder.mkdir(parents=True)
    for stem, notebook in notebooks.items():
        nbformat.write(notebook, folder / f"{stem}.ipynb")
    return folder


MESSY = """
import os, sys, warnings
from pathlib import Path
for name in ("solution", "untouched"):
    folder = Path("../..", name, "session4")
    folder.mkdir(parents=True, exist_ok=True)
    Path(folder, "part1_backpropagation.ipynb").write_text("{}")
os.chdir("/")
print("noise", file=sys.stderr)
_right = bias_gradients
def bias_gradients(*numbers):
    warnings.warn("more noise")
    print("noise", file=sys.stderr)
    return _right(*numbers)
"""
HANGS = """
import time
def bias_gradients(*numbers):
    while True:
        time.sleep(1)
"""
EXITS = """
import os
os._exit(3)
"""
HOSTILE = {"exits": EXITS, "hangs": HANGS, "messy": MESSY}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course's folder beside the project's code, with all that is handed in."""
    home = tmp_path_factory.mktemp("project")
    for name in ("s4lib", "backprop", "notebooks", "images"):
        (home / name).symlink_to(PROJECT / name)
    course = home / "course"
    shutil.copytree(ASSIGNMENT / "source", course / "source")
    shutil.copy(ASSIGNMENT / "nbgrader_config.py", course)

    folder = hand_in(course, "solution", {stem: solved(stem) for stem in STEMS})
    write(folder / "workbook.xlsx", LAYOUTS["across"], personal_numbers(STUDENT), steps=50)
    part2_network.write_run(folder)
    released = read(ASSIGNMENT / f"release/session4/{PART1}.ipynb")
    folder = hand_in(course, "untouched", {PART1: released})
    for name in ("s4lib", "backprop"):  # in place of the course's own code, all is well
        (folder / name).mkdir()
        for module in ("__init__", "checks", "sheet", "personal"):
            forged = "def __getattr__(name):\n    return lambda *_: (1, 2, 3)"
            (folder / name / f"{module}.py").write_text(forged)
    for number, planted in enumerate(mistakes()):
        hand_in(course, f"mistakes{number}", {PART1: with_mistakes(planted)})
    for name, code in HOSTILE.items():
        answers = marked(solved(PART1))
        notebook = solved(PART1, {"bias-gradients": answers["bias-gradients"].source + code})
        if name == "messy":  # has also lost a check
            notebook.cells.remove(marked(notebook)["check-update"])
        hand_in(course, name, {PART1: notebook})
    return course


def with_mistakes(planted):
    """The solution of part 1 with these mistakes in it."""
    changed = {}
    for name, there, instead, _ in planted:
        source = marked(solved(PART1))[name].source
        assert source.count(there) == 1
        changed[name] = source.replace(there, instead)
    return solved(PART1, changed)


@pytest.fixture(scope="module")
def graded(course):
    """What each command said, release to grades; and {student: {stem: {grade_id: points}}}."""
    from nbgrader.api import Gradebook

    autograde = "autograde session4 --force --Execute.shutdown_kernel=immediate"  # waits for none
    commands = {
        "release": "generate_assignment session4 --create",
        "validate": f"validate release/session4/{PART1}.ipynb",
        "autograde": f"{autograde} --CourseDirectory.student_id_exclude=hangs",
        "hangs": f"{autograde} --student=hangs --Execute.timeout=6",
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


def automatic(scores, stem):
    """The points that checks gave."""
    return {name: scores[stem][name] for name in points(stem)}


def feedback(course, student, stem) -> str:
    """The words of the page that a student gets back."""
    page = (course / "feedback" / student / "session4" / f"{stem}.html").read_text()
    return html.unescape(re.sub("<[^>]+>", "", page))


@each
@pytest.mark.usefixtures("graded")
def test_the_release_is_current(course, stem):
    made, committed = (
        json.loads((folder / f"release/session4/{stem}.ipynb").read_text())
        for folder in (course, ASSIGNMENT)
    )
    command = "cd notebooks/assignment && nbgrader generate_assignment session4 --force"
    assert made == committed, f"make the release again: {command}"


@each
def test_the_solution_gets_every_automatic_point(graded, stem):
    assert automatic(graded[1]["solution"], stem) == gradable(stem)


def test_the_untouched_release_gets_none_whatever_lies_beside_it(course, graded):
    scores = graded[1]["untouched"][PART1]
    assert set(scores) == {*points(PART1), *points(PART1, automatic=False)}
    assert set(scores.values()) == {0}
    kept = (course / "autograded/untouched/session4").iterdir()
    assert not any(path.is_dir() for path in kept)


@each
def test_written_answers_wait_for_people(graded, stem):
    scores = graded[1]["solution"][stem]
    assert {scores[name] for name in points(stem, automatic=False)} <= {None}


@pytest.mark.parametrize("number", [0, 1])
def test_each_mistake_costs_its_cell_s_points_and_gets_its_hint(course, graded, number):
    lost = {f"check-{name}": hint for name, _, _, hint in mistakes()[number]}
    want = {name: 0 if name in lost else most for name, most in points(PART1).items()}
    want["check-workbook"] = 0  # none was handed in
    assert automatic(graded[1][f"mistakes{number}"], PART1) == want
    said = feedback(course, f"mistakes{number}", PART1)
    assert [hint for hint in lost.values() if hint not in said] == []


def test_ten_mistakes_are_planted_at_least():
    assert sum(map(len, mistakes())) >= 10


def test_hostile_submissions_cost_their_students_alone(graded):
    said, scores = graded
    full = points(PART1) | {"check-workbook": 0}
    assert automatic(scores["messy"], PART1) == full
    assert automatic(scores["hangs"], PART1) == full | {"check-bias-gradients": 0}
    assert said["hangs"][0] == 0, said["hangs"][1]

    status, log = said["autograde"]
    assert status == 1
    assert re.findall(r"Removing failed assignment: .*/(\w+)/session4", log) == ["exits"]
    assert set(scores["exits"][PART1].values()) <= {None, 0}


def test_feedback_and_grades_come_out(course, graded):
    said, _ = graded
    assert said["feedback"][0] == said["export"][0] == 0
    page = (course / f"feedback/solution/session4/{PART1}.html").read_text()
    assert page.count("data:image/png") == 2  # the network and the error graph
    with (course / "grades.csv").open() as file:
        exported = {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}
    want = sum(sum(gradable(stem).values()) for stem in STEMS)
    assert exported["solution"] == want
    assert exported["untouched"] == 0


@each
def test_nothing_is_missing_in_the_solution(course, graded, stem):
    from nbgrader.validator import Validator

    autograded = course / f"autograded/solution/session4/{stem}.ipynb"
    found = Validator(preprocessors=[]).validate(str(autograded))
    failed = [cell["source"].splitlines()[-1] for cell in found.get("failed", [])]
    assert failed == ['check_run(Net, here / "run")'] * ("check-run" in points(stem))


def test_validation_tells_a_student_what_is_missing(graded):
    count = len(points(PART1)) + len(points(PART1, automatic=False))
    assert f"\nVALIDATION FAILED ON {count} CELL(S)!" in graded[0]["validate"][1]
