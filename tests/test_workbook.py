"""The workbook: recalculated by LibreOffice, equal to what `workbook.build` makes, well formed."""

import math
import re
import zipfile
from pathlib import Path

import openpyxl
import pytest

from backprop import office, workbook
from backprop.network import COLUMNS, INPUTS, RATES, TARGETS, WEIGHTS, errors, train
from backprop.workbook import COMPARISON, HAND, STEPS, TRAINING

PROJECT = Path(__file__).resolve().parents[1]
COMMITTED = PROJECT / "backprop/backpropagation.xlsx"
DIAGRAM = PROJECT / "images/backprop_network.png"

OTHER = {
    "rate": 3.7,
    "rates": (0.01, 0.3, 1.5, 5.0, 12.0, 30.0),  # larger ones magnify a last bit past 1e-12
    "inputs": (-1.5, 2.25),
    "targets": (0.7, 0.2),
    "weights": (1.5, -0.75, -3.0, 2.5, 0.125, -4.0, 6.0, 0.33),
}
EXTREME = {  # where e^−h would overflow, and every slope is 0
    "rate": 1000.0,
    "rates": (1e-9, 1.0, 10.0, 100.0, 1e4, 1e9),
    "inputs": (1000.0, -1000.0),
    "targets": (0.0, 1.0),
    "weights": (-1000.0, 1000.0, 500.0, 500.0, -900.0, 900.0, 1000.0, -1000.0),
}


@pytest.fixture(scope="module")
def book():
    return openpyxl.load_workbook(COMMITTED)


@pytest.fixture(scope="module")
def kept():
    """The committed workbook with the values that viewers see who do not calculate."""
    return openpyxl.load_workbook(COMMITTED, data_only=True)


def named(book, name):
    """The cell that a defined name stands for."""
    sheet, cell = book.defined_names[name].attr_text.replace("$", "").split("!")
    return book[sheet.strip("'")][cell]


def write_inputs(book, rate, rates, inputs, targets, weights):
    """Type other numbers into the marked cells, and only there."""
    typed = {"learning_rate": rate}
    typed |= {f"rate_{k}": value for k, value in enumerate(rates, 1)}
    typed |= {f"i_{k}": value for k, value in enumerate(inputs, 1)}
    typed |= {f"t_{k}": value for k, value in enumerate(targets, 1)}
    typed |= {f"w_{k}": value for k, value in enumerate(weights, 1)}
    for name, value in typed.items():
        assert not named(book, name).protection.locked
        named(book, name).value = value


@pytest.fixture(scope="module")
def recalculated(tmp_path_factory):
    """The workbook as committed and with other inputs, calculated again: {name: book}.

    Every kept value is removed first, so that none can pass for a calculated one.
    """
    if not office.program():
        pytest.skip("LibreOffice is not installed, so nothing can recalculate the workbook")
    folder = tmp_path_factory.mktemp("recalculated")
    emptied = folder / "committed.xlsx"
    with zipfile.ZipFile(COMMITTED) as old, zipfile.ZipFile(emptied, "w") as new:
        for part in old.namelist():
            text = old.read(part)
            if part.startswith("xl/worksheets/sheet"):
                text = re.sub(rb"(</f>)<v>[^<]*</v>", rb"\1", text)
            new.writestr(part, text)
    paths = [emptied]
    for name, numbers in (("other", OTHER), ("extreme", EXTREME)):
        book = openpyxl.load_workbook(COMMITTED)  # openpyxl saves formulas without values
        write_inputs(book, **numbers)
        book.save(folder / f"{name}.xlsx")
        paths.append(folder / f"{name}.xlsx")
    (folder / "out").mkdir()
    made = office.convert("xlsx", paths, folder / "out")
    return {path.stem: openpyxl.load_workbook(path, data_only=True) for path in made}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Where the workbook has been built."""
    path = tmp_path_factory.mktemp("built") / "built.xlsx"
    workbook.build(path, DIAGRAM)
    return path


def assert_same_numbers(found, path, book):
    """Every number LibreOffice calculated is what `network.py` computed for the file at `path`,
    to 1e-12.
    """
    expected = openpyxl.load_workbook(path, data_only=True)
    compared = 0
    for sheet in expected:
        for row in sheet.iter_rows():
            for cell in row:
                formula = book[sheet.title][cell.coordinate].value
                if not (isinstance(formula, str) and formula.startswith("=")):
                    continue
                value = found[sheet.title][cell.coordinate].value
                where = f"{sheet.title}!{cell.coordinate} {formula}"
                if isinstance(cell.value, str):
                    learning_rates = (
                        float(text.removeprefix("η = ")) for text in (value, cell.value)
                    )
                    assert len(set(learning_rates)) == 1, where
                else:
                    assert isinstance(value, int | float), f"{where} gave {value!r}"
                    assert math.isclose(value, cell.value, rel_tol=1e-12, abs_tol=1e-12), where
                compared += 1
    assert compared > 20_000


def test_libreoffice_agrees_on_the_class_values(recalculated, book, built):
    found = recalculated["committed"]
    assert_same_numbers(found, built, book)
    assert [len(sheet._charts) for sheet in found] == [0, 1, 1]
    assert len(found[COMPARISON]._charts[0].series) == 6


@pytest.mark.parametrize(("name", "numbers"), [("other", OTHER), ("extreme", EXTREME)])
def test_libreoffice_agrees_on_other_numbers(name, numbers, recalculated, book, tmp_path):
    workbook.build(tmp_path / "expected.xlsx", DIAGRAM, **numbers)
    assert_same_numbers(recalculated[name], tmp_path / "expected.xlsx", book)


def test_building_twice_gives_the_same_bytes(built, tmp_path):
    workbook.build(tmp_path / "again.xlsx", DIAGRAM)
    assert (tmp_path / "again.xlsx").read_bytes() == built.read_bytes()


def test_the_kept_values_are_the_networks(kept):
    """pandas or a preview reads stored values: the training row by row, the errors of six rates."""
    table = train(0.5, STEPS)
    header = [cell.value for cell in kept[TRAINING][4]]
    assert header == [workbook.label(name) for name in COLUMNS]
    for line, row in enumerate(kept[TRAINING].iter_rows(min_row=6, values_only=True)):
        assert row == pytest.approx([*table[line]], rel=1e-15)
    assert line == STEPS
    for k, rate in enumerate(RATES):
        shown = {
            kept[COMPARISON].cell(r, 1).value: kept[COMPARISON].cell(r, k + 2).value
            for r in range(5, 19)
        }
        E_total = train(rate, STEPS)["E_total"]
        assert shown == pytest.approx({step: E_total[step] for step in workbook.SHOWN_STEPS})
    assert named(kept, "E_total").value == pytest.approx(errors()[2], rel=1e-15)


def test_only_inputs_are_pasted_numbers(book):
    """Inputs, targets, weights, rates, and which steps to show: the unlocked cells, all of them."""
    pasted, unlocked = set(), set()
    for sheet in book:
        for row in sheet.iter_rows():
            for cell in row:
                if isinstance(cell.value, int | float):
                    pasted.add((sheet.title, cell.coordinate))
                if not cell.protection.locked:
                    unlocked.add((sheet.title, cell.coordinate))
    names = ["learning_rate", *(f"rate_{k}" for k in range(1, 7))]
    names += ["i_1", "i_2", "t_1", "t_2", *(f"w_{k}" for k in range(1, 9))]
    inputs = {(named(book, name).parent.title, named(book, name).coordinate) for name in names}
    steps = {(COMPARISON, f"A{5 + k}") for k in range(len(workbook.SHOWN_STEPS))}
    assert pasted == unlocked == inputs | steps
    numbers = [named(book, name).value for name in names]
    assert numbers == [0.5, *RATES, *INPUTS, *TARGETS, *WEIGHTS]


def test_inputs_are_validated(book):
    rules = {
        (sheet.title, str(rule.sqref)): (rule.type, rule.operator, rule.formula1, rule.formula2)
        for sheet in book
        for rule in sheet.data_validations.dataValidation
    }
    positive, number = ("decimal", "greaterThan", "0", None), ("decimal", None, "-1000", "1000")
    for name in ("learning_rate", "rate_1", "rate_6"):
        assert rules[named(book, name).parent.title, named(book, name).coordinate] == positive
    for name in ("i_1", "w_8"):
        assert rules[HAND, named(book, name).coordinate] == number
    assert rules[HAND, named(book, "t_2").coordinate] == ("decimal", None, "0", "1")
    assert rules[COMPARISON, "A5"] == ("whole", None, "0", str(STEPS))


def test_sheets_are_protected_frozen_and_print_on_landscape_pages(book):
    for sheet in book:
        assert sheet.protection.sheet
        assert sheet.protection.password is None
        assert sheet.page_setup.orientation == "landscape"
        assert sheet.sheet_properties.pageSetUpPr.fitToPage
        assert sheet.print_area
    assert [sheet.freeze_panes for sheet in book] == ["A3", "B5", "A5"]
    assert book[TRAINING].print_title_rows == "$4:$4"
    heights = [sheet.page_setup.fitToHeight for sheet in book]
    assert heights == [None, 0, None]  # one page is the default; 0 is as many as it takes


def test_only_functions_that_every_spreadsheet_has(book):
    used = set()
    for sheet in book:
        for row in sheet.iter_rows():
            for cell in row:
                if isinstance(cell.value, str) and cell.value.startswith("="):
                    used |= set(re.findall(r"([A-Z.]+)\(", cell.value))
    assert used == {"EXP", "INDEX", "MIN", "ROW", "SUMPRODUCT"}
