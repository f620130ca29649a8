"""Write `backpropagation.xlsx`: the derivation of `network.py` as live formulas.

Beside each formula the file keeps the value that `network.py` computes, for viewers that do not
calculate. A spreadsheet program replaces it with its own, and a test compares the two. EXP, INDEX,
MIN, ROW and SUMPRODUCT are the only functions; Excel, LibreOffice and Google Sheets share them.
"""

import datetime

import numpy as np
import xlsxwriter
from xlsxwriter.utility import xl_range_abs, xl_rowcol_to_cell

from backprop import formulas
from backprop.formulas import FORMULAS, NAMES, label
from backprop.network import COLUMNS, INPUTS, RATES, TARGETS, WEIGHTS, slope, train
from backprop.plots import FAMILIES, RATE_COLOURS, family, tint
from s4lib.plots import GREY

STEPS = 100
ROUNDING = 1e-15  # a smaller rise of the error is rounding: float64 has no more digits
SHOWN_STEPS = (0, 1, 2, 5, *range(10, STEPS + 1, 10))
HAND, TRAINING, COMPARISON = "By hand", "Training", "Learning rates"

CREATED = datetime.datetime(2024, 1, 1)  # a fixed date, so that rebuilding changes nothing
WIDTHS = {"s": 5, "i": 5, "t": 5, "d": 9.5}  # of columns, by the first letter of the symbol
YELLOW, FAINT = "#FFF2A8", "#555555"

NUMBER = {"validate": "decimal", "criteria": "between", "minimum": -1000, "maximum": 1000}
NUMBER |= {"error_title": "Not a number", "error_message": "Enter a number from -1000 to 1000."}
TARGET = {"validate": "decimal", "criteria": "between", "minimum": 0, "maximum": 1}
TARGET |= {"error_title": "Not a target", "error_message": "Enter a number from 0 to 1."}
RATE = {"validate": "decimal", "criteria": ">", "value": 0}
RATE |= {"error_title": "Not a learning rate", "error_message": "Enter a positive number."}
STEP = {"validate": "integer", "criteria": "between", "minimum": 0, "maximum": STEPS}
STEP |= {"error_title": "Not a step", "error_message": f"Enter a whole number from 0 to {STEPS}."}


def build(
    path, diagram, rate=0.5, rates=RATES, inputs=INPUTS, targets=TARGETS, weights=WEIGHTS
) -> None:
    """Write the workbook to `path`, with the picture `diagram` of the network in it.

    `rate` drives the sheet with one training and `rates` are the six that are compared. The same
    arguments give the same file, byte for byte, with the same version of XlsxWriter.
    """
    table, *tables = (train(eta, STEPS, inputs, targets, weights) for eta in (rate, *rates))
    book = xlsxwriter.Workbook(str(path))
    book.set_properties({"title": "Backpropagation by hand", "created": CREATED})
    pages = [Page(book, title) for title in (HAND, TRAINING, COMPARISON)]
    _teach(pages[0], table, rate, diagram)
    _train_once(pages[1], table, rate)
    _compare(pages[2], tables, rates)
    book.close()


class Page:
    """Add a worksheet that is protected, set up for printing, and in one font."""

    def __init__(self, book, title):
        self.book, self.title = book, title
        self.sheet = book.add_worksheet(title)
        self.sheet.hide_gridlines(2)
        self.sheet.protect("", {"format_columns": True, "format_rows": True})
        self.sheet.set_landscape()
        self.sheet.set_paper(9)  # A4
        self.sheet.set_margins(left=0.3, right=0.3, top=0.4, bottom=0.5)
        self.sheet.set_footer("&L&A&Rpage &P of &N")

    def paint(self, **style):
        """Return a cell format."""
        base = {"font_name": "Arial", "font_size": 10, "valign": "vcenter"}
        return self.book.add_format(base | style)

    def text(self, row, column, text, **style):
        """Write words into a cell."""
        self.sheet.write_string(row, column, text, self.paint(**style))

    def formula(self, row, column, formula, value, **style):
        """Write a formula into a cell, and the value to show until it is calculated."""
        self.sheet.write_formula(row, column, "=" + formula, self.paint(**style), value)

    def input(self, row, column, value, allowed, number_format="0.00##"):
        """Write a cell that may be changed: yellow, framed, unlocked and validated."""
        style = {"bg_color": YELLOW, "border": 1, "border_color": FAINT, "locked": False}
        self.sheet.write(row, column, value, self.paint(**style, num_format=number_format))
        self.sheet.data_validation(row, column, row, column, {"ignore_blank": False, **allowed})

    def name(self, symbol, row, column):
        """Let formulas call a cell by its symbol."""
        cell = xl_rowcol_to_cell(row, column, row_abs=True, col_abs=True)
        self.book.define_name(NAMES.get(symbol, symbol), f"='{self.title}'!{cell}")

    def head(self, title, hint):
        """Write the first two rows: what the sheet is, and what to do with it."""
        self.sheet.set_row(0, 24)
        self.text(0, 0, title, bold=True, font_size=16)
        self.text(1, 0, hint, font_color=FAINT)

    def table(self, top, left, symbols, table, rate, first):
        """Write a live training: a header in row `top` and one row per step from row `first` on.

        `rate` is the name of the cell with the learning rate. Symbols without a column in the table
        are taken from the first sheet.
        """
        digits = {"s": "0", "i": "0.00##", "t": "0.00##", "E": "0.000000", "d": "0.000000"}
        styles = {}
        for column, symbol in enumerate(symbols, left):
            colour = colour_of(symbol)
            header = {"bold": True, "align": "center", "bottom": 1}
            self.text(top, column, label(symbol), bg_color=tint(colour, 0.35), **header)
            self.sheet.set_column(column, column, WIDTHS.get(symbol[0], 8.3))
            style = {"num_format": digits.get(symbol[0], "0.00000"), "bg_color": tint(colour, 0.08)}
            styles[symbol] = self.paint(**style)

        zero = xl_rowcol_to_cell(first, left, row_abs=True)
        above = None
        for row, values in enumerate(table, first):
            cells = {s: xl_rowcol_to_cell(row, column) for column, s in enumerate(symbols, left)}
            known = NAMES | cells
            for symbol in symbols:
                if symbol == "step":
                    formula = f"ROW()-ROW({zero})"
                elif symbol in FORMULAS:
                    formula = FORMULAS[symbol].format_map(known)
                elif symbol[0] == "w" and above:
                    formula = f"{above[symbol]}-{rate}*{above['dE_d' + symbol]}"
                else:
                    formula = NAMES[symbol]
                value = values[symbol]
                self.sheet.write_formula(cells[symbol], "=" + formula, styles[symbol], value)
            above = cells

    def chart(self, row, column, title, lines, width, height):
        """Return a chart of E_total against the step, with one or more `lines`."""
        chart = self.book.add_chart({"type": "line"})
        for line in lines:
            chart.add_series(line)
        font = {"name": "Arial", "size": 11, "bold": False}
        axis = {"name_font": font, "num_font": {**font, "size": 9}}
        tens = {"interval_unit": 10, "interval_tick": 10, "position_axis": "on_tick"}
        faint = {"visible": True, "line": {"color": "#DDDDDD"}}
        chart.set_title({"name": title, "name_font": {**font, "size": 13, "bold": True}})
        chart.set_x_axis({"name": "step", **tens, **axis})
        chart.set_y_axis(
            {"name": "E_total", "min": 0, "num_format": "0.00", "major_gridlines": faint, **axis}
        )
        chart.set_legend({"position": "right", "font": font} if len(lines) > 1 else {"none": True})
        chart.set_size({"width": width, "height": height})
        self.sheet.insert_chart(row, column, chart, {"description": title})


def colour_of(symbol: str) -> str:
    """Return the colour of a symbol's cells, which is the colour of its place in the drawing."""
    return GREY if symbol == "step" else FAMILIES[family(symbol)]


def _teach(page, table, rate, diagram):
    """Write the first sheet: inputs, network, forward pass, loss, chain rule, update."""
    sheet, values = page.sheet, chain_rule(table)
    panel = (11, 13, 27, 26)  # symbol, value, in symbols, in words
    for column, width in enumerate((*panel, 3, *panel)):
        sheet.set_column(column, column, width)
    for row in range(2, 39):
        sheet.set_row(row, 15.75)
    page.head(
        "Backpropagation by hand",
        "Change a yellow cell: every number, table and chart follows. "
        "A colour says where in the network a number lives, as in the drawing.",
    )
    sheet.freeze_panes(2, 0)
    sheet.print_area(0, 0, 38, 8)
    sheet.fit_to_pages(1, 1)

    def section(row, column, title):
        sheet.merge_range(row, column, row, column + 3, title, page.paint(bold=True, bottom=1))

    section(3, 0, "0  Start: the numbers that you may change")
    for row, symbol in enumerate(("i1", "i2", "t1", "t2", *(f"w{k}" for k in range(1, 9))), 4):
        page.text(row, 0, symbol, bold=True, bg_color=tint(colour_of(symbol)))
        page.input(row, 1, values[symbol], TARGET if symbol[0] == "t" else NUMBER)
        page.name(symbol, row, 1)
    page.text(16, 0, "η", bold=True)
    page.formula(16, 1, "learning_rate", rate, num_format="0.00##")
    page.text(16, 2, "the learning rate: change it on the next sheet", font_color=FAINT, indent=1)
    place = {"x_offset": 6, "y_offset": 4, "x_scale": 0.62, "y_scale": 0.62, "object_position": 2}
    alt = "The network: two inputs, two hidden units, two outputs, and the errors E1 and E2."
    sheet.insert_image(4, 2, str(diagram), {**place, "description": alt})

    after = f"{TRAINING}!{xl_rowcol_to_cell(6, COLUMNS.index('E_total'))}"
    words = "step 1 of the next sheet", "E_total with the new weights"
    for row, column, title, steps in (
        (18, 0, "1  Forward pass: from the inputs to the outputs", formulas.FORWARD),
        (28, 0, "2  Loss: how far from the targets", formulas.LOSS),
        (3, 5, "3  Chain rule, output layer: ∂E means ∂E_total", formulas.OUTPUT_LAYER),
        (15, 5, "4  Chain rule, hidden layer", formulas.HIDDEN_LAYER),
        (27, 5, "5  Update: every weight takes one step downhill", formulas.UPDATE),
        (37, 5, "6  Check: has the error fallen?", [("new_E_total", *words, after)]),
    ):
        section(row, column, title)
        for line, (symbol, in_symbols, in_words, formula) in enumerate(steps, row + 1):
            colour, formula = tint(colour_of(symbol)), formula.format_map(NAMES)
            shown = {"num_format": "0.000000000", "bg_color": colour}
            page.text(line, column, label(symbol), bold=True, bg_color=colour)
            page.formula(line, column + 1, formula, values[symbol], **shown)
            page.text(line, column + 2, in_symbols, indent=1)
            page.text(line, column + 3, in_words, font_color=FAINT)
            page.name(symbol, line, column + 1)


def chain_rule(table) -> dict[str, float]:
    """Return every number of the first sheet, by symbol, from the first steps of a training."""
    start, after = table[:2]
    values = {symbol: start[symbol] for symbol in COLUMNS}
    values |= {f"new_{s}": after[s] for s in COLUMNS if f"new_{s}" in NAMES}
    for k in "12":
        values[f"dE_da_o{k}"] = start[f"a_o{k}"] - start[f"t{k}"]
        values[f"da_o{k}_do{k}"] = slope(start[f"o{k}"])
        values[f"dE_do{k}"] = values[f"dE_da_o{k}"] * values[f"da_o{k}_do{k}"]
    for k, to_o1, to_o2 in (("1", "w5", "w7"), ("2", "w6", "w8")):
        values[f"dE_da_h{k}"] = values["dE_do1"] * start[to_o1] + values["dE_do2"] * start[to_o2]
        values[f"da_h{k}_dh{k}"] = slope(start[f"h{k}"])
        values[f"dE_dh{k}"] = values[f"dE_da_h{k}"] * values[f"da_h{k}_dh{k}"]
    return values


def _train_once(page, table, rate):
    """Write the sheet with one training: the class's columns, one row per step, and its chart."""
    sheet = page.sheet
    page.head(
        "Training",
        "One row is one step: forward pass, error, gradients. "
        "The weights of the next row are w − η · ∂E/∂w.",
    )
    page.text(2, 0, "learning rate η", bold=True)
    page.input(2, 3, rate, RATE)
    page.name("learning_rate", 2, 3)
    page.table(3, 0, COLUMNS, table, "learning_rate", first=5)
    sheet.freeze_panes(4, 1)

    sheet.set_row(4, 210)  # room for the chart, so that the printed page does not become wider
    line = {
        "categories": [TRAINING, 5, 0, 5 + STEPS, 0],
        "values": [TRAINING, 5, COLUMNS.index("E_total"), 5 + STEPS, COLUMNS.index("E_total")],
        "line": {"color": FAMILIES["error"], "width": 2.5},
    }
    page.chart(4, 1, "Error of this training", [line], width=640, height=272)

    sheet.set_paper(8)  # A3, because the columns would be too small to read on A4
    sheet.repeat_rows(3)
    sheet.print_area(0, 0, 5 + STEPS, len(COLUMNS) - 1)
    sheet.fit_to_pages(1, 0)


def _compare(page, tables, rates):
    """Write the sheet with six trainings side by side, and the six curves in one chart."""
    sheet = page.sheet
    page.head(
        "Six learning rates",
        "Each column is a training of its own, worked out in full from column S on. "
        "Change a rate, or which steps are shown.",
    )
    header = {"bold": True, "align": "center"}
    shown = range(4, 4 + len(SHOWN_STEPS))
    lowest, rises = shown[-1] + 2, shown[-1] + 3
    page.text(2, 0, "η", **header)
    page.text(3, 0, "step", **header, bottom=1, bg_color=tint(GREY, 0.35))
    for row, step in zip(shown, SHOWN_STEPS, strict=True):
        page.input(row, 0, step, STEP, "0")
    page.text(lowest, 0, "lowest", bold=True)
    page.text(rises, 0, "rises", bold=True)
    explained = f"rises: how many of the {STEPS} steps raised the error"
    page.text(rises + 1, 0, explained, font_color=FAINT)

    symbols = [symbol for symbol in COLUMNS if symbol[0] not in "it"]
    colour, lines = tint(FAMILIES["error"]), []
    for k, (rate, table) in enumerate(zip(rates, tables, strict=True)):
        column, left = k + 1, 18 + k * (len(symbols) + 1)
        cell = xl_rowcol_to_cell(2, column, row_abs=True, col_abs=True)
        page.input(2, column, rate, RATE)
        page.name(f"rate_{k + 1}", 2, column)
        eta = f'"η = "&{cell}', f"η = {rate:g}"
        page.formula(2, left, *eta, bold=True)
        page.table(3, left, symbols, table, cell, first=4)

        # The column belongs to this training.
        E_total = left + symbols.index("E_total")
        curve, before, after = (
            xl_range_abs(4 + skip, E_total, 4 + STEPS - drop, E_total)
            for skip, drop in ((0, 0), (0, 1), (1, 0))
        )
        page.formula(3, column, *eta, **header, bottom=1, bg_color=colour)
        six_digits = {"num_format": "0.000000"}
        for row, step in zip(shown, SHOWN_STEPS, strict=True):
            formula, value = f"INDEX({curve},$A{row + 1}+1)", table["E_total"][step]
            page.formula(row, column, formula, value, **six_digits, bg_color=colour)
        page.formula(lowest, column, f"MIN({curve})", table["E_total"].min(), **six_digits)
        count = int((np.diff(table["E_total"]) > ROUNDING).sum())
        page.formula(rises, column, f"SUMPRODUCT(({after}-{before}>{ROUNDING})*1)", count)

        dash = ("solid", "dash")[k % 2]
        line = {
            "name": [COMPARISON, 3, column],
            "categories": [COMPARISON, 4, left, 4 + STEPS, left],
            "values": [COMPARISON, 4, E_total, 4 + STEPS, E_total],
            "line": {"color": RATE_COLOURS[k], "width": 2.25, "dash_type": dash},
        }
        lines.append(line)

    page.chart(4, 8, "Error at six learning rates", lines, width=640, height=470)
    for row in range(2, rises + 2):
        sheet.set_row(row, 20.25)
    sheet.set_column(0, 0, 8)
    sheet.set_column(1, 6, 10)
    sheet.set_column(7, 7, 2)
    sheet.freeze_panes(4, 0)
    sheet.print_area(0, 0, rises + 1, 17)
    sheet.fit_to_pages(1, 1)
