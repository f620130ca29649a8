"""How an answer is compared with the right one, and what is said of it.

The checks of all parts call this. It needs no torch, for Part 1 does without.
"""

import reprlib
import sys
from contextlib import redirect_stderr
from unittest.mock import patch

import numpy as np

FOLLOWS = "this follows from what is wrong before it"


class AnswerError(AssertionError):
    """An answer that is not right yet. A notebook shows the text, without a traceback."""

    def _render_traceback_(self):
        return str(self).splitlines()


def close(got, want) -> np.ndarray:
    """Where numbers are equal, up to the rounding of float32 or of difference quotients."""
    return np.isclose(got, want, rtol=1e-6, atol=1e-7)


def compare(names, got, want, slips=None) -> None:
    """Print a line for each of `names`; raise `AnswerError`, with hints, unless all are right.

    `got`, `want` and each value of `slips`, {hint: what that slip gives}, are (trials, names). A
    slip explains a number if it gives that number in every trial.
    """
    got, want = np.asarray(got, float), np.asarray(want, float)
    wrong = ~close(got, want).all(axis=0)
    width = max(len(name) for name in names)

    print(f"{'':{width}}  exact  approximate  largest difference")
    for k, name in enumerate(names):
        exact = "yes" if (got[:, k] == want[:, k]).all() else "no"
        approximate = "no" if wrong[k] else "yes"
        difference = np.abs(got[:, k] - want[:, k]).max()
        print(f"{name:{width}}  {exact:5}  {approximate:11}  {difference:.1e}")
    if not wrong.any():
        print("✓ right")
        return

    slips = (slips or {}) | {f"this is the value of {n}": want[:, [k]] for k, n in enumerate(names)}
    explains = {hint: close(got, slip).all(axis=0) for hint, slip in slips.items()}
    lines = []
    while wrong.any():
        counts = {hint: (which & wrong).sum() for hint, which in explains.items()}
        counts = {hint: (hint != FOLLOWS, count) for hint, count in counts.items() if count}
        hint = max(counts, key=counts.get, default="not right, and none of the usual slips")
        found = explains.get(hint, wrong) & wrong
        which = ", ".join(name for name, one in zip(names, found, strict=True) if one)
        lines.append(f"✗ {which}: {hint}")
        wrong = wrong & ~found
    raise AnswerError("\n".join(lines))


def ask(function, names, trials, want, right=None) -> np.ndarray:
    """What a student's function returns for each of `trials`, as (trials, names).

    While it runs, the functions of `right`, by name, take the place of the student's others of the
    same names, so that a mistake in one exercise costs nothing in the next. Should that not do, as
    when theirs take or return something else, it runs as it stands.
    """
    own = getattr(function, "__name__", "")
    stand_in_for = {name: one for name, one in (right or {}).items() if name != own}
    answers = []
    for stand_ins in (stand_in_for, {}):
        try:
            with (
                patch.dict(getattr(function, "__globals__", {}), stand_ins),
                redirect_stderr(sys.stdout),  # nbgrader takes all points for a warning
            ):
                answers.append([numbers(function, function(*trial), names) for trial in trials])
        except Exception:
            if not stand_ins and not answers:
                raise
        if answers and close(answers[-1], want).all():
            return np.array(answers[-1])
    return np.array(answers[0])


def numbers(function, answer, names) -> list[float]:
    """An answer as a list of numbers, one for each of `names`; raises an `AnswerError`."""
    try:
        found = [float(v.detach() if hasattr(v, "detach") else v) for v in answer]
    except (TypeError, ValueError):
        found = []
    if len(found) != len(names):
        asked = f"{len(names)} numbers, {', '.join(names)}"
        raise AnswerError(
            f"✗ {function.__name__} should return {asked}, but returned {reprlib.repr(answer)}"
        )
    return found
