"""Students' workbooks are graded in whatever layout, and hostile ones do no harm."""

import http.server
import re
import shutil
import subprocess
import threading
import zipfile
from pathlib import Path

import openpyxl
import pytest
import xlsxwriter
from xlsxwriter.utility import xl_rowcol_to_cell

from backprop import office
from backprop.formulas import FORMULAS
from backprop.network import ERRORS, GRADIENTS, RATES, UNITS, train
from notebooks.assignment import __main__ as cli
from notebooks.assignment import workbook as sheet
from notebooks.assignment.personal import CLASS, personal_numbers
from notebooks.assignment.workbook import check_workbook

PROJECT = Path(__file__).resolve().parents[1]
STEPS = 8  # of these workbooks, so that they are small
WEIGHTS = tuple(f"w{k}" for k in range(1, 9))
SYMBOLS = (*WEIGHTS, *UNITS, *ERRORS, *GRADIENTS)
ALL = 6.0
MINE = personal_numbers("4711")


@pytest.fixture(autouse=True)
def few_steps_are_enough(monkeypatch):
    monkeypatch.setattr(sheet, "STEPS", STEPS)


@pytest.fixture
def recalculated():
    """With LibreOffice."""
    if not office.program():
        pytest.skip("LibreOffice is not installed, so nothing can recalculate the workbook")


@pytest.fixture
def kept(monkeypatch):
    """Without LibreOffice, with the values that the file keeps."""
    monkeypatch.setattr(office, "program", lambda: None)


@pytest.fixture(params=["recalculated", "kept"])
def each_way(request):
    """First with LibreOffice, then without."""
    request.getfixturevalue(request.param)


# Layouts: where the symbol number j of a step of training k stands


def columns(k, step, j):
    """As in class, six tables side by side."""
    return "Sheet1", 20 + step, k * (len(SYMBOLS) + 2) + j


def rows(k, step, j):
    """Steps from left to right, six tables below each other."""
    return "Backprop", 20 + k * (len(SYMBOLS) + 2) + j, 2 + step


def sheets(k, step, j):
    """A sheet for each rate."""
    return f"Lernrate {RATES[k]}".replace(".", ","), 3 + step, 7 + j


def blocks(k, step, j):
    """A block of its own for each step, one symbol below the other."""
    return f"eta {k}", 20 + step * (len(SYMBOLS) + 3) + j, 4


def write(
    path, where, numbers=MINE, wrong=(), pasted=(), formats="0.000000", chart=True, steps=STEPS
):
    """A student's workbook with formulas and their values.

    `wrong` is {symbol: formula}, of the symbols in `pasted` there are the values alone.
    """
    book = xlsxwriter.Workbook(str(path))
    pages, number_format = {}, book.add_format({"num_format": formats})

    def page(name):
        if name not in pages:
            pages[name] = book.add_worksheet(name)
        return pages[name]

    def address(name, row, column):
        return f"'{name}'!{xl_rowcol_to_cell(row, column, row_abs=True, col_abs=True)}"

    first = where(0, 0, 0)[0]
    start = dict(zip(("i1", "i2", "t1", "t2", *WEIGHTS), sum(numbers, ()), strict=True))
    known = {}
    for row, (symbol, value) in enumerate(start.items()):
        page(first).write(row, 0, symbol)
        page(first).write_number(row, 1, value, number_format)
        known[symbol] = address(first, row, 1)
    formulas = FORMULAS | dict(wrong)
    lines = book.add_chart({"type": "line"})
    for k, rate in enumerate(RATES):
        page(first).write_number(k, 4, rate)
        before = None
        for step, values in enumerate(train(rate, steps, *numbers)):
            spots = {symbol: where(k, step, j) for j, symbol in enumerate(SYMBOLS)}
            cells = known | {symbol: address(*spot) for symbol, spot in spots.items()}
            for symbol, (name, *spot) in spots.items():
                formula = formulas.get(symbol, known.get(symbol, "")).format_map(cells)
                if symbol in WEIGHTS and before:
                    rate_cell = address(first, k, 4)
                    formula = f"{before[symbol]}-{rate_cell}*{before['dE_d' + symbol]}"
                value = float(values[symbol]) if symbol not in wrong else 0.777
                if symbol in pasted:
                    page(name).write_number(*spot, round(value, 6), number_format)
                else:
                    page(name).write_formula(*spot, "=" + formula, number_format, value)
            before = cells
        name, *top = where(k, 0, SYMBOLS.index("E_total"))
        end = where(k, max(steps, 20), SYMBOLS.index("E_total"))[1:]  # drawn as far as in class
        lines.add_series({"values": [name, *top, *end]})
    if chart:
        page(first).insert_chart(0, 6, lines)
    book.close()
    return path


def checked(path, capsys, student="4711"):
    """The points of a workbook, and what was said about it."""
    points = check_workbook(path, student)
    said = capsys.readouterr()
    assert said.err == ""
    return points, said.out


# Layouts


@pytest.mark.parametrize("where", [columns, rows, sheets, blocks])
def test_everything_is_found_in_any_layout(where, kept, tmp_path, capsys):
    points, said = checked(write(tmp_path / "w.xlsx", where), capsys)
    assert points == ALL, said
    assert said.count("✓") == 5


@pytest.mark.parametrize("where", [rows, blocks])
def test_everything_follows_when_the_inputs_change(where, recalculated, tmp_path, capsys):
    points, said = checked(write(tmp_path / "w.xlsx", where), capsys)
    assert points == ALL, said
    assert said.count("✓") == 5


def test_the_course_s_own_workbook_is_right(tmp_path, capsys):
    assert cli.main(["check", str(PROJECT / "backprop/backpropagation.xlsx")]) == 0


@pytest.mark.parametrize("program", ["LibreOffice", "Gnumeric"])
def test_files_that_other_programs_saved(program, tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "w.xlsx", sheets)
    (tmp_path / "saved").mkdir()
    if program == "LibreOffice" and office.program():
        office.convert("xlsx", [path], tmp_path / "saved")
    elif program == "Gnumeric" and shutil.which("ssconvert"):
        kind = ["-T", "Gnumeric_Excel:xlsx2"]
        command = ["ssconvert", *kind, str(path), str(tmp_path / "saved/w.xlsx")]
        subprocess.run(command, check=True, capture_output=True)
    else:
        pytest.skip(f"{program} is not installed")
    monkeypatch.setattr(office, "program", lambda: None)
    assert checked(tmp_path / "saved/w.xlsx", capsys)[0] == ALL


def test_german_numbers_are_numbers(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", sheets, formats="#.##0,000000")
    assert checked(path, capsys)[0] == ALL

    book = openpyxl.load_workbook(path, data_only=True)
    for page in book:
        for cell in page._cells.values():
            if isinstance(cell.value, float):
                cell.value = f"{cell.value:.6f}".replace(".", ",")
    book.save(path)
    points, said = checked(path, capsys)
    assert said.count("of 8 right") == said.count("0 of 8 right") == 2
    assert "h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2: right, but does not follow" in said
    assert points == (ALL - 1) / 2 + 1  # only the chart is as it should be


# What is wrong


def test_pasted_numbers_count_half(each_way, tmp_path, capsys):
    pasted = {"E1", "E_total", "dE_dw3"}
    points, said = checked(write(tmp_path / "w.xlsx", rows, pasted=pasted), capsys)
    assert "✗ errors: 1 of 3 right\n    E1, E_total: right, but does not follow" in said
    assert "✗ gradients: 7 of 8 right\n    ∂E/∂w3: right, but does not follow" in said
    assert "η = 0.1, η = 0.2, η = 0.5, η = 0.8, η = 1.0, η = 2.0: right, but does not" in said
    assert points == round(1 + 0.5 * 2 / 3 + 2 * 7.5 / 8 + 0.75 + 1, 2)


def test_a_number_typed_into_a_formula_does_not_follow(recalculated, tmp_path, capsys):
    (i1, _), _, (w1, *_) = MINE
    wrong = {"h1": f"{w1}*{i1}+{{w2}}*{{i2}}"}
    points, said = checked(write(tmp_path / "w.xlsx", columns, wrong=wrong), capsys)
    assert points < ALL
    assert "    h1, a_h1, o1, o2, a_o1, a_o2: right, but does not follow" in said


def test_a_wrong_gradient_is_named_with_its_slip(recalculated, tmp_path, capsys):
    """Only the derivation is wrong, so the trainings, which are pasted, are right."""
    one_road = "({a_o1}-{t1})*{a_o1}*(1-{a_o1})*{w5}*{a_h1}*(1-{a_h1})*{i1}"
    path = write(tmp_path / "w.xlsx", columns, wrong={"dE_dw1": one_road}, pasted=["E_total"])
    points, said = checked(path, capsys)
    assert "✗ gradients: 7 of 8 right\n    ∂E/∂w1: missing" in said
    assert "    Sheet1!T21 looks like ∂E/∂w1 with a slip: the sum over both outputs" in said
    assert "the sum over both outputs is forgotten: only the way through o1 counts" in said
    assert points == round(1 + 0.5 * 2.5 / 3 + 2 * 7 / 8 + 0.75 + 1, 2)


def test_without_a_chart_and_with_short_trainings(kept, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sheet, "STEPS", STEPS + 10)
    points, said = checked(write(tmp_path / "w.xlsx", rows, chart=False), capsys)
    assert points == ALL - 2.5
    assert f"η = 2.0: right up to step {STEPS}, of {STEPS + 10}" in said
    assert "✗ chart: 0 of 6 right" in said


def test_somebody_else_s_workbook_gets_nothing_but_its_chart(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", columns, numbers=CLASS)
    assert checked(path, capsys, student="")[0] == ALL
    points, said = checked(path, capsys)
    assert points == 1
    assert "None of your numbers is there: are these the class's, or somebody else's?" in said


def test_results_that_nobody_calculated(kept, tmp_path, capsys):
    openpyxl.load_workbook(write(tmp_path / "w.xlsx", columns, steps=2)).save(
        tmp_path / "again.xlsx"
    )
    book = openpyxl.load_workbook(tmp_path / "again.xlsx")
    for cell in book["Sheet1"]["A:F"]:
        for one in cell:
            one.value = None
    book.save(tmp_path / "again.xlsx")
    points, said = checked(tmp_path / "again.xlsx", capsys)
    assert points == 0
    assert said.startswith("✗ again.xlsx: no results are in it: open it in a spreadsheet program")


def test_the_command_s_exit_status(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", columns)
    assert cli.main(["check", str(path), "--student", "4711"]) == 0
    assert cli.main(["check", str(path)]) == 1
    assert cli.main(["check", str(tmp_path / "none.xlsx")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "none.xlsx: there is no such file. Save your workbook under this name."
    ]


# Hostile files


def refused(path, capsys):
    """The one line that says why a file gets no points."""
    points, said = checked(path, capsys)
    assert points == 0
    first, last = said.splitlines()
    assert last == "0 points"
    return first


def test_what_is_no_workbook_is_refused_in_a_line(tmp_path, capsys):
    (tmp_path / "empty.xlsx").touch()
    (tmp_path / "text.xlsx").write_text("i1;0,05\n")
    (tmp_path / "locked.xlsx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000))
    (tmp_path / "folder.xlsx").mkdir()
    whole = write(tmp_path / "w.xlsx", columns, steps=2).read_bytes()
    (tmp_path / "half.xlsx").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "other.xlsx", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    for name in ("empty", "text", "locked", "folder", "half", "other"):
        assert refused(tmp_path / f"{name}.xlsx", capsys).startswith(f"✗ {name}.xlsx: this is no w")
    assert "there is no such file" in refused(tmp_path / "nowhere.xlsx", capsys)


def test_damaged_files_are_refused_or_graded(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", columns, steps=2)
    whole = path.read_bytes()
    for k in range(25):
        at = len(whole) * k // 25
        path.write_bytes(
            whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 9]) + whole[at + 9 :]
        )
        points, said = checked(path, capsys)
        assert 0 <= points <= ALL
        assert said.endswith("points\n")


def replaced(path, part, text):
    """A workbook with one of its parts replaced or added."""
    other = path.with_name("other.xlsx")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != part:
                new.writestr(name, old.read(name))
        new.writestr(part, text)
    return other


def test_a_zip_bomb_is_not_unpacked(tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", columns, steps=2)
    bomb = replaced(path, "xl/media/image1.png", bytes(50_000_000))
    assert bomb.stat().st_size < 400_000
    assert "unpacked it has 50 MB, more than 20." in refused(bomb, capsys)


def test_many_entities_are_not_expanded(tmp_path, capsys):
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY e0 "lol">{entities}]><workbook>&e11;</workbook>'
    bomb = replaced(write(tmp_path / "w.xlsx", columns, steps=2), "xl/workbook.xml", text)
    assert "this is no workbook" in refused(bomb, capsys)


def test_a_cell_in_the_last_row_takes_no_time(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", columns, steps=2)
    book = openpyxl.load_workbook(path, data_only=True)
    book["Sheet1"]["XFD1048576"] = 1
    book.save(path)
    assert checked(path, capsys)[0] > 0


def test_nothing_is_fetched_nothing_is_run_and_the_rest_is_graded(tmp_path, capsys, monkeypatch):
    """Web requests, links to other files, and macros."""
    asked = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    path = write(tmp_path / "w.xlsx", columns)
    book = openpyxl.load_workbook(path)
    page = book["Sheet1"]
    page["XA1"] = f'=_xlfn.WEBSERVICE("{url}a")'
    page["XA2"] = f"='[{url}b.xlsx]Sheet1'!A1"
    page["XA3"] = "=[1]Sheet1!A1"
    page["XA4"] = '=DDE("soffice";"/etc/passwd";"A1")'
    page["XA5"].hyperlink = f"{url}c"
    book.save(path)
    path = replaced(path, "xl/vbaProject.bin", "Sub Auto_Open(): Kill: End Sub")

    sent, convert = {}, office.convert

    def look(kind, paths, *others, **options):
        for one in paths:
            sent[one.name] = [
                zipfile.ZipFile(one).namelist(),
                [cell.value for (cell,) in openpyxl.load_workbook(one)["Sheet1"]["XA1:XA4"]],
            ]
        return convert(kind, paths, *others, **options)

    monkeypatch.setattr(office, "convert", look)
    points, _ = checked(path, capsys)
    server.shutdown()
    assert points == ALL
    assert asked == []
    assert len(sent) == (2 if office.program() else 0)
    for parts, cells in sent.values():
        assert cells == [None] * 4
        assert not re.search("vba|external|media|links", " ".join(parts))


def test_what_takes_too_long_is_given_up(recalculated, tmp_path):
    book = openpyxl.Workbook()
    for row in range(1, 3000):
        book.active.cell(row, 1).value = f"=SUMPRODUCT(SIN(ROW($1:$1048576)*{row}))"
    book.save(tmp_path / "long.xlsx")
    with pytest.raises(RuntimeError, match="it took longer than 2 seconds"):
        office.convert("xlsx", [tmp_path / "long.xlsx"], tmp_path / "out", timeout=2)
