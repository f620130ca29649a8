"""The checks of part 3 let right answers pass, by any route, and name every usual slip."""

import contextlib
import io
import json
import sys
from dataclasses import replace
from functools import partial

import nbformat
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from notebooks.assignment import part3
from notebooks.assignment.compare import AnswerError
from s4lib import UsageError, evaluate, fit, predict
from tests import answers, mistakes
from tests.mistakes.part3_experiment import MISTAKES

STEM = "part3_experiment"
cells, attempt = partial(answers.cells, STEM), partial(answers.attempt, STEM)
CHECKS = [name for name in cells() if name.startswith("check-")]


@pytest.mark.parametrize("check", CHECKS)
def test_the_solution_passes_every_check(check):
    said = attempt(check).splitlines()
    assert said[-1].startswith("✓")
    assert len(said) == 1 or check in ("check-variants", "check-hold-out")


@pytest.mark.parametrize("slip", mistakes.rows(MISTAKES), ids="{0[0]}: {0[3]}".format)
def test_every_slip_is_named(slip):
    said = mistakes.said(STEM, *slip)
    assert slip[-1] in said
    assert said.count("\n") <= 2


def test_what_is_written_to_stderr_is_not():
    def noisy(accuracies):
        print("noise", file=sys.stderr)
        return np.mean(accuracies), stats.tstd(accuracies)

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        part3.check_spread(noisy)
    assert said.getvalue() == ""


# The six questions that the notebook suggests


def network(*layers, width=16, head=None):
    """Layers, then global average pooling and a fully connected layer, or another head."""
    head = head or (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    return nn.Sequential(*layers, *head, nn.LogSoftmax(1))


def conv(inputs, outputs, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def block(inputs, outputs, norm="before", p=0.0):
    """Convolution, batch norm before or after the ReLU, or none, and dropout."""
    rest = {
        "before": (nn.BatchNorm2d(outputs), nn.ReLU()),
        "after": (nn.ReLU(), nn.BatchNorm2d(outputs)),
        "none": (nn.ReLU(),),
    }
    return conv(inputs, outputs), *rest[norm], *[nn.Dropout(p)] * (p > 0)


def norms(*where):
    return network(*block(1, 8, where[0]), nn.MaxPool2d(2), *block(8, 16, where[1]))


def dropping(*shares):
    first, second, last = shares
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(last), nn.Linear(16, 10)
    return network(*block(1, 8, p=first), nn.MaxPool2d(2), *block(8, 16, p=second), head=head)


def flattened():
    head = nn.Flatten(), nn.Linear(8 * 7 * 7, 10)
    return network(*block(1, 8), nn.MaxPool2d(4), head=head)


QUESTIONS = {
    "pooling": {
        "max": lambda: network(*block(1, 16), nn.MaxPool2d(2), *block(16, 16)),
        "average": lambda: network(*block(1, 16), nn.AvgPool2d(2), *block(16, 16)),
        "stride": lambda: network(conv(1, 16, stride=2), nn.ReLU(), *block(16, 16)),
    },
    "kernels": {
        "one 5×5": lambda: network(conv(1, 16, 5), nn.ReLU()),
        "two 3×3": lambda: network(conv(1, 16), conv(16, 16), nn.ReLU()),
    },
    "the map": {
        "averaged": lambda: network(*block(1, 8), nn.MaxPool2d(4), width=8),
        "flattened": flattened,
    },
    "batch norm": {
        "before ReLU": partial(norms, "before", "before"),
        "after ReLU": partial(norms, "after", "after"),
        "not in the last": partial(norms, "before", "none"),
    },
    "width": {
        "few wide": lambda: network(*block(1, 24), *block(24, 16)),
        "many narrow": lambda: network(*block(1, 12), *block(12, 12), *block(12, 12), width=12),
    },
    "dropout": {
        "every block": partial(dropping, 0.1, 0.1, 0.1),
        "only at the end": partial(dropping, 0.0, 0.0, 0.1),
        "none": partial(dropping, 0.0, 0.0, 0.0),
    },
    "how much dropout": {
        "0.1": partial(dropping, 0.1, 0.1, 0.1),
        "0.2": partial(dropping, 0.2, 0.2, 0.2),
    },
    "batch norm's memory": {
        str(momentum): lambda momentum=momentum: network(
            conv(1, 16), nn.BatchNorm2d(16, momentum=momentum), nn.ReLU()
        )
        for momentum in (0.1, 0.3)
    },
    "a lazy layer": {
        "lazy": lambda: network(conv(1, 8), nn.ReLU(), head=(nn.Flatten(), nn.LazyLinear(10))),
        "not": lambda: network(conv(1, 8), nn.Tanh(), head=(nn.Flatten(), nn.LazyLinear(10))),
    },
    "begin": {
        "as usual": partial(dropping, 0.0, 0.0, 0.0),
        "with zeros": lambda: zeroed(dropping(0.0, 0.0, 0.0)),
    },
}


def zeroed(model):
    nn.init.zeros_(model[-2].weight)
    return model


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_suggested_question_can_be_asked(question, capsys):
    part3.check_variants(QUESTIONS[question])
    assert "✓ they differ, and each seed makes its own" in capsys.readouterr().out


@pytest.mark.parametrize("question", QUESTIONS)
def test_two_equal_networks_are_none_whatever_is_random_in_them(question):
    name, make = next(iter(QUESTIONS[question].items()))
    with pytest.raises(AnswerError, match="compute the same: nothing is compared"):
        part3.check_variants({name: make, "again": lambda: make()})


def test_networks_that_share_a_layer_are_not_made_again():
    shared = conv(1, 16)
    with pytest.raises(AnswerError, match="✗ a makes the same network each time"):
        part3.check_variants({"a": lambda: network(shared), "b": partial(dropping, 0, 0, 0)})


def test_checking_leaves_the_random_numbers_as_they_were():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    part3.check_variants(QUESTIONS["width"])
    assert torch.equal(torch.get_rng_state(), before)


# Held-out images


def first_ones(dataset, count):
    return replace(
        dataset,
        train=tuple(part[count:] for part in dataset.train),
        test=tuple(part[:count] for part in dataset.train),
    )


def some_ones(dataset, count):
    order = torch.randperm(len(dataset.train[1]), generator=torch.Generator().manual_seed(1))
    held, kept = order[:count], order[count:]
    images, labels = dataset.train
    return replace(dataset, train=(images[kept], labels[kept]), test=(images[held], labels[held]))


def by_pairs(dataset, count):
    sizes = [len(dataset.train[1]) - count, count]
    (kept, held), (kept_labels, held_labels) = (part.split(sizes) for part in dataset.train)
    return replace(dataset, train=[kept, kept_labels], test=[held, held_labels])


@pytest.mark.parametrize(
    "hold_out", [lambda dataset, count: dataset.hold_out(count), first_ones, some_ones, by_pairs]
)
def test_any_images_may_be_held_out(hold_out):
    part3.check_hold_out(hold_out)


def test_but_none_twice():
    def same(dataset, count):
        return replace(
            dataset,
            train=tuple(part[::4] for part in dataset.train),
            test=tuple(part[::4] for part in dataset.train),
        )

    with pytest.raises(AnswerError, match="10 images are trained on, and tested on"):
        part3.check_hold_out(same)


# The experiment


def by_the_library(variants, dataset, recipe, seeds):
    import s4lib

    results = {name: [] for name in variants}
    for seed in seeds:
        for name in variants:
            _, history = s4lib.fit(variants[name], dataset, recipe, seed=seed, device="cpu")
            last = history.epochs[-1]
            results[name].append(100 * last.test_correct / last.test_images)
    return results


train_one = fit


def by_an_alias(variants, dataset, recipe, seeds):
    return {
        name: np.array(
            [train_one(n, dataset, recipe, s)[1].epochs[-1].test_accuracy for s in seeds]
        )
        for name, n in variants.items()
    }


def by_predicting(variants, dataset, recipe, seeds):
    images, labels = dataset.test

    def accuracy(network, seed):
        model, _ = train_one(network, dataset, recipe, seed)
        right = predict(model, dataset.normalise(images)).argmax(1) == labels
        return 100 * right.float().mean().item()

    return {name: [accuracy(network, seed) for seed in seeds] for name, network in variants.items()}


def by_evaluating(variants, dataset, recipe, seeds):
    results = {}
    for name, network in variants.items():
        for seed in seeds:
            model, _ = train_one(network, dataset, recipe=recipe, seed=seed, out=None)
            correct = evaluate(model, dataset)[1]
            results.setdefault(name, []).append(correct / len(dataset.test[1]) * 100)
    return results


@pytest.mark.parametrize("experiment", [by_the_library, by_an_alias, by_predicting, by_evaluating])
def test_an_experiment_by_another_route(experiment):
    part3.check_experiment(experiment)


# Mean, spread and difference


@pytest.mark.parametrize(
    "spread",
    [
        lambda a: (torch.tensor(a).mean(), torch.tensor(a).std()),
        lambda a: (np.mean(np.float32(a)), np.std(np.float32(a), ddof=1)),
        lambda a: [sum(a) / len(a), stats.tstd(a)],
        lambda a: (np.mean(a), np.sqrt(np.var(a) * len(a) / (len(a) - 1))),
        lambda a: (round(np.mean(a), 4), round(np.std(a, ddof=1), 4)),
    ],
)
def test_mean_and_spread_by_another_route(spread, capsys):
    part3.check_spread(spread)
    assert capsys.readouterr().out.startswith("✓ right")


def with_t(quantile):
    def difference(ours, theirs):
        n, m = len(ours), len(theirs)
        squares = sum((x - np.mean(a)) ** 2 for a in (ours, theirs) for x in a)
        half = quantile(n + m - 2) * np.sqrt(squares / (n + m - 2) * (1 / n + 1 / m))
        return np.mean(ours) - np.mean(theirs) - half, np.mean(ours) - np.mean(theirs) + half

    return difference


def in_float32(ours, theirs):
    return torch.tensor(with_t(lambda df: stats.t.ppf(0.975, df))(ours, theirs)).float()


def by_scipy(equal):
    def difference(ours, theirs):
        return stats.ttest_ind(ours, theirs, equal_var=equal).confidence_interval()

    return difference


@pytest.mark.parametrize(
    "difference",
    [
        by_scipy(True),
        by_scipy(False),
        in_float32,
        with_t(lambda df: 2.78),
        with_t(lambda df: round(stats.t.ppf(0.975, df), 2)),
        with_t(lambda df: -stats.t.ppf(0.025, df)),
        with_t(lambda df: stats.t.interval(0.95, df)[1]),
    ],
)
def test_the_difference_by_another_route(difference, capsys):
    part3.check_difference(difference)
    assert "✓ right" in capsys.readouterr().out


def test_the_t_of_three_runs_each_is_named_where_it_is_taken_for_others(capsys):
    part3.check_difference(with_t(lambda df: 2.78))
    assert "(2.78 is t for three runs of each; for other numbers" in capsys.readouterr().out


# What comes of the experiment

RESULTS = {"max": [97.71, 97.35, 97.5], "average": [97.61, 96.91, 97.68]}


def test_results_are_read_if_they_are_of_these_networks(tmp_path):
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(RESULTS))
    assert part3.read_results(path, RESULTS) == RESULTS
    with pytest.raises(
        UsageError, match=r"is about max, average, and variants about a, b\. Delete"
    ):
        part3.read_results(path, {"a": 1, "b": 2})
    with pytest.raises(UsageError, match="Can't read"):
        part3.read_results(tmp_path / "other.json", RESULTS)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "3", "{}x", '{"max": 3}', '{"max": [1, 2]}', '{"max": ["1", 2, 3]}', "{" * 10**5,
     '{"max": [101.0, 99.0, 98.0]}', '{"max": [NaN, 99.0, 98.0]}', "\xff"],
)  # fmt: skip
def test_what_are_no_results_is_said_in_one_line(tmp_path, content):
    path = tmp_path / "experiment.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match="does not hold 3 accuracies of each network") as caught:
        part3.read_results(path, {"max": 1})
    assert "\n" not in str(caught.value)


def shown(tmp_path, text):
    """A notebook whose table's output is `text`."""
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(cells()["table"])
    cell.metadata["nbgrader"] = {"grade_id": "table"}
    cell.outputs = [nbformat.v4.new_output("stream", text=text)]
    notebook.cells = [nbformat.v4.new_code_cell("1"), cell]
    nbformat.write(notebook, tmp_path / "part3.ipynb")
    return tmp_path / "part3.ipynb"


def test_an_experiment_is_held_against_the_notebook_s_own_table(tmp_path):
    path, said = tmp_path / "experiment.json", io.StringIO()
    space = answers.solve("part3_experiment") | {"results": RESULTS}
    with contextlib.redirect_stdout(said):
        exec(cells()["table"], space)
    notebook = shown(tmp_path, said.getvalue())
    path.write_text(json.dumps(RESULTS))
    assert part3.held_against(notebook, path) == []
    path.write_text(json.dumps(RESULTS | {"average": [97.61, 97.91, 97.68]}))
    (line,) = part3.held_against(notebook, path)
    assert line.startswith("average: the table has 97.40 ± 0.43 %, experiment.json gives 97.73 ±")
    path.write_text(json.dumps({"max": RESULTS["max"], "other": RESULTS["average"]}))
    (line,) = part3.held_against(notebook, path)
    assert line == "experiment.json is about max, other, and variants about max, average"
    path.unlink()
    (line,) = part3.held_against(notebook, path)
    assert line.startswith("Can't read")
    (line,) = part3.held_against(shown(tmp_path, "nothing"), path)
    assert line == "the notebook shows no table of its experiment"
