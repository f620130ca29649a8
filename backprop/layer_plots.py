"""The figures of backprop/README.md's second half: `python -m backprop.layer_plots`.

The numbers in them are computed by the functions that they explain.
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from backprop import layers
from s4lib.plots import BLUE, GREEN, GREY, ORANGE, styled

IMAGES = Path(__file__).parents[1] / "images"


def grid(ax, values, title, shaded=(), framed=None, faint=()):
    """Draw a small matrix; shade the listed cells and frame (top, left, height, width)."""
    height, width = values.shape
    for row, column in np.ndindex(height, width):
        here = (row, column)
        fill = {True: "#F6C9AE"}.get(here in shaded, "#F4F4F4" if here in faint else "white")
        ax.add_patch(Rectangle((column, row), 1, 1, facecolor=fill, edgecolor=GREY, linewidth=0.8))
        colour = "#AAAAAA" if here in faint else "black"
        text = f"{values[row, column]:g}".replace("-", "−")
        ax.text(column + 0.5, row + 0.53, text, ha="center", va="center", color=colour)
    if framed:
        top, left, tall, wide = framed
        frame = Rectangle((left, top), wide, tall, fill=False, edgecolor=ORANGE, linewidth=2.6)
        frame.set_zorder(3)
        ax.add_patch(frame)
    ax.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), aspect="equal")
    ax.set_title(title, fontsize=11, loc="center")
    ax.axis("off")


def sign(ax, text):
    """An operator between two matrices."""
    ax.text(0.5, 0.5, text, ha="center", va="center", fontsize=15, transform=ax.transAxes)
    ax.axis("off")


@styled
def convolution() -> Figure:
    """A 3×3 convolution of a 4×4 map, and its gradient as a correlation with the flipped kernel."""
    x = np.array([[1, 0, 2, 1], [0, 1, 3, 0], [2, 1, 0, 1], [1, 0, 1, 2]], float)
    kernel = np.arange(1.0, 10).reshape(3, 3)
    dy = np.array([[1, -1], [2, 3]], float)
    x4, kernel4, dy4 = x[None, None], kernel[None, None], dy[None, None]
    y = layers.conv_forward(x4, kernel4, np.zeros(1))[0, 0]
    dx = layers.conv_backward(dy4, x4, kernel4, np.zeros(1))[0][0, 0]

    padded = np.pad(dy, 2)
    border = [cell for cell in np.ndindex(6, 6) if not all(2 <= index < 4 for index in cell)]
    figure = Figure(figsize=(8.3, 5.9))
    axes = figure.subplots(2, 5, width_ratios=[6, 0.8, 3, 0.8, 4], height_ratios=[4, 6])
    grid(axes[0, 0], x, "x", shaded=[(1, 2)], framed=(0, 1, 3, 3))
    sign(axes[0, 1], "⋆")
    grid(axes[0, 2], kernel, "kernel", shaded=[(1, 1)])
    sign(axes[0, 3], "=")
    grid(axes[0, 4], y, "y", shaded=np.ndindex(2, 2), framed=(0, 1, 1, 1))
    grid(axes[1, 0], padded, "dy, padded by 2", framed=(1, 2, 3, 3), faint=border)
    sign(axes[1, 1], "⋆")
    grid(axes[1, 2], kernel[::-1, ::-1], "kernel, flipped")
    sign(axes[1, 3], "=")
    grid(axes[1, 4], dx, "dx", shaded=[(1, 2)], framed=(1, 2, 1, 1))
    return figure


@styled
def pooling() -> Figure:
    """2×2 max pooling of a 4×4 map, with a tie, and the way back of the gradient."""
    x = np.array([[1, 5, 2, 2], [3, 0, 1, 2], [7, 4, 0, 1], [6, 7, 8, 3]], float)
    dy = np.array([[10, 20], [30, 40]], float)
    y = layers.max_pool_forward(x[None, None])[0, 0]
    dx = layers.max_pool_backward(dy[None, None], x[None, None])[0, 0]
    winners = [tuple(cell) for cell in np.argwhere(dx)]
    losers = [tuple(cell) for cell in np.argwhere(dx == 0)]

    figure = Figure(figsize=(8.3, 2.6))
    axes = figure.subplots(1, 7, width_ratios=[4, 0.7, 2, 0.7, 2, 0.7, 4])
    grid(axes[0], x, "x", shaded=winners)
    sign(axes[1], "→")
    grid(axes[2], y, "y")
    sign(axes[3], "")
    grid(axes[4], dy, "dy")
    sign(axes[5], "→")
    grid(axes[6], dx, "dx", shaded=winners, faint=losers)
    for ax in (axes[0], axes[6]):
        ax.axhline(2, color="black", linewidth=2, xmin=0.02, xmax=0.98)
        ax.axvline(2, color="black", linewidth=2, ymin=0.02, ymax=0.98)
    return figure


@styled
def batch_norm() -> Figure:
    """Left, the three paths from x to y; right, what each brings back to four values of x."""
    figure = Figure(figsize=(8.3, 3.7))
    graph, bars = figure.subplots(1, 2, width_ratios=[1.15, 1])

    places = {"x": (0, 1), "μ": (1.1, 2), "σ": (1.1, 0), "x̂": (2.4, 1), "y": (3.5, 1)}
    arrows = [("x", "x̂", BLUE, "-"), ("x̂", "y", "black", "-")]
    arrows += [("x", "μ", ORANGE, "--"), ("μ", "x̂", ORANGE, "--")]
    arrows += [("x", "σ", GREEN, ":"), ("σ", "x̂", GREEN, ":")]
    for start, end, colour, dashes in arrows:
        arrow = FancyArrowPatch(
            places[start],
            places[end],
            arrowstyle="-|>,head_length=7,head_width=3.5",
            shrinkA=17,
            shrinkB=17,
            color=colour,
            linewidth=2,
            linestyle=dashes,
        )
        graph.add_patch(arrow)
    for name, place in places.items():
        graph.text(*place, name, ha="center", va="center", fontsize=14, bbox=NODE)
    graph.text(1.15, 1.12, "itself", color=BLUE, ha="center")
    graph.text(1.1, 2.42, "by way of the mean", color=ORANGE, ha="center")
    graph.text(1.1, -0.58, "by way of the deviation", color=GREEN, ha="center")
    graph.text(2.95, 1.2, "γ, β", ha="center")
    graph.set(xlim=(-0.4, 3.9), ylim=(-0.8, 2.8))
    graph.axis("off")

    x, dy = np.array([1.0, 2, 3, 6]), np.array([1.0, -2, 1, 2])
    x4, dy4 = x[:, None, None, None], dy[:, None, None, None]
    std = np.sqrt(x.var() + layers.EPS)
    x_hat = (x - x.mean()) / std
    parts = {  # before γ/σ
        "itself: dy": (dy, BLUE, None),
        "mean: −mean(dy)": (np.full(4, -dy.mean()), ORANGE, "//"),
        "deviation: −x̂·mean(dy·x̂)": (-x_hat * (dy * x_hat).mean(), GREEN, ".."),
    }
    place = np.arange(4)
    for shift, (label, (part, colour, hatch)) in zip((-0.22, 0, 0.22), parts.items(), strict=True):
        style = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": label}
        bars.bar(place + shift, part, width=0.22, **style)
    dx = layers.batch_norm_backward(dy4, x4, np.ones(1), np.zeros(1))[0].ravel()
    bars.plot(place, dx * std, "kD", markersize=7, label="their sum: dx · σ/γ")
    bars.axhline(0, color="black", linewidth=0.8)
    bars.set_xticks(place, [f"x = {value:g}" for value in x])
    bars.set_ylim(-2.3, 4.6)
    bars.legend(fontsize=9.5, loc="upper left", labelspacing=0.25)
    return figure


NODE = {"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": "black"}


@styled
def training(by_hand, by_autograd, dataset_name) -> Figure:
    """Both training losses, batch by batch, one on top of the other, and how far apart they are."""
    steps = np.arange(1, len(by_hand) + 1)
    apart = np.abs(np.subtract(by_hand, by_autograd))
    figure = Figure(figsize=(8.3, 5))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    top.plot(steps, by_autograd, color="#F0B48E", linewidth=5, label="by autograd")
    top.plot(steps, by_hand, color=BLUE, linewidth=1.2, label="by hand")
    top.set(title=f"Trained twice on {dataset_name}: one line", ylabel="loss of the batch")
    top.set_ylim(bottom=0)
    top.legend()
    bottom.semilogy(steps, np.maximum(apart, 1e-17), ".", color=GREY, markersize=4)
    bottom.set(xlabel="step", ylabel="difference", ylim=(5e-18, 1e-9))
    return figure


def main(argv=None):
    """Draw the three pictures that explain a layer; the training command draws the fourth."""
    description = "Redraw images/byhand_convolution.png, byhand_pooling.png, byhand_batch_norm.png."
    prog = "python -m backprop.layer_plots"
    argparse.ArgumentParser(prog=prog, description=description).parse_args(argv)
    IMAGES.mkdir(exist_ok=True)
    for draw in (convolution, pooling, batch_norm):
        draw().savefig(IMAGES / f"byhand_{draw.__name__}.png")


if __name__ == "__main__":
    main()
