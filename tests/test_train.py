"""The loop measures what it says, repeats itself, learns, and ends well however it ends."""

import copy
import json
import math
import re
from collections import Counter
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils._python_dispatch import TorchDispatchMode

import s4lib.train
from s4lib import UsageError
from s4lib.data import Batches
from s4lib.model import MNISTNet
from s4lib.recipes import CLASSIC, FAST, NETWORKS
from s4lib.runtime.checkpoint import load_weights
from s4lib.runtime.device import MixedPrecision, choose_device, choose_precision
from s4lib.runtime.progress import silence
from s4lib.train import evaluate, fit, predict, train_epoch
from tests.faults import few_digits

QUICK = replace(CLASSIC, epochs=2, milestones=(1, 2))


@pytest.fixture(scope="module")
def few(digits):
    """300 training and 70 test digits."""
    return replace(few_digits(digits, 300, 70), name="few digits")


def test_two_runs_of_one_seed_give_identical_weights(few):
    (one, _), (same, _), (other, _) = (fit(MNISTNet, few, QUICK, seed, "cpu") for seed in (3, 3, 4))
    for name, value in one.state_dict().items():
        assert value.equal(same.state_dict()[name]), name
    assert not one.fc.weight.equal(other.fc.weight)


def test_later_epochs_train_on_the_share_of_highest_loss_and_say_so(few, monkeypatch, capsys):
    made, shown, losses = [], [], []
    monkeypatch.setattr(s4lib.train, "Batches", lambda *how: made.append(Batches(*how)) or made[0])

    def follow(step, loss):
        shown.append(made[0].shown)
        losses.append(made[0].losses.clone())
        assert losses[-1][shown[-1]].mean() == pytest.approx(loss.item(), rel=1e-2)

    recipe = replace(QUICK, epochs=3, batch_size=50, hard_share=0.4)
    _, run = fit(MNISTNet, few, recipe, 0, "cpu", on_batch=follow)
    assert len(shown) == 6 + 2 + 2  # of 300 and 120 images
    for epoch, before in ((shown[6:8], losses[5]), (shown[8:], losses[7])):
        chosen = torch.zeros(300, dtype=torch.bool)
        chosen[torch.cat(epoch)] = True
        assert chosen.sum() == 100
        assert before[chosen].min() >= before[~chosen].max()
    assert run.epochs[1].train_loss > losses[5].mean()
    assert re.findall("Epoch.*:", capsys.readouterr().out) == [
        "Epoch 1:",
        "Epoch 2, the 100 images of highest loss:",
        "Epoch 3, the 100 images of highest loss:",
    ]


def test_history_tells_what_was_measured(few, tmp_path):
    model, run = fit(MNISTNet, few, QUICK, 5, "cpu", tmp_path)
    assert (run.dataset, run.seed, run.device) == ("few digits", 5, "cpu")
    assert run.recipe["rotation"] == CLASSIC.rotation
    assert run.versions["torch"] == torch.__version__
    assert [epoch.lr for epoch in run.epochs] == pytest.approx([0.01, 0.001])
    images, labels = few.test
    with torch.no_grad():
        log_probs = model.eval()(few.normalise(images))
    last = run.epochs[-1]
    assert last.test_loss == pytest.approx(F.nll_loss(log_probs, labels).item(), rel=1e-5)
    assert last.test_correct == (log_probs.argmax(1) == labels).sum()
    assert last.test_accuracy == pytest.approx(100 * last.test_correct / 70)
    assert json.loads((tmp_path / "history.json").read_text()) == json.loads(run.to_json())
    saved = load_weights(MNISTNet(), tmp_path / "weights.pt")
    for name, value in model.state_dict().items():
        assert value.equal(saved.state_dict()[name]), name


def test_training_accuracy_and_loss_are_over_the_examples_seen(few):
    """A network that always says 7 with probability e^-0.5 knows its own accuracy and loss."""
    others = math.log((1 - math.exp(-0.5)) / 9)
    seen = []

    class Seven(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(10))

        def forward(self, x):
            if self.training:
                seen.append(len(x))
            says_seven = torch.full((len(x), 10), others)
            says_seven[:, 7] = -0.5
            return says_seven + 0 * self.unused

    dataset = replace(few, train=(few.train[0], torch.full((300,), 7)))
    recipe = replace(QUICK, epochs=1, label_smoothing=0.1)  # what is learned, not what is measured
    _, run = fit(Seven, dataset, recipe, 0, "cpu")
    rehearsed, *trained = seen
    assert rehearsed == 128
    assert sum(trained) == 256  # two batches of 128; the last 44 images are dropped
    assert run.epochs[0].train_accuracy == 100
    assert run.epochs[0].train_loss == pytest.approx(0.5, abs=1e-6)
    sevens = (few.test[1] == 7).sum().item()
    assert run.epochs[0].test_correct == sevens
    assert run.epochs[0].test_loss == pytest.approx(
        (0.5 * sevens - others * (70 - sevens)) / 70, abs=1e-6
    )


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_weights(
    few, tmp_path, monkeypatch
):
    calls = []
    nll_loss = F.nll_loss

    def breaks_in_the_second_epoch(*batch, **options):
        if not options:
            calls.append(1)
        return nll_loss(*batch, **options) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(s4lib.train.F, "nll_loss", breaks_in_the_second_epoch)
    with pytest.raises(UsageError) as caught:
        fit(MNISTNet, few, QUICK, 0, "cpu", tmp_path)
    assert "Stopped in epoch 2" in str(caught.value)
    assert "What was saved before is kept." in str(caught.value)
    assert "smaller lr than 0.01" in str(caught.value)
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 1
    weights = load_weights(MNISTNet(), tmp_path / "weights.pt").state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_the_log_is_one_clean_line_an_epoch(few, capfd):
    fit(MNISTNet, few, QUICK, 0, "cpu")
    captured = capfd.readouterr()
    assert captured.out.startswith(
        "MNISTNet, 17,498 parameters, with the recipe classic on few digits: "
        "300 training and 70 test images, seed 0, cpu, "
    )
    bars = [line for line in captured.err.splitlines() if line]
    assert len(bars) == 2
    line = r"loss=\d\.\d{6} batch_id=1: 100%\|██████████\| 2/2 \[.*\]"
    assert all(re.fullmatch(line, bar.strip()) for bar in bars)
    assert captured.out.count("Number of correct predictions in test set: ") == 2


@pytest.mark.parametrize(
    ("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_fastest_device(monkeypatch, cuda, mps, best):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == best


def test_a_device_that_is_not_here_is_refused():
    for missing in ("cuda:99", "toaster", "meta"):
        with pytest.raises(UsageError, match=rf"no device '{missing}' here.*cpu"):
            choose_device(missing)


def test_precision_goes_by_capability(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert choose_precision(cpu) == torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert choose_precision(cpu) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert choose_precision(torch.device("cuda")) == torch.float16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert choose_precision(torch.device("cuda")) == torch.bfloat16


def test_predictions_do_not_depend_on_the_chunks_nor_on_dropout(digits):
    torch.manual_seed(0)
    model = MNISTNet()
    images = digits.normalise(digits.train[0][:1010])
    together = predict(model, images)
    alone = predict(model, images[1005:1006])
    torch.testing.assert_close(together[1005:1006], alone)
    assert evaluate(model, digits) == evaluate(model, digits)


def test_bfloat16_hardly_turns_the_gradients(digits):
    """The README says so: by the cosine between each rounded gradient and the exact one."""
    model = load_weights(MNISTNet()).train()
    model.block3.dropout.p = model.dropout.p = 0
    before_norm = re.compile(r"(block1|block2|transition\d)\.conv\d?\.bias")  # gradient 0

    def gradients(net, images, precision):
        net.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            F.nll_loss(net(images), digits.train[1][:128]).backward()
        return {
            name: parameter.grad.double().flatten()
            for name, parameter in net.named_parameters()
            if not before_norm.fullmatch(name)
        }

    images = digits.normalise(digits.train[0][:128])
    exact = gradients(copy.deepcopy(model).double(), images.double(), torch.float64)
    rounded = gradients(model.to(memory_format=torch.channels_last), images, torch.bfloat16)
    for name, gradient in exact.items():
        assert F.cosine_similarity(gradient, rounded[name], dim=0) > 0.97, name


@pytest.mark.parametrize("share", [0, 0.1, 1])
def test_a_step_lowers_the_smoothed_loss_and_the_log_has_the_plain_one(share):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.LogSoftmax(1))
    images, labels, weight = torch.randn(8, 1, 28, 28), torch.arange(8), model[1].weight
    logits, before = model[:2](images), weight.detach().clone()
    smoothed = F.cross_entropy(logits, labels, label_smoothing=share)
    (gradient,) = torch.autograd.grad(smoothed, weight, retain_graph=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    schedule, amp = MultiStepLR(optimizer, []), MixedPrecision(torch.device("cpu"), torch.float32)
    loss, _ = train_epoch(model, [(images, labels)], optimizer, schedule, amp, share)
    torch.testing.assert_close(before - weight, gradient)
    assert loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)


NOT_COMPUTED = ("_unsafe_view", "empty", "empty_like")


class Calls(TorchDispatchMode):
    """Counts what a device would compute, step by step: not views, nor memory that is taken."""

    def __init__(self):
        super().__init__()
        self.steps = [Counter()]

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if not (function.is_view or function.namespace == "profiler" or name in NOT_COMPUTED):
            self.steps[-1][name] += 1
        return function(*args, **(kwargs or {}))

    def next_step(self, *_):
        self.steps.append(Counter())


@pytest.mark.parametrize(
    ("recipe", "limit"), [(CLASSIC, 150), (FAST, 192)], ids=["classic", "fast"]
)
def test_a_step_makes_no_more_calls_than_it_did_and_never_waits(recipe, limit, few, monkeypatch):
    """A step in the middle of an epoch, in bfloat16."""
    monkeypatch.setattr(s4lib.train, "choose_precision", lambda _: torch.bfloat16)
    short = recipe.adjusted(epochs=1, batch_size=60)
    with silence(), Calls() as counted:
        fit(NETWORKS[recipe.name], few, short, 0, "cpu", on_batch=counted.next_step)
    calls = counted.steps[2]
    more = calls.total() - limit
    assert more <= 0, f"A step makes {more} more calls than {limit}: {calls.most_common()}"
    assert not calls["_local_scalar_dense"]  # which waits for the device


def test_batch_norm_has_counted_all_batches_though_it_counts_none_in_a_step(few):
    model, counters = MNISTNet(), []
    model.block1.norm2 = nn.BatchNorm2d(32, momentum=None)  # reads its counter

    def follow(*_):
        counters.append((model.block1.norm1.num_batches_tracked,
                         model.block1.norm2.num_batches_tracked.item()))  # fmt: skip

    fit(model, few, replace(QUICK, batch_size=100), 0, "cpu", on_batch=follow)
    assert counters == [(None, step) for step in (1, 2, 3, 4, 5, 6)]
    assert model.block1.norm1.num_batches_tracked == 6


def test_four_epochs_on_the_bundled_digits_reach_90_per_cent(digits):
    """Three seeds ended at 97.2, 96.4 and 97.8; with torch 2.5 at 94.2, 98.1 and 97.2."""
    _, run = fit(partial(MNISTNet, 0, 0), digits, FAST.adjusted(epochs=4, hard_share=1), 0, "cpu")
    assert run.epochs[-1].test_accuracy >= 90
