"""Call an answer, compare it with the right one, and describe the difference.

The checks of all parts call this. It imports no torch, because Part 1 does not need it.
"""

import copy
import inspect
import re
import reprlib
import sys
import sysconfig
import textwrap
import traceback
from collections.abc import Iterable
from contextlib import redirect_stderr
from pathlib import Path
from unittest.mock import patch

import numpy as np

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]

FOLLOWS = "this follows from what is wrong before it"
UNKNOWN = "not right, and none of the usual slips"
NEARLY = "nearly right: rounded on the way, or a difference quotient with too large a step"
SAME = "this is the same whatever the arguments are: compute it from them"
WEAK = (FOLLOWS, NEARLY, SAME)  # hints that every other hint replaces
# What Python reports for a beginner's mistakes, and what to do about them.
EXPLAINED = (
    (r"bitwise_xor|for \^=?:", "in Python, a power is `**`, not `^`"),
    (
        r"can't multiply sequence by non-int|can only concatenate (tuple|list)"
        r"|unsupported operand .* [-+*/]+(=| or pow\(\))?: .*'(tuple|list)'",
        "Python does not calculate with a whole tuple or list: go through its numbers with `zip`, "
        "or make it an `np.array`",
    ),
    (
        r"'tuple' object does not support item assignment",
        "the numbers in a tuple can't be changed: make it a list, `list(…)`, first",
    ),
    (r"^TypeError: (`\w+` takes one example.*)", r"\1"),
)
COUNTS = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight"}


class AnswerError(AssertionError):
    """An answer that is not right yet. A notebook shows the text, without a traceback."""

    def _render_traceback_(self):
        return str(self).splitlines()


class NotGradedError(AnswerError):
    """An answer that cannot be checked here, and is therefore neither right nor wrong."""

    def __init__(self, reason: str):
        super().__init__(f"not graded: {reason}")


class ReturnError(AnswerError):
    """An answer with another form than asked; `found` are its numbers, `row` the trial."""

    def __init__(self, text: str, found: list[float]):
        super().__init__(text)
        self.found, self.row = found, 0


# Ask


def name_of(function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def call(function, *args, name: str | None = None):
    """Call a student's function; what it writes to stderr goes to stdout.

    An error in it becomes an `AnswerError` of one line, with the line of the student's code, unless
    it has a message for the student already, or is one of ours on the answer's process.
    """
    try:
        with redirect_stderr(sys.stdout):  # nbgrader gives no points where there is a warning
            answer = function(*args)
            return [*answer] if inspect.isgenerator(answer) else answer
    except (Exception, SystemExit) as error:
        ours = type(error).__module__.startswith(__package__)  # of grading in another process
        if hasattr(error, "_render_traceback_") or (ours and not hasattr(error, "of_the_answer")):
            raise
        raise AnswerError(raised(name or name_of(function), error)) from None


def raised(name: str, error: BaseException) -> str:
    """Return a line on an error in the function `name`, with the student's last line of code."""
    if isinstance(error, RecursionError):
        return f"✗ {name} calls itself without end"
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if real(frame.filename).parent != HERE]
    own = [frame for frame in frames if is_students(frame.filename)]
    inside = own[-1].name if own and own[-1].name not in (name, "<lambda>") else ""
    if isinstance(error, NotImplementedError) and own and own[-1] is frames[-1]:
        of_class = inside == "forward" or inside.startswith("__")
        there = name if not inside or of_class else f"{name} calls {inside}, which"
        return f"✗ {there} is not written yet"
    said = traceback.format_exception_only(error)  # a SyntaxError begins with lines of code
    what = next(line for line in said if not line.startswith(" ")).strip().splitlines()[0]
    what = re.sub(r"^[\w.]+\.(?=\w+(:|$))", "", what)  # the name alone, without its module
    short = textwrap.shorten(what, 160, placeholder=" …")
    what = name + (explained(what) or f" raised {short}")
    if not own:
        return f"✗ {what}"
    code = f": {own[-1].line}" if own[-1].line else ""
    return f"✗ {what} (line {own[-1].lineno}{' of ' * bool(inside)}{inside}{code})"


def explained(what: str) -> str:
    """Return advice on an error of Python's, after a colon, if Python's own words are no help."""
    for pattern, advice in EXPLAINED:
        if found := re.search(pattern, what):
            return f": {found.expand(advice)}"
    return ""


def real(filename: str) -> Path:
    """Return a file's real path; the name of a cell, which is no file, stays as it is."""
    path = Path(filename)
    return path.resolve() if path.is_absolute() else path


def is_students(filename: str) -> bool:
    """Return whether a file's code is a student's: not ours, not Python's, not a library's."""
    path = real(filename)
    return not (
        re.search(r"^<(frozen|__array_function__)|[/\\](site|dist)-packages[/\\]", filename)
        or path.parent == HERE
        or any(path.is_relative_to(PROJECT / folder) for folder in ("s4lib", "backprop"))
        or path.is_relative_to(sysconfig.get_path("stdlib"))
    )


def stand_in(function, right: dict):
    """Replace the student's functions by those of `right` with the same names, within a context.

    Other names that the student has given to these functions are replaced as well. The function
    that is being checked is never replaced.
    """
    asked = inspect.unwrap(function) if callable(function) else function
    space = getattr(asked, "__globals__", vars(sys.modules["__main__"]))
    own = {name: space[name] for name in right if name in space}
    aliases = {
        alias: right[name]
        for name, answer in own.items()
        for alias, value in [*space.items()]
        if value is answer and callable(answer)
    }
    never = {id(function), id(asked)}
    replaced = {
        n: replacement
        for n, replacement in (right | aliases).items()
        if id(space.get(n)) not in never
    }
    return patch.dict(space, replaced)


def ask(function, names, trials, want, right=None) -> np.ndarray:
    """Return what a student's function gives for each of `trials`, as (trials, names).

    Where a trial has fewer numbers than there are names, `want` ends in NaN, and so does the
    result. While the function runs, the functions of `right` replace the student's others, so that
    a mistake in one exercise costs nothing in the next: pass only what comes before the exercise.
    If the function fails with them, because the student's take or return something else, it runs
    with the student's.
    """
    answers, errors = [], []
    for stand_ins in (right or {}, {}):
        try:
            with stand_in(function, stand_ins):
                answers.append([*map(in_order(function, names), range(len(want)), trials, want)])
        except AnswerError as error:
            errors.append(error)
            continue
        if close(answers[-1], want).all():
            return np.array(answers[-1])
    if not answers:
        raise errors[0]
    return np.array(answers[0])


def in_order(function, names):
    """Return a function that calls the answer for a trial, and fills its row up to `names`."""

    def row_of(row, trial, want):
        count = np.isfinite(want).sum()
        try:
            found = numbers(function, call(function, *copy.deepcopy(trial)), names[:count])
        except ReturnError as error:
            error.row = row
            raise
        return [*found, *np.full(len(names) - count, np.nan)]

    return row_of


def numbers(function, answer, names) -> list[float]:
    """Return an answer as a list of numbers, one for each of `names`; raises a `ReturnError`."""
    try:
        if isinstance(answer, (str, bytes, dict)):
            raise TypeError
        found = [float(v.detach() if hasattr(v, "detach") else v) for v in answer]
    except (TypeError, ValueError, RuntimeError):
        found = []
    if len(found) == len(names):
        return found
    what = reprlib.repr(answer)
    if found:
        shown = ", ".join(f"{value:.4g}" for value in found[:8]) + ", …" * (len(found) > 8)
        what = f"{len(found)}: {shown}"
    elif answer is None:
        what = "None: is its return missing?"
    names = [str(name) for name in names]  # of seeds, numbers
    kinds = {name.partition(" at ")[0] for name in names}
    same = kinds.pop() if len(kinds) == 1 and len(names) > 1 else ""  # E_total at step 0, …
    listed = f"{names[0]} … {names[-1]}" if same else ", ".join(names)
    asked = f"{len(names)} numbers, {listed}"
    if several := several_in_one(answer):
        entries = f"each entry should be one number{same and f', {same}'}"
        what = f"✗ {name_of(function)} should return {asked}: {entries}; you gave {several}"
        raise ReturnError(what, found)
    raise ReturnError(f"✗ {name_of(function)} should return {asked}, but returned {what}", found)


def several_in_one(answer) -> str:
    """Describe how many numbers an entry of an answer has, if it has several."""
    if isinstance(answer, (list, tuple)) or getattr(answer, "ndim", 0) == 2:
        for entry in answer:
            if isinstance(entry, (list, tuple)) or getattr(entry, "ndim", 0) == 1:
                return COUNTS.get(len(entry), str(len(entry))) if len(entry) != 1 else "a list"
    return ""


# Compare


def close(got, want, rtol: float = 1e-6, atol: float = 1e-7) -> np.ndarray:
    """Return where numbers are equal, up to the rounding of float32 or of difference quotients.

    Where `want` is NaN, nothing is compared, and the answer counts as right.
    """
    return np.isclose(got, want, rtol=rtol, atol=atol) | np.isnan(want)


def compare(
    names,
    got,
    want,
    slips: Iterable[tuple[str, np.ndarray]] = (),
    only: Iterable[tuple[str, np.ndarray]] = (),
    rtol: float = 1e-6,
    atol: float = 1e-7,
) -> None:
    """Print that an answer is right; otherwise print a table and raise `AnswerError`, with hints.

    `got` and `want` are (trials, names), with NaN where a trial has fewer numbers. `slips` are
    pairs of a hint and of the numbers that the slip gives; a slip explains a number if it gives
    that number in every trial. `only` are pairs of a description and of the trials, (trials,), that
    it describes: a number that is right in these trials only has been computed for them. Both are
    used only if something is wrong.
    """
    got, want = np.asarray(got, float), np.asarray(want, float)
    wrong = ~close(got, want, rtol, atol).all(axis=0)
    asked = ~np.isnan(want)
    differences = np.abs(np.where(asked, got - want, 0)).max(axis=0)
    if not wrong.any():
        largest = differences.max()
        print(f"✓ right (largest difference {largest:.1e})" if largest else "✓ right, to the bit")
        return

    width = max(map(len, names))
    print(f"{'':{width}}     largest difference")
    for name, is_wrong, difference in zip(names, wrong, differences, strict=True):
        print(f"{name:{width}}  {'✗' if is_wrong else '✓'}  {difference:.1e}")

    def gives(values):
        equal = np.isclose(got, np.broadcast_to(values, got.shape), rtol=rtol, atol=atol)
        return (equal | ~asked).all(axis=0)

    explains = {}
    for hint, values in (*slips, *((f"this is the value of {n}", want[:, [k]])
                                   for k, n in enumerate(names))):  # fmt: skip
        explains[hint] = explains.get(hint, False) | gives(values)
    fits = close(got, want, rtol, atol)
    for what, rows in only:
        if 0 < np.sum(rows) < len(want):
            hint = f"right for {what}, wrong for others: use the function's arguments"
            explains[hint] = fits[rows].all(axis=0) & (fits[~rows].mean(axis=0) <= 0.5)
    explains |= habits(got, want)
    raise AnswerError("\n".join(hints(names, wrong, explains)))


def habits(got, want) -> dict[str, np.ndarray]:
    """Return hints for wrong numbers of any kind, and which of the names each explains."""
    asked = ~np.isnan(want)
    explains = {}
    for digits in range(6, 0, -1):
        rounded = np.isclose(got, np.round(got, digits), rtol=0, atol=1e-12)
        near = np.abs(got - want) <= 2 * 10.0**-digits
        hint = f"rounded to {digits} digit{'s' * (digits > 1)}: return all of them"
        explains[hint] = ((rounded & near) | ~asked).all(axis=0) & (got != got[0]).any(axis=0)
    explains["this is always 0: note that 1 // 2 is 0, and a * 1 - a as well"] = (
        (got == 0) | ~asked
    ).all(axis=0)
    nearly = np.isclose(got, want, rtol=5e-3, atol=0)
    explains[NEARLY] = (nearly | ~asked).all(axis=0)
    varies = (np.nan_to_num(want) != np.nan_to_num(want[0])).any(axis=0)
    explains[SAME] = ((got == got[0]) | ~asked).all(axis=0) & varies
    return explains


def hints(names, wrong, explains) -> list[str]:
    """Return a line for each hint, first the hint that explains the most numbers."""
    lines = []
    while wrong.any():
        counts = {hint: (which & wrong).sum() for hint, which in explains.items()}
        counts = {hint: (hint not in WEAK, count) for hint, count in counts.items() if count}
        hint = max(counts, key=counts.get, default=UNKNOWN)
        found = explains.get(hint, wrong) & wrong
        which = ", ".join(name for name, explained in zip(names, found, strict=True) if explained)
        lines.append(f"✗ {which}: {hint}")
        wrong = wrong & ~found
    return lines
