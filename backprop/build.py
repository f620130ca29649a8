"""Build the workbook and the pictures, or tell whether the ones there are current.

All files are made in a temporary folder and then moved into place one by one, so that a failure
leaves the old ones whole.

A picture carries, in its PNG metadata, a fingerprint of what it shows: the drawing function's
source and its data, or the workbook's cells. Comparing fingerprints rather than pixels keeps
other versions of matplotlib, LibreOffice and fonts from mattering.
"""

import errno
import hashlib
import inspect
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, PngImagePlugin

from backprop import layer_plots, limits, office, plots, workbook
from backprop.network import RATES, WEIGHTS, errors, train

WORKBOOK = "backprop/backpropagation.xlsx"
DIAGRAM = "images/backprop_network.png"

# Picture: the page of the printed workbook it shows, and how much of its width and height.
SHEETS = {
    "images/backprop_sheet_by_hand.png": (0, 1, 0.93),
    "images/backprop_sheet_training.png": (1, 0.5745, 0.482),
    "images/backprop_sheet_learning_rates.png": (-1, 1, 0.93),
}


def no_data() -> tuple:
    """For drawings that show symbols, or numbers of their own."""
    return ()


def six_curves() -> tuple:
    """E_total of each of the six rates."""
    return ({rate: train(rate)["E_total"] for rate in RATES},)


def surface() -> tuple:
    """The plane where w6 − w5 and w8 − w7 are as at the start, w1 … w4 too; and six paths."""
    w1, w2, w3, w4, w5, w6, w7, w8 = WEIGHTS
    x, y = np.linspace(-3, 1, 81), np.linspace(0, 3, 61)
    across, up = np.meshgrid(x, y)
    E_total = errors(weights=(w1, w2, w3, w4, across, across + w6 - w5, up, up + w8 - w7))[2]
    tables = {rate: train(rate) for rate in RATES}
    return x, y, E_total, {rate: np.stack([t["w5"], t["w7"]], 1) for rate, t in tables.items()}


def many_rates() -> tuple:
    """E_total after 100 steps at 501 rates, and at the six."""
    rates = np.geomspace(0.1, 1e4, 501)
    return rates, limits.sweep(rates)[-1], {rate: train(rate)["E_total"][-1] for rate in RATES}


PICTURES = {
    DIAGRAM: (plots.network_diagram, no_data),
    "images/backprop_error_curves.png": (plots.error_curves, six_curves),
    "images/backprop_error_surface.png": (plots.error_surface, surface),
    "images/backprop_larger_rates.png": (plots.larger_rates, many_rates),
    "images/byhand_convolution.png": (layer_plots.convolution, no_data),
    "images/byhand_pooling.png": (layer_plots.pooling, no_data),
    "images/byhand_batch_norm.png": (layer_plots.batch_norm, no_data),
}


def build(root: Path, rate: float) -> None:
    """Make every file anew below `root` and print a line for each.

    `rate` is the learning rate of the sheet with one training. Raises an OSError if a folder
    cannot be written to.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(root))
    for folder in (root / "backprop", root / "images"):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    with tempfile.TemporaryDirectory(dir=root, prefix=".backprop-") as name:
        made = Path(name)
        draw_pictures(made)
        (made / WORKBOOK).parent.mkdir()
        workbook.build(made / WORKBOOK, made / DIAGRAM, rate)
        lines = [f"wrote {name}" for name in (*PICTURES, WORKBOOK)]
        try:
            take_screenshots(made)
            lines += [f"wrote {name}" for name in SHEETS]
        except (RuntimeError, subprocess.SubprocessError) as problem:
            lines.append(f"left the pictures of the sheets as they were: {problem}")
        for path in [path for path in made.rglob("*.*") if path.is_file()]:
            os.replace(path, root / path.relative_to(made))
    print(*lines, sep="\n")


def check(root: Path, rate: float) -> bool:
    """Print for every file whether it is what `build` would make; True if all are."""
    wanted = {name: fingerprint(draw, data()) for name, (draw, data) in PICTURES.items()}
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        plots.network_diagram().savefig(made / "diagram.png")
        workbook.build(made / "book.xlsx", made / "diagram.png", rate)
        cells = workbook.contents(made / "book.xlsx")
    wanted |= dict.fromkeys(SHEETS, cells_fingerprint(cells))

    found = {}
    for name in (WORKBOOK, *wanted):
        if not (root / name).is_file():
            found[name] = "missing"
        elif name == WORKBOOK:
            found[name] = compare(root / name, cells)
        else:
            found[name] = "current" if stamp(root / name) == wanted[name] else "not current"
    for name, state in found.items():
        print(f"{name}: {state}")
    return set(found.values()) == {"current"}


def compare(path: Path, cells: dict) -> str:
    """How the workbook at `path` compares with the contents it should have."""
    try:
        there = workbook.contents(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return "not a workbook"
    different = workbook.differences(there, cells)
    if not different:
        return "current"
    where = different[0]
    return f"not current, first at {where if isinstance(where, str) else ', '.join(where)}"


def draw_pictures(root: Path) -> None:
    """Draw every figure below `root`."""
    for name, (draw, data) in PICTURES.items():
        (root / name).parent.mkdir(exist_ok=True)
        values = data()
        stamped = {"Software": None, "Fingerprint": fingerprint(draw, values)}
        draw(*values).savefig(root / name, metadata=stamped)


def take_screenshots(root: Path) -> None:
    """Print the workbook below `root` with LibreOffice and save its pages as pictures."""
    if not (office.program() and shutil.which("pdftoppm")):
        raise RuntimeError("they need LibreOffice and pdftoppm")
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Fingerprint", cells_fingerprint(workbook.contents(root / WORKBOOK)))
    with tempfile.TemporaryDirectory() as folder:
        pages = office.screenshots(root / WORKBOOK, Path(folder))
        for name, (number, across, down) in SHEETS.items():
            page = Image.open(pages[number]).convert("RGB")
            page = page.crop((0, 0, round(across * page.width), round(down * page.height)))
            left, top, right, bottom = ImageChops.invert(page).getbbox()
            margins = left - 8, top - 8, min(right + 8, page.width), min(bottom + 8, page.height)
            page = page.crop(margins)
            page.save(root / name, optimize=True, pnginfo=notes)


def fingerprint(draw, data: tuple) -> str:
    """What a picture shows: how it is drawn, and the data to seven digits."""

    def numbers(item):
        if isinstance(item, dict):
            item = (*item.keys(), *item.values())
        if isinstance(item, tuple):
            return " ".join(map(numbers, item))
        return " ".join(f"{number:.6e}" for number in np.ravel(item))

    return hashlib.sha256((inspect.getsource(draw) + numbers(data)).encode()).hexdigest()


def cells_fingerprint(cells: dict) -> str:
    """What a workbook holds, short of the values that follow from its formulas."""
    kept = sorted((where, what) for where, what in cells.items() if isinstance(where, str))
    return hashlib.sha256(repr(kept).encode()).hexdigest()


def stamp(picture: Path) -> str | None:
    """The fingerprint inside a PNG, if it is one and has it."""
    try:
        return Image.open(picture).info.get("Fingerprint")
    except OSError:
        return None
