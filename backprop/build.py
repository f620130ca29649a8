"""Build the workbook and the pictures, or tell whether the ones there are current.

All files are made in a temporary folder and then moved into place one by one, so that a failure
leaves the old ones whole.

A picture carries, in its PNG metadata, a fingerprint of what it was told to show: every artist's
words, numbers, colours and lines, or the workbook's formulas and styles. Comparing fingerprints
rather than pixels keeps other versions of matplotlib, LibreOffice and fonts from mattering.
"""

import errno
import hashlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from PIL import Image, ImageChops, ImageOps, PngImagePlugin

from backprop import layer_plots, limits, office, playground, plots, workbook
from backprop.network import RATES, WEIGHTS, errors, train

WORKBOOK = "backprop/backpropagation.xlsx"
DIAGRAM = "images/backprop_network.png"


def error_curves():
    """E_total of each of the six rates."""
    return plots.error_curves({rate: train(rate)["E_total"] for rate in RATES})


def error_surface():
    """The plane where w6 − w5 and w8 − w7 are as at the start, w1 … w4 too; and six paths."""
    w1, w2, w3, w4, w5, w6, w7, w8 = WEIGHTS
    x, y = np.linspace(-3, 1, 81), np.linspace(0, 3, 61)
    across, up = np.meshgrid(x, y)
    E_total = errors(weights=(w1, w2, w3, w4, across, across + w6 - w5, up, up + w8 - w7))[2]
    tables = {rate: train(rate) for rate in RATES}
    paths = {rate: np.stack([table["w5"], table["w7"]], 1) for rate, table in tables.items()}
    return plots.error_surface(x, y, E_total, paths)


def larger_rates():
    """E_total after 100 steps at 501 rates, and at the six."""
    rates = np.geomspace(0.1, 1e4, 501)
    six = {rate: train(rate)["E_total"][-1] for rate in RATES}
    return plots.larger_rates(rates, limits.sweep(rates)[-1], six)


PICTURES = {
    DIAGRAM: plots.network_diagram,
    "images/backprop_error_curves.png": error_curves,
    "images/backprop_error_surface.png": error_surface,
    "images/backprop_larger_rates.png": larger_rates,
    "images/byhand_convolution.png": layer_plots.convolution,
    "images/byhand_pooling.png": layer_plots.pooling,
    "images/byhand_batch_norm.png": layer_plots.batch_norm,
}

# Picture: the page of the printed workbook that it shows, and which parts of it, one below the
# other: left, top, right and bottom as fractions. The sheet Training is too wide to be read whole.
SHEETS = {
    "images/backprop_sheet_by_hand.png": (0, [(0, 0, 1, 0.93)]),
    "images/backprop_sheet_training.png": (
        1,
        [
            (0.018, 0, 0.361, 0.31),
            *((0.361, 0.058, 0.6985, 0.0823), (0.361, 0.2257, 0.6985, 0.31)),
            *((0.6985, 0.058, 1, 0.0823), (0.6985, 0.2257, 1, 0.31)),
        ],
    ),
    "images/backprop_sheet_learning_rates.png": (-1, [(0, 0, 1, 0.93)]),
}


def build(root: Path) -> None:
    """Make every file anew below `root` and print a line for each.

    Raises OSError if a folder cannot be written to.
    """
    for folder in (root / "backprop", root / "images"):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    with tempfile.TemporaryDirectory(dir=root, prefix=".backprop-") as name:
        made = Path(name)
        (made / "backprop").mkdir()
        (made / "images").mkdir()
        for picture, draw in PICTURES.items():
            save(draw(), made / picture)
        workbook.build(made / WORKBOOK, made / DIAGRAM)
        (made / playground.PAGE).write_text(playground.page(), "utf-8")
        lines = [f"wrote {name}" for name in (*PICTURES, WORKBOOK, playground.PAGE)]
        try:
            take_screenshots(made)
            lines += [f"wrote {name}" for name in SHEETS]
        except (RuntimeError, subprocess.SubprocessError) as problem:
            lines.append(f"left the pictures of the sheets as they were: {problem}")
        for path in [path for path in made.rglob("*.*") if path.is_file()]:
            os.replace(path, root / path.relative_to(made))
    print(*lines, sep="\n")


def check(root: Path) -> bool:
    """Print for every file whether it is what `build` would make; True if all are."""
    wanted = {name: fingerprint(draw()) for name, draw in PICTURES.items()}
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        save(plots.network_diagram(), made / "diagram.png")
        workbook.build(made / "book.xlsx", made / "diagram.png")
        wanted |= dict.fromkeys((WORKBOOK, *SHEETS), stamp(made / "book.xlsx"))
    wanted[playground.PAGE] = playground.page()

    current = True
    for name, mark in wanted.items():
        there = (root / name).is_file()
        state = (
            "missing" if not there else "current" if stamp(root / name) == mark else "not current"
        )
        print(f"{name}: {state}")
        current &= state == "current"
    return current


# What a figure shows, short of ticks' places and labels, which matplotlib's version decides.
SHOWN = {
    Axes: ("xlim", "ylim", "xscale", "yscale"),
    Collection: ("paths", "facecolor", "edgecolor", "linewidth"),
    Line2D: ("xydata", "color", "linewidth", "linestyle", "marker", "alpha"),
    Patch: ("path", "facecolor", "edgecolor", "linewidth", "linestyle", "hatch"),
    Text: ("text", "position", "color", "fontsize"),
}


def fingerprint(figure) -> str:
    """A hash of all that a figure shows, with numbers to six digits."""
    shown = [digits(figure.get_size_inches())]
    for artist in artists(figure):
        for kind, properties in SHOWN.items():
            if isinstance(artist, kind):
                shown += [digits(getattr(artist, f"get_{name}")()) for name in properties]
        if isinstance(artist, Patch):
            shown.append(digits(artist.get_patch_transform().get_matrix()))
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def artists(artist):
    """An artist and all that it is made of; of an axis its label and its first tick."""
    yield artist
    axis = isinstance(artist, Axis)
    for child in [artist.label, *artist.get_major_ticks(1)] if axis else artist.get_children():
        yield from artists(child)


def digits(item) -> str:
    """Words as they are, numbers to six digits, and paths by their vertices."""
    item = getattr(item, "vertices", item)
    if isinstance(item, list | tuple):
        return " ".join(map(digits, item))
    if isinstance(item, str) or item is None:
        return str(item)
    return " ".join(f"{number:.6g}" for number in np.ravel(item))


def save(figure, path: Path) -> None:
    """Save a figure with its fingerprint."""
    figure.savefig(path, metadata={"Software": None, "Fingerprint": fingerprint(figure)})


def stamp(path: Path) -> str | None:
    """The fingerprint that a picture carries, or that of a workbook; a page is its own.

    A workbook's is of all that is in it, short of the values that follow from its formulas.
    """
    try:
        if path.suffix == ".html":
            return path.read_text("utf-8", errors="replace")
        if path.suffix == ".png":
            return Image.open(path).info.get("Fingerprint")
        with zipfile.ZipFile(path) as book:
            parts = {name: book.read(name) for name in sorted(book.namelist())}
    except (OSError, zipfile.BadZipFile):
        return None
    for name, part in parts.items():
        if name.endswith(".png"):
            parts[name] = Image.open(io.BytesIO(part)).info.get("Fingerprint")
        else:
            parts[name] = re.sub(rb"</f><v>[^<]*|<c:v>[^<]*", b"", part)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def take_screenshots(root: Path) -> None:
    """Print the workbook below `root` with LibreOffice and save its pages as pictures."""
    if not (office.program() and shutil.which("pdftoppm")):
        raise RuntimeError("they need LibreOffice and pdftoppm")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Fingerprint", stamp(root / WORKBOOK))
    with tempfile.TemporaryDirectory() as folder:
        pages = office.screenshots(root / WORKBOOK, Path(folder))
        for name, (number, boxes) in SHEETS.items():
            page = Image.open(pages[number]).convert("RGB")
            scale = np.array([page.width, page.height] * 2)
            parts = [page.crop(tuple((box * scale).round())) for box in np.array(boxes)]
            size = max(part.width for part in parts), sum(part.height for part in parts)
            picture, down = Image.new("RGB", size, "white"), 0
            for part in parts:
                picture.paste(part, (0, down))
                down += part.height
            picture = picture.crop(ImageChops.invert(picture).getbbox())
            picture = ImageOps.expand(picture, border=8, fill="white")
            picture.save(root / name, optimize=True, pnginfo=notes)
