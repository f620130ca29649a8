"""The usual slips, planted one by one into the assignment's solution."""

import functools
import zlib

import pytest

from notebooks.assignment.compare import AnswerError
from tests import answers


def rows(mistakes: dict) -> list[tuple[str, ...]]:
    """Return (answer cell, what is there, what stands there instead, hint) of every slip."""
    return [(cell, *slip) for cell, slips in mistakes.items() for slip in slips]


@functools.cache
def said(stem: str, cell: str, there: str, instead: str, hint: str) -> str:
    """Return what the check of an answer prints where the solution has a slip."""
    source, student = answers.cells(stem)[cell], str(zlib.crc32(hint.encode()))
    assert there in source
    with pytest.raises(AnswerError) as caught:
        answers.attempt(stem, f"check-{cell}", student, **{cell: source.replace(there, instead)})
    return str(caught.value)


def never_said(stem: str, mistakes: dict, *tables: dict) -> list[str]:
    """Return the hints of `tables` that no slip gets."""
    every = "\n".join(said(stem, *row) for row in rows(mistakes))
    return [hint for table in tables for hint in table if hint not in every]
