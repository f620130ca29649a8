"""Part 1's figures, each a function that returns a matplotlib `Figure`."""

import numpy as np
from matplotlib.patches import Circle

from backprop.network import COLUMNS as SYMBOLS
from backprop.network import RATES, slope, train
from s4lib.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, Figure, styled

# One colour for each kind of number, in the pictures and in the workbook.
FAMILIES = {"input": BLUE, "hidden": GREEN, "output": ORANGE, "error": PURPLE, "weight": GREY}

# Six learning rates from light to dark, so that they keep their order in grey.
RATE_COLOURS = ("#E0A800", "#7DB63A", "#1F9E89", "#2A788E", "#414487", "#2B0A3D")


def family(symbol: str) -> str:
    """Return the kind of number that a symbol such as `w1`, `a_h1`, `dE_do2` or `E_total` is."""
    last = symbol.removeprefix("new_").rpartition("_d")[2].removeprefix("a_")
    return {"i": "input", "h": "hidden", "o": "output", "w": "weight"}.get(last[0], "error")


def tint(colour: str, share: float = 0.2) -> str:
    """Mix `colour` with white, as #RRGGBB; `share` is the colour's part."""
    channels = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(255 - share * (255 - channel)):02X}" for channel in channels)


# The class network's drawing: the places of its units, and of the labels along the arrows.
COLUMNS = {"i": 0.5, "h": 2.0, "o": 3.6, "E": 5.0}
HEIGHTS = {"1": 3.15, "2": 0.75}
RADIUS = 0.37
SMALL = 10.5  # points, where a unit or an arrow has two numbers
ARROWS = {
    **{"w1": ("i1", "h1", 0.5), "w2": ("i2", "h1", 0.36)},
    **{"w3": ("i1", "h2", 0.36), "w4": ("i2", "h2", 0.5)},
    **{"w5": ("h1", "o1", 0.5), "w6": ("h2", "o1", 0.36)},
    **{"w7": ("h1", "o2", 0.36), "w8": ("h2", "o2", 0.5)},
    **{"E1": ("o1", "E1", 0.36), "E2": ("o2", "E2", 0.36)},
}


def write(axes, across, up, text, **style) -> None:
    """Write `text` centred at (across, up)."""
    axes.text(across, up, text, **{"ha": "center", "va": "center", "fontsize": 14, **style})


def place(symbol: str) -> np.ndarray:
    """Return the centre of a unit such as `h1`."""
    return np.array((COLUMNS[symbol[0]], HEIGHTS[symbol[1]]))


def drawing_area(width: float, height: float, top: float = 4.1, bottom: float = 0.1):
    """Return a figure, its size in inches, and axes without ticks in the drawing's coordinates."""
    figure = Figure(figsize=(width, height), layout="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 5.6), ylim=(bottom, top))
    axes.axis("off")
    return figure, axes


def unit(axes, symbol: str, label: str) -> None:
    """Draw a unit as a circle in the colour of its kind of number, with `label` inside."""
    colour = FAMILIES[family(symbol)]
    circle = Circle(place(symbol), RADIUS, facecolor=tint(colour), edgecolor=colour, lw=2)
    axes.add_patch(circle)
    write(axes, *place(symbol), label)


def arrow(axes, start: str, end: str, **style) -> None:
    """Draw an arrow from the rim of one unit to the rim of another."""
    tail, head = place(start), place(end)
    share = (RADIUS + 0.06) / np.hypot(*(head - tail))
    tail, head = tail + share * (head - tail), head - share * (head - tail)
    style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.6, **style}
    axes.annotate("", head, tail, arrowprops=style)


def along(name: str) -> np.ndarray:
    """Return the place of the label on a weight's arrow."""
    start, end, where = ARROWS[name]
    return place(start) + where * (place(end) - place(start))


@styled
def network_diagram() -> Figure:
    """Draw the class network: units as circles, weights on the arrows, errors at the right."""
    figure, axes = drawing_area(5.6, 4)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    for name, (start, end, _) in ARROWS.items():
        arrow(axes, start, end)
        write(axes, *along(name), f"$w_{name[1]}$" if name[0] == "w" else "", bbox=box)
    for k in "12":
        unit(axes, f"i{k}", f"$i_{k}$")
        unit(axes, f"h{k}", f"$h_{k}$\n$a_{{h{k}}}$")
        unit(axes, f"o{k}", f"$o_{k}$\n$a_{{o{k}}}$")
        unit(axes, f"E{k}", f"$E_{k}$")
        write(axes, (COLUMNS["o"] + COLUMNS["E"]) / 2, HEIGHTS[k] + 0.2, f"$t_{k}$")
    write(axes, 4.9, 1.95, "$E_{total} =$\n$E_1 + E_2$")
    for name, column in (("inputs", "i"), ("hidden", "h"), ("output", "o"), ("errors", "E")):
        write(axes, COLUMNS[column], 3.85, name, color=GREY, fontsize=13)
    return figure


def short(number: float, digits: int = 3) -> str:
    """Return a number to three digits, with a real minus sign, as drawings show it."""
    text = np.format_float_positional(number, digits, unique=False, fractional=False)
    return text.replace("-", "−")


def sign_colour(number: float) -> str:
    """Return vermilion for positive and blue for negative numbers, as in every picture."""
    return ORANGE if number > 0 else BLUE


def values_and_slopes() -> tuple[dict[str, float], dict[str, float]]:
    """Return the class network's numbers by symbol; ∂E_total/∂ of its weights and of h1 … o2."""
    values = {symbol: train(0.5, 0)[symbol][0] for symbol in SYMBOLS}
    slopes = {f"w{k}": values[f"dE_dw{k}"] for k in range(1, 9)}
    for k in "12":
        slopes[f"o{k}"] = (values[f"a_o{k}"] - values[f"t{k}"]) * slope(values[f"o{k}"])
    for k, to_o1, to_o2 in (("1", "w5", "w7"), ("2", "w6", "w8")):
        from_above = slopes["o1"] * values[to_o1] + slopes["o2"] * values[to_o2]
        slopes[f"h{k}"] = from_above * slope(values[f"h{k}"])
    return values, slopes


@styled
def gradients_diagram() -> Figure:
    """Draw the class network with values in black, gradients by sign, and the two paths of h1."""
    values, slopes = values_and_slopes()
    contributions = {"w5": slopes["o1"] * values["w5"], "w7": slopes["o2"] * values["w7"]}
    figure, axes = drawing_area(6.4, 5.2, bottom=-0.45)

    def two_lines(where, upper: str, lower: float, **style) -> None:
        """Write a value and, below it, its gradient."""
        (across, up), gap = where, 0.12
        write(axes, across, up + gap, upper, fontsize=SMALL, **style)
        style |= {"color": sign_colour(lower), "fontsize": SMALL}
        write(axes, across, up - gap, short(lower), **style)

    followed = contributions | {"w1": slopes["h1"], "w2": slopes["h1"]}
    for name, (start, end, _) in ARROWS.items():
        if name in followed:
            colour = tint(sign_colour(followed[name]), 0.5)
            arrow(axes, end, start, lw=4, color=colour, mutation_scale=18)
        else:
            arrow(axes, start, end, lw=1.2, color="#BBBBBB")
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    for name in (f"w{k}" for k in range(1, 9)):
        two_lines(along(name), f"$w_{name[1]}$ {values[name]:.2f}", slopes[name], bbox=box)
    for symbol in ("i1", "i2", "h1", "h2", "o1", "o2", "E1", "E2"):
        unit(axes, symbol, "")
        if symbol in slopes:
            two_lines(place(symbol), short(values[f"a_{symbol}"]), slopes[symbol])
        else:
            text = f"{values[symbol]:.2f}" if symbol[0] == "i" else short(values[symbol])
            write(axes, *place(symbol), text, fontsize=SMALL)
    for name, column in (("inputs", "i"), ("hidden", "h"), ("output", "o"), ("errors", "E")):
        write(axes, COLUMNS[column], 3.85, name, color=GREY, fontsize=13)

    for up, (name, contribution) in zip((0.05, -0.22), contributions.items(), strict=True):
        output = ARROWS[name][1]
        text = f"path through ${output[0]}_{output[1]}$:  {short(slopes[output])} × "
        text += f"{values[name]:.2f} = {short(contribution)}"
        write(axes, 0.1, up, text, ha="left", fontsize=11, color=sign_colour(contribution))
    total, hidden = sum(contributions.values()), slopes["h1"]
    text = f"sum: {short(total)},\ntimes slope {hidden / total:.2f}: {short(hidden)}"
    write(axes, 3.6, -0.085, text, ha="left", fontsize=11, color=sign_colour(total))
    return figure


@styled
def smallest_example() -> Figure:
    """Draw (x + y) · z for x, y, z = 2, 1, −4: values above the wires, slopes below."""
    x, y, z = 2, 1, -4
    q = x + y
    f = q * z
    figure, axes = drawing_area(5.6, 3.4, top=3.4, bottom=0)
    add, multiply = (2.1, 2.4), (3.8, 1.4)
    # name, value, slope of f along it, and where its wire begins, ends and has its numbers
    wires = (
        ("x", x, z, (0.3, 3.1), add, 0.3),
        ("y", y, z, (0.3, 1.7), add, 0.3),
        ("q", q, z, add, multiply, 0.5),
        ("z", z, q, (0.3, 0.6), multiply, 0.3),
        ("f", f, 1, multiply, (5.5, 1.4), 0.55),
    )
    for name, value, slope_of_f, start, end, where in wires:
        start, end = np.array(start), np.array(end)
        style = {"arrowstyle": "-|>", "color": GREY, "lw": 1.6, "shrinkA": 0}
        axes.annotate("", end, start, arrowprops={**style, "shrinkB": 0 if name == "f" else 19})
        across, up = start + where * (end - start)
        write(axes, across, up + 0.25, f"${name}$ = {value}".replace("-", "−"))
        text = str(slope_of_f).replace("-", "−")
        write(axes, across, up - 0.25, text, color=sign_colour(slope_of_f))
    for centre, sign in ((add, "+"), (multiply, "×")):
        axes.add_patch(Circle(centre, 0.24, facecolor="white", edgecolor=GREY, lw=2, zorder=3))
        write(axes, *centre, sign, zorder=4)
    return figure


@styled
def error_curves(curves: dict[float, np.ndarray]) -> Figure:
    """Draw E_total of each rate, {rate: (steps + 1,)}, against the step and against rate × step."""
    figure = Figure(figsize=(6.4, 3.8))
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
    """Draw contours of E_total, (len(w7), len(w5)), and paths, {rate: (steps + 1, 2)}."""
    figure = Figure(figsize=(6.4, 4.7))
    axes = figure.add_subplot()
    axes.set(xlabel="$w_5$  (with $w_6 = w_5 + 0.05$)", ylabel="$w_7$  (with $w_8 = w_7 + 0.05$)")
    axes.set_title("100 steps at six learning rates, a dot every ten")
    axes.grid(visible=False)
    levels = (0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
    greys = [str(round(1 - 0.04 * k, 2)) for k in range(len(levels) - 1)]  # white is the lowest
    areas = axes.contourf(w5, w7, surface, levels=levels, colors=greys)
    figure.colorbar(areas, label="$E_{total}$", spacing="uniform", ticks=levels, format="%g")

    # The paths lie on top of each other, so the longest is drawn first, and each ends in its label.
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
    """Draw E_total after 100 steps against the rate, at 501 rates; the class's six are dots."""
    rates = np.geomspace(0.1, 1e4, 501)
    last_errors, six = (train(np.array(several))["E_total"][-1] for several in (rates, RATES))
    figure = Figure(figsize=(6.4, 4))
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
    """Draw a training of `network.train`: the error, and the outputs with their targets."""
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
