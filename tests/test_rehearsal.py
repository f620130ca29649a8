"""Before training: a layout in which the network trains, and a line for what would stop it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from s4lib import CLASSIC, UsageError, fit
from s4lib.runtime.device import MixedPrecision
from s4lib.runtime.rehearsal import copied, memory_format
from tests.faults import few_digits
from tests.test_networks import Viewing
from tests.zoo_networks import GhostBatchNorm, chain, ended, normed

QUICK = replace(CLASSIC, epochs=1, batch_size=40, milestones=(), rotation=0)


@pytest.fixture(scope="module")
def few(digits):
    return few_digits(digits, 160, 41)


def layout(model):
    images = torch.ones(16, 1, 28, 28)
    return memory_format(model, images, MixedPrecision(torch.device("cpu"), torch.float32))


def test_the_fast_layout_is_taken_if_it_trains():
    assert layout(chain(nn.Conv2d(1, 10, 28), nn.Flatten())) is torch.channels_last
    assert layout(Viewing()) is torch.contiguous_format
    assert layout(normed(GhostBatchNorm(4))) is torch.contiguous_format


def test_a_rehearsal_leaves_no_trace():
    model = normed(nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    layout(model)
    assert torch.equal(random, torch.get_rng_state())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


class Holding(Viewing):
    """Holds a Python module and a generator, and keeps activations, which nobody can copy."""

    def __init__(self):
        super().__init__()
        self.functional, self.names, self.kept = F, (name for name in "ab"), []

    def forward(self, x):
        x = self.functional.relu(self.conv(x))
        self.kept = [*self.kept[-3:], x]
        return self.functional.log_softmax(self.fc(x.flatten(1)), dim=1)


def test_what_a_network_holds_besides_layers_does_not_stop_it(few):
    average = replace(QUICK, ema_decay=0.9)
    model, history = fit(Holding, few, average, 0, "cpu")
    again, _ = fit(Holding, few, average, 0, "cpu")
    assert len(history.epochs) == 1
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))
    model(torch.zeros(2, 1, 28, 28))  # keeps a tensor with gradients
    copy = copied(model)
    assert copy.functional is F
    assert copy.fc.weight.equal(model.fc.weight)
    assert copy.fc.weight is not model.fc.weight


REFUSED = {
    "three channels": (
        lambda: chain(nn.Conv2d(3, 10, 28), nn.Flatten()),
        r"^Sequential: images have one channel, but 0 takes 3: Conv2d\(3, 10",
    ),
    "too many features": (
        lambda: chain(nn.Flatten(), nn.Linear(783, 10)),
        r"mat1 and mat2 shapes cannot be multiplied .* \(1, which is Linear\(in_features=783",
    ),
    "a batch of one size": (
        lambda: ended(lambda x: x.mean((2, 3)).view(64, 10).log_softmax(1)),
        r"test_rehearsal\.py, line \d+: RuntimeError: shape '\[64, 10\]' is invalid for input of",
    ),
    "float64": (
        lambda: chain(nn.Flatten(), nn.Linear(784, 10)).double(),
        r"The network's weights are float64, images are float32",
    ),
    "one step that overwrites what it needs": (
        lambda: ended(lambda x: x.sigmoid().mul_(2).mean((2, 3)).log_softmax(1)),
        r"modified by an inplace operation",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_stop_training_is_said_before_it(name, few, capsys):
    make, message = REFUSED[name]
    with pytest.raises(UsageError, match=message) as refused:
        fit(make, few, QUICK, 0, "cpu")
    assert "Epoch" not in capsys.readouterr().out
    assert str(refused.value).count("\n") == 0
