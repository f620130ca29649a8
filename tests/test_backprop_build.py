"""`python -m backprop`: what it builds, what `--check` notices, and what it says to mistakes."""

import re
import shutil
import zipfile
from functools import cache
from pathlib import Path

import matplotlib.image
import pytest

import s4lib.plots
from backprop import build, network_sheet, office, playground, plots, workbook
from backprop.__main__ import main

PROJECT = Path(__file__).resolve().parents[1]
FILES = (build.WORKBOOK, build.NETWORK, playground.PAGE, *build.PICTURES, *build.SHEETS)
STAMP = cache(build.stamp)  # to read the network's sheet takes a second, and each path is new


def copy_of_the_project(folder):
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with all that `build.make` makes, which takes seconds, and its names."""
    folder = tmp_path_factory.mktemp("made")
    return folder, build.make(folder)


@pytest.fixture
def made_once(made, monkeypatch):
    """From here on `build.make` copies what it has made, and a file is stamped once."""
    folder, names = made

    def make(root):
        shutil.copytree(folder, root, dirs_exist_ok=True)
        return [*names]

    monkeypatch.setattr(build, "make", make)
    monkeypatch.setattr(build, "stamp", STAMP)


@pytest.mark.usefixtures("made_once")
def test_what_is_committed_is_current(capsys):
    assert main(["--check"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(
        f"{name}: current" for name in FILES
    )


@pytest.mark.usefixtures("made_once")
def test_check_names_what_is_not_current(tmp_path, capsys):
    """A workbook at another rate, a picture by another program, a broken and a missing file."""
    folder = copy_of_the_project(tmp_path)
    workbook.build(folder / build.WORKBOOK, folder / build.DIAGRAM, rate=0.8)
    plots.network_diagram().savefig(folder / build.DIAGRAM)
    (folder / "images/backprop_error_curves.png").write_text("not a picture")
    (folder / "images/backprop_larger_rates.png").unlink()
    with open(folder / playground.PAGE, "a", encoding="utf-8") as page:
        page.write("changed by hand")
    assert main(["--check"], folder) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line for line in lines if not line.endswith(": current")} == {
        "backprop/backpropagation.xlsx: not current",
        "backprop/playground.html: not current",
        "images/backprop_network.png: not current",
        "images/backprop_error_curves.png: not current",
        "images/backprop_larger_rates.png: missing",
    }
    (folder / "broken.xlsx").write_text("not a workbook")
    assert build.stamp(folder / "broken.xlsx") is None


CHANGES = {
    "a style": (s4lib.plots.STYLE, "font.size", 12),
    "a width in the style": (s4lib.plots.STYLE, "lines.linewidth", 2),
    "a helper's result": (plots, "tint", lambda colour: colour),
    "a constant": (plots, "RATE_COLOURS", plots.RATE_COLOURS[::-1]),
    "the data": (build, "RATES", (0.1, 0.2, 0.5, 0.8, 1.0, 2.1)),
}


@pytest.mark.parametrize(("where", "name", "value"), CHANGES.values(), ids=CHANGES)
def test_a_fingerprint_is_of_what_the_figure_shows(where, name, value, monkeypatch):
    draw = plots.network_diagram if name == "tint" else build.error_surface
    before = build.fingerprint(draw())
    assert build.fingerprint(draw()) == before
    (monkeypatch.setitem if isinstance(where, dict) else monkeypatch.setattr)(where, name, value)
    assert build.fingerprint(draw()) != before


EDITS = {
    "an input": ("xl/worksheets/sheet1.xml", "<v>0.05</v>", "<v>0.0500000001</v>"),
    "a formula": ("xl/worksheets/sheet2.xml", r"<f>V6\+W6</f>", "<f>V6-W6</f>"),
    "a word": ("xl/sharedStrings.xml", "Backpropagation by hand", "Forwards"),
    "a colour": ("xl/styles.xml", "FFFFF2A8", "FFFFF2A9"),
    "a chart": ("xl/charts/chart1.xml", "Error of this training", "Error"),
    "a name": ("xl/workbook.xml", "w_8", "w_9"),
}


@pytest.mark.parametrize(("part", "old", "new"), EDITS.values(), ids=EDITS)
def test_a_workbooks_fingerprint_is_of_all_that_is_in_it(part, old, new, tmp_path):
    edit_workbook(tmp_path / "edited.xlsx", part, old, new)
    assert build.stamp(tmp_path / "edited.xlsx") != build.stamp(PROJECT / build.WORKBOOK)


def test_a_workbooks_fingerprint_is_not_of_its_results(tmp_path):
    """They follow from the formulas, and another machine's e^x may round its last bit otherwise."""
    numbers = r"(?<=<f>V6\+W6</f><v>)[^<]+"
    edit_workbook(tmp_path / "edited.xlsx", "xl/worksheets/sheet2.xml", numbers, "7")
    assert build.stamp(tmp_path / "edited.xlsx") == build.stamp(PROJECT / build.WORKBOOK)


def edit_workbook(path, part, old, new):
    """A copy of the workbook in which the first match of the pattern `old` in a part is `new`."""
    with zipfile.ZipFile(PROJECT / build.WORKBOOK) as book, zipfile.ZipFile(path, "w") as copy:
        for name in book.namelist():
            text = book.read(name)
            if name == part:
                text, edits = re.subn(old.encode(), new.encode(), text, count=1)
                assert edits == 1
            copy.writestr(name, text)


@pytest.mark.usefixtures("made_once")
def test_build_makes_every_file_and_they_are_current(tmp_path, capsys, monkeypatch):
    """Builds all files; test_network_sheet.py checks the values in the network's sheet."""
    monkeypatch.setattr(
        network_sheet, "keep_values", lambda path: shutil.copy(PROJECT / build.NETWORK, path)
    )
    if not (office.program() and shutil.which("pdftoppm")):
        pytest.skip("LibreOffice or pdftoppm is missing: nothing can take pictures of the sheets")
    assert main([], tmp_path / "new") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"wrote {name}" for name in FILES)
    for name in FILES:  # like the committed ones, which a test above compares
        assert build.stamp(tmp_path / "new" / name) == build.stamp(PROJECT / name)
    made = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert made == {tmp_path / "new" / name for name in FILES}
    for name in (*build.PICTURES, *build.SHEETS):
        assert min(matplotlib.image.imread(tmp_path / "new" / name).shape[:2]) > 300


@pytest.mark.usefixtures("made_once")
def test_without_libreoffice_the_sheets_and_their_pictures_stay(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(office, "program", lambda: None)
    monkeypatch.setattr(office, "engine", lambda: None)
    assert main([], tmp_path) == 0
    *wrote, left = capsys.readouterr().out.splitlines()
    made = (build.WORKBOOK, playground.PAGE, *build.PICTURES)
    assert sorted(wrote) == sorted(f"wrote {name}" for name in made)
    assert left == (
        "left backprop/network.xlsx and the pictures of the sheets as they were: "
        "they need LibreOffice"
    )


def test_a_failure_leaves_the_old_files_whole(tmp_path, monkeypatch):
    folder = copy_of_the_project(tmp_path)
    before = {name: (folder / name).read_bytes() for name in FILES}

    def fail(*_):
        raise OSError(28, "No space left on device", "the disk")

    monkeypatch.setattr(build, "PICTURES", {build.DIAGRAM: plots.network_diagram})
    monkeypatch.setattr(workbook, "build", fail)
    with pytest.raises(SystemExit):
        main([], folder)
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert {path.name for path in folder.iterdir()} == {"backprop", "images"}


@pytest.mark.parametrize(
    ("arguments", "folder", "message"),
    [
        (["--chek"], None, "unrecognized arguments: --chek"),
        ([], Path(__file__), f"cannot write to {__file__}/backprop: Not a directory"),
    ],
)
def test_a_mistake_gets_one_line(arguments, folder, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments, folder)
    assert capsys.readouterr().err == f"python -m backprop: {message}\n"


def test_the_families_of_the_symbols():
    expected = {
        **{"i1": "input", "h2": "hidden", "a_h1": "hidden", "o1": "output", "a_o2": "output"},
        **{"t1": "error", "E1": "error", "E_total": "error", "w5": "weight", "dE_dw5": "weight"},
        **{"dE_da_o1": "output", "da_h1_dh1": "hidden", "new_w3": "weight"},
    }
    assert {symbol: plots.family(symbol) for symbol in expected} == expected
    assert plots.tint("#0072B2", 0) == "#FFFFFF"
    assert plots.tint("#0072B2", 1) == "#0072B2"
