"""Where a reader of photos is sure of its answer: just on this side of the limit, and just on that.

Limits of what counts in a workbook are in test_student_workbook.py.
"""

import pytest
import torch

from s4lib import photos


@pytest.mark.parametrize(
    ("share", "words"), [(0.81, "3 (81.0%)"), (0.79, "not sure: 3 (79%) or 5 (21%)")]
)
def test_an_answer_is_sure_from_four_fifths_on(share, words):
    log_probs = torch.full((10,), -99.0)
    log_probs[[3, 5]] = photos.TEMPERATURE * torch.tensor([share, 1 - share]).log()
    assert photos.answer(log_probs) == words
