"""The spreadsheet's formulas, with symbols in braces where a cell's name or address goes."""

# The steps of the first sheet: symbol, in symbols, in words, formula. MIN keeps EXP from
# overflowing where the sigmoid is 0 anyway.
FORWARD = (
    ("h1", "w1 · i1 + w2 · i2", "weighted sum of the inputs", "{w1}*{i1}+{w2}*{i2}"),
    ("h2", "w3 · i1 + w4 · i2", "weighted sum of the inputs", "{w3}*{i1}+{w4}*{i2}"),
    ("a_h1", "1 / (1 + e^(−h1))", "the sigmoid of it, in (0, 1)", "1/(1+EXP(MIN(-{h1},700)))"),
    ("a_h2", "1 / (1 + e^(−h2))", "the sigmoid of it, in (0, 1)", "1/(1+EXP(MIN(-{h2},700)))"),
    ("o1", "w5 · a_h1 + w6 · a_h2", "weighted sum of the hidden", "{w5}*{a_h1}+{w6}*{a_h2}"),
    ("o2", "w7 · a_h1 + w8 · a_h2", "weighted sum of the hidden", "{w7}*{a_h1}+{w8}*{a_h2}"),
    ("a_o1", "1 / (1 + e^(−o1))", "the sigmoid of it, in (0, 1)", "1/(1+EXP(MIN(-{o1},700)))"),
    ("a_o2", "1 / (1 + e^(−o2))", "the sigmoid of it, in (0, 1)", "1/(1+EXP(MIN(-{o2},700)))"),
)
LOSS = (
    ("E1", "½ (t1 − a_o1)²", "half the squared miss", "({t1}-{a_o1})^2/2"),
    ("E2", "½ (t2 − a_o2)²", "half the squared miss", "({t2}-{a_o2})^2/2"),
    ("E_total", "E1 + E2", "sum of both", "{E1}+{E2}"),
)
OUTPUT_LAYER = (
    ("dE_da_o1", "a_o1 − t1", "slope of ½ (t1 − a_o1)²", "{a_o1}-{t1}"),
    ("dE_da_o2", "a_o2 − t2", "slope of ½ (t2 − a_o2)²", "{a_o2}-{t2}"),
    ("da_o1_do1", "a_o1 (1 − a_o1)", "slope of the sigmoid", "{a_o1}*(1-{a_o1})"),
    ("da_o2_do2", "a_o2 (1 − a_o2)", "slope of the sigmoid", "{a_o2}*(1-{a_o2})"),
    ("dE_do1", "∂E/∂a_o1 · ∂a_o1/∂o1", "product of the two slopes", "{dE_da_o1}*{da_o1_do1}"),
    ("dE_do2", "∂E/∂a_o2 · ∂a_o2/∂o2", "product of the two slopes", "{dE_da_o2}*{da_o2_do2}"),
    ("dE_dw5", "∂E/∂o1 · a_h1", "times what w5 multiplies", "{dE_do1}*{a_h1}"),
    ("dE_dw6", "∂E/∂o1 · a_h2", "times what w6 multiplies", "{dE_do1}*{a_h2}"),
    ("dE_dw7", "∂E/∂o2 · a_h1", "times what w7 multiplies", "{dE_do2}*{a_h1}"),
    ("dE_dw8", "∂E/∂o2 · a_h2", "times what w8 multiplies", "{dE_do2}*{a_h2}"),
)
HIDDEN_LAYER = (
    (
        "dE_da_h1",
        "∂E/∂o1 · w5 + ∂E/∂o2 · w7",
        "through both outputs",
        "{dE_do1}*{w5}+{dE_do2}*{w7}",
    ),
    (
        "dE_da_h2",
        "∂E/∂o1 · w6 + ∂E/∂o2 · w8",
        "through both outputs",
        "{dE_do1}*{w6}+{dE_do2}*{w8}",
    ),
    ("da_h1_dh1", "a_h1 (1 − a_h1)", "slope of the sigmoid", "{a_h1}*(1-{a_h1})"),
    ("da_h2_dh2", "a_h2 (1 − a_h2)", "slope of the sigmoid", "{a_h2}*(1-{a_h2})"),
    ("dE_dh1", "∂E/∂a_h1 · ∂a_h1/∂h1", "product of the two slopes", "{dE_da_h1}*{da_h1_dh1}"),
    ("dE_dh2", "∂E/∂a_h2 · ∂a_h2/∂h2", "product of the two slopes", "{dE_da_h2}*{da_h2_dh2}"),
    ("dE_dw1", "∂E/∂h1 · i1", "times what w1 multiplies", "{dE_dh1}*{i1}"),
    ("dE_dw2", "∂E/∂h1 · i2", "times what w2 multiplies", "{dE_dh1}*{i2}"),
    ("dE_dw3", "∂E/∂h2 · i1", "times what w3 multiplies", "{dE_dh2}*{i1}"),
    ("dE_dw4", "∂E/∂h2 · i2", "times what w4 multiplies", "{dE_dh2}*{i2}"),
)
UPDATE = tuple(
    (
        f"new_w{k}",
        f"w{k} − η · ∂E/∂w{k}",
        "one step downhill",
        f"{{w{k}}}-{{learning_rate}}*{{dE_dw{k}}}",
    )
    for k in range(1, 9)
)

# What every column of a training computes from the symbols of its own row.
TO_A_H1 = "(({a_o1}-{t1})*{a_o1}*(1-{a_o1})*{w5}+({a_o2}-{t2})*{a_o2}*(1-{a_o2})*{w7})"
TO_A_H2 = "(({a_o1}-{t1})*{a_o1}*(1-{a_o1})*{w6}+({a_o2}-{t2})*{a_o2}*(1-{a_o2})*{w8})"
FORMULAS = {symbol: formula for symbol, _, _, formula in (*FORWARD, *LOSS)} | {
    "dE_dw1": TO_A_H1 + "*{a_h1}*(1-{a_h1})*{i1}",
    "dE_dw2": TO_A_H1 + "*{a_h1}*(1-{a_h1})*{i2}",
    "dE_dw3": TO_A_H2 + "*{a_h2}*(1-{a_h2})*{i1}",
    "dE_dw4": TO_A_H2 + "*{a_h2}*(1-{a_h2})*{i2}",
    "dE_dw5": "({a_o1}-{t1})*{a_o1}*(1-{a_o1})*{a_h1}",
    "dE_dw6": "({a_o1}-{t1})*{a_o1}*(1-{a_o1})*{a_h2}",
    "dE_dw7": "({a_o2}-{t2})*{a_o2}*(1-{a_o2})*{a_h1}",
    "dE_dw8": "({a_o2}-{t2})*{a_o2}*(1-{a_o2})*{a_h2}",
}


# The defined name of each symbol's cell. `w1` would be an address, so it is called `w_1`.
NAMES = {
    symbol: "_".join(symbol) if len(symbol) == 2 else symbol
    for symbol in (
        *("i1", "i2", "t1", "t2", "learning_rate", *(f"w{k}" for k in range(1, 9))),
        *(row[0] for row in (*FORWARD, *LOSS, *OUTPUT_LAYER, *HIDDEN_LAYER, *UPDATE)),
        "new_E_total",
    )
}


def label(symbol: str) -> str:
    """Return a symbol as the reader sees it: `dE_dw5` is ∂E/∂w5, `new_w5` is w5⁺."""
    if symbol.startswith("new_"):
        return symbol.removeprefix("new_") + "⁺"
    above, bar, below = symbol.rpartition("_d")
    return f"∂{above.removeprefix('d')}/∂{below}" if bar else symbol
