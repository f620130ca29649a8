"""Seeds trained together end where each of them ends alone."""

from dataclasses import astuple, replace

import pytest
import torch

from s4lib import together, train
from s4lib.data import Dataset, normalise
from s4lib.model import MNISTNet
from s4lib.recipes import CLASSIC, FAST
from s4lib.together import fit_together


@pytest.fixture
def in_float64(monkeypatch):
    """Conv biases before batch norm have gradients of 0, whose rounding in float32 moves Adam."""
    monkeypatch.setattr(Dataset, "normalise", lambda self, images: normalise(images.double()))
    for module in (train, together):
        monkeypatch.setattr(module, "choose_precision", lambda _: torch.float32)  # no autocast
        monkeypatch.setattr(module, "MNISTNet", lambda *dropout: MNISTNet(*dropout).double())


@pytest.mark.parametrize("recipe", [FAST, replace(CLASSIC, dropout_block3=0, dropout_head=0)])
def test_every_seed_learns_what_it_learns_alone(recipe, digits, in_float64):
    recipe = replace(recipe, epochs=2, batch_size=64)
    few = replace(digits, train=tuple(part[:256] for part in digits.train))
    for seed, (model, run) in zip((3, 8), fit_together(recipe, few, [3, 8], "cpu"), strict=True):
        alone, run_alone = train.fit(recipe, few, seed, "cpu")
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-7)
        assert run.seed == seed
        for one, other in zip(run.epochs, run_alone.epochs, strict=True):
            one.seconds = other.seconds = 0
            assert astuple(one) == pytest.approx(astuple(other), rel=1e-6)
