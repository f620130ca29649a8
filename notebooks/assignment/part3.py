"""The checks of part 3: how far off an answer is, and probably why."""

import sys
from contextlib import redirect_stderr
from functools import partial
from itertools import product
from unittest.mock import patch

import numpy as np
import torch
from scipy import stats
from torch import nn

from notebooks.assignment.compare import AnswerError, close, compare, numbers
from notebooks.assignment.part2 import check_log_probs
from s4lib import CLASSIC, Dataset, History
from s4lib.history import Epoch
from s4lib.train import identity, make_network


@torch.no_grad()
def check_variants(variants) -> None:
    """Check `variants`: two or more networks by name, each made anew when it is asked for."""
    if not isinstance(variants, dict) or len(variants) < 2:
        raise AnswerError(
            "✗ variants should be a dictionary of two networks or more, by their names"
        )
    made = {}
    with redirect_stderr(sys.stdout), torch.random.fork_rng(devices=[]):
        for name, network in variants.items():
            if isinstance(network, nn.Module):
                raise AnswerError(
                    f"✗ {name}: here is one network, which the second seed would train further; "
                    "give its class, or a function that makes it"
                )
            torch.manual_seed(0)
            made[name] = make_network(network)
            print(f"{name}: {identity(made[name])[1]:,} parameters")
            check_log_probs(made[name])
        outputs = []
        for name, model in made.items():
            torch.manual_seed(0)
            outputs.append(model.eval()(torch.randn(16, 1, 28, 28)))
            for other, output in zip(made, outputs[:-1], strict=False):
                if torch.equal(output, outputs[-1]):
                    raise AnswerError(f"✗ {name} and {other} compute the same: nothing is compared")
    print("✓ they differ, and each seed makes its own")


def check_hold_out(hold_out) -> None:
    """Check `hold_out(dataset, count)`: it is tested on training images, and trained on others."""
    numbered = torch.arange(60, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    labels = torch.arange(60, dtype=torch.uint8) % 10
    whole = Dataset("numbered", (numbered[:40], labels[:40]), (numbered[40:], labels[40:]))
    with redirect_stderr(sys.stdout):
        given = hold_out(whole, 10)
    if not isinstance(given, Dataset):
        raise AnswerError(f"✗ hold_out should return a Dataset, not {type(given).__name__}")
    train, test = ({*images[:, 0, 0, 0].tolist()} for images, _ in (given.train, given.test))
    print(f"{len(train)} images to train on, {len(test)} to test on, of 40 and 20")
    kept = all(
        len(images) == len(own) and torch.equal(images[:, 0, 0, 0] % 10, own)
        for images, own in (given.train, given.test)
    )
    wrong = {
        "it is tested on test images, which must not choose anything": any(n >= 40 for n in test),
        "it is trained on test images": any(n >= 40 for n in train),
        f"{len(train & test)} images are trained on, and tested on": train & test,
        f"10 images are to be held out, not {len(test)}": len(test) != 10,
        f"the other 30 training images are to be trained on, not {len(train)}": len(train) != 30,
        "labels and images no longer belong together": not kept,
    }
    found = [f"✗ {what}" for what, is_wrong in wrong.items() if is_wrong]
    if found:
        raise AnswerError("\n".join(found))
    print("✓ right")


class Recorder:
    """In place of `fit`: notes what it is asked for, and makes up how that went."""

    def __init__(self, names):
        self.names, self.calls = names, []

    def fit(self, network, dataset, recipe, seed=0, device="auto", out=None, on_batch=None):
        self.calls.append((network, dataset, recipe, seed))
        name = next((name for name, one in self.names.items() if one is network), None)
        epochs = []
        for k, correct in enumerate(self.correct(name, seed)):
            facts = {"train_accuracy": 99.0 + k / 10, "test_accuracy": correct / 10}
            epochs.append(Epoch(k + 1, 0.1, 0.3, test_loss=0.2, test_correct=correct,
                                test_images=1000, seconds=1, **facts))  # fmt: skip
        return nn.Identity(), History(
            "Net", 1, {}, dataset.name, seed, "cpu", "float32", {}, epochs
        )

    def correct(self, name, seed) -> tuple[int, int, int]:
        """Of 1,000 test images after each epoch: the second is the best."""
        start = 900 + 7 * [*self.names, None].index(name) + int(seed) ** 2
        return start, start + 50, start + 30


def check_experiment(experiment) -> None:
    """Check `experiment(variants, dataset, recipe, seeds)`: accuracies by name, one for a seed."""
    variants = {"one": partial(nn.Linear, 1, 1), "other": partial(nn.Linear, 2, 1)}
    recorder, seeds = Recorder(variants), [3, 5, 8]
    dataset = Dataset("small", *[(torch.zeros(1, 1, 28, 28), torch.zeros(1))] * 2)
    space = getattr(experiment, "__globals__", {})
    with (
        patch.dict(space, {"fit": recorder.fit}),
        patch("s4lib.fit", recorder.fit),
        patch("s4lib.train.fit", recorder.fit),
        redirect_stderr(sys.stdout),
    ):
        results = experiment(variants, dataset, CLASSIC, seeds)
    if not isinstance(results, dict) or [*results] != [*variants]:
        raise AnswerError(f"✗ experiment should return a dictionary with the keys {[*variants]}")
    for network, data, recipe, _ in recorder.calls:
        if not any(network is one for one in variants.values()):
            raise AnswerError("✗ hand fit the class, so that every seed makes its own network")
        if data is not dataset or recipe is not CLASSIC:
            raise AnswerError("✗ hand fit the data set and the recipe that experiment is given")

    names = [f"{name}, seed {seed}" for name, seed in product(variants, seeds)]
    got = numbers(experiment, [value for name in variants for value in results[name]], names)
    runs = [recorder.correct(name, seed) for name, seed in product(variants, seeds)]
    first, best, want = (np.array([values]) / 10 for values in zip(*runs, strict=True))
    slips = {
        "this is the best epoch's accuracy; the last epoch's is the result": best,
        "this is the first epoch's accuracy, not the last one's": first,
        "this is the accuracy on the images it was trained on": np.full_like(want, 99.2),
        "every seed is asked for, not one and the same": np.repeat(want[:, ::3], 3, axis=1),
        "the seed is not handed on to fit, which then takes 0": np.repeat(
            [[recorder.correct(name, 0)[2] / 10 for name in variants]], 3, axis=1
        ),
        "per cent are asked for, not a fraction": want / 100,
        "this is the number of correct images, not per cent": want * 10,
        "this is the test loss, not the accuracy": np.full_like(want, 0.2),
    }
    compare(names, [got], want, slips)


SAMPLES = (
    ([99.1, 99.3, 99.0], [98.7, 98.9, 99.0]),
    ([98.2, 98.9, 98.4], [98.8, 98.5, 98.3]),
    ([97.0, 97.1, 97.5], [94.1, 96.3, 95.2]),
)


def check_spread(spread) -> None:
    """Check `spread(accuracies)`: their mean and standard deviation."""
    samples = [sample for pair in SAMPLES for sample in pair]
    names = ("mean", "standard deviation")

    def each(mean, deviation):
        return [(mean(sample), deviation(sample)) for sample in samples]

    deviation = partial(np.std, ddof=1)
    with redirect_stderr(sys.stdout):
        got = [numbers(spread, spread([*sample]), names) for sample in samples]
    slips = {
        "of a few runs the sum of squares is divided by n − 1, not n (ddof=1)": each(
            np.mean, np.std
        ),
        "this is the variance: take its square root": each(np.mean, partial(np.var, ddof=1)),
        "this is the standard error of the mean; the deviation of one run is asked for": each(
            np.mean, stats.sem
        ),
        "this is the best run, not the mean": each(max, deviation),
        "this is the median, not the mean": each(np.median, deviation),
        "this is the range": each(np.mean, np.ptp),
    }
    compare(names, got, each(np.mean, deviation), slips)


def interval(ours, theirs, t=None, df=None, error=None) -> tuple[float, float]:
    """Student's 95 % interval of the difference of two means, unless an option changes it."""
    n, m = len(ours), len(theirs)
    pooled = ((n - 1) * np.var(ours, ddof=1) + (m - 1) * np.var(theirs, ddof=1)) / (n + m - 2)
    error = np.sqrt(pooled * (1 / n + 1 / m)) if error is None else error(ours, theirs)
    half = (stats.t.ppf(0.975, df or n + m - 2) if t is None else t) * error
    middle = np.mean(ours) - np.mean(theirs)
    return middle - half, middle + half


def check_difference(difference) -> None:
    """Check `difference(ours, theirs)`: the 95 % interval of the difference of two means."""
    names = ("low end", "high end")

    def each(**options):
        return np.array([interval(*pair, **options) for pair in SAMPLES])

    with redirect_stderr(sys.stdout):
        got = [numbers(difference, difference(*map(list, pair)), names) for pair in SAMPLES]
    welch = [stats.ttest_ind(*pair, equal_var=False).confidence_interval(0.95) for pair in SAMPLES]
    slips = {
        "for so few runs it is Student's t, not the normal distribution's 1.96": each(t=1.96),
        "the degrees of freedom are n₁ + n₂ − 2, of both samples": each(df=2),
        "2.5 % lie on either side: take t at 0.975": each(t=stats.t.ppf(0.95, 4)),
        "this is where single runs lie; of the mean, divide by √n": each(
            error=lambda a, b: np.sqrt(np.var(a, ddof=1) + np.var(b, ddof=1))
        ),
        "variances are divided by n − 1, not n (ddof=1)": each(
            error=lambda a, b: np.sqrt((np.var(a) + np.var(b)) / 3)
        ),
        "runs of one seed are no pair: two networks share nothing by it": each(
            df=2, error=lambda a, b: stats.sem(np.subtract(a, b))
        ),
        "this is theirs minus ours": -each()[:, ::-1],
        "the standard error is missing its t": each(t=1),
    }
    compare(names, got, welch if close(got, welch).all() else each(), slips)
