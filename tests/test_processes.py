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

from s4lib import __main__ as cli
from s4lib import checkpoint, processes
from s4lib.checkpoint import load_weights, newest
from s4lib.history import History
from s4lib.train import evaluate, fit
from tests.faults import QUICK, alike, few_digits
from tests.workers import LEARNS_WELL, SEEDS, gradients, network

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_gloo_available(), reason="needs torch with Gloo"
)


def workers(folder, *scenarios):
    """Run scenarios of tests/workers.py; standard output and error."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.workers", folder, *scenarios],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes have left in a folder, and said."""
    folder = tmp_path_factory.mktemp("pair")
    out, err = workers(folder, "measure", "train", "learn", "killed", "failing", "uneven")
    measured = [torch.load(folder / "measure" / f"{rank}.pt") for rank in (0, 1)]
    return folder, measured, out, err


def history(folder):
    return History.from_json((folder / "history.json").read_text())


def test_the_first_gradients_are_the_mean_of_those_of_the_two_halves(pair, digits):
    """Each half with batch norm statistics of its own, as in each process."""
    _, measured, _, _ = pair
    images, labels = digits.normalise(digits.train[0][:40]), digits.train[1][:40]
    halves = [gradients(network(), images[rank::2], labels[rank::2]) for rank in (0, 1)]
    for name, gradient in measured[0]["gradients"].items():
        assert gradient.equal(measured[1]["gradients"][name]), name
        torch.testing.assert_close(gradient, (halves[0][name] + halves[1][name]) / 2)
    whole = gradients(network(), images, labels)
    assert not torch.allclose(whole["fc.weight"], measured[0]["gradients"]["fc.weight"])


def test_without_batch_norm_statistics_they_are_the_gradients_of_the_whole_batch(pair, digits):
    """In evaluation mode nothing but the gradients' mean joins the halves."""
    images, labels = digits.normalise(digits.train[0][:40]), digits.train[1][:40]
    whole = gradients(network().eval(), images, labels)
    halves = [gradients(network().eval(), images[rank::2], labels[rank::2]) for rank in (0, 1)]
    for name, gradient in whole.items():
        torch.testing.assert_close(gradient, (halves[0][name] + halves[1][name]) / 2)


def test_shares_are_all_there_is_without_overlap(pair):
    _, measured, _, _ = pair
    shares = [found["share"].tolist() for found in measured]
    assert sorted(shares[0] + shares[1]) == list(range(41))
    assert [found["total"] for found in measured] == [11, 11]
    assert [found["all"] for found in measured] == [[0, 1], [0, 1]]


def test_every_test_image_is_counted_once(pair, digits):
    folder, *_ = pair
    last = history(folder / "train").epochs[-1]
    dataset = few_digits(digits)
    loss, correct = evaluate(load_weights(folder / "train" / "weights.pt"), dataset)
    assert last.test_images == 50
    assert last.test_correct == correct
    assert last.test_loss == pytest.approx(loss, rel=1e-5)
    seen = last.train_accuracy * 200 / 100  # of all 200 training images
    assert seen == pytest.approx(round(seen))


def test_two_processes_learn_as_well_as_one(pair):
    folder, *_ = pair
    run = history(folder / "learn")
    assert run.device == "cpu × 2"
    assert run.epochs[-1].test_accuracy > 80  # one process: 87 and 93 with two seeds


def test_one_process_writes_and_prints(pair):
    folder, _, out, _ = pair
    assert out.count("cpu × 2") == 5  # train, learn, killed twice, failing
    assert sorted(path.name for path in (folder / "train").iterdir()) == [
        ".lock",
        "checkpoint-0.pt",
        "checkpoint-1.pt",
        "history.json",
        "modelloss.png",
        "weights.pt",
    ]


def test_a_killed_process_is_restarted_and_the_end_is_the_same(pair):
    folder, _, out, _ = pair
    assert "killed failed" not in out
    assert alike(newest(folder / "train")[0], newest(folder / "killed")[0])


def test_a_failed_process_ends_the_run_with_its_message(pair):
    folder, _, out, err = pair
    assert "failing failed: 2" in out
    assert err.splitlines().count("The dog has eaten batch 14.") == 1
    assert len(history(folder / "failing").epochs) == 1


def test_a_batch_that_can_not_be_shared_is_refused(pair):
    _, _, out, err = pair
    assert "uneven failed: 2" in out
    assert "A batch of 25 can't be shared equally among 2 processes. Choose another" in err


def test_the_checkpoint_of_two_processes_resumes_in_one(pair, digits, tmp_path, monkeypatch):
    """What differs is batch norm's statistics, over halves or wholes of a batch, and dropout."""
    folder, *_ = pair
    monkeypatch.setattr(checkpoint, "EVERY", 2)
    shutil.copytree(folder / "failing", tmp_path / "run")
    state = newest(tmp_path / "run")[0]
    assert (len(state["everyone"]), state["batch"]) == (2, 2)
    dataset = few_digits(digits)
    _, run = fit(QUICK, dataset, 0, "cpu", tmp_path / "run", resume=True)
    two = history(folder / "train")
    assert run.epochs[0].test_loss == two.epochs[0].test_loss
    for epoch, other in zip(run.epochs, two.epochs, strict=True):
        assert epoch.lr == other.lr
        assert epoch.train_loss == pytest.approx(other.train_loss, rel=0.1)
        assert epoch.test_loss == pytest.approx(other.test_loss, rel=0.1)


def test_alone_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes.joined(torch.device("cpu")) as device:
        assert device.type == "cpu"
        assert (processes.rank(), processes.count()) == (0, 1)
    tensor = torch.arange(3)
    assert processes.share(tensor)[0].equal(tensor)
    assert processes.total(tensor).equal(tensor)
    assert processes.gather("mine") == ["mine"]
    model = network()
    assert processes.parallel(model) is model


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(cli.UsageError, match="1 GPUs here"), processes.joined(torch.device("cuda")):
        pass


@pytest.fixture
def long(request):
    if not request.config.getoption("--long"):
        pytest.skip("only with --long")


def test_five_seeds_reach_the_same_with_two_processes_as_with_one(long, digits, tmp_path):
    workers(tmp_path, *(f"learn_well-{seed}" for seed in SEEDS))
    two = [history(tmp_path / f"learn_well-{seed}") for seed in SEEDS]
    one = [fit(LEARNS_WELL, digits, seed, "cpu")[1] for seed in SEEDS]
    ends = [[run.epochs[-1].test_accuracy for run in runs] for runs in (one, two)]
    for name, accuracies in zip(("one process", "two"), ends, strict=True):
        print(f"{name}: {statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f} %")
    assert abs(statistics.mean(ends[0]) - statistics.mean(ends[1])) < 1


@pytest.mark.parametrize("options", [[], ["--standalone"]])
def test_torchrun_itself(long, options, tmp_path):
    words = ["--dataset", "digits", "--device", "cpu", "--epochs", "1", "--batch-size", "240"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *options, "--nproc_per_node=2"]
    command = [*torchrun, "-m", "s4lib", "train", *words, "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start():
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = start()
    assert done.returncode == 0, done.stderr
    assert re.search(r"after epoch 1\. Weights, history and curves are in run", done.stdout)
    again = start()
    assert again.returncode == 1
    assert "run already holds a run" in again.stderr
