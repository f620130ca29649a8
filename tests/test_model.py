"""The network is the one in the table, and sees what its receptive fields say."""

import contextlib
import io
from pathlib import Path

import pytest
import torch
from torch import nn
from torchsummary import summary

from s4lib.model import MNISTNet, block, pool_before_relu
from s4lib.receptive_field import receptive_fields, table

ROWS = receptive_fields(MNISTNet())


def test_torchsummary_prints_the_original_table():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        summary(MNISTNet(), (1, 28, 28), device="cpu")
    assert printed.getvalue() == Path(__file__).with_name("model_summary.txt").read_text()


def test_output_is_log_probabilities():
    log_probs = MNISTNet().eval()(torch.randn(5, 1, 28, 28))
    assert log_probs.shape == (5, 10)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_pooling_before_relu_changes_the_order_and_not_a_bit(precision):
    model = MNISTNet().to(memory_format=torch.channels_last)
    quick = pool_before_relu(model)
    order = [str(node.target) for node in quick.graph.nodes]
    assert order.index("transition1.pool") == order.index("block1.relu2") - 1
    assert order.index("transition2.pool") == order.index("block2.relu2") - 1
    images, labels = torch.randn(40, 1, 28, 28), torch.arange(40) % 10

    def loss_and_gradients(network):
        torch.manual_seed(0)  # the same dropout
        model.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            loss = nn.functional.nll_loss(network(images), labels)
        loss.backward()
        return [loss, *(parameter.grad for parameter in model.parameters())]

    for plain, quickly in zip(loss_and_gradients(model), loss_and_gradients(quick), strict=True):
        assert plain.equal(quickly)


def test_a_relu_that_something_else_reads_stays_before_its_pooling():
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)

        def forward(self, x):
            x = self.relu(x)
            return self.pool(x), x

    images = torch.randn(2, 1, 4, 4)
    for plain, quickly in zip(Fork()(images), pool_before_relu(Fork())(images), strict=True):
        assert plain.equal(quickly)


@pytest.mark.parametrize("row", ROWS, ids=[row.layer for row in ROWS])
def test_receptive_field_is_where_a_centre_activation_has_a_gradient(row):
    """In float64, with no ReLU to hide a pixel: average pooling for max, positive weights."""
    model = MNISTNet().double().eval()
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU):
                setattr(module, name, nn.Identity())
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)

    size = 84  # three times the network's own, so that no border cuts the field off
    image = torch.zeros(1, 1, size, size, dtype=torch.double, requires_grad=True)
    seen = []
    layer = model.get_submodule(row.layer)
    if row.layer == "gap":  # an average over the 3×3 map of a 28×28 image
        layer = model.gap = nn.AvgPool2d(row.kernel, stride=1)
    layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
    with contextlib.suppress(RuntimeError):  # the head doesn't take the larger map
        model(image)
    output = seen[0]
    middle = output.shape[-1] // 2
    output[0, 0, middle, middle].backward()
    touched = image.grad[0, 0].nonzero()
    height, width = (touched.max(0).values - touched.min(0).values + 1).tolist()
    assert height == width == row.receptive_field


def test_output_sizes_are_those_of_the_forward_pass():
    model, sizes = MNISTNet().eval(), {}
    for row in ROWS:
        model.get_submodule(row.layer).register_forward_hook(
            lambda _layer, _inputs, output, name=row.layer: sizes.update({name: output.shape[-1]})
        )
    model(torch.zeros(1, 1, 28, 28))
    assert sizes == {row.layer: row.size for row in ROWS}


def test_pooling_adds_one_jump_and_does_not_double_the_field():
    fields = {row.layer: row.receptive_field for row in ROWS}
    assert fields["block1.conv2"] == 5
    assert fields["transition1.pool"] == 6
    assert fields["gap"] == 40


def test_a_map_that_shrinks_to_nothing_is_refused_by_name():
    model = nn.Sequential(block(first=nn.Conv2d(1, 1, 5), second=nn.Conv2d(1, 1, 5)))
    with pytest.raises(ValueError, match=r"0\.second: a 5×5 kernel doesn't fit a 2×2 map"):
        receptive_fields(model, size=6)


def test_table_has_a_line_for_every_layer():
    header, *lines = table(ROWS).splitlines()
    assert header.split() == ["layer", "kernel", "stride", "padding", "output", "jump", "sees"]
    assert lines[0].split() == ["block1.conv1", "3", "1", "1", "28", "1", "3"]
    assert [line.split()[0] for line in lines] == [row.layer for row in ROWS]
