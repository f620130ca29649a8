"""What the front page and the library's page say is what the code does."""

import itertools
import json
import math
import re
import shlex
import statistics
import subprocess
from pathlib import Path

import pytest
from scipy import stats
from torch import nn

from notebooks import pictures
from s4lib import __main__ as cli
from s4lib import recipes
from s4lib.history import spread
from s4lib.model import MNISTNet
from s4lib.receptive_field import receptive_fields
from tests.benchmarks import race

ROOT = Path(__file__).parents[1]
FRONT = ROOT / "README.md"
LIBRARY = ROOT / "s4lib" / "README.md"
README, LIBRARY_PAGE = (page.read_text(encoding="utf-8") for page in (FRONT, LIBRARY))
BOTH = README + LIBRARY_PAGE


def rows_after(header: str, page: str = README) -> list[list[str]]:
    """The cells of the Markdown table whose header begins so."""
    lines = page[page.index(header) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", [FRONT, LIBRARY], ids=["front page", "library"])
def test_the_tables_of_runs_are_what_the_runs_gave(page):
    text = page.read_text("utf-8")
    assert text == pictures.filled(text, pictures.tables()), "run python -m notebooks.pictures"


def test_every_table_of_runs_has_its_place():
    for command, table in pictures.tables().items():
        assert f"<!-- table: {command} -->\n{table}\n" in BOTH


@pytest.mark.parametrize("recipe", recipes.RECIPES.values(), ids=recipes.RECIPES)
def test_the_runs_are_seeds_from_0_of_the_whole_recipe_on_mnist(recipe):
    runs = pictures.runs(recipe.name)
    assert [run.seed for run in runs] == [*range(len(runs))]
    for run in runs:
        assert (run.network, run.dataset) == ("MNISTNet", "MNIST")
        milestones = tuple(run.recipe["milestones"])
        assert recipes.Recipe(**{**run.recipe, "milestones": milestones}) == recipe
        assert len(run.epochs) == recipe.epochs < 20


@pytest.mark.parametrize(("name", "settled"), [("best", 6), ("open", 3)])
def test_every_seed_is_at_the_goal_from_the_epoch_on_that_the_pages_say(name, settled):
    curves = [[e.test_accuracy for e in run.epochs] for run in pictures.runs(name)]
    assert min(min(curve[settled - 1 :]) for curve in curves) >= 99.4
    assert min(map(statistics.mean, [*zip(*curves, strict=True)][4:])) >= 99.4


def test_many_seeds_of_fast_and_of_sprint_would_be_above_the_goal_on_average():
    page = " ".join(LIBRARY_PAGE.split())
    for name in ("fast", "sprint"):
        last = [run.epochs[-1].test_accuracy for run in pictures.runs(name)]
        said = (
            f"Over {len(last)} seeds, `{name.upper()}` ends at a test accuracy of {spread(last)}%"
        )
        assert said in page
        assert stats.ttest_1samp(last, race.GOAL, alternative="greater").pvalue < 0.001
        missed = sum(accuracy < race.GOAL for accuracy in last)
        assert f"{missed} of the {len(last)} end below {race.GOAL:.2f}%" in page


def test_what_10_000_test_images_can_tell_is_said():
    """The binomial interval at the best recipe's accuracy, 95 %."""
    right = statistics.mean(run.epochs[-1].test_accuracy for run in pictures.runs("best")) / 100
    half = 100 * stats.norm.ppf(0.975) * (right * (1 - right) / 10_000) ** 0.5
    assert f"{half:.2f}" == "0.13"
    assert "±0.13 points" in README
    assert "±0.13 points" in LIBRARY_PAGE


def test_the_smallest_network_would_be_above_the_goal_with_very_many_seeds():
    last = [run.epochs[-1].test_accuracy for run in pictures.runs("smallest")]
    assert stats.ttest_1samp(last, race.GOAL, alternative="greater").pvalue < 0.01
    assert "above 99.4% (one-sided t-test, p < 0.01). Ten seeds:" in LIBRARY_PAGE


def test_two_threads_are_compared_with_one_by_an_interval():
    runs = json.loads((ROOT / "notebooks/results/race.json").read_text())["runs"]
    two = [run["accuracies"][-1] for run in runs if run["way"] == "fast"]
    one = [run.epochs[-1].test_accuracy for run in pictures.runs("fast")[: len(two)]]
    low, high = stats.ttest_ind(two, one, equal_var=False).confidence_interval()
    said = f"(−{-low:.2f} to +{high:.2f}), no clear difference"
    assert f"{statistics.mean(two):.3f}% instead of {statistics.mean(one):.3f}%" in LIBRARY_PAGE
    assert said in LIBRARY_PAGE


def test_the_model_answer_is_as_large_and_as_good_as_the_pages_say():
    runs = pictures.runs("open")
    (parameters,) = {run.parameters for run in runs}
    assert f"model_answer.py) has {parameters:,} parameters." in LIBRARY_PAGE
    last = [run.epochs[-1].test_accuracy for run in runs]
    assert f"reaches {spread(last)}%." in README
    ours = [run.epochs[-1].test_accuracy for run in pictures.runs("best")]
    gain = statistics.mean(last) - statistics.mean(ours)
    assert f"beats `MNISTNet` by {gain:.2f}" in LIBRARY_PAGE


def test_the_networks_of_the_records_are_as_good_as_the_page_says():
    for name in ("best", "small", "smallest"):
        for size, group in itertools.groupby(pictures.runs(name), lambda run: run.parameters):
            last = [run.epochs[-1].test_accuracy for run in group]
            row = f"| {size:,} | {len(last)} | {spread(last, 3)} | {min(last):.2f} |"
            assert row in LIBRARY_PAGE
    aim = "s4lib/README.md#other-networks"
    assert f"{size:,}\nparameters]({aim}) reaches {spread(last)}% over ten seeds." in README


def test_the_race_table_is_what_the_race_gave():
    report = json.loads((ROOT / "notebooks/results/race.json").read_text())
    assert race.table(report["runs"]) in LIBRARY_PAGE


def test_the_network_table_is_the_network():
    model, fields = MNISTNet(), receptive_fields(MNISTNet())
    stages = {"head": ("gap", "fc")}
    for name, _, output, parameters, sees in rows_after("| stage | layers"):
        parts = stages.get(name, (name.replace(" ", ""),))
        count = sum(p.numel() for part in parts for p in model.get_submodule(part).parameters())
        last = [row for row in fields if row.layer.split(".")[0] in parts][-1]
        assert f"{count:,}" == parameters
        assert last.receptive_field == int(sees)
        if "×" in output:
            assert output.endswith(f"× {last.size} × {last.size}")


def test_the_table_of_recipes_is_the_recipes():
    rows = {row[0]: row[1:] for row in rows_after("| | `CLASSIC` | `FAST`", LIBRARY_PAGE)}
    columns = [recipes.RECIPES[name] for name in ("classic", "fast", "best")]
    assert rows["epochs, batch size"] == [f"{r.epochs}, {r.batch_size}" for r in columns]
    assert rows["highest learning rate"] == [f"{r.lr:g}" for r in columns]
    assert rows["label smoothing"] == [f"{r.label_smoothing or 'none'}" for r in columns]
    moves = [f"{r.rotation:g}°, " for r in columns]
    assert all(map(str.startswith, rows["rotation, translation, scale up to"], moves))
    networks = [recipes.NETWORKS[r.name]() for r in columns]
    rates = [[m.p for m in net.modules() if isinstance(m, nn.Dropout)] for net in networks]
    said = [", ".join(f"{p:.2f}" for p in rate) if any(rate) else "none" for rate in rates]
    assert rows["dropout in block 3, before the last layer"] == said


def test_why_the_loss_of_the_stored_run_stops_is_right():
    """Notebook 2's answer, from the run and the smoothed target."""
    cells = json.loads((ROOT / "notebooks/2_architectural_basics.ipynb").read_text("utf-8"))[
        "cells"
    ]
    text = " ".join(" ".join("".join(cell["source"]) for cell in cells).split())
    epochs = pictures.runs("best")[0].epochs[2:]
    assert all(0.111 < epoch.test_loss < 0.119 for epoch in epochs)
    first, last = epochs[0].test_accuracy, epochs[-1].test_accuracy
    assert f"rises from {first:.2f}% to {last:.2f}%, but the test loss stays between 0.111" in text
    share = recipes.BEST.label_smoothing
    target = 1 - share + share / 10
    assert f"{target:.2f}" == "0.91"
    assert f"$-\\ln 0.91 = {-math.log(target):.3f}$" in text


def test_the_log_in_notebook_2_is_that_of_the_run_that_is_kept():
    path = ROOT / "notebooks/2_architectural_basics.ipynb"
    cells = json.loads(path.read_text("utf-8"))["cells"]
    (fit,) = [cell for cell in cells if "= fit(NETWORKS" in "".join(cell["source"])]
    said = "".join(line for output in fit["outputs"] for line in output["text"])
    _, log = re.sub(r"loss=.*\n", "", said).split("\n\n", 1)  # without the progress bars
    seconds = re.compile(r" *\([\d.]+ s\)")
    run = pictures.runs("best")[0]
    kept = "\n".join(f"Epoch {e.epoch}:\n{e}" for e in run.epochs)
    assert seconds.sub("", log).strip() == seconds.sub("", kept).strip()
    wrong = 10_000 - run.epochs[-1].test_correct
    assert f"its {wrong} mistakes" in README


def test_the_command_for_a_fork_rewrites_its_badges(tmp_path):
    """The command of the page itself, on a copy of the page."""
    (command,) = re.findall(r"^git grep .*$", README, re.M)
    (tmp_path / "README.md").write_text(README, encoding="utf-8")
    (tmp_path / "one.ipynb").write_bytes((ROOT / "notebooks/1_backpropagation.ipynb").read_bytes())
    for words in ("git init -q", "git add .", command):
        subprocess.run(words, cwd=tmp_path, shell=True, check=True)
    notebook = json.loads((tmp_path / "one.ipynb").read_text("utf-8"))
    assert 'repository = "https://github.com/you/session4"' in "".join(
        notebook["cells"][2]["source"]
    )
    rewritten = (tmp_path / "README.md").read_text("utf-8")
    assert "OWNER/NAME" not in rewritten
    assert "colab.research.google.com/github/you/session4/" in rewritten
    assert "src=https://github.com/you/session4/" in rewritten


def test_requirements_are_the_packages_own():
    written = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    project = re.search(r"\[project\].*?\[tool", (ROOT / "pyproject.toml").read_text(), re.S)[0]
    assert sorted(written) == sorted(re.findall(r'"([A-Za-z-]+>=[\d.]+)"', project))


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`python -m s4lib (\w+)", BOTH))))
def test_commands_exist(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0


def test_the_two_setup_lines_differ_only_in_what_they_run():
    main_job, tests = (block.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.S)[:2])
    setup, _, job = main_job.rpartition(" && ")
    assert shlex.split(job) == ["python", "-m", "s4lib", "train"]
    assert tests == f"{setup} && pytest --nbval"
    assert "pytest --nbval" in (ROOT / ".ci/run").read_text()


def test_what_backs_the_table_of_reproducibility_is_there():
    named = set(re.findall(r"`(test_\w+)`", BOTH))
    defined = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
    }
    assert named
    assert named <= defined


@pytest.mark.parametrize(
    "module", sorted(set(re.findall(r"python -m ((?:tests|notebooks|backprop)[\w.]*)", BOTH)))
)
def test_the_authors_commands_exist(module):
    path = ROOT / module.replace(".", "/")
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
