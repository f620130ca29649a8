"""Two processes do the work of one: the same batches, gradients, metrics and files.

`pytest --long` also trains five seeds to the end, and starts `torchrun` itself.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from s4lib import History, MNISTNet, UsageError, fit
from s4lib.runtime import distributed
from s4lib.runtime.checkpoint import load_weights
from s4lib.train import evaluate
from tests.faults import QUICK, alike, end, few_digits
from tests.workers import LEARNS_WELL, gradients, network

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not torch.distributed.is_gloo_available(),
    reason="needs fork and torch with Gloo",
)


def start(*command, cwd=ROOT):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *command]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def history(folder):
    return History.from_json((folder / "history.json").read_text())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Where two processes have left their files, and what they said."""
    folder = tmp_path_factory.mktemp("pair")
    scenarios = ("measure", "train", "killed", "failing")
    return folder, *start("tests.workers", folder, *scenarios)


@pytest.fixture(scope="module")
def measured(pair):
    return [torch.load(pair[0] / "measure" / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.fixture
def forty(digits):
    return digits.normalise(digits.train[0][:40]), digits.train[1][:40]


def test_the_first_gradients_are_the_mean_of_those_of_the_two_halves(measured, forty):
    """Each half has batch norm statistics of its own, as in each process."""
    images, labels = forty
    halves = [gradients(network(), images[rank::2], labels[rank::2]) for rank in (0, 1)]
    for name, gradient in measured[0]["gradients"].items():
        assert gradient.equal(measured[1]["gradients"][name]), name
        torch.testing.assert_close(gradient, (halves[0][name] + halves[1][name]) / 2)
    whole = gradients(network(), images, labels)
    assert not torch.allclose(whole["fc.weight"], measured[0]["gradients"]["fc.weight"])


def test_without_batch_norm_statistics_they_are_the_gradients_of_the_whole_batch(measured, forty):
    whole = gradients(network().eval(), *forty)
    for found in measured:
        torch.testing.assert_close(found["evaluating"], whole)


def test_shards_are_all_there_is_without_overlap(measured):
    shards = [found["shard"].tolist() for found in measured]
    assert sorted(shards[0] + shards[1]) == list(range(41))
    assert [found["sums"] for found in measured] == [[11, 1], [11, 1]]
    assert [found["ranks"] for found in measured] == [[0, 1], [0, 1]]


def test_both_know_the_loss_of_every_image_that_either_has_shown(measured):
    for found in measured:
        known = found["losses"].isfinite()
        assert known.sum() == 1400  # of 1,437, in batches of 200
        assert found["losses"][known].equal(torch.arange(1437.0)[known])


def test_a_fault_in_the_processes_is_not_hidden_by_their_end(measured):
    assert [found["error"] for found in measured] == ["RuntimeError('')"] * 2


def test_every_test_image_is_counted_once(pair, digits):
    folder = pair[0] / "train"
    last = history(folder).epochs[-1]
    loss, correct = evaluate(load_weights(MNISTNet(), folder / "weights.pt"), few_digits(digits))
    assert (last.test_images, last.test_correct) == (50, correct)
    assert last.test_loss == pytest.approx(loss, rel=1e-5)
    seen = last.train_accuracy * 200 / 100  # of all 200 training images
    assert seen == pytest.approx(round(seen))


def test_a_test_takes_the_statistics_of_process_0_and_an_image_for_each_is_not_needed(
    measured, digits
):
    alone = [evaluate(network(), few_digits(digits, test=count)) for count in (3, 1)]
    for found in measured:
        assert found["statistics"].count_nonzero() == 0
        for (loss, correct), expected in zip(found["tested"], alone, strict=True):
            assert (pytest.approx(loss, rel=1e-5), correct) == expected


def test_each_process_draws_a_dropout_of_its_own(pair):
    one, other = end(pair[0] / "train")["random"]
    assert not one.equal(other)


def test_one_process_writes_and_prints(pair):
    folder, out, _ = pair
    header = "MNISTNet, 17,498 parameters, with the recipe classic on scikit-learn digits: "
    assert out.count(header) == out.count(", cpu × 2, ") == 4  # train, killed (2), failing
    assert history(folder / "train").device == "cpu × 2"
    assert out.count("Epoch 3:") == 2  # train, killed
    names = {path.name for path in (folder / "train").iterdir()} - {".lock"}
    assert names == {"checkpoint.pt", "history.json", "modelloss.png", "weights.pt"}


def test_a_killed_process_is_restarted_and_the_end_is_the_same(pair):
    folder, out, _ = pair
    assert "killed failed" not in out
    assert alike(end(folder / "train"), end(folder / "killed"))


def test_a_failed_process_ends_the_run_with_its_message(pair):
    folder, out, err = pair
    assert "failing failed: " in out  # with 2, or 1 of the process that misses its neighbour
    assert err.splitlines().count("The dog has eaten batch 14.") == 1
    assert len(history(folder / "failing").epochs) == 1


def test_the_checkpoint_of_two_processes_resumes_in_one(pair, digits, tmp_path):
    """Batch norm's statistics, over halves or wholes of a batch, and dropout differ."""
    folder = shutil.copytree(pair[0] / "failing", tmp_path / "run")
    assert len(end(folder)["random"]) == 2
    _, run = fit(MNISTNet, few_digits(digits), QUICK, 0, "cpu", folder)
    two = history(pair[0] / "train")
    assert run.epochs[0].test_loss == two.epochs[0].test_loss
    for epoch, other in zip(run.epochs, two.epochs, strict=True):
        assert epoch.lr == other.lr
        assert epoch.train_loss == pytest.approx(other.train_loss, rel=0.1)
        assert epoch.test_loss == pytest.approx(other.test_loss, rel=0.1)


def test_alone_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    tensor, model = torch.arange(3), network()
    with distributed.init_distributed(torch.device("cpu")) as device:
        assert device.type == "cpu"
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.shard(tensor)[0].equal(tensor)
        assert distributed.all_reduce(tensor)[0].equal(tensor)
        assert distributed.per_rank("mine") == ["mine"]
        assert distributed.parallel(model) is model
    alone = distributed.init_distributed(torch.device("cpu"))
    with pytest.raises(RuntimeError, match=r"^$"), alone:
        raise RuntimeError("")


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(UsageError, match="1 GPUs here"),
        distributed.init_distributed(torch.device("cuda")),
    ):
        pass


@pytest.fixture
def long(request):
    if not request.config.getoption("--long"):
        pytest.skip("only with --long")


def test_two_processes_reach_the_same_as_one(long, digits, tmp_path):
    names = [f"learn_well-{seed}" for seed in range(5)]
    start("tests.workers", tmp_path, *names)
    two = [history(tmp_path / name) for name in names]
    one = [fit(MNISTNet, digits, LEARNS_WELL, seed, "cpu")[1] for seed in range(5)]
    ends = [[run.epochs[-1].test_accuracy for run in runs] for runs in (one, two)]
    for name, accuracies in zip(("one process", "two"), ends, strict=True):
        print(f"{name}: {statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f} %")
    assert abs(statistics.mean(ends[0]) - statistics.mean(ends[1])) < 1


@pytest.mark.parametrize("options", [[], ["--standalone"]])
def test_torchrun_itself(long, options, tmp_path):
    """And the same command again finds the run finished."""
    torchrun = ["torch.distributed.run", *options, "--nproc_per_node=2", "-m", "s4lib", "train"]
    words = ["--dataset", "digits", "--device", "cpu", "--epochs", "1", "--batch-size", "240"]
    for epochs in (1, 0):
        out, _ = start(*torchrun, *words, "--out", "run", cwd=tmp_path)
        assert out.count("Epoch 1:") == epochs
        assert re.search(r"after epoch 1\. Weights, history and curves are in run", out)
