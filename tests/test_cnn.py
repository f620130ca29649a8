"""The whole network by hand against PyTorch: every tensor, every step, and the commands."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits

from backprop import layers, referee, train
from backprop.cnn import LAYERS, NORM, SILENCED, backward, differentiate, forward, to_numpy
from s4lib.data import load
from s4lib.model import MNISTNet

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Batches this small gain nothing from more, and a busy machine would make threads wait."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1, "blas"):
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's real digits, which need no download."""
    return load("digits")


@pytest.fixture(scope="module")
def batch(digits):
    """Sixteen of them, normalised, in float64, with their labels."""
    return referee.real_digits(digits, 16)


def fresh_net():
    """The network as training begins, in float64."""
    torch.manual_seed(0)
    return MNISTNet().double()


def lived_in_net():
    """A network none of whose parameters or statistics has its initial value."""
    net = fresh_net()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * (torch.rand_like(tensor) - 0.5)
    return net


NETS = pytest.mark.parametrize("net", [fresh_net(), lived_in_net()], ids=["fresh", "lived in"])


def test_layers_are_those_of_the_network():
    modules = [name for name, module in MNISTNet().named_modules() if not list(module.children())]
    assert [name for name in LAYERS if name != "flatten"] == modules[:-1]
    assert modules[-1] == "log_softmax"


@NETS
def test_loss_and_all_gradients_equal_autograds(net, batch):
    rows = referee.compare(net, *batch)
    assert [row.tensor for row in rows] == ["loss", "images", *dict(net.named_parameters())]
    assert sum(row.values for row in rows[2:]) == 17_498
    assert rows[0].difference <= 1e-13
    for row in rows[1:]:
        assert row.approximate, row
        assert row.relative <= 1e-10, row


def test_gradients_equal_autograds_on_mnist(mnist):
    rows = referee.compare(fresh_net(), *referee.real_digits(mnist, 16))
    assert all(row.approximate for row in rows)


@pytest.mark.parametrize("count", [1, 3])
def test_gradients_of_a_tiny_batch(count, digits):
    rows = referee.compare(fresh_net(), *referee.real_digits(digits, count), seed=1)
    assert all(row.approximate for row in rows)


@pytest.mark.parametrize("training", [True, False])
def test_every_activation_equals_pytorchs(training, batch):
    net = lived_in_net().train(training)
    seen = {}
    for name, module in net.named_modules():
        module.register_forward_hook(
            lambda _, x, y, name=name: seen.update({name: y.detach().clone()})
        )
    masks = referee.dropout_masks(net, 16, seed=3) if training else None
    outputs = forward(to_numpy(net.state_dict()), batch[0].numpy(), masks)
    torch.manual_seed(3)
    seen.clear()
    net(batch[0])
    for name in outputs.keys() - {"input", "flatten"}:
        np.testing.assert_allclose(outputs[name], seen[name], rtol=0, atol=1e-12, err_msg=name)


def test_the_slope_along_every_activation_is_kept(batch):
    net = fresh_net().train()
    weights, masks = to_numpy(net.state_dict()), referee.dropout_masks(net, 16, seed=0)
    outputs = forward(weights, batch[0].numpy(), masks)
    gradients, slopes = backward(weights, outputs, batch[1].numpy(), masks)
    assert gradients.keys() == dict(net.named_parameters()).keys()
    assert slopes.keys() | {"log_softmax"} == outputs.keys()
    for name, slope in slopes.items():
        assert slope.shape == outputs[name].shape, name


def test_silenced_biases_change_nothing(batch):
    net = fresh_net().train()
    weights, masks = to_numpy(net.state_dict()), referee.dropout_masks(net, 16, seed=0)
    images, labels = (tensor.numpy() for tensor in batch)
    before, gradients, _ = differentiate(weights, images, labels, masks)
    assert sum(weights[name].size for name in SILENCED) == 112
    for name in SILENCED:
        weights[name] += 1
        assert np.abs(gradients[name]).max() < 1e-13
    after, _, _ = differentiate(weights, images, labels, masks)
    assert after == pytest.approx(before, abs=1e-12)


def test_the_referee_notices_a_forgotten_path(batch, monkeypatch):
    def without_variance(dy, x, weight, bias):
        _, dweight, dbias = layers.batch_norm_backward(dy, x, weight, bias)
        scale = weight / np.sqrt(x.var((0, 2, 3)) + layers.EPS)
        mean = dy.mean((0, 2, 3), keepdims=True)
        return scale[:, None, None] * (dy - mean), dweight, dbias

    monkeypatch.setitem(LAYERS, "block1.norm1", (NORM[0], without_variance))
    wrong = [row.tensor for row in referee.compare(fresh_net(), *batch) if not row.approximate]
    assert wrong == ["images", "block1.conv1.weight"]


def test_the_rule_for_ties_shows_at_the_images_alone(batch, monkeypatch):
    def to_the_last(dy, x):
        n, c, h, w = dy.shape
        winner = 3 - layers.quarters(x)[..., ::-1].argmax(axis=-1)
        routed = dy[..., None] * (winner[..., None] == np.arange(4))
        return routed.reshape(n, c, h, w, 2, 2).swapaxes(3, 4).reshape(x.shape)

    for name in ("transition1.pool", "transition2.pool"):
        monkeypatch.setitem(LAYERS, name, (layers.max_pool_forward, to_the_last))
    wrong = [row.tensor for row in referee.compare(fresh_net(), *batch) if not row.approximate]
    assert wrong == ["images"]


def test_one_sgd_step_equals_pytorchs(batch):
    net = lived_in_net().train()
    images, labels = batch
    weights, masks = to_numpy(net.state_dict()), referee.dropout_masks(net, 16, seed=0)
    outputs = forward(weights, images.numpy(), masks)
    gradients, _ = backward(weights, outputs, labels.numpy(), masks)
    train.sgd_step(weights, gradients, {}, lr=0.1)
    train.update_running_statistics(weights, outputs)

    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(0)
    F.nll_loss(net(images), labels).backward()
    optimizer.step()
    for name, expected in net.state_dict().items():
        if expected.is_floating_point():
            np.testing.assert_allclose(weights[name], expected, rtol=0, atol=1e-13, err_msg=name)


def test_twenty_steps_stay_with_pytorch(digits):
    net = fresh_net()
    batches = train.training_batches(train.subset(digits, 640), epochs=1, seed=0)
    weights, losses = train.train_by_hand(net, batches)
    expected = train.train_by_autograd(net, batches)
    assert len(losses) == 20
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-9)
    assert np.mean(losses[-3:]) < np.mean(losses[:3])

    few = replace(digits, test=tuple(tensor[:100] for tensor in digits.test))
    net.eval()
    images = few.normalise(few.test[0].float()).double()
    right = (net(images).argmax(1) == few.test[1]).double().mean().item()
    assert train.accuracy(weights, few) == pytest.approx(100 * right)


def test_the_training_command(tmp_path, capsys):
    plot = tmp_path / "curve.png"
    arguments = ["--dataset", "digits", "--epochs", "1", "--images", "64", "--plot", str(plot)]
    assert train.main(arguments) == 0
    assert "64 digits of scikit-learn digits" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_referee_command(capsys):
    assert referee.main(["--dataset", "digits", "--images", "2"]) == 0
    assert "17,498 parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train, ["--epochs", "0"], "--epochs must be 1 or more, not 0."),
        (train, ["--images", "31"], "--images must be from 32"),
        (train, ["--images", "99999"], "to the 1,437 of scikit-learn digits, not 99999."),
        (train, ["--seed", "-1"], "--seed must be from 0"),
        (train, ["--plot", "nowhere/curve.png"], "--plot must be a .png in a folder that exists"),
        (train, ["--epochs", "six"], "invalid int value: 'six'"),
        (referee, ["--images", "0"], "--images must be from 1 to 1000, not 0."),
        (referee, ["--seed", "-1"], "--seed must be from 0"),
    ],
)
def test_a_mistake_gets_one_line(command, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--dataset", "digits", *arguments])
    out, err = capsys.readouterr()
    assert message in err
    assert (stopped.value.code, err.count("\n"), out) == (2, 1, "")


@pytest.mark.parametrize("command", [train, referee])
def test_a_damaged_file_is_named(command, tmp_path, capsys):
    file = tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not MNIST")
    with pytest.raises(SystemExit, match="2"):
        command.main(["--dataset", "mnist", "--data", str(tmp_path)])
    assert f"{file} is damaged" in capsys.readouterr().err


def test_readme_shows_the_table_that_the_referee_prints(batch):
    lines = (ROOT / "backprop" / "README.md").read_text("utf-8").splitlines()
    rows = referee.table(referee.compare(fresh_net(), *batch)).splitlines()
    start = lines.index(rows[0])
    shown, printed = ([cells(line) for line in part] for part in (lines[start:][: len(rows)], rows))
    # The last digits, and with them `exact` and the differences, belong to a machine.
    assert [(name, values, near) for name, values, _, near, *_ in shown] == [
        (name, values, near) for name, values, _, near, *_ in printed
    ]
    for *_, difference, relative in shown[2:]:
        assert float(difference) < 1e-13
        assert float(relative) < 1e-10


def cells(line):
    """What stands between the bars of a Markdown table's row."""
    return [cell.strip() for cell in line.strip("|").split("|")]
