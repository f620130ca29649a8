"""Networks by hand against PyTorch: every tensor, every step, refusals, and the commands."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import nn

from backprop import layers, referee, train
from backprop.record import record
from backprop.tape import forward
from s4lib import UsageError
from s4lib.data import load
from s4lib.model import MNISTNet
from s4lib.receptive_field import receptive_fields
from tests.faults import few_digits

LESSON = Path(__file__).parents[1] / "backprop" / "LAYERS.md"


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
    """Four of them, normalised, in float64, with their labels."""
    return referee.real_digits(digits, 4)


def fresh_net():
    """The network as training begins, in float64."""
    torch.manual_seed(0)
    return MNISTNet().double()


def lived_in(net):
    """A network none of whose parameters or statistics has its initial value."""
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * (torch.rand_like(tensor) - 0.5)
    return net


# The network of Part 2


@pytest.mark.parametrize("change", [lambda net: net, lived_in], ids=["fresh", "lived in"])
def test_loss_and_all_gradients_equal_autograds(change, batch):
    """Of digits that are not quite blank anywhere: where activations are equal, rounding may decide
    which of them max pooling sends its gradient to, on some processors otherwise than by hand.
    """
    net, (images, labels) = change(fresh_net()), batch
    texture = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    rows = referee.compare(net, images + 1e-3 * texture.double(), labels)
    assert [row.tensor for row in rows] == ["loss", "images", *dict(net.named_parameters())]
    assert sum(row.values for row in rows[2:]) == 17_498
    assert rows[0].difference <= 1e-13
    assert max(row.relative for row in rows[1:]) <= 1e-10
    assert all(row.approximate for row in rows)


def test_comparing_leaves_the_network_alone(batch):
    net = fresh_net().float().eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert all(row.approximate for row in referee.compare(net, *batch))
    assert not net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
def test_every_activation_equals_pytorchs(training, batch):
    net = lived_in(fresh_net()).train(training)
    seen = []
    for module in net.modules():
        if not list(module.children()) and (training or not isinstance(module, nn.Dropout)):
            module.register_forward_hook(lambda _, x, y: seen.append(y.detach().clone()))
    steps, values = record(net, batch[0], seed=3)
    assert len(seen) == (29 if training else 27)
    values = forward(steps, values)
    for step, expected in zip((s for s in steps if s.kind != "flatten"), seen, strict=True):
        np.testing.assert_allclose(values[step.output], expected, rtol=0, atol=1e-12)


def test_biases_before_a_norm_change_nothing(batch):
    """Six convolutions have 112 of them; the table marks these rows and no others."""
    marked = {
        row.tensor: row.values for row in referee.compare(fresh_net(), *batch) if row.vanishes
    }
    assert sum(marked.values()) == 112
    steps, values = record(fresh_net(), batch[0])
    before = forward(steps, values)[steps[-1].output]
    after = forward(steps, values | {name: values[name] + 1 for name in marked})
    np.testing.assert_allclose(after[steps[-1].output], before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("off", "noticed"), [(1e-9, True), (1e-12, False)])
def test_the_referee_notices_a_billionth_and_not_what_rounding_does(
    off, noticed, batch, monkeypatch
):
    def slightly_off(*args):
        return tuple((1 + off) * gradient for gradient in right(*args))

    right = layers.linear_backward
    monkeypatch.setattr(layers, "linear_backward", slightly_off)
    rows = {row.tensor: row.approximate for row in referee.compare(fresh_net(), *batch)}
    assert rows["fc.weight"] is not noticed


# Other networks


def ending(*modules):
    return nn.Sequential(*modules, nn.LogSoftmax(dim=1))


class Functional(nn.Module):
    """Functions instead of modules, a layer used twice, a skip, control flow, odd maps, no bias."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, bias=False)
        self.conv2 = nn.Conv2d(3, 3, 3, padding="same")
        self.norm = nn.BatchNorm2d(3, affine=False)
        self.fc = nn.Linear(3 * 6 * 6, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(input=self.norm(self.conv1(x))), 2)  # (N, 3, 13, 13)
        y = x
        for _ in range(2):
            y = self.conv2(F.relu(y))
        y = F.dropout(F.max_pool2d(y + x, 2, stride=2), 0.3, self.training)
        if y.mean() > -1e9:
            y = y + y
        return F.log_softmax(self.fc(y.view(len(y), -1)), dim=-1)


class Overwriting(nn.Module):
    """Layers overwrite their inputs: a constant, products and sums with constants, a sum of many
    terms, and a branch without gradients.
    """

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(4 * 13 * 13, 10)
        self.register_buffer("offset", torch.linspace(-1, 1, 4)[:, None, None])

    def forward(self, x):
        x *= 0.7
        x = F.relu_(self.conv(x.add_(0.1)))
        y = torch.full_like(x, 0.2).detach()
        y += sum([x, x + self.offset, x.detach() - 0.1])
        x = F.max_pool2d(F.dropout2d(y, 0.3, self.training, inplace=True), 2)
        return F.log_softmax(self.fc(x.flatten(1)), 1)


class Frozen(Functional):
    """A batch norm that stays with its running statistics, and a weight that is not trained."""

    def train(self, mode=True):
        super().train(mode)
        self.norm.eval()
        self.conv1.weight.requires_grad_(False)
        return self


NETWORKS = {
    "functional": Functional,
    "frozen": Frozen,
    "overwriting": Overwriting,
    "pooling before the norm": lambda: ending(
        *(nn.Conv2d(1, 4, 5, padding=2), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.ReLU(True)),
        *(nn.Dropout2d(0.5), nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 10, bias=False)),
    ),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_any_network_of_known_layers(make, batch):
    """Layers that could be written; those that students do write are in zoo_networks.py."""
    torch.manual_seed(2)
    rows = referee.compare(lived_in(make()), *batch, seed=5)
    assert [row for row in rows if not row.approximate] == []
    assert sum(row.vanishes for row in rows) == (make is NETWORKS["pooling before the norm"])


def threshold(x, threshold):
    """x where it is above the threshold, else 0."""
    return np.where(x > threshold, x, 0)


def threshold_backward(dy, x, threshold):
    return np.where(x > threshold, dy, 0)


PAIRS = {
    "sin": (torch.sin, np.sin, lambda dy, x: dy * np.cos(x)),
    "threshold": (nn.Threshold(0.1, 0.0), threshold, threshold_backward),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_that_a_student_adds_is_used(name, batch, monkeypatch):
    function, forward, backward = PAIRS[name]
    net = written(lambda net, x: function(net.fc(x)))
    with pytest.raises(UsageError, match=rf"lacks {name}_forward and {name}_backward\. "):
        referee.compare(net, *batch)
    monkeypatch.setattr(layers, f"{name}_forward", forward, raising=False)
    monkeypatch.setattr(layers, f"{name}_backward", backward, raising=False)
    assert all(row.approximate for row in referee.compare(net, *batch))


class Written(nn.Module):
    """A network whose forward pass is `function`, with a linear layer at hand."""

    def __init__(self, function):
        super().__init__()
        self.fc, self.scale = nn.Linear(784, 10), nn.Parameter(torch.ones(1))
        self.offset = torch.ones(10, requires_grad=True)  # but no nn.Parameter
        self.function = function

    def forward(self, x):
        return self.function(self, x.flatten(1))


def written(function, end=F.log_softmax):
    return Written(lambda net, x: end(function(net, x), dim=1))


def no_gradient(net, x):
    with torch.no_grad():
        return F.relu(net.fc(x))


def overwritten(net, x):
    y = net.fc(x)
    view = y.view(-1, 10)
    return F.relu_(view) + y


REFUSED = {
    "conv_forward and conv_backward with transposed=True": ending(
        *(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(1800, 10)),
    ),
    "conv_forward and conv_backward with dimensions=3": ending(
        *(nn.Flatten(), nn.Unflatten(1, (1, 784)), nn.Conv1d(1, 1, 3)),
        *(nn.Flatten(), nn.Linear(782, 10)),
    ),
    "hardsigmoid_forward and hardsigmoid_backward; sin_forward and sin_backward": written(
        lambda net, x: F.hardsigmoid(net.fc(x)) + torch.sin(net.fc(x))
    ),
    "must end in log_softmax(dim=1), not in log_softmax of (4, 1, 28, 10)": ending(
        nn.Linear(28, 10)
    ),
    "No gradient leads from the network's output back to its images": written(no_gradient),
    "gets an input that was computed without gradients": written(
        lambda net, x: F.linear(no_gradient(net, x), net.fc.weight[:, :10])
    ),
    "returns a tuple, not one tensor": written(lambda net, x: net.fc(x), end=lambda x, dim: (x, x)),
    "must end in log_softmax(dim=1), not in log_softmax, dim=0": written(
        lambda net, x: net.fc(x), end=lambda x, dim: F.log_softmax(x, 0)
    ),
    "copy_slices_forward and copy_slices_backward": written(overwritten),
    "A tensor of shape (10,) is neither a parameter": written(
        lambda net, x: net.fc(x) + net.offset
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_differentiated_is_named(message, batch):
    with pytest.raises(UsageError) as refused:
        referee.compare(REFUSED[message], *batch)
    assert message in str(refused.value)


def test_logits_are_compared_with_the_log_softmax_of_a_cross_entropy(batch):
    torch.manual_seed(0)
    fc = nn.Linear(784, 10)
    rows = referee.compare(nn.Sequential(nn.Flatten(), fc), *batch)
    assert all(row.approximate for row in rows)
    steps, values = record(nn.Sequential(nn.Flatten(), fc).double(), batch[0])
    loss = F.cross_entropy(fc(batch[0].flatten(1)), batch[1])
    by_hand = forward(steps, values)[steps[-1].output]
    assert F.nll_loss(torch.from_numpy(by_hand), batch[1]).item() == pytest.approx(loss.item())


def test_the_lessons_network(capsys):
    code = re.findall(r"```python\n(.+?)```", LESSON.read_text("utf-8"), re.DOTALL)
    exec(next(part for part in code if "backprop.referee" in part), {})
    assert capsys.readouterr().out.count("|     yes     |") == 6  # loss, images, four parameters


# Training by hand


def test_eight_steps_stay_with_pytorch(digits, monkeypatch):
    monkeypatch.setattr(train, "BATCH_SIZE", 8)
    net = fresh_net()
    batches = train.training_batches(few_digits(digits, 64), epochs=1, seed=0)
    weights, losses = train.train_by_hand(net, batches)
    expected = train.train_by_autograd(net, batches)
    assert len(losses) == 8
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-11)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            np.testing.assert_allclose(weights[name], tensor, rtol=0, atol=1e-9, err_msg=name)

    few = few_digits(digits, test=40)
    images = few.normalise(few.test[0].float()).double()
    right = (net.eval()(images).argmax(1) == few.test[1]).double().mean().item()
    assert train.accuracy(net, weights, few) == pytest.approx(100 * right)


# The commands


def test_the_training_command(tmp_path, capsys, monkeypatch):
    plot = tmp_path / "curve.png"
    monkeypatch.setattr(train, "accuracy", lambda net, weights, dataset: 12.5)
    monkeypatch.setattr(train, "SUBSET", 64)
    assert train.main(["--dataset", "digits", "--epochs", "1", "--plot", str(plot)]) == 0
    assert "1 epochs of 64 digits of scikit-learn digits: 12.50% of" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_referee_command(capsys, monkeypatch):
    assert referee.main(["--dataset", "digits", "--images", "2"]) == 0
    assert "2 digits, 17,498 parameters" in capsys.readouterr().out
    monkeypatch.setattr(referee, "GRADIENT_TOLERANCE", 0)
    monkeypatch.setattr(layers, "relu_backward", lambda dy, x: dy)
    assert referee.main(["--dataset", "digits", "--images", "2"]) == 1


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (train, ["--epochs", "0"], "--epochs must be 1 or more, not 0."),
        (train, ["--seed", "-1"], "--seed must be a whole number from 0"),
        (train, ["--plot", "nowhere/curve.png"], "--plot must be a .png in a folder that exists"),
        (train, ["--epochs", "six"], "invalid int value: 'six'"),
        (referee, ["--images", "0"], "--images must be from 1 to 1000, not 0."),
        (referee, ["--seed", "-1"], "--seed must be a whole number from 0"),
    ],
)
def test_a_mistake_gets_one_line(command, arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(["--dataset", "digits", *arguments])
    out, err = capsys.readouterr()
    assert message in err
    assert (stopped.value.code, err.count("\n"), out) == (2, 1, "")


def test_a_scripted_part_is_refused_not_accused():
    """The referee and the receptive fields leave no trace in the network."""
    part = torch.jit.script(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()))
    net = nn.Sequential(part, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    for judge in (lambda: referee.compare(net, images, labels), lambda: receptive_fields(net)):
        with pytest.raises(UsageError, match="0 is scripted"):
            judge()
