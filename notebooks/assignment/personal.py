"""Make every student's own inputs, targets and weights from the student number."""

import hashlib
from typing import NamedTuple

import numpy as np

from backprop.network import INPUTS, RATES, TARGETS, WEIGHTS


class Numbers(NamedTuple):
    """What the class network starts from, in the order of the arguments of `network`."""

    inputs: tuple[float, ...]  # i1, i2
    targets: tuple[float, ...]  # t1, t2
    weights: tuple[float, ...]  # w1 … w8


CLASS = Numbers(INPUTS, TARGETS, WEIGHTS)


def personal_numbers(student: str | int | None = None) -> Numbers:
    """Return a student's numbers, or the class's if there is no student number.

    `network.gradients(*personal_numbers("s4711"))` are that student's eight gradients. Capitals,
    blanks, punctuation and leading zeros make no difference. All twelve numbers have two decimals,
    differ from each other, and are none of the six learning rates, so that a number in a workbook
    can only be one of them.

    Raises a UsageError if there is neither a letter nor a digit in the student number.
    """
    if student is None or student == "":
        return CLASS
    key = "".join(filter(str.isalnum, str(student).casefold())).lstrip("0")
    if not key or isinstance(student, float):
        from s4lib.runtime import UsageError  # it imports PyTorch, which takes seconds

        raise UsageError(f"a student number is text or a whole number, such as 4711, not {student}")

    # RandomState, because NumPy promises never to change the numbers that it draws.
    digest = hashlib.sha256(key.encode()).digest()
    draw = np.random.RandomState(np.frombuffer(digest, ">u4").astype(np.uint32))
    used = {round(100 * rate) for rate in RATES}
    middle = draw.permutation([n for n in range(15, 86) if n not in used])[:10]
    low = draw.choice([n for n in range(1, 15) if n not in used])
    high = draw.choice([n for n in range(86, 100) if n not in used])
    i1, i2, *weights = (int(n) / 100 for n in middle)
    return Numbers((i1, i2), (int(low) / 100, int(high) / 100), tuple(weights))
