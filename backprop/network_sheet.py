"""`network.xlsx`: all 17,498 parameters of `MNISTNet` in live formulas, forward and back.

A sheet holds one map. What a convolution reads has its C channels side by side, channel c of pixel
(x, y) in column x·C + c of row y: so a patch of all channels is one block, and a convolution one
SUMPRODUCT. Every map is also there as pictures, one of each channel. They are what a pooling reads,
and the SUMPRODUCT of two of them is the gradient of one weight. A sheet whose name begins with d
holds the slopes of the loss along what follows the d.

Excel, LibreOffice, Gnumeric and Google Sheets share FUNCTIONS, which are all there are.
"""

import io
import re
import tempfile
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import openpyxl
import xlsxwriter
from xlsxwriter.utility import xl_cell_to_rowcol, xl_range_abs, xl_rowcol_to_cell

from backprop import office, playground
from backprop.layers import EPS
from backprop.workbook import CREATED, FAINT, RATE, YELLOW, Page
from s4lib.data import MNIST_MEAN, MNIST_STD
from s4lib.model import MNISTNet
from s4lib.plots import BLUE, ORANGE
from s4lib.runtime.checkpoint import load_weights

FUNCTIONS = {
    *("AVERAGE", "EXP", "IF", "INDEX", "LN", "MATCH", "MAX", "MIN", "N", "REPT", "ROUND"),
    *("SQRT", "SUM", "SUMPRODUCT"),
}
DRAW, ONE, HEAD, DIGITS, STEPPED = "Draw", "One activation", "head", "digits", "fc after a step"
CHOICE, LEARNING_RATE = 7, 1.0  # what the workbook opens with: a test digit, a seven
EXAMPLE = "block2.conv1"  # one of whose activations is taken apart
PIXELS = {28: 9, 14: 11, 7: 18, 5: 22, 3: 28}  # a cell's side on the screen, by the map's
TOP = 6  # the row of a map's first pixel; above it is room for two rows of padding
PANEL = 59  # the first column on Draw that has no ink

SIGNED = {"type": "3_color_scale", "mid_type": "num", "mid_value": 0, "mid_color": "#FFFFFF"}
SIGNED |= {"min_color": BLUE, "max_color": ORANGE}
IMAGE = SIGNED | {"min_type": "num", "min_value": -3, "max_type": "num", "max_value": 3}
POSITIVE = {"type": "2_color_scale", "min_type": "num", "min_value": 0, "min_color": "#FFFFFF"}
POSITIVE |= {"max_type": "percentile", "max_value": 99, "max_color": ORANGE}
BLACK = POSITIVE | {"max_type": "num", "max_value": 255, "max_color": "#000000"}
HIDDEN = {"num_format": ";;;"}  # a cell's colour is all that one sees

# A chain of stages: name, shape of the map, padding.
CHAIN = (
    ("image", (1, 28, 28), 0),
    ("block1.conv1", (16, 28, 28), 1),
    ("block1.conv2", (32, 28, 28), 1),
    ("transition1.pool", (32, 14, 14), 0),
    ("transition1.conv", (8, 14, 14), 0),
    ("block2.conv1", (16, 14, 14), 1),
    ("block2.conv2", (32, 14, 14), 1),
    ("transition2.pool", (32, 7, 7), 0),
    ("transition2.conv", (8, 7, 7), 0),
    ("block3.conv1", (16, 5, 5), 0),
    ("block3.conv2", (32, 3, 3), 0),
    ("gap", (32, 1, 1), 0),
    ("fc", (10, 1, 1), 0),
)

# The head, two rows further down each: name, what stands above, and the formula. In braces is the
# cell of a row in the same column, or the block of a channel's weights or of its map.
ROWS = (
    ("gap", "the average of each channel", "AVERAGE({last})"),
    ("digit", "digit", ""),
    ("logits", "logit", "SUMPRODUCT(gap,{kernels})+{bias}"),
    ("exponentials", "EXP(logit − the largest)", "EXP({logits}-MAX(logits))"),
    ("log_probs", "log-probability", "{logits}-MAX(logits)-LN(SUM(exponentials))"),
    ("probabilities", "probability", "EXP({log_probs})"),
    ("loss", "loss: minus the log-probability of the label", "-INDEX(log_probs,1,label+1)"),
    ("d_logits", "gradient along the logit", "{probabilities}-({digit}=label)"),
    ("d_gap", "gradient along the average", "SUMPRODUCT(d_logits,{flipped})"),
    ("new_logits", "logit after a step of fc", "SUMPRODUCT(gap,{new_kernels})+{new_bias}"),
    ("new_exponentials", "EXP(logit − the largest)", "EXP({new_logits}-MAX(new_logits))"),
    ("new_probabilities", "probability", "{new_exponentials}/SUM(new_exponentials)"),
)


# ---- where everything lies -----------------------------------------------------------------------


def lay(sheet, shape, corner, steps=((1, 0), (0, 1)), fold=0, dollars=False):
    """The addresses of an array's numbers on a sheet, as an array of that shape.

    One more along an axis is a step, so many rows and columns, further on. With a `fold`, the first
    axis begins a new line after so many, and has two steps: from line to line, and on a line.
    """
    at = np.indices(shape).reshape(len(shape), -1)
    at = np.vstack([*divmod(at[0], fold), at[1:]]) if fold else at
    places = (np.transpose(steps) @ at).T + corner
    cells = [f"'{sheet}'!{xl_rowcol_to_cell(*at, dollars, dollars)}" for at in places.tolist()]
    return np.array(cells, object).reshape(shape)


def block(cells) -> str:
    """The address of these cells together."""
    first, last = cells.flat[0], cells.flat[-1]
    return first if first == last else f"{first}:{last.split('!')[1]}"


class Map:
    """Where a map, (C, H, W), lies: its channels `beside` each other, and below them `pictures`.

    The border, in pixels, is of blank cells, which count as the 0 that padding adds: `padded` and
    `framed` are with it. Without a border there are only the pictures.
    """

    def __init__(self, name, shape, border=None):
        channels, high, wide = shape
        b, below = (0, 0) if border is None else (border, high + border + 4)
        whole, inside = (channels, high + 2 * b, wide + 2 * b), np.s_[:, b : b + high, b : b + wide]
        self.padded = lay(name, whole, (TOP - b, 1), ((0, 1), (1, 0), (0, channels)))
        steps, fold = ((high + 3, 0), (0, wide + 2), (1, 0), (0, 1)), 4 if wide > 14 else 8
        corner = TOP + below - b, 2 - b
        self.framed = self.padded if channels == 1 else lay(name, whole, corner, steps, fold)
        self.beside, self.pictures = self.padded[inside], self.framed[inside]
        self.has_both = below > 0 and channels > 1


def parameters(sheet, shape, norm=""):
    """Where a layer's kernels, (O, C, K, K), and what else a channel has lie, by symbol.

    A kernel is laid as a patch is. To the right are those for the way back, (C, O, K, K).
    """
    o, c, size, _ = shape
    down, right = (size + (size > 1), 0), 10 + size * c
    symbols = ("bias", "γ", "β", "μ", "var", "σ") if norm else ("bias",)
    found = {s: lay(sheet, [o], (5, 1 + k), [down], 0, True) for k, s in enumerate(symbols)}
    found["kernels"] = lay(sheet, shape, (5, 8), (down, (0, 1), (1, 0), (0, c)), 0, True)
    steps = down, (0, 1), (1, 0), (0, o)
    return found | {"flipped": lay(sheet, (c, o, size, size), (5, right), steps, 0, True)}


SIZES = {"gap": 32, "d_gap": 32, "loss": 1}  # of the head's rows; the others have ten cells
HEADS = {
    name: lay(HEAD, [SIZES.get(name, 10)], (5 + 2 * k, 1), [(0, 1)])
    for k, (name, *_) in enumerate(ROWS)
}
INK, DRAWING = (lay(DRAW, (28, 28), (3, left)) for left in (30, 1))
STORED = lay(DIGITS, (20 * 28, 29), (3, 0), dollars=True)  # labels in the first column


@dataclass
class Stage:
    """A link of the chain: a map, and of what kind of layer; a convolution's ends with its ReLU.

    `dout` is the gradient along the map, before the ReLU. Weights and gradients are by symbol.
    """

    name: str
    out: Map
    dout: Map
    norm: str = ""
    weights: dict | None = None
    grads: dict | None = None


def stages_of(state) -> list[Stage]:
    """The chain as it lies on the sheets; `state` holds the parameters by PyTorch's names."""
    stages = []
    for (name, shape, padding), (after, _, border) in pairwise([*CHAIN, ("", None, 0)]):
        weight, back, more = f"{name}.weight", None, ()
        if weight in state:
            kernels, norm = (*state[weight].shape, 1, 1)[:4], name.replace("conv", "norm")
            norm = norm if f"{norm}.running_var" in state else ""
            more = norm, *(parameters(d + weight, kernels, norm) for d in ("", "d "))
            back = kernels[2] - 1 - padding
        maps = Map(name, shape, border if "conv" in after else None), Map(f"d {name}", shape, back)
        stages.append(Stage(name, *maps, *more))
    for stage, row in zip(stages[-2:], ("gap", "logits"), strict=True):  # these are on one sheet
        for place, name in ((stage.out, row), (stage.dout, f"d_{row}")):
            place.padded = place.framed = place.pictures = HEADS[name][:, None, None]
    return stages


# ---- what is written there -----------------------------------------------------------------------


class Sheet(Page):
    """A page of numbers and formulas, whose cells have the same width and height in pixels.

    When printed it is as wide as what is put there first.
    """

    def __init__(self, book, title, words, width, height=20, shape=(), heading=""):
        super().__init__(book, title)
        self.width, self.bottom, self.right, self.paper = width, 0, 0, 0
        # XlsxWriter would look through each formula for 29 newer functions, which takes a minute.
        self.sheet._prepare_formula = lambda formula, *_: formula.removeprefix("=")
        self.head(heading or f"{title}   {' × '.join(map(str, shape))}".strip(), words)
        self.sheet.set_default_row(0.75 * height)
        self.sheet.set_row(1, 15)
        self.sheet.fit_to_pages(1, 1)

    def put(self, cells, content, label="", colours=None, edge=None, name="", **style):
        """To cells, an array of numbers or words, or what a function of the index gives, a formula.

        A line is drawn to the left of the first along the axis `edge`. Formulas may call all of the
        cells by a `name`.
        """
        style = {"num_format": "0.00", "font_size": 8} | style
        plain, lined = (self.paint(**style, left=k, left_color="#BBBBBB") for k in (0, 1))
        places = [xl_cell_to_rowcol(cell.split("!")[1]) for cell in cells.flat]
        for index, place in zip(np.ndindex(cells.shape), places, strict=True):
            look = lined if edge is not None and index[edge] == 0 else plain
            if callable(content):
                formula = content(*index).replace(f"'{self.title}'!", "")
                self.sheet.write_formula(*place, formula, look, self.value(*place))
            else:
                self.sheet.write(*place, content[index], look)
        (row, column), last = places[0], places[-1]
        if label:
            self.text(row - 1, column, label, font_size=8, font_color=FAINT)
        if colours:
            self.sheet.conditional_format(row, column, *last, colours)
        if name:
            self.book.define_name(name, f"='{self.title}'!{xl_range_abs(row, column, *last)}")
        self.bottom, self.right = max(self.bottom, last[0]), max(self.right, last[1])
        self.paper = self.paper or last[1]
        self.sheet.set_column_pixels(0, self.right, self.width)
        self.sheet.print_area(0, 0, self.bottom + 1, self.paper)

    def join(self, row, column, content, last=None, high=2, **style):
        """Cells beside the ink joined to one, which is high enough for words or a formula."""
        style = self.paint(**style)
        value = [self.value(3 + row, column)] if str(content).startswith("=") else []
        self.sheet.merge_range(3 + row, column, 2 + row + high, last or column, "", style)
        self.sheet.write(3 + row, column, content, style, *value)

    def value(self, row, column):
        """What a formula shows where nothing calculates; seven digits, for the sake of size."""
        value = self.book.kept[self.title][row][column] if self.book.kept else 0
        return float(f"{value:.7g}") + 0.0 if isinstance(value, int | float) else value or ""


def build(path, model=None, choice=CHOICE, rate=LEARNING_RATE, kept=None) -> None:
    """Write the workbook to `path`: the network `model`, in evaluation mode, or the shipped one.

    It opens with the stored digit number `choice`. `kept` are its formulas' values, by sheet, row
    and column. The same arguments give the same file, byte for byte, with the same version of
    XlsxWriter.
    """
    model, (images, labels) = model or load_weights(MNISTNet()), stored_digits()
    content, usual = io.BytesIO(), {"font_name": "Arial", "font_size": 10}
    book = xlsxwriter.Workbook(content, {"default_format_properties": usual})
    book.set_properties({"title": "A network in formulas", "created": CREATED})
    book.kept = kept
    *maps, average, fc = stages = stages_of(model.state_dict())
    layers = [(before, stage) for before, stage in pairwise(stages) if stage.weights]
    state = {name: values.double().numpy() for name, values in model.state_dict().items()}
    stepped = parameters(STEPPED, fc.weights["kernels"].shape)
    write_draw(book, len(images), labels[choice - 1], choice, rate)
    write_one(book, *next(pair for pair in layers if pair[1].name == EXAMPLE))
    for before, stage in pairwise([None, *maps]):
        write_map(book, stage.name, stage.out, *forward(stage, before))
    write_head(book, maps[-1], fc, stepped)
    for after, stage in pairwise([average, *reversed(maps)]):
        write_map(book, f"d {stage.name}", stage.dout, *backward(stage, after))
    for _, stage in layers:
        write_weights(book, stage, state)
    for before, stage in layers:
        write_gradients(book, before, stage)
    write_step(book, fc, stepped)
    words = "Test digits of MNIST: 1 to 9, 0, and ten that the shipped weights misread."
    sheet = Sheet(book, DIGITS, words, 16)
    sheet.put(STORED[:, 1:], np.concatenate(images), colours=BLACK, **HIDDEN)
    sheet.put(STORED[::28, 0], np.array(labels))
    book.close()
    with zipfile.ZipFile(content) as made, zipfile.ZipFile(path, "w") as smaller:
        for part in made.infolist():
            text = made.read(part)
            if not kept:  # a zero would be believed
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
    """Twenty of the playground's test digits, (20, 28, 28), and their labels.

    The first nine are 1 to 9 and the tenth is a 0; ten that the shipped weights misread follow.
    """
    images, chosen = playground.read_digits()
    labels, kinds = np.array(chosen["labels"]), np.array(chosen["kinds"])
    ordinary = [np.flatnonzero((labels == k % 10) & (kinds == "ordinary"))[0] for k in range(1, 11)]
    picks = [*ordinary, *np.flatnonzero(kinds == "mistakes")[:10]]
    return images[picks], labels[picks].tolist()


def write_map(book, title, place, words, colours, formula):
    """A map as pictures; if a convolution reads it, above them with its channels side by side."""
    pictures, (channels, _, wide) = place.pictures, place.pictures.shape
    side = PIXELS[wide] if channels > 1 else 16
    if place.has_both:
        first = place.beside.flat[0].split("!")[1]
        words += f". Pixel (0, 0) is in {first}, and each has {channels} columns, one a channel"
    sheet = Sheet(book, title, f"{words}.", side, side, pictures.shape)
    sheet.put(pictures, formula, colours=colours, **HIDDEN)
    for c in range(channels if channels > 1 else 0):
        row, column = xl_cell_to_rowcol(pictures[c, 0, 0].split("!")[1])
        sheet.text(row - 2, column, str(c), font_size=6, font_color=FAINT)
    if place.has_both:
        sheet.put(place.beside, lambda *at: pictures[at], colours=colours, edge=0, **HIDDEN)


def forward(stage, before):
    """What a stage does in words, its colours, and the formula of (c, y, x)."""
    if before is None:
        words = f"The ink, normalised: (ink / 255 − {MNIST_MEAN}) / {MNIST_STD}"
        return words, IMAGE, lambda c, y, x: f"({INK[y, x]}/255-{MNIST_MEAN})/{MNIST_STD}"
    seen, weights = before.out, stage.weights
    if not weights:

        def largest(c, y, x):
            return f"MAX({block(seen.pictures[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2])})"

        words = f"2×2 max pooling of {before.name}: of each four pixels the largest"
        return words, POSITIVE, largest
    kernels, size = weights["kernels"], weights["kernels"].shape[2]

    def formula(o, y, x):
        patch = seen.padded[:, y : y + size, x : x + size]
        total = f"SUMPRODUCT({block(patch)},{block(kernels[o])})+{weights['bias'][o]}"
        if stage.norm:
            gamma, beta, mean, std = (weights[symbol][o] for symbol in "γβμσ")
            total = f"{gamma}*({total}-{mean})/{std}+{beta}"
        return f"MAX(0,{total})"

    norm = ", batch normalisation" if stage.norm else ""
    return f"{size}×{size} convolution of {before.name}{norm}, ReLU", POSITIVE, formula


def backward(stage, after):
    """The same of a stage's gradient, by that of the stage `after` it."""
    out, dout = stage.out.pictures, after.dout

    def formula(c, y, x):
        if after.name == "gap":
            return f"({out[c, y, x]}>0)*{dout.pictures[c, 0, 0]}/{out[c].size}"
        if after.weights:
            flipped = after.weights["flipped"]
            size = flipped.shape[2]
            patch = dout.padded[:, y : y + size, x : x + size]
            slope = f"SUMPRODUCT({block(patch)},{block(flipped[c])})"
            return f"({out[c, y, x]}>0)*{slope}" if stage.weights else slope
        i, j = y // 2, x // 2
        four = out[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel()
        earlier = ",".join(["0", *four[: 2 * (y % 2) + x % 2]])
        wins = f"({out[c, y, x]}>MAX({earlier}))*({out[c, y, x]}={after.out.pictures[c, i, j]})"
        return f"{wins}*{dout.pictures[c, i, j]}"

    words = f"The gradient along {stage.name}" + ", before its ReLU" * bool(stage.weights)
    if "pool" in after.name:
        words += f". All of d {after.name} goes to the first of the largest of four pixels"
    return words, SIGNED, formula


def write_parameters(book, title, cells, words, contents):
    """Kernels and what else a channel has: of each symbol numbers, or formulas."""
    sheet = Sheet(book, title, words, 42, shape=cells["kernels"].shape)
    for symbol, content in contents.items():
        look = {"colours": SIGNED, "edge": 1} if cells[symbol].ndim == 4 else {}
        sheet.put(cells[symbol], content, symbol, locked=callable(content), **look)
    for o, cell in enumerate(cells["bias"]):
        row, _ = xl_cell_to_rowcol(cell.split("!")[1])
        sheet.text(row, 0, str(o), font_size=8)


def write_weights(book, stage, state):
    """A layer's parameters and, to the right, its kernels for the way back."""
    weights, norm, name = stage.weights, stage.norm, f"{stage.name}.weight"
    kernels = weights["kernels"]
    turned = kernels[:, :, ::-1, ::-1].swapaxes(0, 1)

    def flipped(c, o, a, b):
        scale = f"*{weights['γ'][o]}/{weights['σ'][o]}" if norm else ""
        return turned[c, o, a, b].replace("$", "") + scale

    contents = {"kernels": state[name].reshape(kernels.shape), "bias": state[f"{stage.name}.bias"]}
    words = "Numbers that one may change. To the right, the same kernels flipped for the way back"
    if norm:
        names = {"γ": "weight", "β": "bias", "μ": "running_mean", "var": "running_var"}
        contents |= {symbol: state[f"{norm}.{own}"] for symbol, own in names.items()}
        contents["σ"] = lambda o: f"SQRT({weights['var'][o]}+{EPS:.5f})"
        words += f", times γ/σ. γ, β, μ and var: {norm}'s {', '.join(names.values())}"
    write_parameters(book, name, weights, f"{words}.", contents | {"flipped": flipped})


def write_gradients(book, before, stage):
    """The gradients of a layer's parameters."""
    weights, dout, out = stage.weights, stage.dout.pictures, stage.out.pictures
    side, norm = out.shape[2], stage.norm

    def scaled(o, gradient):
        return f"{weights['γ'][o]}/{weights['σ'][o]}*{gradient}" if norm else gradient

    def weight(o, c, a, b):
        seen = before.out.framed[c, a : a + side, b : b + side]
        return scaled(o, f"SUMPRODUCT({block(dout[o])},{block(seen)})")

    def beta(o):
        return f"SUM({block(dout[o])})"

    def gamma(o):  # Σ dy · x̂, where dy is not 0: there y is γ · x̂ + β
        products = f"SUMPRODUCT({block(dout[o])},{block(out[o])})"
        return f"({products}-{weights['β'][o]}*{beta(o)})/{weights['γ'][o]}"

    contents = {"kernels": weight, "bias": lambda o: scaled(o, beta(o))}
    contents |= {"γ": gamma, "β": beta} if norm else {}
    words = f"For each weight, the gradient along {stage.name} times what stood under it, summed."
    write_parameters(book, f"d {stage.name}.weight", stage.grads, words, contents)


def write_step(book, fc, stepped):
    """The fully connected layer's parameters after one step against their gradients."""

    def less(symbol):
        weights, grads = fc.weights[symbol], fc.grads[symbol]
        return lambda *at: f"{weights[at]}-learning_rate*{grads[at]}".replace("$", "")

    words = "Weight − learning rate × gradient. To keep a step, copy these values into fc.weight."
    contents = {symbol: less(symbol) for symbol in ("kernels", "bias")}
    write_parameters(book, STEPPED, stepped, words, contents)


def write_head(book, last, fc, stepped):
    """From the last map to the loss and back to its averages."""
    words = f"{last.name} averaged, the fully connected layer, log-softmax, the loss; and back."
    sheet = Sheet(book, HEAD, words, 56)
    known = HEADS | {"bias": fc.weights["bias"], "new_bias": stepped["bias"]}
    for name, blocks in (
        ("last", last.out.pictures),
        ("kernels", fc.weights["kernels"]),
        ("new_kernels", stepped["kernels"]),
        ("flipped", fc.weights["flipped"]),
    ):
        known[name] = [block(cells) for cells in blocks]
    for name, label, text in ROWS:

        def formula(k, text=text):
            return text.format(**{n: cells[k] for n, cells in known.items() if k < len(cells)})

        colours = SIGNED if name[:2] == "d_" else POSITIVE if name == "gap" else None
        content, digits = (formula, "0.0000") if text else (np.arange(10), "0")
        sheet.put(HEADS[name], content, label, colours, name=name, num_format=digits)


# ---- the first sheets ----------------------------------------------------------------------------


def write_draw(book, count, label, choice, rate):
    """The sheet to draw on: two fields of ink, the answer, the loss and one step."""
    right = PANEL + 5
    stored = [block(column) for column in STORED.T]

    def ink(y, x):
        own = f"MAX(0,MIN(255,N({DRAWING[y, x]})))"
        return f"IF(choice=0,{own},INDEX({stored[1 + x]},28*choice-{27 - y}))"

    words = "Yellow: choose a test digit, 1 to 20, or 0 to have your own drawing read. To draw, "
    words += "select cells on the left, type 255 and press Ctrl+Enter (LibreOffice: Alt+Enter)."
    page = Sheet(book, DRAW, words, 13, 13, heading="A network in formulas")
    frame = HIDDEN | {"border": 4, "border_color": "#DDDDDD"}
    page.put(INK, ink, "what the network reads", BLACK, name="ink", **frame)
    blank, what = np.full(DRAWING.shape, ""), "your drawing: ink from 0 to 255"
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
        (0, "digit to be read", "choice", choice, whole(0, count)),
        (16, "label: what it should be", "label", label, whole(0, 9)),
        (20, "learning rate", "learning_rate", rate, RATE),
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
    """The rule for a cell that holds a whole number from `lowest` to `highest`."""
    rule = {"validate": "integer", "criteria": "between", "minimum": lowest, "maximum": highest}
    message = f"Enter a whole number from {lowest} to {highest}."
    return rule | {"error_title": "Out of range", "error_message": message}


def write_one(book, before, stage):
    """The activation in the middle of channel 0 of a layer, taken apart into its steps."""
    weights, kernel = stage.weights, stage.weights["kernels"][0]
    size, middle = kernel.shape[2], stage.out.pictures.shape[2] // 2
    seen = before.out.framed[:, middle : middle + size, middle : middle + size]
    there = stage.out.pictures[0, middle, middle]
    words = f"Each step of {there} has a cell of its own."
    sheet = Sheet(book, ONE, words, 46, heading=f"One activation of {stage.name}")
    steps = (size + 1, 0), (0, 1), (1, 0), (0, len(kernel))
    first, second, product = lay(ONE, (3, *kernel.shape), (5, 1), steps)

    def multiply(*at):
        return f"{first[at]}*{second[at]}"

    for cells, label, colours, formula in (
        (first, f"what it sees of {before.name}", POSITIVE, lambda *at: seen[at]),
        (second, f"its kernel, of {stage.name}.weight", SIGNED, lambda *at: kernel[at]),
        (product, "each pair's product", SIGNED, multiply),
    ):
        sheet.put(cells, formula, label, colours, edge=0)
    line, formulas = lay(ONE, [13], (6 + 3 * (size + 1), 1), [(0, 1)]), [f"SUM({block(product)})"]
    labels = ["sum"]
    for symbol, sign in {"bias": "+", "μ": "-", "σ": "/", "γ": "*", "β": "+"}.items():
        last, own = line[len(labels) - 1 :][:2]
        labels += [symbol, f"{sign} {symbol}"]
        formulas += [weights[symbol][0], f"{last}{sign}{own}"]
    labels += ["ReLU", f"the same on {stage.name}"]
    formulas += [f"MAX(0,{line[10]})", there]
    sheet.put(line, lambda k: formulas[k], num_format="0.000")
    for k, label in enumerate(labels, 1):
        sheet.text(5 + 3 * (size + 1), k, label, font_size=8, font_color=FAINT)
