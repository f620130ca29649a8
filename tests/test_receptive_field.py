"""Receptive fields are what a gradient shows, for `MNISTNet` and for networks unlike it."""

import contextlib
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from s4lib import UsageError, plots
from s4lib.model import MNISTNet
from s4lib.receptive_field import receptive_fields, table
from tests.test_networks import Functional

ROWS = receptive_fields(MNISTNet())


class TwoPaths(nn.Module):
    """Paths of different depth, joined by concatenation."""

    def __init__(self):
        super().__init__()
        self.short, self.long = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 7, padding=3)
        self.last = nn.Conv2d(4, 2, 3, padding=1)

    def forward(self, x):
        return self.last(torch.cat([self.long(x), self.short(x)], 1))


def seen(maps, size=64):
    """Side of the square of pixels on which the middle of `maps(image)` depends.

    In float64, with positive weights and average pooling, so that nothing cancels.
    """
    image = torch.ones(1, 1, size, size, dtype=torch.double, requires_grad=True)
    output = maps(image)
    middle = output.shape[-1] // 2
    output[0, 0, middle, middle].backward()
    touched = image.grad[0, 0].nonzero()
    height, width = (touched.max(0).values - touched.min(0).values + 1).tolist()
    assert height == width
    return height


def linear(model):
    """Turn maxima into averages, leave out ReLUs and norms, and make all weights positive."""
    model = model.double().eval()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU | nn.GroupNorm | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    return model


@pytest.mark.parametrize("row", ROWS[:-1], ids=[row.layer for row in ROWS[:-1]])
def test_a_centre_activation_of_the_network_has_a_gradient_just_there(row):
    model, output = linear(MNISTNet()), []

    def until(x):
        with contextlib.suppress(RuntimeError):  # the head doesn't take the larger map
            model(x)
        return output[0]

    model.get_submodule(row.layer).register_forward_hook(lambda *args: output.append(args[-1]))
    assert seen(until, 84) == row.receptive_field


def test_sizes_are_those_of_the_forward_pass():
    model, sizes = MNISTNet().eval(), {}
    for row in ROWS:
        model.get_submodule(row.layer).register_forward_hook(
            lambda _layer, _inputs, output, name=row.layer: sizes.update({name: output.shape[-1]})
        )
    model(torch.zeros(1, 1, 28, 28))
    assert sizes == {row.layer: row.size for row in ROWS}


def test_functional_pooling_reuse_dilation_and_skips_are_followed():
    """Layers after the averaging see no map."""
    rows = receptive_fields(Functional().train())
    assert [row.layer for row in rows] == [
        "first", "norm", "max_pool2d", "depthwise", "depthwise", "avg_pool2d", "mean",
    ]  # fmt: skip
    assert [row.receptive_field for row in rows] == [5, 32, 33, 37, 41, 45, 45 + 5 * 4]
    assert rows[1].kernel == 28  # the mean of a group norm is the whole map's
    assert [row.padding for row in rows] == [2, 0, 0, 1, 1, 0, 0]
    assert [row.size for row in rows] == [28, 28, 14, 14, 14, 6, 1]
    model = Functional()
    model.norm = nn.Identity()
    rows = receptive_fields(model)
    assert [row.receptive_field for row in rows] == [5, 6, 10, 14, 18, 18 + 5 * 4]
    averaging = partial(linear(Functional()).maps, pool=F.avg_pool2d)  # a maximum hides pixels
    assert seen(averaging) == 18


def test_where_paths_meet_the_larger_field_counts():
    rows = receptive_fields(TwoPaths())
    assert rows[-1].receptive_field == 9 == seen(linear(TwoPaths()))


def test_same_padding_reflection_and_double_precision():
    layers = (
        nn.Conv2d(1, 2, 5, padding="same"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 2, 3, stride=2, padding="valid"),
    )
    rows = receptive_fields(nn.Sequential(*layers).double())
    assert [(row.size, row.jump, row.receptive_field) for row in rows] == [
        (28, 1, 5), (28, 1, 7), (13, 2, 9),
    ]  # fmt: skip


def test_a_network_that_looks_at_no_neighbours_has_no_rows():
    assert receptive_fields(nn.Sequential(nn.Flatten(), nn.Linear(784, 10))) == []


@pytest.mark.parametrize(
    ("shrink", "name"),
    [
        (lambda x: F.interpolate(x, 13, mode="bilinear"), "interpolate"),
        (lambda x: F.interpolate(x, scale_factor=0.5), "interpolate"),
    ],
)
def test_what_shrinks_the_map_unseen_is_named(shrink, name):
    class Shrinks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv2 = nn.Conv2d(1, 2, 3)

        def forward(self, x):
            return shrink(self.conv2(x))

    with pytest.raises(UsageError) as error:
        receptive_fields(Shrinks())
    assert f"After conv2 the map becomes 13×13, not 26×26, by {name}" in str(error.value)


def test_rows_and_columns_may_be_treated_differently():
    layers = nn.Conv2d(1, 1, (1, 7)), nn.Conv2d(1, 1, (5, 1), (2, 1)), nn.Conv2d(1, 1, (5, 3))
    rows = receptive_fields(nn.Sequential(*layers))
    assert [str(row.kernel) for row in rows] == ["1×7", "5×1", "5×3"]
    assert [str(row.receptive_field) for row in rows] == ["1×7", "5×7", "13×9"]
    assert [str(row.size) for row in rows] == ["28×22", "12×22", "8×20"]
    assert table(rows).splitlines()[1].split() == ["0", "1×7", "1", "0", "28×22", "1", "1×7"]
    assert plots.receptive_field(rows)


class Written(nn.Module):
    """A network of one 3×3 convolution, with what `function` makes of its map."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(1, 4, 3), function
        self.weigh = nn.Linear(4, 4)

    def forward(self, x):
        return self.function(self, self.conv(x))


@pytest.mark.parametrize(
    ("function", "fields"),
    [
        (lambda net, x: x.flatten(2).mean(2), [3, 28]),
        (lambda net, x: x.view(x.size(0), 4, -1).mean(-1), [3, 28]),
        (lambda net, x: x.permute(0, 2, 3, 1).mean((1, 2)), [3, 28]),
        (lambda net, x: x.mean(3).mean(2), [3, "3×28", 28]),
        (lambda net, x: torch.einsum("nchw->nc", x), [3, 28]),
        (lambda net, x: F.adaptive_avg_pool2d(x, 1).squeeze(), [3, 28]),
        (lambda net, x: F.adaptive_avg_pool2d(x, 2), [3, 15]),
        (lambda net, x: x[:, :, 12, 12], [3]),
        (lambda net, x: x.select(2, 5).mean(2), [3, "3×28"]),
        (lambda net, x: x[:, :, torch.arange(0, 26, 3)], [3, 3]),
        (lambda net, x: x[x > 0], [3]),
        (lambda net, x: x.mean((2, 3)).view(-1, 4, 1, 1).mean((2, 3)), [3, 28]),
        (lambda net, x: x.mean((2, 3), True).view(-1, 1, 4, 1, 1).mean((3, 4)), [3, 28, 28]),
        (lambda net, x: F.adaptive_avg_pool2d(F.max_pool2d(x, 2), 13), [3, 4, 4]),
        (lambda net, x: x.transpose(2, 3)[:, :, :, 4:].mean((2, 3)), [3, "24×28"]),
        (lambda net, x: net.weigh(x.flatten(2).transpose(1, 2)).mean(1), [3, 28]),
        (lambda net, x: x[:, :, 3:-3, 3:-3], [3]),
        (lambda net, x: x[..., ::2, 1::2], [3, 3]),
        (lambda net, x: torch.cat([x, F.pad(x, (1, 1, 1, 1), mode="reflect")[..., 2:, 2:]]), [3]),
        (lambda net, x: net.weigh(x.mean((2, 3)))[:, :, None, None] * x, [3, 28]),
        (lambda net, x: x * net.weigh(x.mean((2, 3))).view(-1, 4, 1, 1), [3, 28]),
        (lambda net, x: F.max_pool2d(x * x.mean((2, 3), keepdim=True), 2), [3, 28, 29]),
        (lambda net, x: F.layer_norm(x, x.shape[1:]), [3, 28]),
        (lambda net, x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2), [3]),
        (lambda net, x: F.instance_norm(x), [3, 28]),
        (lambda net, x: F.batch_norm(x, None, None, training=True), [3, 28]),
        (lambda net, x: net.weigh(x.permute(0, 2, 3, 1)), [3]),
        (lambda net, x: x.flatten(2) @ x.flatten(2).transpose(1, 2), [3, 28]),
        (lambda net, x: net.weigh(x.flatten(1)[:, :4]), [3]),
        (lambda net, x: F.max_pool2d(F.pixel_unshuffle(x, 2), 2), [3, 4, 6]),
    ],
)  # fmt: skip
def test_what_forward_does_with_a_map_is_followed(function, fields):
    rows = receptive_fields(Written(function))
    assert [row.receptive_field for row in rows] == [
        tuple(map(int, one.split("×"))) if isinstance(one, str) else one for one in fields
    ]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = MNISTNet().train(training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    receptive_fields(model)
    assert model.training is training
    assert not any(module._forward_hooks for module in model.modules())
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_table_has_a_line_for_every_layer():
    header, *lines = table(ROWS).splitlines()
    assert header.split() == ["layer", "kernel", "stride", "padding", "output", "jump", "sees"]
    assert lines[0].split() == ["block1.conv1", "3", "1", "1", "28", "1", "3"]
    assert [line.split()[0] for line in lines] == [row.layer for row in ROWS]
