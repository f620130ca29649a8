"""Every figure of Part 2: functions that take data and return a matplotlib `Figure`."""

import functools

import matplotlib as mpl

# Okabe and Ito's colours: distinct for colour-blind readers and, by lightness, in grey.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"

STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, GREY]),
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
    "savefig.dpi": 150,
}


def styled(draw):
    """Draw with the project's style, whatever the reader's own matplotlib settings."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": mpl.rcParams["backend"]}):
            return draw(*args, **kwargs)

    return wrapper
