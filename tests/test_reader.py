"""What the first notebook reads and draws: the workbook's numbers, and one training."""

from pathlib import Path

import numpy as np
import pytest

from backprop import explore, reader
from backprop.network import RATES, WEIGHTS, train
from backprop.workbook import chain_rule
from s4lib import UsageError

WORKBOOK = Path(__file__).resolve().parents[1] / "backprop/backpropagation.xlsx"


@pytest.fixture(scope="module")
def numbers():
    """The derivation and the trainings."""
    return reader.read(WORKBOOK)


def test_the_reader_finds_every_number_of_the_derivation(numbers):
    found, _ = numbers
    expected = chain_rule(train(0.5)) | {"learning_rate": 0.5}
    assert found.keys() <= expected.keys()
    assert len(found) == 53
    assert found == pytest.approx({name: expected[name] for name in found}, rel=1e-12)


def test_the_reader_finds_seven_trainings_in_full(numbers):
    _, tables = numbers
    assert [rate for rate, _ in tables] == [0.5, *RATES]
    for rate, table in tables:
        assert len(table) >= 28
        for name, column in table.items():
            np.testing.assert_allclose(column, train(rate)[name], rtol=1e-12)


def test_a_training_from_other_weights():
    left, right = explore.training(rate=2.0, w5=1.0).axes
    expected = train(2.0, weights=(*WEIGHTS[:4], 1.0, *WEIGHTS[5:]))
    assert (left.lines[0].get_ydata() == expected["E_total"]).all()
    assert (right.lines[0].get_ydata() == expected["a_o1"]).all()


def test_sliders_start_where_the_class_does():
    widgets = pytest.importorskip("ipywidgets")
    box = explore.explore()
    values = {child.description: child.value for child in box.children[:-1]}
    assert values == {"η": 0.5} | {f"w{k}": w for k, w in enumerate(WEIGHTS, 1)}
    assert isinstance(box, widgets.interactive)
    assert repr(explore.explore(sliders=False)) == repr(explore.training())


def test_a_switch_is_yes_or_no():
    assert [explore.switch("sliders", value) for value in ("yes", True)] == [True, True]
    assert [explore.switch("sliders", value) for value in ("no", False)] == [False, False]
    with pytest.raises(UsageError, match=r"^sliders must be yes or no, not 'perhaps'\.$"):
        explore.switch("sliders", "perhaps")
