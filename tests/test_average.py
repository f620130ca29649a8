"""A recipe's moving average of the weights: what it is, and that a run's result is it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from s4lib.model import MNISTNet
from s4lib.optim import make_average
from s4lib.recipes import CLASSIC
from s4lib.runtime.checkpoint import load_weights
from s4lib.train import evaluate, fit
from tests.faults import few_digits

AVERAGED = replace(CLASSIC, epochs=2, batch_size=5, milestones=(), ema_decay=0.5, ema_every=2)


@pytest.fixture(scope="module")
def few(digits):
    return few_digits(digits, 200, 200)  # 40 batches of 5


def floats(model):
    state = model.state_dict()
    return {name: value.clone() for name, value in state.items() if value.is_floating_point()}


def test_the_result_is_the_average_of_every_second_steps_weights_and_statistics(few, tmp_path):
    model, average = MNISTNet(), {}

    def follow(step, loss):
        if step % 2 == 1:
            for name, value in floats(model).items():
                average[name] = torch.lerp(average.get(name, value), value, 1 - 0.5)

    result, run = fit(model, few, AVERAGED, 0, "cpu", tmp_path, on_batch=follow)
    for name, value in floats(result).items():
        torch.testing.assert_close(value, average[name], msg=name)
    assert not result.fc.weight.equal(model.fc.weight)
    last = run.epochs[-1]
    assert (last.test_loss, last.test_correct) == evaluate(result, few)
    saved = load_weights(MNISTNet(), tmp_path / "weights.pt").state_dict()
    assert all(value.equal(saved[name]) for name, value in result.state_dict().items())


def test_without_an_average_the_result_is_the_network_that_was_trained(few):
    model = MNISTNet()
    result, _ = fit(model, few, replace(AVERAGED, ema_decay=0), 0, "cpu")
    assert result is model


def test_averaging_changes_nothing_of_the_training_itself(few):
    recipe = replace(AVERAGED, epochs=1)
    runs = [fit(MNISTNet, few, replace(recipe, ema_decay=d), 0, "cpu")[1] for d in (0, 0.5)]
    plain, averaged = ([epoch.train_loss for epoch in run.epochs] for run in runs)
    assert plain == averaged


@pytest.mark.parametrize(("steps", "share"), [(10, 1), (800, 20 / 400), (10**6, 0.01)])
def test_an_average_reaches_back_a_twentieth_of_a_run_at_most(steps, share):
    """The latest weights have this share; otherwise a short run's first weights would stay."""
    model = nn.Linear(1, 1)
    average = make_average(model, replace(AVERAGED, ema_decay=0.99), steps)
    for weight in (0.0, 1.0):
        nn.init.constant_(model.weight, weight)
        average.update_parameters(model)
    assert average.module.weight.item() == pytest.approx(share)
