"""A run is known by what its author wrote, in every process, and what has changed is named."""

import os
import runpy
from dataclasses import replace
from pathlib import Path

import nbclient
import nbformat
import pytest
from torch import nn

from s4lib.runtime.identity import differences, identify
from tests.faults import few_digits
from tests.test_history import history

ROOT = Path(__file__).parents[1]
NETWORK = '''
import torch
import torch.nn.functional as F
from torch import nn

SLOPE = 0.1
SHIFTS, SHAPE, SEEN = [0.5, 0.25], {"flat": 1, "kinds": {"a", "b"}}, []


class Scale:
    def __call__(self, x):
        return x / 3


scale = Scale()


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def doubled(x):
    return x * 2


def squashed(x):
    return torch.tanh(doubled(x))


def noted(method):
    def noting(self, x):
        self.calls += 1
        return method(self, x)

    return noting


class Pooled(nn.Module):
    side = 4

    def pool(self, x):
        """Of the image."""
        return F.max_pool2d(x, self.side)


class Net(Pooled):
    def __init__(self, kind="relu"):
        super().__init__()
        self.kind, self.calls = kind, 0
        self.activations = (F.relu, F.gelu)
        self.fc = nn.Linear(49, 10)

    @property
    def head(self):
        return self.fc

    @noted
    def forward(self, x):
        x = scale(self.pool(x)).flatten(1)  # (N, 49)
        x = x + SHIFTS[0] + SHAPE["flat"]
        SEEN.append(float(x.sum()))
        if self.kind in {"relu", "gelu", "silu"}:
            x = torch.cat([self.activations[0](part) for part in [squashed(x)]])
        return F.log_softmax(Straight.apply(self.head(x)) + SLOPE * x[:, :10], 1)
'''
LAYER = "Linear(in_features=49, out_features=10, bias={})"
CHANGES = [
    ("  # (N, 49)", "  # of 49 numbers each\n", ""),
    ('"""Of the image."""', '"""Of all images."""', ""),
    ("flatten(1)", "flatten(start_dim=1)", "another Net.forward()"),
    ("activations[0]", "activations[1]", "another Net.forward()"),
    ("F.max_pool2d", "F.avg_pool2d", "another Pooled.pool()"),
    ("return self.fc", "return self.fc.float()", "another Net.head()"),
    ("torch.tanh", "torch.sin", "another squashed()"),
    ("x * 2", "x * 3", "another doubled()"),
    ("x.round()", "x.floor()", "another Straight.forward()"),
    ("calls += 1", "calls += 2", "another noted(); another noting()"),
    ("SLOPE = 0.1", "SLOPE = 0.2", "constant SLOPE 0.1, not 0.2"),
    ("side = 4", "side = 5", "Net.side 4, not 5"),
    ("[0.5, 0.25]", "[0.5, 0.2]", "another constant SHIFTS"),
    ('{"a", "b"}', '{"a", "c"}', "another constant SHAPE"),
    ('{"a", "b"}', '{"b", "a"}', ""),
    ("x / 3", "x / 4", "another Scale.__call__()"),
    (
        "(49, 10)",
        "(49, 10, bias=False)",
        f"layer fc {LAYER.format(True)}, not {LAYER.format(False)}; another Net.__init__()",
    ),
]


@pytest.fixture(scope="module")
def few(digits):
    return few_digits(digits, 40, 20)


@pytest.fixture
def identity(few, tmp_path):
    """Return what identifies `Net` of a source text."""

    def known_by(source, *arguments):
        path = tmp_path / f"{len([*tmp_path.iterdir()])}.py"
        path.write_text(source)
        return identify(runpy.run_path(str(path))["Net"](*arguments), few, history([99]))

    return known_by


@pytest.mark.parametrize(("old", "new", "words"), CHANGES)
def test_what_the_author_has_changed_is_named(old, new, words, identity):
    assert differences(identity(NETWORK), identity(NETWORK.replace(old, new))) == words


def test_settings_belong_to_a_network_and_its_state_does_not(identity, few):
    known = identity(NETWORK)
    assert differences(known, identity(NETWORK, "gelu")) == "Net.kind relu, not gelu"
    assert known["Net.kind"] == "relu"
    assert not {"Net.calls", "constant SEEN"} & {*known}


def test_a_function_that_makes_a_network_is_known_by_what_its_classes_take_from_it(few):
    def make(slope, act):
        class Net(nn.Module):
            def forward(self, x):
                return act(slope * x)

        return identify(Net(), few, history([99]))

    def other(x):
        return x + 1

    def same(x):
        return x

    assert differences(make(1, same), make(1, same)) == ""
    assert differences(make(1, same), make(2, same)) == "constant slope 1, not 2"
    assert differences(make(1, same), make(1, other)) == "another same(); another other()"


def test_a_network_without_a_source_is_known_by_its_layers(few):
    def known_by(source):
        names = {"__name__": "nowhere"}
        exec(source, names)
        return identify(names["Net"](), few, history([99]))

    known = known_by(NETWORK)
    assert not [name for name in known if "()" in name]
    assert differences(known, known_by(NETWORK.replace("flatten(1)", "flatten(2)"))) == ""
    wider = known_by(NETWORK.replace("(49, 10)", "(49, 11)"))
    assert differences(known, wider).startswith("layer fc Linear(in_features=49, out_features=10,")


def test_normalisation_belongs_to_a_run(few):
    net, run = nn.Linear(1, 1), history([99])
    known = identify(net, few, run)
    other = identify(net, replace(few, mean=0.5, std=0.25), run)
    assert differences(known, other) == (
        f"mean {known['mean']}, not 0.5; standard deviation {known['standard deviation']}, not 0.25"
    )
    last_bit = identify(net, replace(few, mean=few.mean * (1 + 1e-15)), run)
    assert differences(known, last_bit) == ""


def test_of_many_differences_the_first_are_named():
    saved, own = ({str(n): n + add for n in range(9)} for add in (0, 1))
    assert differences(saved, own) == (
        "0 0, not 1; 1 1, not 2; 2 2, not 3; 3 3, not 4; 5 more differences"
    )


TRAIN = """
import torch
from s4lib import CLASSIC, Dataset, UsageError, fit
pixels, labels = torch.arange(20 * 28 * 28) % 251, torch.arange(20) % 10
pairs = pixels.view(20, 1, 28, 28).byte(), labels
try:
    recipe = CLASSIC.adjusted(epochs=1, batch_size=10)
    _, run = fit(Net, Dataset("stripes", pairs, pairs), recipe, 0, "cpu", folder)
    print(f"{len(run.epochs)} epoch")
except UsageError as error:
    print(error)
"""


def test_a_kernel_continues_the_run_of_a_file_unless_the_network_has_changed(tmp_path):
    """Another process orders sets otherwise, and a cell has its source elsewhere than a file."""
    (tmp_path / "net.py").write_text(NETWORK)
    exec(TRAIN, {**runpy.run_path(str(tmp_path / "net.py")), "folder": tmp_path / "run"})
    changed = NETWORK.replace("torch.tanh", "torch.sin").replace("flatten(1)", "flatten(-3)")
    cells = [f"folder = 'run'\n{NETWORK}", TRAIN, changed, TRAIN, NETWORK, TRAIN]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in cells])
    client = nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed})
    first, second, third = (
        "".join(output["text"] for output in cell["outputs"] if output["name"] == "stdout")
        for cell in notebook["cells"][1::2]
    )
    for text in (first, third):
        assert "Epoch" not in text
        assert text.endswith("\n1 epoch\n")
    assert "run holds a run with another Net.forward(); another squashed().\n" in second
