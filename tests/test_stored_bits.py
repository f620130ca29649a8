"""The recipes draw, compute and measure what they did when the results in the repository were made.

Two kinds of processor, and two numbers of threads, add up in different orders. So the bits are
compared where bfloat16 is computed by AMX on one thread, as they were made, and the beginning of
a run in fp32 everywhere. `pytest --long` replays CLASSIC's whole first epoch.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import s4lib.train
from s4lib import BEST, CLASSIC, FAST, MNISTNet, fit, history
from s4lib.recipes import NETWORKS
from tests.faults import few_digits

RESULTS = Path(__file__).parents[1] / "notebooks" / "results"
BATCHES = 20
FIRST_IN_FP32 = {
    CLASSIC: [2.325973, 2.316649, 2.294764],
    FAST: [2.327580, 2.308839, 2.340478],
    BEST: [2.330355, 2.297634, 2.366170],
}
# The loss of the last of BATCHES on MNIST.
LAST_IN_BF16 = {CLASSIC: 1.5965640544891357, FAST: 2.2294921875, BEST: 2.29541015625}
# The losses of a short run's last epoch, in training and in testing.
END_IN_BF16 = {
    CLASSIC: (2.238984375, 2.3199446105957033),
    FAST: (2.44296875, 2.3282620239257814),
    BEST: (2.0934765625, 2.284831085205078),
}

pytestmark = pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11),
    reason="torch before 2.11 draws other numbers for dropout than for the stored runs",
)
each_recipe = pytest.mark.parametrize("recipe", LAST_IN_BF16, ids=lambda recipe: recipe.name)


class Enough(BaseException):
    """Ends a run: nobody catches it."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def amx():
    if not getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16"):
        pytest.skip("the stored bits are those of a processor that computes bfloat16 by AMX")


def losses(mnist, recipe, batches):
    """Return the first batches that the recipe trains on."""
    seen = []

    def on_batch(step, loss):
        seen.append(loss.item())
        if len(seen) == batches:
            raise Enough

    with pytest.raises(Enough):
        fit(NETWORKS[recipe.name], mnist, recipe, 0, "cpu", on_batch=on_batch)
    return seen


@each_recipe
def test_a_run_begins_as_the_stored_ones_did(recipe, mnist, monkeypatch):
    monkeypatch.setattr(s4lib.train, "choose_precision", lambda _: torch.float32)
    first = losses(mnist, recipe, len(FIRST_IN_FP32[recipe]))
    assert first == pytest.approx(FIRST_IN_FP32[recipe], abs=1e-4)


@each_recipe
def test_twenty_batches_have_the_stored_bits(recipe, mnist, amx):
    assert losses(mnist, recipe, BATCHES)[-1] == LAST_IN_BF16[recipe]


@each_recipe
def test_a_short_run_ends_with_the_stored_bits(recipe, digits, amx):
    """Through everything that begins after the first epoch, and with the averaged weights."""
    short = recipe.adjusted(epochs=3, batch_size=20)
    short = replace(short, plain_epochs=min(1, recipe.plain_epochs))
    _, run = fit(NETWORKS[recipe.name], few_digits(digits), short, 0, "cpu")
    assert (run.epochs[-1].train_loss, run.epochs[-1].test_loss) == END_IN_BF16[recipe]


def test_the_first_epoch_has_the_stored_bits(mnist, amx, request, monkeypatch):
    if not request.config.getoption("--long"):
        pytest.skip("only with --long: half a minute")
    (stored,) = (
        run.epochs[0]
        for run in history.parse((RESULTS / "classic.json").read_text())
        if run.seed == 0
    )
    measured = []

    def stop(run):
        measured.extend(run.history.epochs)
        raise Enough

    monkeypatch.setattr("s4lib.runtime.checkpoint.Run.save", stop)
    with pytest.raises(Enough):
        fit(MNISTNet, mnist, CLASSIC, 0, "cpu")
    (epoch,) = measured
    assert epoch.train_loss == stored.train_loss
    assert epoch.train_accuracy == stored.train_accuracy
    assert epoch.test_correct == stored.test_correct
    assert epoch.test_loss == pytest.approx(stored.test_loss, abs=1e-6)
