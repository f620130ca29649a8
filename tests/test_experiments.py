"""Experiments run once, keep what they measure, and are what the page says."""

import itertools
import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from filelock import FileLock
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from notebooks.experiments import __main__ as cli
from notebooks.experiments import channels, measures, plots, report, runner
from notebooks.experiments.catalogue import BASE, EXPERIMENTS, OLD, Experiment, Variant
from notebooks.experiments.variants import build, count
from s4lib import MNISTNet, UsageError
from s4lib.optim import make_schedule
from s4lib.plots import activations
from s4lib.recipes import CLASSIC
from s4lib.runtime.checkpoint import load_weights

RESULTS = Path(__file__).parents[1] / "notebooks/results"
PAGE = RESULTS.parent / "README.md"
RAMP = Variant(lr=1e-4, ramp=1.0, updates=4)
TINY = Variant("stride3-4 norm relu gap fc", images=200, updates=3, batch_size=50)


@pytest.fixture
def two(monkeypatch):
    """Two experiments that share a variant; EXPERIMENTS has no others."""
    one = Experiment("Which?", {"tiny": TINY, "slow": replace(TINY, lr=0.001)})
    other = Experiment("Where?", {"the same": TINY, "more": replace(TINY, updates=4)})
    for module in (runner, report):
        monkeypatch.setattr(module, "EXPERIMENTS", {"one": one, "other": other})
    return one, other


@pytest.fixture(scope="module")
def tables():
    return report.tables(RESULTS)


@pytest.fixture(scope="module")
def kept():
    return runner.read(RESULTS)


def seeds(folder):
    """The seeds that are kept, by the settings of which these experiments differ."""
    return {
        (variant.lr, variant.updates): [run["seed"] for run in runs]
        for variant, runs in runner.read(folder).items()
    }


# A run


def test_a_run_says_what_was_set_and_what_was_measured(digits):
    result = runner.run(TINY, digits, 1, "cpu")
    assert Variant(**json.loads(json.dumps(result))["settings"]) == TINY
    assert (result["seed"], result["dataset"]) == (
        1,
        f"{digits.name}, 240 training images held out",
    )
    assert (result["parameters"], result["updates"]) == (count(TINY.network), 3)
    assert set(result["versions"]) == {"python", "torch", "s4lib"}
    assert 0 <= result["held_out_accuracy"] <= 100
    assert result["early"] == {}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(digits):
    def trained(seed):
        result = runner.run(replace(TINY, ramp=1.0), digits, seed, "cpu")
        return result["losses"], result["held_out_accuracy"]

    assert trained(0) == trained(0) != trained(1)


def test_accuracy_is_that_of_training_images_never_trained_on(digits, monkeypatch):
    """And of others while the run goes on: neither of them test images."""
    monkeypatch.setattr(runner, "MARKS", (2, 3, 9))
    tested, chosen = [], []

    def evaluate(model, data):
        tested.append(data.test[0])
        return 0.0, len(data.test[1]) // 2

    def watched(network, dataset, *args, **kwargs):
        chosen.append(dataset)
        return fit(network, dataset, *args, **kwargs)

    fit = runner.fit
    monkeypatch.setattr(runner, "evaluate", evaluate)
    monkeypatch.setattr(runner, "fit", watched)
    result = runner.run(TINY, digits, 0, "cpu")
    images = digits.train[0]
    assert len(images) == 1_437
    assert chosen[0].train[0].equal(images[:200])
    assert [*result["early"]] == ["2", "3"]
    assert result["early"]["2"] == 100 * (len(images[200:-240]) // 2) / len(images[200:-240])
    assert result["held_out_accuracy"] == 50
    aside, train, held_out = images[200:-240], images[:200], images[-240:]
    for found, expected in zip(tested, (aside, aside, train, held_out), strict=True):
        assert found.equal(expected)
    whole = replace(TINY, images=len(images) - 240)
    assert runner.run(whole, digits, 0, "cpu")["early"] == {}


def trained_by(digits, monkeypatch, variant):
    """The recipe that `fit` was given for a variant, and the losses that it reported."""
    given, fit = [], runner.fit

    def watched(network, dataset, recipe, *args, on_batch):
        def watch(step, loss):
            given.append(loss)
            on_batch(step, loss)

        given.append(recipe)
        return fit(network, dataset, recipe, *args, on_batch=watch)

    monkeypatch.setattr(runner, "fit", watched)
    runner.run(variant, digits, 0, "cpu")
    return given[0], given[1:]


@pytest.mark.parametrize(
    ("variant", "updates"),
    [(replace(TINY, updates=10), 10), (replace(TINY, updates=None, epochs=3), 12)],
)
def test_fit_makes_as_many_updates_as_asked_for(digits, monkeypatch, variant, updates):
    _, losses = trained_by(digits, monkeypatch, variant)
    assert len(losses) == updates  # of 4 in an epoch


def test_the_learning_rate_falls_as_classic_does(digits, monkeypatch):
    recipe, _ = trained_by(digits, monkeypatch, replace(TINY, updates=19))
    optimizer = torch.optim.SGD(build(TINY.network).parameters(), recipe.lr)
    schedule = make_schedule(optimizer, recipe, [4] * recipe.epochs)
    falling = []
    for _ in range(19):
        falling.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    first, second = CLASSIC.milestones
    expected = [0.01] * first + [0.001] * (second - first) + [0.0001] * (19 - second)
    assert falling == pytest.approx(expected)


@pytest.fixture
def steps(monkeypatch):
    """The learning rate, batch size and Adam's settings of every step; nothing is trained."""
    seen = []

    def train_epoch(model, batches, optimizer, schedule, amp, on_batch):
        for step, (_, labels) in enumerate(batches):
            seen.append((schedule.get_last_lr()[0], len(labels), optimizer.defaults))
            optimizer.step()
            schedule.step()
            on_batch(step, torch.tensor(2.0))

    monkeypatch.setattr(runner, "train_epoch", train_epoch)
    return seen


def test_the_range_test_raises_the_learning_rate_from_the_first_batch_to_the_last(digits, steps):
    result = runner.run(replace(TINY, lr=1e-4, ramp=1.0, updates=8), digits, 0, "cpu")
    assert [lr for lr, *_ in steps] == pytest.approx([10 ** (k / 2 - 4) for k in range(8)])
    assert result["losses"] == [2.0] * 8


def test_a_larger_batch_may_adapt_the_rest_of_adam_too(digits, steps):
    """Four times as large: 1 - β₁ and 1 - β₂ are four times, ε is half; lr falls as elsewhere."""
    runner.run(replace(TINY, lr=0.02, updates=19, batch_factor=4), digits, 0, "cpu")
    *_, defaults = steps[0]
    assert defaults["betas"] == pytest.approx((0.6, 0.996))
    assert defaults["eps"] == pytest.approx(5e-9)
    first, second = CLASSIC.milestones
    expected = [0.02] * first + [0.002] * (second - first) + [0.0002] * (19 - second)
    assert [lr for lr, *_ in steps] == pytest.approx(expected)
    assert {size for _, size, _ in steps} == {TINY.batch_size}


def test_a_run_is_tested_in_fp32_whatever_it_is_trained_in(digits, monkeypatch):
    evaluate, tested = runner.evaluate, []

    def watched(*args):
        tested.append(torch.is_autocast_enabled("cpu"))
        return evaluate(*args)

    monkeypatch.setattr(runner, "choose_precision", lambda _: torch.bfloat16)
    monkeypatch.setattr(runner, "evaluate", watched)
    monkeypatch.setattr(runner, "MARKS", (2,))
    runner.run(TINY, digits, 0, "cpu")
    assert tested == [False] * 3


def test_a_run_that_diverges_is_kept_as_such(digits):
    result = runner.run(replace(TINY, lr=1e30, updates=20), digits, 0, "cpu")
    assert result["diverged"]
    assert math.isfinite(result["held_out_accuracy"])


def test_too_few_images_and_a_network_that_can_not_be_built_are_said(digits):
    with pytest.raises(
        UsageError, match=r"There are 1,197 images to train on .*; 10,000 are wanted"
    ):
        runner.run(Variant(), digits, 0, "cpu")
    with pytest.raises(UsageError, match=r"Layer 2, valid5-8: .*4 x 4.*5 x 5"):
        runner.run(replace(TINY, network="valid25-8 valid5-8 fc"), digits, 0, "cpu")


def test_a_rerun_takes_no_more_images_than_there_are(digits, two):
    results = runner.rerun("one", digits, images=5_000, epochs=1, device="cpu")
    assert [*results] == ["tiny", "slow"]
    assert [runs[0]["settings"]["images"] for runs in results.values()] == [1_197, 1_197]


# Kept, once


@pytest.fixture
def two_seeds(monkeypatch):
    monkeypatch.setattr(runner, "FEWEST_SEEDS", 2)
    monkeypatch.setattr(report, "FEWEST_SEEDS", 2)


def test_what_is_done_is_not_done_again(digits, two, two_seeds, tmp_path, capsys, monkeypatch):
    runner.run_missing(["one", "other"], digits, tmp_path, "cpu")
    said = capsys.readouterr().out
    assert said.count("seed") == 6  # three different variants
    assert "[1/6] one: tiny, seed 0" in said
    assert "[6/6] other: more, seed 1" in said
    assert seeds(tmp_path) == {(0.01, 3): [0, 1], (0.001, 3): [0, 1], (0.01, 4): [0, 1]}
    (path,) = tmp_path.iterdir()
    before = path.read_text()

    runner.run_missing(["one", "other"], digits, tmp_path, "cpu")
    assert capsys.readouterr().out == ""
    assert path.read_text() == before

    monkeypatch.setitem(runner.SEEDS, TINY, 3)  # another seed of this one, and no more
    runner.run_missing(["other"], digits, tmp_path, "cpu")
    assert seeds(tmp_path)[0.01, 3] == [0, 1, 2]
    assert capsys.readouterr().out.count("seed") == 1


def test_an_interrupted_experiment_resumes(digits, two, two_seeds, tmp_path, monkeypatch):
    run, calls = runner.run, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*args)

    monkeypatch.setattr(runner, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run_missing(["one"], digits, tmp_path, "cpu")
    assert seeds(tmp_path) == {(0.01, 3): [0, 1]}
    runner.run_missing(["one"], digits, tmp_path, "cpu")
    assert len(calls) == 5
    assert seeds(tmp_path) == {(0.01, 3): [0, 1], (0.001, 3): [0, 1]}


def test_a_failed_write_leaves_the_results_as_they_were(digits, tmp_path, monkeypatch):
    result = runner.run(TINY, digits, 0, "cpu")
    runner.keep(tmp_path, result)
    (path,) = tmp_path.iterdir()
    before = path.read_text()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("s4lib.runtime.checkpoint.os.replace", fail)
    with pytest.raises(UsageError):
        runner.keep(tmp_path, {**result, "seed": 1})
    assert path.read_text() == before
    assert [*tmp_path.iterdir()] == [path]


def test_other_settings_are_another_run(digits, two, two_seeds, tmp_path, capsys):
    result = runner.run(TINY, digits, 0, "cpu")
    runner.keep(tmp_path, {**result, "settings": {**result["settings"], "images": 300}})
    assert ("one: tiny, seed 0") in runner.missing(["one"], tmp_path).values()


@pytest.mark.parametrize("text", ["[]", '{"settings": {"depth": 3}}', "{}", "runs"])
def test_a_foreign_file_is_named_and_left_alone(text, tmp_path):
    path = tmp_path / runner.FILE
    path.write_text(text)
    with pytest.raises(UsageError, match=r"experiments\.jsonl holds no results of experiments"):
        runner.run_missing(["norm"], None, tmp_path)
    assert path.read_text() == text


def test_an_unknown_experiment_is_said_with_the_choice(capsys):
    assert cli.main(["dept"]) == 2
    assert capsys.readouterr().err.startswith("There is no experiment 'dept'. Choose one of base")


def test_two_processes_do_not_write_over_each_others_results(tmp_path, capsys):
    argv = ["--results", tmp_path, "--out", tmp_path]
    with FileLock(tmp_path / ".lock"):
        assert cli.main([*map(str, argv)]) == 2
    assert capsys.readouterr().err.startswith(f"Another process is at work in {tmp_path}.")


def test_the_command_draws_prints_and_fills_the_page(tmp_path, digits, tables, capsys, monkeypatch):
    """All the runs of `baseline` are there, so that nothing is trained."""
    monkeypatch.setattr(cli, "load", lambda *_: digits)
    folder = tmp_path / "notebooks/results"
    folder.mkdir(parents=True)
    (folder / runner.FILE).write_bytes((RESULTS / runner.FILE).read_bytes())
    page = folder.parent / "README.md"
    page.write_text("Before.\n\n<!-- table: baseline -->\nold\nrow\n\nAfter.\n")
    out = tmp_path / "images"
    argv = ["baseline", "--results", folder, "--out", out]
    assert cli.main([*map(str, argv)]) == 0
    table = tables["baseline"]
    assert table in capsys.readouterr().out
    assert page.read_text() == f"Before.\n\n<!-- table: baseline -->\n{table}\n\nAfter.\n"
    drawn = {path.stem.removeprefix("experiment_") for path in out.glob("experiment_*.png")}
    assert drawn == {"width", "lr", "softmax", "channels"}
    assert (folder / channels.FILE).exists()


# What is measured


def test_calibration_of_four_answers():
    probabilities = torch.tensor([0.95, 0.95, 0.75, 0.75])
    rest = ((1 - probabilities) / 9)[:, None].expand(4, 9)
    log_probs = torch.cat([probabilities[:, None], rest], 1).log()
    found = measures.calibration(log_probs, torch.tensor([0, 0, 0, 3]))
    expected = -(2 * math.log(0.95) + math.log(0.75) + math.log(0.25 / 9)) / 4
    assert found["bins"] == [
        {"images": 2, "confidence": 0.75, "accuracy": 0.5},
        {"images": 2, "confidence": 0.95, "accuracy": 1.0},
    ]
    assert found["error"] == pytest.approx((2 * 0.25 + 2 * 0.05) / 4)
    assert found["loss"] == pytest.approx(expected, abs=1e-4)


def test_the_best_temperature_undoes_a_scaling():
    torch.manual_seed(0)
    logits = torch.randn(4_000, 10) * 2
    drawn = torch.distributions.Categorical(logits=logits).sample()
    for factor in (0.5, 1, 3):
        log_probs = torch.log_softmax(factor * logits, 1)
        assert measures.best_temperature(log_probs, drawn) == pytest.approx(factor, rel=0.1)


def test_images_without_digits(digits):
    images = digits.test[0][:50]
    others = measures.no_digits(images)
    for name, found in others.items():
        assert found.dtype == torch.uint8
        assert found.shape == (len(found), 1, 28, 28)
        assert len(found) == (1 if name == "blank paper" else 50)
    assert others["blank paper"].sum() == 0
    shuffled = others["a digit's pixels, shuffled"]
    assert shuffled.flatten(1).sort(1).values.equal(images.flatten(1).sort(1).values)
    assert not shuffled.equal(images)


def test_softmax_is_measured_on_images_held_out(digits):
    result = runner.run(replace(TINY, measure="softmax"), digits, 0, "cpu")
    assert sum(one["images"] for one in result["before"]["bins"]) == 240
    assert next(iter(result["sure"])) == "digits"
    assert all(0.1 <= sure <= 1 for sure in result["sure"].values())
    assert 0.2 <= result["temperature"] <= 5


def test_channels_that_never_fire_are_counted():
    """Two of the first layer's four kernels are positive nowhere, and all of the second layer's."""
    model = build("conv3-4 relu conv3-3 relu gap fc")
    first, second = (layer for layer in model if isinstance(layer, torch.nn.Conv2d))
    with torch.no_grad():
        first.weight[:] = 0
        first.bias[:] = torch.tensor([1.0, 0.0, -1.0, 2.0])
        second.weight[:] = 0
        second.bias[:] = -1
    images = torch.randn(5, 1, 28, 28)
    assert measures.dead_channels(model, images) == [[2, 4], [3, 3]]
    assert measures.dead_channels(model, images) == [[2, 4], [3, 3]]  # no hook was left behind


# Figures of odd runs


def odd(*accuracies):
    """One run for each of these accuracies."""
    one = {"parameters": 10, "train_accuracy": 100.0, "settings": asdict(TINY), "updates": 4}
    return [{**one, "held_out_accuracy": accuracy} for accuracy in accuracies]


@pytest.mark.parametrize(
    "figure",
    [
        lambda: plots.against_parameters({"no mistakes": odd(100.0, 100.0)}),
        lambda: plots.learning_rates(
            {"diverged": [{**odd(10.0)[0], "losses": [2.3, 9.9], "settings": asdict(RAMP)}]},
            {"1": odd(10.0)},
        ),
        lambda: plots.learning_rates({}, {"1": odd(10.0)}),
    ],
)
def test_figures_of_odd_runs_can_be_drawn(figure):
    drawn = figure()
    FigureCanvasAgg(drawn).draw()
    assert "line" in repr(drawn)


@pytest.mark.parametrize("wrong", [0.5, 5.0, 90.0])
def test_the_axis_of_mistakes_has_ticks_whatever_their_size(wrong):
    results = {"a": odd(100 - wrong), "b": odd(100 - 2 * wrong / 3)}
    (ax,) = plots.against_parameters(results).axes
    low, high = ax.get_ylim()
    assert any(low <= tick <= high for tick in ax.get_yticks())


# What is kept in the repository


def test_kept_runs_are_those_of_the_experiments(kept):
    """All of them, each once, trained as long as its settings say."""
    assert runner.missing([*EXPERIMENTS], RESULTS) == {}
    variants = {variant for one in EXPERIMENTS.values() for variant in one.variants.values()}
    assert {*kept} == variants
    for variant, runs in kept.items():
        assert [run["seed"] for run in runs] == [*range(len(runs))]
        for run in runs:
            assert run["settings"] == json.loads(json.dumps(asdict(variant)))
            assert run["dataset"] == "MNIST, 10,000 training images held out"
            assert run["parameters"] == count(variant.network)
            passes = variant.epochs * (variant.images // variant.batch_size)
            assert run["updates"] == (variant.updates or passes)


def test_the_pages_tables_are_what_the_runs_gave(tables):
    page = PAGE.read_text(encoding="utf-8")
    named = re.findall(r"<!-- table: (.+) -->", page)
    assert {*named} == {*EXPERIMENTS, "no digits", "early", "channels"} - {"lr_range"}
    assert len({*named}) == len(named)
    assert report.filled(page, tables) == page
    for name in named:
        assert f"<!-- table: {name} -->\n{tables[name]}\n\n" in page


def test_tables_are_put_below_the_comments_that_name_them(tables):
    line = "<!-- table: {} -->\n".format
    found = tables["baseline"]
    old = f"A\n\n{line('baseline')}old\nrows\n\nB\n\n{line('nothing')}\nC\n\n{line('baseline')}"
    new = f"A\n\n{line('baseline')}{found}\n\nB\n\n{line('nothing')}*Not measured yet: "
    new += f"`python -m notebooks.experiments`*\n\nC\n\n{line('baseline')}{found}\n"
    assert report.filled(old, tables) == new


QUESTIONS = """how many layers · max pooling · 1×1 convolutions · 3×3 convolutions · receptive field
· softmax · learning rate · kernels, and how many · batch normalisation · image normalisation
· position of max pooling · transition layers · position of the transition layer · dropout
· when to introduce dropout, or how to tell overfitting
· distance of max pooling from the prediction · distance of batch normalisation from the prediction
· when to stop convolving · how to tell very early · batch size · dead channels"""


def sections() -> dict[str, str]:
    """The answers, by heading, in the page's order; the rest of the page is left out."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return {heading: text for heading, text in pairs if heading[0].isdigit()}


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_question_is_answered_under_its_number_and_linked_in_the_pages_order():
    asked = [" ".join(question.split()) for question in QUESTIONS.split("·")]
    assert sorted(heading.lower().rstrip("?") for heading in sections()) == sorted(
        f"{number}. {question}" for number, question in enumerate(asked, 1)
    )
    page = PAGE.read_text(encoding="utf-8")
    linked = re.findall(r"^- (\d+)\\\. \[(.+)\]\(#(.+)\)$", page, re.MULTILINE)
    for heading, (number, text, anchor) in zip(sections(), linked, strict=True):
        assert heading == f"{number}. {text}"
        assert anchor == slug(heading)


@pytest.mark.parametrize("heading", sections())
def test_an_answer_is_short_opens_with_a_rule_and_says_what_its_tables_say(heading):
    """The rule has no numbers. The prose below has those of these tables, or of tables it links."""
    text = sections()[heading]
    rule = re.match(r"\n\n\*\*(.+?)\*\*", text, re.DOTALL)[1]
    assert not re.search(r"\d", re.sub(r"\d×\d", "", rule))
    assert len(rule.split()) < 35
    assert "**In your network.**" in text
    prose = re.sub(r"^\|.*$", "", text, flags=re.MULTILINE)
    assert len(prose.split()) < 300
    told = [text] + [part for name, part in sections().items() if f"(#{slug(name)})" in text]
    rows = " ".join(re.findall(r"^\|.*", "\n".join(told), re.MULTILINE))
    for number in re.findall(r"\d+\.\d+(?=%|\s+(?:±|to|points)\b)", prose):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", rows), number


def test_a_table_has_a_row_for_every_variant_with_enough_seeds(
    two, two_seeds, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(report, "FAILED", 0)
    runner.run_missing(["one"], digits, tmp_path, "cpu")
    lines = report.tables(tmp_path)["one"].splitlines()
    assert lines[0] == "| | parameters | held-out accuracy | minus row 1 (95 % interval) |"
    a, b = report.accuracies(runner.read(tmp_path)[TINY])
    spread = abs(a - b) / math.sqrt(2)
    assert lines[2] == f"| tiny | {count(TINY.network)} | {(a + b) / 2:.2f} ± {spread:.2f} | |"
    assert len(lines) == 4
    monkeypatch.setattr(report, "FEWEST_SEEDS", 3)
    assert report.tables(tmp_path) == {}


def test_failed_runs_are_counted_and_not_averaged():
    assert report.accuracy_cell(odd(97.0, 11.0, 96.0)) == "96.00, median; 1 of 3 failed"
    assert report.accuracy_cell(odd(97.0, 96.0, 95.0)) == "96.00 ± 1.00"
    assert report.COLUMNS["training accuracy"](odd(97.0, 11.0, 96.0)) == "100.00"


@pytest.mark.parametrize("sizes", [(3, 10), (4, 4), (10, 10)])
def test_the_rank_test_is_mann_and_whitneys_exact_one(sizes):
    ours, theirs = np.split(np.random.default_rng(sum(sizes)).normal(size=sum(sizes)), sizes[:1])
    expected = stats.mannwhitneyu(ours + 0.5, theirs, method="exact").pvalue
    assert report.rank_test([*(ours + 0.5)], [*theirs]) == pytest.approx(expected)


def test_the_rank_test_is_exact_with_equal_accuracies():
    """Against every way to deal the seven accuracies to a group of three and one of four."""
    both = [98.1, 98.3, 98.3, 98.0, 98.1, 98.1, 97.9]
    ranks = stats.rankdata(both)
    far = [abs(sum(ones) - 3 * ranks.mean()) for ones in itertools.combinations(ranks, 3)]
    found = abs(sum(ranks[:3]) - 3 * ranks.mean())
    expected = sum(one >= found for one in far) / len(far)
    assert report.rank_test(both[:3], both[3:]) == pytest.approx(expected)
    assert report.rank_test([98.0] * 3, [98.0] * 4) == 1


def compared(monkeypatch, runs):
    """The last column of a table of these runs, the first of them the reference."""
    variants = {name: Variant(name) for name in runs}
    monkeypatch.setattr(report, "EXPERIMENTS", {"one": Experiment("Which?", variants)})
    found = report.differences({Variant(name): ones for name, ones in runs.items()})
    rows = report.table("one", runs, found).splitlines()
    assert rows[0].endswith("| held-out accuracy | minus row 1 (95 % interval) |")
    return [row.split("|")[-2].strip() for row in rows[2:]]


FIRST = odd(*(97.9 + 0.02 * k for k in range(10)))


def test_a_difference_is_shown_with_its_interval_and_a_word(monkeypatch):
    runs = {"first": FIRST, "clear": odd(98.5, 98.6, 98.7), "low": odd(97.3, 97.4, 97.5)}
    runs |= {"same": odd(97.91, 98.01, 98.05), "failed": odd(96.0, 11.0, 95.0)}
    found = compared(monkeypatch, runs)
    interval = stats.ttest_ind([98.5, 98.6, 98.7], report.accuracies(FIRST), equal_var=False)
    low, high = interval.confidence_interval()
    assert found[:2] == ["", f"+0.61 (+{low:.2f} to +{high:.2f}), better"]
    assert re.fullmatch(r"−0\.59 \(−0\.\d\d to −0\.\d\d\), worse", found[2])
    assert re.fullmatch(r"[+−]0\.00 \(−0\.\d\d to \+0\.\d\d\), no clear difference", found[3])
    assert found[4] == ""  # the table counts its failed runs


def test_a_difference_is_claimed_only_after_the_correction_for_all_comparisons(monkeypatch):
    """By itself "close" is better (p = 2 in 286); beside nine without a difference it's borderline.

    Large differences are a pool of their own: they don't make small ones look surer.
    """
    close = {"first": FIRST, "close": odd(98.55, 98.6, 98.65)}
    same = {f"same {k}": odd(97.91, 98.01, 98.05) for k in range(9)}
    large = {f"large {k}": odd(91.0, 91.1, 91.2) for k in range(20)}
    words = [cell.split(", ")[-1] for cell in compared(monkeypatch, close | same)]
    assert words == ["", "borderline", *["no clear difference"] * 9]
    words = [cell.split(", ")[-1] for cell in compared(monkeypatch, close | same | large)]
    assert words == ["", "borderline", *["no clear difference"] * 9, *["worse"] * 20]
    assert compared(monkeypatch, close)[1].endswith(", better")


def test_just_under_the_limit_is_borderline_too():
    assert report.word((0.3, 0.1, 0.5), 10, 0.039) == "better"
    assert report.word((0.3, 0.1, 0.5), 10, 0.041) == "borderline"
    assert report.word((-0.3, -0.5, 0.0), 10, 0.001) == "no clear difference"


def test_a_correlation_just_below_0_has_no_sign():
    assert [report.plain(value) for value in (-0.004, -0.1, 0.555)] == ["0.00", "−0.10", "0.56"]


def test_three_seeds_are_too_few_to_claim_less_than_half_a_point():
    assert report.word((-0.49, -0.6, -0.38), 3, 0.001) == "borderline"
    assert report.word((-0.49, -0.6, -0.38), 6, 0.001) == "worse"
    assert report.word((-0.5, -0.6, -0.4), 3, 0.001) == "worse"


SIGNED = r"([+−]\d+\.\d\d)"


def test_no_clear_difference_is_said_only_beside_an_interval_that_holds_0():
    """In every table, and in the prose: there the interval follows, and a table has it."""
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(rf"\| {SIGNED} \({SIGNED} to {SIGNED}\), ([a-z ]+) \|$", page, re.M)
    assert len(rows) == len(re.findall(r"^\|.* to .*\), [a-z ]+ \|$", page, re.M)) > 20
    for points, low, high, word in rows:
        holds_0 = low.startswith("−") and high.startswith("+")
        assert holds_0 == (word == "no clear difference"), (points, low, high, word)
        assert word != "better" or low.startswith("+")
        assert word != "worse" or high.startswith("−")
    prose = " ".join(re.sub(r"^\|.*$", "", page, flags=re.M).split())
    said = re.findall(r"no clear difference:? \(([^)]*)\)", prose)
    assert len(said) >= 5
    for interval in said:
        assert re.fullmatch(r"−\d\.\d\d to \+\d\.\d\d", interval), interval
        assert f"({interval}), no clear difference |" in page, interval


def test_rank_correlation_of_early_accuracy():
    """The mean over the seeds; at update 50 they contradict each other, but for one of them."""
    curves = [
        {50: [-end, end, end], "end": [end, end, end]}
        | {mark: [early] * 3 for mark, early in ((100, end), (200, end % 4), (468, end**3))}
        for end in range(8)
    ]
    rows = [line.split("|")[1:-1] for line in report.early_table(curves, 50).splitlines()]
    assert [cell.strip() for cell in rows[0]] == ["updates", "all 8", "best 4"]
    assert [[cell.split("(")[0].strip() for cell in row] for row in rows[2:]] == [
        ["50", "0.33", "0.33"],
        ["100", "1.00", "1.00"],
        ["200", "0.49", "1.00"],
        ["468", "1.00", "1.00"],
        ["the end, of another seed", "1.00", "1.00"],
    ]
    interval = rows[4][1].replace("−", "-")
    low, high = map(float, re.search(r"\((-?[\d.]+) to ([\d.]+)\)", interval).groups())
    assert low < 0.49 < high


# What excites a channel


def test_what_a_channel_sees_is_framed_where_it_is_most_excited():
    """A spot in the corners of the frame changes the activation; just outside it does not."""
    model = load_weights(MNISTNet())
    torch.manual_seed(0)
    images = torch.randn(30, 1, 28, 28)

    def changed(layer, position, x, y):
        maps = []
        for spot in (0, 50):
            drawn = images.clone()
            drawn[:, 0, y, x] += spot
            maps.append(activations(model, drawn, [layer])[layer].flatten(2)[..., position])
        return not maps[0].equal(maps[1])

    for layer, position in (("block1.relu2", 300), ("block2.relu2", 90), ("block3.relu2", 8)):
        left, top, side = map(int, channels.square(layer, position))
        assert changed(layer, position, left, top)
        assert not changed(layer, position, left - 1, top)
        assert not changed(layer, position, left, top - 1)
        right, bottom = left + side, top + side
        if max(right, bottom) < 28:
            assert changed(layer, position, right - 1, bottom - 1)
            assert not changed(layer, position, right, bottom - 1)
            assert not changed(layer, position, right - 1, bottom)


def test_the_images_that_excite_a_channel_most_and_least():
    highest = torch.arange(40.0).remainder(23)
    most, least = channels.extremes(highest)
    assert highest[most].tolist() == [22, 21, 20, 19, 18, 17, 16, 16, 15]
    assert sorted(highest[least].tolist()) == sorted(highest.tolist())[:9]
    assert channels.agreement(torch.tensor([3, 1, 3, 3, 9])) == 3


def test_the_table_of_channels_is_what_the_weights_give(mnist):
    found = channels.excitement(load_weights(MNISTNet()), mnist)
    kept = json.loads((RESULTS / channels.FILE).read_text())
    assert channels.measured(found, mnist) == kept, "run python -m notebooks.experiments"


# What the page says besides


def test_what_the_page_says_of_chance(kept):
    """What other images, three seeds against ten, one failed run and four seeds can show."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    right = mean(report.accuracies(kept[BASE])) / 100
    half = 100 * stats.norm.ppf(0.975) * (right * (1 - right) / 10_000) ** 0.5
    assert f"of {100 * right:.2f}% on 10,000 images is known to ±{half:.2f} points" in page
    assert stats.fisher_exact([[1, 2], [0, 10]]).pvalue == pytest.approx(1 / 4, abs=0.05)

    def found(points, ours, theirs, spread):
        """How often Welch's interval misses 0, with normal seeds."""
        draws = np.random.default_rng(0).normal(0, spread, (2_000, ours + theirs))
        pair = points + draws[:, :ours], draws[:, ours:]
        return (stats.ttest_ind(*pair, axis=1, equal_var=False).pvalue < 0.05).mean()

    assert found(0.4, 3, 10, 0.14) == pytest.approx(4 / 5, abs=0.05)
    assert found(0.2, 3, 10, 0.14) == pytest.approx(2 / 5, abs=0.05)
    assert found(0.12, 4, 4, 0.08) == pytest.approx(0.4, abs=0.05)


def test_rotation_leaves_more_than_a_third_of_the_images_unchanged(mnist):
    images = mnist.train[0][:2_000].float()
    rotated = CLASSIC.augmentation(torch.Generator().manual_seed(0))(images)
    share = (rotated == images).flatten(1).all(1).float().mean()
    assert 1 / 3 < share < 1 / 2


def test_dead_channels_explain_at_most_about_half(kept):
    """By the intervals: what the leaky ReLU gains, of what batch normalisation gains."""
    compared = report.differences(kept)
    leaky = compared[next(iter(EXPERIMENTS["dead"].variants.values())), OLD]
    norm = compared[BASE, OLD]
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    assert f"gains {max(0, -leaky.high):.2f} to {-leaky.low:.2f} points over" in page
    assert f"batch normalisation {-norm.high:.2f} to {-norm.low:.2f}" in page
    assert 0.5 < leaky.low / norm.points < 0.6
