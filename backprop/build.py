"""Build the workbooks and the pictures, or report whether the existing ones are current.

All files are made in a temporary folder and then moved into place one by one, so that a failure
leaves the old ones whole.

A picture carries, in its PNG metadata, a fingerprint of what it shows: every artist's
words, numbers, colours and lines, or the workbook's formulas and styles. Comparing fingerprints
rather than pixels keeps other versions of matplotlib, LibreOffice and fonts from mattering.
"""

import hashlib
import io
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

from backprop import layer_plots, network_sheet, office, playground, plots, workbook
from backprop.network import RATES, WEIGHTS, errors, train

WORKBOOK = "backprop/backpropagation.xlsx"
NETWORK = "backprop/network.xlsx"
DIAGRAM = "images/backprop_network.png"


def error_curves():
    """Return the curve of E_total for each of the six rates."""
    return plots.error_curves({rate: train(rate)["E_total"] for rate in RATES})


def error_surface():
    """Return the plane where w6 − w5, w8 − w7 and w1 … w4 stay as they begin, and six paths."""
    w1, w2, w3, w4, w5, w6, w7, w8 = WEIGHTS
    x, y = np.linspace(-3, 1, 81), np.linspace(0, 3, 61)
    across, up = np.meshgrid(x, y)
    E_total = errors(weights=(w1, w2, w3, w4, across, across + w6 - w5, up, up + w8 - w7))[2]
    tables = {rate: train(rate) for rate in RATES}
    paths = {rate: np.stack([table["w5"], table["w7"]], 1) for rate, table in tables.items()}
    return plots.error_surface(x, y, E_total, paths)


PICTURES = {
    "images/backprop_smallest.png": plots.smallest_example,
    DIAGRAM: plots.network_diagram,
    "images/backprop_gradients.png": plots.gradients_diagram,
    "images/backprop_error_curves.png": error_curves,
    "images/backprop_error_surface.png": error_surface,
    "images/backprop_larger_rates.png": plots.larger_rates,
    "images/byhand_convolution.png": layer_plots.convolution,
    "images/byhand_pooling.png": layer_plots.pooling,
    "images/byhand_batch_norm.png": layer_plots.batch_norm,
}

# Picture: the workbook, the page of it when printed, and the part of this page: left, top, right
# and bottom as fractions. The first sheet is too wide to be legible as a whole.
WHOLE = (0, 0, 1, 0.93)
SHEETS = {
    "images/backprop_sheet_by_hand.png": (WORKBOOK, 0, (0.5, 0, 1, 0.537)),
    "images/network_sheet.png": (NETWORK, 0, WHOLE),
    "images/network_sheet_forward.png": (NETWORK, 7, WHOLE),
}


def make(root: Path) -> list[str]:
    """Make every file below `root` except pictures of the sheets, and return their names.

    The network's sheet has no values yet: a spreadsheet program has to calculate them.
    """
    for folder in ("backprop", "images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        figure = draw()
        figure.savefig(root / name, metadata={"Software": None, "Fingerprint": fingerprint(figure)})
    workbook.build(root / WORKBOOK, root / DIAGRAM)
    network_sheet.build(root / NETWORK)
    (root / playground.PAGE).write_text(playground.page(), "utf-8")
    return [*PICTURES, WORKBOOK, NETWORK, playground.PAGE]


def build(root: Path) -> None:
    """Make every file below `root` again and print a line for each.

    Raises OSError if a folder cannot be written to.
    """
    for folder in ("backprop", "images"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".backprop-") as folder:
        made, failure = Path(folder), ""
        names = make(made)
        try:
            network_sheet.keep_values(made / NETWORK)
            take_screenshots(made)
            names += SHEETS
        except (RuntimeError, subprocess.SubprocessError) as problem:
            names.remove(NETWORK)
            failure = f"left {NETWORK} and the pictures of the sheets as they were: {problem}\n"
        for name in names:
            (made / name).replace(root / name)
            print(f"wrote {name}")
        print(failure, end="")


def check(root: Path) -> bool:
    """Print for every file whether it is what `build` would make; return True if all are."""
    all_current = True
    with tempfile.TemporaryDirectory() as made:
        stamps = {name: stamp(Path(made, name)) for name in make(Path(made))}
        stamps |= {name: stamps[book] for name, (book, *_) in SHEETS.items()}
        for name, new in stamps.items():
            current = stamp(root / name) == new
            there = "not current" if (root / name).exists() else "missing"
            print(f"{name}: {'current' if current else there}")
            all_current &= current
    return all_current


# What a figure shows, except the ticks' places and labels, which depend on matplotlib's version.
SHOWN = {
    Axes: ("xlim", "ylim", "xscale", "yscale"),
    Collection: ("paths", "facecolor", "edgecolor", "linewidth"),
    Line2D: ("xydata", "color", "linewidth", "linestyle", "marker", "alpha"),
    Patch: ("path", "facecolor", "edgecolor", "linewidth", "linestyle", "hatch"),
    Text: ("text", "position", "color", "fontsize"),
}


def fingerprint(figure) -> str:
    """Return a hash of all that a figure shows, with numbers to six digits."""
    shown = [digits(figure.get_size_inches())]
    for artist in artists(figure):
        for kind, properties in SHOWN.items():
            if isinstance(artist, kind):
                shown += [digits(getattr(artist, f"get_{name}")()) for name in properties]
        if isinstance(artist, Patch):
            shown.append(digits(artist.get_patch_transform().get_matrix()))
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def artists(artist):
    """Return an artist and all its parts; for an axis only the label and the first tick."""
    yield artist
    axis = isinstance(artist, Axis)
    for child in [artist.label, *artist.get_major_ticks(1)] if axis else artist.get_children():
        yield from artists(child)


def digits(item) -> str:
    """Return words unchanged, numbers to six digits, and paths as their vertices."""
    item = getattr(item, "vertices", item)
    if isinstance(item, list | tuple):
        return " ".join(map(digits, item))
    if isinstance(item, str) or item is None:
        return str(item)
    return " ".join(f"{number:.6g}" for number in np.ravel(item))


def stamp(path: Path) -> str | None:
    """Return the fingerprint of a picture or a workbook; a page is its own fingerprint.

    A workbook's fingerprint covers all that is in it except the values of its formulas, and the
    widths of columns, which versions of XlsxWriter round differently.
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
            part = re.sub(rb'( t="str")?(><f>[^<]*</f>)(<v>[^<]*</v>)?', rb"\2", part)
            parts[name] = re.sub(rb'<c:v>[^<]*| width="[^"]*"', b"", part)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def take_screenshots(root: Path) -> None:
    """Print the workbooks below `root` with LibreOffice and save pages of them as pictures."""
    if not (office.program() and shutil.which("pdftoppm")):
        raise RuntimeError("they need LibreOffice and pdftoppm")
    with tempfile.TemporaryDirectory() as folder:
        stamps = {book: stamp(root / book) for book in (WORKBOOK, NETWORK)}
        converted = office.convert("pdf", [root / book for book in stamps], Path(folder))
        printed = dict(zip(stamps, converted, strict=True))
        for name, (book, number, box) in SHEETS.items():
            page = photograph(printed[book], number)
            picture = page.crop(tuple(np.multiply(box, [*page.size, *page.size]).round()))
            picture = picture.crop(ImageChops.invert(picture).getbbox())
            picture = ImageOps.expand(picture, border=8, fill="white")
            notes = PngImagePlugin.PngInfo()
            notes.add_text("Fingerprint", stamps[book])
            picture.save(root / name, optimize=True, pnginfo=notes)


def photograph(printed: Path, number: int) -> Image.Image:
    """Return the page of a PDF with this number, from 0."""
    page = ["-f", str(number + 1), "-singlefile", printed, printed.with_suffix("")]
    subprocess.run(["pdftoppm", "-r", "150", "-png", *page], check=True)
    return Image.open(printed.with_suffix(".png")).convert("RGB")
