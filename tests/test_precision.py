"""The way that older GPUs take, Colab's T4 among them: float16, a scaled loss, unfused steps."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

import s4lib.train
from s4lib import BEST, CLASSIC, fit
from s4lib.optim import make_optimizer, make_schedule
from s4lib.runtime.device import MixedPrecision
from s4lib.train import train_epoch
from tests.faults import few_digits

CPU = torch.device("cpu")


def small():
    """Convolutions in float16 are slow on a CPU."""
    convolution = nn.Conv2d(1, 4, 5, stride=4)
    return nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(144, 10), nn.LogSoftmax(1))


@pytest.mark.parametrize("recipe", [CLASSIC, BEST], ids=lambda recipe: recipe.name)
def test_float16_trains_without_a_warning(recipe, digits, monkeypatch):
    monkeypatch.setattr(s4lib.train, "choose_precision", lambda _device: torch.float16)
    recipe = replace(recipe.adjusted(epochs=3, batch_size=40), milestones=())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model, run = fit(small, few_digits(digits), recipe, 0, "cpu")
    assert run.precision == "float16"
    assert run.epochs[-1].train_loss < run.epochs[0].train_loss
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("recipe", [CLASSIC, BEST], ids=lambda recipe: recipe.name)
def test_a_step_in_float16_asks_once_whether_it_overflowed(recipe, monkeypatch):
    """To ask a GPU for a number is to wait until it has computed it; Adam counts steps on a CPU."""
    amp, model, asked = MixedPrecision(CPU, torch.float16), small(), []
    optimizer = make_optimizer(model.parameters(), recipe, fused=False)
    item = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: asked.append(self) or item(self))
    for _ in range(3):
        optimizer.zero_grad()
        amp.backward(model(torch.ones(2, 1, 28, 28)).sum())
        asked.clear()
        assert amp.step(optimizer)
        counted = [memory["step"] for memory in optimizer.state.values()]
        assert len([one for one in asked if not any(one is step for step in counted)]) == 1


@pytest.mark.parametrize("recipe", [CLASSIC, BEST], ids=lambda recipe: recipe.name)
def test_a_step_whose_gradient_overflows_is_skipped_by_all(recipe):
    """Weights and learning rate stay, the scale halves; Muon's part looks no better than Adam's."""
    model = nn.Sequential(nn.Conv2d(1, 10, 3), nn.Flatten(), nn.LogSoftmax(1))
    amp = MixedPrecision(CPU, torch.float16)
    optimizer = make_optimizer(model.parameters(), recipe, fused=False)
    schedule = make_schedule(optimizer, recipe, [10])
    moments = []

    def note(*_):
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        moments.append((weights, schedule.last_epoch, amp.scaler.get_scale()))

    note()
    too_large = (True, False, True)
    batches = [(torch.full((1, 1, 3, 3), 1e9 if large else 1.0), torch.tensor([3]))
               for large in too_large]  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_epoch(model, batches, optimizer, schedule, amp, on_batch=note)
    for large, before, after in zip(too_large, moments, moments[1:], strict=False):
        same = [one.equal(other) for one, other in zip(before[0], after[0], strict=True)]
        assert all(same) if large else not any(same)
        assert after[1] == before[1] + (not large)
        assert after[2] == (before[2] / 2 if large else before[2])
