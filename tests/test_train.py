"""The loop measures what it says, repeats itself, learns, and ends well however it ends."""

import copy
import json
import re
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import s4lib.train
from s4lib import UsageError
from s4lib.checkpoint import SHIPPED_WEIGHTS, load_weights
from s4lib.data import Dataset
from s4lib.model import MNISTNet
from s4lib.recipes import CLASSIC
from s4lib.train import choose_device, choose_precision, evaluate, fit, per_class, predictions

QUICK = replace(CLASSIC, epochs=2, milestones=(1, 2))


@pytest.fixture(scope="module")
def few(digits):
    """300 training and 70 test digits."""
    return Dataset(
        "few digits",
        (digits.train[0][:300], digits.train[1][:300]),
        (digits.test[0][:70], digits.test[1][:70]),
        digits.mean,
        digits.std,
    )


def test_two_runs_of_one_seed_give_identical_weights(few):
    (one, _), (same, _), (other, _) = (fit(QUICK, few, seed, "cpu") for seed in (3, 3, 4))
    for name, value in one.state_dict().items():
        assert value.equal(same.state_dict()[name]), name
    assert not one.fc.weight.equal(other.fc.weight)


def test_history_tells_what_was_measured(few, tmp_path):
    model, run = fit(QUICK, few, 5, "cpu", tmp_path)
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
    saved = load_weights(tmp_path / "weights.pt")
    for name, value in model.state_dict().items():
        assert value.equal(saved.state_dict()[name]), name


def test_training_accuracy_and_loss_are_over_the_examples_seen(few, monkeypatch):
    """A network that always says 7 with probability e^-1 knows its own accuracy and loss."""
    says_seven = torch.full((1, 10), -1.0)
    says_seven[0, 7] = -0.5
    seen = []

    def forward(self, x):
        if self.training:
            seen.append(x)
        return says_seven.expand(len(x), 10) + 0 * self.fc.bias

    monkeypatch.setattr(MNISTNet, "forward", forward)
    monkeypatch.setattr(s4lib.train, "pool_before_relu", lambda model: model)  # runs no layers
    dataset = replace(few, train=(few.train[0], torch.full((300,), 7)))
    _, run = fit(replace(QUICK, epochs=1), dataset, 0, "cpu")
    assert sum(map(len, seen)) == 256  # two batches of 128; the last 44 images are dropped
    assert run.epochs[0].train_accuracy == 100
    assert run.epochs[0].train_loss == pytest.approx(0.5, abs=1e-6)
    sevens = (few.test[1] == 7).sum().item()
    assert run.epochs[0].test_correct == sevens
    assert run.epochs[0].test_loss == pytest.approx(1 - sevens / 140, abs=1e-6)


def test_milestones_come_after_whole_epochs(few):
    _, run = fit(replace(CLASSIC, epochs=4, milestones=(2, 3)), few, 0, "cpu")
    assert [epoch.lr for epoch in run.epochs] == pytest.approx([0.01, 0.01, 0.001, 0.0001])


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_weights(
    few, tmp_path, monkeypatch
):
    calls = []
    nll_loss = F.nll_loss

    def breaks_in_the_second_epoch(log_probs, labels):
        calls.append(1)
        return nll_loss(log_probs, labels) * (float("nan") if len(calls) == 4 else 1)

    monkeypatch.setattr(s4lib.train.F, "nll_loss", breaks_in_the_second_epoch)
    with pytest.raises(UsageError) as caught:
        fit(QUICK, few, 0, "cpu", tmp_path)
    assert "Stopped in epoch 2" in str(caught.value)
    assert "weights of epoch 1 are kept" in str(caught.value)
    assert "smaller lr than 0.01" in str(caught.value)
    assert len(json.loads((tmp_path / "history.json").read_text())["epochs"]) == 1
    weights = load_weights(tmp_path / "weights.pt").state_dict()
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_an_absurd_lr_is_told_so(few):
    with pytest.raises(UsageError, match="Try a smaller lr"):
        fit(replace(QUICK, lr=1e30), few, 0, "cpu")


def test_ctrl_c_ends_with_the_last_whole_epoch(few, tmp_path, monkeypatch, capsys):
    evaluate_once, saved = s4lib.train.evaluate, []

    def interrupted(model, dataset):
        if saved:
            raise KeyboardInterrupt
        saved.append({k: v.clone() for k, v in model.state_dict().items()})
        return evaluate_once(model, dataset)

    monkeypatch.setattr(s4lib.train, "evaluate", interrupted)
    model, run = fit(QUICK, few, 0, "cpu", tmp_path)
    assert [epoch.epoch for epoch in run.epochs] == [1]
    assert "Stopped in epoch 2" in capsys.readouterr().out
    on_disk = load_weights(tmp_path / "weights.pt").state_dict()
    for name, value in model.state_dict().items():
        assert value.equal(saved[0][name]), name
        assert value.equal(on_disk[name]), name


def test_the_log_is_one_clean_line_an_epoch(few, capfd):
    fit(QUICK, few, 0, "cpu")
    captured = capfd.readouterr()
    assert captured.out.startswith("classic on few digits: 300 training and 70 test images, seed 0")
    bars = [line for line in captured.err.splitlines() if line]
    assert len(bars) == 2
    line = r"loss=\d\.\d{6} batch_id=1: 100%\|██████████\| 2/2 \[.*/s\]"
    assert all(re.fullmatch(line, bar.strip()) for bar in bars)
    assert captured.out.count("Number of correct predictions in test set: ") == 2


def test_devices():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    for missing in ("cuda:99", "toaster"):
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
    together = predictions(model, images)
    alone = predictions(model, images[1005:1006])
    torch.testing.assert_close(together[1005:1006], alone)
    assert evaluate(model, digits) == evaluate(model, digits)


def test_bfloat16_hardly_turns_the_gradients(digits):
    """The README says so: by the cosine between each rounded gradient and the exact one."""
    model = load_weights(SHIPPED_WEIGHTS).train()
    model.block3.dropout.p = model.dropout.p = 0
    silenced = re.compile(r"(block1|block2|transition\d)\.conv\d?\.bias")  # their gradient is 0

    def gradients(net, images, precision):
        net.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            F.nll_loss(net(images), digits.train[1][:128]).backward()
        return {
            name: parameter.grad.double().flatten()
            for name, parameter in net.named_parameters()
            if not silenced.fullmatch(name)
        }

    images = digits.normalise(digits.train[0][:128])
    exact = gradients(copy.deepcopy(model).double(), images.double(), torch.float64)
    rounded = gradients(model.to(memory_format=torch.channels_last), images, torch.bfloat16)
    for name, gradient in exact.items():
        assert F.cosine_similarity(gradient, rounded[name], dim=0) > 0.98, name


def test_per_class_counts():
    labels = torch.tensor([0, 0, 0, 0, 3])
    lines = per_class(labels, torch.tensor([0, 8, 8, 5, 3])).splitlines()
    assert lines[1].split() == ["0", "4", "1", "25.00", "%", "8", "(2", "times)"]
    assert lines[4].split() == ["3", "1", "1", "100.00", "%", "nothing"]


def test_ten_epochs_on_the_bundled_digits_reach_95_per_cent(digits):
    _, run = fit(CLASSIC.adjusted(epochs=10, batch_size=64), digits, 0, "cpu")
    assert run.epochs[-1].test_accuracy >= 95


def test_one_epoch_on_ten_thousand_mnist_images_reaches_95_per_cent(mnist):
    """Small batches, no dropout and no rotation: one look at few images is soon over."""
    first = replace(mnist, train=tuple(part[:10_000] for part in mnist.train))
    recipe = replace(
        CLASSIC,
        epochs=1,
        batch_size=16,
        lr=0.005,
        milestones=(0.7, 0.9),
        dropout_block3=0,
        dropout_head=0,
        rotation=0,
    )
    _, run = fit(recipe, first, 0, "cpu")
    assert run.epochs[-1].test_accuracy >= 95
