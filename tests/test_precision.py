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
def test_a_step_whose_gradient_overflows_is_skipped_by_all(recipe):
    """Weights and learning rate stay, the scale halves; Muon's part looks no better than Adam's."""
    model, amp = nn.Conv2d(1, 2, 3), MixedPrecision(CPU, torch.float16)
    optimizer = make_optimizer(model.parameters(), recipe, fused=False)
    schedule = make_schedule(optimizer, recipe, [10])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for overflow in (True, False, True):
            before = [parameter.detach().clone() for parameter in model.parameters()]
            scale, lr = amp.scaler.get_scale(), schedule.get_last_lr()
            optimizer.zero_grad()
            amp.backward(model(torch.ones(1, 1, 3, 3)).sum() * (torch.inf if overflow else 1))
            stepped = amp.step(optimizer)
            if stepped:
                schedule.step()
            assert stepped is not overflow
            same = [one.equal(two) for one, two in zip(before, model.parameters(), strict=True)]
            assert all(same) if overflow else not any(same)
            assert amp.scaler.get_scale() == (scale / 2 if overflow else scale)
            assert (schedule.get_last_lr() == lr) or not overflow
