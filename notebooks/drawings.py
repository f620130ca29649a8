"""Drawings of the words that architecture needs, each a function that returns a `Figure`.

PyTorch and s4lib compute every number in them. Where a number's sign counts, vermilion is positive
and blue negative. Each drawing is six inches wide, so that it is legible on a phone.
"""

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import ConnectionPatch, Rectangle
from torch import Tensor

from s4lib.optim import make_schedule
from s4lib.plots import BLUE, COLOURS, GREY, Figure, styled
from s4lib.recipes import RECIPES, Recipe

PALE_ORANGE, PALE_BLUE, PALE_GREY = "#F6C9AE", "#B3D4E8", "#EEEEEE"
YELLOW = "#F9F3B0"  # look here
FRAME = {"fill": False, "edgecolor": "black", "linewidth": 2.5, "zorder": 3}
LABEL = {"ha": "center", "va": "center", "fontsize": 12}


def canvas(width: float, height: float):
    """Return a figure and its axes, without ticks, measured in cells from the top left corner."""
    figure = Figure(figsize=(6, 6 * height / width), layout="none")
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.axis("off")
    return figure, ax


def by_sign(value: float) -> str:
    """Return the background of a number: vermilion if positive, blue if negative."""
    return PALE_ORANGE if value > 0 else PALE_BLUE if value < 0 else "white"


def as_ink(value: float) -> str:
    """Return the background of a pixel between 0, paper, and 1, full ink."""
    return str(1 - 0.3 * value)


def grid(ax, values, left: float, top: float, title: str = "", fill=by_sign, size=12, text="{:g}"):
    """Draw a matrix of unit cells, each with its number in it, and a title above."""
    values = np.asarray(values)
    for (row, column), value in np.ndenumerate(values):
        box = Rectangle((left + column, top + row), 1, 1, fc=fill(value), ec=GREY, lw=0.8)
        ax.add_patch(box)
        words = text.format(value).replace("-", "−")
        ax.text(left + column + 0.5, top + row + 0.53, words, **{**LABEL, "fontsize": size})
    ax.text(left + values.shape[1] / 2, top - 0.5, title, **LABEL)


def arrow(ax, start, end, colour="black") -> None:
    """Draw an arrow from one point (x, y) to another."""
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=style)


@styled
def convolution() -> Figure:
    """Draw a kernel that slides over an image with a stroke in it, and work out one output."""
    stroke = ["00110", "00110", "01100", "01100", "01100"]
    image = torch.tensor([[float(pixel) for pixel in row] for row in stroke])
    kernel = torch.tensor([-1.0, 0, 1]).expand(3, 3)
    output = F.conv2d(image[None, None], kernel[None, None])[0, 0]

    figure, ax = canvas(14, 9.2)
    grid(ax, image, 0.3, 1.2, "image", fill=as_ink)
    grid(ax, kernel, 6.1, 2.2, "kernel")
    grid(ax, output, 10.6, 2.2, "output")
    ax.text(5.7, 3.7, "⋆", **{**LABEL, "fontsize": 20})
    ax.text(9.85, 3.7, "=", **{**LABEL, "fontsize": 20})
    ax.add_patch(Rectangle((0.3, 1.2), 3, 3, **FRAME))
    ax.add_patch(Rectangle((10.6, 2.2), 1, 1, **FRAME))
    ax.add_patch(Rectangle((1.3, 1.2), 3, 3, **{**FRAME, "linestyle": ":", "linewidth": 1.5}))
    for row in range(3):
        terms = [
            f"{pixel:g}·{f'({weight:g})' if weight < 0 else f'{weight:g}'}".replace("-", "−")
            for pixel, weight in zip(image[row, :3], kernel[row], strict=True)
        ]
        end = f"  =  {output[0, 0]:g}" if row == 2 else "  +"
        words = "  +  ".join(terms) + end
        ax.text(4.4, 7.05 + 0.85 * row, words, **{**LABEL, "ha": "left"})
    ax.text(0.3, 7.05, "in the frame:", **{**LABEL, "ha": "left"})
    return figure


@styled
def padding_and_stride() -> Figure:
    """Draw a 3×3 kernel on a 5×5 map: without padding, with padding, and with a stride of 2."""
    figure, ax = canvas(24, 16.8)
    for left, padding, stride in ((0.3, 0, 1), (8.4, 1, 1), (16.5, 1, 2)):
        values = F.pad(torch.ones(5, 5), [padding] * 4)
        size = F.conv2d(values[None, None], torch.ones(1, 1, 3, 3), stride=stride).shape[-1]
        shift = left + 1 - padding
        top = 3.3 + 1 - padding
        fill = ("white", PALE_GREY)
        for row, column in np.ndindex(values.shape):
            inside = bool(values[row, column])
            box = Rectangle((shift + column, top + row), 1, 1, fc=fill[not inside], ec=GREY, lw=0.8)
            ax.add_patch(box)
            if not inside:
                ax.text(shift + column + 0.5, top + row + 0.55, "0", **{**LABEL, "color": GREY})
        ax.add_patch(Rectangle((shift, top), 3, 3, **FRAME))
        ax.add_patch(Rectangle((shift + stride, top), 3, 3, **{**FRAME, "ls": ":", "lw": 1.8}))
        middle = left + 3.5
        arrow(ax, (middle, 10.5), (middle, 11.3))
        corner = middle - size / 2
        for row, column in np.ndindex(size, size):
            box = Rectangle((corner + column, 11.5 + row), 1, 1, fc="white", ec=GREY, lw=0.8)
            ax.add_patch(box)
        ax.add_patch(Rectangle((corner, 11.5), 1, 1, **FRAME))
        ax.add_patch(Rectangle((corner + 1, 11.5), 1, 1, **{**FRAME, "ls": ":", "lw": 1.8}))
        ax.text(middle, 0.9, f"padding {padding}, stride {stride}", **LABEL)
        ax.text(middle, 2.1, f"5×5 → {size}×{size}", **LABEL)
    return figure


@styled
def max_pooling() -> Figure:
    """Draw 2×2 max pooling, which keeps the largest of every four numbers."""
    before = torch.tensor([[1.0, 5, 2, 0], [3, 0, 1, 4], [7, 4, 0, 1], [6, 2, 8, 3]])
    after, winners = F.max_pool2d(before[None], 2, return_indices=True)
    kept = set(winners.flatten().tolist())

    figure, ax = canvas(14, 5.6)
    grid(ax, before, 1.8, 1.2, "map, 4×4", fill=lambda _: "white")
    for cell in kept:
        row, column = divmod(cell, 4)
        ax.add_patch(Rectangle((1.8 + column, 1.2 + row), 1, 1, fc=YELLOW, ec=GREY, lw=0.8))
        ax.text(2.3 + column, 1.73 + row, f"{before[row, column]:g}", **LABEL)
    for row, column in np.ndindex(2, 2):
        ax.add_patch(Rectangle((1.8 + 2 * column, 1.2 + 2 * row), 2, 2, **FRAME))
    arrow(ax, (6.6, 3.2), (8.9, 3.2))
    ax.text(7.7, 2.6, "largest", **LABEL)
    grid(ax, after[0], 9.5, 2.2, "pooled, 2×2", fill=lambda _: YELLOW)
    return figure


@styled
def two_convolutions() -> Figure:
    """Draw an activation after two 3×3 convolutions, and the 5×5 pixels it depends on."""
    figure, ax = canvas(14, 6.6)
    corners = {5: (0.5, 1.1), 3: (6.9, 2.1), 1: (12, 3.1)}
    words = {5: ("image: 5×5 pixels", 0.55), 3: ("after one\n3×3 convolution", 0.75)}
    words[1] = "after two", 0.5
    for size, (left, top) in corners.items():
        for row, column in np.ndindex(size, size):
            box = Rectangle((left + column, top + row), 1, 1, fc=YELLOW, ec=GREY, lw=0.8)
            ax.add_patch(box)
        title, above = words[size]
        ax.text(left + size / 2, top - above, title, **LABEL)

    def rays(start, end, **style):
        """Join the right corners of a square (left, top, side) with the left corners of another."""
        for below in (0, 1):
            ends = (start[0] + start[2], start[1] + below * start[2])
            tip = (end[0], end[1] + below * end[2])
            ax.add_patch(ConnectionPatch(ends, tip, "data", color="black", lw=1, **style))

    rays((6.9, 2.1, 3), (12, 3.1, 1))
    for top, style in ((1.1, "-"), (3.1, ":")):
        ax.add_patch(Rectangle((0.5, top), 3, 3, **{**FRAME, "ls": style}))
        cell = (6.9, 2.1 + (top - 1.1), 1)
        ax.add_patch(Rectangle(cell[:2], 1, 1, **{**FRAME, "ls": style}))
        rays((0.5, top, 3), cell, ls=style)
    return figure


@styled
def transition() -> Figure:
    """Draw transition 1: pooling halves the maps' sides, a 1×1 convolution mixes the channels."""
    figure, ax = canvas(14, 7.6)
    stacks = ((0.3, 32, 2.4, 28), (6.1, 32, 1.2, 14), (11.4, 8, 1.2, 14))
    for left, channels, side, pixels in stacks:
        bottom, step = 4.6, 0.045
        for k in reversed(range(channels)):
            corner = left + step * k, bottom - side - step * k
            ax.add_patch(Rectangle(corner, side, side, fc="white", ec=GREY, lw=0.6))
        middle = left + side / 2 + 0.5
        ax.text(middle, 5.2, f"{channels} × {pixels}×{pixels}", **LABEL)
    for left in (6.1, 11.4):
        ax.add_patch(Rectangle((left + 0.5, 3.9), 0.22, 0.22, fc=YELLOW, ec="black", lw=1.2))
    arrow(ax, (4.5, 3.4), (5.9, 3.4))
    arrow(ax, (9.2, 3.4), (11.1, 3.4))
    ax.text(5.2, 2.35, "2×2 max\npooling", **LABEL)
    ax.text(10.2, 2.35, "1×1\nconvolution", **LABEL)
    ax.text(7, 6.6, "At each place: eight weighted sums of the same 32 numbers", **LABEL)
    return figure


@styled
def dropout() -> Figure:
    """Draw ten activations in two training batches at p = 0.2, and in testing."""
    activations = torch.tensor([0.8, 2.4, 1.6, 3.2, 0.8, 4.0, 1.6, 2.4, 3.2, 0.8])
    generator = torch.Generator().manual_seed(8)
    # F.dropout draws other numbers with another version of PyTorch.
    kept = torch.rand(2, 10, generator=generator) >= 0.2
    batches = activations * kept / 0.8

    figure, ax = canvas(14, 6.8)
    rows = {
        "activations": activations,
        "training,\none batch": batches[0],
        "training,\nthe next": batches[1],
        "testing": activations,
    }
    for k, (name, values) in enumerate(rows.items()):
        top = 0.4 + 1.6 * k
        ax.text(3.3, top + 0.5, name, **{**LABEL, "ha": "right"})
        for column, value in enumerate(values.tolist()):
            dropped = not value
            colour = PALE_GREY if dropped else YELLOW if k in (1, 2) else "white"
            ax.add_patch(Rectangle((3.7 + column, top), 1, 1, fc=colour, ec=GREY, lw=0.8))
            words = "0" if dropped else f"{value:g}"
            ax.text(4.2 + column, top + 0.53, words, **{**LABEL, "color": GREY if dropped else "k"})
    return figure


def learning_rate(recipe: Recipe, steps: int = 100) -> np.ndarray:
    """Return the recipe's learning rate at each of `steps` steps of every epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], recipe.lr)
    schedule = make_schedule(optimizer, recipe, [steps] * recipe.epochs)
    rates = []
    for _ in range(steps * recipe.epochs):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return np.array(rates)


@styled
def learning_rates() -> Figure:
    """Draw the learning rate of each recipe, from the start of its run to the end."""
    figure = Figure(figsize=(6, 3.6))
    ax = figure.subplots()
    styles = ("-", "--", "-.", ":")
    for k, recipe in enumerate(RECIPES.values()):
        rates = learning_rate(recipe)
        share = np.linspace(0, 100, len(rates))
        label = f"{recipe.name.upper()}, {recipe.epochs} epochs"
        ax.plot(share, rates, styles[k % 4], color=COLOURS[k % len(COLOURS)], label=label)
    ax.set(xlabel="share of the run (%)", ylabel="learning rate", xlim=(0, 100), ylim=(0, None))
    ax.legend(loc="upper right", fontsize=11)
    return figure


def losses(p: Tensor, share: float) -> Tensor:
    """Return the training loss when the right digit gets p (N,) and the nine others the rest."""
    probabilities = ((1 - p) / 9)[:, None].repeat(1, 10)
    probabilities[:, 7] = p
    sevens = torch.full((len(p),), 7)
    return F.cross_entropy(probabilities.log(), sevens, label_smoothing=share, reduction="none")


@styled
def label_smoothing() -> Figure:
    """Draw two targets for a 7, and the loss of each against the right digit's probability."""
    share = 0.1
    figure = Figure(figsize=(6, 3.9))
    left, right = figure.subplots(1, 2)
    p = torch.linspace(0.3, 0.999, 700)
    targets = ((0, "plain", GREY), (share, "smoothed", BLUE))
    for k, (smoothing, name, colour) in enumerate(targets):
        target = smoothing / 10 + (1 - smoothing) * F.one_hot(torch.tensor(7), 10)
        place = np.arange(10) + 0.4 * (k - 0.5)
        left.bar(place, 100 * target.numpy(), 0.4, color=colour, label=name)
        right.plot(100 * p, losses(p, smoothing), color=colour, ls="--" if k == 0 else "-")
    lowest = losses(p, share).argmin()
    best, height = 100 * p[lowest].item(), losses(p, share)[lowest].item()
    right.plot(best, height, "o", color=BLUE)
    right.annotate(
        f"lowest at {best:.0f} %", (best, height), (78, height + 0.45), ha="center",
        arrowprops={"arrowstyle": "-", "color": BLUE, "shrinkB": 4},
    )  # fmt: skip
    left.text(3.2, 4, "1 % each", color=BLUE, ha="center")
    left.set(xlabel="digit", ylabel="target (%)", xticks=range(10), title="two targets for a 7")
    left.grid(visible=False)
    right.set(xlabel="probability of the 7 (%)", ylabel="loss", title="… and their losses")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


DRAWINGS = {
    "convolution": convolution,
    "padding_and_stride": padding_and_stride,
    "max_pooling": max_pooling,
    "two_convolutions": two_convolutions,
    "transition": transition,
    "dropout": dropout,
    "learning_rates": learning_rates,
    "label_smoothing": label_smoothing,
}
