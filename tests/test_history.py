"""A run's history survives the disk, and several make an honest table."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from s4lib import UsageError
from s4lib.history import (
    Epoch,
    History,
    dump,
    parse,
    per_class,
    read_original,
    summary,
    table,
)
from s4lib.recipes import CLASSIC

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "notebooks" / "results"


def history(accuracies, seed=0, recipe=CLASSIC):
    epochs = [
        Epoch(n, 0.01, 0.1, 97.0, 0.05, accuracy, round(100 * accuracy), 10_000, 12.3)
        for n, accuracy in enumerate(accuracies, 1)
    ]
    return History(
        "MNISTNet", 17_498, asdict(recipe), "MNIST", seed, "cpu", "float32", epochs=epochs
    )


def test_json_and_back():
    run = history([98.5, 99.41])
    assert json.loads(History.from_json(run.to_json()).to_json()) == json.loads(run.to_json())
    assert [r.seed for r in parse(dump([history([99], 0), history([98], 1)]))] == [0, 1]


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", '{"epochs": [1]}', '{"epochs": []}'])
def test_other_json_is_refused(text):
    with pytest.raises(UsageError, match="not a run's history"):
        History.from_json(text)


@pytest.mark.parametrize("value", [None, True, "text", 7.5, [1], {"a": 1}])
def test_every_field_of_a_history_is_checked(value):
    values = asdict(history([99.0]))
    for place in (values, values["epochs"][0]):
        for name, right in place.items():
            if type(value) is not type(right):
                with pytest.raises(UsageError, match="not a run's history"):
                    History.from_json(json.dumps(values | {name: value} if place is values else
                        values | {"epochs": [place | {name: value}]}))  # fmt: skip


def test_the_log_lines_are_the_originals_with_true_means():
    assert str(history([99.47]).epochs[0]).splitlines() == [
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


def test_without_the_original_its_column_is_left_out():
    assert table([history([98.0])]).splitlines() == [
        "| epoch | mean of 1 seeds | runs at 99.4 % or more |",
        "|---:|---:|---:|",
        "| 1 | 98.00 | 0 of 1 |",
    ]


def test_the_summary_has_the_last_epoch_and_its_interval():
    runs = [history([90.0, accuracy]) for accuracy in (99.4, 99.5, 99.6)]
    assert summary(runs).splitlines()[2] == (
        "| CLASSIC | 2 | 3 | 99.50 ± 0.10 | 99.40 | 99.25 to 99.75 |"
    )


def test_per_class_counts():
    labels = torch.tensor([0, 0, 0, 0, 3])
    lines = per_class(labels, torch.tensor([0, 8, 8, 5, 3])).splitlines()
    assert lines[1].split() == ["0", "4", "1", "25.00", "%", "8", "(2", "times)"]
    assert lines[4].split() == ["3", "1", "1", "100.00", "%", "nothing"]
