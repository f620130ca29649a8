"""The checks of part 3: how far off an answer is, and probably why."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from itertools import combinations, product
from pathlib import Path
from unittest.mock import patch

import nbformat
import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from notebooks.assignment.compare import AnswerError, ask, call, close, compare, numbers, stand_in
from notebooks.assignment.part2 import check_log_probs, with_shapes
from s4lib import CLASSIC, FAST, Dataset, History
from s4lib.history import Epoch
from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import read
from s4lib.train import identity, make_network

SEEDS = 3  # so many of each network, in the experiment
PER_CENT = {"rtol": 0, "atol": 2e-4}  # float32 separates accuracies near 100 only by 1e-5


# The networks


def check_variants(variants) -> None:
    """Check `variants`: two or more networks by name, each made again at every call."""
    if variants is None:
        raise AnswerError("✗ variants is not written yet")
    if not isinstance(variants, dict) or len(variants) < 2:
        raise AnswerError(
            "✗ variants should be a dictionary of two networks or more, by their names"
        )
    behaviour = {}
    with redirect_stderr(sys.stdout), torch.random.fork_rng(devices=[]):
        for name, network in variants.items():
            if isinstance(network, nn.Module):
                raise AnswerError(
                    f"✗ {name}: here is one network, which the second seed would train further; "
                    "give its class, or a function that makes it"
                )
            model = fresh(name, network)
            check_log_probs(model)
            print(f"{name}: {identity(model)[1]:,} parameters")
            behaviour[name] = call(behave, model, name=name)
    for first, second in combinations(behaviour, 2):
        pairs = zip(behaviour[first], behaviour[second], strict=True)
        if all(torch.equal(*pair) for pair in pairs):
            raise AnswerError(f"✗ {first} and {second} compute the same: nothing is compared")
    print("✓ they differ, and each seed makes its own")


def fresh(name: str, network) -> nn.Module:
    """Return a network made with seed 0. Raises AnswerError if a second shares a part with it."""
    two = []
    for _ in range(2):
        torch.manual_seed(0)
        two.append(with_shapes(call(make_network, network, name=str(name))))
    first, second = ({id(parameter) for parameter in model.parameters()} for model in two)
    if first & second:
        raise AnswerError(
            f"✗ {name} makes the same network each time, which the second seed would train "
            "further: make it inside the function"
        )
    return two[0]


def behave(model: nn.Module) -> list[Tensor]:
    """Return what a network computes in training, and in training and testing after one step.

    All networks get the same random numbers, so that equal networks compute the same bits. Before a
    step in training mode, some different networks compute the same.
    """
    torch.manual_seed(0)
    images, labels = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    outputs = []
    for _ in range(2):
        torch.manual_seed(1)
        outputs.append(model.train()(images))
        optimizer.zero_grad()
        F.nll_loss(outputs[-1], labels).backward()
        optimizer.step()
    with torch.no_grad():
        outputs.append(model.eval()(images))
    return [output.detach() for output in outputs]


# Held-out images


def check_hold_out(hold_out) -> None:
    """Check `hold_out(dataset, count)`: it tests on training images, and trains on the others."""
    for train, test, count in (40, 20, 10), (33, 7, 12):
        found = held_out_faults(hold_out, train, test, count)
        if found:
            raise AnswerError("\n".join(f"✗ {what}" for what in found))
    print("✓ right")


def held_out_faults(hold_out, train_count: int, test_count: int, count: int) -> list[str]:
    """Return what is wrong with `count` held-out images of a data set of so many images."""
    total = train_count + test_count
    numbered = torch.arange(total, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    labels = torch.arange(total) % 10
    pairs = [
        (numbered[rows], labels[rows]) for rows in (slice(train_count), slice(train_count, None))
    ]
    given = call(hold_out, Dataset("numbered", *pairs), count)
    if not isinstance(given, Dataset):
        return [f"hold_out should return a Dataset, not {type(given).__name__}"]
    for name in ("train", "test"):
        pair = getattr(given, name)
        if not (isinstance(pair, (tuple, list)) and [*map(type, pair)] == [Tensor, Tensor]):
            return [f"{name} should be a pair of images and labels, not {type(pair).__name__}"]
        if pair[0].shape[1:] != (1, 28, 28):
            return [f"the images of {name} should be (N, 1, 28, 28), not {tuple(pair[0].shape)}"]
    lists = [images[:, 0, 0, 0].tolist() for images, _ in (given.train, given.test)]
    train, test = map(set, lists)
    print(f"{len(train)} images to train on, {len(test)} to test on, of {train_count}")
    kept = all(
        len(images) == len(own) and torch.equal(images[:, 0, 0, 0] % 10, own.to(torch.uint8))
        for images, own in (given.train, given.test)
    )
    rest = train_count - count
    wrong = {
        "it is tested on test images, which must not choose anything": any(
            n >= train_count for n in test
        ),
        "it is trained on test images": any(n >= train_count for n in train),
        f"{len(train & test)} images are trained on, and tested on": train & test,
        f"{count} images must be held out, not {len(test)}": len(test) != count,
        f"the other {rest} training images must be trained on, not {len(train)}": (
            len(train) != rest
        ),
        "some images are there twice": [*map(len, lists)] != [len(train), len(test)],
        "labels and images no longer belong together": not kept,
    }
    return [what for what, is_wrong in wrong.items() if is_wrong]


# The experiment


class Told(nn.Module):
    """A network that predicts so many images correctly, those with the lowest numbers."""

    def __init__(self, correct: int):
        super().__init__()
        self.correct, self.weight = correct, nn.Parameter(torch.zeros(1))

    def forward(self, images):
        bits = (images[:, 0, 0, :8] > 0).long()
        numbers = (bits * 2 ** torch.arange(8)).sum(1)
        labels = torch.where(numbers < self.correct, numbers % 10, (numbers + 1) % 10)
        return F.log_softmax(9.0 * F.one_hot(labels, 10), dim=1)


IMAGES = 200  # the images of `Told`'s data set


def numbered_images() -> Dataset:
    """Images with their number in binary in the first row; labels are the numbers' last digits."""
    numbers = torch.arange(IMAGES)
    images = torch.zeros(IMAGES, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, :8] = 255 * (numbers[:, None] >> torch.arange(8) & 1).to(torch.uint8)
    return Dataset("numbered", *[(images, numbers % 10)] * 2)


class Recorder:
    """Instead of `fit`, note the arguments, and make up a history."""

    def __init__(self, names):
        self.names, self.calls = names, []

    def fit(self, network, dataset, recipe, seed=0, device="auto", out=None, on_batch=None):
        self.calls.append((network, dataset, recipe, seed))
        name = next((name for name, variant in self.names.items() if variant is network), None)
        epochs = []
        for k, correct in enumerate(self.correct(name, seed)):
            facts = {"train_accuracy": 99.0 + k / 10, "test_accuracy": 100 * correct / IMAGES}
            epochs.append(Epoch(k + 1, 0.1, 0.3, test_loss=0.2, test_correct=correct,
                                test_images=IMAGES, seconds=1, **facts))  # fmt: skip
        history = History("Net", 1, {}, dataset.name, seed, "cpu", "float32", {}, epochs)
        return Told(epochs[-1].test_correct), history

    def correct(self, name, seed) -> tuple[int, int, int]:
        """Made-up accuracies of the test images after each epoch: the second is the best."""
        start = 100 + 3 * [*self.names, None].index(name) + int(seed) ** 2 % 59
        return start, start + 25, start + 11


ROUNDS = (  # names of networks, recipe and seeds that an experiment is called with
    (("one", "other"), CLASSIC, [3, 5, 8]),
    (("a", "b", "c"), FAST, [2, 7]),
)


def check_experiment(experiment) -> None:
    """Check `experiment(variants, dataset, recipe, seeds)`: accuracies by name, one for a seed."""
    names, got, want, slips = [], [], [], {}
    for of_round in ROUNDS:
        variants, recorder, answer = record(experiment, *of_round)
        seeds = of_round[2]
        names += [f"{name}, seed {seed}" for name, seed in product(variants, seeds)]
        got += answer
        runs = np.array([recorder.correct(*run) for run in product(variants, seeds)])
        first, best, last = 100 / IMAGES * runs.T
        want += [*last]
        for hint, values in slipped_results(recorder, variants, seeds, first, best, last):
            slips.setdefault(hint, []).extend(values)
        if not close(got, want).all():
            break
    compare(names, [got], [want], [(hint, [values]) for hint, values in slips.items()])


def record(experiment, names, recipe, seeds):
    """Return the networks, the calls of `fit`, and the accuracies of an experiment, in one list."""
    variants = {name: partial(nn.Linear, k + 1, 1) for k, name in enumerate(names)}
    recorder, dataset = Recorder(variants), numbered_images()
    with (
        stand_in(experiment, {"fit": recorder.fit}),
        patch("s4lib.fit", recorder.fit),
        patch("s4lib.train.fit", recorder.fit),
    ):
        results = call(experiment, variants, dataset, recipe, [*seeds])
    if not isinstance(results, dict) or [*results] != [*variants]:
        raise AnswerError(f"✗ experiment should return a dictionary with the keys {[*variants]}")
    for network, data, by, _ in recorder.calls:
        if not any(network is variant for variant in variants.values()):
            raise AnswerError("✗ give fit the class, so that every seed makes its own network")
        if data is not dataset or by is not recipe:
            raise AnswerError("✗ give fit the data set and the recipe that experiment is given")
    answer = []
    for name, accuracies in results.items():
        try:
            answer += numbers(None, accuracies, seeds)
        except (AnswerError, TypeError):
            asked = f"a list of {len(seeds)} accuracies, one for each of the seeds {seeds}"
            raise AnswerError(f"✗ {name!r} should be {asked}, but is {accuracies!r}") from None
    return variants, recorder, answer


def slipped_results(recorder, variants, seeds, first, best, last) -> Iterator[tuple[str, list]]:
    """Return what the usual slips make of an experiment's accuracies."""
    count, size = len(seeds), len(last)

    def with_seeds(*instead):
        return [100 / IMAGES * recorder.correct(*run)[2] for run in product(variants, instead)]

    yield "this is the best epoch's accuracy; the last epoch's is the result", best
    yield "this is the first epoch's accuracy, not the last one's", first
    yield "this is the accuracy on the images it was trained on", np.full(size, 99.2)
    yield "use every seed, not always the same one", with_seeds(*[seeds[0]] * count)
    yield "the seed is not passed on to fit, which then takes 0", with_seeds(*[0] * count)
    yield "these are the seeds 0, 1, 2: use those that are given", with_seeds(*range(count))
    yield "return per cent, not a fraction", last / 100
    yield "this is the number of correct images, not per cent", last * IMAGES / 100
    yield "this is the test loss, not the accuracy", np.full(size, 0.2)


# What comes of the experiment


def read_results(path: str | Path, variants) -> dict[str, list[float]]:
    """Return the experiment that was kept in `path`: accuracies by the names of `variants`.

    Raises UsageError if there is none, or if it has other networks.
    """
    path = Path(path)
    advice = f"Delete {path.name}, and run this cell again"
    try:
        results = json.loads(read(path))
        whole = all(
            [*map(type, values)] in ([float] * SEEDS, [int] * SEEDS)
            and all(0 <= value <= 100 for value in values)
            for values in results.values()
        )
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        if isinstance(error, UsageError):
            raise
        whole, results = False, {}
    if not whole:
        raise UsageError(f"{path.name} does not hold {SEEDS} accuracies of each network. {advice}.")
    if {*results} != {*map(str, variants)}:
        there, here = ", ".join(results), ", ".join(map(str, variants))
        raise UsageError(f"{path.name} is about {there}, and variants about {here}. {advice}.")
    return results


def held_against(notebook: str | Path, experiment: str | Path) -> list[str]:
    """Return the differences between a handed-in experiment and the table in the notebook.

    Each difference is one line; without differences there is none. Nothing is executed.
    """
    cells = nbformat.read(notebook, as_version=4).cells
    said = "\n".join(
        output.get("text", "")
        for cell in cells
        if cell.get("metadata", {}).get("nbgrader", {}).get("grade_id") == "table"
        for output in cell.get("outputs", [])
    )
    shown = {
        name: (float(mean), float(deviation))
        for name, mean, deviation in re.findall(r"^(.*): ([\d.]+) ± ([\d.]+) %$", said, re.M)
    }
    if not shown:
        return ["the notebook shows no table of its experiment"]
    try:
        results = read_results(experiment, shown)
    except UsageError as error:
        return [str(error).split(". Delete")[0]]
    return [
        f"{name}: the table has {mean:.2f} ± {deviation:.2f} %, {Path(experiment).name} gives "
        f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} %"
        for name, values in results.items()
        for mean, deviation in [shown[name]]
        if abs(np.mean(values) - mean) > 0.006 or abs(np.std(values, ddof=1) - deviation) > 0.006
    ]


# Mean, spread and difference

SAMPLES = (
    ([99.1, 99.3, 99.0], [98.7, 98.9, 99.0]),
    ([98.2, 98.9, 98.4], [98.8, 98.5, 98.3]),
    ([97.0, 97.1, 97.5], [94.1, 96.3, 95.2]),
    ([97.2, 97.9, 97.3, 96.6], [96.9, 97.4]),
    ([98.1, 98.8], [97.9, 97.0, 97.3]),
    ([96.4, 96.9, 97.8, 96.1, 97.2], [97.5, 98.1, 97.2, 98.3]),
)
EQUAL = 3  # the first of these pairs have three runs of each


def check_spread(spread) -> None:
    """Check `spread(accuracies)`: their mean and standard deviation."""
    samples = [sample for pair in SAMPLES for sample in pair]
    names = ("mean", "standard deviation")

    def spreads(mean, deviation):
        return np.array([(mean(sample), deviation(sample)) for sample in samples])

    deviation = partial(np.std, ddof=1)
    want = spreads(np.mean, deviation)
    got = ask(spread, names, [([*sample],) for sample in samples], want)
    slips = (
        (
            "of a few runs the sum of squares is divided by n − 1, not n (ddof=1)",
            spreads(np.mean, np.std),
        ),
        ("this is the variance: take its square root", spreads(np.mean, partial(np.var, ddof=1))),
        ("this is the variance: take its square root", spreads(np.mean, np.var)),
        (
            "this is the standard error of the mean; return the standard deviation of the runs",
            spreads(np.mean, stats.sem),
        ),
        ("this is the best run, not the mean", spreads(max, deviation)),
        ("this is the median, not the mean", spreads(np.median, deviation)),
        ("this is the sum, not the mean", spreads(sum, deviation)),
        ("this is the range", spreads(np.mean, np.ptp)),
        ("this is the range", spreads(np.mean, lambda sample: np.ptp(sample) / 2)),
    )
    three = np.array([len(sample) == 3 for sample in samples])
    compare(names, got, want, slips, [("three runs", three)], **PER_CENT)


def interval(ours, theirs, t=None, df=None, error=None) -> tuple[float, float]:
    """Return Student's 95 % interval of a difference of two means, unless an option changes it.

    `t` is a number, or a function of the degrees of freedom, `df` a function of the numbers of
    runs, and `error` a function of the pooled variance and both samples.
    """
    n, m = len(ours), len(theirs)
    pooled = ((n - 1) * np.var(ours, ddof=1) + (m - 1) * np.var(theirs, ddof=1)) / (n + m - 2)
    error = np.sqrt(pooled * (1 / n + 1 / m)) if error is None else error(pooled, ours, theirs)
    freedom = df(n, m) if df else n + m - 2
    quantile = stats.t.ppf(0.975, freedom) if t is None else t(freedom) if callable(t) else t
    middle = np.mean(ours) - np.mean(theirs)
    return middle - quantile * error, middle + quantile * error


def welch(ours, theirs) -> tuple[float, float]:
    """Return the interval that does not assume equal spreads."""
    return stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)


RIGHT_INTERVALS = (
    interval,
    welch,
    partial(interval, t=lambda freedom: round(stats.t.ppf(0.975, freedom), 2)),
    partial(interval, t=2.78),  # the number that the text gives for three runs of each
)


def root(variance):
    return lambda pooled, a, b: np.sqrt(variance(pooled, a, b))


INTERVAL_SLIPS = {
    "for so few runs take Student's t, not the normal distribution's 1.96": [{"t": 1.96}],
    "the degrees of freedom are n₁ + n₂ − 2, of both samples": [
        {"df": lambda n, m: n - 1},
        {"df": lambda n, m: m - 1},
        {"df": lambda n, m: n + m - 1},
        {"df": lambda n, m: n + m},
    ],
    "2.5 % lie on either side: take t at 0.975": [
        {"t": lambda freedom: stats.t.ppf(0.95, freedom)}
    ],
    "this is where single runs lie; for the mean, divide by √n": [
        {"error": root(lambda pooled, a, b: np.var(a, ddof=1) + np.var(b, ddof=1))},
        {"error": root(lambda pooled, a, b: pooled)},
    ],
    "variances are divided by n − 1, not n (ddof=1)": [
        {"error": root(lambda pooled, a, b: np.var(a) / len(a) + np.var(b) / len(b))},
        {
            "error": root(
                lambda pooled, a, b: (
                    ((len(a) - 1) * np.var(a) + (len(b) - 1) * np.var(b))
                    / (len(a) + len(b) - 2)
                    * (1 / len(a) + 1 / len(b))
                )
            )
        },
    ],
    "1/n + 1/m stands under the root, not n + m": [
        {"error": root(lambda pooled, a, b: pooled * (len(a) + len(b)))},
        {"error": root(lambda pooled, a, b: pooled / (len(a) + len(b)))},
    ],
    "the square root is missing: s² is a variance": [
        {"error": lambda pooled, a, b: pooled * (1 / len(a) + 1 / len(b))},
        {"error": lambda pooled, a, b: pooled * np.sqrt(1 / len(a) + 1 / len(b))},
        {"error": lambda pooled, a, b: np.sqrt(pooled) * (1 / len(a) + 1 / len(b))},
    ],
    "runs with the same seed are not a pair: the networks share nothing": [
        {
            "df": lambda n, m: n - 1,
            "error": lambda pooled, a, b: (
                stats.sem(np.subtract(a, b)) if len(a) == len(b) else np.nan
            ),
        }
    ],
    "the standard error is missing its t": [{"t": 1}],
    "only the variance of one sample is counted": [
        {"error": root(lambda pooled, a, b: np.var(a, ddof=1) * (1 / len(a) + 1 / len(b)))},
        {"error": root(lambda pooled, a, b: np.var(b, ddof=1) * (1 / len(a) + 1 / len(b)))},
    ],
}


def check_difference(difference) -> None:
    """Check `difference(ours, theirs)`: the 95 % interval of the difference of two means.

    Equal numbers of runs come first, because some slips make a difference only for unequal ones.
    """
    check_intervals(difference, SAMPLES[:EQUAL], quietly=True)
    check_intervals(difference, SAMPLES)


def check_intervals(difference, pairs, quietly=False) -> None:
    """Compare the intervals of `pairs`; with `quietly`, print nothing for right ones."""
    names = ("low end", "high end")

    def intervals(function=interval, **options):
        return np.array([function(*pair, **options) for pair in pairs])

    got = ask(difference, names, [([*a], [*b]) for a, b in pairs], intervals())
    accepted = [intervals(function) for function in RIGHT_INTERVALS]
    fitting = [want for want in accepted if close(got, want, **PER_CENT).all()]
    if fitting and quietly:
        return
    if fitting and fitting[0] is accepted[-1]:
        print("(2.78 is t for three runs of each; for other numbers t is different)")

    def slips():
        for hint, forms in INTERVAL_SLIPS.items():
            for options in forms:
                yield hint, intervals(**options)
        yield "this is theirs minus ours", -intervals()[:, ::-1]
        middle, half = intervals().mean(1), np.ptp(intervals(), axis=1) / 2
        ends = "return both ends, mean − half and mean + half"
        for other in ((middle, half), (half, middle), (-half, half)):
            yield ends, np.column_stack(other)
        yield "the low end comes first", intervals()[:, ::-1]

    three = np.array([len(a) == len(b) == 3 for a, b in pairs])
    want = (fitting or accepted)[0]
    compare(names, got, want, slips(), [("three runs of each", three)], **PER_CENT)
