"""A workbook's formulas are calculated as LibreOffice calculates them, or not at all."""

import numpy as np
import pytest
import xlsxwriter

from backprop import office
from notebooks.assignment.spreadsheet import Book, Place, read
from notebooks.assignment.workbook_calculation import calculate

ERROR = None
FORMULAS = {  # with A1 … A4 = 2, 3, "text" and nothing, B1 … B4 = 0.5, -1.5, 10, 20
    "-2^2": 4,
    "-A1^2": 4,
    "0-A1^2": -4,
    "2^3^2": 64,
    "2^-1": 0.5,
    "--A1": 2,
    "A1--A2": 5,
    "+A1%": 0.02,
    "50%^2": 0.25,
    "(1+2)*(A2-A1)/4": 0.75,
    "2-3-4": -5,
    "16/4/2": 2,
    "1 + 2 * 3": 7,
    ".5+1E-3+2.5e+1": 25.501,
    "$A$1*A$2": 6,
    "Other!A1*2": 14,
    "'It''s'!A1+1": 12,
    "rate*A1": 0.2,
    "twice": 4,
    "A4+1": 1,
    "A4*A1": 0,
    "1/(1+EXP(-A1))": 1 / (1 + np.exp(-2)),
    "1/(1+2.718281828459045^-A1)": 1 / (1 + np.exp(-2)),
    "EXP(MIN(-A1,700))": np.exp(-2),
    "POWER(A1-0.5,2)/2": 1.125,
    "SQRT(A1)+ABS(B2)+SIGN(B2)": np.sqrt(2) + 0.5,
    "LN(A1)+LOG10(100)+LOG(8,2)+LOG(10)": np.log(2) + 6,
    "TANH(A1)+SINH(A1)+COSH(A1)": np.tanh(2) + np.exp(2),
    "INT(B2)+MOD(A2,A1)": -1,
    "ROUND(2.345,2)+ROUND(-2.5,0)+ROUND(1234,-2)": 2.35 - 3 + 1200,
    "ROUNDUP(1.21,1)+ROUNDDOWN(-1.29,1)+TRUNC(2.9)": 1.3 - 1.2 + 2,
    "SUM(A1:A4,B1:B2,1)": 5,
    "SUM(B:B)": 29,
    "SUM(A1:B2)": 4,
    "AVERAGE(A1:A4)": 2.5,
    "MIN(A1:B4)+MAX(A1:B4)": 18.5,
    "PRODUCT(A1:A4)": 6,
    "SUMSQ(A1:A2)": 13,
    "SUMPRODUCT(A1:A2,B1:B2)": -3.5,
    "SUMXMY2(A1:A2,B1:B2)": 22.5,
    "SUMPRODUCT((A1:A2-B1:B2)^2)/2": 11.25,
    "IF(A1>1,B1,B2)": 0.5,
    "IF(A1<=1,B1)+0": 0,
    "IF(A4=\"\",1,2)": 1,
    "IF(A3=\"TEXT\",1,2)": 1,
    "IF(A1<>2,\"no\",A2)": 3,
    "IF(AND(A1=2,NOT(A2=2)),1,0)+OR(A1=1,A2=1)": 1,
    "IFERROR(1/A4,7)": 7,
    "COLUMN()+ROW(B7)+COLUMN($D$1)": 37,
    "TRUE+1": 2,
    "PI()*0+A1": 2,
    "SUM(IF(A1,,1),2)": 2,
    "1/A4": ERROR,
    "SQRT(B2)": ERROR,
    "EXP(1000)": ERROR,
    "1/(1+EXP(1000))": ERROR,
    "Nowhere!A1": ERROR,
    "A3+1": ERROR,
    "2*A3": ERROR,
    "-EXP(A3)": ERROR,
    "IFERROR(A1*A3,7)": 7,
}  # fmt: skip


def workbook(path, formulas) -> None:
    """Numbers, words and names as above, and the formulas one below the other in column Z."""
    with xlsxwriter.Workbook(str(path)) as book:
        page = book.add_worksheet("Main")
        page.write_column("A1", [2, 3, "text"])
        page.write_column("B1", [0.5, -1.5, 10, 20])
        book.add_worksheet("Other").write("A1", 7)
        book.add_worksheet("It's").write("A1", 11)
        book.define_name("rate", "=0.1")
        book.define_name("twice", "=Main!$A$1*2")
        for row, formula in enumerate(formulas):
            page.write_formula(row, 25, "=" + formula)


def column(values: dict) -> list:
    """The numbers in column Z, and None where there is an error."""
    found = [values.get(Place("Main", row, 26), np.nan) for row in range(1, len(FORMULAS) + 1)]
    return [None if np.isnan(value) else value for value in found]


def test_formulas_have_the_values_that_excel_gives_them(tmp_path):
    workbook(tmp_path / "w.xlsx", FORMULAS)
    values, unknown = calculate(read(tmp_path / "w.xlsx"), [{}])
    assert unknown == {}
    got = column({place: value[0] for place, value in values.items()})
    for formula, value, want in zip(FORMULAS, got, FORMULAS.values(), strict=True):
        assert value == (want and pytest.approx(want, rel=1e-12, abs=1e-12)), formula


def test_libreoffice_agrees(tmp_path):
    if not office.program():
        pytest.skip("LibreOffice is not installed")
    workbook(tmp_path / "w.xlsx", FORMULAS)
    read(tmp_path / "w.xlsx").write(tmp_path / "copy.xlsx", {})
    (made,) = office.calculate([tmp_path / "copy.xlsx"], tmp_path / "made")
    for formula, value, want in zip(
        FORMULAS, column(read(made).numbers), FORMULAS.values(), strict=True
    ):
        assert value == (want and pytest.approx(want, rel=1e-12, abs=1e-12)), formula


UNKNOWN = {
    "_xlfn.LET(_xlpm.x,1,_xlpm.x)": "LET",
    "VLOOKUP(A1,A1:B2,2)": "VLOOKUP",
    "SUM(1,2)+WEBSERVICE(A3)": "WEBSERVICE",
    '"0,5"+1': "text or a range in place of a number",
    "SUM(A3,1)": "text or a range in place of a number",
    "A1:A2+1": "text or a range in place of a number",
    "EXP(1,2)": "EXP",
    "nobody*2": "nobody",
    "[1]Sheet1!A1": "a formula with [",
    "{1,2}": "a formula with {",
    "'a": "a formula with '",
    "SUM(A1:A2": "a formula like this",
    "(A1,A2)": "a formula like this",
    "A1 A2": "a formula like this",
    "1+": "a formula like this",
    ")": "a formula like this",
    "": "a formula like this",
    "(" * 500 + "1" + ")" * 500: "so many brackets",
    "SUM(A1:A20001)+SUM(B1:B20001)": "so many cells",
    "1+" * 5000 + "1": "a formula with 1",
}


@pytest.mark.parametrize("formula", UNKNOWN)
def test_what_is_not_known_is_named_and_its_kept_value_taken(formula):
    cell, after = Place("Main", 1, 26), Place("Main", 2, 26)
    book = Book(visible={"Main": True}, words={Place("Main", 3, 1): "text"})
    book.formulas |= {cell: formula, after: "Z1*2"}
    book.numbers |= {
        Place("Main", row, column): 2.0 for row in range(4, 20002) for column in (1, 2)
    }
    book.numbers |= {Place("Main", 1, 1): 2.0, Place("Main", 2, 1): 3.0, cell: 5.0}
    values, unknown = calculate(book, [{}, {Place("Main", 1, 1): 7.0}])
    assert unknown == {cell: UNKNOWN[formula]}
    assert np.array_equal(values[cell], [5, np.nan], equal_nan=True)
    assert np.array_equal(values[after], [10, np.nan], equal_nan=True)


def test_each_set_of_typed_numbers_has_its_own_results():
    one, two, three = (Place("Main", 1, column) for column in (1, 2, 3))
    book = Book({two: "IF(A1>1,A1,-A1)", three: "B1+A1"}, {one: 0.5}, visible={"Main": True})
    values, _ = calculate(book, [{}, {one: 3.0}, {one: 1.0}])
    assert [*values[two]] == [-0.5, 3, -1]
    assert [*values[three]] == [0, 6, 0]


def test_circles_have_no_value_and_long_chains_end():
    cells = [Place("Main", row, 1) for row in range(1, 5001)]
    book = Book({p: f"A{p.row - 1}+1" for p in cells[1:]}, {cells[0]: 1.0}, visible={"Main": True})
    assert calculate(book, [{}])[0][cells[-1]] == 5000
    book.formulas[cells[0]] = "A3"
    values, unknown = calculate(book, [{}])
    assert np.isnan(values[cells[-1]])
    assert unknown == {}
