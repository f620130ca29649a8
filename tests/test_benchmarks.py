"""The benchmarks show what they measured."""

from s4lib import History
from s4lib.history import Epoch
from tests.benchmarks import peers, race, records


def test_the_race_shows_every_run_by_seconds_and_by_epochs():
    runs = [
        {"way": "classic", "seconds": [100.0, 200.0], "accuracies": [98.0, 99.4]},
        {"way": "fast", "seconds": [10.0], "accuracies": [99.5]},
        {"way": "fast", "seconds": [11.0], "accuracies": [99.3]},
    ]
    left, right = race.figure(runs).axes
    for ax, times in ((left, [200.0, 10.0, 11.0, 10.5]), (right, [2, 1, 1, 1])):
        *drawn, goal = ax.lines
        assert [line.get_xdata()[-1] for line in drawn] == times  # the last is FAST's mean
        assert [line.get_ydata()[-1] for line in drawn] == [99.4, 99.5, 99.3, 99.4]
        assert goal.get_ydata()[0] == race.GOAL
    legend = [text.get_text() for text in right.get_legend().get_texts()]
    assert legend == ["classic", "fast, mean of 2"]
    assert [text.get_text() for text in right.texts] == ["99.4 %"]
    assert "logarithmic" in left.get_xlabel()


def test_an_example_that_stays_below_the_goal_is_shown_but_not_compared():
    first, second = {"seconds": [100.0], "MiB": 1}, {"seconds": [10.0, 20.0], "MiB": 2}
    runs = [
        {"way": race.ORIGINAL, **first, "accuracies": [99.4]},
        {"way": "PyTorch's example", **second, "accuracies": [98.0, 99.2]},
    ]
    assert race.table(runs).splitlines()[2:] == [
        "| the original's way | 17,498 | 1 | 1.0 | 100.0 | 1.0 | 600 | 99.40 | 1 MiB |",
        "| PyTorch's example | 1,199,882 | 1 | 2.0 | 20.0 | | 6,000 | 99.20 | 2 MiB |",
    ]


def test_the_examples_are_as_large_as_their_authors_say():
    networks = {name: peer[0]() for name, peer in peers.PEERS.items()}
    sizes = {n: sum(p.numel() for p in net.parameters()) for n, net in networks.items()}
    assert sizes == {"PyTorch's example": 1_199_882, "Keras's example": 34_826}


def test_small_networks_have_the_parameters_that_are_said():
    sizes = [
        sum(parameter.numel() for parameter in network().parameters())
        for network in records.NETWORKS["small"].values()
    ]
    assert sizes == [2_058, 3_555, 7_414, 19_650, 1_032, 2_985, 3_794]


def test_small_networks_are_drawn_by_their_size_with_what_others_claim():
    epochs = [Epoch(1, 0.1, 1, 90, 1, accuracy, 1, 1, 1) for accuracy in (98.0, 99.0)]
    sizes = {"4-4-6-6-8-10": 2_058, "model answer": 19_650, "separable": 3_794}
    runs = {
        name: [History(name, size, {}, "MNIST", 0, "cpu", "", {}, [one]) for one in epochs]
        for name, size in sizes.items()
    }
    *seeds, plain, of_separable, separable, claimed, _ = (
        records.against_parameters(runs).axes[0].lines
    )
    for line, size in zip([*seeds, of_separable], sizes.values(), strict=True):
        assert line.get_xydata().tolist() == [[size, 98.0], [size, 99.0]]
    assert plain.get_xydata().tolist() == [[2_058, 98.5], [19_650, 98.5]]
    assert separable.get_xydata().tolist() == [[3_794, 98.5]]
    assert claimed.get_markerfacecolor() == "none"
    assert len(claimed.get_xdata()) == len(records.CLAIMED)
