"""network.xlsx: recalculated, it is PyTorch's network to 1e-9, activations and gradients alike."""

import inspect
import re
import zipfile

import numpy as np
import pytest
import torch

from backprop import layers, network_sheet
from backprop.network_sheet import DRAW, FORMULAS, stages_of, stored_digits
from tests.benchmarks.network_sheet import (
    WORKBOOK,
    by_autograd,
    differences,
    edit,
    engines,
    named,
    numbers_of,
    read,
    sheets,
    shipped,
    typed,
)

FUNCTIONS = {  # that Excel, LibreOffice, Gnumeric and Google Sheets all have
    *("AVERAGE", "EXP", "IF", "INDEX", "LN", "MATCH", "MAX", "MIN", "N", "REPT", "ROUND"),
    *("SQRT", "SUM", "SUMPRODUCT"),
}
NAMES = ("ink", "logits", "log_probs", "probabilities", "label", "loss", "d_logits", "choice")
CHANGED = {  # in the sheet of a stage's weights: which number, and what it becomes
    ("block1.conv2", "kernels", (3, 5, 0, 2)): 1.5,
    ("transition2.conv", "kernels", (1, 30, 0, 0)): -1.5,
    ("fc", "kernels", (4, 7, 0, 0)): 1.5,
    ("block2.conv1", "γ", (6, 0, 0, 0)): -0.7,
}


@pytest.fixture(scope="module")
def text():
    """The XML of every sheet as committed."""
    return sheets(WORKBOOK)


@pytest.fixture(scope="module")
def kept():
    """The numbers that the committed workbook shows where nothing calculates."""
    return read(WORKBOOK)


def other_network():
    """The shipped network with some weights changed, and the cells that change them."""
    model, cells = shipped(), {}
    state = model.state_dict()
    stages = {stage.name: stage for stage in stages_of(model)}
    for (name, symbol, at), value in CHANGED.items():
        stage = stages[name]
        state[stage.names[symbol]].view(stage.weights[symbol].shape)[at] = value
        sheet, cell = re.sub("['$]", "", stage.weights[symbol][at]).split("!")
        cells.setdefault(sheet, {})[cell] = value
    return model, cells


@pytest.mark.parametrize("engine", ["LibreOffice", "Gnumeric"])
def test_a_spreadsheet_program_gets_what_pytorch_gets(engine, tmp_path):
    """A misread digit: drawn, with other weights, or chosen by its number; the benchmark has both
    programs do fifteen inputs.
    """
    if engine not in engines():
        pytest.skip(f"{engine} is not installed, so it cannot recalculate the workbook")
    images, labels = stored_digits()
    ink, label = images[10], labels[10]
    model, changes = shipped(), typed(WORKBOOK, 11, label)
    if engine == "LibreOffice":
        model, cells = other_network()
        changes = typed(WORKBOOK, 0, label, ink) | cells
    (made,) = engines()[engine]([edit(WORKBOOK, tmp_path / "edited.xlsx", changes)], tmp_path)
    apart = differences(numbers_of(made, model), by_autograd(model, ink, label))
    assert np.max([*apart.values()]) < 1e-9, apart


def test_the_kept_values_are_pytorchs(kept):
    """Seven digits of each are kept, and every parameter has a gradient."""
    images, labels = stored_digits()
    at = network_sheet.CHOICE - 1
    found, model = numbers_of(kept, shipped()), shipped()
    apart = differences(found, by_autograd(model, images[at], labels[at]))
    assert np.max([*apart.values()]) < 1e-6, apart
    assert sum(found[f"d {name}"].size for name, _ in model.named_parameters()) == 17_498


def test_other_weights_change_what_they_must():
    """The comparison above can tell them: each changed weight alone moves the logits."""
    images, labels = stored_digits()
    ink, label = images[10], labels[10]
    before = by_autograd(shipped(), ink, label)
    changed, _ = other_network()
    for name, parameter in changed.named_parameters():
        model = shipped()
        if torch.equal(parameter, model.get_parameter(name)):
            continue
        with torch.no_grad():
            model.get_parameter(name).copy_(parameter)
        assert np.max([*differences(by_autograd(model, ink, label), before).values()]) > 1e-6, name


def test_every_weight_is_a_number_that_one_may_change_and_all_else_is_a_formula(text):
    """On the sheets of maps and gradients there is no number but what a formula gives."""
    model, numbers = shipped(), 0
    for title, sheet in text.items():
        typed_in = re.findall(r'<c r="[A-Z]+\d+" s="\d+"><v>', sheet)
        if title.endswith(".weight") and not title.startswith("d "):
            numbers += len(typed_in)
        elif title not in (DRAW, "head", "digits"):
            assert not typed_in, title
    running = sum(b.numel() for n, b in model.named_buffers() if "running" in n)
    assert numbers == sum(p.numel() for p in model.parameters()) + running
    assert sum(p.numel() for p in model.parameters()) == 17_498


def test_only_functions_that_every_spreadsheet_has(text):
    """Read from every formula; no arrays that spill, no other workbooks, no macros."""
    used = set()
    for sheet in text.values():
        formulas = "\n".join(re.findall(r"<f>([^<]*)</f>", sheet))
        assert "[" not in formulas
        assert "<f " not in sheet
        assert "hyperlink" not in sheet
        used |= set(re.findall(r"([A-Z][A-Z.0-9]*)\(", formulas))
    assert used == FUNCTIONS
    with zipfile.ZipFile(WORKBOOK) as book:
        assert not [n for n in book.namelist() if "external" in n or "vba" in n.lower()]


def test_it_is_small_enough_for_every_program(text):
    """3 MB, with room for other weights; and 1,024 columns, as many as LibreOffice had to 7.4."""
    assert WORKBOOK.stat().st_size < 2_850_000
    for sheet in text.values():
        wide = [column for column in re.findall(r'<c r="([A-Z]{3})\d', sheet)]
        assert max(wide, default="") < "AMK"


def test_its_formulas_come_in_the_order_of_layers_py():
    own = {"conv": "conv", "norm": "batch_norm", "relu": "relu", "pool": "max_pool"}
    own |= {"gap": "global_average_pool"}
    source = inspect.getsource(layers)
    kinds = [name.split()[0] for name in FORMULAS if name.split()[0] in own]
    places = [source.index(f"def {own[kind]}_forward") for kind in kinds]
    assert places == sorted(places)
    assert {*kinds} == {*own}


def test_names(kept):
    names = named(WORKBOOK)
    assert set(NAMES) <= set(names)
    assert names["ink"] == (DRAW, "AE4:BF31")
    sheet, cell = names["loss"]
    assert kept[sheet][cell] > 0


def test_the_first_sheet_fits_a_laptops_screen(text):
    """1366×768 at 100%: of these, a spreadsheet program leaves some 1310×440 pixels for cells."""
    sheet = text[DRAW]
    width = 0
    for first, last, size in re.findall(r'<col min="(\d+)" max="(\d+)" width="([\d.]+)"', sheet):
        width += (int(last) - int(first) + 1) * int(float(size) * 7 + 0.5)
    assert 1200 < width < 1320
    (default,) = re.findall(r'<sheetFormatPr [^>]*defaultRowHeight="([\d.]+)"', sheet)
    own = [float(h) for h in re.findall(r'<row r="[123]"[^>]* ht="([\d.]+)"', sheet)]
    assert len(own) == 3
    assert (sum(own) + 28 * float(default)) / 0.75 < 440  # a point is 4/3 pixels


def test_what_may_be_typed_is_validated(text):
    rules = re.findall(
        r'<dataValidation [^>]*sqref="([A-Z0-9:]+)"[^>]*>(?:<formula1>(\d+))?', text[DRAW]
    )
    rules = dict(rules)
    names = named(WORKBOOK)
    assert {names["drawing"][1], names["choice"][1], names["label"][1]} <= set(rules)
    assert names["learning_rate"][1] in rules


def test_the_page_quotes_formulas_of_the_workbook(text):
    """Its cells are there and, with names for the cells of the weights, hold what it says."""
    page = (WORKBOOK.parent / "LAYERS.md").read_text("utf-8")
    rows = re.findall(r"^\| `(.+?)` \| ([A-Z]+\d+) \| `(.+?)` \|$", page, re.M)
    quoted = re.findall(r"^- `(d .+?)`, ([A-Z]+\d+): `(.+?)`", page, re.M)
    assert len(rows) > 10
    assert len(quoted) == 2
    for sheet, cell, formula in rows + quoted:
        (found,) = re.findall(rf'<c r="{cell}"[^>]*><f>([^<]*)</f>', text[sheet])
        found = found.replace("&gt;", ">")
        for column, name in zip("BCDEG", ("bias", "γ", "β", "μ", "σ"), strict=True):
            found = re.sub(rf"'[\w.]+\.weight'!\${column}\$6(?!:)", name, found)
        found = re.sub(r"'[\w.]+\.weight'!\$I\$6:\$[A-Z]+\$\d+", "kernel", found)
        found = re.sub(r"'[\w.]+\.weight'!\$[A-Z]+\$6:\$[A-Z]+\$\d+", "flipped", found)
        assert found == formula
