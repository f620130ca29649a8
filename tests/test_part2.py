"""The checks of part 2 let right answers pass, by any route, and name every usual slip."""

import json
import shutil
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from notebooks.assignment import model_answer, part2, shipped
from notebooks.assignment.compare import AnswerError, NotGradedError
from s4lib import Dataset, MNISTNet, UsageError
from s4lib.runtime.checkpoint import load_weights, save_weights
from tests import answers, mistakes
from tests.mistakes import part2_network
from tests.mistakes.part2_network import CORRECT, MISTAKES

STEM = "part2_network"
attempt = partial(answers.attempt, STEM)
CHECKS = [name for name in answers.cells(STEM) if name.startswith("check-") and name != "check-run"]


@pytest.mark.parametrize("check", CHECKS)
def test_the_solution_passes_every_check(check):
    said = attempt(check)
    assert said.startswith("✓")
    assert "✗" not in said
    assert said.count("\n") == 1 or check == "check-network"


@pytest.mark.parametrize("slip", mistakes.rows(MISTAKES), ids="{0[0]}: {0[3]}".format)
def test_every_slip_is_named(slip):
    said = mistakes.said(STEM, *slip)
    assert slip[-1] in said
    assert said.count("\n") <= 2


def test_every_hint_is_planted():
    """But for `MEAN_SLIPS`, which the next test checks in both loops."""
    tables = part2.FIELD_SLIPS, part2.TRAIN_SLIPS, part2.TEST_SLIPS
    assert mistakes.never_said(STEM, MISTAKES, *tables) == []


@pytest.mark.parametrize("hint", part2.MEAN_SLIPS)
def test_means_that_are_no_means(hint):
    """Also where every other number is right."""
    for means in part2.MEAN_SLIPS[hint][:2]:
        for check, loop in (
            (part2.check_train_epoch, part2.slipped_train),
            (part2.check_test, part2.slipped_test),
        ):
            with pytest.raises(AnswerError) as caught:
                check(partial(loop, means=lambda *measured, m=means: fill(m(*measured), measured)))
            assert hint in str(caught.value)


def fill(pair, measured):
    """Both measures, the right one where the slip is about the other."""
    right = part2.right_means(*measured)
    return [a if a == a else b for a, b in zip(pair, right, strict=True)]


# Networks


class Modules(MNISTNet):
    pass


def test_a_network_of_modules_and_a_function_that_makes_one_pass():
    for network in (Modules, Modules(), lambda: MNISTNet(0.02, 0.02)):
        part2.check_network(network)


class Instead(nn.Module):
    """The requirements, met otherwise: log of softmax, a mean over rows and columns, 2d dropout."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Dropout2d(0.1), nn.Conv2d(8, 9, 3)
        )
        self.last = nn.Linear(9, 10)
        nn.init.zeros_(self.last.weight)  # all classes alike, as some begin

    def forward(self, x):
        return torch.log(F.softmax(self.last(self.layers(x).mean(3).mean(2)), -1))


class Lazy(Instead):
    def __init__(self):
        super().__init__()
        self.last = nn.LazyLinear(10)


def test_other_forms_of_a_network_pass():
    part2.check_network(Instead)
    part2.check_network(Lazy)


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        (partial(MNISTNet, 0, 0), "✗ no dropout at work, although block3.dropout is there"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)),
            r"returns \(4, 9\), not \(4, 10\)",
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(0)), "not log-prob"),
        (model_answer.Net, "✗ this is the course's model answer, layer by layer"),
        (lambda: 3, "must be an nn.Module"),
    ],
)
def test_what_a_network_lacks_is_said(network, hint):
    with pytest.raises((AnswerError, UsageError), match=hint):
        part2.check_network(network)


def test_the_model_answer_is_known_under_other_names():
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            inner = model_answer.Net()
            self.a, self.b = inner.classify, inner.features

        def forward(self, x):
            x = F.dropout(self.b(x).mean((2, 3)), 0.1, self.training)
            return self.a(x).log_softmax(1)

    with pytest.raises(AnswerError, match="the course's model answer"):
        part2.check_network(Mine)


# Receptive fields


def fields_from_the_end(layers):
    """From the last layer back: what reaches one activation."""
    sides = []
    for count in range(1, len(layers) + 1):
        side = 1
        for kernel, stride in reversed(layers[:count]):
            side = side * stride + kernel - stride
        sides.append(side)
    return torch.tensor(sides)


def fields_one_by_one(layers):
    field = jump = 1
    while layers:
        (kernel, stride), *layers = layers
        field, jump = field + (kernel - 1) * jump, jump * stride
        yield field


@pytest.mark.parametrize("fields", [fields_from_the_end, fields_one_by_one])
def test_receptive_fields_by_another_route(fields):
    part2.check_fields(fields)


def test_by_hand_of_another_network():
    sees = (3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40)
    part2.check_by_hand(sees, MNISTNet)
    part2.check_by_hand(torch.tensor(sees), MNISTNet())


# Loops


def train_with_cross_entropy(model, batches, optimizer):
    model.train(True)
    losses, hits = [], []
    for images, labels in batches:
        model.zero_grad()
        log_probs = model(images)
        each = F.cross_entropy(log_probs, labels, reduction="none")
        each.mean().backward()
        optimizer.step()
        losses.append(each)
        hits.append(log_probs.max(1).indices == labels)
    return torch.cat(losses).mean(), 100 * torch.cat(hits).double().mean()


def train_by_indexing(model, batches, optimizer):
    model.train()
    loss_sum, right, count = torch.zeros(()), 0, 0
    for images, labels in batches:
        optimizer.zero_grad(set_to_none=False)
        chosen = (out := model(images))[range(len(labels)), labels]
        (-chosen.sum() / len(labels)).backward()
        optimizer.step()
        loss_sum -= chosen.detach().sum()
        right += sum(int(a) == int(b) for a, b in zip(out.argmax(1), labels, strict=True))
        count += images.shape[0]
    return float(loss_sum) / count, right / count * 100


def train_in_the_tutorials_way(model, batches, optimizer):
    """Moves to a device, casts, shows progress, clears at the end."""
    from tqdm.auto import tqdm

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    criterion, running, correct, total = nn.NLLLoss(), 0.0, 0, 0
    for _, (images, labels) in enumerate(tqdm(batches)):
        images, labels = images.float().to(device), labels.to(device)
        loss = criterion(output := model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        running += loss.item() * labels.size(0)
        correct += output.max(1)[1].eq(labels).sum().item()
        total += labels.size(0)
    return running / total, 100.0 * correct / total


def train_with_a_closure(model, batches, optimizer):
    model.train()
    losses, hits = [], []
    for images, labels in batches:

        def closure(images=images, labels=labels):
            optimizer.zero_grad()
            output = model(images)
            loss = F.nll_loss(output, labels)
            loss.backward()
            losses.append(loss.item() * len(labels))
            hits.extend((output.argmax(1) == labels).tolist())
            return loss

        optimizer.step(closure)
    return sum(losses) / len(hits), 100 * sum(hits) / len(hits)


@pytest.mark.parametrize(
    "train",
    [
        train_with_cross_entropy,
        train_by_indexing,
        train_in_the_tutorials_way,
        train_with_a_closure,
    ],
)
def test_training_by_another_route(train):
    part2.check_train_epoch(train)


@torch.inference_mode()
def all_at_once(model, batches):
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    log_probs = model.train(False)(images)
    return F.nll_loss(log_probs, labels), (log_probs.argmax(1) == labels).double().mean() * 100


@torch.no_grad()
def back_in_training_mode(model, batches):
    was = model.training
    model.eval()
    rows = [(F.nll_loss(model(x), y, reduction="sum"), (model(x).argmax(1) == y).sum(), len(y))
            for x, y in batches]  # fmt: skip
    model.train(was)
    losses, correct, counts = (sum(column) for column in zip(*rows, strict=True))
    return [(losses / counts).item(), (100 * correct / counts).item()]


@pytest.mark.parametrize("test", [all_at_once, back_in_training_mode])
def test_testing_by_another_route(test):
    part2.check_test(test)


# The run


class Small(nn.Sequential):
    """So small that 10,000 images take no time."""

    def __init__(self):
        last = nn.Linear(16, 10), nn.LogSoftmax(1)
        super().__init__(nn.AvgPool2d(7), nn.Flatten(), *last)


@pytest.fixture(scope="module")
def stand_in():
    """A stand-in for MNIST; `Small` with seed 0 predicts CORRECT of its test images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (10_000, 1, 28, 28), generator=generator, dtype=torch.uint8)
    torch.manual_seed(0)
    model = Small().eval()
    digits = Dataset("MNIST", (images[:10], torch.zeros(10, dtype=torch.long)), (images, None))
    with torch.no_grad():
        labels = model(digits.normalise(images)).argmax(1)
    labels[: 10_000 - CORRECT] += 1
    return model, Dataset("MNIST", digits.train, (images, labels % 10))


@pytest.fixture
def handed_in(tmp_path, monkeypatch, stand_in):
    """A run of `Small`, and MNIST's stand-in at hand."""
    model, digits = stand_in
    monkeypatch.setattr(part2, "load", lambda _: digits)
    part2_network.write_run(tmp_path)
    save_weights(tmp_path / "run/weights.pt", model.state_dict())
    change(tmp_path / "run", network="Small", parameters=170)
    return tmp_path / "run"


def change(folder, *numbers, **facts):
    """Have the history of a run say other things; `numbers` are correct images of the last."""
    history = json.loads((folder / "history.json").read_text()) | facts
    for epoch, correct in zip(reversed(history["epochs"]), numbers, strict=False):
        epoch["test_correct"] = correct
    (folder / "history.json").write_text(json.dumps(history))


def test_each_of_the_last_epochs_has_a_point(handed_in, capsys):
    points = part2.check_run(Small, handed_in)
    assert (type(points), points) == (float, 5.0)
    change(handed_in, CORRECT, 9940, 9939, 9941, 9000)
    assert part2.check_run(Small, str(handed_in)) == 3.0
    assert "✗ 90.00 % in epoch 15 of seed 0" in capsys.readouterr().out


def test_without_mnist_a_run_is_not_graded(handed_in, monkeypatch, digits):
    monkeypatch.setattr(part2, "load", lambda _: digits)
    with pytest.raises(NotGradedError, match=r"^not graded: MNIST is not available"):
        part2.check_run(Small, handed_in)


def test_a_run_that_does_not_count(handed_in):
    for facts, hint in (
        ({"dataset": "scikit-learn digits"}, "✗ data: scikit-learn digits, .*Delete run"),
        ({"network": "Other"}, "✗ trained: Other"),
        ({"recipe": {"epochs": 20}}, "✗ 20 epochs, not fewer than 20"),
        ({"recipe": {"epochs": 18}}, "✗ seed 0 has 19 of 18 epochs"),
    ):
        change(handed_in, **{"dataset": "MNIST"} | facts)
        with pytest.raises(AnswerError, match=hint):
            part2.check_run(Small, handed_in)
    shutil.rmtree(handed_in)
    with pytest.raises(UsageError, match="holds no history of a run"):
        part2.check_run(Small, handed_in)


def test_the_weights_are_tested(handed_in):
    change(handed_in, 9970)
    with pytest.raises(AnswerError, match=f"predict {CORRECT:,} correctly, its history has 9,970"):
        part2.check_run(Small, handed_in)
    for content, hint in ((b"no weights", "not a file of weights"), (None, "holds no weights.pt")):
        (handed_in / "weights.pt").unlink()
        if content:
            (handed_in / "weights.pt").write_bytes(content)
        with pytest.raises((AnswerError, UsageError), match=hint):
            part2.check_run(Small, handed_in)


def test_the_model_answer_s_run_is_refused(handed_in):
    with pytest.raises(AnswerError, match="the course's model answer"):
        part2.check_run(model_answer.Net, handed_in)


def test_with_mnist_a_real_run_counts(tmp_path, mnist, monkeypatch):
    monkeypatch.setattr(part2, "load", lambda _: mnist)
    part2_network.write_run(tmp_path)
    space = answers.solve("part2_network")
    assert part2.check_run(space["Net"], tmp_path / "run") == 5.0


# Weights that were shipped


class Wrapped(nn.Module):
    """`MNISTNet`'s tensors under other names, in another order and shape, with others beside."""

    def __init__(self, tensors):
        super().__init__()
        self.more = nn.Linear(30, 30)
        for number, tensor in enumerate(reversed(tensors)):
            self.register_buffer(f"t{number}", tensor.flip(0).flatten())


def noisy(model, size):
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += size * (2 * torch.rand(parameter.shape, generator=generator) - 1)
    return model


def test_shipped_weights_are_known_whatever_they_are_called():
    model = load_weights(MNISTNet())
    assert shipped.is_shipped(model)
    assert shipped.is_shipped(noisy(model, 9e-4))
    assert shipped.is_shipped(Wrapped([*load_weights(MNISTNet()).state_dict().values()]))
    assert shipped.is_shipped(load_weights(MNISTNet()).half())
    for other in (MNISTNet(), model_answer.Net(), noisy(load_weights(MNISTNet()), 8e-3), Small()):
        assert not shipped.is_shipped(other)


def test_shipped_weights_are_refused(tmp_path, handed_in):
    class Net(MNISTNet):
        pass

    save_weights(handed_in / "weights.pt", noisy(load_weights(MNISTNet()), 9e-4).state_dict())
    change(handed_in, network="Net", parameters=17_498)
    with pytest.raises(AnswerError, match="these weights came with the course"):
        part2.check_run(Net, handed_in)


def test_every_file_of_weights_that_was_shipped_is_known():
    known = json.loads(shipped.KNOWN.read_text())
    assert len(known) >= 3
    assert shipped.is_shipped(load_weights(MNISTNet())), "python -m notebooks.assignment.shipped"
    for tensors in known:
        assert len(tensors) >= 8
        for _, values in tensors:
            assert values == sorted(values)
            assert len(values) == shipped.VALUES
