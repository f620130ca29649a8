"""The benchmarks show what they measured."""

from tests.benchmarks import race


def test_the_race_shows_every_run_by_seconds_and_by_epochs():
    runs = [
        {"way": "slow", "seconds": [100.0, 200.0], "accuracies": [98.0, 99.4]},
        {"way": "fast", "seconds": [10.0], "accuracies": [99.5]},
        {"way": "fast", "seconds": [11.0], "accuracies": [99.3]},
    ]
    left, right = race.figure(runs).axes
    for ax, times in ((left, [200.0, 10.0, 11.0]), (right, [2, 1, 1])):
        *drawn, goal = ax.lines
        assert [line.get_xdata()[-1] for line in drawn] == times
        assert [line.get_ydata()[-1] for line in drawn] == [99.4, 99.5, 99.3]
        assert goal.get_ydata()[0] == race.GOAL
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["slow", "fast"]
