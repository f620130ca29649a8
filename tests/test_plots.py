"""Figures show the data that they are given."""

import matplotlib as mpl
import pytest
import torch
from torch import nn

from s4lib import plots
from s4lib.model import MNISTNet
from tests.test_history import history


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
    assert {text.get_color() for text in axes.texts} == {"black"}
    assert axes.get_title(loc="left") == "MNIST: 1 mistakes in 3 test images"
    (axes,) = plots.confusion_matrix(labels.repeat(9), predicted.repeat(9), "MNIST").axes
    white = [text.get_text() for text in axes.texts if text.get_color() == "white"]
    assert white == ["9"]  # on dark orange


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
    assert "then as 2 other epochs see it" in figure._suptitle.get_text()
    arrays = [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]
    assert len(arrays) == 12
    assert (arrays[0] + arrays[1] == 255).all()


def test_the_readers_settings_stay_as_they_are():
    before = dict(mpl.rcParams)
    plots.model_loss([history([98.0, 99.0])])
    assert dict(mpl.rcParams) == before


def test_figures_show_themselves_and_say_what_they_show():
    figure = plots.model_loss([history([98.0, 99.0])])
    png, size = figure._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert size == {"width": 640, "height": 288, "alt": repr(figure)}
    title, *panels = repr(figure).split("\nPanel. ")
    assert title == "Figure. classic on MNIST, seed 0"
    assert panels[1].startswith(
        "epoch, accuracy (%)\n  line train (#D55E00 --): 2 points from (1, "
    )
    changed = plots.model_loss([history([98.0, 99.1])])
    assert repr(changed) != repr(figure) == repr(plots.model_loss([history([98.0, 99.0])]))


def test_class_counts_counts(digits):
    train, test = plots.class_counts(digits).axes
    assert [bar.get_height() for bar in train.patches] == torch.bincount(digits.train[1]).tolist()
    assert [bar.get_height() for bar in test.patches] == torch.bincount(digits.test[1]).tolist()


def test_any_networks_parameters_and_a_single_stage_are_drawn():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Bilinear(2704, 1, 10)
    )
    (ax,) = plots.parameters(net).axes
    assert [bar.get_width() for bar in ax.patches] == [40, 8, 27_050]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "Conv2d", "GroupNorm", "Bilinear",
    ]  # fmt: skip
    figure = plots.feature_maps(net[:2], torch.randn(1, 1, 28, 28), ["0"], "title", channels=4)
    assert sum(bool(ax.images) for ax in figure.axes) == 5


def test_the_run_and_the_original_side_by_side():
    (ax,) = plots.against_original(history([98.0, 99.0]), {1: 98.5, 2: 98.6, 3: 98.7}).axes
    assert data(ax, "the original") == [[1, 98.5], [2, 98.6], [3, 98.7]]
    assert data(ax, "seed 0") == [[1, 98.0], [2, 99.0]]


def test_filters_have_a_column_for_each_output_and_a_row_for_each_input():
    weight = torch.arange(3 * 2 * 3 * 3.0).view(3, 2, 3, 3)
    ax, scale = plots.filters(weight, "title").axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1", "2"]
    assert [*ax.get_xticks()] == [1, 5, 9]
    assert [*ax.get_yticks()] == [1, 5]
    assert scale.get_xlabel() == "weight"
    assert ax.images[0].get_clim() == (-53, 53)
    cmap = ax.images[0].get_cmap()
    ends = [mpl.colors.to_hex(cmap(end)) for end in (0.0, 1.0)]
    assert ends == ["#0072b2", "#d55e00"]  # blue is negative, vermilion positive
    assert min(cmap(0.5)) > 0.98
    mosaic = ax.images[0].get_array()
    assert mosaic.shape == (7, 11)  # one blank row and two blank columns between the kernels
    for output in range(3):
        for row in range(2):
            kernel = mosaic[4 * row : 4 * row + 3, 4 * output : 4 * output + 3]
            assert (kernel == weight[output, row].numpy()).all()


def test_feature_maps_are_the_strongest_channels_on_one_scale():
    torch.manual_seed(0)
    model, image = MNISTNet().eval(), torch.randn(1, 1, 28, 28)
    with torch.no_grad():
        model.block3.conv2.bias[:5] = -1000  # dead
    figure = plots.feature_maps(model, image, ("block1", "block3"), "title", channels=4)
    shown = [ax for ax in figure.axes if ax.images]
    assert (shown[0].images[0].get_array() == image[0, 0].numpy()).all()
    assert [len(ax.images[0].get_array()) for ax in shown] == [28] + 4 * [28] + 4 * [3]
    with torch.no_grad():
        expected = model.block1(image)[0]
    strongest = expected.mean((1, 2)).topk(4).indices.tolist()
    assert [int(ax.get_xlabel()) for ax in shown[1:5]] == strongest
    for ax, channel in zip(shown[1:5], strongest, strict=True):
        assert (ax.images[0].get_array() == expected[channel].numpy()).all()
        assert ax.images[0].get_clim() == (0, pytest.approx(expected.max().item()))
    (words,) = [text.get_text() for text in shown[5].texts]
    dead = (plots.activations(model, image, ["block3"])["block3"] == 0).all(3).all(2).sum()
    assert dead >= 5
    assert words.startswith(f"block3, 3×3: {dead} of 32 channels are 0 here, black is ")
    assert not model.block1._forward_hooks


def test_a_learning_rate_that_falls_all_the_time_has_no_marks():
    run = history([98.0, 99.0])
    run.recipe["milestones"] = []
    run.epochs[1].lr = 0.001
    assert not [text for ax in plots.model_loss([run]).axes for text in ax.texts]
