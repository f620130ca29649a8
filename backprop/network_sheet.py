"""`network.xlsx`: all 17,498 parameters of `MNISTNet` in live formulas, forward and back.

A sheet holds one map. What a convolution reads has its C channels side by side, channel c of pixel
(x, y) in column x·C + c of row y: so a patch of all channels is one block, and a convolution one
SUMPRODUCT. Every map is also there as pictures, one of each channel. They are what a pooling reads,
and the SUMPRODUCT of two of them is the gradient of one weight. A sheet whose name begins with d
holds the slopes of the loss along what follows the d.

Beside each formula the file keeps the value that `layers.py` computes, for viewers that do not
calculate. Excel, LibreOffice, Gnumeric and Google Sheets share FUNCTIONS, which are all there are.
"""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import pairwise

import numpy as np
import torch
import xlsxwriter
from torch import nn
from xlsxwriter.utility import xl_col_to_name, xl_rowcol_to_cell

from backprop import playground, tape
from backprop.layers import EPS
from backprop.record import record
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
FIELD, DRAWING, INK, PANEL = 3, 1, 30, 59  # first row and first columns of what is on Draw
TOP = 6  # the row of a map's first pixel; above it is room for two rows of padding
KERNELS = 5, 8  # the first kernel's row and column
PARAMETERS = ("bias", "γ", "β", "μ", "var", "σ")  # in the columns before the kernels

SIGNED = {"type": "3_color_scale", "mid_type": "num", "mid_value": 0, "mid_color": "#FFFFFF"}
SIGNED |= {"min_color": BLUE, "max_color": ORANGE}
POSITIVE = {"type": "2_color_scale", "min_type": "num", "min_value": 0, "min_color": "#FFFFFF"}
POSITIVE |= {"max_type": "percentile", "max_value": 99, "max_color": ORANGE}
BLACK = POSITIVE | {"max_type": "num", "max_value": 255, "max_color": "#000000"}
HIDDEN = {"num_format": ";;;"}  # a cell's colour is all that one sees
SMALL = {"num_format": "0.00", "font_size": 8}

# The head, two rows further down each: name, what stands above, formula, what stands to the right.
ROWS = (
    ("gap", "the average of each channel", "AVERAGE({last})", ""),
    ("digit", "digit", "", ""),
    ("logits", "logit", "{sum}", "MAX"),
    ("exponentials", "EXP(logit − MAX)", "EXP({column}10-$L10)", "SUM"),
    ("log_probs", "log-probability", "{column}10-$L10-LN($L12)", ""),
    ("probabilities", "probability", "EXP({column}14)", ""),
    ("loss", "loss: minus the log-probability of the label", "-INDEX(log_probs,1,label+1)", ""),
    ("d_logits", "gradient along the logit", "{column}16-({column}8=label)", ""),
    ("d_gap", "gradient along the average", "SUMPRODUCT(d_logits,{flipped})", ""),
    ("new_logits", "logit after a step of the fully connected layer", "{new_sum}", "MAX"),
    ("new_exponentials", "EXP(logit − MAX)", "EXP({column}24-$L24)", "SUM"),
    ("new_probabilities", "probability after the step", "{column}26/$L26", ""),
)
ROW = {name: 5 + 2 * k for k, (name, *_) in enumerate(ROWS)}


# ---- where everything lies -----------------------------------------------------------------------


@cache  # each kernel's address stands in every pixel's formula
def cells(sheet: str, first, last=None, fixed=False) -> str:
    """The address of one cell, (row, column), or of the block that two are the corners of."""
    ends = [xl_rowcol_to_cell(*end, fixed, fixed) for end in (first, last) if end]
    return f"'{sheet}'!{':'.join(ends)}"


@dataclass
class Map:
    """A map, (C, H, W), and its place on a sheet.

    With a border, in pixels, its channels lie side by side, within blank cells: a blank counts as
    the 0 that padding adds. Without, there are only the pictures.
    """

    sheet: str
    border: int | None = None
    top: int = TOP
    values: np.ndarray | None = None

    def place(self, c, y, x):
        """Row and column of one number among its pixel's; a pixel may lie in the border."""
        return self.top + y, 1 + (self.border + x) * len(self.values) + c

    def view(self, c, y, x):
        """Row and column of the same number in the picture of its channel."""
        channels, high, wide = self.values.shape
        if 1 in (channels, wide):
            return self.top + y, 1 + (self.border or 0) + x + c
        below = 0 if self.border is None else high + self.border + 4
        line, across = divmod(c, 4 if wide > 14 else 8)
        return self.top + below + line * (high + 3) + y, 2 + across * (wide + 2) + x

    def patch(self, y, x, size):
        """A square of pixels with all their channels; the upper left is (x, y)."""
        last = self.place(len(self.values) - 1, y + size - 1, x + size - 1)
        return cells(self.sheet, self.place(0, y, x), last)

    def picture(self, c, y=0, x=0, size=None):
        """A square of pixels of one channel, or all of it; the upper left is (x, y)."""
        far = (size or self.values.shape[2]) - 1
        last = self.view(c, y + far, x + far) if far else None
        return cells(self.sheet, self.view(c, y, x), last)


@dataclass
class Weights:
    """The place of kernels, (O, C, K, K), and of the other parameters of their channels."""

    sheet: str
    name: str  # PyTorch's
    shape: tuple[int, ...]
    norm: str = ""  # the batch normalisation that follows, if one does
    left: int = KERNELS[1]

    def place(self, o, c=0, a=0, b=0):
        """Row and column of one weight, laid as in a patch: row a of kernel o, column b·C + c."""
        size = self.shape[2]
        return KERNELS[0] + o * (size + (size > 1)) + a, self.left + b * self.shape[1] + c

    def column(self, symbol, o):
        """Row and column of a channel's bias, γ, β, μ, variance or σ."""
        return self.place(o)[0], 1 + PARAMETERS.index(symbol)

    def of(self, symbol, o):
        """The address of the same."""
        return cells(self.sheet, self.column(symbol, o), fixed=True)

    def kernel(self, o):
        """The address of one kernel."""
        last = self.place(o, self.shape[1] - 1, self.shape[2] - 1, self.shape[2] - 1)
        return cells(self.sheet, self.place(o), last, fixed=True)

    def sum(self, o, seen):
        """The formula of the weighted sum of the cells that are seen, plus the bias."""
        return f"SUMPRODUCT({seen},{self.kernel(o)})+{self.of('bias', o)}"

    def flipped(self):
        """Beside them, the kernels for the way back: (C, O, K, K)."""
        o, c, size, _ = self.shape
        return replace(self, shape=(c, o, size, size), left=self.left + size * c + 2)


@dataclass
class Stage:
    """The image, a pooling, or a layer with weights and what follows it as far as its ReLU.

    Such a layer's gradient is that along what its ReLU is handed.
    """

    kind: str
    out: Map
    dout: Map
    weights: Weights | None = None
    padding: int = 0


@dataclass
class Block:
    """Numbers of one kind on a sheet: by index the place of each, and its formula.

    What has no formula is a number to be changed, or a word. A line is drawn to the left of the
    first along the axis `edge`, and formulas may call the block by its `name`.
    """

    values: np.ndarray
    place: Callable[..., tuple[int, int]]
    formula: Callable[..., str] | None = None
    label: str = ""
    style: dict = field(default_factory=lambda: SMALL)
    colours: dict | None = None
    edge: int | None = None
    name: str = ""


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


def compute(model, ink, label, rate=LEARNING_RATE):
    """What `layers.py` makes of an image of `ink`, (28, 28), forward and back from its label.

    Returns the stages in the order of the forward pass; the head's numbers by name; parameters,
    and their gradients, by PyTorch's names. All is in float64.
    """
    image = (torch.from_numpy(ink).double()[None, None] / 255 - MNIST_MEAN) / MNIST_STD
    steps, values = record(model, image)
    values = tape.forward(steps, values)
    grads = tape.backward(steps, values, np.array([label]))

    kinds = nn.Conv2d | nn.MaxPool2d
    names = iter([name for name, layer in model.named_modules() if isinstance(layer, kinds)])
    stages = [Stage("image", Map("image"), Map("d image"))]
    stages[0].out.values, stages[0].dout.values = values["images"][0], grads["images"][0]
    for step in steps[:-1]:
        if step.kind in ("conv", "max_pool"):
            name = next(names)
            stages.append(Stage(step.kind, Map(name), Map(f"d {name}")))
        elif step.kind in ("global_average_pool", "linear"):
            name = "gap" if step.kind == "global_average_pool" else "logits"
            maps = (Map(HEAD, border=0, top=ROW[each]) for each in (name, f"d_{name}"))
            stages.append(Stage(step.kind, *maps))
        before, stage = stages[-2:]
        if step.kind in ("conv", "linear"):
            shape, stage.padding = values[step.inputs[1]].shape, step.options.get("padding", 0)
            stage.weights = Weights(step.inputs[1], step.inputs[1], (*shape, 1, 1)[:4])
            before.out.border = stage.padding
            stage.dout.border = stage.weights.shape[2] - 1 - stage.padding
        elif step.kind == "batch_norm":
            stage.weights.norm = step.inputs[1].removesuffix(".weight")
            values[f"{stage.weights.norm}.σ"] = np.sqrt(values[step.inputs[4]] + EPS)
        value, grad = values[step.output][0], grads[step.output][0]
        stage.out.values = value.reshape((*value.shape, 1, 1)[:3])
        if step.kind != "relu":
            stage.dout.values = grad.reshape(stage.out.values.shape)

    log_probs = values[steps[-1].output][0]
    head = {"digit": np.arange(10), "log_probs": log_probs, "loss": -log_probs[label, None]}
    for name, stage in zip(("gap", "logits"), stages[-2:], strict=True):
        head |= {name: stage.out.values.ravel(), f"d_{name}": stage.dout.values.ravel()}
    weight, bias = (values[name] - rate * grads[name] for name in ("fc.weight", "fc.bias"))
    head["new_logits"] = weight @ head["gap"] + bias
    for new in ("", "new_"):
        powers = np.exp(head[f"{new}logits"] - head[f"{new}logits"].max())
        head |= {f"{new}exponentials": powers, f"{new}probabilities": powers / powers.sum()}
    return stages, head, values, grads


# ---- the sheets ----------------------------------------------------------------------------------


def build(path, model=None, choice=CHOICE, rate=LEARNING_RATE) -> None:
    """Write the workbook to `path`: the network `model`, in evaluation mode, or the shipped one.

    It opens with the stored digit number `choice`. The same arguments give the same file, byte for
    byte, with the same version of XlsxWriter.
    """
    model, (images, labels) = (model or load_weights(MNISTNet())).double().eval(), stored_digits()
    stages, head, state, grads = compute(model, images[choice - 1], labels[choice - 1], rate)
    *maps, _, fc = stages
    new = {name: state[name] - rate * grads[name] for name in ("fc.weight", "fc.bias")}
    content, usual = io.BytesIO(), {"font_name": "Arial", "font_size": 10}
    book = xlsxwriter.Workbook(content, {"default_format_properties": usual})
    book.set_properties({"title": "A network in formulas", "created": CREATED})
    write_draw(book, images, labels, choice, head, rate)
    write_one(book, stages, state)
    for before, stage in pairwise([None, *maps]):
        write_map(book, stage.out, *forward(stage, before))
    write_head(book, maps[-1].out, fc.weights, head)
    for after, stage in pairwise(reversed(stages[:-1])):
        write_map(book, stage.dout, *backward(stage, after))
    for stage in stages:
        if stage.weights:
            write_weights(book, stage.weights, state)
    for before, stage in pairwise(stages):
        if stage.weights:
            write_gradients(book, stage, before, grads)
    write_step(book, fc.weights, new)
    words = "Test digits of MNIST: 1 to 9, 0, and ten that the shipped weights misread."
    pixels = Block(np.concatenate(images), lambda y, x: (FIELD + y, 1 + x), style=HIDDEN)
    pixels.colours = BLACK
    write(book, DIGITS, words, [pixels, Block(np.array(labels), lambda k: (FIELD + 28 * k, 0))], 16)
    book.close()
    with zipfile.ZipFile(content) as made, zipfile.ZipFile(path, "w") as smaller:
        for part in made.infolist():
            smaller.writestr(part, made.read(part), compresslevel=9)


def write(book, title, words, blocks, width, height=20, heading="") -> Page:
    """A sheet of blocks, whose cells have this width and height in pixels.

    When printed it is one page, as wide as the first block. Of a formula's value seven digits are
    kept, or half the file would be values.
    """
    page, corners = Page(book, title), []
    # XlsxWriter would look through each formula for 29 newer functions, which takes a minute.
    page.sheet._prepare_formula = lambda formula, *_: formula.removeprefix("=")
    shape = " × ".join(map(str, blocks[0].values.shape))
    page.head(heading or f"{title}   {shape}", words)
    for block in blocks:
        plain, lined = (page.paint(**block.style, left=k, left_color="#BBBBBB") for k in (0, 1))
        places = []
        for index, value in np.ndenumerate(block.values):
            style = plain if block.edge is None or index[block.edge] else lined
            places.append(block.place(*index))
            if block.formula:
                kept = float(f"{value:.7g}") + 0.0
                page.sheet.write_formula(*places[-1], f"={block.formula(*index)}", style, kept)
            else:
                page.sheet.write(*places[-1], value.item(), style)
        first, last = ([int(k) for k in end(places, 0)] for end in (np.min, np.max))
        corners.append(last)
        if block.label:
            page.text(first[0] - 1, first[1], block.label, font_size=8, font_color=FAINT)
        if block.colours:
            page.sheet.conditional_format(*first, *last, block.colours)
        if block.name:
            last = tuple(last) if last != first else None
            book.define_name(block.name, f"={cells(title, tuple(first), last, fixed=True)}")
    page.sheet.set_default_row(0.75 * height)
    page.sheet.set_row(1, 15)
    page.sheet.set_column_pixels(0, max(right for _, right in corners), width)
    page.sheet.print_area(0, 0, max(bottom for bottom, _ in corners) + 1, corners[0][1])
    page.sheet.fit_to_pages(1, 1)
    return page


def forward(stage, before):
    """What a stage does in words, its colours, and the formula of (c, y, x)."""
    spot, pad = stage.weights, stage.padding
    if stage.kind == "image":
        return (
            f"The ink, normalised: (ink / 255 − {MNIST_MEAN}) / {MNIST_STD}",
            SIGNED | {"min_type": "num", "min_value": -3, "max_type": "num", "max_value": 3},
            lambda c, y, x: f"({cells(DRAW, (FIELD + y, INK + x))}/255-{MNIST_MEAN})/{MNIST_STD}",
        )
    if stage.kind == "max_pool":
        words = f"2×2 max pooling of {before.out.sheet}: of each four pixels the largest"
        return words, POSITIVE, lambda c, y, x: f"MAX({before.out.picture(c, 2 * y, 2 * x, 2)})"

    def formula(c, y, x):
        total = spot.sum(c, before.out.patch(y - pad, x - pad, spot.shape[2]))
        if spot.norm:
            gamma, beta, mean, std = (spot.of(symbol, c) for symbol in "γβμσ")
            total = f"{gamma}*({total}-{mean})/{std}+{beta}"
        return f"MAX(0,{total})"

    norm = ", batch normalisation" if spot.norm else ""
    words = f"{spot.shape[2]}×{spot.shape[2]} convolution of {before.out.sheet}{norm}, ReLU"
    return words, POSITIVE, formula


def backward(stage, after):
    """The same of a stage's gradient, by that of the stage `after` it."""

    def formula(c, y, x):
        out = stage.out.picture(c, y, x, 1)
        if after.kind == "global_average_pool":
            return f"({out}>0)*{after.dout.picture(c)}/{stage.out.values[c].size}"
        if after.weights:
            size = after.weights.shape[2]
            patch = after.dout.patch(*(k + after.padding - size + 1 for k in (y, x)), size)
            slope = f"SUMPRODUCT({patch},{after.weights.flipped().kernel(c)})"
            return f"({out}>0)*{slope}" if stage.weights else slope
        window = c, y // 2, x // 2, 1
        four = [(y // 2 * 2 + i, x // 2 * 2 + j) for i in (0, 1) for j in (0, 1)]
        earlier = ["0", *(stage.out.picture(c, *pixel, 1) for pixel in four if pixel < (y, x))]
        wins = f"({out}>MAX({','.join(earlier)}))*({out}={after.out.picture(*window)})"
        return f"{wins}*{after.dout.picture(*window)}"

    words = f"The gradient along {stage.out.sheet}" + ", before its ReLU" * bool(stage.weights)
    if after.kind == "max_pool":
        words += f". All of {after.dout.sheet} goes to the first of the largest of four pixels"
    return words, SIGNED, formula


def write_map(book, spot, words, colours, formula):
    """A map as pictures; if a convolution reads it, above them with its channels side by side."""
    channels, _, wide = spot.values.shape
    side = PIXELS[wide] if channels > 1 else 16
    blocks = [Block(spot.values, spot.view, formula, style=HIDDEN, colours=colours)]
    if channels > 1:
        above = Block(np.arange(channels).astype(str), lambda c: spot.view(c, -2, 0))
        blocks.append(replace(above, style={"font_size": 6, "font_color": FAINT}))
    if channels > 1 and spot.border is not None:
        first = xl_rowcol_to_cell(*spot.place(0, 0, 0))
        words += f". Pixel (0, 0) is in {first}, and each has {channels} columns, one a channel"
        copy = replace(blocks[0], place=spot.place, edge=0)
        copy.formula = lambda *index: xl_rowcol_to_cell(*spot.view(*index))
        blocks.append(copy)
    write(book, spot.sheet, f"{words}.", blocks, side, side)


def write_parameters(book, spot, words, values, formulas, *others):
    """Kernels one below the other, before them what else a channel has, and `others` behind.

    `values` are by PyTorch's names, `formulas` by PARAMETERS' symbols and "weight".
    """
    own = {"γ": "weight", "β": "bias", "μ": "running_mean", "var": "running_var", "σ": "σ"}
    names = {symbol: f"{spot.norm}.{name}" for symbol, name in own.items()}
    names |= {"kernels": spot.name, "bias": spot.name.removesuffix("weight") + "bias"}
    blocks = []
    for symbol in ("kernels", *PARAMETERS):
        if names[symbol] in values:
            formula = formulas.get(symbol)
            place = spot.place if symbol == "kernels" else partial(spot.column, symbol)
            style = SMALL | {"locked": bool(formula)}
            blocks.append(Block(values[names[symbol]], place, formula, symbol, style))
    blocks[0].values, blocks[0].edge = blocks[0].values.reshape(spot.shape), 1
    blocks[0].colours = SIGNED
    channels = Block(np.arange(spot.shape[0]).astype(str), lambda o: (spot.place(o)[0], 0))
    if spot.norm:
        words += f" γ, β, μ and var: {spot.norm}'s weight, bias, running_mean and running_var."
    write(book, spot.sheet, words, [*blocks, channels, *others], 42)


def write_weights(book, spot, state):
    """A layer's parameters and, to the right, its kernels for the way back."""
    back, flipped = spot.flipped(), state[spot.name].reshape(spot.shape)[:, :, ::-1, ::-1]
    words = "Numbers that one may change. To the right, the same kernels flipped, for the way back."
    if spot.norm:
        words = words.replace("flipped", "flipped and times γ/σ")
        scale = state[f"{spot.norm}.weight"] / state[f"{spot.norm}.σ"]
        flipped = flipped * scale[:, None, None, None]

    def formula(c, o, a, b):
        weight = xl_rowcol_to_cell(*spot.place(o, c, *(spot.shape[2] - 1 - k for k in (a, b))))
        return weight + f"*{spot.of('γ', o)}/{spot.of('σ', o)}" * bool(spot.norm)

    std = {"σ": lambda o: f"SQRT({spot.of('var', o)}+{EPS:.5f})"}
    behind = Block(flipped.swapaxes(0, 1), back.place, formula, "flipped", colours=SIGNED, edge=1)
    write_parameters(book, spot, words, state, std, behind)


def write_gradients(book, stage, before, grads):
    """The gradients of a layer's parameters."""
    spot, dout, side = stage.weights, stage.dout, stage.out.values.shape[2]

    def scaled(o, gradient):
        return f"{spot.of('γ', o)}/{spot.of('σ', o)}*{gradient}" if spot.norm else gradient

    def weight(o, c, a, b):
        seen = before.out.picture(c, a - stage.padding, b - stage.padding, side)
        return scaled(o, f"SUMPRODUCT({dout.picture(o)},{seen})")

    def gamma(o):  # Σ dy · x̂, where dy is not 0: there y is γ · x̂ + β
        products = f"SUMPRODUCT({dout.picture(o)},{stage.out.picture(o)})"
        return f"({products}-{spot.of('β', o)}*SUM({dout.picture(o)}))/{spot.of('γ', o)}"

    formulas = {"kernels": weight, "bias": lambda o: scaled(o, f"SUM({dout.picture(o)})")}
    formulas |= {"γ": gamma, "β": lambda o: f"SUM({dout.picture(o)})"}
    words = (
        f"For each weight, the gradient of {stage.dout.sheet} times what stood under it, summed."
    )
    write_parameters(book, replace(spot, sheet=f"d {spot.name}"), words, grads, formulas)


def write_step(book, fc, new):
    """The fully connected layer's parameters after one step against their gradients."""
    spots = fc, replace(fc, sheet=f"d {fc.name}")

    def kernels(*index):
        return "-learning_rate*".join(cells(spot.sheet, spot.place(*index)) for spot in spots)

    def bias(o):
        return "-learning_rate*".join(spot.of("bias", o) for spot in spots)

    words = "Weight − learning rate × gradient. To keep a step, copy these values into fc.weight."
    formulas = {"kernels": kernels, "bias": bias}
    write_parameters(book, replace(fc, sheet=STEPPED), words, new, formulas)


def write_head(book, last, fc, head):
    """From the map `last` to the loss and back to its averages: a row for each of ROWS."""
    stepped, blocks = replace(fc, sheet=STEPPED), []
    for name, label, text, beside in ROWS:

        def formula(k, text=text):
            known = {"column": xl_col_to_name(1 + k)}
            if k < fc.shape[0]:
                known |= {"sum": fc.sum(k, "gap"), "new_sum": stepped.sum(k, "gap")}
            known |= {"last": last.picture(k), "flipped": fc.flipped().kernel(k)}
            return text.format(**known)

        place = lambda k, row=ROW[name]: (row, 1 + k)  # noqa: E731
        style = SMALL | {"num_format": "0" if name == "digit" else "0.0000"}
        colours = SIGNED if name[:2] == "d_" else POSITIVE if name == "gap" else None
        blocks.append(
            Block(head[name], place, formula if text else None, label, style, colours, name=name)
        )
        if beside:
            value = head[name].max() if beside == "MAX" else head[name].sum()
            foot = lambda _, text=f"{beside}({name})": text  # noqa: E731
            place = lambda _, row=ROW[name]: (row, 11)  # noqa: E731
            blocks.append(Block(np.array([value]), place, foot, beside, style))
    words = f"{last.sheet} averaged, the fully connected layer, log-softmax, the loss; and back."
    write(book, HEAD, words, blocks, 56, heading=HEAD)


# ---- the first sheets ----------------------------------------------------------------------------


def write_draw(book, images, labels, choice, head, rate):
    """The sheet to draw on: two fields of ink, the answer, the loss and one step."""
    label, probs, after = labels[choice - 1], head["probabilities"], head["new_probabilities"]
    stored = [cells(DIGITS, (FIELD, x), (FIELD + 28 * len(images) - 1, x), True) for x in range(29)]

    def ink(y, x):
        own = f"MAX(0,MIN(255,N({xl_rowcol_to_cell(FIELD + y, DRAWING + x)})))"
        return f"IF(choice=0,{own},INDEX({stored[1 + x]},28*choice-{27 - y}))"

    frame = HIDDEN | {"border": 4, "border_color": "#DDDDDD"}
    read = Block(
        images[choice - 1], lambda y, x: (FIELD + y, INK + x), ink, style=frame, name="ink"
    )
    drawn = Block(np.full((28, 28), ""), lambda y, x: (FIELD + y, DRAWING + x), name="drawing")
    drawn.style, read.label = frame | {"locked": False}, "what the network reads"
    drawn.colours, read.colours, drawn.label = BLACK, BLACK, "your drawing: ink from 0 to 255"
    words = "Yellow: choose a test digit, 1 to 20, or 0 to have your own drawing read. To draw, "
    words += "select cells on the left, type 255 and press Ctrl+Enter (LibreOffice: Alt+Enter)."
    page = write(book, DRAW, words, [read, drawn], 13, 13, "A network in formulas")
    sheet, left, right = page.sheet, PANEL + 4, PANEL + 5
    sheet.set_row(2, 13.5)
    sheet.print_area(0, 0, FIELD + 28, right)
    sheet.data_validation(FIELD, DRAWING, FIELD + 27, DRAWING + 27, whole(0, 255))
    for column, pixels in enumerate((13, 24, 52, 168, 16, 156, 72), PANEL - 1):
        sheet.set_column_pixels(column, column, pixels)

    def put(row, column, what, *value, last=None, high=2, **style):
        """Join cells to one that is high enough for words, a number, or a formula and its value."""
        style = page.paint(**style)
        sheet.merge_range(FIELD + row, column, FIELD + row + high - 1, last or column, "", style)
        sheet.write(FIELD + row, column, what, style, *value)

    for k, p in enumerate(probs):
        cell, bar = f"INDEX(probabilities,1,{k + 1})", "█" * int(np.floor(16 * p + 0.5))
        put(2 * k, PANEL, k, bold=True, align="center")
        put(2 * k, PANEL + 1, f"={cell}", p, num_format="0.0%")
        put(2 * k, PANEL + 2, f'=REPT("█",ROUND(16*{cell},0))', bar, font_color=BLUE, font_size=8)
    for row, words, name, value, style in (
        (0, "digit to be read", "choice", choice, whole(0, len(images))),
        (16, "label: what it should be", "label", label, whole(0, 9)),
        (18, "loss: −log p(label)", "loss", head["loss"][0], "0.0000"),
        (20, "learning rate", "learning_rate", rate, RATE),
        (22, "p(label)", "INDEX(probabilities,1,label+1)", probs[label], "0.00%"),
        (24, "after one step of fc", "INDEX(new_probabilities,1,label+1)", after[label], "0.00%"),
    ):
        put(row, left, words)
        if isinstance(style, str):
            put(row, right, f"={name}", value, num_format=style)
        else:
            put(row, right, "", bg_color=YELLOW, border=1, border_color=FAINT)
            page.input(FIELD + row, right, value, style, "General")
            page.name(name, FIELD + row, right)
    hint = f'=IF(choice=0,"your own drawing","a test digit: "&INDEX({stored[0]},28*choice-27))'
    put(2, left, hint, f"a test digit: {label}", last=right, font_color=FAINT)
    answer = "=MATCH(MAX(probabilities),probabilities,0)-1", int(probs.argmax())
    big = {"font_size": 72, "bold": True, "align": "center", "font_color": ORANGE}
    put(4, left, *answer, last=right, high=12, **big)


def whole(lowest: int, highest: int) -> dict:
    """The rule for a cell that holds a whole number from `lowest` to `highest`."""
    rule = {"validate": "integer", "criteria": "between", "minimum": lowest, "maximum": highest}
    message = f"Enter a whole number from {lowest} to {highest}."
    return rule | {"error_title": "Out of range", "error_message": message}


def write_one(book, stages, state):
    """The activation in the middle of channel 0 of EXAMPLE, taken apart into its steps."""
    at = [stage.out.sheet for stage in stages].index(EXAMPLE)
    seen, stage, spot = stages[at - 1].out, stages[at], stages[at].weights
    middle, pad, size = stage.out.values.shape[2] // 2, stage.padding, spot.shape[2]
    table, inside = Weights(ONE, "", spot.shape, left=1), slice(middle - pad, middle - pad + size)
    patch, kernel = seen.values[:, inside, inside], state[spot.name][0]

    def see(c, a, b):
        return seen.picture(c, middle - pad + a, middle - pad + b, 1)

    def weigh(*index):
        return cells(spot.sheet, spot.place(0, *index))

    def multiply(*index):
        return "*".join(xl_rowcol_to_cell(*table.place(k, *index)) for k in (0, 1))

    blocks = []
    for k, (words, values, formula) in enumerate(
        (
            (f"what it sees of {seen.sheet}", patch, see),
            (f"its kernel, of {spot.sheet}", kernel, weigh),
            ("each pair's product", patch * kernel, multiply),
        )
    ):
        place, colours = partial(table.place, k), SIGNED if k else POSITIVE
        blocks.append(Block(values, place, formula, words, colours=colours, edge=0))

    row, steps = table.place(3)[0] + 1, [("sum", (patch * kernel).sum(), f"SUM({table.kernel(2)})")]
    for symbol, name, sign, apply in (
        ("bias", f"{EXAMPLE}.bias", "+", np.add),
        ("μ", f"{spot.norm}.running_mean", "-", np.subtract),
        ("σ", f"{spot.norm}.σ", "/", np.divide),
        ("γ", f"{spot.norm}.weight", "*", np.multiply),
        ("β", f"{spot.norm}.bias", "+", np.add),
    ):
        left, own, total = len(steps), state[name][0], apply(steps[-1][1], state[name][0])
        formula = sign.join(xl_rowcol_to_cell(row, column) for column in (left, left + 1))
        steps += [(symbol, own, spot.of(symbol, 0)), (f"{sign} {symbol}", total, formula)]
    last, there = max(0, total), stage.out.picture(0, middle, middle, 1)
    steps.append(("ReLU", last, f"MAX(0,{xl_rowcol_to_cell(row, len(steps))})"))
    steps.append((f"the same on {EXAMPLE}", last, there))
    for column, (words, value, formula) in enumerate(steps, 1):
        place, text = (lambda _, at=column: (row, at)), (lambda _, text=formula: text)
        blocks.append(Block(np.array([value]), place, text, words, SMALL | {"num_format": "0.000"}))
    words = f"Each step of {there} has a cell of its own."
    write(book, ONE, words, blocks, 46, heading=f"One activation of {EXAMPLE}")
