"""A run's history survives the disk, and several make an honest table."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from s4lib import UsageError
from s4lib.history import Epoch, History, dump, finished, parse, read_original, table
from s4lib.recipes import CLASSIC, RECIPES, Recipe, settings

RESULTS = Path(__file__).parents[1] / "notebooks" / "results"


def history(accuracies, seed=0, recipe=CLASSIC):
    epochs = [
        Epoch(n, 0.01, 0.1, 97.0, 0.05, accuracy, round(100 * accuracy), 10_000, 12.3)
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return History(asdict(recipe), "MNIST", seed, "cpu", "float32", epochs=epochs)


def test_json_and_back():
    run = history([98.5, 99.41])
    assert json.loads(History.from_json(run.to_json()).to_json()) == json.loads(run.to_json())
    assert [r.seed for r in parse(dump([history([99], 0), history([98], 1)]))] == [0, 1]


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"epochs": [1]}', '{"epochs": []}'])
def test_other_json_is_refused(text):
    with pytest.raises(UsageError, match="not a run's history"):
        History.from_json(text)


def test_the_log_lines_are_the_originals_with_true_means():
    assert history([99.47]).epochs[0].log().splitlines() == [
        "Train Accuracy: 97.00 %   Train Loss: 0.1000",
        "Test Accuracy:  99.47 %   Test Loss:  0.0500",
        "Number of correct predictions in test set: 9947/10000   (12.3 s)",
    ]


def test_the_table_has_the_mean_the_spread_and_the_share():
    runs = [history([98.0, 99.40]), history([98.2, 99.38])]
    assert table(runs, {1: 98.59, 2: 98.58}).splitlines()[2:] == [
        "| 1 | 98.59 | 98.10 ± 0.14 | 0 of 2 |",
        "| 2 | 98.58 | 99.39 ± 0.01 | 1 of 2 |",
    ]


def test_the_originals_log_is_complete():
    original = read_original(RESULTS / "original.csv")
    assert list(original) == list(range(1, 21))
    assert original[11] == 99.47


def test_only_the_same_run_counts_as_finished(tmp_path):
    recipe = replace(CLASSIC, epochs=2)
    path = tmp_path / "history.json"
    assert finished(path, recipe, "MNIST") is None
    path.write_text(history([98, 99], recipe=recipe).to_json())
    assert finished(path, recipe, "MNIST") is not None
    assert finished(path, recipe, "scikit-learn digits") is None
    assert finished(path, replace(recipe, lr=0.02), "MNIST") is None
    path.write_text(history([98], recipe=recipe).to_json())
    assert finished(path, recipe, "MNIST") is None


def test_classic_is_the_originals_recipe():
    assert RECIPES["classic"] is CLASSIC
    assert (CLASSIC.epochs, CLASSIC.batch_size, CLASSIC.lr) == (19, 128, 0.01)
    assert (CLASSIC.milestones, CLASSIC.gamma) == ((10, 15), 0.1)
    assert (CLASSIC.dropout_block3, CLASSIC.dropout_head) == (0.10, 0.15)
    assert CLASSIC.rotation > 0


def test_shorter_runs_have_earlier_milestones_and_longer_ones_the_same():
    assert CLASSIC.adjusted() == CLASSIC
    assert CLASSIC.adjusted(epochs=20).milestones == (10, 15)
    assert CLASSIC.adjusted(epochs=10).milestones == pytest.approx((100 / 19, 150 / 19))
    assert CLASSIC.adjusted(lr=0.1, batch_size=7) == replace(CLASSIC, lr=0.1, batch_size=7)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", "3"),
        ("epochs", True),
        ("batch_size", -1),
        ("lr", 0),
        ("lr", -0.1),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("lr", "fast"),
    ],
)
def test_recipes_refuse_what_can_not_be(field, value):
    with pytest.raises(UsageError, match=f"^{field} must be .*, not "):
        Recipe(**{**asdict(CLASSIC), field: value})


def test_a_notebooks_parameters_may_be_text():
    assert settings() == (CLASSIC, "auto", 0)
    assert settings("classic", "digits", "2", "7") == (CLASSIC.adjusted(epochs=2), "digits", 7)
    assert settings(epochs="") == settings(epochs=None) == settings(epochs=19)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"recipe": "slow"}, "There is no recipe 'slow'. Choose one of classic"),
        ({"recipe": ["classic"]}, "There is no recipe ['classic']. Choose one of classic"),
        ({"dataset": "cifar"}, "There is no data set 'cifar'. Choose one of auto, mnist, digits."),
        ({"dataset": None}, "There is no data set None. Choose one of auto, mnist, digits."),
        ({"epochs": "many"}, "epochs must be a whole number, 1 or more, not 'many'."),
        ({"epochs": 0}, "epochs must be a whole number, 1 or more, not 0."),
        ({"epochs": 1.5}, "epochs must be a whole number, 1 or more, not 1.5."),
        ({"epochs": True}, "epochs must be a whole number, 1 or more, not True."),
        ({"seed": -1}, "seed must be a whole number, 0 or more, not -1."),
        ({"seed": "x"}, "seed must be a whole number, 0 or more, not 'x'."),
    ],
)
def test_wrong_parameters_are_told_the_choices_in_one_line(wrong, message):
    with pytest.raises(UsageError) as error:
        settings(**wrong)
    assert str(error.value).startswith(message)
    assert error.value._render_traceback_() == [str(error.value)]
    assert "\n" not in str(error.value)
