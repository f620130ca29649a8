"""Read a spreadsheet file from a stranger, and write a copy that is safe to calculate.

Only the parts with cells, names, tables and charts are read; styles, pictures, links and macros are
never opened. The copy that `Book.write` makes has only constants and formulas, and no formula
reaches out of the workbook, so nothing in a foreign file is executed or fetched.
"""

import io
import posixpath
import re
import tempfile
import zipfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from openpyxl.utils import column_index_from_string, get_column_letter

from backprop import office

LARGEST = 60e6  # unpacked bytes of the parts that are read; six trainings have about two million
MOST_CELLS = 400_000
MOST_SHEETS = 100
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how an .xls begins, and an .xlsx with a password
OUTSIDE = re.compile(  # formulas that reach out of the workbook
    r"\[\d+\]|\[[^\]]*[./\\:]|\b(WEBSERVICE|DDE|RTD|CALL|REGISTER|SQL|IMPORT|HYPERLINK)[\w.]*\(",
    re.IGNORECASE,
)
STRING = r'"(?:[^"]|"")*"'
SHEET = r"(?:'(?:[^']|'')+'|[^\W\d][\w.]*)!"
CELL = r"\$?[A-Z]{1,3}\$?[0-9]{1,7}"
TOKEN = re.compile(  # a string, a cell or range, a column or row range, or a name
    rf"(?P<text>{STRING})|(?<![\w.$])(?P<sheet>{SHEET})?(?:"
    rf"(?P<cells>{CELL}(?::{CELL})?)(?![\w.(!])"
    r"|(?P<lines>\$?[A-Z]{1,3}:\$?[A-Z]{1,3}|\$?[0-9]{1,7}:\$?[0-9]{1,7})(?![\w.(!])"
    r"|(?P<name>[^\W\d][\w.]*)(?![\w.(!]))"
)
ONE_CELL = re.compile(r"(\$?)([A-Z]{1,3})(\$?)([0-9]{1,7})")
STRUCTURED = re.compile(r"([^\W\d][\w.]*)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]")


class WorkbookError(ValueError):
    """The reason, in one line, why a file can't be graded."""


class Place(NamedTuple):
    """The place of a cell, as (title of the sheet, row, column), both from 1."""

    sheet: str
    row: int
    column: int

    def __str__(self):
        plain = re.fullmatch(r"[^\W\d]\w*", self.sheet)
        title = self.sheet if plain else "'" + self.sheet.replace("'", "''") + "'"
        return f"{title}!{self.address}"

    @property
    def address(self) -> str:
        return f"{get_column_letter(self.column)}{self.row}"


class Chart(NamedTuple):
    """The cells that each series of a chart draws, and the sheet with the chart."""

    sheet: str
    series: list[str]


@dataclass
class Book:
    """The contents of a workbook: formula, number or words of a cell, by its place."""

    formulas: dict[Place, str] = field(default_factory=dict)
    numbers: dict[Place, float] = field(default_factory=dict)  # typed, or stored with a formula
    words: dict[Place, str] = field(default_factory=dict)
    spilled: dict[Place, str] = field(default_factory=dict)  # an array formula's first cell: area
    inner: set[Place] = field(default_factory=set)  # the other cells of these areas
    what_if: dict[Place, dict] = field(default_factory=dict)  # a data table's first cell: its XML
    visible: dict[str, bool] = field(default_factory=dict)  # all sheets, in their order
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # (sheet or "", name): formula
    tables: dict[str, tuple] = field(default_factory=dict)
    charts: list[Chart] = field(default_factory=list)
    _names: dict[tuple[str, str], str] = field(default_factory=dict)  # the same, in capitals

    def is_typed(self, place: Place) -> bool:
        """Return whether a cell holds a number that no formula calculates."""
        return place in self.numbers and place not in self.formulas

    def named(self, name: str, sheet: str) -> str:
        """Return what a defined name, in any case, refers to in a sheet, or nothing."""
        if not self._names:
            self._names = {(scope, n.upper()): text for (scope, n), text in self.names.items()}
        return self._names.get((sheet, name.upper())) or self._names.get(("", name.upper()), "")

    def areas(self, formula: str, sheet: str, depth: int = 0) -> list[tuple]:
        """Return the rectangles of a formula in `sheet`: (sheet, top, left, bottom, right)."""
        found = []
        for token in TOKEN.finditer(formula):
            title = unquoted(token["sheet"] or sheet)
            if token["cells"]:
                corners = ONE_CELL.findall(token["cells"])
                rows = sorted(int(row) for *_, row in corners)
                columns = sorted(column_index_from_string(c) for _, c, *_ in corners)
                found.append((title, rows[0], columns[0], rows[-1], columns[-1]))
            elif token["lines"]:
                first, last = token["lines"].replace("$", "").split(":")
                if first.isdigit():
                    found.append((title, int(first), 1, int(last), 16384))
                else:
                    ends = column_index_from_string(first), column_index_from_string(last)
                    found.append((title, 1, ends[0], 1048576, ends[1]))
            elif token["name"] and depth < 5 and (meaning := self.named(token["name"], title)):
                found += self.areas(meaning, title, depth + 1)
        return found

    def cells(self, formula: str, sheet: str, most: int = 20_000) -> list[Place]:
        """Return the cells, at most so many, that a formula refers to."""
        found = []
        for title, top, left, bottom, right in self.areas(formula, sheet):
            if len(found) >= most:
                break
            if (bottom - top + 1) * (right - left + 1) <= most:
                rows, columns = range(top, bottom + 1), range(left, right + 1)
                found += (Place(title, row, column) for row in rows for column in columns)
            else:
                filled = self.formulas.keys() | self.numbers.keys()
                found += sorted(
                    place
                    for place in filled
                    if place[0] == title and top <= place[1] <= bottom and left <= place[2] <= right
                )
        return found[:most]

    def relative(self, place: Place) -> str:
        """Return a cell's formula with every reference as its distance, as in R1C1."""

        def distance(token):
            if token["text"]:
                return token["text"]
            title = unquoted(token["sheet"] or place.sheet)
            text, far = token["cells"], "" if title == place.sheet else "!"
            if token["name"]:
                meaning = self.named(token["name"], place.sheet)
                area = self.areas(meaning, place.sheet)
                if len(area) != 1:
                    return token["name"]
                title, row, column, *_ = area[0]
                same = title == place.sheet
                return f"R{row - place.row}C{column - place.column}" if same else "!$"
            if not text:
                return token[0]

            def one(corner):
                fixed_column, letters, fixed_row, digits = corner.groups()
                row = "$" if fixed_row else int(digits) - place.row
                column = "$" if fixed_column else column_index_from_string(letters) - place.column
                return f"{far}R{row}C{column}"

            return ONE_CELL.sub(one, text)

        return TOKEN.sub(distance, self.formulas[place]).upper().replace(" ", "")

    def write(self, path: Path, typed: dict[Place, float]) -> None:
        """Return an .xlsx with these constants and formulas, and `typed` for the typed numbers.

        Names are kept, and structured references are addresses by now. A formula that reaches out
        of the workbook is left out.
        """
        titles = [*self.visible]
        rows = {title: {} for title in titles}
        for place in sorted(self.numbers.keys() | self.formulas.keys() | self.words.keys()):
            rows[place.sheet].setdefault(place.row, []).append(self._xml(place, typed))
        numbers = range(1, len(titles) + 1)
        sheets = "".join(
            f'<sheet name={quoteattr(title)} sheetId="{k}" r:id="rId{k}"/>'
            for k, title in zip(numbers, titles, strict=True)
        )
        names = "".join(
            f"<definedName name={quoteattr(name)}"
            + (f' localSheetId="{titles.index(sheet)}"' if sheet in titles else "")
            + f">{escape(text)}</definedName>"
            for (sheet, name), text in self.names.items()
            if stays_inside(text)
        )
        names = names and f"<definedNames>{names}</definedNames>"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            parts = [f"/xl/worksheets/sheet{k}.xml" for k in numbers]
            kinds = {"/xl/workbook.xml": "sheet.main"} | dict.fromkeys(parts, "worksheet")
            kinds = "".join(
                f'<Override PartName="{part}" ContentType="{KIND}.{kind}+xml"/>'
                for part, kind in kinds.items()
            )
            kinds = f'<Default Extension="rels" ContentType="{RELATIONS}+xml"/>{kinds}'
            archive.writestr("[Content_Types].xml", f'<Types xmlns="{TYPES}">{kinds}</Types>')
            archive.writestr("_rels/.rels", relations([("officeDocument", "/xl/workbook.xml")]))
            archive.writestr(
                "xl/workbook.xml",
                f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets>{sheets}</sheets>{names}'
                "</workbook>",
            )
            archive.writestr(
                "xl/_rels/workbook.xml.rels", relations([("worksheet", part) for part in parts])
            )
            for part, title in zip(parts, titles, strict=True):
                body = "".join(
                    f'<row r="{row}">{"".join(cells)}</row>' for row, cells in rows[title].items()
                )
                text = f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'
                archive.writestr(part[1:], text)

    def _xml(self, place: Place, typed: dict[Place, float]) -> str:
        """Return a cell as the file format writes it, or nothing if it is calculated elsewhere."""
        formula, start = self.formulas.get(place), f'<c r="{place.address}"'
        if place in typed:
            return f"{start}><v>{typed[place]!r}</v></c>"
        if place in self.what_if:
            options = "".join(f" {k}={quoteattr(v)}" for k, v in self.what_if[place].items())
            return f"{start}><f{options}/><v>0</v></c>"
        if place in self.inner or not stays_inside(formula or ""):
            return ""
        if formula is not None:
            area = self.spilled.get(place)
            kind = f' t="array" ref="{area}"' if area else ""
            return f"{start}><f{kind}>{escape(formula)}</f></c>"
        if place in self.numbers:
            return f"{start}><v>{self.numbers[place]!r}</v></c>"
        return f'{start} t="inlineStr"><is><t>{escape(self.words[place])}</t></is></c>'


FORMATS = "http://schemas.openxmlformats.org"
MAIN = f"{FORMATS}/spreadsheetml/2006/main"
OFFICE = f"{FORMATS}/officeDocument/2006/relationships"
PACKAGE = f"{FORMATS}/package/2006/relationships"
TYPES = f"{FORMATS}/package/2006/content-types"
RELATIONS = "application/vnd.openxmlformats-package.relationships"
KIND = "application/vnd.openxmlformats-officedocument.spreadsheetml"


def relations(parts: list[tuple[str, str]]) -> str:
    """Return the part of a package that lists what belongs to another part."""
    lines = "".join(
        f'<Relationship Id="rId{k}" Type="{OFFICE}/{kind}" Target="{part}"/>'
        for k, (kind, part) in enumerate(parts, 1)
    )
    return f'<Relationships xmlns="{PACKAGE}">{lines}</Relationships>'


def unquoted(title: str) -> str:
    """Return a sheet's title from the form that a formula has."""
    title = title.removesuffix("!")
    return title[1:-1].replace("''", "'") if title[:1] == "'" else title


def stays_inside(formula: str) -> bool:
    """Return whether a formula, of the length that Excel allows, stays within the workbook."""
    return len(formula) <= 8192 and not OUTSIDE.search(formula)


def number(text: str) -> float | None:
    """Return a number that may be written with a decimal comma, or None."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def moved(formula: str, rows: int, columns: int) -> str:
    """Return a formula as filled so many rows down and columns to the right."""

    def one(corner):
        fixed_column, letters, fixed_row, digits = corner.groups()
        if not fixed_column:
            column = column_index_from_string(letters) + columns
            letters = get_column_letter((column - 1) % 16384 + 1)
        if not fixed_row:
            digits = (int(digits) + rows - 1) % 1048576 + 1
        return f"{fixed_column}{letters}{fixed_row}{digits}"

    def each(token):
        if not token["cells"]:
            return token[0]
        return (token["sheet"] or "") + ONE_CELL.sub(one, token["cells"])

    return TOKEN.sub(each, formula)


# Reading


def read(path: Path) -> Book:
    """Read a spreadsheet file; raises a WorkbookError with the reason if it can't be read.

    A file that is no .xlsx, such as .ods and .xls, is converted by LibreOffice, if it is installed.
    """
    try:
        start = path.open("rb").read(8)
    except FileNotFoundError:
        raise WorkbookError(
            f"{path.name}: there is no such file in {path.absolute().parent}. Save your workbook "
            "there under this name."
        ) from None
    except OSError as error:
        raise WorkbookError(f"{path.name}: this is no workbook: {error.strerror}.") from None
    try:
        if start[:2] != b"PK" or b"spreadsheet" in _kind(path):
            return _converted(path, start)
        with zipfile.ZipFile(path) as archive:
            return _Reader(archive).book
    except WorkbookError as problem:
        raise WorkbookError(f"{path.name}: {problem}") from None
    except Exception as error:  # a damaged or malicious file may make a parser raise anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise WorkbookError(
            f"{path.name}: this is no workbook: {reason}. Save it as .xlsx."
        ) from None


def _kind(path: Path) -> bytes:
    """Return the first bytes of the part that names an OpenDocument's kind, or nothing."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        return archive.open("mimetype").read(100) if "mimetype" in names else b""


def _converted(path: Path, start: bytes) -> Book:
    """Return the book of a file that only a spreadsheet program can read."""
    kind = ".ods" if start[:2] == b"PK" else ".xls"
    if start == OLE and "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
        raise WorkbookError("it has a password. Save it without one.")
    if start[:2] != b"PK" and start != OLE:
        raise WorkbookError("this is no workbook. Save it as .xlsx.")
    if not office.program():
        raise WorkbookError(f"this is an {kind} file. Save it as .xlsx.")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "workbook" + kind)  # by its contents, whatever its name is
        copy.write_bytes(path.read_bytes())
        try:
            (made,) = office.convert("xlsx", [copy], Path(folder, "converted"), timeout=60)
        except RuntimeError:
            raise WorkbookError(f"this {kind} file can't be opened. Save it as .xlsx.") from None
        with zipfile.ZipFile(made) as archive:
            return _Reader(archive).book


class _Reader:
    """Read the parts of an .xlsx, also of a Strict one, into a `Book`."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive, self.left, self.book = archive, LARGEST, Book()
        self.parts = {name.lower(): name for name in archive.namelist()}
        (start,) = [p for p, kind in self.related("") if kind == "officeDocument"][:1] or [""]
        if not start:
            raise WorkbookError("this is no workbook: it has no cells. Save it as .xlsx.")
        workbook, parts = self.tree(start), dict(self.linked(start))
        listed = [sheet for sheet in workbook.iter("sheet") if _id(sheet) in parts]
        titles = [sheet.get("name", "") for sheet in listed]
        if not titles or len(titles) > MOST_SHEETS:
            raise WorkbookError(f"it has {len(titles)} sheets; 1 to {MOST_SHEETS} can be checked.")
        self.book.visible = {
            title: sheet.get("state", "visible") == "visible"
            for title, sheet in zip(titles, listed, strict=True)
        }
        for name in workbook.iter("definedName"):
            local = name.get("localSheetId")
            scope = titles[int(local)] if local and int(local) < len(titles) else ""
            if not name.get("name", "").startswith("_xlnm"):
                self.book.names[scope, name.get("name", "")] = name.text or ""
        strings = [p for p, kind in self.related(start) if kind == "sharedStrings"]
        self.strings = [
            "".join(piece.text or "" for piece in item.iter("t"))
            for part in strings
            for item in self.tree(part).iter("si")
        ]
        for sheet, title in zip(listed, titles, strict=True):
            self.sheet(title, parts[_id(sheet)])
        self.plain_references()

    def data(self, part: str) -> bytes:
        """Return the bytes of a part, if the file stays within its limit."""
        name = self.parts[part.lower()]
        self.left -= self.archive.getinfo(name).file_size
        if self.left < 0:
            raise WorkbookError(f"unpacked it has more than {LARGEST / 1e6:g} MB.")
        data = self.archive.read(name)
        if b"<!DOCTYPE" in data or "<!DOCTYPE".encode("utf-16-le") in data.replace(b"\0<", b"<"):
            raise WorkbookError("this is no workbook: it defines XML entities. Save it as .xlsx.")
        return data

    def tree(self, part: str) -> ElementTree.Element:
        """Return the XML of a part, its tags without their namespaces."""
        root = ElementTree.fromstring(self.data(part))
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]
        return root

    def relationships(self, part: str):
        folder, name = posixpath.split(part)
        source = posixpath.join(folder, "_rels", name + ".rels")
        if source.lower() not in self.parts:
            return
        for link in self.tree(source).iter("Relationship"):
            target = posixpath.normpath(posixpath.join("/" + folder, link.get("Target", "")))[1:]
            if link.get("TargetMode") != "External" and target.lower() in self.parts:
                yield link.get("Id"), target, link.get("Type", "").rpartition("/")[2]

    def related(self, part: str) -> list[tuple[str, str]]:
        """Return the parts that belong to a part, and the kind of each."""
        return [(target, kind) for _, target, kind in self.relationships(part)]

    def linked(self, part: str) -> list[tuple[str, str]]:
        """Return the same parts by their ids."""
        return [(link, target) for link, target, _ in self.relationships(part)]

    def sheet(self, title: str, part: str) -> None:
        """Read a sheet's cells, tables and charts."""
        if not part.lower().endswith(".xml"):
            return
        shared, row, column = {}, 0, 0
        for _, element in ElementTree.iterparse(io.BytesIO(self.data(part)), ("start", "end")):
            tag = element.tag.rpartition("}")[2]
            if _ == "start":
                if tag == "row":
                    row, column = int(element.get("r", row + 1)), 0
                continue
            if tag == "c":
                if address := element.get("r"):
                    letters = address.rstrip("0123456789")
                    row, column = int(address[len(letters) :]), column_index_from_string(letters)
                else:
                    column += 1
                self.cell(Place(title, row, column), element, shared)
                if len(self.book.numbers) + len(self.book.words) > MOST_CELLS:
                    raise WorkbookError(f"it has more than {MOST_CELLS:,} cells.")
            if tag in ("row", "mergeCell", "hyperlink", "conditionalFormatting"):
                element.clear()
        for target, kind in self.related(part):
            if kind == "table":
                table = self.tree(target)
                name = table.get("displayName") or table.get("name") or ""
                columns = [column.get("name", "") for column in table.iter("tableColumn")]
                head, foot = table.get("headerRowCount", "1"), table.get("totalsRowCount", "0")
                (area,) = self.book.areas(table.get("ref", ""), title)
                self.book.tables[name.upper()] = (area, columns, int(head), int(foot))
            if kind == "drawing":
                charts = [chart for chart, kind in self.related(target) if kind == "chart"]
                self.book.charts += (Chart(title, _series(self.tree(chart))) for chart in charts)

    def cell(self, place: Place, element, shared: dict) -> None:
        """Put a cell's value and formula into the book."""
        children = {child.tag.rpartition("}")[2]: child for child in element}
        self.value(place, element.get("t", "n"), children)
        if "f" in children:
            self.formula(place, children["f"], shared)

    def value(self, place: Place, kind: str, children: dict) -> None:
        """Put the value into the book as a number if it is one, else as words."""
        value = getattr(children.get("v"), "text", None) or ""
        if kind == "s" and value:
            index = int(value)
            value = self.strings[index] if index < len(self.strings) else ""
        elif kind == "inlineStr" and "is" in children:
            value = "".join(p.text or "" for p in children["is"].iter() if p.tag.endswith("t"))
        found = None if kind in "eb" else number(value)
        if found is not None:
            self.book.numbers[place] = found
        elif value and kind != "e":
            self.book.words[place] = value

    def formula(self, place: Place, element, shared: dict) -> None:
        """Put the formula into the book: a shared one with its references moved to this place."""
        text, kind, group = element.text or "", element.get("t"), element.get("si")
        if kind == "shared" and text:
            shared[group] = text, place
        elif kind == "shared" and group in shared:
            origin, start = shared[group]
            text = moved(origin, place.row - start.row, place.column - start.column)
        elif kind == "dataTable":
            options = {k: element.get(k) for k in ("t", "ref", "dt2D", "dtr", "r1", "r2")}
            self.book.what_if[place] = {k: v for k, v in options.items() if v}
            text = f"TABLE({element.get('r1', '')},{element.get('r2', '')},{element.get('ref')})"
        self.book.formulas[place] = text
        if kind in ("array", "dataTable") and ":" in (area := element.get("ref", "")):
            self.book.spilled[place] = area

    def plain_references(self) -> None:
        """Write structured references as addresses, and an array's formula into all its cells."""
        book = self.book
        if book.tables:
            for place, formula in book.formulas.items():
                if "[" in formula:
                    here = partial(self.area, place=place)
                    book.formulas[place] = STRUCTURED.sub(here, formula)
            for key, formula in book.names.items():
                book.names[key] = STRUCTURED.sub(self.area, formula)
        for start, area in [*book.spilled.items()]:
            for place in book.cells(area, start.sheet):
                if place != start:
                    book.formulas.setdefault(place, book.formulas[start])
                    book.inner.add(place)

    def area(self, reference, place: Place | None = None) -> str:
        """Return the address of a structured reference, or the reference unchanged."""
        table, inside = self.book.tables.get(reference[1].upper()), reference[2]
        if not table:
            return reference[0]
        (title, top, left, bottom, right), columns, head, foot = table
        pieces = [a or b for a, b in re.findall(r"\[([^\[\]]*)\]|([^,:\[\]]+)", inside)]
        wanted = [re.sub(r"'(.)", r"\1", p.lstrip("@")) for p in pieces if p[:1] != "#"]
        wanted = [columns.index(name) for name in wanted if name in columns]
        if wanted:
            left, right = left + min(wanted), left + max(wanted)
        marks = {piece.casefold() for piece in pieces if piece[:1] == "#"}
        if "#headers" in marks:
            top, bottom = top, top + head - 1
        elif "#all" not in marks:
            top, bottom = top + head, bottom - foot
        if place and ("#this row" in marks or inside.startswith("@")):
            top = bottom = place.row
        ends = (f"${get_column_letter(c)}${r}" for r, c in ((top, left), (bottom, right)))
        quoted = "'" + title.replace("'", "''") + "'"
        return f"{quoted}!{':'.join(dict.fromkeys(ends))}"


def _id(element) -> str:
    """Return an element's r:id, in any namespace."""
    return next((v for name, v in element.attrib.items() if name.endswith("}id")), "")


def _series(chart) -> list[str]:
    """Return what each series of a chart draws: the reference to its values."""
    found = []
    for series in chart.iter("ser"):
        for values in (child for child in series if child.tag in ("val", "yVal")):
            found += [reference.text or "" for reference in values.iter("f")][:1]
    return found
