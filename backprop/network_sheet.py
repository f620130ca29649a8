"""`network.xlsx`: all 17,498 parameters of `MNISTNet` in live formulas, forward and back.

A sheet holds one map. What a convolution reads has its C channels side by side, channel c of pixel
(x, y) in column x·C + c of row y: so a patch of all channels is one block, and a convolution one
SUMPRODUCT. Every map is also there as pictures, one of each channel. They are what a pooling reads,
and the SUMPRODUCT of two of them is the gradient of one weight. A sheet whose name begins with d
holds the slopes of the loss along what follows the d.

In Python an array holds the addresses of the cells in which its numbers lie. Formulas are written
once, in FORMULAS and ROWS, and `fill` puts the addresses in.
"""

import io
import re
import tempfile
import zipfile
from functools import cached_property
from itertools import pairwise
from math import gcd
from pathlib import Path

import numpy as np
import openpyxl
import xlsxwriter
from numpy.lib.stride_tricks import sliding_window_view
from xlsxwriter.utility import xl_cell_to_rowcol, xl_range_abs, xl_rowcol_to_cell

from backprop import office, playground
from backprop.layers import EPS
from backprop.workbook import CREATED, FAINT, RATE, YELLOW, Page
from s4lib.data import MNIST_MEAN, MNIST_STD
from s4lib.model import MNISTNet
from s4lib.plots import BLUE, ORANGE
from s4lib.receptive_field import receptive_fields
from s4lib.runtime.checkpoint import load_weights

# Each layer of layers.py, in the same order: what a cell computes forward and, in the lines with d,
# back. Braces stand for a cell or a block by its name in Stage.cells; empty ones for the formula of
# the layer that is computed before.
FORMULAS = {
    "image": f"({{ink}}/255-{MNIST_MEAN})/{MNIST_STD}",
    "conv": "SUMPRODUCT({patch},{kernel})+{bias}",
    "conv dx": "SUMPRODUCT({d_patch},{flipped_kernel})",
    "conv dweight": "SUMPRODUCT({d_map},{window})",
    "conv dbias": "SUM({d_map})",
    "norm": "{γ}*({}-{μ})/{σ}+{β}",
    "norm dx": "{γ}/{σ}*{}",
    "norm dγ": "(SUMPRODUCT({d_map},{map})-{β}*SUM({d_map}))/{γ}",  # as x̂ = (y − β) / γ
    "norm dβ": "SUM({d_map})",
    "std": f"SQRT({{var}}+{EPS:.5f})",
    "relu": "MAX(0,{})",
    "relu dx": "({y}>0)*{}",
    "pool": "MAX({four})",
    "pool dx": "({y}>MAX({earlier}))*({y}={largest})*{dy}",
    "gap dx": "{dy}/{count}",
}

WORDS = {  # the words on each layer's sheet
    "image": f"The ink, normalised: (ink / 255 − {MNIST_MEAN}) / {MNIST_STD}",
    "conv": "{stage.size}×{stage.size} convolution of {stage.before.name}",
    "norm": ", batch normalisation",
    "relu": ", ReLU",
    "pool": "2×2 max pooling of {stage.before.name}: of each four pixels the largest",
}

# The head, two rows further down each: name, what stands above, and the formula.
ROWS = (
    ("gap", "the average of each channel", "AVERAGE({map})"),
    ("digit", "digit", ""),
    ("logits", "logit", "SUMPRODUCT(gap,{kernel})+{bias}"),
    ("exponentials", "EXP(logit − the largest)", "EXP({logits}-MAX(logits))"),
    ("log_probs", "log-probability", "{logits}-MAX(logits)-LN(SUM(exponentials))"),
    ("probabilities", "probability", "EXP({log_probs})"),
    ("loss", "loss: minus the log-probability of the label", "-INDEX(log_probs,1,label+1)"),
    ("d_logits", "gradient along the logit", "{probabilities}-({digit}=label)"),
    ("d_gap", "gradient along the average", "SUMPRODUCT(d_logits,{flipped_kernel})"),
    ("new_logits", "logit after a step of fc", "SUMPRODUCT(gap,{new_kernel})+{new_bias}"),
    ("new_exponentials", "EXP(logit − the largest)", "EXP({new_logits}-MAX(new_logits))"),
    ("new_probabilities", "probability", "{new_exponentials}/SUM(new_exponentials)"),
)

DRAW, ONE, HEAD, DIGITS, STEPPED = "Draw", "One activation", "head", "digits", "fc after a step"
CHOICE, LEARNING_RATE = 7, 1.0  # the digit at the opening: a test digit, a seven
EXAMPLE = "block2.conv1"  # a layer with an activation that is taken apart
PIXELS = {28: 9, 14: 11, 7: 18, 5: 22, 3: 28}  # a cell's side on the screen, by the side of the map
TOP = 6  # the row of a map's first pixel; above it is room for two rows of padding
PANEL = 59  # the first column on Draw that has no ink

SIGNED = {"type": "3_color_scale", "mid_type": "num", "mid_value": 0, "mid_color": "#FFFFFF"}
SIGNED |= {"min_color": BLUE, "max_color": ORANGE}
IMAGE = SIGNED | {"min_type": "num", "min_value": -3, "max_type": "num", "max_value": 3}
POSITIVE = {"type": "2_color_scale", "min_type": "num", "min_value": 0, "min_color": "#FFFFFF"}
POSITIVE |= {"max_type": "percentile", "max_value": 99, "max_color": ORANGE}
BLACK = POSITIVE | {"max_type": "num", "max_value": 255, "max_color": "#000000"}
HIDDEN = {"num_format": ";;;"}  # only the colour of a cell is seen


# ---- where everything lies -----------------------------------------------------------------------


def lay(sheet, shape, corner, steps=((1, 0), (0, 1)), fixed=False):
    """Return the addresses of an array's numbers on a sheet, as an array of that shape.

    One more along an axis is a step, so many rows and columns, further on. A fixed address has the
    dollars that keep it when a formula is copied.
    """
    at = np.indices(shape).reshape(len(shape), -1)
    places = (np.transpose(steps) @ at).T + corner
    cells = [f"'{sheet}'!{xl_rowcol_to_cell(*at, fixed, fixed)}" for at in places.tolist()]
    return np.array(cells, object).reshape(shape)


def place(cell) -> tuple[int, int]:
    """Return the row and column of an address."""
    return xl_cell_to_rowcol(cell.split("!")[1])


class Map:
    """The addresses of a map, (C, H, W): its channels `beside` each other, and as `pictures` below.

    The border, in pixels, is of blank cells, which count as the 0 that padding adds: `padded` and
    `framed` are with it. Without a border there are only the pictures.
    """

    def __init__(self, sheet, shape, border=None):
        (channels, high, wide), b = shape, border or 0
        whole, inside = (channels, high + 2 * b, wide + 2 * b), np.s_[:, b : b + high, b : b + wide]
        self.has_both = channels > 1 and border is not None
        self.padded = lay(sheet, whole, (TOP - b, 1), ((0, 1), (1, 0), (0, channels)))
        across = gcd(channels, 4 if wide > 14 else 8)  # pictures in a line
        grid, steps = (channels // across, across), ((high + 3, 0), (0, wide + 2), (1, 0), (0, 1))
        left = 2 - b if channels > 1 else 1
        corner = TOP + high + 4 if self.has_both else TOP - b, left
        self.framed = lay(sheet, (*grid, *whole[1:]), corner, steps).reshape(whole)
        self.beside, self.pictures = self.padded[inside], self.framed[inside]


def parameters(sheet, shape, symbols=("bias",)):
    """Return the addresses of a layer's parameters by symbol; one a channel is (O, 1, 1, 1).

    Kernels, (O, C, K, K), lie as patches do. To their right are those for the way back, flipped.
    """
    o, c, size, _ = shape
    down, right = (size + (size > 1), 0), 10 + size * c
    single = [lay(sheet, [o], (5, 1 + k), [down], fixed=True) for k in range(len(symbols))]
    found = {s: cells[:, None, None, None] for s, cells in zip(symbols, single, strict=True)}
    steps = down, (0, 1), (1, 0), (0, c)
    found["kernels"] = lay(sheet, shape, (5, 8), steps, fixed=True)
    steps = down, (0, 1), (1, 0), (0, o)
    return found | {"flipped": lay(sheet, (c, o, size, size), (5, right), steps, fixed=True)}


SIZES = {"gap": 32, "d_gap": 32, "loss": 1}  # of the head's rows; the others have ten cells
HEADS = {
    name: lay(HEAD, [SIZES.get(name, 10)], (5 + 2 * k, 1), [(0, 1)])
    for k, (name, *_) in enumerate(ROWS)
}
INK, DRAWING = (lay(DRAW, (28, 28), (3, left)) for left in (30, 1))
STORED = lay(DIGITS, (20 * 28, 29), (3, 0), fixed=True)  # labels in the first column


# ---- cells and formulas --------------------------------------------------------------------------


def windows(cells, size):
    """Return the size×size windows of maps: (C, H, W) to (C, H', W', size, size)."""
    return sliding_window_view(cells, (size, size), (1, 2))


def blocks(cells, axes=3):
    """Return the address of each block of cells, which lies along the last axes."""

    def together(first, last):
        return first if first == last else f"{first}:{last.split('!')[1]}"

    return np.frompyfunc(together, 2, 1)(*(cells[(..., *[end] * axes)] for end in (0, -1)))


def relative(cells):
    """Return the same addresses without dollars, so that they move when a formula is copied."""
    return np.frompyfunc(lambda cell: cell.replace("$", ""), 1, 1)(cells)


def channels(cells, axes=3):
    """Return the block of each channel, in an array that broadcasts, (C, 1, 1, 1)."""
    return blocks(cells, axes).reshape(-1, 1, 1, 1)


def earlier(y):
    """List for each pixel a 0 and the pixels that come before it in its window of four."""
    first, second, third = ("," + y[:, i::2, j::2] for i, j in ((0, 0), (0, 1), (1, 0)))
    found = np.full_like(y, "0")
    found[:, ::2, 1::2] += first
    found[:, 1::2, ::2] += first + second
    found[:, 1::2, 1::2] += first + second + third
    return found


def fill(formula, cells):
    """Put cells in a formula's braces: one formula for each element of the broadcast arrays."""
    names = re.findall(r"{(\w+)}", formula)
    each = np.broadcast(*(cells[name] for name in names))
    made = [formula.format(**dict(zip(names, at, strict=True))) for at in each]
    return np.array(made, object).reshape(each.shape)


class Stage:
    """A map, the gradient along it and, if a convolution makes it, the convolution's parameters.

    Such a map is what the ReLU leaves, its gradient is that before the ReLU. `names` are PyTorch's
    of what lies in `weights`, by symbol; `layers` come in the order of the forward pass.
    """

    def __init__(self, name, side, padding, border, state, before):
        self.name, self.before, self.after = name, before, None
        norm = re.sub("conv|fc", "norm", name)
        names = {"kernels": f"{name}.weight", "bias": f"{name}.bias", "γ": f"{norm}.weight"}
        names |= {"β": f"{norm}.bias", "μ": f"{norm}.running_mean", "var": f"{norm}.running_var"}
        self.names = {symbol: own for symbol, own in names.items() if own in state}
        self.layers, self.weights, self.grads, back = [name.split(".")[-1]], {}, {}, None
        count = len(before.out.pictures) if before else 1
        if self.names:
            shape = (*state[f"{name}.weight"].shape, 1, 1)[:4]
            count, self.size, back = shape[0], shape[2], shape[2] - 1 - padding
            self.layers = ["conv", "norm", "relu"] if "γ" in self.names else ["conv", "relu"]
            symbols = [*self.names, *["σ"] * ("γ" in self.names)][1:]
            self.weights = parameters(f"{name}.weight", shape, symbols)
            self.grads = parameters(f"d {name}.weight", shape, symbols)
        shape = count, side, side
        self.out, self.dout = Map(name, shape, border), Map(f"d {name}", shape, back)
        if side == 1:  # gap and fc are rows of the head
            row = {"fc": "logits"}.get(name, name)
            for it, cells in ((self.out, HEADS[row]), (self.dout, HEADS[f"d_{row}"])):
                it.padded = it.framed = it.pictures = cells[:, None, None]

    def fill(self, *layers):
        """Return the formulas of nested FORMULAS: the last is computed first."""
        formula = "{}"
        for layer in layers:
            formula = formula.replace("{}", FORMULAS[layer])
        return fill(formula, self.cells)

    @cached_property
    def cells(self) -> dict:
        """Cells by the names that formulas use. Axes: channel, input channel, row, column."""
        y, before, after = self.out.pictures, self.before, self.after
        cells = self.weights | {"ink": INK, "y": y[:, None], "map": channels(y, 2)}
        cells["d_map"] = channels(self.dout.pictures, 2)
        if self.weights:
            patches = windows(before.out.padded, self.size).transpose(1, 2, 0, 3, 4)
            cells["patch"], cells["kernel"] = blocks(patches), channels(self.weights["kernels"])
            cells["window"] = blocks(windows(before.out.framed, y.shape[2]), 2)
        elif before:
            cells["four"] = blocks(windows(before.out.pictures, 2)[:, None, ::2, ::2], 2)
        if after and after.weights:
            patches = windows(after.dout.padded, after.size).transpose(1, 2, 0, 3, 4)
            cells["d_patch"] = blocks(patches)
            cells["flipped_kernel"] = channels(after.weights["flipped"])
        elif after:
            times = y.shape[1] // after.out.pictures.shape[1]
            for name, smaller in (("largest", after.out), ("dy", after.dout)):
                cells[name] = smaller.pictures[:, None].repeat(times, 2).repeat(times, 3)
            cells |= {"earlier": earlier(y)[:, None]} if times == 2 else {"count": y[0].size}
        return cells


def stages_of(model) -> list[Stage]:
    """Return the stages of the network, from the image to `fc`."""
    rows = [(row.layer, row.size, row.padding) for row in receptive_fields(model)]
    chain, stages = [("image", 28, 0), *rows, ("fc", 1, 0), ("", 1, 0)], [None]
    for row, (after, _, padding) in pairwise(chain):
        border = padding if "conv" in after else None
        stages.append(Stage(*row, border, model.state_dict(), stages[-1]))
    for before, after in pairwise(stages[1:]):
        before.after = after
    return stages[1:]


# ---- the sheets of layers ------------------------------------------------------------------------


class Sheet(Page):
    """A page of numbers and formulas, with cells of the same width and height in pixels.

    When printed, it is as wide as its first contents.
    """

    def __init__(self, book, title, words, width, height=20, shape=(), heading=""):
        super().__init__(book, title)
        self.width, self.right, self.paper = width, 0, 0
        # XlsxWriter would look for 29 newer functions in each formula, which takes a minute.
        self.sheet._prepare_formula = lambda formula, *_: formula.removeprefix("=")
        self.head(heading or f"{title}   {' × '.join(map(str, shape))}".strip(), words)
        self.sheet.set_default_row(0.75 * height)
        self.sheet.set_row(1, 15)
        self.sheet.fit_to_pages(1, 1)

    def put(self, cells, content, label="", colours=None, lined=False, name="", **style):
        """Write numbers or formulas to cells, which formulas may call by a `name`.

        Lined ones have a line to the left of each first channel.
        """
        style = {"num_format": "0.00", "font_size": 8} | style
        looks = [self.paint(**style, left=line, left_color="#BBBBBB") for line in (0, 1)]
        content = np.reshape(content, cells.shape)
        for index, cell in np.ndenumerate(cells):
            at, look, value = place(cell), looks[lined and index[-3] == 0], content[index]
            if isinstance(value, str):
                formula = value.replace(f"'{self.title}'!", "")
                self.sheet.write_formula(*at, formula, look, self.value(*at))
            else:
                self.sheet.write(*at, value, look)
        (row, column), last = place(cells.flat[0]), place(cells.flat[-1])
        if label:
            self.text(row - 1, column, label, font_size=8, font_color=FAINT)
        if colours:
            self.sheet.conditional_format(row, column, *last, colours)
        if name:
            self.book.define_name(name, f"='{self.title}'!{xl_range_abs(row, column, *last)}")
        self.right, self.paper = max(self.right, last[1]), self.paper or last[1]
        self.sheet.set_column_pixels(0, self.right, self.width)
        self.sheet.print_area(0, 0, self.sheet.dim_rowmax + 1, self.paper)

    def join(self, row, column, content, last=None, high=2, **style):
        """Join cells beside the ink to one that is high enough for words or a formula."""
        style = self.paint(**style)
        value = [self.value(3 + row, column)] if str(content).startswith("=") else []
        self.sheet.merge_range(3 + row, column, 2 + row + high, last or column, "", style)
        self.sheet.write(3 + row, column, content, style, *value)

    def value(self, row, column):
        """Return what a formula shows where nothing calculates: seven digits, to save space."""
        value = self.book.kept[self.title][row][column] if self.book.kept else 0
        return float(f"{value:.7g}") + 0.0 if isinstance(value, int | float) else value or ""


def build(path, kept=None) -> None:
    """Write the shipped network's workbook to `path`.

    `kept` are its formulas' values, by sheet, row and column. The same weights give the same file,
    byte for byte, with the same version of XlsxWriter.
    """
    model, (images, labels) = load_weights(MNISTNet()), stored_digits()
    content, usual = io.BytesIO(), {"font_name": "Arial", "font_size": 10}
    book = xlsxwriter.Workbook(content, {"default_format_properties": usual})
    book.set_properties({"title": "A network in formulas", "created": CREATED})
    book.kept = kept
    stages = stages_of(model)
    write_draw(book, labels)
    write_one(book, next(stage for stage in stages if stage.name == EXAMPLE))
    write_layers(book, stages, model.double().state_dict())
    words = "Test digits of MNIST: 1 to 9, 0, and ten that the shipped weights misread."
    sheet = Sheet(book, DIGITS, words, 16)
    sheet.put(STORED[:, 1:], np.concatenate(images), colours=BLACK, **HIDDEN)
    sheet.put(STORED[::28, 0], np.array(labels))
    book.close()
    with zipfile.ZipFile(content) as made, zipfile.ZipFile(path, "w") as smaller:
        for part in made.infolist():
            text = made.read(part)
            if not kept:  # a reader would believe a zero
                text = re.sub(b"</f><v>[^<]*</v>", b"</f>", text)
            smaller.writestr(part, text, compresslevel=9)


def keep_values(path) -> None:
    """Write the shipped network's workbook once more, with values for viewers that don't calculate.

    Raises a RuntimeError without a spreadsheet program.
    """
    if not office.engine():
        raise RuntimeError("they need LibreOffice")
    with tempfile.TemporaryDirectory() as folder:
        (made,) = office.calculate([path], Path(folder), timeout=300)
        book = openpyxl.load_workbook(made, data_only=True, read_only=True)
        build(path, kept={sheet.title: [*sheet.values] for sheet in book})


def stored_digits():
    """Return twenty of the playground's test digits, (20, 28, 28), and their labels.

    The first nine are 1 to 9 and the tenth is a 0; ten that the shipped weights misread follow.
    """
    images, chosen = playground.read_digits()
    labels, kinds = np.array(chosen["labels"]), np.array(chosen["kinds"])
    ordinary = [np.flatnonzero((labels == k % 10) & (kinds == "ordinary"))[0] for k in range(1, 11)]
    picks = [*ordinary, *np.flatnonzero(kinds == "mistakes")[:10]]
    return images[picks], labels[picks].tolist()


def write_layers(book, stages, state):
    """Write all sheets but the first two and the last, in the order of the calculation."""
    *maps, fc = [stage for stage in stages if stage.name != "gap"]
    stepped = parameters(STEPPED, fc.weights["kernels"].shape)
    layers = [stage for stage in stages if stage.weights]
    for stage in maps:
        words = "".join(WORDS[layer] for layer in stage.layers).format(stage=stage)
        colours = POSITIVE if stage.before else IMAGE
        write_map(book, stage.name, words, colours, stage.out, stage.fill(*stage.layers[::-1]))
    write_head(book, maps[-1], fc, stepped)
    for stage in reversed(maps):
        write_slopes(book, stage)
    for stage in layers:
        write_weights(book, stage, state)
    for stage in layers:
        write_gradients(book, stage)
    words = "Weight − learning rate × gradient. To keep a step, copy these values into fc.weight."
    contents = {}
    for symbol in ("kernels", "bias"):
        old, dw = relative(fc.weights[symbol]), relative(fc.grads[symbol])
        contents[symbol] = fill("{old}-learning_rate*{dw}", {"old": old, "dw": dw})
    write_parameters(book, STEPPED, stepped, words, contents)


def write_slopes(book, stage):
    """Write the sheet of the gradient along a stage's map."""
    above, name = stage.after.layers[0], f"d {stage.name}"
    words, relu = f"The gradient along {stage.name}", ["relu dx"] if stage.weights else []
    words += ", before its ReLU" * len(relu)
    if above == "pool":  # only what is above 0 can win
        words += f". All of d {stage.after.name} goes to the first of the largest of four pixels"
        relu = []
    write_map(book, name, words, SIGNED, stage.dout, stage.fill(*relu, f"{above} dx"))


def write_gradients(book, stage):
    """Write the sheet of the gradients of a layer's parameters."""
    words = f"For each weight, the gradient along {stage.name} times what stood under it, summed."
    norm = ["norm dx"] if "γ" in stage.weights else []
    formulas = {"kernels": [*norm, "conv dweight"], "bias": [*norm, "conv dbias"]}
    formulas |= {"γ": ["norm dγ"], "β": ["norm dβ"]} if norm else {}
    contents = {symbol: stage.fill(*layers) for symbol, layers in formulas.items()}
    write_parameters(book, f"d {stage.name}.weight", stage.grads, words, contents)


def write_map(book, title, words, colours, cells, formulas):
    """Write a map as pictures and, if a convolution reads it, with its channels side by side."""
    count, _, wide = shape = cells.pictures.shape
    side = PIXELS[wide] if count > 1 else 16
    if cells.has_both:
        first = cells.beside[0, 0, 0].split("!")[1]
        words += f". Pixel (0, 0) is in {first}, and each has {count} columns, one a channel"
    sheet = Sheet(book, title, f"{words}.", side, side, shape)
    sheet.put(cells.pictures, formulas, colours=colours, **HIDDEN)
    for c, (row, column) in enumerate(map(place, cells.pictures[:, 0, 0]) if count > 1 else ()):
        sheet.text(row - 2, column, str(c), font_size=6, font_color=FAINT)
    if cells.has_both:
        sheet.put(cells.beside, cells.pictures, colours=colours, lined=True, **HIDDEN)


def write_head(book, last, fc, stepped):
    """Write the sheet from the last map to the loss and back to the map's averages."""
    words = f"{last.name} averaged, the fully connected layer, log-softmax, the loss; and back."
    sheet, known = Sheet(book, HEAD, words, 56), {"map": blocks(last.out.pictures, 2), **HEADS}
    known["flipped_kernel"] = blocks(fc.weights["flipped"])
    for new, layer in (("", fc.weights), ("new_", stepped)):
        known[f"{new}kernel"], known[f"{new}bias"] = blocks(layer["kernels"]), layer["bias"].ravel()
    for name, label, formula in ROWS:
        content, digits = (fill(formula, known), "0.0000") if formula else (np.arange(10), "0")
        colours = SIGNED if name[:2] == "d_" else POSITIVE if name == "gap" else None
        sheet.put(HEADS[name], content, label, colours, name=name, num_format=digits)


def write_weights(book, stage, state):
    """Write a layer's parameters and, to their right, its kernels for the way back."""
    weights, names = stage.weights, stage.names
    contents = {symbol: state[own].numpy() for symbol, own in names.items()}
    back = relative(weights["kernels"])
    words = "Numbers that one may change. To the right, the same kernels flipped for the way back"
    if "γ" in names:
        contents["σ"] = stage.fill("std")
        back = fill("{kernel}*{γ}/{σ}", weights | {"kernel": back})
        norm = names["γ"].removesuffix(".weight")
        words += f", times γ/σ. γ, β, μ and var: {norm}'s weight, bias, running_mean, running_var"
    contents["flipped"] = back[:, :, ::-1, ::-1].swapaxes(0, 1)
    write_parameters(book, names["kernels"], weights, f"{words}.", contents)


def write_parameters(book, title, cells, words, contents):
    """Write a sheet of kernels and of what else a channel has: numbers or formulas, by symbol."""
    sheet = Sheet(book, title, words, 42, shape=cells["kernels"].shape)
    for symbol, content in contents.items():
        kernels = {"colours": SIGNED, "lined": True} if symbol in ("kernels", "flipped") else {}
        sheet.put(cells[symbol], content, symbol, locked=content.dtype == object, **kernels)
    for o, cell in enumerate(cells["bias"].flat):
        sheet.text(place(cell)[0], 0, str(o), font_size=8)


# ---- the first sheets ----------------------------------------------------------------------------


def write_draw(book, labels):
    """Write the sheet to draw on: two fields of ink, the answer, the loss and one step."""
    words = "Yellow: choose a test digit, 1 to 20, or 0 to have your own drawing read. To draw, "
    words += "select cells on the left, type 255 and press Ctrl+Enter (LibreOffice: Alt+Enter)."
    page, right = Sheet(book, DRAW, words, 13, 13, heading="A network in formulas"), PANEL + 5
    stored = blocks(STORED.T, 1)
    ink = "IF(choice=0,MAX(0,MIN(255,N({own}))),INDEX({stored},28*choice-{up}))"
    ink = fill(ink, {"own": DRAWING, "stored": stored[1:], "up": np.arange(27, -1, -1)[:, None]})
    frame = HIDDEN | {"border": 4, "border_color": "#DDDDDD"}
    page.put(INK, ink, "what the network reads", BLACK, name="ink", **frame)
    blank, what = np.full(DRAWING.shape, None), "your drawing: ink from 0 to 255"
    page.put(DRAWING, blank, what, BLACK, name="drawing", locked=False, **frame)
    page.sheet.set_row(2, 13.5)
    page.sheet.print_area(0, 0, 31, right)
    page.sheet.data_validation(3, 1, 30, 28, whole(0, 255))
    for column, pixels in enumerate((13, 24, 52, 168, 16, 156, 72), PANEL - 1):
        page.sheet.set_column_pixels(column, column, pixels)

    for k in range(10):
        cell = f"INDEX(probabilities,1,{k + 1})"
        page.join(2 * k, PANEL, k, bold=True, align="center")
        page.join(2 * k, PANEL + 1, f"={cell}", num_format="0.0%")
        bar = f'=REPT("█",ROUND(16*{cell},0))'
        page.join(2 * k, PANEL + 2, bar, font_color=BLUE, font_size=8)
    for row, words, name, value, allowed in (
        (0, "digit to be read", "choice", CHOICE, whole(0, len(labels))),
        (16, "label: what it should be", "label", labels[CHOICE - 1], whole(0, 9)),
        (20, "learning rate", "learning_rate", LEARNING_RATE, RATE),
    ):
        page.join(row, right - 1, words)
        page.join(row, right, "", bg_color=YELLOW, border=1, border_color=FAINT)
        page.input(3 + row, right, value, allowed, "General")
        page.name(name, 3 + row, right)
    for row, words, formula, digits in (
        (18, "loss: −log p(label)", "=loss", "0.0000"),
        (22, "p(label)", "=INDEX(probabilities,1,label+1)", "0.00%"),
        (24, "after one step of fc", "=INDEX(new_probabilities,1,label+1)", "0.00%"),
    ):
        page.join(row, right - 1, words)
        page.join(row, right, formula, num_format=digits)
    hint = f'=IF(choice=0,"your own drawing","a test digit: "&INDEX({stored[0]},28*choice-27))'
    page.join(2, right - 1, hint, last=right, font_color=FAINT)
    answer = "=MATCH(MAX(probabilities),probabilities,0)-1"
    big = {"font_size": 72, "bold": True, "align": "center", "font_color": ORANGE}
    page.join(4, right - 1, answer, last=right, high=12, **big)


def whole(lowest: int, highest: int) -> dict:
    """Return the rule for a cell that holds a whole number from `lowest` to `highest`."""
    rule = {"validate": "integer", "criteria": "between", "minimum": lowest, "maximum": highest}
    message = f"Enter a whole number from {lowest} to {highest}."
    return rule | {"error_title": "Out of range", "error_message": message}


def write_one(book, stage):
    """Write the steps of one activation, in the middle of channel 0 of a layer."""
    weights, kernel, before = stage.weights, stage.weights["kernels"][0], stage.before
    size, middle = kernel.shape[2], stage.out.pictures.shape[2] // 2
    seen = windows(before.out.framed, size)[:, middle, middle]
    there = stage.out.pictures[0, middle, middle]
    words = f"Each step of {there} has a cell of its own."
    sheet = Sheet(book, ONE, words, 46, heading=f"One activation of {stage.name}")
    steps = (size + 1, 0), (0, 1), (1, 0), (0, len(kernel))
    first, second, product = lay(ONE, (3, *kernel.shape), (5, 1), steps)
    sheet.put(first, seen, f"what it sees of {before.name}", POSITIVE, lined=True)
    sheet.put(second, kernel, f"its kernel, of {stage.name}.weight", SIGNED, lined=True)
    products = fill("{first}*{second}", {"first": first, "second": second})
    sheet.put(product, products, "each pair's product", SIGNED, lined=True)

    row, rows = 6 + 3 * (size + 1), [("sum", f"SUM({blocks(product)})")]
    line = lay(ONE, [13], (row, 1), [(0, 1)])
    for symbol, sign in {"bias": "+", "μ": "-", "σ": "/", "γ": "*", "β": "+"}.items():
        last, own = line[len(rows) - 1 :][:2]
        rows += [(symbol, weights[symbol].flat[0]), (f"{sign} {symbol}", f"{last}{sign}{own}")]
    rows += [("ReLU", f"MAX(0,{line[10]})"), (f"the same on {stage.name}", there)]
    sheet.put(line, [formula for _, formula in rows], num_format="0.000")
    for k, (label, _) in enumerate(rows, 1):
        sheet.text(row - 1, k, label, font_size=8, font_color=FAINT)
