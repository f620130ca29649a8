"""`fit` trains networks that the library has never seen, and refuses what isn't one."""

import re
import types
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from s4lib import BEST, CLASSIC, MNISTNet, UsageError, evaluate, fit
from tests.faults import few_digits

QUICK = replace(CLASSIC, epochs=2, batch_size=40, milestones=(1,))


@pytest.fixture(scope="module")
def few(digits):
    return few_digits(digits, 160, 40)


class Functional(nn.Module):
    """Pooling, activation and dropout are functions; a layer is used twice; there is a skip."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding="same", dilation=2)
        self.norm = nn.GroupNorm(2, 8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 10)

    def maps(self, x, pool=F.max_pool2d):
        x = pool(F.relu(self.norm(self.first(x))), 2)
        x = x + self.depthwise(F.relu(self.depthwise(x)))
        return F.avg_pool2d(x, kernel_size=3, stride=2)

    def forward(self, x):
        x = F.relu(self.maps(x).mean((2, 3)))
        x = F.dropout(x, 0.2, training=self.training)
        return F.log_softmax(self.fc(x), dim=1)


class Branching(nn.Module):
    """A network whose result depends on the mode, on the data and on chance."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Conv2d(1 if i == 0 else 4, 4, 3) for i in range(3))
        self.fc = nn.LazyLinear(10)

    def forward(self, x):
        for block in self.blocks:
            x = F.gelu(block(x))
            if self.training and torch.rand(()) < 0.5:
                x = 1.1 * x
            elif x.abs().max() > 1e6:
                break
        return self.fc(F.adaptive_max_pool2d(x, 4).flatten(1)).log_softmax(1)


def mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10), nn.LogSoftmax(1)
    )


class MyNet(MNISTNet):
    """A subclass may compute something else, so its own `forward` must be what trains."""

    def forward(self, x):
        return super().forward(x.flip(-1))


def patched():
    """The network of the course with another head, and with a `forward` of its own."""
    net = MNISTNet()
    net.fc = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10))
    net.forward = types.MethodType(lambda self, x: MNISTNet.forward(self, x.flip(-1)), net)
    return net


class Viewing(nn.Module):
    """As in pytorch/examples: `view` of a map, which has to be contiguous."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 5, 4), nn.Linear(144, 10)

    def forward(self, x):
        x = F.dropout(F.relu(self.conv(x)), 0.1, self.training)
        return F.log_softmax(self.fc(x.view(-1, 144)), dim=1)


NETWORKS = [Functional, Branching, mlp, MyNet, patched, Viewing]


@pytest.mark.parametrize("network", NETWORKS)
def test_any_network_is_trained_and_a_seed_fixes_its_weights(network, few, tmp_path):
    recipe = BEST.adjusted(epochs=2, batch_size=40)
    model, run = fit(network, few, recipe, 1, "cpu", tmp_path)
    again, same = fit(network, few, recipe, 1, "cpu")
    assert (run.network, len(run.epochs)) == (type(model).__name__, 2)
    assert run.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert [replace(e, seconds=0) for e in run.epochs] == [
        replace(e, seconds=0) for e in same.epochs
    ]
    for name, value in model.state_dict().items():
        assert value.equal(again.state_dict()[name]), name
    assert evaluate(model, few)[1] == run.epochs[-1].test_correct


@pytest.mark.parametrize("network", NETWORKS)
def test_training_is_what_plain_pytorch_makes_of_it(network, few, monkeypatch):
    """The loop written out: same weights to the bit, so nothing is done behind forward's back."""
    monkeypatch.setattr("s4lib.train.choose_precision", lambda _device: torch.float32)
    recipe = replace(QUICK, epochs=1, milestones=(), rotation=0)
    model, _ = fit(network, few, recipe, 3, "cpu")

    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(3)
    plain, (images, labels) = network().eval(), few.train
    plain(few.normalise(images[:1]))  # gives lazy layers their shapes
    if network is not Viewing:
        plain.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(plain.parameters(), recipe.lr, fused=True)
    plain.train()
    for pick in torch.randperm(160, generator=generator).split(40):
        loss = F.nll_loss(plain(few.normalise(images[pick].float())), labels[pick])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_hooks_are_called_in_training_as_in_testing(few):
    net, training = MNISTNet(), []
    net.block1.register_forward_hook(lambda block, *_: training.append(block.training))
    fit(net, few, QUICK, device="cpu")
    tried = [False, True]  # the output is looked at, and a step rehearsed
    assert training == tried + 2 * ([True] * 4 + [False])


def test_a_network_itself_is_trained_in_place(few):
    torch.manual_seed(0)
    net = mlp()
    before = net[1].weight.clone()
    model, _ = fit(net, few, QUICK, device="cpu")
    assert model is net
    assert not net[1].weight.equal(before)


def test_on_batch_is_called_after_every_step_with_its_loss(few):
    seen = []
    fit(mlp, few, QUICK, device="cpu", on_batch=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == [0, 1, 2, 3] * 2
    assert all(loss.isfinite() and not loss.requires_grad for _, loss in seen)


def test_what_is_no_network_is_refused(few):
    for wrong in (7, None, CLASSIC, lambda: 7, "MNISTNet"):
        with pytest.raises(UsageError, match=r"must be an nn\.Module, or a class or function"):
            fit(wrong, few, QUICK)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Flatten(), nn.Linear(784, 11)], r"returns \(4, 11\) for 4 images, not \(4, 10\)"),
        ([nn.Conv2d(1, 10, 28)], r"returns \(4, 10, 1, 1\) for 4 images"),
        ([nn.Flatten(), nn.Linear(784, 10)], "not log-probabilities"),
        ([nn.Flatten(), nn.Linear(784, 10), nn.Softmax(1)], "not log-probabilities"),
        ([nn.Flatten(), nn.Linear(784, 10), nn.LogSoftmax(0)], "not log-probabilities"),
    ],
)
def test_other_outputs_are_refused_with_the_line_that_mends_it(layers, message, few, tmp_path):
    with pytest.raises(UsageError) as error:
        fit(nn.Sequential(*layers), few, QUICK, device="cpu", out=tmp_path / "run")
    text = " ".join(str(error.value).split())
    assert re.search(message, text)
    assert len(str(error.value).splitlines()) == 2
    assert not (tmp_path / "run").exists()
    advice = str(error.value).splitlines()[1]
    x = torch.randn(4, 10)
    if "log_softmax" in advice:  # the line helps
        repaired = eval(advice.removeprefix("return "), {"torch": torch, "x": x})
        torch.testing.assert_close(repaired.exp().sum(1), torch.ones(4))


def test_a_network_with_nothing_to_learn_is_refused(few):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 10), 0.1).log()

    with pytest.raises(UsageError, match="nothing to train"):
        fit(Constant, few, QUICK, device="cpu")
