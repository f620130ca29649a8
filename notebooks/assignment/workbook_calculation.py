"""Calculate a workbook's formulas, with several sets of typed numbers at once, as Excel does.

This module has arithmetic and the functions that a derivation needs; a spreadsheet program has to
calculate cells with anything else. A value is an array with a number for each set, NaN where Excel
shows an error; or text; or None for an empty cell; or a list of these for a range. No part of a
formula is executed as code: its functions are looked up in a table.
"""

import re

import numpy as np

from notebooks.assignment.spreadsheet import TOKEN, Book, Place, unquoted

MOST = 500_000  # the most cells that all formulas together may refer to
LARGEST = 20_000  # the most cells that one formula may refer to
DEEPEST = 150  # operators and brackets inside each other; Excel allows 64 brackets
LEXEME = re.compile(
    r"(?P<function>[^\W\d][\w.]*)\(|(?P<error>#[A-Z/0]+[!?A]?)"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)|(?P<sign><=|>=|<>|[-+*/^%&=<>(),])",
    re.IGNORECASE,
)
DIGITS = re.compile(r"\W*\d")  # the first characters of text that may stand for a number
PRIORITY = dict.fromkeys(("=", "<", ">", "<=", ">=", "<>"), 1) | {"&": 2, "+": 3, "-": 3}
PRIORITY |= {"*": 4, "/": 4, "^": 5}  # from left to right, 2^3^2 as well


class UnknownError(Exception):
    """A part of a formula that this module lacks."""


def calculate(book: Book, typed: list[dict[Place, float]]) -> tuple[dict, dict[Place, str]]:
    """Return the numbers of all cells with each set of typed ones, and the unknown cells.

    The result is {place: array of (sets,)} and {place: what is missing}. A cell with something
    missing has the number that the file stores, with the first set, and none with the others.
    """
    values = {p: text for p, text in book.words.items() if p not in book.formulas}
    values |= {p: np.full(len(typed), v) for p, v in book.numbers.items() if book.is_typed(p)}
    for place in set().union(*typed):
        values[place] = np.array([inputs.get(place, book.numbers[place]) for inputs in typed])
    unknown, begun, left = {}, set(), MOST
    for start in book.formulas:
        path = [start]
        while path:
            place = path[-1]
            if place in values:
                path.pop()
            elif place not in begun:
                begun.add(place)
                needed = book.cells(book.formulas[place], place.sheet) if left > 0 else []
                left -= len(needed) + 1
                path += [p for p in needed if p in book.formulas and p not in begun]
            else:  # what it needs is there, unless that needs this very cell
                try:
                    values[place] = Formula(place, book, values, len(typed), left).result()
                except UnknownError as error:
                    unknown[place] = str(error)
                    values[place] = np.full(len(typed), np.nan)
                    values[place][0] = book.numbers.get(place, np.nan)
    return {p: v for p, v in values.items() if isinstance(v, np.ndarray)}, unknown


class Formula:
    """A formula that is calculated while it is read."""

    def __init__(self, place: Place, book: Book, values: dict, sets: int, left: int):
        if place in book.inner or place in book.spilled or place in book.what_if:
            raise UnknownError("a formula of several cells")
        self.place, self.book, self.values, self.sets = place, book, values, sets
        self.depth, self.left, self.lexemes = 0, min(left, LARGEST), []

    def result(self):
        """Return the value of the cell's formula: an array, or text."""
        with np.errstate(all="ignore"):
            value = self.calculated(self.book.formulas[self.place])
        return value if isinstance(value, str) else number(value) + np.zeros(self.sets)

    def calculated(self, text: str):
        """Return the value of a formula, or of what a name stands for."""
        outer, self.lexemes = self.lexemes, lexemes(text)
        value = self.expression(0)
        if self.lexemes.pop() != ("end", ""):
            raise UnknownError("a formula like this")
        self.lexemes = outer
        return value

    def expression(self, priority: int):
        """Return the value up to an operator that binds no tighter than `priority`."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise UnknownError("so many brackets")
        value = self.operand()
        while PRIORITY.get(sign := self.lexemes[-1][1], 0) > priority:
            self.lexemes.pop()
            value = FUNCTIONS[sign](value, self.expression(PRIORITY[sign]))
        self.depth -= 1
        return value

    def operand(self):
        """Return the value of what stands before or after an operator."""
        kind, text = self.lexemes.pop()
        negative = False
        while text in ("-", "+"):  # which bind tighter than a power: -2^2 is 4
            negative ^= text == "-"
            kind, text = self.lexemes.pop()
        if kind == "function":
            value = self.call(text)
        elif text == "(":
            value = self.expression(0)
            self.close()
        elif kind == "cells":
            value = self.cells(text)
        elif kind == "name":
            value = self.name(text)
        elif kind in ("number", "text", "error"):
            values = {"number": float, "text": lambda s: s[1:-1].replace('""', '"')}
            value = values.get(kind, lambda _: np.nan)(text)
        else:
            raise UnknownError("a formula like this")
        while self.lexemes[-1][1] == "%":
            self.lexemes.pop()
            value = FUNCTIONS["/"](value, 100.0)
        return FUNCTIONS["-"](0.0, value) if negative else value

    def close(self) -> None:
        if self.lexemes.pop()[1] != ")":
            raise UnknownError("a formula like this")

    def call(self, name: str):
        """Return the value of a function, whose arguments come next."""
        name, args = re.sub(r"^_XLFN\.", "", name.upper()), []
        if name in ("ROW", "COLUMN"):
            kind, text = self.lexemes[-1]
            place = self.place
            if kind == "cells":
                place = self.book.cells(self.lexemes.pop()[1], place.sheet)[0]
            self.close()
            return float(getattr(place, name.lower()))
        if name not in FUNCTIONS:
            raise UnknownError(name)
        while self.lexemes[-1][1] != ")" or args:
            empty = self.lexemes[-1][1] in (",", ")")
            args.append(None if empty else self.expression(0))
            if self.lexemes[-1][1] != ",":
                break
            self.lexemes.pop()
        self.close()
        try:
            return FUNCTIONS[name](*args)
        except (TypeError, ValueError) as error:  # this module lacks such arguments
            raise UnknownError(name) from error

    def name(self, text: str):
        """Return the value of a defined name."""
        if text.upper() in ("TRUE", "FALSE"):
            return float(text.upper() == "TRUE")
        sheet, _, name = text.rpartition("!")
        self.depth += 1  # a name may stand for itself
        if not (meaning := self.book.named(name, unquoted(sheet) or self.place.sheet)):
            raise UnknownError(name)
        return self.calculated(meaning)

    def cells(self, text: str):
        """Return the value of a cell, or the values of a range."""
        found = []
        for place in self.book.cells(text, self.place.sheet, LARGEST):
            missing = place in self.book.formulas or place.sheet not in self.book.visible
            found.append(self.values.get(place, np.nan if missing else None))
        self.left -= len(found)
        if self.left <= 0:
            raise UnknownError("so many cells")
        return found if ":" in text else found[0]


def lexemes(text: str) -> list[tuple[str, str]]:
    """Return the parts of a formula, as (kind, text), the last first."""
    found, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        token = TOKEN.match(text, at) or LEXEME.match(text, at)
        if not token or len(text) > 8192:
            raise UnknownError(f"a formula with {text[at]}")
        kind, at = token.lastgroup, token.end()
        kind = {"lines": "cells", "sheet": "cells"}.get(kind, kind)
        found.append((kind, token[kind] if kind == "function" else token[0]))
    return [("end", ""), *reversed(found)]


# The functions: of numbers, element by element, and of all numbers in ranges


def number(value):
    """Return a value as an array or a float; a word is an error.

    What text such as 0,5 or 1/2 stands for depends on the spreadsheet program's language.
    """
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, str) and not DIGITS.match(value):
        return np.nan  # Excel's #VALUE!
    if isinstance(value, list | str):
        raise UnknownError("text or a range in place of a number")
    return 0.0 if value is None else value


def cellwise(function):
    """Extend a function of numbers to ranges, cell by cell; what overflows is an error."""

    def apply(*args):
        counts = {len(arg) for arg in args if isinstance(arg, list)}
        if counts:
            (count,) = counts
            args = [arg if isinstance(arg, list) else [arg] * count for arg in args]
            return [apply(*row) for row in zip(*args, strict=True)]
        value = function(*map(number, args))
        return np.where(np.isfinite(value), value, np.nan)

    return apply


def numbers(*args) -> list:
    """Return all numbers in ranges, and arguments that are not ranges."""
    if any(isinstance(arg, str) for arg in args):  # text in a cell is left out
        raise UnknownError("text or a range in place of a number")
    found = [number(arg) for arg in args if not isinstance(arg, list)]
    cells = [cell for arg in args if isinstance(arg, list) for cell in arg]
    return found + [cell for cell in cells if not isinstance(cell, str | None)]


def many(function):
    """Turn a function of many numbers into one of its arguments' numbers."""
    return lambda *args: function(np.array(np.broadcast_arrays(*numbers(*args))), axis=0)


def pairs(function):
    """Turn a function of numbers into the sum of its results over ranges, cell by cell."""

    def apply(*args):
        args = [[0.0 if isinstance(c, str) else c for c in arg] for arg in args]
        return sum(cellwise(function)(*args))

    return apply


def compare(function):
    """Return a comparison, 1 or 0; for texts whether they are the same."""

    def apply(value, other):
        if isinstance(value, str) or isinstance(other, str):
            if function not in (np.equal, np.not_equal):
                raise UnknownError("a comparison of texts")
            same = str(value or "").casefold() == str(other or "").casefold()
            return float(same == (function is np.equal))
        return cellwise(lambda a, b: np.where(np.isnan(a + b), np.nan, function(a, b)))(
            value, other
        )

    return apply


def choose(test, yes=1.0, no=0.0):
    """Return IF, which may choose differently in each set if both are numbers."""
    test = np.asarray(number(test), float)
    if isinstance(yes, str | list) or isinstance(no, str | list):
        if (test != 0).all() or not test.any():
            return yes if test.any() else no
        raise UnknownError("IF")
    return np.where(np.isnan(test), np.nan, np.where(test != 0, number(yes), number(no)))


def rounded(rounding):
    """Return a function that rounds to so many digits."""

    def function(value, digits=0.0):
        size = 10.0 ** np.trunc(digits)
        return np.sign(value) * rounding(np.abs(value) * size) / size

    return cellwise(function)


def joined(*args) -> str:
    """Return some text, for a label, with the numbers of the first set."""
    return "".join(a if isinstance(a, str) else f"{np.ravel(number(a))[0]:g}" for a in args)


FUNCTIONS = {
    "+": cellwise(np.add),
    "-": cellwise(np.subtract),
    "*": cellwise(np.multiply),
    "/": cellwise(np.divide),
    "^": cellwise(np.float_power),
    "&": joined,
    "=": compare(np.equal),
    "<>": compare(np.not_equal),
    "<": compare(np.less),
    ">": compare(np.greater),
    "<=": compare(np.less_equal),
    ">=": compare(np.greater_equal),
    **{
        name: cellwise(getattr(np, name.lower()))
        for name in ("EXP", "SQRT", "ABS", "SIGN", "LOG10")
    },
    **{name: cellwise(getattr(np, name.lower())) for name in ("SINH", "COSH", "TANH")},
    "LN": cellwise(np.log),
    "LOG": cellwise(lambda x, base=10.0: np.log(x) / np.log(base)),
    "POWER": cellwise(np.float_power),
    "POW": cellwise(np.float_power),
    "INT": cellwise(np.floor),
    "MOD": cellwise(np.mod),
    "PI": lambda: np.pi,
    "ROUND": rounded(lambda x: np.floor(x + 0.5)),
    "ROUNDUP": rounded(np.ceil),
    "ROUNDDOWN": rounded(np.floor),
    "TRUNC": rounded(np.floor),
    "SUM": many(np.sum),
    "PRODUCT": many(np.prod),
    "AVERAGE": many(np.mean),
    "MIN": many(np.min),
    "MAX": many(np.max),
    "SUMSQ": many(lambda x, axis: np.sum(x**2, axis)),
    "SUMPRODUCT": pairs(lambda *factors: np.prod(np.broadcast_arrays(*factors), axis=0)),
    "SUMXMY2": pairs(lambda x, y: (x - y) ** 2),
    "IF": choose,
    "IFERROR": lambda x, other: np.where(np.isnan(number(x)), number(other), number(x)),
    "AND": many(lambda x, axis: np.all(x, axis) * 1.0),
    "OR": many(lambda x, axis: np.any(x, axis) * 1.0),
    "NOT": cellwise(lambda x: np.equal(x, 0) * 1.0),
    "CONCATENATE": joined,
    "CONCAT": joined,
}
