"""Each requirement is found missing when it is, and only then; a run's claims are tested."""

import copy
import json
import os
import shutil
import sys
import tracemalloc
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from notebooks.assignment import __main__ as cli
from notebooks.assignment import checklist
from notebooks.assignment.checklist import check_assignment, check_network, check_runs
from s4lib import BEST, CLASSIC, History, UsageError, fit, runs
from s4lib.history import Epoch
from s4lib.recipes import RECIPES
from s4lib.runs import finished_run, read_history
from tests.faults import few_digits

QUICK = replace(CLASSIC, epochs=2, batch_size=64)


class Net(nn.Module):
    """Small, and with all that is required; a test takes parts out."""

    def __init__(self, p=0.1, width=8):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3, stride=4)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(p)
        self.gap = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, 10)

    def forward(self, x):
        x = self.gap(F.relu(self.norm(self.conv(x))))
        return F.log_softmax(self.fc(self.drop(x).flatten(1)), dim=1)


class Functional(nn.Module):
    """The same network without a module for any of the layers."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(8, 1, 3, 3))
        self.weight = nn.Parameter(torch.randn(10, 8))
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))

    def forward(self, x):
        x = F.conv2d(x, self.kernel, stride=4)
        x = F.batch_norm(x, self.mean, self.var, training=self.training)
        x = F.dropout(F.relu(x), 0.1, self.training)
        return F.log_softmax(F.linear(x.mean((2, 3)), self.weight), dim=1)


def unmet(lines) -> list[str]:
    return [str(line) for line in lines if not line.met]


def history(seed=0, accuracy=99.5, epochs=19, planned=None, **changed) -> History:
    """A run of `Net` on all of MNIST that has `accuracy` in every epoch."""
    correct = round(100 * accuracy)
    each = [Epoch(k + 1, 0.01, 0.1, 99, 0.03, accuracy, correct, 10_000, 9) for k in range(epochs)]
    recipe = {**asdict(BEST), "epochs": planned or epochs}
    facts = {"network": "Net", "parameters": 186, "dataset": "MNIST", **changed}
    return History(
        recipe=recipe, seed=seed, device="cpu", precision="float32", epochs=each, **facts
    )


# The network


@pytest.mark.parametrize("network", [Net, Net(), Functional, Functional()])
def test_all_that_is_required_is_seen_at_work(network):
    assert not unmet(check_network(network))


def test_the_limit_of_parameters_is_exact():
    class Padded(Net):
        def __init__(self, total):
            super().__init__()
            self.pad = nn.Parameter(torch.zeros(total - 186))

        def forward(self, x):
            return super().forward(x + self.pad.sum())

    assert not unmet(check_network(Padded(19_999)))
    (line,) = unmet(check_network(Padded(20_000)))
    assert line.startswith("✗ 20,000 parameters, not fewer than 20,000. Save 1: ")


LAYERS = {  # what each is called, and what may stand in its place
    "norm": ("batch normalisation", nn.Identity()),
    "drop": ("dropout", nn.Identity()),
    "gap": ("global average pooling", nn.AdaptiveMaxPool2d(1)),
    "fc": (
        "fully connected layer",
        nn.Sequential(nn.Unflatten(1, (8, 1, 1)), nn.Conv2d(8, 10, 1), nn.Flatten()),
    ),
}


@pytest.mark.parametrize("part", LAYERS)
def test_a_layer_that_is_not_there_is_missed(part):
    net, (kind, instead) = Net(), LAYERS[part]
    setattr(net, part, instead)
    (line,) = unmet(check_network(net))
    assert line.startswith(f"✗ no {kind} at work. ")


@pytest.mark.parametrize("part", LAYERS)
@pytest.mark.parametrize("computed", [False, True])
def test_a_layer_that_the_output_does_not_depend_on_is_missed(part, computed):
    class Idle(Net):
        def forward(self, x):
            x = F.relu(self.norm(self.conv(x)) if part != "norm" else self.conv(x))
            if computed:
                y = x.mean((2, 3)) if part == "fc" else x
                getattr(self, part)(y)  # and its result is forgotten
            x = self.gap(x) if part != "gap" else x.amax((2, 3), keepdim=True)
            x = self.drop(x) if part != "drop" else x
            x = self.fc(x.flatten(1)) if part != "fc" else x.flatten(1).repeat(1, 2)[:, :10]
            return F.log_softmax(x, dim=1)

    (line,) = unmet(check_network(Idle()))
    assert line.startswith(f"✗ no {LAYERS[part][0]} at work, although {part} is there: ")
    assert "Let the output depend on it" in line


def test_dropout_of_nothing_is_missed_and_said():
    (line,) = unmet(check_network(Net(p=0)))
    assert line.startswith("✗ no dropout at work, although drop is there: Dropout(p=0")
    assert "with p > 0" in line


@pytest.mark.parametrize(
    "drop",
    [
        lambda x, training: F.dropout(x, 0.1, training),
        lambda x, training: F.dropout(x, p=0.1, training=training),
        lambda x, training: F.dropout(x, training=training),
        lambda x, training: F.dropout(x, 0.1, training, inplace=True),
        lambda x, training: F.dropout2d(x, 0.1, training),
        lambda x, training: torch.dropout(x, 0.1, training),
        lambda x, training: torch.dropout(x, p=0.1, train=training),
        lambda x, training: F.alpha_dropout(x, 0.1, training),
    ],
)
def test_dropout_is_seen_in_every_form_and_must_rest_in_testing(drop):
    class Dropping(Net):
        always = False

        def forward(self, x):
            x = drop(F.relu(self.norm(self.conv(x))), self.training or self.always)
            return F.log_softmax(self.fc(self.gap(x).flatten(1)), dim=1)

    net = Dropping()
    net.drop = None
    assert not unmet(check_network(net))
    net.always = True
    (line,) = unmet(check_network(net))
    assert line.startswith("✗ dropout at work in testing as well. ")


def test_the_network_is_left_as_it_was():
    net = Net().eval()
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    check_network(net)
    assert not net.training
    assert torch.equal(random, torch.get_rng_state())
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


# Its runs


def test_a_run_that_meets_everything(capsys):
    assert check_assignment(Net, [history(0, 99.4), history(1), history(2)])
    out = capsys.readouterr().out
    assert "✗" not in out
    assert "✓ 99.40 % in epoch 15 of seed 0, the lowest of the last 5: 99.4 % is the goal" in out


@pytest.mark.parametrize(
    ("runs", "line"),
    [
        ([], "✗ no run yet. "),
        ([history(epochs=20)], "✗ 20 epochs, not fewer than 20. "),
        ([history(0), history(1, epochs=25)], "✗ 25 epochs, not fewer than 20. "),
        ([history(epochs=12, planned=19)], "✗ seed 0 has 12 of 19 epochs. "),
        ([history(epochs=4)], "✗ too few epochs to show whether 99.4 % lasts for 5. "),
        ([history(0), history(1), history(1)], "✗ 3 runs of only 2 different seeds. "),
        ([history(network="Other", parameters=9)], "✗ trained: Other with 9 parameters. Train Net"),
        (
            [history(0), history(1, dataset="MNIST, 5,000 training images held out")],
            "✗ data: MNIST with 10,000 test images and MNIST, 5,000 training images held out with",
        ),
    ],
)
def test_a_run_that_misses_one_thing(runs, line):
    (found,) = unmet(check_runs(Net, runs))
    assert found.startswith(line)


def test_a_run_that_was_stopped_in_its_first_epoch_is_not_told_to_take_mnist():
    lines = unmet(check_runs(Net, [history(epochs=0, planned=19)]))
    assert [line.split(" ")[1] for line in lines] == ["seed", "too"]


def test_a_run_on_the_digits_is_not_one_on_mnist():
    run = history(dataset="scikit-learn digits")
    run.epochs = [replace(one, test_correct=360, test_images=360) for one in run.epochs]
    (line,) = unmet(check_runs(Net, [run]))
    assert line.startswith("✗ data: scikit-learn digits with 360 test images. Take all of MNIST")


@pytest.mark.parametrize("epoch", [15, 17, 19])
def test_one_epoch_of_one_seed_below_the_goal_is_enough(epoch):
    low = history(2)
    low.epochs[epoch - 1] = replace(low.epochs[epoch - 1], test_correct=9939)
    (line,) = unmet(check_runs(Net, [history(0), history(1), low]))
    assert line.startswith(f"✗ 99.39 % in epoch {epoch} of seed 2, ")
    assert "missed in 1 of 15" in line
    assert "19,813 parameters are left" in line
    low.epochs[epoch - 1] = replace(low.epochs[epoch - 1], test_correct=9940)
    assert not unmet(check_runs(Net, [history(0), history(1), low]))


def test_an_epoch_before_the_last_five_does_not_count():
    run = history()
    run.epochs[13] = replace(run.epochs[13], test_correct=9000)
    assert not unmet(check_runs(Net, [run]))


# Saved runs


@pytest.fixture(scope="module")
def few(digits):
    return few_digits(digits)


@pytest.fixture(scope="module")
def trained(few, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    fit(Net, few, QUICK, 0, "cpu", folder)
    return folder


@pytest.fixture
def saved(trained, tmp_path):
    """The folder of a finished run, as it is handed in."""
    return shutil.copytree(trained, tmp_path / "run", ignore=lambda *_: ["checkpoint.pt", ".lock"])


def change(folder: Path, **values) -> None:
    """Have the history of a run claim something else of its last epoch."""
    path = folder / "history.json"
    content = json.loads(path.read_text())
    content["epochs"][-1] |= values
    path.write_text(json.dumps(content))


def test_weights_must_give_what_the_history_claims(saved, few, capsys):
    correct = read_history(saved).epochs[-1].test_correct
    assert not check_assignment(Net, [saved], few)
    said = capsys.readouterr().out
    assert f"✓ {saved}: the weights predict {correct} correctly, its history has {correct}" in said

    change(saved, test_correct=correct + 5)  # as on another device
    check_assignment(Net, [saved], few)
    assert f"✓ {saved}" in capsys.readouterr().out
    change(saved, test_correct=correct + 6)
    check_assignment(Net, [saved], few)
    assert f"✗ {saved}: the weights predict {correct} correctly, its history has {correct + 6}" in (
        capsys.readouterr().out
    )


def test_weights_are_not_tested_on_another_data_set(saved, few, capsys):
    check_assignment(Net, [saved], replace(few, name="others"))
    assert f"✗ {saved}: its weights are for scikit-learn digits, and here is others" in (
        capsys.readouterr().out
    )


def test_weights_of_another_network_are_refused(saved, few):
    with pytest.raises(UsageError, match=r"weights of another network.*\nTo train again, delete "):
        check_assignment(lambda: Net(width=9), [saved], few)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        json.dumps({**asdict(history()), "epochs": []}).encode(),
        json.dumps({**asdict(history()), "recipe": {}}).encode(),
        json.dumps({**asdict(history()), "recipe": None}).encode(),
        json.dumps({**asdict(history()), "parameters": "186"}).encode(),
        json.dumps(asdict(history())).replace("9950", "[]").encode(),
        json.dumps(asdict(history())).replace("10000", "0").encode(),
    ],
)
def test_what_is_no_history_is_refused(saved, few, content):
    (saved / "history.json").write_bytes(content)
    with pytest.raises(UsageError, match=r"holds no history of a run"):
        check_assignment(Net, [saved], few)


def test_what_a_history_claims_costs_nothing(saved, few, capsys):
    claim = {**json.loads((saved / "history.json").read_text()), "recipe": {"epochs": 10**7}}
    (saved / "history.json").write_text(json.dumps(claim))
    tracemalloc.start()
    assert not check_assignment(Net, [saved], few)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "✗ seed 0 has 2 of 10000000 epochs" in capsys.readouterr().out
    assert peak < 10**7
    (saved / "history.json").write_text(json.dumps(claim) + " " * 2**22)
    with pytest.raises(UsageError, match="holds no history of a run"):
        check_assignment(Net, [saved], few)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipes")
def test_a_pipe_is_not_waited_for(saved, few):
    (saved / "history.json").unlink()
    os.mkfifo(saved / "history.json")
    with pytest.raises(UsageError, match=r"holds no history of a run"):
        check_assignment(Net, [saved], few)


def test_a_finished_run_is_not_trained_again(saved, few, monkeypatch):
    monkeypatch.setattr(runs, "fit", None)
    model, run = finished_run(Net, few, BEST, 3, "cpu", saved)
    assert (run.seed, len(run.epochs)) == (0, 2)
    weights = torch.load(saved / "weights.pt", weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_an_unfinished_run_is_continued(few, trained, tmp_path):
    steps = iter(range(5))  # of three an epoch
    with pytest.raises(StopIteration):
        fit(Net, few, QUICK, 0, "cpu", tmp_path / "part", on_batch=lambda *_: next(steps))
    assert len(read_history(tmp_path / "part").epochs) == 1
    model, run = finished_run(Net, few, QUICK, 0, "cpu", tmp_path / "part")
    assert len(run.epochs) == 2
    whole = torch.load(trained / "weights.pt", weights_only=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole[name]), name


# The command


NET = '''
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x))).mean((2, 3))
        return F.log_softmax(self.fc(self.drop(x)), dim=1)
'''  # fmt: skip


@pytest.fixture
def command(here, few, monkeypatch, capsys):
    """The command `check`, on few digits and for two epochs, in an empty folder."""
    monkeypatch.setattr(cli, "load", lambda *_: few)
    monkeypatch.setitem(RECIPES, "best", replace(QUICK, name="best"))
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words, source=NET):
        Path("net.py").write_text(source)
        try:
            status = cli.main(["check", *map(str, words)])
        except SystemExit as stop:
            status = stop.code
        said = capsys.readouterr()
        return status, said.out, said.err.split("\r")[-1]

    return run


def test_the_command_trains_once_and_tests_after(command, monkeypatch):
    folders = [*sys.path]
    status, out, _ = command("net.py", "--seeds", 2)
    assert status == 1
    assert sys.path == folders  # what lies beside the network is not imported later
    assert "Epoch 2:" in out
    assert "✓ 186 parameters" in out
    assert "✗ data: scikit-learn digits with 50 test images" in out
    for seed in (0, 1):
        assert f"✓ {Path('runs', 'net', f'best-digits-{seed}')}: the weights predict" in out
    monkeypatch.setattr(runs, "fit", None)
    assert "Epoch" not in command("net.py:Net", "--seeds", 2)[1]
    status, out, _ = command("net.py", "--out", Path("runs", "net", "best-digits-1"))
    assert (status, out.count("the weights predict")) == (1, 1)


def test_exit_status_0_only_if_all_is_met(command, few, monkeypatch):
    monkeypatch.setattr(cli, "load", lambda *_: replace(few, name="MNIST"))
    command("net.py", "--out", "run")
    run = read_history("run")
    claim = run.epochs[-1].test_correct
    monkeypatch.setattr(checklist, "WHOLE", ("MNIST", 50))
    monkeypatch.setattr(checklist, "LAST", 1)
    monkeypatch.setattr(checklist, "GOAL", 2.0 * claim)
    status, out, _ = command("net.py", "--out", "run")
    assert (status, "✗" in out) == (0, False)
    monkeypatch.setattr(checklist, "GOAL", 2.0 * claim + 0.1)
    assert command("net.py", "--out", "run")[0] == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (NET.replace("nn.Dropout(0.1)", "nn.Dropout(7)"), "net.py, line 11: ValueError: dropout"),
        (NET.replace("(8, 10)", "(9, 10)"), "net.py, line 16: RuntimeError: mat1 and mat2 shapes"),
        (NET.replace("F.relu", "nothing.relu") + "\nimport nothing",
         "net.py, line 18: ModuleNotFoundError: No module"),
        (NET.replace("F.log_softmax(self.fc(self.drop(x)), dim=1)", "self.fc(self.drop(x))"),
         "The network's outputs are not log-probabilities"),
    ],
)  # fmt: skip
def test_errors_in_the_file_are_told_in_a_line_or_two(command, source, message):
    status, out, err = command("net.py", source=source)
    assert status == 2
    assert err.startswith(message), err
    assert err.count("\n") <= 3
    assert "✓" not in out


def test_a_function_can_make_the_network_and_the_file_import_its_neighbours(command):
    Path("widths.py").write_text("wide = 12")
    source = NET.replace("8", "wide") + "\nfrom widths import wide\ndef make(): return Net()\n"
    _, out, err = command("net.py:make", source=source)
    assert "✓ 274 parameters" in out, err


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing.py", "There is no Python file nothing.py. Give FILE.py, or FILE.py:Name."),
        ("net.txt", "There is no Python file net.txt."),
        ("net.py:Nothing", "net.py: there is no Nothing at module level; it defines Net."),
        ("net.py:width", "net.py: width is not a class or function that makes a network: int."),
        ("net.py:Other", "net.py: Other is not a network's class: it is not an nn.Module."),
    ],
)
def test_what_cannot_be_checked_is_refused(command, target, message):
    status, _, err = command(target, source=NET + "\nwidth = 8\nclass Other: pass")
    assert status == 2
    assert err.startswith(message), err


def test_a_network_made_at_module_level_is_made_again_for_each_seed(command):
    status, out, err = command("net.py:made", "--seeds", 2, source=NET + "\nmade = Net()")
    assert (status, out.count("the weights predict")) == (1, 2), err


def test_help_says_that_the_file_is_executed(command):
    status, out, _ = command("--help")
    assert status == 0
    assert "of the file is executed: check only what you would run yourself" in " ".join(
        out.split()
    )
