"""`network.xlsx`: all 17,498 parameters of `MNISTNet` in live formulas, forward and back.

A sheet holds one map. What a convolution reads has its C channels side by side, channel c of pixel
(x, y) in column x·C + c of row y: so a patch of all channels is one block, and a convolution one
SUMPRODUCT. Every map is there as pictures, too, one of each channel. They are what a pooling reads,
and the SUMPRODUCT of two of them is the gradient of one weight. A sheet whose name begins with d
holds the slopes of the loss along what follows the d.

Beside each formula the file keeps the value that `layers.py` computes, for viewers that do not
calculate. Excel, LibreOffice, Gnumeric and Google Sheets share FUNCTIONS, which are all there are.
"""

import io
import zipfile
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import xlsxwriter
from torch import nn
from xlsxwriter.utility import xl_rowcol_to_cell

from backprop import playground, tape
from backprop.layers import EPS, nll_forward
from backprop.record import record
from backprop.workbook import CREATED, FAINT, RATE, YELLOW, Page
from s4lib.data import MNIST_MEAN, MNIST_STD
from s4lib.model import MNISTNet
from s4lib.plots import BLUE, ORANGE
from s4lib.runtime.checkpoint import load_weights

FUNCTIONS = {
    *("ADDRESS", "AVERAGE", "EXP", "IF", "INDEX", "LN", "MATCH", "MAX", "MIN", "N"),
    *("REPT", "ROUND", "SQRT", "SUM", "SUMPRODUCT"),
}
DRAW, ONE, HEAD, BACK, DIGITS = "Draw", "One activation", "head", "d head", "digits"
STEPPED = "fc.weight after a step"
CHOICE, LEARNING_RATE = 7, 1.0  # what the workbook opens with: a test digit, a seven
EXAMPLE = "block2.conv1"  # whose activations are taken apart

PIXELS = {28: 9, 14: 11, 7: 18, 5: 22, 3: 28}  # a cell's side on the screen, by the map's
FIELD, DRAWING, INK, PANEL = 3, 1, 30, 59  # first row and first columns of what is on Draw
TOP = 6  # the row of a map's first pixel; above it is room for two rows of padding
KERNELS = 5, 8  # the first kernel's row and column
PARAMETERS = ("bias", "γ", "β", "μ", "var", "σ")  # in the columns before the kernels
AVERAGES, TEN = 5, 9  # rows of the head: the averages, and the first of the ten digits

SIGNED = {"type": "3_color_scale", "mid_type": "num", "mid_value": 0, "mid_color": "#FFFFFF"}
SIGNED |= {"min_color": BLUE, "max_color": ORANGE}
POSITIVE = {"type": "2_color_scale", "min_type": "num", "min_value": 0, "min_color": "#FFFFFF"}
POSITIVE |= {"max_type": "percentile", "max_value": 99, "max_color": ORANGE}
BLACK = POSITIVE | {"max_type": "num", "max_value": 255, "max_color": "#000000"}


def whole(lowest: int, highest: int) -> dict:
    """The rule for a cell that holds a whole number from `lowest` to `highest`."""
    rule = {"validate": "integer", "criteria": "between", "minimum": lowest, "maximum": highest}
    message = f"Enter a whole number from {lowest} to {highest}."
    return rule | {"error_title": "Out of range", "error_message": message}


# ---- where everything lies -----------------------------------------------------------------------


@cache  # each kernel's address stands in every pixel's formula
def cells(sheet: str, first, last=None, fixed=False) -> str:
    """The address of one cell, (row, column), or of the block that two are the corners of."""
    ends = [xl_rowcol_to_cell(*end, fixed, fixed) for end in (first, last) if end]
    return f"'{sheet}'!{':'.join(ends)}"


def local(address: str) -> str:
    """An address as it is on its own sheet."""
    return address.rpartition("!")[2]


class Map(NamedTuple):
    """The place of a map, (C, H, W), on its sheet.

    With a border, in pixels, its channels lie side by side, within blank cells: a blank counts as
    the 0 that padding adds. Without, there are only the pictures.
    """

    name: str
    shape: tuple[int, int, int]
    border: int | None = None

    def place(self, c, y, x):
        """Row and column of one number; a pixel may lie in the border."""
        if self.border is None:
            return self.view(c, y, x)
        return TOP + y, 1 + (self.border + x) * self.shape[0] + c

    def view(self, c, y, x):
        """Row and column of the same number in the picture of its channel."""
        channels, high, wide = self.shape
        if channels == 1:
            return TOP + y, 1 + (self.border or 0) + x
        below = 0 if self.border is None else high + self.border + 4
        line, across = divmod(c, 4 if wide > 14 else 8)
        return TOP + below + line * (high + 3) + y, 2 + across * (wide + 2) + x

    def patch(self, y, x, size):
        """A square of pixels with all their channels; the upper left is (x, y)."""
        last = self.place(self.shape[0] - 1, y + size - 1, x + size - 1)
        return cells(self.name, self.place(0, y, x), last)

    def picture(self, c, y, x, size=1):
        """A square of pixels of one channel; the upper left is (x, y)."""
        last = self.view(c, y + size - 1, x + size - 1) if size > 1 else None
        return cells(self.name, self.view(c, y, x), last)


class Weights(NamedTuple):
    """The place of kernels, (O, C, K, K), and of the other parameters of their channels."""

    name: str
    shape: tuple[int, ...]
    left: int = KERNELS[1]

    def place(self, o, c=0, a=0, b=0):
        """Row and column of one weight, laid as in a patch: row a of kernel o, column b·C + c."""
        size = self.shape[2]
        return KERNELS[0] + o * (size + (size > 1)) + a, self.left + b * self.shape[1] + c

    def end(self, o):
        """Row and column of the last weight of a kernel."""
        _, channels, size, _ = self.shape
        return self.place(o, channels - 1, size - 1, size - 1)

    def kernel(self, o):
        """The address of one kernel."""
        return cells(self.name, self.place(o), self.end(o), fixed=True)

    def of(self, parameter, o):
        """The address of a channel's bias, γ, β, μ, variance or σ."""
        place = self.place(o)[0], 1 + PARAMETERS.index(parameter)
        return cells(self.name, place, fixed=True)

    def flipped(self):
        """Beside them, the kernels for the way back: (C, O, K, K)."""
        o, c, size, _ = self.shape
        return Weights(self.name, (c, o, size, size), self.left + size * c + 2)


class Stage(NamedTuple):
    """The image, a pooling, or a convolution with what follows it as far as its ReLU.

    A convolution's gradient is that along what its ReLU is handed.
    """

    out: Map
    dout: Map
    weights: Weights | None = None
    padding: int = 0
    norm: str = ""

    @property
    def name(self):
        return self.out.name


def stages(model) -> list[Stage]:
    """The stages of a network that is made as `MNISTNet` is, in the order of its forward pass."""
    layers = [(name, layer) for name, layer in model.named_modules() if not any(layer.children())]
    found = [Stage(Map("image", (1, 28, 28)), Map("d image", (1, 28, 28)))]
    for (name, layer), (after, following) in pairwise(layers):
        channels, side, _ = found[-1].out.shape
        if isinstance(layer, nn.MaxPool2d):
            shape = (channels, side // 2, side // 2)
            found.append(Stage(Map(name, shape), Map(f"d {name}", shape)))
        elif isinstance(layer, nn.Conv2d):
            (size, _), (padding, _) = layer.kernel_size, layer.padding
            shape = (layer.out_channels, *2 * (side + 2 * padding - size + 1,))
            found[-1] = found[-1]._replace(out=found[-1].out._replace(border=padding))
            gradient = Map(f"d {name}", shape, size - 1 - padding)
            weights = Weights(f"{name}.weight", tuple(layer.weight.shape))
            norm = after if isinstance(following, nn.BatchNorm2d) else ""
            found.append(Stage(Map(name, shape), gradient, weights, padding, norm))
    return found


# ---- the numbers ---------------------------------------------------------------------------------


def stored_digits():
    """Twenty of the playground's test digits, (20, 28, 28), and their labels.

    The first nine are 1 to 9 and the tenth is a 0; ten that the shipped weights misread follow.
    """
    images, chosen = playground.read_digits()
    labels, kinds = np.array(chosen["labels"]), np.array(chosen["kinds"])
    ordinary = [np.flatnonzero((labels == k % 10) & (kinds == "ordinary"))[0] for k in range(1, 11)]
    picks = [*ordinary, *np.flatnonzero(kinds == "mistakes")[:10]]
    return images[picks], labels[picks].tolist()


def numbers(model, plan, ink, label, rate):
    """What `layers.py` computes in float64 for an image of `ink`, (28, 28), and its label.

    Returns maps, (C, H, W), by the names of their sheets; the head's numbers by name; parameters;
    their gradients; and the fully connected layer's parameters after a step at this `rate`.
    """
    state = {name: value.numpy(force=True) for name, value in model.state_dict().items()}
    image = (torch.from_numpy(ink).double()[None, None] / 255 - MNIST_MEAN) / MNIST_STD
    steps, values = record(model, image)
    values = tape.forward(steps, values)
    grads = tape.backward(steps, values, np.array([label]))
    maps, stage = {"image": values["images"][0], "d image": grads["images"][0]}, iter(plan[1:])
    for step in steps:
        if step.kind in ("conv", "max_pool"):
            name = next(stage).name
        if step.kind in ("conv", "max_pool", "batch_norm"):
            maps[f"d {name}"] = grads[step.output][0]
        if step.kind in ("max_pool", "relu"):
            maps[name] = values[step.output][0]
    gap, logits, log_probs = steps[-2].inputs[0], steps[-2].output, steps[-1].output
    new = {name: state[name] - rate * grads[name] for name in ("fc.weight", "fc.bias")}
    head = {"gap": values[gap][0], "d_gap": grads[gap][0], "logits": values[logits][0]}
    head |= {"log_probs": values[log_probs][0], "loss": nll_forward(values[log_probs], [label])}
    head |= {"d_logits": grads[logits][0]}
    head |= {"new_logits": new["fc.weight"] @ head["gap"] + new["fc.bias"]}
    head |= {"shifted": head["logits"] - head["logits"].max()}
    head |= {"exponentials": np.exp(head["shifted"])}
    head |= {"probabilities": np.exp(head["log_probs"])}
    head |= {"new_exponentials": np.exp(head["new_logits"] - head["new_logits"].max())}
    head |= {"new_probabilities": head["new_exponentials"] / head["new_exponentials"].sum()}
    return maps, head, state, grads, new


def kept(value) -> float:
    """A value as it is stored beside its formula: ten digits, or half the file would be values."""
    return float(f"{value:.10g}") + 0.0


# ---- the sheets ----------------------------------------------------------------------------------


def build(path, model=None, choice=CHOICE, rate=LEARNING_RATE) -> None:
    """Write the workbook to `path`: the network `model`, in evaluation mode, or the shipped one.

    It opens with the stored digit number `choice`. The same arguments give the same file, byte for
    byte, with the same version of XlsxWriter.
    """
    model = (model or load_weights(MNISTNet())).double().eval()
    plan, (images, labels) = stages(model), stored_digits()
    digit = images[choice - 1], labels[choice - 1]
    maps, head, state, grads, new = numbers(model, plan, *digit, rate)
    fc = Weights("fc.weight", (10, len(head["gap"]), 1, 1))
    slopes, stepped = fc._replace(name="d fc.weight"), fc._replace(name=STEPPED)

    content = io.BytesIO()
    usual = {"font_name": "Arial", "font_size": 10}
    book = xlsxwriter.Workbook(content, {"default_format_properties": usual})
    book.set_properties({"title": "A network in formulas", "created": CREATED})

    def page(title):
        made = Page(book, title)
        # XlsxWriter would look through each formula for 29 newer functions, which takes a minute.
        made.sheet._prepare_formula = lambda formula, *_: formula.removeprefix("=")
        return made

    write_draw(page(DRAW), images, labels, choice, head, rate)
    write_one(page(ONE), plan, maps, state)
    for before, stage in pairwise([None, *plan]):
        write_map(page(stage.name), stage.out, maps, *forward(stage, before))
    write_head(page(HEAD), plan[-1].out, fc, stepped, head)
    write_head(page(BACK), plan[-1].out, fc, stepped, head)
    for after, stage in pairwise([None, *reversed(plan)]):
        write_map(page(stage.dout.name), stage.dout, maps, *backward(stage, after))
    for stage in plan[1:]:
        if stage.weights:
            write_weights(page(stage.weights.name), stage, state)
    words = "The fully connected layer: a row for each digit. Numbers that one may change."
    write_parameters(page(fc.name), fc, words, state, {"bias": ("fc.bias", None)})
    for before, stage in pairwise(plan):
        if stage.weights:
            write_gradients(page(f"d {stage.weights.name}"), stage, before, grads)
    words = "The gradient along a digit's logit, times the average that the weight multiplies."
    bias = {"bias": ("fc.bias", lambda k: digit_cell("d_logits", k))}
    write_parameters(page(slopes.name), slopes, words, grads, bias, fc_slope)
    write_step(page(STEPPED), fc, slopes, stepped, new)
    write_digits(page(DIGITS), images, labels)
    book.close()
    with zipfile.ZipFile(content) as made, zipfile.ZipFile(path, "w") as smaller:
        for part in made.infolist():
            smaller.writestr(part, made.read(part), compresslevel=9)


def forward(stage, before):
    """What a stage does in words, its colours, and the formula of (c, y, x)."""
    shift, out = stage.padding, stage.weights
    if not before:
        words = f"The ink, normalised: (ink / 255 − {MNIST_MEAN}) / {MNIST_STD}"

        def formula(c, y, x):
            ink = cells(DRAW, (FIELD + y, INK + x))
            return f"({ink}/255-{MNIST_MEAN})/{MNIST_STD}"

        ends = {"min_type": "num", "min_value": -3, "max_type": "num", "max_value": 3}
        return words, SIGNED | ends, formula
    if not stage.weights:
        words = f"2×2 max pooling of {before.name}: of each four pixels the largest"
        return words, POSITIVE, lambda c, y, x: f"MAX({before.out.picture(c, 2 * y, 2 * x, 2)})"

    def formula(c, y, x):
        patch = before.out.patch(y - shift, x - shift, out.shape[2])
        total = f"SUMPRODUCT({patch},{out.kernel(c)})+{out.of('bias', c)}"
        if stage.norm:
            gamma, beta, mean, std = (out.of(name, c) for name in ("γ", "β", "μ", "σ"))
            total = f"{gamma}*({total}-{mean})/{std}+{beta}"
        return f"MAX(0,{total})"

    norm = ", batch normalisation" if stage.norm else ""
    words = f"{out.shape[2]}×{out.shape[2]} convolution of {before.name}{norm}, ReLU"
    return words, POSITIVE, formula


def backward(stage, after):
    """The same of a stage's gradient, by that of the stage `after` it."""

    def formula(c, y, x):
        out, (_, high, wide) = stage.out.picture(c, y, x), stage.out.shape
        if not after:
            return f"({out}>0)*{average(BACK, c)}/{high * wide}"
        if after.weights:
            size = after.weights.shape[2]
            patch = after.dout.patch(*(k + after.padding - size + 1 for k in (y, x)), size)
            slope = f"SUMPRODUCT({patch},{after.weights.flipped().kernel(c)})"
            return f"({out}>0)*{slope}" if stage.weights else slope
        window = c, y // 2, x // 2
        four = [(y // 2 * 2 + i, x // 2 * 2 + j) for i in (0, 1) for j in (0, 1)]
        earlier = ["0", *(stage.out.picture(c, *pixel) for pixel in four if pixel < (y, x))]
        wins = f"({out}>MAX({','.join(earlier)}))*({out}={after.out.picture(*window)})"
        return f"{wins}*{after.dout.picture(*window)}"

    words = f"The gradient along {stage.name}"
    if stage.weights:
        words += ", before its ReLU"
    if after and not after.weights:
        words += f". All of {after.dout.name} goes to the first of the largest of four pixels"
    return words, SIGNED, formula


def write_map(page, spot, maps, words, colours, formula):
    """A map as pictures; if a convolution reads it, above them with its channels side by side."""
    channels, high, wide = spot.shape
    sheet, side, values = page.sheet, PIXELS[wide] if channels > 1 else 16, maps[spot.name]
    bottom = spot.view(channels - 1, high - 1, 0)[0]
    right = shown = max(spot.view(c, 0, wide)[1] for c in range(channels))
    columns = spot.border is not None and channels > 1
    if columns:
        right = max(right, spot.place(0, 0, wide + spot.border)[1])
        first = xl_rowcol_to_cell(*spot.place(0, 0, 0))
        words += f". Pixel (0, 0) is in {first}, and each has {channels} columns, one a channel"
    sheet.set_default_row(0.75 * side)
    sheet.set_column_pixels(0, right, side)
    page.head(f"{spot.name}   {channels} × {high} × {wide}", words + ".")
    sheet.set_row(1, 15)
    plain, edge = (page.paint(num_format=";;;", left=left, left_color="#BBBBBB") for left in (0, 1))
    small = page.paint(font_size=6, font_color=FAINT)
    for x in range(wide if columns else 0):
        sheet.write_string(3, spot.place(0, 0, x)[1], str(x), small)
    for c in range(channels if channels > 1 else 0):
        row, column = spot.view(c, 0, 0)
        sheet.write_string(row - 2, column, str(c), small)
    for (c, y, x), value in np.ndenumerate(values):
        view, value = spot.view(c, y, x), kept(value)
        sheet.write_formula(*view, "=" + formula(c, y, x), plain, value)
        if columns:
            place, style = spot.place(c, y, x), plain if c else edge
            sheet.write_formula(*place, "=" + xl_rowcol_to_cell(*view), style, value)
    sheet.conditional_format(TOP, 1, bottom, right, colours)
    sheet.print_area(0, 0, bottom + 1, shown)
    sheet.fit_to_pages(1, 1)


def write_parameters(page, spot, words, values, others, formula=None):
    """Kernels one below the other and, before them, the `others`: what else a channel has.

    `values` are arrays by PyTorch's names, `others` are {column: (name, formula of the channel)},
    `formula` is that of a weight (o, c, a, b). Without a formula they are numbers to be changed.
    """
    sheet, (o, c, size, _) = page.sheet, spot.shape
    slopes, name = page.title.startswith("d "), page.title.removeprefix("d ").split()[0]
    page.head(f"{page.title}   {' × '.join(map(str, values[name].shape))}", words)
    sheet.set_row(4, 30)
    sheet.set_column_pixels(1, len(PARAMETERS), 78)
    sheet.set_column_pixels(spot.left, spot.left + size * c - 1, 38)
    sheet.freeze_panes(KERNELS[0], 1)
    style = {"num_format": "0.0E+0" if slopes else "0.00", "font_size": 8}
    made, given = page.paint(**style), page.paint(**style, locked=False)

    def write(place, value, formula):
        if formula:
            sheet.write_formula(*place, f"={formula}", made, kept(value))
        else:
            sheet.write_number(*place, float(value), given)

    for b in range(size if size > 1 else 0):
        page.text(3, spot.place(0, 0, 0, b)[1], f"kernel's column {b}, channel", font_size=8)
    for b, k in np.ndindex(size, c):
        page.text(4, spot.place(0, k, 0, b)[1], str(k), font_size=8, font_color=FAINT)
    for k in range(o):
        page.text(spot.place(k)[0], 0, str(k), bold=True)
    for symbol, (other, of_channel) in others.items():
        column = 1 + PARAMETERS.index(symbol)
        page.text(4, column, f"{other} {symbol * (symbol in 'γβμ')}", font_size=8, text_wrap=True)
        for k, value in enumerate(values[other]):
            write((spot.place(k)[0], column), value, of_channel and of_channel(k))
    for weight, value in np.ndenumerate(values[name].reshape(spot.shape)):
        write(spot.place(*weight), value, formula and formula(*weight))
    sheet.conditional_format(*spot.place(0), *spot.end(o - 1), SIGNED)
    sheet.fit_to_pages(1, 1)


def write_weights(page, stage, state):
    """A convolution's parameters and, to the right, its kernels for the way back."""
    spot, norm, back = stage.weights, stage.norm, stage.weights.flipped()
    others, scale = {"bias": (f"{stage.name}.bias", None)}, np.ones(spot.shape[0])
    words = "Numbers that one may change. To the right, the same kernels flipped, for the way back."
    if norm:
        words = words.replace("flipped", "flipped and times γ/σ")
        std = np.sqrt(state[f"{norm}.running_var"] + EPS)
        scale, state = state[f"{norm}.weight"] / std, state | {"√(var + ε) = σ": std}
        own = {"γ": "weight", "β": "bias", "μ": "running_mean", "var": "running_var"}
        others |= {symbol: (f"{norm}.{name}", None) for symbol, name in own.items()}
        others["σ"] = "√(var + ε) = σ", lambda o: f"SQRT({spot.of('var', o)}+{EPS:.5f})"
    write_parameters(page, spot, words, state, others)

    size, sheet, style = spot.shape[2], page.sheet, page.paint(num_format="0.00", font_size=8)
    page.text(4, back.left, "flipped", font_size=8)
    flipped = (state[spot.name] * scale[:, None, None, None])[:, :, ::-1, ::-1].swapaxes(0, 1)
    for (c, o, a, b), value in np.ndenumerate(flipped):
        formula = "=" + xl_rowcol_to_cell(*spot.place(o, c, size - 1 - a, size - 1 - b))
        if norm:
            formula += f"*{local(spot.of('γ', o))}/{local(spot.of('σ', o))}"
        sheet.write_formula(*back.place(c, o, a, b), formula, style, kept(value))
    end = back.end(spot.shape[1] - 1)
    sheet.set_column_pixels(back.left, end[1], 38)
    sheet.conditional_format(*back.place(0), *end, SIGNED)


def write_gradients(page, stage, before, grads):
    """The gradients of a convolution's parameters."""
    spot, norm, side, pad = stage.weights, stage.norm, stage.out.shape[1], stage.padding

    def slopes(o):
        return stage.dout.picture(o, 0, 0, side)

    def scaled(o, gradient):
        return f"{spot.of('γ', o)}/{spot.of('σ', o)}*{gradient}" if norm else gradient

    def weight(o, c, a, b):
        seen = before.out.picture(c, a - pad, b - pad, side)
        return scaled(o, f"SUMPRODUCT({slopes(o)},{seen})")

    def gamma(o):  # Σ dy · x̂, where dy is not 0: there y is γ · x̂ + β
        products = f"SUMPRODUCT({slopes(o)},{stage.out.picture(o, 0, 0, side)})"
        return f"({products}-{spot.of('β', o)}*SUM({slopes(o)}))/{spot.of('γ', o)}"

    others = {"bias": (f"{stage.name}.bias", lambda o: scaled(o, f"SUM({slopes(o)})"))}
    if norm:
        others["γ"] = f"{norm}.weight", gamma
        others["β"] = f"{norm}.bias", lambda o: f"SUM({slopes(o)})"
    words = f"For each weight, {stage.dout.name} times what stood under it, {before.name}: summed."
    write_parameters(page, spot, words, grads, others, weight)


# ---- the head ------------------------------------------------------------------------------------

# Name, header and formula of each column of the head's tables, and what stands below it.
TABLES = {
    HEAD: (
        ("logits", "logit", "SUMPRODUCT(gap,{kernel})+{bias}", "MAX"),
        ("shifted", "logit − MAX", "{logits}-{below_logits}", ""),
        ("exponentials", "EXP", "EXP({shifted})", "SUM"),
        ("log_probs", "log-probability", "{shifted}-LN({below_exponentials})", ""),
        ("probabilities", "probability", "EXP({log_probs})", ""),
    ),
    BACK: (
        ("d_logits", "d logit", "{probabilities}-(label={k})", ""),
        ("new_logits", "after a step", "SUMPRODUCT(gap,{new_kernel})+{new_bias}", "MAX"),
        ("new_exponentials", "EXP", "EXP({new_logits}-{below_new_logits})", "SUM"),
        ("new_probabilities", "probability", "{new_exponentials}/{below_new_exponentials}", ""),
    ),
}
COLUMNS = {row[0]: (s, k) for s, rows in TABLES.items() for k, row in enumerate(rows, 1)}


def digit_cell(name: str, k: int) -> str:
    """The address of a digit's cell in a column of the head; below the ten stands the eleventh."""
    sheet, column = COLUMNS[name]
    return cells(sheet, (TEN + k, column), fixed=True)


def average(sheet: str, c: int) -> str:
    """The address of a channel's average, or of the gradient along it."""
    return cells(sheet, (AVERAGES, 1 + c), fixed=True)


def write_head(page, last, fc, stepped, head):
    """Forward, from the map `last` to the loss, or the way back: a row of averages and a table."""
    back, count = page.title == BACK, fc.shape[1]
    words = f"{last.name} averaged, the fully connected layer, log-softmax, and the loss."
    page.head(page.title, "The gradient along the head; and a step of fc." if back else words)
    page.sheet.set_column(0, count, 13)
    page.text(AVERAGES, 0, "d average" if back else "average", bold=True)
    for c, value in enumerate(head["d_gap" if back else "gap"]):
        formula = f"AVERAGE({last.picture(c, 0, 0, last.shape[1])})"
        if back:
            formula = f"SUMPRODUCT(d_logits,{cells(fc.name, fc.place(0, c), fc.place(9, c))})"
        page.text(AVERAGES - 1, 1 + c, f"channel {c}", font_color=FAINT)
        page.formula(AVERAGES, 1 + c, formula, value, num_format="0.0000")
    colours = SIGNED if back else POSITIVE
    page.sheet.conditional_format(AVERAGES, 1, AVERAGES, count, colours)
    name_block(page, "d_gap" if back else "gap", (AVERAGES, 1), (AVERAGES, count))

    page.text(TEN - 1, 0, "digit", bold=True, bottom=1)
    for k in range(10):
        page.sheet.write_number(TEN + k, 0, k, page.paint(bold=True, align="left"))
    for name, header, formula, below in TABLES[page.title]:
        column, values = COLUMNS[name][1], head[name]
        page.text(TEN - 1, column, header, bold=True, bottom=1)
        for k, value in enumerate(values):
            known = {name: digit_cell(name, k) for name in COLUMNS} | {"k": k}
            known |= {f"below_{name}": digit_cell(name, 10) for name in COLUMNS}
            known |= {"kernel": fc.kernel(k), "bias": fc.of("bias", k)}
            known |= {"new_kernel": stepped.kernel(k), "new_bias": stepped.of("bias", k)}
            formula_k = formula.format_map(known)
            page.formula(TEN + k, column, formula_k, value, num_format="0.0000")
        name_block(page, name, (TEN, column), (TEN + 9, column))
        if below:
            value = values.max() if below == "MAX" else values.sum()
            style = {"num_format": f'"{below}  "0.0000', "top": 1}
            page.formula(TEN + 10, column, f"{below}({name})", value, **style)
    if not back:
        page.text(TEN + 12, 0, "loss", bold=True)
        page.formula(TEN + 12, 1, "-INDEX(log_probs,label+1)", head["loss"], num_format="0.0000")
        page.text(TEN + 12, 2, "minus the log-probability of the label", font_color=FAINT)
        page.name("loss", TEN + 12, 1)
    page.sheet.print_area(0, 0, TEN + 12, 8)
    page.sheet.fit_to_pages(1, 1)


def name_block(page, name, first, last):
    """Let formulas call a block of cells by a name."""
    page.book.define_name(name, f"={cells(page.title, first, last, fixed=True)}")


def fc_slope(k, c, *_):
    """The gradient along one weight of the fully connected layer."""
    return f"{digit_cell('d_logits', k)}*{average(HEAD, c)}"


def write_step(page, fc, slopes, stepped, new):
    """The fully connected layer's parameters after one step against their gradients."""

    def step(old, gradient):
        return f"{old}-learning_rate*{gradient}"

    def weight(*index):
        return step(*(cells(spot.name, spot.place(*index)) for spot in (fc, slopes)))

    bias = "fc.bias", lambda k: step(fc.of("bias", k), slopes.of("bias", k))
    words = "Weight − learning rate × gradient. To keep a step, copy these values into fc.weight."
    write_parameters(page, stepped, words, new, {"bias": bias}, weight)


# ---- the first sheets, and the last --------------------------------------------------------------


def write_draw(page, images, labels, choice, head, rate):
    """The sheet to draw on: two fields of ink, the answer, the loss and one step."""
    sheet, probs, label = page.sheet, head["probabilities"], labels[choice - 1]
    stored = [cells(DIGITS, (FIELD, x), (FIELD + 28 * len(images) - 1, x), True) for x in range(29)]
    words = "Yellow: choose a test digit, 1 to 20, or 0 to have your own drawing read. To draw, "
    words += "select cells on the left, type 255 and press Ctrl+Enter (LibreOffice: Alt+Enter)."
    sheet.set_default_row(9.75)
    page.head("A network in formulas", words)
    sheet.set_row(1, 15)
    sheet.set_row(2, 13.5)
    sheet.set_column_pixels(0, PANEL - 1, 13)
    for column, pixels in enumerate((24, 52, 168, 16, 156, 72), PANEL):
        sheet.set_column_pixels(column, column, pixels)

    frame = {"num_format": ";;;", "border": 4, "border_color": "#DDDDDD"}
    paper, read = page.paint(**frame, locked=False), page.paint(**frame)
    for y, x in np.ndindex(28, 28):
        drawn = xl_rowcol_to_cell(FIELD + y, DRAWING + x)
        own, row = f"MAX(0,MIN(255,N({drawn})))", f"28*choice-{27 - y}"
        formula = f"=IF(choice=0,{own},INDEX({stored[1 + x]},{row}))"
        sheet.write_blank(FIELD + y, DRAWING + x, None, paper)
        sheet.write_formula(FIELD + y, INK + x, formula, read, int(images[choice - 1, y, x]))
    for name, left, words in (
        ("drawing", DRAWING, "your drawing: ink from 0 to 255"),
        ("ink", INK, "what the network reads"),
    ):
        page.text(2, left, words, font_color=FAINT, font_size=9)
        corners = (FIELD, left), (FIELD + 27, left + 27)
        sheet.conditional_format(*corners[0], *corners[1], BLACK)
        name_block(page, name, *corners)
    sheet.data_validation(FIELD, DRAWING, FIELD + 27, DRAWING + 27, whole(0, 255))

    def joined(row, first, last=None, high=2, **style):
        """Join cells to one that is high enough for words; return its place and format."""
        style = page.paint(**style)
        sheet.merge_range(row, first, row + high - 1, last or first, "", style)
        return (row, first), style

    def show(formula, value, *place, **style):
        """A formula in such a cell."""
        place, style = joined(*place, **style)
        sheet.write_formula(*place, f"={formula}", style, value)

    for k, p in enumerate(probs):
        row, cell = FIELD + 2 * k, digit_cell("probabilities", k)
        place, style = joined(row, PANEL, bold=True, align="center")
        sheet.write_number(*place, k, style)
        show(cell, p, row, PANEL + 1, num_format="0.0%")
        bar = "█" * int(np.floor(16 * p + 0.5))
        show(f'REPT("█",ROUND(16*{cell},0))', bar, row, PANEL + 2, font_color=BLUE, font_size=8)
    words = (
        "Every number is a formula: click a cell to read it. The tabs lead from the image to the "
    )
    words += "head; back to the image (d …); to the weights; and to their gradients."
    small = {"text_wrap": True, "font_color": FAINT, "font_size": 9}
    place, style = joined(FIELD + 21, PANEL, PANEL + 2, 7, **small)
    sheet.write_string(*place, words, style)

    left, right = PANEL + 4, PANEL + 5
    for row, words, name, value, rule in (
        (0, "digit to be read", "choice", choice, whole(0, len(images))),
        (16, "label: what it should be", "label", label, whole(0, 9)),
        (20, "learning rate", "learning_rate", rate, RATE),
        (18, "loss: −log p(label)", "loss", head["loss"], "0.0000"),
        (22, "p(label)", "INDEX(probabilities,label+1)", probs[label], "0.00%"),
        (24, "after one step of fc", "INDEX(new_probabilities,label+1)",
         head["new_probabilities"][label], "0.00%"),
    ):  # fmt: skip
        place, style = joined(FIELD + row, left)
        sheet.write_string(*place, words, style)
        if isinstance(rule, str):
            show(name, value, FIELD + row, right, num_format=rule)
        else:
            joined(FIELD + row, right, bg_color=YELLOW, border=1, border_color=FAINT)
            page.input(FIELD + row, right, value, rule, "General")
            page.name(name, FIELD + row, right)
    hint = f'"a test digit: "&INDEX({stored[0]},28*choice-27)'
    hint = f'IF(SUM(drawing)>0,"0 would read your drawing",{hint})'
    hint = f'IF(choice=0,"your own drawing",{hint})'
    show(hint, f"a test digit: {label}", FIELD + 2, left, right, font_color=FAINT)
    answer = "MATCH(MAX(probabilities),probabilities,0)-1", int(probs.argmax())
    big = {"font_size": 72, "bold": True, "align": "center", "font_color": ORANGE}
    show(*answer, FIELD + 4, left, right, 12, **big)
    sheet.print_area(0, 0, FIELD + 28, right)
    sheet.fit_to_pages(1, 1)


def write_one(page, plan, maps, state):
    """One activation of EXAMPLE, taken apart into its steps."""
    at = [stage.name for stage in plan].index(EXAMPLE)
    seen, stage = plan[at - 1].out, plan[at]
    spot, pad, norm, side = stage.weights, stage.padding, stage.norm, stage.out.shape[1]
    (count, channels, size, _), sheet = spot.shape, page.sheet
    c, y, x = 0, side // 2, side // 2
    words = "Choose a channel and a pixel: each step of the formula has a cell of its own."
    page.head(f"One activation of {stage.name}", words)
    sheet.set_column_pixels(0, 0, 160)
    sheet.set_column_pixels(1, size * channels, 46)
    for row, (name, value, limit) in enumerate(
        (("channel", c, count), ("row y", y, side), ("column x", x, side)), 3
    ):
        page.text(row, 0, name, bold=True)
        page.input(row, 1, value, whole(0, limit - 1), "0")
    first, last = stage.out.place(0, 0, 0), stage.out.place(count - 1, side - 1, side - 1)
    page.text(3, 3, "where it lies, channels side by side")
    address = f"ADDRESS($B$5+{first[0] + 1},$B$6*{count}+$B$4+{first[1] + 1},4)"
    page.formula(3, 9, address, xl_rowcol_to_cell(*stage.out.place(c, y, x)), bold=True)

    rows = range(8, 8 + size), range(13, 13 + size), range(18, 18 + size)
    inside = np.pad(maps[seen.name], ((0, 0), (pad, pad), (pad, pad)))
    patch = inside[:, y : y + size, x : x + size]  # (C, K, K)
    corners = seen.place(0, -pad, -pad), seen.place(channels - 1, *2 * (side - 1 + pad,))
    read = f"INDEX({cells(seen.name, *corners, True)},$B$5+{{a}},$B$6*{channels}+{{column}})"
    pitch = spot.place(1)[0] - spot.place(0)[0]
    kernels = cells(spot.name, spot.place(0), spot.end(count - 1), True)
    weigh = f"INDEX({kernels},{pitch}*$B$4+{{a}},{{column}})"
    kernel = state[spot.name][c]
    for top, words, values, formula, colours in (
        (rows[0], f"what it sees of {seen.name}", patch, read, POSITIVE),
        (rows[1], f"its kernel, of {spot.name}", kernel, weigh, SIGNED),
        (rows[2], "each pair's product", patch * kernel, "{above}*{kernel}", SIGNED),
    ):
        page.text(top[0] - 1, 0, words, bold=True)
        for (k, a, b), value in np.ndenumerate(values):
            column = 1 + b * channels + k
            above, below = (xl_rowcol_to_cell(where[a], column) for where in rows[:2])
            text = formula.format(a=a + 1, column=column, above=above, kernel=below)
            shown = {"num_format": "0.00", "font_size": 8, "left": int(k == 0)}
            page.formula(top[a], column, text, kept(value), **shown)
        sheet.conditional_format(top[0], 1, top[-1], size * channels, colours)

    def parameter(symbol):
        column = f"{spot.of(symbol, 0)}:{local(spot.of(symbol, count - 1))}"
        return f"INDEX({column},{pitch}*$B$4+1)"

    total = (patch * kernel).sum()
    products = cells(page.title, (rows[2][0], 1), (rows[2][-1], size * channels))
    page.text(22, 0, "sum of the products", bold=True)
    three = {"num_format": "0.000", "font_size": 8}
    page.formula(22, 2, f"SUM({local(products)})", total, **three)
    std = np.sqrt(state[f"{norm}.running_var"] + EPS)
    for row, (words, symbol, values, sign, then) in enumerate(
        (
            ("plus the bias", "bias", state[f"{stage.name}.bias"], "+", np.add),
            ("minus the mean μ", "μ", state[f"{norm}.running_mean"], "-", np.subtract),
            ("divided by σ", "σ", std, "/", np.divide),
            ("times γ", "γ", state[f"{norm}.weight"], "*", np.multiply),
            ("plus β", "β", state[f"{norm}.bias"], "+", np.add),
        ),
        23,
    ):
        total = then(total, values[c])
        page.text(row, 0, words, bold=True)
        page.formula(row, 1, parameter(symbol), values[c], **three)
        page.formula(row, 2, f"C{row}{sign}B{row + 1}", total, **three)
    there = f"INDEX({cells(stage.name, first, last, True)},$B$5+1,$B$6*{count}+$B$4+1)"
    for row, words, formula, value in (
        (28, "ReLU: not below 0", "MAX(0,C28)", max(0, total)),
        (29, f"and on {stage.name}", there, maps[stage.name][c, y, x]),
    ):
        page.text(row, 0, words, bold=True)
        page.formula(row, 2, formula, value, **three)
    sheet.print_area(0, 0, 30, size * channels)
    sheet.fit_to_pages(1, 1)


def write_digits(page, images, labels):
    """The stored test digits, one below the other; its label is beside the first row of each."""
    words = "Test digits of MNIST: 1 to 9, 0, and ten that the shipped weights misread."
    page.head("digits", words)
    page.sheet.set_column_pixels(1, 28, 16)
    bold, hidden = page.paint(bold=True), page.paint(num_format=";;;")
    for k, label in enumerate(labels):
        page.sheet.write_number(FIELD + 28 * k, 0, label, bold)
    for k, y, x in np.argwhere(images):
        page.sheet.write_number(FIELD + 28 * k + y, 1 + x, int(images[k, y, x]), hidden)
    page.sheet.conditional_format(FIELD, 1, FIELD + 28 * len(images) - 1, 28, BLACK)
    page.sheet.fit_to_pages(1, 1)
