"""The figures of backprop/LAYERS.md.

The functions that the figures explain compute the numbers in them.
"""

import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

from backprop import layers
from s4lib.plots import BLUE, GREEN, GREY, ORANGE, Figure, styled

SHADE = "#F6C9AE"
NODE = {"boxstyle": "circle,pad=0.35", "facecolor": "white", "edgecolor": "black"}


def matrix(ax, values, left, top, title, shaded=(), faint=(), framed=()):
    """Draw a small matrix of unit cells at (left, top); `framed` cells are corners of a frame."""
    for row, column in np.ndindex(values.shape):
        x, y, cell = left + column, top + row, (row, column)
        fill = SHADE if cell in shaded else "#F4F4F4" if cell in faint else "white"
        ax.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor=GREY, linewidth=0.8))
        text = f"{values[cell]:g}".replace("-", "−")
        colour = "#999999" if cell in faint else "black"
        ax.text(x + 0.5, y + 0.53, text, ha="center", va="center", color=colour, fontsize=16)
    if framed:
        (y0, x0), (y1, x1) = framed
        size = x1 - x0 + 1, y1 - y0 + 1
        style = {"fill": False, "edgecolor": ORANGE, "linewidth": 2.8, "zorder": 3}
        ax.add_patch(Rectangle((left + x0, top + y0), *size, **style))
    ax.text(left + values.shape[1] / 2, top - 0.35, title, ha="center", fontsize=14)


def canvas(width, height):
    """Return a figure of the page's width without axes, measured in cells from its top left."""
    figure = Figure(figsize=(8.3, 8.3 * height / width))
    ax = figure.subplots()
    ax.set(xlim=(-0.1, width + 0.1), ylim=(height + 0.1, -0.1), aspect="equal")
    ax.axis("off")
    return figure, ax


@styled
def convolution() -> Figure:
    """Draw a 3×3 convolution of a 4×4 map, and its gradient by the flipped kernel."""
    x = np.array([[1, 0, 2, 1], [0, 1, 3, 0], [2, 1, 0, 1], [1, 0, 1, 2]], float)
    kernel = np.arange(1.0, 10).reshape(3, 3)
    dy = np.array([[1, -1], [2, 3]], float)
    x4, kernel4, dy4 = x[None, None], kernel[None, None], dy[None, None]
    y = layers.conv_forward(x4, kernel4, np.zeros(1))[0, 0]
    dx = layers.conv_backward(dy4, x4, kernel4, np.zeros(1))[0][0, 0]

    inside = [(2, 2), (2, 3), (3, 2), (3, 3)]
    border = set(np.ndindex(6, 6)) - set(inside)
    figure, ax = canvas(15.4, 13.5)
    ax.text(0, 0.4, "forward", weight="bold", fontsize=14)
    matrix(ax, x, 1, 1.6, "x", shaded=[(1, 2)])
    matrix(ax, kernel, 7.2, 2.1, "kernel", shaded=[(0, 1), (0, 2), (1, 1), (1, 2)])
    matrix(ax, y, 12.4, 2.6, "y", shaded=set(np.ndindex(2, 2)))
    ax.text(0, 6.5, "backward", weight="bold", fontsize=14)
    matrix(ax, np.pad(dy, 2), 0, 7.5, "dy, padded by 2", inside, border, framed=[(1, 2), (3, 4)])
    flipped = kernel[::-1, ::-1]
    matrix(ax, flipped, 7.2, 9, "kernel, flipped", shaded=[(1, 0), (1, 1), (2, 0), (2, 1)])
    matrix(ax, dx, 11.4, 8.5, "dx", shaded=[(1, 2)], framed=[(1, 2), (1, 2)])
    for row in (3.6, 10.5):
        ax.text(6.6, row + 0.08, "⋆", ha="center", va="center", fontsize=26)
        ax.text(10.8, row, "=", ha="center", va="center", fontsize=16)
    return figure


@styled
def pooling() -> Figure:
    """Draw 2×2 max pooling of a 4×4 map, with two ties, and where the gradient goes."""
    x = np.array([[1, 5, 2, 2], [3, 0, 1, 2], [7, 4, 0, 1], [6, 7, 8, 3]], float)
    dy = np.array([[10, 20], [30, 40]], float)
    y = layers.max_pool_forward(x[None, None])[0, 0]
    dx = layers.max_pool_backward(dy[None, None], x[None, None])[0, 0]
    winners = {tuple(cell) for cell in np.argwhere(dx)}

    figure, ax = canvas(15.4, 4.8)
    matrix(ax, x, 0, 0.8, "x", winners)
    matrix(ax, y, 5.2, 1.8, "y")
    matrix(ax, dy, 8.2, 1.8, "dy")
    matrix(ax, dx, 11.4, 0.8, "dx", winners, faint=set(np.ndindex(4, 4)) - winners)
    for left in (0, 11.4):
        ax.plot([left, left + 4], [2.8, 2.8], "k", linewidth=2)
        ax.plot([left + 2, left + 2], [0.8, 4.8], "k", linewidth=2)
    for arrow in (4.6, 10.8):
        ax.text(arrow, 2.8, "→", ha="center", va="center", fontsize=16)
    return figure


@styled
def batch_norm() -> Figure:
    """Draw the three paths from x to y and, below, what each brings back to four values of x."""
    figure = Figure(figsize=(5.6, 6.6))
    graph, bars = figure.subplots(2, 1, height_ratios=[1, 1.15])

    places = {"x": (0, 1), "μ": (1.1, 2), "σ": (1.1, 0), "x̂": (2.4, 1), "y": (3.5, 1)}
    arrows = [("x", "x̂", BLUE, "-"), ("x̂", "y", "black", "-")]
    arrows += [("x", "μ", ORANGE, "--"), ("μ", "x̂", ORANGE, "--")]
    arrows += [("x", "σ", GREEN, ":"), ("σ", "x̂", GREEN, ":")]
    head = {"arrowstyle": "-|>,head_length=7,head_width=3.5", "shrinkA": 17, "shrinkB": 17}
    for start, end, colour, dashes in arrows:
        style = {"color": colour, "linewidth": 2, "linestyle": dashes}
        graph.add_patch(FancyArrowPatch(places[start], places[end], **head, **style))
    for name, place in places.items():
        graph.text(*place, name, ha="center", va="center", fontsize=14, bbox=NODE)
    graph.text(1.15, 1.12, "itself", color=BLUE, ha="center")
    graph.text(1.1, 2.42, "through the mean", color=ORANGE, ha="center")
    graph.text(1.1, -0.58, "through the standard deviation", color=GREEN, ha="center")
    graph.text(2.95, 1.2, "γ, β", ha="center")
    graph.set(xlim=(-0.4, 3.9), ylim=(-0.8, 2.8))
    graph.axis("off")

    x, dy = np.array([1.0, 2, 3, 6]), np.array([1.0, -2, 1, 2])
    x4, dy4 = x[:, None, None, None], dy[:, None, None, None]
    std = np.sqrt(x.var() + layers.EPS)
    x_hat = (x - x.mean()) / std
    terms = {
        "itself: dy": (dy, BLUE, None),
        "through μ: −mean(dy)": (np.full(4, -dy.mean()), ORANGE, "//"),
        "through σ: −x̂ · mean(dy · x̂)": (-x_hat * (dy * x_hat).mean(), GREEN, ".."),
    }
    place = np.arange(4)
    for shift, (label, (term, colour, hatch)) in zip((-0.22, 0, 0.22), terms.items(), strict=True):
        style = {"color": colour, "hatch": hatch, "edgecolor": "white", "label": label}
        bars.bar(place + shift, term, width=0.22, **style)
    dx = layers.batch_norm_backward(dy4, x4, np.ones(1), np.zeros(1))[0].ravel()
    bars.plot(place, dx * std, "kD", markersize=7, label="their sum")
    bars.axhline(0, color="black", linewidth=0.8)
    bars.set_xticks(place, [f"x = {value:g}" for value in x])
    bars.set_ylim(-2.3, 5)
    bars.grid(axis="x", visible=False)
    bars.set_axisbelow(True)
    bars.set_ylabel("slope, in units of γ/σ")
    handles, names = bars.get_legend_handles_labels()
    order = [*range(1, len(names)), 0]
    bars.legend([handles[i] for i in order], [names[i] for i in order], loc="upper left")
    return figure


@styled
def training(by_hand, by_autograd, digits) -> Figure:
    """Draw both training losses, batch by batch, in one panel, and their difference in another."""
    steps = np.arange(1, len(by_hand) + 1)
    apart = np.abs(np.subtract(by_hand, by_autograd))
    figure = Figure(figsize=(8.3, 5))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    top.plot(steps, by_autograd, color="#F0B48E", linewidth=5, label="by autograd")
    top.plot(steps, by_hand, color=BLUE, linewidth=1.2, label="by hand")
    top.set(title=f"Trained twice on {digits}: one line", ylabel="loss of the batch")
    top.set_ylim(bottom=0)
    top.legend()
    bottom.semilogy(steps, np.maximum(apart, 1e-17), ".", color=GREY, markersize=4)
    bottom.set(xlabel="step", ylabel="difference", xlim=(0, len(steps)), ylim=(4e-18, 1e-12))
    bottom.set_yticks([1e-17, 1e-15, 1e-13], ["none", "$10^{-15}$", "$10^{-13}$"])
    bottom.minorticks_off()
    return figure
