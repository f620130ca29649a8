"""Part 1's figures, each a function that returns a matplotlib `Figure`."""

import numpy as np
from matplotlib.patches import Circle

from backprop.network import RATES, train
from s4lib.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, Figure, styled

# One colour for each kind of number, in the pictures and in the workbook.
FAMILIES = {"input": BLUE, "hidden": GREEN, "output": ORANGE, "error": PURPLE, "weight": GREY}

# Six learning rates from light to dark, so that they keep their order in grey.
RATE_COLOURS = ("#E0A800", "#7DB63A", "#1F9E89", "#2A788E", "#414487", "#2B0A3D")


def family(symbol: str) -> str:
    """Which kind of number a symbol such as `w1`, `a_h1`, `dE_do2` or `E_total` is."""
    last = symbol.removeprefix("new_").rpartition("_d")[2].removeprefix("a_")
    return {"i": "input", "h": "hidden", "o": "output", "w": "weight"}.get(last[0], "error")


def tint(colour: str, share: float = 0.2) -> str:
    """`colour` mixed with white, as #RRGGBB; `share` is how much of it remains."""
    parts = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - part)):02X}" for part in parts)


@styled
def network_diagram() -> Figure:
    """The class network: units as circles, weights on the arrows, errors at the right."""
    figure = Figure(figsize=(5.6, 4), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 5.6), ylim=(0.1, 4.1))
    axes.axis("off")

    x, top, bottom, radius = {"i": 0.5, "h": 2.0, "o": 3.6, "E": 5.0}, 3.15, 0.75, 0.37
    height = {"1": top, "2": bottom}

    def write(across, up, text, **style):
        axes.text(across, up, text, **{"ha": "center", "va": "center", "fontsize": 14, **style})

    def unit(symbol, label):
        colour = FAMILIES[family(symbol)]
        centre = (x[symbol[0]], height[symbol[1]])
        axes.add_patch(Circle(centre, radius, facecolor=tint(colour), edgecolor=colour, lw=2))
        write(*centre, label)

    def arrow(start, end, label="", where=0.36):
        (x0, y0), (x1, y1) = ((x[s[0]], height[s[1]]) for s in (start, end))
        share = (radius + 0.06) / np.hypot(x1 - x0, y1 - y0)
        dx, dy = x1 - x0, y1 - y0
        tail, head = (x0 + share * dx, y0 + share * dy), (x1 - share * dx, y1 - share * dy)
        axes.annotate("", head, tail, arrowprops={"arrowstyle": "-|>", "color": GREY, "lw": 1.6})
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        write(x0 + where * dx, y0 + where * dy, label, bbox=box)

    arrow("i1", "h1", "$w_1$", 0.5)
    arrow("i2", "h1", "$w_2$")
    arrow("i1", "h2", "$w_3$")
    arrow("i2", "h2", "$w_4$", 0.5)
    arrow("h1", "o1", "$w_5$", 0.5)
    arrow("h2", "o1", "$w_6$")
    arrow("h1", "o2", "$w_7$")
    arrow("h2", "o2", "$w_8$", 0.5)
    arrow("o1", "E1")
    arrow("o2", "E2")
    for k in "12":
        unit(f"i{k}", f"$i_{k}$")
        unit(f"h{k}", f"$h_{k}$\n$a_{{h{k}}}$")
        unit(f"o{k}", f"$o_{k}$\n$a_{{o{k}}}$")
        unit(f"E{k}", f"$E_{k}$")
        write((x["o"] + x["E"]) / 2, height[k] + 0.2, f"$t_{k}$")
    write(4.9, 1.95, "$E_{total} =$\n$E_1 + E_2$")
    for name, column in (("inputs", "i"), ("hidden", "h"), ("output", "o"), ("errors", "E")):
        write(x[column], 3.85, name, color=GREY, fontsize=13)
    return figure


@styled
def error_curves(curves: dict[float, np.ndarray]) -> Figure:
    """E_total of each rate, {rate: (steps + 1,)}, against the step and against rate × step."""
    figure = Figure(figsize=(8, 4.2))
    left, right = figure.subplots(1, 2, sharey=True)
    for k, (rate, E_total) in enumerate(curves.items()):
        step, style = np.arange(len(E_total)), {"color": RATE_COLOURS[k], "ls": ("-", "--")[k % 2]}
        left.plot(step, E_total, **style, label=f"η = {rate}")
        right.plot(rate * step, E_total, **style)
    left.set(xlabel="step", ylabel="$E_{total}$", xlim=(0, step[-1]), ylim=(0, 0.25))
    left.set_title("Six learning rates …")
    right.set(xlabel="learning rate × step", xlim=(0, step[-1]))
    right.set_title("… one and the same descent")
    figure.legend(*left.get_legend_handles_labels(), loc="upper right", bbox_to_anchor=(0.98, 0.9))
    return figure


@styled
def error_surface(w5, w7, surface, paths: dict[float, np.ndarray]) -> Figure:
    """Contours of E_total, (len(w7), len(w5)), and each rate's path, {rate: (steps + 1, 2)}."""
    figure = Figure(figsize=(7.5, 5.2))
    axes = figure.add_subplot()
    axes.set(xlabel="$w_5$  (with $w_6 = w_5 + 0.05$)", ylabel="$w_7$  (with $w_8 = w_7 + 0.05$)")
    axes.set_title("100 steps at six learning rates, a dot every ten")
    axes.grid(visible=False)
    levels = (0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
    greys = [str(round(1 - 0.04 * k, 2)) for k in range(len(levels) - 1)]  # white is the lowest
    areas = axes.contourf(w5, w7, surface, levels=levels, colors=greys)
    figure.colorbar(areas, label="$E_{total}$", spacing="uniform", ticks=levels, format="%g")

    # The paths lie on top of each other: the longest is drawn first, and each ends in its label.
    for k, (path, colour) in reversed([*enumerate(zip(paths.values(), RATE_COLOURS, strict=True))]):
        axes.plot(*path.T, color=colour, linewidth=1.2)
        axes.plot(*path[::10].T, "o", color=colour, markersize=4)
        side = 1 if k % 2 else -1
        where = path[-1] + side * np.array((0.12, 0.35))
        style = {"ha": "left" if k % 2 else "right", "va": "center"}
        arrow = {"arrowstyle": "-", "color": colour, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(f"η = {[*paths][k]}", path[-1], where, arrowprops=arrow, **style)
    axes.plot(*path[0], "o", color="black", markersize=8)
    axes.annotate("start", path[0], path[0] - (0.05, 0.25), ha="center")
    return figure


@styled
def larger_rates() -> Figure:
    """E_total after 100 steps against the rate, at 501 rates; the class's six as dots."""
    rates = np.geomspace(0.1, 1e4, 501)
    last_errors, six = (train(np.array(several))["E_total"][-1] for several in (rates, RATES))
    figure = Figure(figsize=(7, 4.2))
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlabel="learning rate η", ylim=(3e-6, 1))
    axes.set(ylabel="$E_{total}$ after 100 steps", xlim=(rates[0] / 1.5, rates[-1]))
    axes.set_title("The same network at larger rates")
    axes.plot(rates, last_errors)
    axes.plot(RATES, six, "o", color=BLUE, label="the six rates")
    axes.legend()

    best = last_errors.argmin()
    for text, point, where in (
        (f"best, η ≈ {rates[best]:.0f}", (rates[best], last_errors[best]), (8, 8e-6)),
        ("both outputs thrown past\ntheir targets, and stuck", (900, 1e-4), (900, 3e-3)),
    ):
        arrow = {"arrowstyle": "-", "color": GREY, "shrinkB": 4}
        axes.annotate(text, point, where, ha="center", va="center", arrowprops=arrow)
    return figure


@styled
def one_training(table, rate: float) -> Figure:
    """A training, as `network.train` returns it: the error, and the outputs with their targets."""
    figure = Figure(figsize=(8, 3.2))
    left, right = figure.subplots(1, 2)
    left.plot(table["step"], table["E_total"], color=PURPLE)
    left.set(xlabel="step", ylabel="$E_{total}$", ylim=(0, None))
    left.set_title(f"η = {rate:.3g}: from {table['E_total'][0]:.4f} to {table['E_total'][-1]:.4f}")
    for k, dashes in (("1", "-"), ("2", "--")):
        right.plot(table["step"], table[f"a_o{k}"], color=ORANGE, ls=dashes, label=f"$a_{{o{k}}}$")
        right.axhline(table[f"t{k}"][0], color=GREY, ls=":", lw=1.2)
    right.set(xlabel="step", ylim=(-0.03, 1.03))
    right.set_title("outputs, and their targets, dotted")
    right.legend(loc="center right")
    return figure
