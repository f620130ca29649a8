"""CLASSIC draws, computes and measures what it did when the results in the repository were made.

Two kinds of processor, and two numbers of threads, add up in different orders. So the bits are
compared where bfloat16 is computed by AMX on one thread, as they were made, and the beginning of
a run in fp32 everywhere. `pytest --long` replays the whole first epoch.
"""

from pathlib import Path

import pytest
import torch

import s4lib.train
from s4lib import CLASSIC, MNISTNet, fit, history

RESULTS = Path(__file__).parents[1] / "notebooks" / "results"
BATCHES = 20
FIRST_IN_FP32 = [2.325973, 2.316649, 2.294764]
LAST_IN_BF16 = 1.5965640544891357  # of BATCHES


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


def losses(mnist, batches):
    """Of the first batches that CLASSIC trains on."""
    seen = []

    def on_batch(step, loss):
        seen.append(loss.item())
        if len(seen) == batches:
            raise Enough

    with pytest.raises(Enough):
        fit(MNISTNet, mnist, CLASSIC, 0, "cpu", on_batch=on_batch)
    return seen


@pytest.mark.skipif(
    tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11),
    reason="torch 2.4 draws other numbers for dropout; the stored runs are of newer versions",
)
def test_a_run_begins_as_the_stored_ones_did(mnist, monkeypatch):
    monkeypatch.setattr(s4lib.train, "choose_precision", lambda _: torch.float32)
    first = losses(mnist, len(FIRST_IN_FP32))
    assert first == pytest.approx(FIRST_IN_FP32, abs=1e-4)


def test_twenty_batches_have_the_stored_bits(mnist, amx):
    assert losses(mnist, BATCHES)[-1] == LAST_IN_BF16


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
