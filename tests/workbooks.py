"""Write students' workbooks: layouts, slips, and what was pasted or forged, with kept values.

A workbook has, for each of six rates, `steps` + 1 groups of cells, one for each symbol. A layout
says where each cell stands; the numbers of the first group are typed, all others are formulas.
"""

from typing import NamedTuple

import numpy as np
import xlsxwriter
from xlsxwriter.utility import xl_rowcol_to_cell

from backprop.formulas import FORMULAS, label
from backprop.network import ERRORS, GRADIENTS, RATES, UNITS, train
from notebooks.assignment import workbook, workbook_trainings

WEIGHTS = tuple(f"w{k}" for k in range(1, 9))
INPUTS = ("i1", "i2", "t1", "t2")
SYMBOLS = (*WEIGHTS, *UNITS, *ERRORS, *GRADIENTS)
MIXED = (  # the class sheet's order
    *("w1", "w2", "w3", "w4", "h1", "h2", "a_h1", "a_h2", "w5", "w6", "w7", "w8"),
    *("o1", "o2", "a_o1", "a_o2", "E1", "E2", "E_total", *GRADIENTS),
)
EACH = (*WEIGHTS, "h1", "a_h1", "h2", "a_h2", "o1", "a_o1", "o2", "a_o2", *ERRORS, *GRADIENTS)
BACK = (*GRADIENTS, *ERRORS, *reversed(UNITS), *WEIGHTS)


class Layout(NamedTuple):
    """Where cells stand, and where the numbers are that everything starts from."""

    where: callable  # (training, step, number of the symbol) → (sheet, row, column), from 0
    order: tuple = SYMBOLS
    start: str = "block"  # block, sheet, names, each row's own cells, or typed in each row
    heads: str | None = "∂E/∂{}"  # how gradients are headed; None: nothing is


def side_by_side(k, step, j, width=38):
    return "Sheet1", 20 + step, k * width + j


def wide_first(k, step, j):
    return "Tabelle1", 20 + step, k * 38 + j + 3


def stacked(k, step, j, height=15):
    return "Лист1", 20 + k * height + step, 2 + j


def across(k, step, j):
    return "Backprop", 20 + k * 38 + j, 3 + step


def sheets(k, step, j):
    return f"Lernrate {RATES[k]}".replace(".", ","), 20 + step, 7 + j


def sheets_across(k, step, j):
    return f"lr={RATES[k]}", 20 + j, 4 + step


def blocks(k, step, j):
    return f"eta {k}", 20 + step * 40 + j, 4


def blocks_across(k, step, j):
    return f"O'Neil {k}", 20 + j, 4 + 3 * step


def every_second_row(k, step, j):
    return f"LR{k}", 20 + 2 * step, j


def far_down(k, step, j):
    return "Sheet 1", 900 + step, 40 * k + j + 4


def few_steps(patch, steps):
    """So few steps are enough."""
    patch.setattr(workbook_trainings, "STEPS", steps)
    patch.setattr(workbook, "STEPS", steps)
    patch.setattr(workbook, "DRAWN", steps)


LAYOUTS = {
    "class sheet": Layout(sheets, EACH, "row"),
    "class sheet, typed in each row": Layout(sheets, EACH, "typed"),
    "class order": Layout(sheets, MIXED, "row"),
    "six tables": Layout(side_by_side),
    "six tables, class order": Layout(side_by_side, MIXED, "row"),
    "six tables, without words": Layout(side_by_side, EACH, heads=None),
    "six tables, gradients first": Layout(wide_first, BACK, heads="dE/d{}"),
    "one below the other": Layout(stacked, EACH, heads="dE_t/d{}"),
    "one below the other, named": Layout(stacked, MIXED, "names"),
    "one below the other, own row": Layout(stacked, SYMBOLS, "row", "∂E_total/∂{}"),
    "across": Layout(across),
    "across, without words": Layout(across, MIXED, heads=None),
    "across, gradients first": Layout(across, BACK, "row"),
    "across, typed": Layout(across, EACH, "typed"),
    "sheets": Layout(sheets, SYMBOLS, "sheet"),
    "sheets, named": Layout(sheets, MIXED, "names", "δE/δ{}"),
    "sheets, without words": Layout(sheets, BACK, heads=None),
    "sheets across": Layout(sheets_across, EACH),
    "sheets across, own row": Layout(sheets_across, MIXED, "row"),
    "blocks": Layout(blocks),
    "blocks, named": Layout(blocks, EACH, "names"),
    "blocks across": Layout(blocks_across, MIXED, "sheet"),
    "every second row": Layout(every_second_row, EACH),
    "every second row, own row": Layout(every_second_row, BACK, "row"),
    "far down": Layout(far_down, SYMBOLS, "sheet"),
}


def evaluate(formula: str, values: dict) -> float:
    """Return what a spreadsheet would calculate."""
    functions = {"EXP": np.exp, "MIN": min, "ROUND": round}
    formula = formula.replace("{", "").replace("}", "").replace("^", "**")
    return float(eval(formula, functions, values))


def write(
    path,
    layout=LAYOUTS["six tables"],
    numbers=None,
    wrong=(),
    update="{w}-{rate}*{gradient}",
    uses=(),
    pasted=(),
    forged=None,
    steps=8,
    rates=RATES,
    chart="E_total",
    summary=False,
):
    """A student's workbook at `path`.

    `wrong` is {symbol: formula}, in which {new_w5} is a cell of the next step; `update` how a
    weight follows from its cells; `uses`, {weight: gradient}, which gradient it takes. `pasted`
    has symbols, or (training, step, symbol), that are values without formulas; `forged` makes
    a formula of a value. A `summary` is a first sheet with the curves as numbers.
    """
    book = xlsxwriter.Workbook(str(path))
    pages, style = {}, book.add_format({"num_format": "0.000000"})

    def page(name):
        if name not in pages:
            pages[name] = book.add_worksheet(name)
        return pages[name]

    def address(spot, home, fixed=False):
        cell = xl_rowcol_to_cell(*spot[1:], row_abs=fixed, col_abs=fixed)
        return cell if spot[0] == home else "'" + spot[0].replace("'", "''") + f"'!{cell}"

    if summary:
        page("All rates")
    formulas = FORMULAS | dict(wrong)
    typed = dict(zip((*INPUTS, *WEIGHTS), sum(map(tuple, numbers), ()), strict=True))
    first = layout.where(0, 0, 0)[0]
    order = layout.order if layout.start not in ("row", "typed") else (*INPUTS, *layout.order)
    block = {}
    if layout.start in ("block", "sheet", "names"):
        home = "Start" if layout.start == "sheet" else first
        for row, (symbol, value) in enumerate(typed.items()):
            page(home).write(row, 0, symbol)
            page(home).write_number(row, 1, value, style)
            block[symbol] = (home, row, 1)
            if layout.start == "names":
                name = "_".join(symbol)
                book.define_name(name, "=" + address(block[symbol], "", fixed=True))
    curves = book.add_chart({"type": "line"})
    for k, rate in enumerate(rates):
        values, spots = dict(typed), {}
        home = layout.where(k, 0, 0)[0]
        rate_cell = (home, k if home == first else 0, 4)
        page(home).write_string(rate_cell[1], 3, "η")
        page(home).write_number(*rate_cell[1:], rate)
        for step in range(steps + 1):
            before, old = spots, dict(values)
            spots = {s: layout.where(k, step, j) for j, s in enumerate(order)}
            if step == 0 and layout.heads:
                for symbol, (sheet, row, column) in spots.items():
                    head = label(symbol)
                    if symbol in GRADIENTS:
                        head = layout.heads.format(symbol[-2:])
                    at = (row, column - 1) if in_columns(layout) else (row - 1, column)
                    page(sheet).write_string(*at, head)
            known = {s: address(spot, home) for s, spot in spots.items()}
            for symbol in INPUTS:
                if symbol in block:
                    known[symbol] = address(block[symbol], home, fixed=True)
                    if layout.start == "names":
                        known[symbol] = "_".join(symbol)
            if step:  # the new weights first, by the old gradients
                for weight in WEIGHTS:
                    gradient = dict(uses).get(weight, "dE_d" + weight)
                    old |= {"w": old[weight], "rate": rate, "gradient": old[gradient]}
                    values[weight] = evaluate(update, old)
            texts = {}
            for symbol in (*INPUTS, *WEIGHTS, *UNITS, *ERRORS, *GRADIENTS[4:], *GRADIENTS[:4]):
                if symbol in formulas:
                    texts[symbol] = formulas[symbol]
                    early = {}
                    if "{new_" in formulas[symbol]:
                        early = {
                            f"new_{w}": values[w] - rate * values["dE_d" + w] for w in WEIGHTS[4:]
                        }
                        later = {s: layout.where(k, step + 1, j) for j, s in enumerate(order)}
                        known |= {f"new_{w}": address(later[w], home) for w in WEIGHTS}
                    values[symbol] = evaluate(formulas[symbol], values | early)
            for symbol, (sheet, row, column) in spots.items():
                value, formula = values[symbol], None
                if symbol in texts:
                    formula = texts[symbol].format_map(known)
                elif step and symbol in WEIGHTS:
                    gradient = before[dict(uses).get(symbol, "dE_d" + symbol)]
                    cells = {s: address(spot, sheet) for s, spot in before.items()}
                    cells |= {
                        "w": address(before[symbol], sheet),
                        "rate": address(rate_cell, sheet, fixed=True),
                        "gradient": address(gradient, sheet),
                    }
                    formula = update.format_map(cells)
                elif symbol in block:
                    formula = address(block[symbol], sheet, fixed=True)
                    if layout.start == "names":
                        formula = "_".join(symbol)
                elif step and layout.start == "row":
                    top = layout.where(k, 0, order.index(symbol))
                    formula = address(top, sheet, fixed=True)
                if symbol in pasted or (k, step, symbol) in pasted:
                    page(sheet).write_number(row, column, round(value, 8), style)
                elif formula is None:
                    page(sheet).write_number(row, column, value, style)
                elif forged and symbol in formulas | dict.fromkeys(WEIGHTS):
                    start = block.get("i1") or layout.where(0, 0, order.index("i1"))
                    text = forged(value, address(start, sheet, fixed=True))
                    page(sheet).write_formula(row, column, "=" + text, style, value)
                else:
                    page(sheet).write_formula(row, column, "=" + formula, style, value)
        if chart:
            drawn = (layout.where(k, step, order.index(chart)) for step in range(steps + 1))
            drawn = ",".join(address(spot, "", fixed=True) for spot in drawn)
            curves.add_series({"values": f"=({drawn})"})
        if summary:
            page("All rates").write_column(0, k, train(rate, steps, *numbers)["E_total"])
    if chart:
        page(first).insert_chart(0, 6, curves)
    book.close()
    return path


def in_columns(layout) -> bool:
    """Return whether a step's cells stand one below the other."""
    (_, row, column), (_, below, beside) = layout.where(0, 0, 0), layout.where(0, 0, 1)
    return column == beside and below > row


def cell(layout, symbol, k=0, step=0) -> str:
    """The address of a symbol's cell, without its sheet."""
    order = layout.order if layout.start not in ("row", "typed") else (*INPUTS, *layout.order)
    return xl_rowcol_to_cell(*layout.where(k, step, order.index(symbol))[1:])
