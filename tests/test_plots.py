"""Figures show the data that they are given."""

import matplotlib as mpl
import pytest
import torch
from test_history import history

from s4lib import plots


def data(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line.get_xydata().tolist()


def test_model_loss_shows_the_mean_of_all_runs_and_marks_the_drops():
    runs = [history([98.0, 99.0, 99.4]), history([98.2, 99.2, 99.6])]
    for run in runs:
        run.epochs[2].lr = 0.001
    loss, accuracy = plots.model_loss(runs).axes
    assert data(accuracy, "test") == [[1, 98.1], [2, pytest.approx(99.1)], [3, 99.5]]
    assert data(accuracy, "train") == [[1, 97], [2, 97], [3, 97]]
    assert data(loss, "test") == [[n, pytest.approx(0.05)] for n in (1, 2, 3)]
    assert [text.get_text() for text in loss.texts] == ["lr 0.001"]
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("loss", "accuracy (%)")
    assert loss.get_xlabel() == accuracy.get_xlabel() == "epoch"


def test_figures_name_their_data_set():
    run = history([98.0])
    run.dataset = "scikit-learn digits"
    assert "scikit-learn digits" in plots.model_loss([run])._suptitle.get_text()


def test_confusion_matrix_counts():
    labels, predicted = torch.tensor([3, 3, 5]), torch.tensor([3, 8, 5])
    (axes,) = plots.confusion_matrix(labels, predicted, "MNIST").axes
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in axes.texts}
    assert shown == {(3, 3): "1", (8, 3): "1", (5, 5): "1"}
    assert axes.get_title(loc="left") == "MNIST: 1 mistakes in 3 test images"


def test_mistakes_come_surest_first():
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 28, 28)
    log_probs = torch.full((4, 10), -9.0)
    log_probs[[0, 1, 2, 3], [1, 2, 3, 4]] = torch.tensor([0.6, 0.9, 0.7, 0.8]).log()
    figure = plots.mistakes(images, torch.tensor([1, 0, 0, 0]), log_probs, "MNIST")
    shown = [axes for axes in figure.axes if axes.get_images()]
    assert [axes.get_images()[0].get_array()[0, 0] for axes in shown] == [1, 3, 2]
    assert shown[0].get_title() == "0 as 2\n90.0 %"


def test_image_grids_show_every_image(digits):
    figure = plots.samples(digits, per_class=3)
    assert sum(bool(axes.get_images()) for axes in figure.axes) == 30
    figure = plots.augmented(digits, lambda images: 255 - images, versions=2, count=4)
    arrays = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert len(arrays) == 12
    assert (arrays[0] + arrays[1] == 255).all()


def test_the_readers_settings_stay_as_they_are():
    before = dict(mpl.rcParams)
    plots.model_loss([history([98.0, 99.0])])
    assert dict(mpl.rcParams) == before
