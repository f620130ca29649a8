"""The checks of parts 2 and 3 let right answers pass, by any route, and name every usual slip."""

import contextlib
import functools
import io
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from notebooks.assignment import part2, part3
from notebooks.assignment.compare import AnswerError
from s4lib import MNISTNet, UsageError, load
from tests.mistakes import part2_network, part3_experiment

SOURCE = Path(__file__).parents[1] / "notebooks/assignment/source/session4"
MISTAKES = [
    *(("part2_network", *mistake) for mistake in part2_network.MISTAKES),
    *(("part3_experiment", *mistake) for mistake in part3_experiment.MISTAKES),
]
LONG = ("setup", "data", "try", "train", "run", "mistakes", "results", "table")


@functools.cache
def cells(stem: str) -> dict[str, str]:
    """The code of a source notebook, by grade_id, in its order; not what takes long."""
    notebook = nbformat.read(SOURCE / f"{stem}.ipynb", as_version=4)
    return {
        cell.metadata.nbgrader.grade_id: cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "nbgrader" in cell.metadata
    }


def attempt(stem: str, check: str, **changed: str) -> str:
    """Run the solution, with some of its cells `changed`, and a check; what the check printed."""
    sources = cells(stem)
    imports = sources["data"].split("\nrecipe,")[0]
    said, space = io.StringIO(), {"here": Path()}
    with contextlib.redirect_stdout(said):
        exec(imports, space)
        for name, source in {**sources, **changed}.items():
            if name == check or not name.startswith((*LONG, "check-")) or name == "train-epoch":
                exec(source, space)
            if name == check:
                return said.getvalue()


@pytest.mark.parametrize(
    ("stem", "check"),
    [
        (stem, name)
        for stem in ("part2_network", "part3_experiment")
        for name in cells(stem)
        if name.startswith("check-") and name != "check-run"
    ],
)
def test_the_solution_passes_every_check(stem, check):
    assert "✓" in attempt(stem, check)


@pytest.mark.parametrize(
    ("stem", "cell", "there", "instead", "hint"),
    MISTAKES,
    ids=[f"{cell}: {hint}" for _, cell, _, _, hint in MISTAKES],
)
def test_every_slip_is_named(stem, cell, there, instead, hint):
    source = cells(stem)[cell]
    assert source.count(there) == 1
    with pytest.raises(AnswerError) as caught:
        attempt(stem, f"check-{cell}", **{cell: source.replace(there, instead)})
    assert hint in str(caught.value)


# Right answers by another route


class Modules(MNISTNet):
    pass


def test_a_network_of_modules_and_a_function_that_makes_one_pass():
    for network in (Modules, Modules(), lambda: MNISTNet(0.02, 0.02)):
        part2.check_network(network)


@pytest.mark.parametrize(
    ("network", "hint"),
    [
        (partial(MNISTNet, 0, 0), "✗ no dropout at work, although block3.dropout is there"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), r"\(4, 9\), where it should make"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(0)), "no log-prob"),
    ],
)
def test_what_a_network_lacks_is_said(network, hint):
    with pytest.raises(AnswerError, match=hint):
        part2.check_network(network)


def test_receptive_fields_by_another_route():
    def fields(layers):
        """From the last layer back: what reaches one activation."""
        sides = []
        for count in range(1, len(layers) + 1):
            side = 1
            for kernel, stride in reversed(layers[:count]):
                side = side * stride + kernel - stride
            sides.append(side)
        return np.array(sides)

    part2.check_fields(fields)


def test_by_hand_of_another_network():
    part2.check_by_hand((3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40), MNISTNet)


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


@pytest.mark.parametrize("train", [train_with_cross_entropy, train_by_indexing])
def test_training_by_another_route(train):
    part2.check_train_epoch(train)


def test_testing_by_another_route():
    @torch.inference_mode()
    def all_at_once(model, batches):
        images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        log_probs = model.train(False)(images)
        return F.nll_loss(log_probs, labels), (log_probs.argmax(1) == labels).double().mean() * 100

    part2.check_test(all_at_once)


def test_what_is_written_to_stderr_is_not():
    import sys

    def noisy(accuracies):
        print("noise", file=sys.stderr)
        return np.mean(accuracies), stats.tstd(accuracies)

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        part3.check_spread(noisy)
    assert said.getvalue() == ""


@pytest.mark.parametrize("equal", [True, False])
def test_the_difference_by_scipy_pooled_or_welch_s(equal):
    def difference(ours, theirs):
        return stats.ttest_ind(ours, theirs, equal_var=equal).confidence_interval()

    part3.check_difference(difference)


@pytest.mark.parametrize(
    "hold_out",
    [
        lambda dataset, count: dataset.hold_out(count),
        lambda dataset, count: replace(
            dataset,
            train=tuple(part[count:] for part in dataset.train),
            test=tuple(part[:count] for part in dataset.train),
        ),
        lambda dataset, count: replace(
            dataset,
            train=tuple(part[::4] for part in dataset.train),
            test=tuple(part[::4] for part in dataset.train),
        ),
    ],
)
def test_any_images_may_be_held_out_but_none_twice(hold_out):
    last = hold_out(load("digits"), 10).test[1].shape != (10,)
    with pytest.raises(AnswerError) if last else contextlib.nullcontext():
        part3.check_hold_out(hold_out)


def test_an_experiment_that_calls_the_library_otherwise():
    import s4lib

    def experiment(variants, dataset, recipe, seeds):
        results = {name: [] for name in variants}
        for seed in seeds:
            for name in variants:
                _, history = s4lib.fit(variants[name], dataset, recipe, seed=seed, device="cpu")
                last = history.epochs[-1]
                results[name].append(100 * last.test_correct / last.test_images)
        return results

    part3.check_experiment(experiment)


# The run


@pytest.fixture
def handed_in(tmp_path, monkeypatch):
    monkeypatch.setenv("S4_DATASET", "digits")
    part2_network.write_run(tmp_path)
    return tmp_path / "run"


def network():
    space = {}
    exec("import torch.nn.functional as F\nfrom torch import nn\n", space)
    exec(cells("part2_network")["network"], space)
    return space["Net"]


def change(folder, *numbers, **facts):
    """Have the history of a run say other things; `numbers` are correct images of the last."""
    history = json.loads((folder / "history.json").read_text()) | facts
    for epoch, correct in zip(reversed(history["epochs"]), numbers, strict=False):
        epoch["test_correct"] = correct
    (folder / "history.json").write_text(json.dumps(history))


def test_each_of_the_last_epochs_has_a_point(handed_in, capsys):
    points = part2.check_run(network(), handed_in)
    assert (type(points), points) == (float, 5.0)
    assert "(MNIST is not at hand: what the weights give is not tested)" in capsys.readouterr().out
    change(handed_in, 9940, 9939, 9941, 9000)
    assert part2.check_run(network(), str(handed_in)) == 3.0
    assert "✗ 90.00 % in epoch 16 of seed 0" in capsys.readouterr().out


def test_a_run_that_does_not_count(handed_in):
    for facts, hint in (
        ({"dataset": "scikit-learn digits"}, "✗ data: scikit-learn digits"),
        ({"network": "Other"}, "✗ trained: Other"),
        ({"recipe": {"epochs": 20}}, "✗ 20 epochs, not fewer than 20"),
        ({"recipe": {"epochs": 18}}, "✗ seed 0 has 19 of 18 epochs"),
    ):
        change(handed_in, **facts)
        with pytest.raises(AnswerError, match=hint):
            part2.check_run(network(), handed_in)
    shutil.rmtree(handed_in)
    with pytest.raises(UsageError, match="holds no history of a run"):
        part2.check_run(network(), handed_in)


def test_with_mnist_the_weights_are_tested(handed_in, mnist, monkeypatch):
    monkeypatch.setattr(part2, "load", lambda _: mnist)
    change(handed_in, 9970)
    with pytest.raises(AnswerError, match="predict 9,956 correctly, its history says 9,970"):
        part2.check_run(network(), handed_in)


def test_every_hint_is_planted():
    planted = [hint.removeprefix("✗ ").split("%: ")[-1] for *_, hint in MISTAKES]
    for hint in (*part2.FIELD_SLIPS, *part2.TRAIN_SLIPS):
        assert any(words in hint for words in planted), hint
