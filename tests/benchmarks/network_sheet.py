"""How far network.xlsx, recalculated by LibreOffice and Gnumeric, is from PyTorch in float64.

python -m tests.benchmarks.network_sheet

Fifteen inputs: five test digits, a blank field, a full one, and eight of random ink. For each, the
largest difference of all activations, logits, the loss and all gradients; and the seconds that the
program took to open the workbook, calculate it and save it.
"""

import csv
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from xlsxwriter.utility import xl_rowcol_to_cell

from backprop import network_sheet, office
from backprop.network_sheet import DRAW, DRAWING, HEAD, HEADS, stages_of
from s4lib.data import MNIST_MEAN, MNIST_STD
from s4lib.model import MNISTNet
from s4lib.runtime.checkpoint import load_weights

WORKBOOK = Path(__file__).parents[2] / "backprop/network.xlsx"
FILLED = re.compile(
    r'<c r="([A-Z]+\d+)"([^>]*)>\s*(?:<f[^>]*/>|<f[^>]*>[^<]*</f>)?\s*<v>([^<]*)</v>\s*</c>'
)


# Every sheet to a file, comma-separated, with numbers as they are and not as they are shown.
TABLES = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false,false,false,-1"


def by_libreoffice(books, folder) -> list[dict]:
    """What LibreOffice calculates of each workbook, in one start, as `read` returns it."""
    made = [folder / f"{book.stem}-{HEAD}.csv" for book in books]
    office.run(["--convert-to", TABLES, "--outdir", str(folder), *map(str, books)], made, 900)
    return [read_tables(folder, book.stem) for book in books]


def by_gnumeric(books, folder) -> list[dict]:
    """The same by Gnumeric."""
    for book in books:
        command = ["ssconvert", "-S", book, folder / f"{book.stem}-%s.csv"]
        subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    return [read_tables(folder, book.stem) for book in books]


def read_tables(folder, stem) -> dict[str, dict[str, float]]:
    """The numbers of files that are named after a workbook and its sheets."""
    found = {}
    for path in folder.glob(f"{stem}-*.csv"):
        cells = found[path.stem.removeprefix(f"{stem}-")] = {}
        with path.open(newline="", encoding="utf-8") as lines:
            for row, values in enumerate(csv.reader(lines)):
                for column, value in enumerate(values):
                    if value and value[-1].isdigit():
                        with suppress(ValueError):  # a word
                            cells[xl_rowcol_to_cell(row, column)] = float(value)
    return found


def engines() -> dict:
    """The programs that are installed."""
    found = {"LibreOffice": by_libreoffice} if office.program() else {}
    return found | ({"Gnumeric": by_gnumeric} if shutil.which("ssconvert") else {})


def sheets(path) -> dict[str, str]:
    """The XML of every worksheet, by its title."""
    with zipfile.ZipFile(path) as book:
        links = book.read("xl/_rels/workbook.xml.rels").decode()
        links = {
            re.search(r'\bId="([^"]+)"', link)[1]: re.search(r'\bTarget="/?(?:xl/)?([^"]+)"', link)[
                1
            ]
            for link in re.findall("<Relationship .*?>", links)
        }
        titles = re.findall(r"<sheet .*?>", book.read("xl/workbook.xml").decode())
        return {
            re.search(r'name="([^"]+)"', title)[1]: book.read(
                "xl/" + links[re.search(r'r:id="([^"]+)"', title)[1]]
            ).decode()
            for title in titles
        }


def read(path) -> dict[str, dict[str, float]]:
    """The numbers of every sheet by their addresses; a word is not a number."""
    return {
        title: {
            cell: float(value)
            for cell, style, value in FILLED.findall(text)
            if not re.search(r't="(?:s|str|e|b)"', style) and value
        }
        for title, text in sheets(path).items()
    }


def edit(source, target, changes=None) -> Path:
    """A copy of a workbook without any formula's value, in which some cells hold other numbers.

    `changes` are {sheet: {address: number}}; each cell must be there, blank or with a number.
    """
    titles = {text: title for title, text in sheets(source).items()}
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            text = old.read(part)
            if part.startswith("xl/worksheets/sheet"):
                text = text.decode()
                wanted = dict((changes or {}).get(titles[text], {}))

                def put(match, wanted=wanted):
                    if match[1] not in wanted:
                        return match[0]
                    return f'<c r="{match[1]}"{match[2]}><v>{wanted.pop(match[1])!r}</v></c>'

                text = re.sub("(</f>)<v>[^<]*</v>", r"\1", text)
                if wanted:
                    pattern = r'<c r="([A-Z]+\d+)"( s="\d+")?(?:/>|><v>[^<]*</v></c>)'
                    text = re.sub(pattern, put, text)
                assert not wanted, f"{titles} has no such cells: {wanted}"
            new.writestr(part, text)
    return target


def named(path) -> dict[str, tuple[str, str]]:
    """The sheet and the address of every defined name."""
    with zipfile.ZipFile(path) as book:
        text = book.read("xl/workbook.xml").decode().replace("$", "")
    found = re.findall(r'<definedName name="(\w+)">\'?(.+?)\'?!([A-Z0-9:]+)<', text)
    return {name: (sheet, cells) for name, sheet, cells in found}


def typed(path, choice=0, label=0, drawing=()) -> dict[str, dict[str, float]]:
    """The changes that a reader would type: which digit to read, its label, and a drawing."""
    names = named(path)
    cells = {names["choice"][1]: choice, names["label"][1]: label}
    drawn = np.asarray(drawing).ravel()
    cells |= {cell.split("!")[1]: int(ink) for cell, ink in zip(DRAWING.flat, drawn, strict=False)}
    return {DRAW: cells}


def numbers_of(book, model) -> dict[str, np.ndarray]:
    """What a workbook that was read gives: maps, the head's numbers, and all gradients."""

    def array(cells):
        places = [re.sub("['$]", "", cell).split("!") for cell in cells.flat]
        return np.array([book[s].get(cell, np.nan) for s, cell in places]).reshape(cells.shape)

    found = {name: array(cells) for name, cells in HEADS.items()}
    stages = stages_of(model)
    for stage in stages:
        if stage.name not in ("gap", "fc"):
            found |= {stage.name: array(stage.out.pictures)}
            found |= {f"d {stage.name}": array(stage.dout.pictures)}
        learned = {symbol: own for symbol, own in stage.names.items() if "running" not in own}
        found |= {f"d {own}": array(stage.grads[symbol]) for symbol, own in learned.items()}
    return found


def by_autograd(model, ink, label, rate=network_sheet.LEARNING_RATE) -> dict[str, np.ndarray]:
    """The same by PyTorch, of a model in float64 and in evaluation mode."""
    image = (torch.as_tensor(np.asarray(ink), dtype=torch.float64) / 255 - MNIST_MEAN) / MNIST_STD
    given = {"image": image[None, None].requires_grad_(), **dict(model.named_parameters())}
    kept = {"image": given["image"]}
    layers = [(name, layer) for name, layer in model.named_modules() if not any(layer.children())]
    hooks, last = [], {"": None}

    def keep(name, layer):
        def hook(_, __, result):
            kind = type(layer).__name__
            if kind in ("Conv2d", "MaxPool2d"):
                last[""] = name
            if kind in ("Conv2d", "MaxPool2d", "BatchNorm2d"):
                kept[f"d {last['']}"] = result
            if kind in ("MaxPool2d", "ReLU"):
                kept[last[""]] = result
            if name in ("gap", "fc"):
                kept[name] = result

        hooks.append(layer.register_forward_hook(hook))

    for name, layer in layers:
        if isinstance(layer, torch.nn.ReLU):
            layer.inplace = False
        keep(name, layer)
    log_probs = model(given["image"])
    for hook in hooks:
        hook.remove()
    loss = F.nll_loss(log_probs, torch.tensor([label]))
    wanted = {f"d {name}": tensor for name, tensor in given.items()}
    wanted |= {name: tensor for name, tensor in kept.items() if name.startswith("d ")}
    wanted |= {"d_gap": kept["gap"], "d_logits": kept["fc"]}
    grads = torch.autograd.grad(loss, [*wanted.values()])
    found = dict(zip(wanted, grads, strict=True))
    found |= {n: t for n, t in kept.items() if n not in ("gap", "fc") and not n.startswith("d ")}
    found["digit"] = torch.arange(10)
    weight, bias = (p - rate * found[f"d fc.{n}"] for n, p in model.fc.named_parameters())
    gap, logits = kept["gap"].flatten(), kept["fc"][0]
    new = gap @ weight.T + bias
    found |= {"gap": gap, "logits": logits, "log_probs": log_probs, "loss": loss.reshape(1)}
    found["probabilities"] = log_probs.exp()
    found |= {"exponentials": (logits - logits.max()).exp(), "new_logits": new}
    found |= {"new_exponentials": (new - new.max()).exp(), "new_probabilities": new.softmax(0)}
    return {name: tensor.detach().numpy().squeeze() for name, tensor in found.items()}


def differences(found, expected) -> dict[str, float]:
    """How far apart they are, by name: the largest difference, of a number above 1 relative."""
    assert found.keys() == expected.keys()
    return {
        name: np.max(abs(found[name].squeeze() - value) / np.maximum(1, abs(value)))
        for name, value in expected.items()
    }


def shipped():
    """The shipped network in float64, in evaluation mode."""
    return load_weights(MNISTNet()).double().eval()


def main() -> int:
    if not engines():
        print("This needs LibreOffice or Gnumeric, and neither is installed.", file=sys.stderr)
        return 2
    images, labels = network_sheet.stored_digits()
    rng = np.random.default_rng(0)
    inputs = {f"digit {k}": (k, images[k - 1], labels[k - 1]) for k in (1, 5, 10, 12, 17)}
    inputs |= {"blank": (0, np.zeros((28, 28)), 3), "full": (0, np.full((28, 28), 255), 8)}
    for k in range(8):
        inputs[f"random {k}"] = 0, rng.integers(0, 256, (28, 28)), int(rng.integers(10))
    model, worst = shipped(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, (choice, ink, label) in inputs.items():
            changes = typed(WORKBOOK, choice, label, () if choice else ink)
            book = edit(WORKBOOK, Path(folder, "edited.xlsx"), changes)
            expected = by_autograd(model, ink, label)
            for engine, recalculate in engines().items():
                Path(folder, engine).mkdir(exist_ok=True)
                started = time.perf_counter()
                (made,) = recalculate([book], Path(folder, engine))
                seconds = time.perf_counter() - started
                apart = differences(numbers_of(made, model), expected)
                where = max(apart, key=apart.get)
                worst = max(worst, apart[where])
                print(
                    f"{name:10} {engine:12} {apart[where]:.1e} ({where}) {seconds:5.1f} s",
                    flush=True,
                )
    print(f"largest difference: {worst:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
