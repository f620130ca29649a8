"""Grading as a course needs it: submissions as they come, and checks that no answer can reach.

Each broken kind and each cheat goes once through the grading pass, on a notebook of one exercise.
"""

import contextlib
import copy
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from notebooks.assignment import grade, report, sandbox, submission, wire
from notebooks.assignment.compare import NotGradedError

PART, RELEASED = "part1_backpropagation", submission.RELEASE
RIGHT = """def forward(inputs, weights, biases=(0, 0)):
    i1, i2 = inputs
    w1, w2, w3, w4, w5, w6, w7, w8 = weights
    h1, h2 = w1 * i1 + w2 * i2 + biases[0], w3 * i1 + w4 * i2 + biases[0]
    a_h1, a_h2 = 1 / (1 + np.exp(-h1)), 1 / (1 + np.exp(-h2))
    o1, o2 = w5 * a_h1 + w6 * a_h2 + biases[1], w7 * a_h1 + w8 * a_h2 + biases[1]
    return h1, h2, a_h1, a_h2, o1, o2, 1 / (1 + np.exp(-o1)), 1 / (1 + np.exp(-o2))"""
WRONG = "def forward(inputs, weights, biases=(0, 0)):\n    return [0.5] * 8"
WORDS = "The gradients of $w_5$ and $w_6$ change."
NUMBERS = "import numpy as np\nfrom notebooks.assignment.personal import personal_numbers"


@pytest.fixture(scope="module", autouse=True)
def one_exercise(tmp_path_factory):
    """A release of one exercise and one question, with the setup that all have."""
    folder = tmp_path_factory.mktemp("release")
    whole = json.loads((submission.RELEASE / f"{PART}.ipynb").read_text())
    names = ("setup", "numbers", "forward", "check-forward", "explain-target")
    whole["cells"] = [
        cell
        for cell in map(submission.tidy, whole["cells"])
        if submission.name_of(cell) in names or submission.is_parameters(cell)
    ]
    for cell in whole["cells"]:
        if submission.name_of(cell) == "numbers":
            cell["source"] = NUMBERS  # matplotlib would take half a second each time
    (folder / f"{PART}.ipynb").write_text(json.dumps(whole))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission, "RELEASE", folder)
        yield


def solved(answer=RIGHT, **changes) -> list[dict]:
    """The cells of the exercise with an answer in it, and other cells by grade_id."""
    cells = submission.cells_of(submission.RELEASE / f"{PART}.ipynb")
    for cell in cells:
        name = submission.name_of(cell)
        cell["source"] = {"forward": answer, "explain-target": WORDS}.get(name, cell["source"])
        cell["source"] = changes.get(name, cell["source"])
        if submission.is_parameters(cell):
            cell["source"] = 'student = "4711"'
    return cells


def write(folder: Path, cells: list[dict], name=f"{PART}.ipynb", **whole) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells, **whole}
    (folder / name).write_text(json.dumps(whole), "utf-8")
    return folder / name


def index(cells: list[dict], name: str) -> int:
    return [submission.name_of(cell) for cell in cells].index(name)


def code(source: str) -> dict:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}


# Submissions as they come


def without(name):
    def change(cells):
        del cells[index(cells, name)]
        return cells

    return change


def stripped(cells):
    return [{**cell, "metadata": {}} for cell in cells]


def copied(name):
    return lambda cells: (
        cells[: index(cells, name)] + cells[index(cells, name) :][:1] + cells[index(cells, name) :]
    )


def split(cells):
    k = index(cells, "forward")
    lines = cells[k]["source"].split("\n")
    halves = ["\n".join(lines[:4]), "\n".join(lines[4:])]
    return cells[:k] + [{**cells[k], "source": half} for half in halves] + cells[k + 1 :]


def in_another_cell(cells):
    k = index(cells, "forward")
    cells[k] = code(cells[k]["source"])
    return cells


def reordered(cells):
    k = index(cells, "check-forward")
    return [*cells[:k], *cells[k + 1 :], cells[k]]


def own_graded_cell(cells):
    mark = {"grade": True, "grade_id": "mine", "points": 99, "solution": False, "locked": True}
    return [*cells, code("1 + 1") | {"metadata": {"nbgrader": {**mark, "schema_version": 3}}}]


def one_id(cells):
    return [{**cell, "id": "same"} for cell in cells]


def raised_points(cells):
    cells[index(cells, "check-forward")]["metadata"]["nbgrader"]["points"] = 300
    cells[index(cells, "check-forward")]["source"] = "300"
    return cells


def question_as_code(cells):
    cells[index(cells, "explain-target")]["cell_type"] = "code"
    return cells


CHANGED = {
    "as it should be": lambda cells: cells,
    "check deleted": without("check-forward"),
    "setup deleted": without("setup"),
    "check copied": copied("check-forward"),
    "answer copied": copied("forward"),
    "answer split": split,
    "answer in a new cell": in_another_cell,
    "marks stripped": stripped,
    "check moved": reordered,
    "own graded cell": own_graded_cell,
    "one id for all": one_id,
    "points raised": raised_points,
    "question made code": question_as_code,
}
graded_before = {}


def points(folder: Path) -> tuple[float | None, dict]:
    """The points of the exercise, and its part; what has the same cells is graded once."""
    with pytest.MonkeyPatch.context() as patch:
        ask = grade.grade_cells

        def once(cells, folder, seconds):
            key = json.dumps([cell["source"] for cell in cells])
            if key not in graded_before:
                graded_before[key] = ask(cells, folder, seconds)
            return graded_before[key]

        patch.setattr(grade, "grade_cells", once)
        part = grade.grade(folder)["parts"][PART]
    return part["checks"][0]["points"] if part["checks"] else None, part


@pytest.mark.parametrize("kind", CHANGED)
def test_cells_that_were_changed_cost_nothing(kind, tmp_path):
    """And the words for people are kept."""
    changed = CHANGED[kind](solved())
    write(tmp_path / "4711/session4", changed)
    got, part = points(tmp_path / "4711/session4")
    assert (got, part["not_graded"], part["number"]) == (3, "", "4711")
    release = submission.cells_of(submission.RELEASE / f"{PART}.ipynb")
    cells = submission.restore(changed, release).cells
    marked = [submission.name_of(cell) for cell in cells if submission.name_of(cell)]
    assert marked == [submission.name_of(cell) for cell in release if submission.name_of(cell)]
    assert cells[index(cells, "explain-target")]["source"] == WORDS
    assert cells[index(cells, "explain-target")]["cell_type"] == "markdown"


def test_a_deleted_answer_costs_its_own_exercise_and_is_named(tmp_path):
    write(tmp_path / "4711", without("forward")(solved()))
    got, part = points(tmp_path / "4711")
    assert got == 0
    assert "forward: missing" in part["notes"]


def test_a_deleted_question_leaves_the_others(tmp_path):
    cells = [*without("explain-target")(solved()), code("x = 1")]
    write(tmp_path / "4711", cells)
    assert points(tmp_path / "4711")[0] == 3


def test_a_check_whose_output_is_no_check_s_is_named():
    release = submission.cells_of(submission.RELEASE / f"{PART}.ipynb")
    for text, named in (("passed!", True), ("✓ right", False), ("✗ h1: wrong", False)):
        cells = solved()
        stream = {"output_type": "stream", "name": "stdout", "text": text}
        cells[index(cells, "check-forward")]["outputs"] = [stream]
        assert bool(submission.restore(cells, release).notes) == named


def renamed(folder):
    write(folder, solved(), f"{PART} (1).ipynb")


def copy_beside_untouched(folder):
    write(folder, submission.cells_of(submission.RELEASE / f"{PART}.ipynb"))
    write(folder, solved(), f"{PART}-Copy1.ipynb")


def byte_order_mark(folder):
    path = write(folder, solved())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def zip_in_zip(folder):
    inner, outer = folder / "session4.zip", folder / "all.zip"
    path = write(folder, solved())
    for archive, name in ((inner, path), (outer, inner)):
        with zipfile.ZipFile(archive, "w") as opened:
            opened.write(name, f"session4/{name.name}")
            opened.writestr("__MACOSX/._x.ipynb", "no notebook")
        name.unlink()


def with_the_course_inside(folder):
    """Colab's folder has the course's code, cloned, beside the notebook."""
    write(folder, solved())
    blank = submission.cells_of(submission.RELEASE / f"{PART}.ipynb")
    write(folder / "session4/notebooks/assignment/release/session4", blank)
    solution = solved("### BEGIN SOLUTION\nforward = None\n### END SOLUTION")
    write(folder / "session4/notebooks/assignment/source/session4", solution)
    for name in ("s4lib", "backprop"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("raise SystemExit")


def from_canvas(folder):
    """Somebody may unpack the archive of all submissions, whose files have long names."""
    write(folder, solved(), f"doejane_LATE_4711_815_{PART}-1.ipynb")


def nested(folder):
    write(folder / "session4/session4/my work", solved())


def old_format(folder):
    cells = [{**c, "input": c["source"]} if c["cell_type"] == "code" else c for c in solved()]
    write(folder, [], nbformat=3, worksheets=[{"cells": cells}])


def widgets_without_state(folder):
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {}}}
    write(folder, solved(), metadata=metadata)


LAID_OUT = [renamed, copy_beside_untouched, byte_order_mark, zip_in_zip, with_the_course_inside]
LAID_OUT += [nested, from_canvas, old_format, widgets_without_state]


@pytest.mark.parametrize("lay_out", LAID_OUT)
def test_files_wherever_they_lie(lay_out, tmp_path):
    lay_out(tmp_path / "4711")
    got, part = points(tmp_path / "4711")
    assert (got, part["not_graded"]) == (3, "")
    assert not any("is called" in note for note in part["notes"])


def test_a_name_of_one_s_own_is_named(tmp_path):
    write(tmp_path / "4711", solved(), "My backprop.ipynb")
    assert "it is called My backprop.ipynb" in points(tmp_path / "4711")[1]["notes"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"<<<<<<< HEAD\n{", "no notebook"),
        (b'{"cells": 3}', "there are no cells"),
        (b"[" * 100_000, "no notebook"),
        (None, "no notebook was handed in (the course's own source does not count)"),
    ],
)
def test_what_is_no_notebook_is_not_graded_and_says_so(content, reason, tmp_path):
    folder = tmp_path / "submitted/4711"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / f"{PART}.ipynb").write_bytes(content)
    got, part = points(folder)
    assert got is None
    assert reason in part["not_graded"]
    (row,) = report.overview(folder.parent)
    assert f"{PART} not graded: " in report.as_text([row])
    assert report.as_csv([row]).splitlines()[1].startswith("4711,,,,")  # and no 0


@pytest.mark.parametrize(
    "changed",
    ["{}", "{}-1", "{} (1)", "doejane_4711_815_{}-2", "{} copy", "Kopie_{}"],
)
def test_the_files_beside_a_notebook_have_the_names_that_platforms_give(changed, tmp_path):
    names = "workbook.xlsx", "experiment.json", "weights.pt", "history.json"
    (tmp_path / "4711").mkdir()
    for name in names:
        stem, suffix = name.split(".")
        (tmp_path / f"4711/{changed.format(stem)}.{suffix}").write_text(name)
    (tmp_path / "4711/my_weights_old.pt.txt").write_text("other")
    submission.collect(tmp_path / "4711", tmp_path / "into")
    for name in (*names[:2], *(f"run/{one}" for one in names[2:])):
        assert (tmp_path / "into" / name).read_text() == Path(name).name


def test_an_archive_can_not_write_elsewhere(tmp_path):
    with zipfile.ZipFile(tmp_path / "4711.zip", "w") as archive:
        archive.writestr("../../outside.txt", "x")
        archive.writestr("/outside.txt", "x")
        archive.writestr(f"{PART}.ipynb", "{}")
    submission.collect(tmp_path / "4711.zip", tmp_path / "a/b/into")
    assert [*tmp_path.rglob("outside*")] == []


# Answers that do something to the process they run in


NOISE = {
    "Python's stderr": "import sys\nprint('noise', file=sys.stderr)",
    "file descriptor 2": "import os\nos.write(2, b'[W NNPACK.cpp:61] noise')",
    "file descriptor 1": "import os\nos.write(1, b'noise')",
    "logging": "import logging\nlogging.basicConfig(level=logging.DEBUG)\nlogging.info('noise')",
    "another backend": "import matplotlib\nmatplotlib.use('TkAgg')",
    "another folder": "import os\nos.chdir('/')",
    "IPython's lines": "!echo noise\n%matplotlib inline\n%pdb on",
    "numpy's errors": "import numpy as np\nnp.seterr(all='raise')",
}


def test_noise_costs_nothing(tmp_path):
    first = "\n".join(NOISE.values())
    cells = [
        *solved()[:3],
        code(first),
        *solved(RIGHT.replace("    i1,", f"    {NOISY}\n    i1,"))[3:],
    ]
    got, _ = points(write(tmp_path / "4711", cells).parent)
    assert got == 3


NOISY = (
    "import os, sys, logging; os.write(2, b'x'); print('x', file=sys.stderr); logging.error('x')"
)

PATCHED = "notebooks.assignment."
CHEATS = {
    "setattr": "import notebooks.assignment.part1 as part1\n"
    "setattr(part1, 'check_forward', lambda *_: print('✓ right'))",
    "a module replaced": "import sys, types\nfake = types.ModuleType('part1')\n"
    "fake.check_forward = lambda *_: None\nsys.modules['notebooks.assignment.part1'] = fake",
    "numpy patched": "np.isclose = lambda *a, **k: np.array(True)\n"
    "np.asarray = lambda *a, **k: np.zeros(1)",
    "a code object changed": "import notebooks.assignment.compare as compare\n"
    "compare.compare.__code__ = (lambda *a, **k: None).__code__",
    "stack frames": "import sys\ndef forward(*numbers):\n    frame = sys._getframe()\n"
    "    while frame:\n        for name in ('want', 'expected', 'asked'):\n"
    "            if name in frame.f_locals:\n                return frame.f_locals[name][0]\n"
    "        frame = frame.f_back",
    "garbage": "import gc\ndef forward(*numbers):\n    arrays = [o for o in gc.get_objects() if "
    "isinstance(o, np.ndarray) and o.shape[-1:] == (8,)]\n    return arrays[0][0]",
    "the course's function": "from backprop.network import sigmoid, errors\n"
    "import notebooks.assignment.slips as slips\nforward = slips.pass_back",
    "lying numbers": "class Any(float):\n    __eq__ = lambda *_: True\n"
    "    __sub__ = __rsub__ = lambda *_: 0\n    __hash__ = None\n"
    "def forward(*numbers):\n    return [Any()] * 8",
    "a lying array": "class Any:\n    def __array__(self, *a, **k):\n        return np.ones(8)\n"
    "    def __iter__(self):\n        return iter([1.0] * 8)\n"
    "def forward(*numbers):\n    return Any()",
    "replies forged": "import os, json, struct\nreply = json.dumps({'value': 1}).encode()\n"
    "for number in range(3, 30):\n    try:\n"
    "        os.write(number, struct.pack('>Q', len(reply)) + reply)\n"
    "    except OSError:\n        pass",
    "the worker patched": "import sys\nworker = sys.modules['__main__']\n"
    "import notebooks.assignment.wire as wire\nwire.encode = lambda *a: {'sent': 0}",
    "cells swallowed": "ip = get_ipython()\nip.run_cell = lambda *a, **k: None\n"
    "ip.input_transformers_cleanup.append(lambda lines: ['pass'])",
    "errors swallowed": "get_ipython().set_custom_exc((Exception,), lambda *a: None)",
    "sys.exit": "import sys\ndef forward(*numbers):\n    sys.exit(0)",
    "os._exit": "import os\ndef forward(*numbers):\n    os._exit(0)",
    "a builtin": "import builtins\nbuiltins.float = lambda *_: 1.0\nbuiltins.len = lambda *_: 8",
    "the gradebook": "import sqlite3\nfor path in ('../gradebook.db', GRADEBOOK):\n"
    "    book = sqlite3.connect(path)\n    book.execute('update grade set manual_score = 40')\n"
    "    book.commit()",
    "attributes of anything": "class Any:\n    def __getattr__(self, name):\n"
    "        return lambda *a, **k: 0.0\n    __float__ = lambda self: 0.0\n"
    "def forward(*numbers):\n    return Any()",
    "a thread that stays": "import sys, threading\ndef patch():\n    while True:\n"
    "        sys.modules['notebooks.assignment.wire'].encode = lambda *a: [0.5] * 8\n"
    "threading.Thread(target=patch, daemon=True).start()",
    "at the end": "import atexit, os\natexit.register(lambda: os._exit(0))",
    "json patched": "import json\nold = json.dumps\n"
    "json.dumps = lambda value, *a, **k: old({**value, 'points': 3})",
    "a reply before the answer": "import gc, json, os, struct\ndef forward(*numbers):\n"
    "    (worker,) = [o for o in gc.get_objects() if type(o).__name__ == 'Worker']\n"
    "    worker.write({'value': {'value': True, 'points': 3}})\n    return [0.5] * 8",
    "calls of what was not sent": "import gc\ndef forward(*numbers):\n"
    "    (worker,) = [o for o in gc.get_objects() if type(o).__name__ == 'Worker']\n"
    "    return [worker.call_back(k, numbers, {}) for k in range(9)][-1]",
    "the grader's process": "import glob, os\nfound = []\n"
    "for name in ('environ', 'cmdline', 'mem', 'cwd/gradebook.db'):\n"
    "    for path in glob.glob(f'/proc/*/{name}'):\n        try:\n"
    "            found.append(open(path, 'rb').read(100))\n"
    "        except (OSError, ValueError):\n            pass\n"
    "os.write(2, str(found).encode())",
    "no more signals": "import signal\nsignal.setitimer = lambda *a: None\n"
    "for one in (signal.SIGPROF, signal.SIGALRM):\n    signal.signal(one, signal.SIG_IGN)\n"
    "def forward(*numbers):\n    sys._getframe()\n    return [0.5] * 8",
    "the solution": "import json, pathlib\n"
    "for path in pathlib.Path(PROJECT).rglob('source/session4/part1*'):\n"
    "    for cell in json.loads(path.read_text())['cells']:\n"
    "        if 'def forward' in ''.join(cell['source']):\n"
    "            exec(''.join(cell['source']))",
}


@pytest.mark.parametrize("way", CHEATS)
def test_cheats_earn_nothing_and_are_named(way, tmp_path):
    if way in ("the gradebook", "the solution") and not sandbox.confined():
        pytest.skip("needs bubblewrap, where it may be used")
    book = tmp_path / "gradebook.db"
    with sqlite3.connect(book) as opened:
        opened.execute("create table grade (manual_score real)")
        opened.execute("insert into grade values (1)")
    places = {"GRADEBOOK": repr(str(book)), "PROJECT": repr(str(sandbox.PROJECT))}
    cheat = re.sub("GRADEBOOK|PROJECT", lambda found: places[found[0]], CHEATS[way])
    source = cheat if "def forward" in cheat or "forward =" in cheat else f"{WRONG}\n{cheat}"
    made = grade.grade_cells(solved(source), tmp_path, seconds=20)
    assert made["checks"][0]["points"] == 0
    with sqlite3.connect(book) as opened:
        assert opened.execute("select manual_score from grade").fetchall() == [(1,)]
    named = report.suspicious({"forward": cheat})
    assert named


HONEST = (
    "import numpy as np\nnp.exp(1)",
    "!python -m notebooks.assignment check workbook.xlsx --student 4711",
    "!pip install s4lib\n%matplotlib inline",
    "net.eval()\n'the network of Part 2'",
    "class Value:\n    def __init__(self, x):\n        self.x = x\n"
    "    def __sub__(self, other):\n        return Value(self.x - other.x)\n"
    "    def __eq__(self, other):\n        return self.x == other.x\n"
    "    __float__ = lambda self: self.x",
    "from s4lib import *\ndigits = load()",
)
TAKEN = (  # ways to the course's own answers, which they are worth points by
    "from backprop.network import forward",
    "import backprop.network as n\nforward = n.forward",
    "import backprop\nforward = backprop.network.forward",
    "from backprop import network as n\nforward = n.forward",
    "from backprop.network import *\nforward = forward",
    "import importlib\nforward = importlib.import_module('backprop.' + 'network').forward",
    "forward = __import__('backprop.network', fromlist='x').forward",
    "import sys\nforward = sys.modules['backprop.' + 'network'].forward",
    "exec(open('backprop/net' + 'work.py').read())",
    "import pathlib\nsource = next(pathlib.Path('/').rglob('network.py')).read_text()",
    "!cat ../backprop/network.py",
    "%run -m backprop.network",
    "from s4lib import *\nsees = receptive_fields(Net)",
)


def test_what_is_honest_is_not_suspicious_and_what_is_taken_is_named():
    for source in (RIGHT, *HONEST):
        assert report.suspicious({"forward": source}) == []
    for source in TAKEN:
        assert report.suspicious({"forward": source}), source


def test_a_number_that_changes_is_that_of_the_first_check_and_is_named(tmp_path):
    """Whoever hands in a neighbour's workbook would be that neighbour for the check below it."""
    cells = solved()
    k = index(cells, "check-forward")
    write(tmp_path / "4711", cells)
    later = {**cells[k], "source": "print(student)"}
    cells = [*cells[: k + 1], code("student = '4712'"), later]
    made = grade.grade_cells(cells, tmp_path / "4711")
    assert made["checks"][1]["output"] == "4711"
    assert made["number"] == "4711"
    assert made["notes"] == ["the student number is 4711 at the first check, and 4712 at the end"]
    checks = [{"name": "check-forward", "points": 3.0, "max": 3.0, "output": "✓ right"}]
    part = {"points": 3.0, "not_graded": "", "notes": [], "checks": checks, "number": "4712"}
    facts = report.facts_of(tmp_path / "4711")
    row = report.row("4711", facts, {"parts": {PART: part}}, None, None)
    text = f"{PART}: its checks were asked with the number 4712, its first cell has 4711"
    assert text in row["remarks"]


def test_files_beside_the_notebook_replace_nothing_and_are_read(tmp_path):
    """Also what is called like a package, and links to what is not the student's."""
    (tmp_path / "secret.xlsx").write_text("a neighbour's")
    (tmp_path / "others").mkdir()
    (tmp_path / "others/experiment.json").write_text("{}")
    folder = write(tmp_path / "4711", solved()).parent
    for name in ("backprop", "s4lib", "notebooks", "json", "IPython", "sitecustomize"):
        (folder / f"{name}.py").write_text("raise SystemExit")
    (folder / "helper.py").write_text("from backprop.network import forward")
    (folder / "workbook.xlsx").symlink_to(tmp_path / "secret.xlsx")
    (folder / "folder").symlink_to(tmp_path / "others")
    assert points(folder)[0] == 3
    submission.collect(folder, tmp_path / "into")
    assert not (tmp_path / "into/workbook.xlsx").exists()
    assert not (tmp_path / "into/experiment.json").exists()
    remarks = report.facts_of(folder)["remarks"]
    assert remarks == ["helper.py uses backprop.network.forward"]


def test_waiting_is_not_computing_but_ends_as_well(tmp_path):
    with contextlib.closing(sandbox.Process(tmp_path, seconds=1)) as process:
        process.run("import time")
        assert grade.text_of(process.run("time.sleep(1.5)")) == ""
        assert "longer than 1 seconds" in grade.text_of(process.run("time.sleep(60)"))


def test_an_answer_that_hangs_or_ends_costs_its_own_exercise(tmp_path):
    hangs = "def forward(*numbers):\n    while True:\n        pass"
    cells = solved(hangs)
    cells.insert(0, code("import os\nos._exit(3)"))
    again = [{**cell} for cell in solved()[-3:]]  # the next exercise, as it were
    made = grade.grade_cells([*cells, *again], tmp_path, seconds=2)
    first, second = made["checks"]
    assert (first["points"], second["points"]) == (0, 3)
    assert "longer than 2 seconds" in first["output"]
    assert "was left out" in grade.text_of(made["outputs"][0])


@pytest.mark.skipif(not sandbox.confined(), reason="needs bubblewrap, where it may be used")
def test_what_a_confined_answer_can_reach(tmp_path):
    (tmp_path / "session4").mkdir()
    (tmp_path / "session4/data.csv").write_text("1")
    (tmp_path / "neighbour").write_text("secret")
    with contextlib.closing(sandbox.Process(tmp_path / "session4")) as process:
        process.run(
            "import os, socket, pathlib\n"
            "def reach(): \n"
            "    try:\n        socket.create_connection(('127.0.0.1', 22), 1)\n"
            "        return 'network'\n    except OSError:\n        pass\n"
            f"    there = [pathlib.Path(p).exists() for p in {[str(tmp_path / 'neighbour')]!r}]\n"
            "    pathlib.Path('data.csv').write_text('2')\n"
            "    try:\n        bytearray(10**11)\n"
            "    except MemoryError:\n        there.append('memory')\n"
            "    tests = [*pathlib.Path('/').glob('**/assignment/source')]\n"
            "    return there, pathlib.Path('data.csv').read_text(), len(tests)"
        )
        assert process.name("reach")() == ([False, "memory"], "2", 0)
    assert (tmp_path / "session4/data.csv").read_text() == "1"


# Answers of every kind


VALUES = {
    "tuples": "(1, 2.5, 'x', None, True)",
    "arrays": "np.arange(6.0).reshape(2, 3)",
    "float32": "np.float32(0.5)",
    "integers of numpy": "np.int64(7)",
    "generators": "(k for k in range(3))",
    "maps": "map(float, '123')",
    "dictionaries": "{'a': [1, 2], 3: 'b'}",
    "sets": "{1, 2}",
    "infinities": "[float('inf'), -float('inf')]",
    "fractions": "__import__('fractions').Fraction(1, 4)",
    "long integers": "10**30",
}


def test_values_come_back_as_they_are(tmp_path):
    with contextlib.closing(sandbox.Process(tmp_path)) as process:
        process.run(
            "import numpy as np\nclass Odd:\n    pass\ndef fails():\n    x = 1\n    return y"
        )
        for name, source in VALUES.items():
            process.run(f"value = {source}")
            got, want = process.name("value"), eval(source)
            want = [*want] if name in ("generators", "maps") else want
            if name == "fractions":
                want = float(want)
            assert type(got) is type(want), name
            assert np.array_equal(got, want) if name == "arrays" else got == want, name
        process.run("value = Odd()")
        assert type(process.name("value")).__name__ == "Odd"
        with pytest.raises(NameError, match="name 'y' is not defined") as error:
            process.name("fails")()
        lines = [frame.lineno for frame in error.traceback]
        assert lines[-2] + 1 == 6  # of the student's cell
        with pytest.raises(NameError):
            process.name("missing")


@pytest.mark.parametrize(
    "message",
    [
        {"array": "AAAA", "dtype": "O", "shape": [1]},
        {"array": "AAAA", "dtype": "<f8", "shape": [10**12]},
        {"record": "Popen", "fields": {"args": "true"}},
        {"sent": 99},
        {"network": "x"},
        {},
    ],
)
def test_nothing_but_plain_data_is_made_of_a_message(message):
    class Known:
        sent = ()

        def records(self):
            return {}

        def network(self, number):
            raise AssertionError

    try:
        made = wire.decode(message, Known())
    except wire.LostError:
        return
    assert isinstance(made, wire.Opaque)


NETWORKS = """
import torch, functools
import torch.nn.functional as F
from torch import nn

class Plain(nn.Module):
    def __init__(self, pool=nn.MaxPool2d):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), pool(2), nn.Dropout2d(0.1))
        self.fc = nn.Linear(4, 10)
    def forward(self, x):
        x = self.features(x).mean((2, 3))
        return F.log_softmax(self.fc(x), dim=1)

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    def forward(self, x):
        return x + F.relu(self.norm(self.conv(x)), inplace=True)

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 5, 2)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.blocks.append(self.blocks[0])  # shared
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.register_buffer("shift", torch.zeros(4, 1, 1))
        self.fc = nn.Linear(8, 10)
    def forward(self, x):
        n, channels, height, width = x.shape
        x = self.first(x)
        for block in self.blocks:
            x = block(x) * self.scale + self.shift
        a, b = x.chunk(2, dim=1)
        x = torch.cat([a, b, x[:, ::2], F.max_pool2d(x, 3, 1, 1)[:, 2:]], 1)
        x = F.adaptive_avg_pool2d(x, 1).view(n, -1)
        x = F.dropout(x, 0.2, self.training)
        x -= torch.zeros(n, 8) + x.size(0) * 0
        return self.fc(x).log_softmax(-1)

def make():
    return Plain(nn.AvgPool2d)

one = Plain()
kinds = [Plain, Odd, functools.partial(Plain, nn.AvgPool2d), make, lambda: one]

class Depends(Plain):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else x * 2)
class Counts(Plain):
    calls = 0
    def forward(self, x):
        Counts.calls += 1
        return super().forward(x) * Counts.calls
class Breaks(Plain):
    def forward(self, x):
        return self.fc(x)
"""


def test_a_network_is_the_same_here_and_there_or_is_not_graded(tmp_path):
    import torch

    from notebooks.assignment.checklist import check_network

    space = {}
    exec(NETWORKS, space)
    with contextlib.closing(sandbox.Process(tmp_path)) as process:
        process.run(NETWORKS)
        answers = process.name("kinds")
        for there, here in zip(answers, space["kinds"], strict=True):
            torch.manual_seed(1)
            replica = there()  # raises unless outputs and gradients agree
            torch.manual_seed(1)
            original = here()
            names = [*original.state_dict()]
            assert [*replica.state_dict()] == names
            if here is not space["kinds"][-1]:
                weights = original.state_dict()
                assert all(torch.equal(weights[k], v) for k, v in replica.state_dict().items())
                assert [*map(str, check_network(replica))] == [*map(str, check_network(original))]
            assert type(replica).__name__ == type(original).__name__
        assert answers[-1]() is answers[-1]()
        assert answers[0]() is not answers[0]()
        for name in ("Depends", "Counts"):
            with pytest.raises(sandbox.UnclearError, match="can't be examined"):
                process.name(name)()
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            process.name("Breaks")()(torch.zeros(2, 1, 28, 28))
        process.run("import notebooks.assignment.replica as r\n_describe = r.describe\n"
                    "r.describe = lambda model, *a: _describe(Plain(), *a)")  # fmt: skip
        with pytest.raises(sandbox.UnclearError):
            process.name("Odd")()


# The overview, and what other programs read


def answer_one(stem: str, table="") -> list[dict]:
    """A released part with two answers begun, whose table printed `table`."""
    cells = submission.cells_of(RELEASED / f"{stem}.ipynb")
    for cell in [c for c in cells if submission.mark(c).get("solution")][:2]:
        cell["source"] += "  # begun"
    if table:
        output = {"output_type": "stream", "name": "stdout", "text": table}
        cells[index(cells, "table")]["outputs"] = [output]
    return cells


def test_the_overview_holds_experiments_against_their_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(submission, "RELEASE", RELEASED)
    name, results = "part3_experiment", {"a": [97.0, 97.5, 98.0], "b": [96.0, 96.5, 97.0]}
    tables = {
        "fits": "a: 97.50 ± 0.50 %\nb: 96.50 ± 0.50 %\n",
        "other": "a: 97.50 ± 0.50 %\nb: 98.50 ± 0.10 %\n",
        "cleared": "",
    }
    for student, table in tables.items():
        write(tmp_path / "submitted" / student, answer_one(name, table), f"{name}.ipynb")
        (tmp_path / "submitted" / student / "experiment-1.json").write_text(json.dumps(results))
    said = {
        row["student"]: "\n".join(row["remarks"]) for row in report.overview(tmp_path / "submitted")
    }
    differs = f"{name}: b: the table has 98.50 ± 0.10 %, experiment.json gives 96.50 ± 0.50 %"
    assert "the table has" not in said["fits"]
    assert differs in said["other"]
    assert "the notebook shows no table" in said["cleared"]
    assert "handed in without outputs" in said["cleared"]
    assert "experiment.json is the same in the submission of cleared, other" in said["fits"]
    assert f"{name}'s code is the same in the submission of cleared, fits" in said["other"]


def test_the_overview_says_when_a_history_does_not_fit_its_weights(tmp_path):
    (tmp_path / "submitted/4711").mkdir(parents=True)
    said = "✓ log\n✗ weights: predict 78 of 10,000 test images, history has 9,960"
    checks = [{"name": "check-run", "points": 5.0, "max": 5.0, "output": said}]
    part = {"points": 5.0, "not_graded": "", "notes": [], "checks": checks, "number": None}
    kept = {"4711": {"student": "4711", "parts": {stem: part for stem in submission.parts()}}}
    (tmp_path / "grades.json").write_text(json.dumps(kept))
    (row,) = report.overview(tmp_path / "submitted")
    assert f"{PART}: weights: predict 78 of 10,000 test images, history has 9,960" in row["remarks"]


def test_what_cannot_be_checked_here_has_no_points_rather_than_none():
    points, (output,) = grade.told(NotGradedError("MNIST is not available"))
    assert points is None
    assert output["evalue"] == "Not graded: MNIST is not available"


@pytest.fixture
def course(tmp_path):
    """Four students: two with one notebook, one who is somebody else, one who is late."""
    submitted = tmp_path / "submitted"
    for name in ("310001", "310002", "310003", "310004"):
        cells = solved(RIGHT.replace("h1", "h_1") if name == "310003" else RIGHT)
        number = {"310002": "310001", "310003": ""}.get(name, name)
        for cell in cells:
            if submission.is_parameters(cell):
                cell["source"] = f'student = "{number}"  # @param'
        write(submitted / name / "session4", cells)
        (submitted / name / "session4/timestamp.txt").write_text("2026-12-01 12:00:00 UTC")
        for file in ("workbook.xlsx", "run/weights.pt", "run/history.json"):
            (submitted / name / "session4" / file).parent.mkdir(exist_ok=True)
            (submitted / name / "session4" / file).write_text(f"of {min(name, '310002')}")
    book = sandbox.PROJECT / "backprop/backpropagation.xlsx"
    shutil.copy(book, submitted / "310003/session4/workbook.xlsx")
    cells = solved("from backprop.network import forward as f\nforward = f")
    write(submitted / "310004/session4", cells)
    (submitted / "310004/session4/timestamp.txt").write_text("2026-12-09 12:00:00")
    (tmp_path / "nbgrader_config.py").write_text('due = "2026-12-05 23:59"  # Sunday\n')
    return submitted


def test_the_overview_names_what_to_look_at(course):
    rows = {row["student"]: row for row in report.overview(course)}
    remarks = {name: "\n".join(row["remarks"]) for name, row in rows.items()}
    assert "the number 310001 is also the number of 310002" in remarks["310001"]
    assert "the number in the notebook is 310001" in remarks["310002"]
    assert "no student number" in remarks["310003"]
    assert "workbook.xlsx is the course's own backprop/backpropagation.xlsx" in remarks["310003"]
    for name in ("workbook.xlsx", "run/weights.pt"):
        assert f"{name} is the same in the submission of " in remarks["310004"]
        assert f"{name} is the same in the submission of " not in remarks["310001"]
    assert f"{PART}'s code is the same in the submission of 310002" in remarks["310001"]
    assert f"{PART}: forward uses backprop.network.forward" in remarks["310004"]
    assert "late: 2026-12-09" in remarks["310004"]
    assert "late" not in remarks["310001"]
    assert {row["parts"][PART]["not_graded"] for row in rows.values()} == {
        "has not been graded yet"
    }


def test_the_time_of_collecting_is_nobody_s(course):
    for path in course.rglob("timestamp.txt"):
        path.unlink()
    (course.parent / "nbgrader_config.py").write_text('due = "2001-01-01"')
    (course / "310001").rename(course / "doejane_LATE_310001")
    said = {row["student"]: "\n".join(row["remarks"]) for row in report.overview(course)}
    assert "late: Canvas says so" in said["doejane_LATE_310001"]
    assert "due 2001-01-01" in said["310002"]
    (course.parent / "downloaded").mkdir()
    said = {row["student"]: "\n".join(row["remarks"]) for row in report.overview(course)}
    assert "late: Canvas says so" in said["doejane_LATE_310001"]
    assert "late" not in said["310002"]


def test_one_student_is_graded_again_and_the_rest_is_kept(course, monkeypatch):
    asked = []

    def grade_all(sources, jobs):
        asked.append([path.name for path in sources])
        for path in sources:
            part = {"points": 3.0, "not_graded": "", "checks": [], "notes": []}
            yield {"student": path.name, "parts": {PART: part}}

    monkeypatch.setattr(report, "grade_all", grade_all)
    report.overview(course, jobs=2)
    rows = report.overview(course, students=["310002"])
    assert asked == [["310001", "310002", "310003", "310004"], ["310002"]]
    assert {row["parts"][PART]["automatic"] for row in rows} == {3.0}
    assert "310002" in report.as_text(rows)
    assert len(report.as_csv(rows).splitlines()) == 5


RESULT = {
    "student": "Jane Doe_4711_assignsubmission_file_",
    "parts": {
        PART: {
            **{"points": 3.0, "max": 4.0, "by_people": 1.0, "not_graded": "", "number": "4711"},
            "notes": ["check-errors: put back"],
            "checks": [
                {"name": "check-forward", "points": 3.0, "max": 3.0, "output": "✓ right"},
                {"name": "check-errors", "points": 0.0, "max": 1.0, "output": "✗ E1"},
            ],
        }
    },
}


def test_the_formats_of_other_programs():
    made = json.loads(grade.as_gradescope([RESULT]))
    assert [test["score"] for test in made["tests"]] == [3.0, 0.0]
    assert [test["status"] for test in made["tests"]] == ["passed", "failed"]
    head, row = grade.as_moodle([RESULT]).splitlines()
    assert head == "Identifier,Full name,Grade,Last modified (grade),Feedback comments"
    assert row == f"Participant 4711,Jane Doe,3,-,{PART}: check-errors: put back"
    assert json.loads(grade.as_json([RESULT]))["points"] == 3.0
    missing = copy.deepcopy(RESULT)
    missing["parts"][PART]["not_graded"] = "empty"
    assert grade.as_moodle([missing]).splitlines()[1].startswith("Participant 4711,Jane Doe,,-,")


def test_the_commands(tmp_path, capsys):
    main = report.main
    write(tmp_path / "submitted/4711", without("forward")(solved()))
    assert main(["grade", str(tmp_path / "missing")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    out = tmp_path / "results.json"
    folder = str(tmp_path / "submitted/4711")
    assert main(["grade", folder, "--format", "gradescope", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["tests"][0]["score"] == 0
    assert main(["grade", folder, folder, "--format", "gradescope"]) == 2
    assert main(["report", str(tmp_path / "submitted")]) == 0
    assert "4711" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert main(["report", str(tmp_path / "submitted"), "--student", "4712"]) == 2
    assert capsys.readouterr().err.endswith("submitted holds nothing of 4712.\n")


def test_the_overview_needs_no_torch(tmp_path):
    (tmp_path / "submitted/4711").mkdir(parents=True)
    program = (
        "import sys; from notebooks.assignment import report\n"
        f"report.main(['report', {str(tmp_path / 'submitted')!r}])\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=sandbox.PROJECT, capture_output=True)
    assert done.returncode == 0, done.stderr
