"""The figures of Part 2, as functions that take data and return a matplotlib `Figure`."""

import io
import itertools
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import torch
from matplotlib import style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Circle, Rectangle
from matplotlib.ticker import MaxNLocator
from PIL import Image

from s4lib.receptive_field import both
from s4lib.recipes import GOAL
from s4lib.runtime.checkpoint import atomic_write

# Okabe and Ito's colours: distinct for colour-blind readers and, by lightness, in grey.
COLOURS = BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
SIGNED = LinearSegmentedColormap.from_list("signed", [BLUE, "white", ORANGE])  # −, 0, +

STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
# This decorator sets our style, so that the reader's own settings make no difference.
styled = style.context(STYLE, after_reset=True)


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook shows without pyplot, with a description in words.

    The words are for readers who can't see the figure, and for the notebooks' tests, because pixels
    change with every version of matplotlib and with the fonts.
    """

    def _repr_png_(self):
        drawn, buffer = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=120)  # 1.5 times as fine as it is shown
        Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            buffer, format="png", optimize=True
        )  # this makes the notebook's file a third as large
        width, height = (round(80 * inches) for inches in self.get_size_inches())
        return buffer.getvalue(), {"width": width, "height": height, "alt": repr(self)}

    def __repr__(self):
        title = f"Figure. {self.get_suptitle()}".rstrip(". ")
        return "\n".join([title, *map(describe, self.axes)])


def save_figure(figure: Figure, path: Path) -> None:
    """Save the figure as a PNG, completely or not at all, and print its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    atomic_write(path, buffer.getvalue())
    print(path)


def describe(ax) -> str:
    """Describe a panel: its words, then a line for each line, bar and image in it."""
    words = [ax.get_title("left"), ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
    words += sorted({text.get_text() for text in ax.texts})
    lines = ["Panel. " + ", ".join(word.replace("\n", " ") for word in words if word)]
    for line in ax.lines:
        x, y = np.asarray(line.get_xydata(), float).T
        if not len(x):
            continue
        label = "" if line.get_label().startswith("_") else f" {line.get_label()}"
        lines.append(
            f"  line{label} ({line.get_color()} {line.get_linestyle()}): {len(x)} points"
            f" from ({x[0]:.3g}, {y[0]:.3g}) to ({x[-1]:.3g}, {y[-1]:.3g}), mean {y.mean():.3g}"
        )
    for patch in ax.patches:
        if isinstance(patch, Circle | Rectangle):
            box = patch.get_patch_transform().transform_path(patch.get_path()).get_extents()
            lines.append(
                f"  {type(patch).__name__.lower()} from ({box.x0:.4g}, {box.y0:.4g}) "
                f"to ({box.x1:.4g}, {box.y1:.4g})"
            )
    for area in ax.collections:
        levels = ", ".join(f"{level:.3g}" for level in getattr(area, "levels", ()))
        lines.append(f"  area {levels}".rstrip())
    for image in ax.images:
        shape = " × ".join(map(str, image.get_array().shape))
        lines.append(f"  image of {shape}, mean {image.get_array().mean():.3g}")
    return "\n".join(lines)


@styled
def image_grid(images, titles=None, columns: int = 10, title: str = "") -> Figure:
    """Draw grey images (N, 1, 28, 28) in rows of `columns`, with black ink and a title for each."""
    rows = max(1, -(-len(images) // columns))  # an empty figure if there are none
    fig = Figure(figsize=(columns, rows * (1.25 if titles else 1) + 0.4))
    axes = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.axis("off")
    for ax, image, text in zip(axes, images, titles or [""] * len(images), strict=False):
        ax.imshow(image.squeeze().numpy(force=True), cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(text, fontsize=9, loc="center", pad=3, parse_math=False)
    fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


def samples(dataset, per_class: int = 5) -> Figure:
    """Draw the first training images of every class, one column per class."""
    images, labels = dataset.train
    pick = torch.stack([(labels == digit).nonzero()[:per_class, 0] for digit in range(10)])
    return image_grid(images[pick.T.flatten()], title=f"{dataset.name}: training images")


def augmented(dataset, augment, versions: int = 9, count: int = 5) -> Figure:
    """Draw training images, each followed by `versions` random results of `augment`."""
    images = dataset.train[0][:count].float()
    draws = torch.stack([images, *(augment(images) for _ in range(versions))], 1)
    title = f"{dataset.name}: the image as it is, then as {versions} other epochs see it"
    return image_grid(draws.flatten(0, 1), columns=versions + 1, title=title)


@styled
def model_loss(histories) -> Figure:
    """Draw loss and accuracy against the epoch; of several runs mean and deviation."""
    first = histories[0]
    epochs = [epoch.epoch for epoch in first.epochs]
    fig = Figure(figsize=(8, 3.6))
    for ax, quantity in zip(fig.subplots(1, 2), ("loss", "accuracy"), strict=True):
        lowest = []
        for part, color, line in (("train", ORANGE, "--"), ("test", BLUE, "-")):
            name = f"{part}_{quantity}"
            values = np.array([[getattr(e, name) for e in h.epochs] for h in histories])
            mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else 0
            ax.plot(epochs, mean, line, color=color, marker=".", label=part)
            ax.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
            lowest.append(mean[1:].min() if len(mean) > 1 else mean[0])
        for before, after in zip(first.epochs, first.epochs[1:], strict=False):
            if after.lr < before.lr and first.recipe["milestones"]:
                ax.axvline(before.epoch + 0.5, color=GREY, lw=1, ls=":")
                height, anchor = (0.98, "top") if quantity == "loss" else (0.02, "bottom")
                ax.text(
                    before.epoch + 0.6, height, f"lr {after.lr:g}", color=GREY, rotation=90,
                    va=anchor, transform=ax.get_xaxis_transform(), fontsize=9,
                )  # fmt: skip
        ax.set(xlabel="epoch", ylabel=quantity, xlim=(0.5, epochs[-1] + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if quantity == "accuracy":
            ax.set(ylabel="accuracy (%)", ylim=(min(lowest) - 0.3, 100.05))
            ax.axhline(GOAL, color=GREY, lw=1, ls="-.", label=f"{GOAL} %")
        ax.legend(loc="center right", frameon=True, framealpha=1, edgecolor="white")
    runs = f"mean of {len(histories)} runs, ±1 s.d." if len(histories) > 1 else f"seed {first.seed}"
    fig.suptitle(f"{first.recipe['name']} on {first.dataset}, {runs}", x=0.01, ha="left")
    return fig


@styled
def confusion_matrix(labels, predictions, name: str) -> Figure:
    """Draw how often each digit was mistaken for each other digit; right answers have no colour."""
    counts = torch.bincount(labels * 10 + predictions, minlength=100).view(10, 10).numpy(force=True)
    wrong = np.where(np.eye(10, dtype=bool), 0, counts)
    fig = Figure(figsize=(6.4, 6))
    ax = fig.subplots()
    most = max(4, wrong.max() * 1.3)
    ax.imshow(wrong, cmap="Oranges", vmax=most)
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            weight = "bold" if true == predicted else "normal"
            color = "white" if wrong[true, predicted] > 0.65 * most else "black"
            ax.text(
                predicted, true, count, color=color, weight=weight, fontsize=9,
                ha="center", va="center",
            )  # fmt: skip
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="true digit")
    ax.grid(visible=False)
    ax.set_title(f"{name}: {wrong.sum():,} mistakes in {counts.sum():,} test images")
    return fig


def mistakes(images, labels, log_probs, name: str, count: int = 25) -> Figure:
    """Draw the mistakes the network was most confident about, the most confident first."""
    confidence, predictions = log_probs.exp().max(1)
    wrong = (predictions != labels).nonzero()[:, 0]
    wrong = wrong[confidence[wrong].argsort(descending=True)][:count]
    titles = [f"{labels[i]} as {predictions[i]}\n{100 * confidence[i]:.1f} %" for i in wrong]
    return image_grid(images[wrong], titles, 5, f"{name}: the most confident mistakes")


@styled
def class_counts(dataset) -> Figure:
    """Draw how many images every digit has for training and for testing."""
    fig = Figure(figsize=(9, 2.8))
    for ax, part in zip(fig.subplots(1, 2), ("train", "test"), strict=True):
        counts = torch.bincount(getattr(dataset, part)[1], minlength=10).tolist()
        bars = ax.bar(range(10), counts, color=BLUE if part == "test" else ORANGE)
        ax.bar_label(bars, [f"{count:,}" for count in counts], fontsize=8)
        ax.set(xticks=range(10), xlabel="digit", ylabel="images", title=part)
        ax.grid(visible=False)
    fig.suptitle(f"{dataset.name}: images of each digit", x=0.01, ha="left")
    return fig


@styled
def receptive_field(rows) -> Figure:
    """Draw the `rows` of `receptive_fields` as nested squares on the image, and as bars."""
    fig = Figure(figsize=(9, 3.9))
    squares, bars = fig.subplots(1, 2, width_ratios=[1, 1.15])
    colours = mpl.colormaps["viridis"](np.linspace(0.95, 0.1, len(rows)))
    squares.add_patch(Rectangle((0, 0), 28, 28, facecolor="#EEEEEE"))
    for row, colour in zip(rows, colours, strict=True):
        high, wide = both(row.receptive_field)
        corner = 14 - wide / 2, 14 - high / 2
        squares.add_patch(Rectangle(corner, wide, high, fill=False, ec=colour, lw=2))
    reach = max(28, *both(rows[-1].receptive_field)) / 2 + 1
    limits = 14 - reach, 14 + reach
    squares.set(xlim=limits, ylim=limits[::-1], aspect="equal")
    squares.set_title("on the 28×28 image, in grey")
    squares.grid(visible=False)
    sides = [max(both(row.receptive_field)) for row in rows]
    drawn = bars.barh([row.layer for row in rows], sides, color=colours)
    bars.bar_label(drawn, [row.receptive_field for row in rows], padding=3)
    bars.axvline(28, color=GREY, lw=1, ls="-.")
    bars.set_title("side of the square that one activation sees")
    bars.invert_yaxis()
    bars.grid(visible=False)
    return fig


@styled
def parameters(model) -> Figure:
    """Draw the number of parameters of every layer that has any, with its share."""
    layers = [
        (name or type(layer).__name__, type(layer).__name__, count)
        for name, layer in model.named_modules()
        if (count := sum(p.numel() for p in layer.parameters(recurse=False)))
    ]
    names, types, counts = zip(*layers, strict=True)
    palette = dict(zip(dict.fromkeys(types), itertools.cycle(COLOURS), strict=False))
    colours = [palette[kind] for kind in types]
    fig = Figure(figsize=(9, 0.3 * len(layers) + 0.8))
    ax = fig.subplots()
    bars = ax.barh(range(len(names)), counts, color=colours, tick_label=names)
    ax.bar_label(bars, [f"{n:,}  ({100 * n / sum(counts):.1f} %)" for n in counts], padding=3)
    ax.legend([Rectangle((0, 0), 1, 1, color=c) for c in palette.values()], palette, loc="best")
    ax.set_title(f"{sum(counts):,} parameters")
    ax.margins(x=0.15)
    ax.invert_yaxis()
    ax.grid(visible=False)
    return fig


@styled
def against_original(run, original: dict[int, float]) -> Figure:
    """Draw a run's test accuracy, epoch by epoch, beside the original's {epoch: accuracy}."""
    fig = Figure(figsize=(8, 3.8))
    ax = fig.subplots()
    ours = {epoch.epoch: epoch.test_accuracy for epoch in run.epochs}
    ax.plot(*zip(*original.items(), strict=True), color=GREY, marker=".", label="the original")
    ax.plot(*zip(*ours.items(), strict=True), color=BLUE, marker=".", label=f"seed {run.seed}")
    ax.axhline(GOAL, color=GREY, lw=1, ls="-.", label=f"{GOAL} %")
    ax.set(xlabel="epoch", ylabel="test accuracy (%)")
    ax.set_title(f"{run.recipe['name']} on {run.dataset}, and the original on MNIST")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower right")
    return fig


@styled
def filters(weight, title: str) -> Figure:
    """Draw the kernels of a convolution (out, in, k, k): one column per output, one row per input.

    Outputs and inputs are numbered from 0, as in PyTorch. Vermilion is positive, blue negative.
    """
    kernels = torch.nn.functional.pad(weight.detach().float().cpu(), (0, 1, 0, 1), value=torch.nan)
    outputs, inputs, height, width = kernels.shape
    mosaic = kernels.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)[:-1, :-1].numpy()
    fig = Figure(figsize=(9, 9 * mosaic.shape[0] / mosaic.shape[1] + 1.5))
    ax = fig.subplots()
    most = np.nanmax(np.abs(mosaic))
    image = ax.imshow(mosaic, cmap=SIGNED, vmin=-most, vmax=most)
    ax.set_xticks(width * np.arange(outputs) + width / 2 - 1, range(outputs))
    ax.set_yticks(height * np.arange(inputs) + height / 2 - 1, range(inputs))
    ax.set(xlabel="output channel", ylabel="input")
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)
    ax.set_title(title)
    fig.colorbar(image, ax=ax, label="weight", location="bottom", shrink=0.4, aspect=30)
    return fig


@torch.no_grad()
def activations(model, images, layers) -> dict[str, torch.Tensor]:
    """Return the activations of layers, named as in the model, for images: {name: (N, C, H, W)}."""
    maps = {}

    def keep(name):  # a copy, because ReLU may overwrite its input
        return lambda _layer, _inputs, output: maps.update({name: output.clone()})

    hooks = [model.get_submodule(name).register_forward_hook(keep(name)) for name in layers]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
    return maps


@styled
def feature_maps(model, image, layers, title: str, channels: int = 8) -> Figure:
    """Draw some layers' activations for one image: the strongest channels, strongest first.

    `image` is normalised, (1, 1, 28, 28). A channel is strong if its mean is large. All maps of a
    layer have one scale, from white, which is 0, to black, the layer's largest value.
    """
    fig = Figure(figsize=(9, 1.5 * len(layers) + 0.4))
    fig.get_layout_engine().set(h_pad=0.13)
    grid = fig.subplots(len(layers), channels + 1, squeeze=False)
    for ax in grid.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set(visible=True, color=GREY, linewidth=0.5)
    for ax in grid[1:, 0]:
        ax.axis("off")
    grid[0, 0].imshow(image.squeeze().numpy(force=True), cmap="gray_r")
    grid[0, 0].set_title("image", fontsize=9, loc="center")
    for row, (name, (maps,)) in zip(grid, activations(model, image, layers).items(), strict=True):
        maps = maps.numpy(force=True)
        size, most = "×".join(map(str, maps.shape[1:])), np.abs(maps).max()
        strongest = np.abs(maps).mean((1, 2)).argsort(kind="stable")[::-1]
        for ax, channel in zip(row[1:], strongest, strict=False):
            ax.imshow(maps[channel], cmap="gray_r", vmin=0, vmax=most)
            ax.set_xlabel(channel, fontsize=8)
        for ax in row[1 + len(maps) :]:
            ax.axis("off")
        zero = (maps == 0).all((1, 2)).sum()
        words = f"{name}, {size}: {zero} of {len(maps)} channels are 0 here, black is {most:.2g}"
        label = row[1].text(0, 1.07, words, fontsize=9, transform=row[1].transAxes)
        label.set_in_layout(False)  # the title is wider than its map
    fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig
