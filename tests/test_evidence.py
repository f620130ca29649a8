"""Numbers in the library's page that no table of runs holds are what a stored file says."""

import csv
import itertools
import json
import statistics
from collections import Counter

import pytest
from scipy import stats

from notebooks import pictures
from notebooks.experiments import runner
from s4lib.photos import TEMPERATURE
from tests.benchmarks import nothing, peers, photos, race, rare_forms, records

RESULTS = pictures.RESULTS
TEXT = (pictures.ROOT / "s4lib" / "README.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())


def stored(name: str):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def last(name: str) -> list[float]:
    """The test accuracies after the last epoch of a record's runs."""
    return [run.epochs[-1].test_accuracy for run in pictures.runs(name)]


def interval(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """The difference of the means, and Welch's 95 % interval."""
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    return statistics.mean(ours) - statistics.mean(theirs), *test.confidence_interval()


@pytest.mark.parametrize("record", records.ON_PAGE)
def test_the_tables_of_records_are_what_the_runs_gave(record):
    found = {records.ON_PAGE[record]: records.table(record)}
    assert pictures.filled(TEXT, found) == TEXT, f"run {records.ON_PAGE[record]}"
    assert f"<!-- table: {records.ON_PAGE[record]} -->\n{records.table(record)}\n" in TEXT


def test_five_views_are_a_column_where_they_are_kept(monkeypatch):
    (name,) = records.NETWORKS["smallest"]
    monkeypatch.setattr(records, "read_views", lambda: {"smallest": {name: [99.5, 99.6]}})
    header, _, row = records.table("smallest").splitlines()
    assert header.endswith("| five views |")
    assert row.endswith("| 99.550 |")


def test_best_gains_so_much_on_fast_and_a_third_epoch_nothing_on_sprint():
    gain, low, high = interval(last("best"), last("fast"))
    assert f"ends {gain:.2f} points ({low:.2f} to {high:.2f}) above `FAST`" in PAGE
    three, two = stored("ladder")["sprint"].values()
    _, low, high = interval(three, two)
    assert f"a third epoch made no clear difference (−{-low:.2f} to +{high:.2f})" in PAGE


def test_seconds_of_the_race_and_luck_in_it():
    every = stored("race")["runs"]
    runs = {run["way"]: run for run in every}
    ours, theirs = runs["classic"]["seconds"], runs[race.ORIGINAL]["seconds"]
    assert f"an epoch of `CLASSIC` takes {ours[-1] / len(ours):.1f} s" in PAGE
    assert f"takes {theirs[-1] / len(theirs):.1f} s. Both include the test." in PAGE
    with (RESULTS / "original.csv").open() as log:
        curve = [float(row["test_accuracy"]) for row in csv.DictReader(log)]
    epochs = 1 + next(n for n, accuracy in enumerate(curve) if accuracy >= race.GOAL)
    assert f"the original's way needed {epochs} epochs" in PAGE
    sprint, fast = (
        [run["seconds"][-1] for run in every if run["way"] == way] for way in ("sprint", "fast")
    )
    then, times = theirs[epochs - 1], theirs[epochs - 1] / statistics.mean(fast)
    shares = [
        round(race.to_goal(runs[race.ORIGINAL])[1] / statistics.mean(seconds))
        for seconds in (sprint, fast)
    ]
    assert "one {}nd of the time of the original's way, and `FAST` one {}th".format(*shares) in PAGE
    assert f"had taken {then:.1f} s by then, {times:.1f} times as long as `FAST`" in PAGE
    second = ours[1]
    assert len(sprint + fast) == 20
    assert max(sprint + fast) < second
    assert "All twenty have finished before `CLASSIC` completes its second epoch" in PAGE
    assert max(max(runs[way]["accuracies"]) for way in peers.PEERS) < race.GOAL
    points = sorted(accuracy for run in every for accuracy in run["accuracies"])
    assert "Four points between 96.7% and 97.7% lie below the picture" in PAGE
    assert 96.7 < points[0] < points[3] < 97.7 < 98 < points[4]


def test_photos_are_read_as_the_page_says():
    kept = stored("photos")
    ((command, table),) = photos.tables(kept).items()
    assert f"<!-- table: {command} -->\n{table}\n" in TEXT
    assert kept["temperature"] == TEMPERATURE
    assert f"*temperature* of {TEMPERATURE}" in PAGE
    for kind, words in {
        "1 with a long flag": "a 1 with a long flag ({:.0f}% correct)",
        "boxy 6": "a boxy 6 ({:.0f}%)",
        "open 6": "an open 6 ({:.0f}%)",
    }.items():
        assert words.format(kept["pictures"].pop(kind)["now"]) in PAGE
    scenes = [
        one["before"] - one["now"]
        for kind, one in kept["pictures"].items()
        if kind not in photos.SHAPES and not any(word in kind for word in photos.FRAMED)
    ]
    lost, count = sum(scenes) * kept["count"] / 100, len(scenes) * kept["count"]
    assert f"difference of {lost:.0f} in {count} pictures" in PAGE
    others = {one["now"] for kind, one in kept["pictures"].items() if kind in photos.SHAPES}
    assert others == {100}  # the three cause all the shapes' errors


def test_what_is_no_digit_is_rejected_as_often_as_the_page_says():
    kept = stored("nothing")
    ((command, table),) = nothing.tables(kept).items()
    assert f"<!-- table: {command} -->\n{table}\n" in TEXT
    digits, letters, shapes = (
        kept[kind] for kind in ("MNIST's test digits", "letters of other fonts", "other shapes")
    )
    assert f"rejects {letters['rejected']:.0f}% of these letters" in PAGE
    assert f"and {shapes['rejected']:.0f}% of these shapes" in PAGE
    assert f"Of the letters, {letters['sure']:.0f}% still get a confident answer" in PAGE
    assert f"{digits['rejected']:.2f}% of MNIST's test digits" in PAGE
    right = kept["those of them that are read right"]["rejected"]
    assert f"{right:.1f}% of the photographed digits that are read correctly" in PAGE


def test_what_rare_forms_gain_and_cost():
    kept = stored("rare_forms")
    table = rare_forms.table({name: kept[name] for name in rare_forms.SHOWN})
    assert f"<!-- table: {rare_forms.COMMAND} -->\n{table}\n" in TEXT

    def gain(name):
        return interval(kept[name]["0.04"], kept[name]["0"])

    drawn, low, high = gain(rare_forms.FORMS_DRAWN)
    assert f"rises by {drawn:.2f} points ({low:.2f} to {high:.2f})" in PAGE
    flagged = [gain(name)[0] for name in kept if "flag" in name]
    assert sum(flagged) / len({*kept} - {*rare_forms.SHOWN[:2], rare_forms.TURKISH}) > drawn
    for name, on in ((rare_forms.MNIST, "on MNIST"), (rare_forms.TURKISH, "writers' digits")):
        _, low, high = gain(name)
        assert f"{on} (−{-low:.2f} to +{high:.2f})" in PAGE


def test_the_page_says_of_which_version_the_stored_runs_are():
    (classic,) = {run.versions["s4lib"] for run in pictures.runs("classic")}
    names = ("fast", "best", "sprint", "open", "smallest")
    (ours,) = {run.versions["s4lib"] for name in names for run in pictures.runs(name)}
    small = {(run.parameters, run.versions["s4lib"]) for run in pictures.runs("small")}
    (others,) = {version for _, version in small} - {ours}
    assert sum(version == others for _, version in small) == 4
    experiments = itertools.chain(*runner.read(RESULTS).values())
    count = Counter(run["versions"]["s4lib"] for run in experiments)
    assert {*count} == {ours, others}
    assert (
        f"The stored runs of `CLASSIC` are of version {classic}, those of four small networks and "
        f"all but {count[ours]} of the experiments' of {others}, which rounds differently, and all "
        f"others of {ours}." in PAGE
    )
