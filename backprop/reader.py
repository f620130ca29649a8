"""Read the numbers of `backpropagation.xlsx`, so that they can be compared with others."""

from pathlib import Path

import openpyxl

from backprop.formulas import NAMES, label
from backprop.network import COLUMNS

SYMBOLS = {label(symbol): symbol for symbol in COLUMNS}  # by the heading of a column


def read(path: Path) -> tuple[dict[str, float], list[tuple[float, dict[str, list[float]]]]]:
    """Return the derivation, {symbol: value}, and the trainings, each a rate and {symbol: column}.

    Raises KeyError if the workbook lacks a name that `workbook.py` defines.
    """
    book = openpyxl.load_workbook(path, data_only=True)

    def named(name):
        sheet, cell = book.defined_names[name].attr_text.replace("$", "").split("!")
        return book[sheet.strip("'")][cell].value

    tables = []
    for sheet in book:
        for header, *cells in sheet.iter_cols(min_row=4, values_only=True):  # row 4 has the headers
            if header == "step":
                tables.append({})
            if header in SYMBOLS:
                numbers = [value for value in cells if isinstance(value, int | float)]
                tables[-1][SYMBOLS[header]] = numbers
    tables = [table for table in tables if "E_total" in table]
    rates = [named(name) for name in ("learning_rate", *(f"rate_{k}" for k in range(1, 7)))]
    by_hand = {symbol: named(name) for symbol, name in NAMES.items()}
    return by_hand, list(zip(rates, tables, strict=True))
