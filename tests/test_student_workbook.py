"""Students' workbooks are read as they come, graded fairly, and hostile ones do no harm."""

import http.server
import re
import shutil
import threading
import zipfile

import openpyxl
import pytest
import xlsxwriter
from openpyxl.utils import column_index_from_string

from backprop import office
from backprop.formulas import FORMULAS
from backprop.network import RATES
from notebooks.assignment import __main__ as cli
from notebooks.assignment import spreadsheet, workbook
from notebooks.assignment.personal import CLASS, personal_numbers
from notebooks.assignment.spreadsheet import Place, read
from notebooks.assignment.workbook import PROJECT, check_workbook, copied_sheets, judged
from notebooks.assignment.workbook_cells import Cells
from tests.workbooks import LAYOUTS, few_steps, write

STEPS = 3  # of these workbooks, so that they are small
ALL = 6.0
MINE = personal_numbers("4711")
TABLES, SHEETS = LAYOUTS["six tables"], LAYOUTS["sheets"]
SAMPLE = {"numbers": MINE, "steps": STEPS}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    few_steps(monkeypatch, STEPS)


@pytest.fixture
def kept(monkeypatch):
    """Without a spreadsheet program, with the values that the file keeps."""
    monkeypatch.setattr(office, "program", lambda: None)
    monkeypatch.setattr(office, "engine", lambda: None)


@pytest.fixture
def gnumeric(monkeypatch):
    """Hide LibreOffice, so that only Gnumeric is left."""
    if not shutil.which("ssconvert"):
        pytest.skip("Gnumeric is not installed")
    monkeypatch.setattr(office, "program", lambda: None)


def checked(path, capsys, student="4711", numbers=None):
    """The points of a workbook, and what was said about it."""
    points = check_workbook(path, student, numbers)
    said = capsys.readouterr()
    assert said.err == ""
    return points, said.out


def replaced(path, part, change):
    """A workbook with one of its parts changed, by a function of its text, or added."""
    other = path.with_name("other.xlsx")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w", zipfile.ZIP_DEFLATED) as new:
        for name in {*old.namelist(), part}:
            text = old.read(name) if name in old.namelist() else b""
            new.writestr(name, change(text.decode()) if name == part else text)
    return other


# What is right, and what is not


def test_gnumeric_calculates_what_is_not_known_here(gnumeric, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", LAYOUTS["sheets, named"], **SAMPLE)
    for k in range(1, 7):
        path = replaced(
            path,
            f"xl/worksheets/sheet{k}.xml",
            lambda s: re.sub(r"<f>([A-Z]+\d+)\*i_1", r"<f>FACT(1)*\1*i_1", s),
        )
        path = path.rename(path.with_name(f"{k}.xlsx"))
    points, said = checked(path, capsys)
    assert points == ALL, said
    assert "calculated" not in said


def test_a_what_if_table_hides_no_forgery(gnumeric, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE, forged=lambda v, cell: f"{v!r}+0*{cell}")
    table = '<c r="XA1"><f t="dataTable" ref="XA1:XA3" dt2D="0" dtr="0" r1="B1"/><v>1</v></c>'
    page = "xl/worksheets/sheet1.xml"
    path = replaced(path, page, lambda text: text.replace("</row>", table + "</row>", 1))
    points, said = checked(path, capsys)
    assert points == 3.5, said
    assert "Not recalculated" not in said


def test_a_function_that_is_not_known_leaves_the_kept_value_and_is_named(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    text = r"1/\(1\+EXP\(MIN\(-([A-Z]+\d+),700\)\)\)"
    let = r"_xlfn.LET(_xlpm.x,\1,1/(1+EXP(-_xlpm.x)))"
    path = replaced(path, "xl/worksheets/sheet1.xml", lambda s: re.sub(text, let, s))
    points, said = checked(path, capsys)
    assert points == ALL, said
    assert said.splitlines()[0] == (
        "LET can't be calculated here: 96 cells, Sheet1!K21 first, keep the value in the file; "
        "whether they follow other inputs is left open."
    )
    openpyxl.load_workbook(path).save(path)  # without any values
    (note,) = Cells(read(path), MINE, set()).notes
    assert note.endswith(
        "first, have no value: open the workbook in a spreadsheet program and save it."
    )


def test_kept_values_count_for_nothing_where_formulas_give_others(kept, tmp_path, capsys):
    """The values of right formulas, kept beside those with a slip; or none, as openpyxl saves."""
    right = write(tmp_path / "right.xlsx", TABLES, **SAMPLE)
    wrong = {"dE_dw5": FORMULAS["dE_dw5"].replace("{a_h1}", "{h1}")}
    book = openpyxl.load_workbook(write(tmp_path / "wrong.xlsx", TABLES, **SAMPLE, wrong=wrong))
    book.save(tmp_path / "saved.xlsx")  # without any values
    formulas = read(tmp_path / "saved.xlsx").formulas

    def slipped(text):
        return re.sub(
            r'(<c r="(\w+)"[^>]*><f>)[^<]*',
            lambda m: m[1] + formulas[place(m[2])],
            text,
        )

    forged = replaced(right, "xl/worksheets/sheet1.xml", slipped)
    for path in (forged, tmp_path / "saved.xlsx"):
        points, said = checked(path, capsys)
        assert points == ALL - 0.25, said
        assert "): h1 stands where a_h1 belongs" in said


def place(address):
    """A cell of the first sheet."""
    letters = address.rstrip("0123456789")
    return Place("Sheet1", int(address[len(letters) :]), column_index_from_string(letters))


def test_rounding_is_told_and_counts_half_below_six_digits(kept, tmp_path, capsys):
    for digits, lost in ((6, 0.0), (4, 0.5 / 8)):
        wrong = {"o1": f"ROUND({FORMULAS['o1']},{digits})"}
        path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE, wrong=wrong)
        points, said = checked(path, capsys)
        assert f"o1 (Sheet1!M21): right, but rounded to {digits} digits by the formula" in said
        assert points == round(ALL - lost, 2), said
        assert "pasted" not in said


@pytest.mark.parametrize(("error", "lost"), [("1E-11", False), ("1E-8", True)])
def test_a_formula_may_be_off_by_rounding_alone(error, lost, kept, tmp_path, capsys):
    wrong = {"o1": f"({FORMULAS['o1']})*(1+{error})"}
    points, said = checked(write(tmp_path / "w.xlsx", TABLES, **SAMPLE, wrong=wrong), capsys)
    assert (points < ALL) == lost, said


def test_a_few_cells_are_no_curve(kept, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(workbook, "DRAWN", STEPS + 2)  # a curve has one cell more than steps
    points, said = checked(write(tmp_path / "w.xlsx", TABLES, **SAMPLE), capsys)
    assert points == ALL - 1, said


def test_trainings_count_by_their_right_steps_and_absent_ones_not(
    kept, tmp_path, capsys, monkeypatch
):
    few_steps(monkeypatch, 5)
    points, said = checked(write(tmp_path / "w.xlsx", TABLES, MINE, steps=4), capsys)
    assert "η = 0.1, η = 0.2, η = 0.5, η = 0.8, η = 1, η = 2: 4 of 5 steps right" in said
    assert points == round(ALL - 1.5 / 5, 2)
    path = write(tmp_path / "w.xlsx", TABLES, MINE, steps=5, rates=RATES[:4])
    points, said = checked(path, capsys)
    assert "    η = 1, η = 2: not found" in said
    assert points == round(ALL - (1.5 + 1) / 3, 2)


def test_live_trainings_count_beside_a_pasted_summary(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", SHEETS, **SAMPLE, summary=True)
    points, said = checked(path, capsys)
    assert points == ALL, said


def test_hidden_sheets_earn_nothing(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", SHEETS, **SAMPLE)
    part = "xl/workbook.xml"

    def hide(text):
        return re.sub(r'(<sheet name="Lernrate 0,[125]")', r'\1 state="veryHidden"', text)

    points, said = checked(replaced(path, part, hide), capsys)
    assert "Hidden, and worth no points: Lernrate 0,1, Lernrate 0,2, Lernrate 0,5." in said
    assert "    η = 0.1, η = 0.2, η = 0.5: not found" in said
    assert points == ALL - 0.75 - 1  # the chart stands on a hidden sheet


def test_a_mistyped_number_costs_its_own_points_and_is_named(kept, tmp_path, capsys):
    mistaken = MINE._replace(targets=(0.5, MINE.targets[1]))
    path = write(tmp_path / "w.xlsx", TABLES, mistaken, steps=STEPS)
    points, said = checked(path, capsys)
    assert said.startswith("✗ typed numbers: t1 = 0.14 (Sheet1!B3 has 0.5); they cost 0.25, and ")
    assert points == ALL - 0.25, said
    assert checked(path, capsys, numbers=mistaken)[0] == ALL

    w = list(MINE.weights)
    w[1:3] = w[2], w[1]  # each stands in the other's cell
    path = write(tmp_path / "w.xlsx", TABLES, MINE._replace(weights=tuple(w)), steps=STEPS)
    points, said = checked(path, capsys)
    assert "w2 = 0.47 (Sheet1!B6 has 0.37), w3 = 0.37 (Sheet1!B7 has 0.47); they cost 0.5" in said
    assert points == ALL - 0.5, said


def test_somebody_else_s_numbers_earn_nothing(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, CLASS, steps=STEPS)
    points, said = checked(path, capsys)
    assert "w8 = 0.67 (Sheet1!B12 has 0.55)" in said
    assert "the class's, or somebody else's?" in said
    assert points == 0
    assert checked(path, capsys, student="")[0] == ALL


def test_an_input_that_is_a_formula_is_named(kept, tmp_path, capsys):
    numbers = MINE._replace(inputs=(0.05, 0.63))
    path = write(tmp_path / "w.xlsx", TABLES, numbers, steps=STEPS)
    path = replaced(
        path,
        "xl/worksheets/sheet1.xml",
        lambda text: re.sub(r'(<c r="B1"[^>]*>)<v>', r"\1<f>1/20</f><v>", text),
    )
    points, said = checked(path, capsys, numbers=numbers)
    assert "Sheet1!B1 holds =1/20: an input is typed as a number" in said
    assert points == ALL


@pytest.mark.parametrize("symbol", ["w1", "E1", "a_o1"])
def test_only_curves_of_the_whole_error_are_the_error_graph(symbol, kept, tmp_path, capsys):
    points, said = checked(write(tmp_path / "w.xlsx", SHEETS, **SAMPLE, chart=symbol), capsys)
    assert "✗ chart: 0 of 6 curves (0 of 1)" in said
    assert points == ALL - 1


def test_a_dollar_that_is_missing_is_found(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)

    def lost(text):
        return re.sub(r"\$E\$(\d)\*", r"E90\1*", text)

    points, said = checked(replaced(path, "xl/worksheets/sheet1.xml", lost), capsys)
    assert "refers to E901, which is empty: is a $ missing?" in said
    assert points == ALL - 1.5


def rate_without_dollars(path, above):
    """A workbook whose new weights, filled down, take the cell below the rate each time.

    Before steps 2, 3, … there stands `above` below the rate.
    """
    book = openpyxl.load_workbook(path)
    for page in book:
        page["E2"] = above
        for row in page.iter_rows(min_row=22):
            for one in row:
                if isinstance(one.value, str) and "$E$1*" in one.value:
                    one.value = one.value.replace("$E$1*", f"E{one.row - 21}*")
    book.save(path)
    return path


@pytest.mark.parametrize(
    ("below", "what"),
    [
        ("w2", "holds a word, “w2”"),
        (None, "is empty"),
        (3, "holds another number"),
    ],
)
def test_a_rate_s_cell_that_moves_is_named_wherever_it_goes(below, what, kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", LAYOUTS["class sheet"], **SAMPLE)
    points, said = checked(rate_without_dollars(path, below), capsys)
    named = re.search(
        r"    'Lernrate 0,1'!(\w+) multiplies by 'Lernrate 0,1'!E2, which (.*?)\. Did the learning "
        r"rate's cell move when you filled down\? Write \$E\$1\.\n",
        said,
    )
    assert named, said
    assert named[2] == what
    assert "can't be calculated" not in said
    assert points >= ALL - 1.5, said


def test_a_word_that_a_formula_takes_is_named(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    book = openpyxl.load_workbook(path)
    book["Sheet1"]["E1"] = "η: 0.1"
    book.save(path)
    said = checked(path, capsys)[1]
    assert "which holds a word, “η: 0.1”: a number belongs there." in said
    assert "can't be calculated" not in said


def test_trainings_by_gradients_half_of_which_are_right_get_half_the_points(kept, tmp_path, capsys):
    wrong = {f"dE_dw{k}": FORMULAS[f"dE_dw{k}"].replace("{w6}", "{w5}") for k in (3, 4)}
    wrong |= {f"dE_dw{k}": FORMULAS[f"dE_dw{k}"].replace("{w7}", "{w8}") for k in (1, 2)}
    points, said = checked(write(tmp_path / "w.xlsx", TABLES, **SAMPLE, wrong=wrong), capsys)
    assert (
        "✗ trainings: 6 of 6 follow your gradients (0.75 of 1.5)\n"
        "    The trainings follow your gradients, of which 4 of 8 are right: they get half the "
        "points.\n"
    ) in said
    assert points == ALL - 1 - 0.75


# The project's own workbook


@pytest.fixture(scope="module")
def project():
    """Return what is in the project's workbook."""
    return read(PROJECT)


def first_rows(project):
    """The project's workbook without most of the steps of its trainings."""
    parts = {
        part: {p: v for p, v in getattr(project, part).items() if p.row < 40}
        for part in ("formulas", "numbers", "words")
    }
    return spreadsheet.Book(**parts, visible=project.visible, names=project.names)


def test_the_project_s_own_workbook_earns_nothing(project, tmp_path, capsys):
    mine = {Place("By hand", row, 2): v for row, v in enumerate(sum(map(tuple, MINE), ()), 5)}
    project.write(tmp_path / "mine.xlsx", mine)
    for path in (PROJECT, tmp_path / "mine.xlsx"):
        points, said = checked(path, capsys)
        assert points == 0
        assert "this is the project's own workbook, backpropagation.xlsx" in said


def test_it_is_known_renamed_shifted_and_hidden(project):
    book = project
    renamed = {title: f"Blatt {k}" for k, title in enumerate(book.visible)}
    other = spreadsheet.Book(visible={renamed[t]: False for t in book.visible})
    for place, formula in book.formulas.items():
        for title, new in renamed.items():
            formula = formula.replace(f"{title}!", f"'{new}'!").replace(f"'{title}'!", f"'{new}'!")
        other.formulas[place._replace(sheet=renamed[place.sheet], row=place.row + 3)] = (
            spreadsheet.moved(formula, 3, 0)
        )
    for (scope, name), text in book.names.items():
        sheet, cell = text.rsplit("!", 1)
        letters, row = re.fullmatch(r"\$([A-Z]+)\$(\d+)", cell).groups()
        sheet = renamed[spreadsheet.unquoted(sheet + "!")]
        other.names[scope, name] = f"'{sheet}'!${letters}${int(row) + 3}"
    assert copied_sheets(other) == {*renamed.values()}


def test_a_copied_sheet_beside_the_student_s_own_earns_nothing(project, kept, tmp_path):
    """Its numbers are all right, so it would make up for every training that is missing."""
    book = read(write(tmp_path / "w.xlsx", SHEETS, CLASS, steps=STEPS, rates=RATES[:2]))
    for part in ("formulas", "numbers", "words", "visible", "names"):
        getattr(book, part).update(getattr(first_rows(project), part))
    copied = copied_sheets(book)
    assert copied
    assert copied <= {*project.visible}
    lines, points = judged(book, CLASS, copied)
    assert lines[1].startswith("Copied from the project's own workbook, and worth no points: “")
    assert "    η = 0.5, η = 0.8, η = 1, η = 2: not found" in lines
    assert points == round(ALL - (1.5 + 1) * 4 / 6, 2)


# Files of every kind


def test_strict_files_and_damaged_styles_are_read(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    strict = {
        "schemas.openxmlformats.org/spreadsheetml/2006": "purl.oclc.org/ooxml/spreadsheetml",
        "schemas.openxmlformats.org/officeDocument/2006": "purl.oclc.org/ooxml/officeDocument",
    }
    other = tmp_path / "strict.xlsx"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            text = old.read(name).decode()
            for was, is_now in strict.items():
                text = text.replace(was, is_now)
            new.writestr(name, text)
    assert checked(other, capsys)[0] == ALL
    styles = replaced(path, "xl/styles.xml", lambda _: "<styleSheet><fills><fill/></fills>")
    assert checked(styles, capsys)[0] == ALL


def test_tables_names_arrays_and_shared_formulas_are_read(tmp_path):
    path = tmp_path / "w.xlsx"
    book = xlsxwriter.Workbook(str(path))
    page = book.add_worksheet("A b")
    columns = [{"header": "x"}, {"header": "twice [x]", "formula": "=T[@x]*2"}]
    page.add_table("B2:C5", {"columns": columns, "name": "T"})
    page.write_column("B3", [1, 2, 3])
    page.write_formula("E1", "=SUM(T[x])", None, 6)
    page.write_array_formula("F1:G2", "{=MMULT(B3:C4,B3:C4)}", None, 7)
    book.define_name("'A b'!local", "='A b'!$B$3")
    page.write_formula("E2", "=Local+1", None, 2)
    book.close()
    found = read(path)

    def at(address):
        return Place("A b", int(address[1:]), ord(address[0]) - 64)

    assert found.formulas[at("C4")] == "'A b'!$B$4*2"
    assert found.cells(found.formulas[at("E1")], "A b") == [at("B3"), at("B4"), at("B5")]
    assert found.cells(found.formulas[at("E2")], "A b") == [at("B3")]
    assert found.formulas[at("G2")] == found.formulas[at("F1")]
    assert spreadsheet.moved('$A1+A$1*B2&"B2"', 2, 1) == '$A3+B$1*C4&"B2"'
    found.write(tmp_path / "copy.xlsx", {at("B3"): 9.0})
    copy = read(tmp_path / "copy.xlsx")
    assert copy.numbers[at("B3")] == 9
    assert copy.formulas == found.formulas


def test_libreoffice_reads_what_is_no_xlsx_and_fetches_nothing(project, tmp_path, capsys):
    """The project's workbook, saved again by LibreOffice as .ods, is still known."""
    if not office.program():
        pytest.skip("LibreOffice is not installed")
    url = serve(asked := [])
    first_rows(project).write(tmp_path / "w.xlsx", {})
    path = replaced(
        tmp_path / "w.xlsx",
        "xl/worksheets/sheet1.xml",
        lambda s: s.replace("</row>", f'<c r="XA1"><f>_xlfn.WEBSERVICE("{url}")</f></c></row>', 1),
    )
    (made,) = office.convert("ods", [path], tmp_path / "made")
    assert "this is the project's own workbook" in checked(made, capsys)[1]
    assert asked == []


def test_files_that_can_t_be_read_are_refused_by_their_right_names(kept, tmp_path, capsys):
    ole = spreadsheet.OLE + bytes(600)
    (tmp_path / "password.xlsx").write_bytes(ole + "EncryptedPackage".encode("utf-16-le"))
    (tmp_path / "old.xlsx").write_bytes(ole + "Workbook".encode("utf-16-le"))
    (tmp_path / "empty.xlsx").touch()
    (tmp_path / "text.xlsx").write_text("i1;0,05\n")
    (tmp_path / "folder.xlsx").mkdir()
    whole = write(tmp_path / "w.xlsx", TABLES, **SAMPLE).read_bytes()
    (tmp_path / "half.xlsx").write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "other.xlsx", "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
    with zipfile.ZipFile(tmp_path / "open.xlsx", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    for name, reason in {
        "password": "it has a password. Save it without one.",
        "old": "this is an .xls file. Save it as .xlsx.",
        "open": "this is an .ods file. Save it as .xlsx.",
        "empty": "this is no workbook",
        "text": "this is no workbook",
        "folder": "this is no workbook: Is a directory.",
        "half": "this is no workbook",
        "other": "this is no workbook",
        "nowhere": "there is no such file. Save your workbook under this name.",
    }.items():
        points, said = checked(tmp_path / f"{name}.xlsx", capsys)
        assert (points, said.splitlines()[1:]) == (0, ["0 points"])
        assert said.startswith(f"✗ {name}.xlsx: {reason}")


# Hostile files


def test_damaged_files_are_refused_or_graded(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, numbers=MINE, steps=1, rates=RATES[:1])
    whole = path.read_bytes()
    for k in range(10):
        at = len(whole) * k // 10
        path.write_bytes(
            whole[:at] + bytes(byte ^ 0x55 for byte in whole[at : at + 9]) + whole[at + 9 :]
        )
        points, said = checked(path, capsys)
        assert 0 <= points <= ALL
        assert said.endswith("points\n")


def test_what_is_too_large_is_not_unpacked(kept, tmp_path, capsys, monkeypatch):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    page = "xl/worksheets/sheet1.xml"
    bomb = replaced(path, page, lambda text: text + " " * 70_000_000)
    assert bomb.stat().st_size < 400_000
    assert "unpacked it has more than 60 MB." in checked(bomb, capsys)[1]
    picture = replaced(path, "xl/media/image1.png", lambda _: " " * 70_000_000)
    assert checked(picture, capsys)[0] == ALL  # which is not opened
    monkeypatch.setattr(spreadsheet, "MOST_CELLS", 500)
    assert "it has more than 500 cells." in checked(path, capsys)[1]
    monkeypatch.setattr(spreadsheet, "MOST_SHEETS", 3)
    path = write(tmp_path / "w.xlsx", SHEETS, **SAMPLE)
    assert "it has 7 sheets; 1 to 3 can be checked." in checked(path, capsys)[1]


def test_a_merged_column_and_a_cell_in_the_last_row_are_nothing(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    more = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    more += '<mergeCells count="1"><mergeCell ref="XA1:XA1048576"/></mergeCells>'
    page = "xl/worksheets/sheet1.xml"
    assert (
        checked(replaced(path, page, lambda s: s.replace("</sheetData>", more)), capsys)[0] == ALL
    )


def test_many_entities_are_not_expanded(tmp_path, capsys):
    entities = "".join(f'<!ENTITY e{k} "{f"&e{k - 1};" * 10}">' for k in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY e0 "lol">{entities}]><workbook>&e11;</workbook>'
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    said = checked(replaced(path, "xl/workbook.xml", lambda _: text), capsys)[1]
    assert "this is no workbook: it defines XML entities" in said


def serve(asked):
    """The address of a server that puts what it is asked for into a list."""

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    server = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


def test_nothing_is_fetched_nothing_is_run_and_the_rest_is_graded(tmp_path, capsys, monkeypatch):
    """Web requests, links to other files, and macros."""
    asked = []
    url = serve(asked)
    outside = (
        f'_xlfn.WEBSERVICE("{url}a")',
        f"'[{url}b.xlsx]Sheet1'!A1",
        "[1]Sheet1!A1",
        'DDE("soffice";"/etc/passwd";"A1")',
        "FACT(3)",  # for which a program is asked
    )
    cells = "".join(
        f'<c r="X{k}"><f>{text}</f><v>1</v></c>' for k, text in zip("ABCDE", outside, strict=True)
    ).replace('r="X', 'r="XX')
    cells = re.sub(r'r="XX([A-E])"', r'r="XX\g<1>1"', cells).replace("XX", "XA")
    path = write(tmp_path / "w.xlsx", SHEETS, **SAMPLE)
    page = "xl/worksheets/sheet1.xml"
    path = replaced(path, page, lambda text: text.replace("</row>", cells + "</row>", 1))
    path = replaced(
        path.rename(tmp_path / "x.xlsx"), "xl/vbaProject.bin", lambda _: "Sub Auto_Open()"
    )

    sent, calculate = [], office.calculate

    def look(paths, *others, **options):
        for one in paths:
            with zipfile.ZipFile(one) as archive:
                sent.extend([*archive.namelist(), *map(archive.read, archive.namelist())])
        return calculate(paths, *others, **options)

    monkeypatch.setattr(office, "calculate", look)
    points, said = checked(path, capsys)
    assert points == ALL, said
    assert asked == []
    assert bool(sent) == bool(office.engine())
    assert not re.search("vba|external|media|WEBSERVICE|DDE|etc/passwd", str(sent))


def test_what_takes_too_long_is_given_up(tmp_path, capsys, monkeypatch):
    if not office.engine():
        pytest.skip("there is no spreadsheet program")
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    page = "xl/worksheets/sheet1.xml"
    cell = '<c r="XA1"><f>FACT(3)</f><v>6</v></c></row>'
    path = replaced(path, page, lambda text: text.replace("</row>", cell, 1))
    calculate = office.calculate
    monkeypatch.setattr(office, "calculate", lambda *paths: calculate(*paths, timeout=0.01))
    points, said = checked(path, capsys)
    assert " takes too long over this workbook." in said
    assert "FACT can't be calculated here: 1 cells, Sheet1!XA1 first, keep the value" in said
    assert points == ALL


# The command


def test_the_command_s_exit_status(kept, tmp_path, capsys):
    path = write(tmp_path / "w.xlsx", TABLES, **SAMPLE)
    assert cli.main(["check", str(path), "--student", "4711"]) == 0
    assert cli.main(["check", str(path)]) == 1
    options = (
        f"--{name}={','.join(map(str, values))}"
        for name, values in zip(MINE._fields, MINE, strict=True)
    )
    assert cli.main(["check", str(path), *options]) == 0
    assert cli.main(["check", str(tmp_path / "none.xlsx")]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "none.xlsx: there is no such file. Save your workbook under this name."
    ]
    with pytest.raises(SystemExit):
        cli.main(["check", str(path), "--inputs", "1,2,3"])
    assert "2 numbers with commas between them, not 1,2,3" in capsys.readouterr().err
