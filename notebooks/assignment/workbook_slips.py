"""The usual slips in a workbook's formulas, each as the formula that it leads to.

A formula is text as in `backprop.formulas`, with symbols in braces. So the same text is printed
with a student's own cells in it, and evaluated with numbers.
"""

import re
from functools import cache

import numpy as np

from backprop.formulas import FORMULAS
from backprop.network import ERRORS, GRADIENTS, UNITS

SYMBOLS = (*UNITS, *ERRORS, *GRADIENTS[4:], *GRADIENTS[:4])  # each after those it depends on
# The sigmoids without the limit that keeps EXP from overflowing, which NumPy does not need.
RIGHT = {s: re.sub(r"MIN\((-{\w+}),700\)", r"\1", FORMULAS[s]) for s in SYMBOLS}

MISS = r"\(({a_o\d})-({t\d})\)"
SLOPE = r"{a_%s(\d)}\*\(1-{a_%s\1}\)"
OUT, HIDDEN = SLOPE % ("o", "o"), SLOPE % ("h", "h")
ROADS = r"^\((\(.*\)\*{w\d})\+(\(.*\)\*{w\d})\)"
REWRITTEN = (  # hint, a piece of a right gradient, what the slip makes of it
    ("a · t stands where a − t belongs", MISS, r"(\1*\2)"),
    ("a + t stands where a − t belongs", MISS, r"(\1+\2)"),
    ("the brackets round a − t are missing", MISS, r"\1-\2"),
    ("the sign is wrong: the slope of ½ (t − a)² is a − t", MISS, r"(\2-\1)"),
    ("the slope of the output's sigmoid, a_o (1 − a_o), is missing", r"\*" + OUT, ""),
    ("the slope of the hidden unit's sigmoid, a_h (1 − a_h), is missing", r"\*" + HIDDEN, ""),
    ("the output's slope is a_o (1 − a_o), not o (1 − o)", OUT, r"{o\1}*(1-{o\1})"),
    ("the hidden unit's slope is a_h (1 − a_h), not h (1 − h)", HIDDEN, r"{h\1}*(1-{h\1})"),
    ("the output's slope is a_o (1 − a_o): a factor is missing", OUT, r"{a_o\1}"),
    ("the output's slope is a_o (1 − a_o): a factor is missing", OUT, r"(1-{a_o\1})"),
    ("the hidden unit's slope is a_h (1 − a_h): a factor is missing", HIDDEN, r"{a_h\1}"),
    ("the hidden unit's slope is a_h (1 − a_h): a factor is missing", HIDDEN, r"(1-{a_h\1})"),
    ("the brackets round 1 − a_o are missing", OUT, r"{a_o\1}*1-{a_o\1}"),
    ("the brackets round 1 − a_h are missing", HIDDEN, r"{a_h\1}*1-{a_h\1}"),
    ("the sum over both outputs is missing: only the path through o1 counts", ROADS, r"(\1)"),
    ("the sum over both outputs is missing: only the path through o2 counts", ROADS, r"(\2)"),
    ("the paths through both outputs add up: here they are multiplied", ROADS, r"(\1*\2)"),
    ("the paths through both outputs add up: here they are subtracted", ROADS, r"(\1-\2)"),
    ("the brackets round the sum over both outputs are missing", ROADS, r"\1+\2"),
    ("the weights on the way back are missing", r"\*{w\d}", ""),
    ("the last factor is missing: the value that the weight multiplies", r"\*{\w+}$", ""),
    ("the last factor is missing: the value that the weight multiplies", HIDDEN + r"\*{\w+}$", "1"),
)
WHOLE = (  # hint, what the slip makes of a whole gradient
    ("the sign is wrong: the slope of ½ (t − a)² is a − t", "-({})"),
    ("twice too large: the ½ in the error cancels the 2 of the square", "2*({})"),
    ("half of what it should be: the square's 2 has already cancelled the ½", "0.5*({})"),
)
SUM = r"^({\w+}\*{\w+})\+({\w+}\*{\w+})$"
SIGMOID, SQUARE = r"^1/\(1\+EXP\(-({\w+})\)\)$", r"^\(({t\d})-({a_o\d})\)\^2/2$"
BOTH = r"^({E1})\+({E2})$"
OTHERS = (  # the same for units and errors
    ("a term of the sum is missing", SUM, r"\1"),
    ("a term of the sum is missing", SUM, r"\2"),
    ("the terms add up: here they are multiplied", SUM, r"\1*\2"),
    ("the terms add up: here they are subtracted", SUM, r"\1-\2"),
    ("the sign in the exponent is wrong: the sigmoid is 1 / (1 + e^−x)", SIGMOID, r"1/(1+EXP(\1))"),
    ("the sigmoid is missing", SIGMOID, r"\1"),
    ("the brackets round 1 + e^−x are missing", SIGMOID, r"1/1+EXP(-\1)"),
    ("1 − e^−x stands where 1 + e^−x belongs", SIGMOID, r"1/(1-EXP(-\1))"),
    ("this is e^−x: 1 / (1 + …) is missing", SIGMOID, r"EXP(-\1)"),
    ("tanh stands where the sigmoid belongs", SIGMOID, r"TANH(\1)"),
    ("ReLU stands where the sigmoid belongs", SIGMOID, r"MAX(\1,0)"),
    ("the ½ is missing", SQUARE, r"(\1-\2)^2"),
    ("the square is missing", SQUARE, r"(\1-\2)/2"),
    ("the square is missing", SQUARE, r"(\2-\1)/2"),
    ("the square and the ½ are missing", SQUARE, r"(\1-\2)"),
    ("the square and the ½ are missing", SQUARE, r"(\2-\1)"),
    ("the brackets round t − a are missing", SQUARE, r"\1-\2^2/2"),
    ("the brackets round t − a are missing", SQUARE, r"(\1-\2^2)/2"),
    ("the squares' difference is not the difference's square", SQUARE, r"(\1^2-\2^2)/2"),
    ("the ½ stands inside the square", SQUARE, r"((\1-\2)/2)^2"),
    ("t + a stands where t − a belongs", SQUARE, r"(\1+\2)^2/2"),
    ("the errors add up: this is their mean", BOTH, r"(\1+\2)/2"),
    ("the errors add up: here they are multiplied", BOTH, r"\1*\2"),
    ("the errors add up: here they are subtracted", BOTH, r"\1-\2"),
)
RELATED = (  # symbols that are mistaken for one another
    *(tuple(f"w{k}" for k in range(1, 9)), ("i1", "i2"), ("t1", "t2"), ("E1", "E2")),
    *(("a_h1", "a_h2"), ("a_o1", "a_o2"), ("a_h1", "h1"), ("a_h2", "h2"), ("a_o1", "o1")),
    *(("a_o2", "o2"), ("h1", "h2"), ("o1", "o2"), ("a_h1", "a_o1"), ("a_h2", "a_o2")),
    *(("h1", "o1"), ("h2", "o2"), ("i1", "a_h1"), ("i2", "a_h2"), ("i1", "w1"), ("i2", "w2")),
)


def evaluate(formula: str, values: dict) -> np.ndarray:
    """Return a formula's value; `values` has a number, or an array, for each of its symbols."""
    with np.errstate(all="ignore"):
        return eval(_code(formula), {"__builtins__": {}, **FUNCTIONS}, values)


FUNCTIONS = {"EXP": np.exp, "TANH": np.tanh, "MAX": np.maximum, "ROUND": np.round}


@cache
def _code(formula: str):
    """Compile a formula of this module, where all formulas are ours, as Python."""
    return compile(re.sub(r"{(\w+)}", r"\1", formula).replace("^", "**"), "formula", "eval")


def in_cells(formula: str, addresses: dict[str, str]) -> str:
    """Return a formula as a student would type it, or with symbols where a cell isn't known."""
    return "=" + re.sub(r"{(\w+)}", lambda symbol: addresses.get(symbol[1], symbol[1]), formula)


@cache
def slips(symbol: str) -> dict[str, str]:
    """Return what a slip makes of a symbol's formula: {formula: hint}, the likeliest first."""
    right = RIGHT[symbol]
    return {f: hint for f, hint in _all(right).items() if f != right}


@cache
def double_slips(symbol: str) -> dict[str, str]:
    """Return the same for two slips at once."""
    first, found = slips(symbol), {}
    for formula, hint in first.items():
        for second, other in _all(formula).items():
            if second not in first and second != RIGHT[symbol]:
                found.setdefault(second, f"{hint}; and {other}" if other != hint else hint)
    return found


def _all(formula: str) -> dict[str, str]:
    """Return what every slip makes of a formula."""
    found = _mutants(formula)
    return found | {f: hint for f, hint in _replaced(formula).items() if f not in found}


def _mutants(formula: str) -> dict[str, str]:
    """Return what a slip of the tables makes of a formula: everywhere in it, or in one place."""
    found = {}
    gradient = "{a_h" in formula and "^2" not in formula and "EXP" not in formula
    gradient = gradient and re.search(MISS + "|-", formula)
    for hint, pattern, slip in REWRITTEN if gradient else OTHERS:
        found.setdefault(re.sub(pattern, slip, formula), hint)
        for match in list(re.finditer(pattern, formula)):
            slipped = formula[: match.start()] + match.expand(slip) + formula[match.end() :]
            found.setdefault(slipped, hint)
    if gradient:
        for hint, slip in WHOLE:
            found.setdefault(slip.format(formula.replace("{", "{{").replace("}", "}}")), hint)
    return {re.sub(r"{{(\w+)}}", r"{\1}", f): hint for f, hint in found.items()}


def _replaced(formula: str) -> dict[str, str]:
    """Put one symbol in another's place, everywhere in a formula or once."""
    found = {}
    for symbol in dict.fromkeys(re.findall(r"{(\w+)}", formula)):
        others = dict.fromkeys(o for group in RELATED if symbol in group for o in group)
        for other in others:
            if other != symbol:
                hint = f"{other} stands where {symbol} belongs"
                was, new = f"{{{symbol}}}", f"{{{other}}}"
                found.setdefault(formula.replace(was, new), hint)
                for match in re.finditer(re.escape(was), formula):
                    slipped = formula[: match.start()] + new + formula[match.end() :]
                    found.setdefault(slipped, hint)
    return found
