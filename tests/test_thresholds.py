"""Thresholds that decide a verdict: what lies just on this side, and just on that."""

import pytest
import torch

from backprop import office
from backprop.formulas import FORMULAS
from notebooks.assignment import workbook, workbook_trainings
from notebooks.assignment.personal import CLASS
from s4lib import photos
from tests.workbooks import LAYOUTS, write

STEPS = 5  # of a workbook's trainings
ALL = 6.0


@pytest.fixture
def points(monkeypatch, tmp_path):
    """The points of a workbook whose kept values count, written with these options."""
    monkeypatch.setattr(office, "program", lambda: None)
    monkeypatch.setattr(office, "engine", lambda: None)
    for module in (workbook, workbook_trainings):
        monkeypatch.setattr(module, "STEPS", STEPS)

    def judged(**options):
        path = write(tmp_path / "w.xlsx", LAYOUTS["six tables"], CLASS, steps=STEPS, **options)
        return workbook.check_workbook(path)

    return judged


def test_a_formula_may_be_off_by_rounding_alone(points, monkeypatch):
    monkeypatch.setattr(workbook, "DRAWN", STEPS)
    assert points(wrong={"o1": f"({FORMULAS['o1']})*(1+1E-11)"}) == ALL
    assert points(wrong={"o1": f"({FORMULAS['o1']})*(1+1E-8)"}) < ALL


def test_a_few_cells_are_no_curve(points):
    assert points() == ALL - 1


@pytest.mark.parametrize(
    ("share", "words"), [(0.81, "3 (81.0%)"), (0.79, "not sure: 3 (79%) or 5 (21%)")]
)
def test_an_answer_is_sure_from_four_fifths_on(share, words):
    log_probs = torch.full((10,), -99.0)
    log_probs[[3, 5]] = photos.TEMPERATURE * torch.tensor([share, 1 - share]).log()
    assert photos.answer(log_probs) == words
