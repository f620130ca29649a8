"""Each habit of the zoo is judged right, with ten draws of its weights."""

import pytest
import torch

from notebooks.assignment.checklist import check_network
from notebooks.assignment.inspection import (
    AVERAGE,
    DROPOUT,
    LINEAR,
    NORM,
    inspect_network,
    prepared,
)
from s4lib import UsageError
from tests.benchmarks import strangers
from tests.zoo_networks import UNKNOWN, ZOO

LETTERS = {NORM: "n", DROPOUT: "d", AVERAGE: "a", LINEAR: "f"}
DRAWS = 10


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_zoo_is_large():
    assert len(ZOO) >= 60


@pytest.mark.parametrize("name", [*ZOO, *UNKNOWN])
@pytest.mark.filterwarnings("ignore")
def test_a_network_is_judged_right(name):
    make, letters, *lacking = (ZOO | UNKNOWN)[name]
    layers = inspect_network(prepared(make).train()).layers
    assert {LETTERS[layer] for layer in layers if layer in LETTERS} == {*letters}
    faults = [*strangers.judge(make, DRAWS)]
    if lacking:
        (fault,) = faults
        assert fault[0] == "lacks"
        assert lacking[0] in fault[1]
    else:
        assert faults == []


def test_the_benchmark_notices_faults(monkeypatch):
    make = ZOO["everything"][0]
    monkeypatch.setattr(strangers, "identity", lambda model: ("Net", 3))
    monkeypatch.setattr(strangers, "receptive_fields", lambda model: [])
    monkeypatch.setattr(strangers, "disagreeing", lambda make, seed: ["images"])
    monkeypatch.setattr(strangers, "at_work", lambda model: {"something else"})
    assert [column for column, _ in strangers.judge(make, 2)] == [
        "parameters", "layers", "fields", "gradients",
    ]  # fmt: skip


def test_what_is_scripted_as_a_whole_is_refused_in_a_line():
    make = ZOO["before dead ReLUs"][0]
    scripted = torch.jit.trace(make().eval(), torch.zeros(2, 1, 28, 28))
    with pytest.raises(UsageError, match=r"is scripted: what it computes can't be looked into"):
        check_network(scripted)
