"""`python -m backprop`: what it builds, what `--check` notices, and what it says to mistakes."""

import os
import shutil
from pathlib import Path

import matplotlib.image
import pytest

from backprop import build, office, plots, workbook
from backprop.__main__ import home, main

PROJECT = Path(__file__).resolve().parents[1]
FILES = (build.WORKBOOK, *build.PICTURES, *build.SHEETS)


def copy_of_the_project(folder):
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    return folder


def without_libreoffice(monkeypatch):
    monkeypatch.setattr(office, "program", lambda: None)


def test_what_is_committed_is_current(capsys):
    assert main(["--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: current" for name in (build.WORKBOOK, *build.PICTURES, *build.SHEETS)
    ]


def test_check_names_what_is_not_current(tmp_path, capsys):
    """A workbook at another rate, a picture by another program, a broken and a missing file."""
    folder = copy_of_the_project(tmp_path)
    workbook.build(folder / build.WORKBOOK, folder / build.DIAGRAM, rate=0.8)
    plots.network_diagram().savefig(folder / build.DIAGRAM)
    (folder / "images/backprop_error_curves.png").write_text("not a picture")
    (folder / "images/backprop_larger_rates.png").unlink()
    assert main(["--check", "--folder", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.endswith(": current")] == [
        "backprop/backpropagation.xlsx: not current, first at By hand!B17, value",
        "images/backprop_network.png: not current",
        "images/backprop_error_curves.png: not current",
        "images/backprop_larger_rates.png: missing",
    ]
    (folder / build.WORKBOOK).write_text("not a workbook")
    assert build.compare(folder / build.WORKBOOK, {}) == "not a workbook"


def test_build_makes_every_file_and_they_are_current(tmp_path, capsys):
    if not office.program():
        pytest.skip("LibreOffice is not installed, so nothing can take pictures of the sheets")
    assert main(["--folder", str(tmp_path / "new"), "--learning-rate", "0.8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(f"wrote {name}" for name in FILES)
    assert main(["--check", "--folder", str(tmp_path / "new"), "--learning-rate", "0.8"]) == 0
    made = {path for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert made == {tmp_path / "new" / name for name in FILES}
    for name in (*build.PICTURES, *build.SHEETS):
        assert min(matplotlib.image.imread(tmp_path / "new" / name).shape[:2]) > 300


def test_without_libreoffice_the_pictures_of_the_sheets_stay(tmp_path, capsys, monkeypatch):
    without_libreoffice(monkeypatch)
    assert main(["--folder", str(tmp_path)]) == 0
    *wrote, left = capsys.readouterr().out.splitlines()
    assert sorted(wrote) == sorted(f"wrote {name}" for name in (build.WORKBOOK, *build.PICTURES))
    assert left == (
        "left the pictures of the sheets as they were: they need LibreOffice and pdftoppm"
    )


def test_a_failure_leaves_the_old_files_whole(tmp_path, monkeypatch):
    folder = copy_of_the_project(tmp_path)
    before = {name: (folder / name).read_bytes() for name in FILES}

    def fail(*_):
        raise OSError(28, "No space left on device", "the disk")

    monkeypatch.setattr(workbook, "build", fail)
    with pytest.raises(SystemExit):
        main(["--folder", str(folder)])
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert {path.name for path in folder.iterdir()} == {"backprop", "images"}


@pytest.mark.parametrize("rate", ["0", "-0.5", "nan", "inf", "fast"])
def test_a_learning_rate_that_is_none(rate, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([f"--learning-rate={rate}"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"python -m backprop: argument --learning-rate: {rate} is not a positive number\n"
    )


def test_a_file_given_as_the_folder(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped:
        main(["--folder", str(tmp_path / "file")])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"python -m backprop: cannot write to {tmp_path / 'file'}: Not a directory"


def test_a_folder_that_cannot_be_written_to(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "images")
    with pytest.raises(SystemExit) as stopped:
        main(["--folder", str(tmp_path)])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"python -m backprop: cannot write to {tmp_path / 'images'}: ")


def test_an_installed_package_writes_into_the_current_folder(tmp_path):
    assert home() == PROJECT
    assert home(tmp_path / "site-packages") == Path()


def test_an_unknown_option(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--chek"])
    assert stopped.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_the_families_of_the_symbols():
    expected = {
        **{"i1": "input", "h2": "hidden", "a_h1": "hidden", "o1": "output", "a_o2": "output"},
        **{"t1": "error", "E1": "error", "E_total": "error", "w5": "weight", "dE_dw5": "weight"},
        **{"dE_da_o1": "output", "da_h1_dh1": "hidden", "new_w3": "weight"},
    }
    assert {symbol: plots.family(symbol) for symbol in expected} == expected
    assert plots.tint("#0072B2", 0) == "#FFFFFF"
    assert plots.tint("#0072B2", 1) == "#0072B2"
