"""The network is the one in the table, and sees what its receptive fields say."""

import contextlib
import io
from pathlib import Path

import pytest
import torch
from torch import nn
from torchsummary import summary

from s4lib.model import MNISTNet, pool_before_relu


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
    kinds = [type(layer).__name__ for layer in quick]
    assert [kinds[i + 1] for i, kind in enumerate(kinds) if kind == "MaxPool2d"] == ["ReLU"] * 2
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
