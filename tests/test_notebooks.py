"""The notebooks run anywhere, read well, and nbval notices when what they show changes."""

import os
import re
import shutil
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from s4lib.runtime.device import choose_device

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

ROOT = Path(__file__).resolve().parents[1]
PATHS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
ONE, TWO, THREE = PATHS
IGNORED = "nbval-ignore-output"
SMALL = {"S4_DATASET": "digits", "S4_EPOCHS": "1", "S4_SLIDERS": "no", "OMP_NUM_THREADS": "1"}
SMALL |= {"S4_RECIPE": "classic", "S4_SEED": "0"}
WHERE = """
from importlib.util import find_spec
print(here, find_spec("s4lib").origin, os.environ.get("S4_DATA"), sep="\\n")
"""  # to import it would take three seconds

each = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def text(cell):
    return "".join(output.get("text", "") for output in cell.outputs)


# As it is committed


@each
def test_the_file_is_valid_and_small(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert path.stat().st_size < 1_000_000
    assert "widgets" not in notebook.metadata
    assert "widget-view" not in path.read_text()


@each
def test_it_was_run_from_top_to_bottom_without_a_complaint(path):
    notebook = read(path)
    counts = [cell.execution_count for cell in code(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for output in outputs(notebook):
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        said = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not re.search(r"Warning|\r|/(home|root|tmp|work|Users|content|kaggle)/", said)


@each
def test_headings_make_an_outline_from_what_to_what_next(path):
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^(#+) (.+)$", "\n".join(cells), re.MULTILINE)
    levels = [len(marks) for marks, _ in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert headings[-1] == ("##", "What to try next")
    assert all(source.count("$$") % 2 == 0 for source in cells)


@each
def test_setup_comes_first_and_is_the_same_everywhere_then_parameters(path):
    setup, parameters, *others = code(read(path))
    assert setup.source == code(read(ONE))[0].source
    assert setup.source.startswith("# @title ")
    assert len([line for line in setup.source.splitlines() if line]) <= 15
    assert setup.metadata["cellView"] == "form"  # collapsed in Colab, and in JupyterLab
    assert setup.metadata["jupyter"] == {"source_hidden": True}
    assert tags(parameters) == ["parameters"]
    assert "environ" not in parameters.source  # plain values: the library looks there
    assert not any("parameters" in tags(cell) for cell in others)


@each
def test_cells_tell_the_story_and_guard_nothing(path):
    for cell in code(read(path)):
        assert set(tags(cell)) <= {IGNORED, "parameters"}
        assert ".axes" not in cell.source  # what a figure holds is for tests/test_plots.py


@pytest.mark.parametrize(("path", "form"), [(ONE, "html"), (TWO, "slides"), (THREE, "html")])
def test_teachers_get_pages_and_slides(path, form):
    exporters = pytest.importorskip("nbconvert.exporters")
    page, _ = exporters.get_exporter(form)().from_filename(str(path))
    pictures = sum(
        "image/png" in output.get("data", {})
        or "<img" in output.get("data", {}).get("text/html", "")  # the playground's
        for output in outputs(read(path))
    )
    assert len(re.findall(r'<img [^>]*src="data:image/png', page)) == pictures
    assert read(path).cells[0].source.splitlines()[0].removeprefix("# ") in page.replace(
        "&#182;", ""
    )


# Anywhere


def copy(folder):
    """Copy what notebooks need of a fork of the project."""
    for name in ("s4lib", "backprop", "notebooks"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def run(notebook, cwd, allow_errors=False, under=(), **env):
    """Execute in `cwd`; the notebook as it is then, whether or not it ran through.

    `under` are the words before the command that starts the kernel.
    """
    where = {"metadata": {"path": str(cwd)}}
    client = nbclient.NotebookClient(notebook, resources=where, allow_errors=allow_errors)
    spec = client.create_kernel_manager().kernel_spec
    spec.argv = [*under, sys.executable, *spec.argv[1:]]  # also where no environment is activated
    try:
        client.execute(env={**os.environ, **SMALL, **env})
    except nbclient.exceptions.CellExecutionError:
        return notebook, False
    return notebook, True


def on(notebook, root, repository=""):
    """The notebook on a machine whose / is `root`, with `repository` typed into its form."""
    setup = code(notebook)[0]
    setup.source = re.sub(r'(repository = ")[^"]*"', rf'\g<1>{repository}"', setup.source)
    setup.source = re.sub(r'"/(content|kaggle)"', rf'"{root}/\1"', setup.source)
    return notebook


def until(path, last):
    """A notebook as far as the code cell with the text `last`."""
    notebook = read(path)
    (end,) = (cell for cell in code(notebook) if last in cell.source)
    notebook.cells = notebook.cells[: notebook.cells.index(end) + 1]
    return notebook


def found(cwd, root="", before=""):
    """Where the setup cell leads in `cwd`, on a machine whose / is `root`, after other code.

    The folder of the notebook, that of the s4lib which is imported, and that of MNIST. A plain
    Python runs the cell: it starts ten times as fast as a kernel.
    """
    setup = code(on(read(TWO), root))[0].source
    done = subprocess.run(
        [sys.executable, "-c", f"{before}\n{setup}\n{WHERE}"],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    here, module, mnist = map(Path, done.stdout.splitlines())
    return here, module.parents[1], mnist


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.delenv("S4_DATA", raising=False)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("folder", [".", "notebooks"])
def test_the_project_is_found_here_or_above(folder):
    folder = (ROOT / folder).resolve()
    assert found(folder) == (folder, ROOT, ROOT / "data")


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    "place", ["content/fork", "kaggle/working/fork", "kaggle/input/fork/fork-main"]
)
def test_the_project_is_found_where_colab_and_kaggle_put_it(place, tmp_path):
    home = copy(tmp_path / place)
    (tmp_path / "elsewhere").mkdir()
    assert found(tmp_path / "elsewhere", tmp_path)[1:] == (home, home / "data")


@pytest.mark.usefixtures("no_data")
def test_vs_code_s_kernel_starts_elsewhere_and_the_notebook_s_folder_counts(tmp_path):
    file = ROOT / "notebooks" / TWO.name
    said = found(tmp_path, before=f"__vsc_ipynb_file__ = {str(file)!r}")
    assert said == (file.parent, ROOT, ROOT / "data")


def test_folders_that_hold_no_s4lib_and_dead_mounts_are_passed_over(tmp_path):
    """The handed-out folder is also called session4; a lost connection raises in `is_dir`."""
    (tmp_path / "session4").mkdir()
    (tmp_path / "content/drive").mkdir(parents=True)
    home = copy(tmp_path / "content/fork")
    dead = """
import os, pathlib  # which in Python 3.10 keeps the os.stat that it finds
ask = os.stat
def stat(path, *args, **kwargs):
    if "/drive" in str(path):
        raise OSError(107, "Transport endpoint is not connected", str(path))
    return ask(path, *args, **kwargs)
os.stat = stat
if hasattr(pathlib, "_NormalAccessor"):
    pathlib._NormalAccessor.stat = staticmethod(stat)
"""
    assert found(tmp_path, tmp_path, dead)[1] == home


def test_what_is_not_here_and_can_not_be_cloned_is_said_with_its_reason(tmp_path):
    notebook, ran = run(on(read(TWO), tmp_path, "nowhere"), tmp_path)
    assert not ran
    said, ours = "".join(output.text for output in code(notebook)[0].outputs).splitlines()
    assert said.startswith("UsageError: fatal: ")
    assert "does not exist" in said
    assert ours == "No s4lib: check repository or network (Kaggle: Internet)."
    assert not list(tmp_path.iterdir())


def with_parameters(notebook, source):
    """papermill puts parameters into a cell after the one tagged `parameters`."""
    at = next(k for k, cell in enumerate(notebook.cells) if "parameters" in tags(cell))
    injected = nbformat.v4.new_code_cell(source)
    injected.metadata["tags"] = ["injected-parameters"]
    notebook.cells.insert(at + 1, injected)
    return notebook


def test_on_kaggle_outputs_go_where_writing_is_allowed(tmp_path):
    """The cells that write, or read results, with injected parameters.

    That a lone one clones is shown by test_assignment.py.
    """
    under = []
    if os.geteuid() == 0:  # whom no permissions stop: without these capabilities they do
        if not shutil.which("setpriv"):
            pytest.skip("needs setpriv, or not to be root")
        under = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"]
    home = copy(tmp_path / "kaggle/input/datasets/somebody/session4")
    before = sorted(home.rglob("*"))
    for file in (home, *before):
        file.chmod(file.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    working = tmp_path / "kaggle/working"
    working.mkdir()
    notebook = until(TWO, "plots.against_original(")
    shows = ("samples(", "counts(", "augment", "summary(", "parameters(", "range(50)", "drawings.")
    notebook.cells = [c for c in notebook.cells if not any(word in c.source for word in shows)]
    notebook = with_parameters(notebook, "epochs = 1\ndataset = 'digits'\nseed = 3")
    env = {"PYTHONPATH": "", "S4_EPOCHS": "", "S4_DATASET": "", "S4_SEED": ""}
    notebook, ran = run(on(notebook, tmp_path), working, under=under, **env)
    after = sorted(home.rglob("*"))
    for folder in (home, *(path for path in before if path.is_dir())):
        folder.chmod(0o755)  # so that pytest can tidy up
    assert ran, outputs(notebook)
    assert (working / "runs/notebook-classic-digits-1-3/weights.pt").exists()
    assert after == before

    (log,) = (text(cell) for cell in code(notebook) if "= fit(" in cell.source)
    assert log.startswith(
        "MNISTNet, 17,498 parameters, with the recipe classic on scikit-learn digits: "
        "1,437 training and 360 test images, seed 3"
    )
    assert f", {choose_device()}, " in log.splitlines()[0]  # CUDA where there is one
    assert log.count("Epoch") == 1
    assert {output.get("name", "stdout") for output in outputs(notebook)} == {"stdout"}


def test_a_wrong_parameter_gets_one_line():
    """Each of two notebooks, run in one kernel, reports its own mistake."""
    notebook = until(TWO, "settings(")
    notebook.cells += until(ONE, "switch(").cells
    env = {"S4_DATASET": "cifar", "S4_SLIDERS": "maybe"}
    notebook, _ = run(notebook, ROOT / "notebooks", allow_errors=True, **env)
    lines = [output.traceback for output in outputs(notebook) if output.output_type == "error"]
    dataset, sliders = (line for (line,) in lines)
    assert dataset.startswith("There is no data set 'cifar'. Choose one of auto, mnist, ")
    assert sliders.startswith("sliders must be yes or no, not 'maybe'.")
    assert "\n" not in dataset + sliders


# Held in place

MUTATIONS = {  # file, what is there, what is put there, notebook, the cell that notices
    "weight count": (
        "s4lib/model.py",
        "conv1=nn.Conv2d(1, 16, 3, padding=1)",
        "conv1=nn.Conv2d(1, 16, 3, padding=1, bias=False)",
        TWO,
        "inspect.getsource(MNISTNet)",
    ),
    "figure": (
        "backprop/plots.py",
        'f"$w_{name[1]}$" if name[0]',
        'f"$v_{name[1]}$" if name[0]',
        ONE,
        "plots.network_diagram()",
    ),
    "gradient's sign, eight weights": (
        "backprop/network.py",
        "dE_do1 = (a_o1 - t1)",
        "dE_do1 = (t1 - a_o1)",
        ONE,
        "by_function",
    ),
    "gradient's sign, 17,498": (
        "backprop/layers.py",
        "return dy * (x > 0)",
        "return -dy * (x > 0)",
        ONE,
        "referee.compare",
    ),
    "receptive field": (
        "s4lib/receptive_field.py",
        "field = both(last.receptive_field)[axis] + spread * jump",
        "field = both(last.receptive_field)[axis] + kernels[axis] * jump",
        TWO,
        "print(table(rows))",
    ),
    "table of results": (
        "notebooks/experiments/report.py",
        'return [run["held_out_accuracy"] for run in runs]',
        'return [run["train_accuracy"] for run in runs]',
        THREE,
        'show("baseline")',
    ),
}


def test_the_sanitizer_replaces_what_differs_from_machine_to_machine():
    plugin = pytest.importorskip("nbval.plugin")
    patterns = plugin.get_sanitize_patterns((ROOT / "notebooks/sanitize.cfg").read_text())

    def sanitized(said):
        for regex, replace in patterns:
            said = re.sub(regex, replace, said)
        return said

    here = "trained for 522 s, with the tests, on cpu\npython 3.11.7, torch 2.15"
    there = "trained for 31.5 s, with the tests, on cuda:0\npython 3.9, torch 2.4+cu"
    assert sanitized(here) == sanitized(there)
    assert sanitized("17,498 parameters, 0.142356862") == "17,498 parameters, 0.142356862"


def test_nbval_notices_when_what_a_notebook_shows_changes(tmp_path):
    """All changes are made at once: no cell named above shows more than one of them."""
    pytest.importorskip("nbval")
    folder = copy(tmp_path)
    parts = {ONE: until(ONE, "by_function")}
    parts |= {path: until(path, "settings(") for path in (TWO, THREE)}
    for file, there, instead, path, notices in MUTATIONS.values():
        source = (folder / file).read_text()
        assert source.count(there) == 1, file
        (folder / file).write_text(source.replace(there, instead))
        (cell,) = (cell for cell in code(read(path)) if notices in cell.source)
        if cell not in parts[path].cells:
            parts[path].cells.append(cell)
    for path in PATHS:
        (folder / "notebooks" / path.name).unlink()
    together = read(ONE)
    together.cells = [cell for part in parts.values() for cell in part.cells]
    nbformat.write(together, folder / "notebooks/together.ipynb")
    words = "-p nbval --nbval -q -o addopts="
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words.split(), "notebooks"],
        cwd=folder,
        env={**os.environ, **SMALL, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # but for nbval's
        capture_output=True,
        text=True,
    )
    assert "NameError" not in done.stdout
    failed = [part.split("\nTraceback:")[0] for part in done.stdout.split("\nInput:\n")[1:]]
    for name, (*_, notices) in MUTATIONS.items():
        assert any(notices in cell for cell in failed), (name, done.stdout)
