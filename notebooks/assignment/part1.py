"""The checks of part 1: how far off an answer is, and probably why.

Students run them in their notebook, and grading runs the same checks. Each compares what a
student's function returns with `backprop.network`, for the student's numbers, the class's and
others. Wrong numbers are then compared with the results of usual slips. Every argument takes
several values, so that no fixed answer can pass.
"""

import re
import sys
from functools import partial, wraps
from itertools import product

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import FigureBase
from matplotlib.legend import Legend
from matplotlib.text import Text

from backprop import network
from backprop.formulas import label
from backprop.network import ERRORS, GRADIENTS, RATES, UNITS
from notebooks.assignment.compare import (
    FOLLOWS,
    AnswerError,
    ReturnError,
    ask,
    call,
    compare,
    name_of,
)
from notebooks.assignment.personal import Numbers, personal_numbers
from notebooks.assignment.slips import (
    BIAS_SLIPS,
    CODE_SLIPS,
    FORWARD_SLIPS,
    GRADIENT_SLIPS,
    pass_back,
    pass_forward,
    results_of,
    slipped,
)

BIASES = ((0.35, 0.60), (-0.4, 0.25))
TRAININGS = ((0.5, 5), (2.0, 3))  # rates and steps
BATCHES = (6, 3)  # examples


def trials(student) -> list[Numbers]:
    """Return a student's numbers, the class's, and three others, with weights of either sign."""
    others = [personal_numbers(f"trial {k}") for k in range(3)]
    weights = [
        np.multiply((1, -1, -1, 1, 1, -1, 1, -1), numbers.weights).tolist() for numbers in others
    ]
    mixed = [numbers._replace(weights=tuple(w)) for numbers, w in zip(others, weights, strict=True)]
    return [personal_numbers(student), personal_numbers(), *mixed]


def only(student, asked, *values) -> list[tuple[str, np.ndarray]]:
    """Return descriptions of trials that an answer may have been made for, and these trials.

    They are the student's own numbers, and each of `values`, (description, value), in a trial.
    """
    own = personal_numbers(student)
    rows = [("your numbers", np.array([own.weights in trial for trial in asked]))]
    return rows + [(what, np.array([value in trial for trial in asked])) for what, value in values]


# The right functions that a student's functions may call, in the order of the exercises


def update(inputs, targets, weights, rate):
    """Return w1 … w8 after a step."""
    return tuple(np.array(weights) - rate * np.array(network.gradients(inputs, targets, weights)))


def of_one_example(name: str, function):
    """Return a function of one example's numbers, which complains about a table of examples."""

    @wraps(function)
    def checked(*args, **named):
        try:
            return function(*args, **named)
        except ValueError:
            if any(np.ndim(value) == 2 for value in (*args, *named.values())):
                told = "takes one example; you gave it a table of several: loop over the rows"
                raise TypeError(f"`{name}` {told}") from None
            raise

    return checked


RIGHT = {
    "forward": network.forward,
    "errors": network.errors,
    "output_gradients": lambda *numbers: network.gradients(*numbers)[4:],
    "hidden_gradients": lambda *numbers: network.gradients(*numbers)[:4],
    "gradients": network.gradients,
    "update": update,
}
RIGHT = {name: of_one_example(name, function) for name, function in RIGHT.items()}


def before(exercise: str) -> dict:
    """Return the right functions of the exercises before this one."""
    names = [*RIGHT]
    return {name: RIGHT[name] for name in names[: names.index(exercise)]}


# The checks, in the order of the exercises


def check_forward(forward, student=None) -> None:
    """Check `forward(inputs, weights, biases=(0, 0))`, which returns the values of `UNITS`."""
    asked = [(n.inputs, n.weights, b) for n, b in product(trials(student), ((0, 0), *BIASES))]
    want = results_of(network.forward, asked)
    got = ask(forward, UNITS, asked, want)

    own = [(*trial, row) for trial, row in zip(asked, got, strict=True)]

    def passed(inputs, weights, biases, row, **slip):
        return pass_forward(inputs, weights, biases, own=row, **slip)

    follows = results_of(passed, own)

    def slips():
        yield from slipped(passed, own, FORWARD_SLIPS)
        yield (
            "b1 and b2 are swapped: b1 enters h1 and h2, b2 enters o1 and o2",
            [passed(i, w, b[::-1], row) for i, w, b, row in own],
        )
        for times in ("i1", "i1"), ("i2", "i2"), ("i1", "i2"), ("sum", "sum"):
            yield (
                "a bias is added as it is, not times an input",
                [passed(i, w, b, row, times=bias_times(times, i, row)) for i, w, b, row in own],
            )

    def where_it_tells():
        for hint, values in slips():
            same = np.isclose(values, follows).all(axis=0)  # this slip changes nothing here
            yield hint, np.where(same, np.nan, values)
        yield FOLLOWS, follows * (np.nan, np.nan, 1, 1, 1, 1, 1, 1)

    compare(UNITS, got, want, where_it_tells(), only(student, asked))


def bias_times(names, inputs, row) -> list[float]:
    """What a bias, taken for a weight, is multiplied by in h1, h2, o1 and o2."""
    hidden, out = ({"i1": x1, "i2": x2, "sum": x1 + x2} for x1, x2 in (inputs, row[2:4]))
    return [of[name] for of in (hidden, out) for name in names]


def check_errors(errors, student=None) -> None:
    """Check `errors(inputs, targets, weights)`, which returns E1, E2 and E_total."""
    asked = trials(student)
    want = results_of(network.errors, asked)
    got = ask(errors, ERRORS, asked, want, before("errors"))

    def with_sum(both):
        return np.column_stack([both, both.sum(axis=1)])

    def slips():
        t = np.array([trial.targets for trial in asked])
        units = results_of(lambda inputs, _, weights: network.forward(inputs, weights), asked)
        a, o = units[:, 6:], units[:, 4:6]
        yield "the ½ is missing", 2 * want
        for difference in t - a, a - t, abs(t - a):
            yield "the square is missing", with_sum(difference / 2)
            yield "square and ½ are missing", with_sum(difference)
        yield (
            "this is the square of half the distance: the ½ comes outside",
            want * (0.5, 0.5, np.nan),
        )
        yield "the error is of a_o1 and a_o2, not of o1 and o2", with_sum((t - o) ** 2 / 2)
        for form in (t[:, ::-1] - a) ** 2 / 2, (t - a[:, ::-1]) ** 2 / 2:
            yield "the targets are swapped: t1 belongs to a_o1, t2 to a_o2", with_sum(form)
        for form in -t * np.log(a), -t * np.log(a) - (1 - t) * np.log(1 - a):
            yield (
                "this is the cross-entropy; the error is half the squared distance",
                with_sum(form),
            )
        yield "E_total is the sum, not the mean", want * (1, 1, 0.5)
        yield FOLLOWS, with_sum(got[:, :2]) * (np.nan, np.nan, 1)

    compare(ERRORS, got, want, slips(), only(student, asked))


def check_output_gradients(output_gradients, student=None) -> None:
    """Check `output_gradients(inputs, targets, weights)`: ∂E/∂w5 … ∂E/∂w8."""
    known = before("output_gradients")
    _check_gradients(output_gradients, student, trials(student), slice(4, 8), known)


def check_hidden_gradients(hidden_gradients, student=None) -> None:
    """Check `hidden_gradients(inputs, targets, weights)`: ∂E/∂w1 … ∂E/∂w4."""
    known = before("hidden_gradients")
    _check_gradients(hidden_gradients, student, trials(student), slice(0, 4), known)


def _check_gradients(function, student, asked, part, known, slips=GRADIENT_SLIPS, typed=()):
    names = [label(symbol) for symbol in (*GRADIENTS, "dE_db1", "dE_db2")[part]]
    want = results_of(pass_back, asked)[:, part]

    def every():
        yield from slipped(pass_back, asked, slips | CODE_SLIPS, part)
        for rate in RATES:
            early = [pass_back(*trial, old=update(*trial[:3], rate))[part] for trial in asked]
            yield "the error comes back through the old w5 … w8, not the new ones", early
        unbiased = results_of(lambda *trial: pass_back(*trial[:3]), asked)[:, part]
        yield "the biases are missing in the forward pass", unbiased

    got = ask(function, names, asked, want, known)
    compare(names, got, want, every(), only(student, asked, *typed))


def check_update(update, student=None) -> None:
    """Check `update(inputs, targets, weights, rate)`, which returns w1 … w8 after one step."""
    rates = [rate for rate, _ in TRAININGS]
    asked = [(*numbers, rate) for numbers, rate in product(trials(student), rates)]
    names = [label(f"new_w{k}") for k in range(1, 9)]
    weights = np.array([trial[2] for trial in asked])
    steps = np.array([[rate] for *_, rate in asked])
    gradients = results_of(lambda *trial: network.gradients(*trial[:3]), asked)
    want = weights - steps * gradients

    def slips():
        yield "the learning rate is missing", weights - gradients
        yield "the sign is wrong: a step goes against the gradient", weights + steps * gradients
        for sign in (1, -1):
            change = "this is the step alone, without the weight it changes"
            yield change, sign * steps * gradients
        early = "updated weights are used too early: all gradients are of the old weights, but"
        halves = np.hstack([weights[:, :4], want[:, 4:]]), np.hstack([want[:, :4], weights[:, 4:]])
        late, first = (
            [network.gradients(*trial[:2], w) for trial, w in zip(asked, half, strict=True)]
            for half in halves
        )
        back = [pass_back(*trial[:3], old=new)[:8] for trial, new in zip(asked, want, strict=True)]
        yield f"{early} these are of the new w5 … w8", weights - steps * late
        yield f"{early} the new w5 … w8 carry the error back", weights - steps * back
        yield f"{early} these are of the new w1 … w4", weights - steps * first
        for order in range(8), (*range(4, 8), *range(4)), reversed(range(8)):
            one_by_one = results_of(partial(weight_by_weight, order=[*order]), asked)
            yield f"{early} each of these uses the new values of those before it", one_by_one

    typed = [(f"a learning rate of {rate}", rate) for rate in rates]
    got = ask(update, names, asked, want, before("update"))
    compare(names, got, want, slips(), only(student, asked, *typed))


def weight_by_weight(inputs, targets, weights, rate, order):
    """Return w1 … w8 after a step in which each gradient uses the weights that are already new."""
    weights = [*weights]
    for k in order:
        weights[k] -= rate * network.gradients(inputs, targets, weights)[k]
    return weights


def curve(inputs, targets, start, rate, steps, move=None, which=2):
    """Return E_total (or E1, E2) after 0, 1, … `steps` steps, then NaN up to the longest training.

    `move(inputs, targets, weights, start, rate)` returns the weights after a step.
    """
    weights, found = start, []
    for _ in range(steps + 1):
        found.append(network.errors(inputs, targets, weights)[which])
        if move:
            weights = move(inputs, targets, weights, start, rate)
        else:
            weights = update(inputs, targets, weights, rate)
    return padded(found)


def padded(errors) -> np.ndarray:
    """Return the errors of a training, then NaN up to the length of the longest."""
    most = max(steps for _, steps in TRAININGS) + 1
    return np.append(errors, np.full(max(0, most - len(errors)), np.nan))


MOVES = {
    "the weights never change": lambda i, t, w, start, rate: w,
    "the learning rate is missing": lambda i, t, w, start, rate: update(i, t, w, 1),
    "the sign is wrong: the error rises": lambda i, t, w, start, rate: update(i, t, w, -rate),
    "every step takes the start's gradients: compute them again": lambda i, t, w, start, rate: (
        np.add(w, update(i, t, start, rate)) - start
    ),
    "every step begins at the start: go on from the new weights": lambda i, t, w, start, rate: (
        update(i, t, start, rate)
    ),
}


def check_train(train, student=None) -> None:
    """Check `train(inputs, targets, weights, rate, steps)`: E_total after 0, 1, … `steps` steps."""
    asked = [(*numbers, *training) for numbers, training in product(trials(student), TRAININGS)]
    names = [f"E_total at step {step}" for step in range(TRAININGS[0][1] + 1)]
    want = results_of(curve, asked)

    def slips():
        for hint, move in MOVES.items():
            yield hint, results_of(partial(curve, move=move), asked)
        late = [padded(curve(*trial, steps + 1)[1 : steps + 2]) for *trial, steps in asked]
        yield "each error is recorded one step too late: the first belongs to the start", late
        for which in (0, 1):
            hint = f"this is E{which + 1} alone: return E_total"
            yield hint, results_of(partial(curve, which=which), asked)
        right = np.isclose(got, want) | np.isnan(want)
        same = right.all(axis=0).cumprod().sum()
        if same > 1:
            hint = f"right up to step {same - 1}: what is different in the steps after it?"
            yield hint, np.where(np.arange(len(names)) >= same, got, np.nan)

    try:
        got = ask(train, names, asked, want, RIGHT)
    except ReturnError as error:
        right = want[error.row][np.isfinite(want[error.row])]
        raise AnswerError(f"{error}{which_end(error.found, right)}") from None
    typed = [(f"a learning rate of {rate}", rate) for rate, _ in TRAININGS]
    compare(names, got, want, slips(), only(student, asked, *typed))


def which_end(found, want) -> str:
    """Return a line on a list of errors, `found`, that is too long or too short."""
    few, many = min(len(found), len(want)), max(len(found), len(want))
    if few == 0 or few == many:
        return ""
    longer, shorter = (found, want) if len(found) > len(want) else (want, found)
    what = "missing" if len(found) < len(want) else "too many"
    if np.allclose(longer[:few], shorter):
        return f"\n✗ the last is {what}" if many - few == 1 else f"\n✗ the last are {what}"
    if np.allclose(longer[-few:], shorter):
        return f"\n✗ the first is {what}: the list begins with the error of the start"
    return ""


def check_bias_gradients(bias_gradients, student=None) -> None:
    """Check `bias_gradients(inputs, targets, weights, biases)`: ∂E/∂b1 and ∂E/∂b2."""
    asked = [(*numbers, biases) for numbers, biases in product(trials(student), BIASES)]
    typed = [(f"biases of {b1:.2f} and {b2:.2f}", (b1, b2)) for b1, b2 in BIASES]
    slips = BIAS_SLIPS | GRADIENT_SLIPS
    _check_gradients(bias_gradients, student, asked, slice(8, 10), RIGHT, slips, typed)


def check_batch_gradients(batch_gradients, student=None) -> None:
    """Check `batch_gradients(inputs, targets, weights)`: the mean gradients of several examples.

    Inputs and targets are (examples, 2).
    """
    names = [label(symbol) for symbol in GRADIENTS]
    start, *_, other = trials(student)
    asked = []
    for count, numbers in product(BATCHES, (start, other)):
        examples = [personal_numbers(f"example {k} of {count}") for k in range(count)]
        asked.append((*(np.array([e[k] for e in examples]) for k in (0, 1)), numbers.weights))
    of_all = [np.stack(network.gradients(i.T, t.T, w)) for i, t, w in asked]  # (8, examples)
    want = np.array([gradients.mean(axis=1) for gradients in of_all])
    counts = np.array([[len(inputs)] for inputs, *_ in asked])

    def slips():
        yield "the mean over the batch is forgotten: this is the sum", counts * want
        yield "only the first example is counted", [gradients[:, 0] for gradients in of_all]
        yield "only the last example is counted", [gradients[:, -1] for gradients in of_all]
        hint = "these are the gradients of the mean example, not the mean of the gradients"
        mean = results_of(lambda i, t, w: network.gradients(i.mean(0), t.mean(0), w), asked)
        yield hint, mean
        for divisor in (2, 8):
            yield "divide by the number of examples, len(inputs)", counts / divisor * want

    rows = [(f"{count} examples", counts[:, 0] == count) for count in BATCHES]
    mine = ("your numbers", np.array([w == start.weights for *_, w in asked]))
    got = ask(batch_gradients, names, asked, want, RIGHT)
    compare(names, got, want, slips(), [mine, *rows])


# The graph

OTHER_CURVES = {rate: [0.3 / (1 + rate * k) for k in range(21)] for rate in (0.3, 0.7, 4.0)}
STEPS = r"\b(steps?|iterations?|epochs?|updates?|schritte?|[ée]tapes?|pas[os]*)\b"
ERROR = (
    r"(?<![a-z])(e(rr(or|eur)?)?|e_?\{?\s*(\\?\w+\{)?(total|tot|ges)\}*|loss|cost|fehler)(?![a-z])"
)


def check_graph(error_graph, student=None) -> None:
    """Check `error_graph(curves)`, which draws {rate: E_total of every step} in a `Figure`."""
    own = personal_numbers(student)
    curves = {rate: list(network.train(rate, 50, *own)["E_total"]) for rate in RATES}
    missing = faults(draw(error_graph, curves), curves)
    if not missing and faults(draw(error_graph, OTHER_CURVES), OTHER_CURVES):
        missing = ["it draws only your own curves: draw those that error_graph is given"]
    if missing:
        raise AnswerError("\n".join(f"✗ {what}" for what in missing))
    print(f"✓ {'six' if len(curves) == 6 else len(curves)} curves, named, and both axes")


def draw(error_graph, curves) -> FigureBase:
    """Return the figure that a student's function makes; if it fails, leave none open."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    there = pyplot.get_fignums() if pyplot else []
    try:
        figure = call(error_graph, {rate: [*curve] for rate, curve in curves.items()})
        if not isinstance(figure, FigureBase):
            what = "None: is its return missing?" if figure is None else type(figure).__name__
            raise AnswerError(
                f"✗ {name_of(error_graph)} should return a Figure, but returned {what}"
            )
        return figure
    finally:
        for number in [*(pyplot.get_fignums() if pyplot else [])]:
            if number not in there:
                pyplot.close(number)


def faults(figure, curves) -> list[str]:
    """Return what a graph of `curves` lacks, or has wrong."""
    drawn = {axes: lines_of(axes, curves) for axes in figure.axes}
    best = max(drawn, key=lambda axes: len(drawn[axes]), default=None)
    if best is None or len(drawn[best]) < len(curves):
        anywhere = {rate for lines in drawn.values() for rate in lines}
        if anywhere == {*curves}:
            return ["the curves are in several graphs: draw all of them in one"]
        return [f"the graph lacks the curves of {listed(curves, anywhere)}"]

    found = []
    named = read_numbers(" ".join(text.get_text() for text in figure.findobj(Text)))
    labels = [str(line.get_label()) for line in drawn[best].values()]
    labelled = read_numbers(" ".join(text for text in labels if not text.startswith("_")))
    if not named >= {*curves} and labelled >= {*curves}:
        found.append("the curves have labels, but no legend shows them: call `axes.legend()` last")
    elif not named >= {*curves}:
        found.append(f"no label names the curve of {listed(curves, named)}")
    wrong = [
        f"the curve of {rate} is called {text.strip()}"
        for rate, text in legend_of(figure, drawn[best])
        if rate not in read_numbers(text) and read_numbers(text) & {*curves}
    ]
    found += [f"{wrong[0]}, and so on: the names are in another order"] if wrong[1:] else wrong
    x, y = names_of_axes(figure, best)
    if not (x and y):
        found.append("the labels of both axes are missing")
    elif re.search(STEPS, y, re.I) or (re.search(ERROR, x, re.I) and not re.search(STEPS, x, re.I)):
        found.append("the names of the axes are swapped: the steps go to the right, the error up")
    return found


def listed(curves, known) -> str:
    return ", ".join(str(rate) for rate in curves if rate not in known)


def read_numbers(text: str) -> set[float]:
    """Return the numbers in a text, written with a decimal point or a decimal comma."""
    return {float(number.replace(",", ".")) for number in re.findall(r"\d*[.,]?\d+", text)}


def lines_of(axes, curves) -> dict:
    """Return the line, or the points, that show each of `curves` in one graph, by rate."""
    shown = [(line, np.column_stack(line.get_data(orig=True))) for line in axes.get_lines()]
    shown += [(points, points.get_offsets()) for points in axes.collections]
    return {
        rate: artist
        for rate, curve in curves.items()
        for artist, points in shown
        if shows(np.ma.filled(np.ma.asarray(points, float), np.nan), np.array(curve))
    }


def shows(points, curve) -> bool:
    """Return whether points (n, 2) are a curve: all of its steps, or at least five along it."""
    if len(points) == len(curve):
        return np.allclose(points[:, 1], curve, rtol=1e-6, atol=1e-9)
    steps = points[:, 0].round().astype(int) if np.isfinite(points).all() else []
    inside = len(steps) >= 5 and min(steps) >= 0 and max(steps) < len(curve)
    if not inside or np.ptp(steps) < 0.8 * (len(curve) - 1):
        return False
    return np.allclose(points[:, 0], steps) and np.allclose(points[:, 1], curve[steps])


def legend_of(figure, lines: dict):
    """Return pairs of a rate and of the legend's name for its curve, if their colours match."""
    for legend in figure.findobj(Legend):
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=False):
            like = [rate for rate, line in lines.items() if looks(line) == looks(handle)]
            if len(like) == 1:
                yield like[0], text.get_text()


def looks(artist) -> tuple:
    """Return the colour, and the style if there is one, of a line or of points."""
    colour = artist.get_color() if hasattr(artist, "get_color") else artist.get_facecolor()
    style = artist.get_linestyle() if hasattr(artist, "get_color") else ""
    return to_hex(np.ravel(colour)[:4] if not isinstance(colour, str) else colour), style


def names_of_axes(figure, axes) -> list[str]:
    """Return the names of the horizontal and the vertical axis; nothing for x or y alone."""
    names = []
    for name, of_figure in (
        (axes.get_xlabel(), figure.get_supxlabel()),
        (axes.get_ylabel(), figure.get_supylabel()),
    ):
        name = name.strip() or of_figure.strip()
        names.append("" if re.fullmatch(r"\W*[xy]?\W*(axis|achse|label)?\W*", name, re.I) else name)
    return names
