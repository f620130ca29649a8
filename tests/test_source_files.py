"""Files and notebooks as students have them: the network is found, and nothing else is executed."""

import json
import sys
from pathlib import Path

import pytest

from notebooks.assignment.source_files import errors_of, import_network
from s4lib import UsageError
from s4lib.train import make_network

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super(Net, self).__init__()
        self.conv = nn.Conv2d(1, 10, 28, bias=False)

    def forward(self, x):
        return F.log_softmax(self.conv(x).view(-1, 10))
"""
STOP = "raise SystemExit('executed')\n"
READING = NET.replace("Conv2d(1, 10, 28, ", "Conv2d(1, WIDTH, 28, ")  # which is 10 somewhere
ALONE = HEAD + READING


def notebook(*cells: str) -> str:
    """A notebook with these code cells, between cells of text."""
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# A heading"]}
    code = [
        {"cell_type": "code", "metadata": {}, "outputs": [], "source": cell.splitlines(True)}
        for cell in cells
    ]
    return json.dumps({"cells": [text, *code], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


FILES = {  # each makes a network with ten channels
    "plain": HEAD + NET,
    "training follows": HEAD + NET + STOP,
    "training goes before": HEAD + STOP + NET,
    "main guard": HEAD + NET + "if __name__ == '__main__':\n    " + STOP,
    "a constant": HEAD + "WIDTH = 10\n" + READING,
    "constants of constants": HEAD + "BASE = 5\nWIDTH = 2 * BASE\n" + READING + STOP,
    "a constant after the class": ALONE + "WIDTH = 10\n",
    "a constant set again": HEAD + "WIDTH = 3\n" + READING + "WIDTH = 10\n",
    "two at once": HEAD + "WIDTH, DROP = 10, 0.1\n" + READING,
    "by a function": HEAD + "def double(x):\n    return 2 * x\nWIDTH = double(5)\n" + READING,
    "by a condition": HEAD + "if torch.cuda.is_available():\n    WIDTH = 10\nelse:\n"
    "    WIDTH = 10\n" + READING,
    "by a loop": HEAD + "WIDTH = 0\nfor _ in range(5):\n    WIDTH += 2\n" + READING,
    "by try": HEAD + "try:\n    WIDTH = int(nothing)\nexcept NameError:\n    WIDTH = 10\n"
    + READING,
    "in a dictionary": HEAD + "config = {}\nconfig['w'] = 10\n"
    + READING.replace("WIDTH", "config['w']"),
    "under the main guard": ALONE + "if __name__ == '__main__':\n    WIDTH = 10\n    " + STOP,
    "annotated": HEAD + "WIDTH: int = 10\n" + READING,
    "the command line": "import argparse\n" + HEAD + "parser = argparse.ArgumentParser()\n"
    "parser.add_argument('--width', type=int, default=10)\nargs = parser.parse_args()\n"
    + READING.replace("WIDTH", "args.width"),
    "the command line, main": "import argparse\n" + HEAD + READING.replace("WIDTH", "args.width")
    + "if __name__ == '__main__':\n    parser = argparse.ArgumentParser()\n"
    "    parser.add_argument('--width', type=int, default=10)\n    args = parser.parse_args()\n",
    "an import that is missing": HEAD + "from nothing_like_it import summary\n" + NET
    + "summary(Net(), (1, 28, 28))\n",
    "missing among others": "import nothing_like_it, torch\n" + HEAD + NET,
    "data at module level": HEAD + "from torchvision import datasets\n"
    "train = datasets.MNIST('/nowhere', download=True)\n" + NET,
    "opens a file": HEAD + "text = open('/nowhere').read()\n" + NET,
    "helper class": HEAD + "class Block(nn.Module):\n    def forward(self, x):\n        return x\n"
    + NET.replace("self.conv =", "self.block = Block()\n        self.conv ="),
    "helper with arguments": HEAD + "class Block(nn.Module):\n    def __init__(self, i, o):\n"
    "        super().__init__()\n        self.c = nn.Conv2d(i, o, 3)\n"
    "    def forward(self, x):\n        return self.c(x)\n" + NET,
    "a loss": HEAD + NET + "class Smooth(nn.Module):\n    def forward(self, x, target):\n"
    "        return F.nll_loss(x, target)\n",
    "an activation": HEAD + "class Swish(nn.Module):\n    def forward(self, x):\n"
    "        return x * x.sigmoid()\n" + NET,
    "the one that is made": HEAD + NET + NET.replace("Net", "Old").replace("10, 28", "7, 28")
    + "model = Net().to('cpu')\n",
    "a data set class": HEAD + "from torch.utils.data import Dataset\nclass Digits(Dataset):\n"
    "    def __init__(self):\n        self.data = open('/nowhere')\n" + NET,
    "a lambda": HEAD + NET.replace("(self):", "(self, width):", 1).replace("1, 10,", "1, width,")
    + "make = lambda: Net(10)\n",
    "a made network": HEAD + "net = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())\n" + STOP,
    "a made network with an own layer": HEAD + "class Lambda(nn.Module):\n"
    "    def __init__(self, function):\n        super().__init__()\n        self.call = function\n"
    "    def forward(self, x):\n        return self.call(x)\n"
    "net = nn.Sequential(nn.Conv2d(1, 10, 28), Lambda(lambda x: x.view(-1, 10)))\n" + STOP,
    "a function that makes it": HEAD
    + NET.replace("(self):", "(self, width):", 1).replace("1, 10,", "1, width,")
    + "def net10():\n    return Net(10)\ndef test():\n    net = net10()\n    raise SystemExit\n",
    "a generator of blocks": HEAD + "def block(i, o):\n    return nn.Conv2d(i, o, 28)\n"
    + NET.replace("nn.Conv2d(1, 10, 28, bias=False)", "block(1, 10)"),
    "set on the class": HEAD + "class Settings:\n    pass\nSettings.width = 10\n"
    + READING.replace("WIDTH", "Settings.width"),
    "from the future": "from __future__ import print_function\n" + HEAD + NET,
    "star import": "from math import *\n" + HEAD + READING.replace("WIDTH", "floor(pi) + 7"),
    "pip": HEAD + "!pip install torchsummary\n" + NET,
    "pip on two lines": "!pip install torchsummary \\\n    torchinfo\n" + HEAD + NET,
    "pip within if": HEAD + "if True:\n    !pip install x\n" + NET,
    "magics": "%matplotlib inline\n" + HEAD + "files = !ls\n" + NET + "Net?\n",
    "get_ipython": HEAD + "get_ipython().system('pip install torchsummary')\n" + NET,
    "drive": HEAD + "from google.colab import drive\ndrive.mount('/content/drive')\n" + NET,
    "a remainder": HEAD + "WIDTH = (21\n% 11)\n" + READING,
    "notebook": notebook(HEAD, NET, STOP),
    "notebook with magics": notebook("%%time\n" + HEAD, "!pip install x\n%cd /\n", NET, "%%sh\nls"),
    "notebook with an old version": notebook(HEAD, READING.replace("10", "7"), "WIDTH=10", READING),
    "notebook, constant in another cell": notebook(HEAD, "WIDTH = 10", READING, "train()"),
    "notebook with broken text": notebook(HEAD, "%%html\n<b>not Python</b>", NET),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _clean_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["check", "--unknown"])


@pytest.mark.parametrize("name", FILES)
def test_the_network_is_made_and_nothing_else_executed(name, capsys):
    file = "net.ipynb" if name.startswith("notebook") else "net.py"
    Path(file).write_text(FILES[name], "utf-8")
    _, make = import_network(f"{file}:make" if name == "a lambda" else file)
    assert next(make_network(make).parameters()).shape[:2] == (10, 1)
    assert ("left out" in capsys.readouterr().out) == (name.startswith(("pip", "magics")))


def test_a_notebook_saved_as_python_is_read():
    Path("net.py").write_text(notebook(HEAD, NET))
    assert next(make_network(import_network("net.py")[1]).parameters()).shape[0] == 10


def test_a_network_from_a_file_beside_it_can_be_meant_and_is_forgotten():
    for width in (10, 12):
        folder = Path(str(width))
        folder.mkdir()
        (folder / "model.py").write_text(HEAD + NET.replace("1, 10,", f"1, {width},"))
        (folder / "train.ipynb").write_text(notebook("from model import Net, nothing", STOP))
        for target in ("train.ipynb", "train.ipynb:Net"):
            _, make = import_network(f"{folder / target}")
            assert next(make_network(make).parameters()).shape[0] == width
    assert "model" not in sys.modules
    assert str(folder) not in sys.path


REFUSED = {
    "arguments": (
        HEAD + NET.replace("(self):", "(self, dropout, norm='bn'):", 1),
        "net.py: Net needs dropout. Add a function that makes the network with your values, such "
        "as\ndef make(): return Net(dropout=…)\nand check net.py:make",
    ),
    "arguments as the file has them": (
        HEAD + NET.replace("(self):", "(self, dropout):", 1) + "model = Net(0.05)\n",
        "\ndef make(): return Net(0.05)\nand check net.py:make",
    ),
    "read from data": (
        HEAD + "WIDTH = torch.load('/nowhere')\n" + READING,
        "net.py, line 4: WIDTH is made by torch.load(), which is not executed here, and the "
        "network reads it. Write its value down instead: WIDTH = …",
    ),
    "read by a function": (
        HEAD + "def width():\n    return len(open('/nowhere').read())\nWIDTH = width()\n" + READING,
        "net.py, line 6: WIDTH is made by open(), which is not executed here",
    ),
    "two networks": (HEAD + NET + NET.replace("Net", "Other"), "defines Net, Other. Say what"),
    "two functions that make one": (
        HEAD + NET.replace("(self):", "(self, width):", 1)
        + "def net1():\n    return Net(1)\ndef net2():\n    return Net(2)\n",
        "net.py defines net1, net2. Say what to check: net.py:Name",
    ),
    "none": (HEAD, "net.py defines no network. Say what to check: net.py:Name"),
    "syntax": (HEAD + NET + "print 'done'\n", "net.py, line 12: SyntaxError: Missing parentheses"),
    "broken notebook": ('{"cells": [', "net.py is not a notebook that can be read: "),
    "a constant that is nowhere": (ALONE, "net.py, line 8: NameError: name 'WIDTH' is not defined"),
    "a broken constant": (HEAD + "WIDTH = 1 / 0\n" + READING, "net.py, line 4: ZeroDivisionError"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_cause_and_the_way_out(name):
    source, message = REFUSED[name]
    Path("net.py").write_text(source)
    with pytest.raises(UsageError) as refused, errors_of(Path("net.py")):
        import_network("net.py")[1]()
    assert message in str(refused.value)
    assert "notebooks/assignment" not in str(refused.value)


def test_an_error_in_a_neighbour_names_that_file_and_line():
    Path("model.py").write_text("import torch\nwidth = missing\n")
    Path("net.py").write_text(
        HEAD + "from model import width\n" + READING.replace("WIDTH", "width")
    )
    with pytest.raises(UsageError, match=r"^model\.py, line 2: NameError: "):
        import_network("net.py")


def test_an_error_in_a_notebook_names_cell_and_line():
    Path("net.ipynb").write_text(notebook(HEAD, "x = 1\n" + READING))
    named = pytest.raises(UsageError, match=r"^net\.ipynb, cell 2, line 6: NameError: ")
    with named, errors_of(Path("net.ipynb")):
        import_network("net.ipynb")[1]()
