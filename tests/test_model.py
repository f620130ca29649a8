"""The network is the one in the table, and makes log-probabilities."""

import contextlib
import io
from pathlib import Path

import torch
from torchsummary import summary

from s4lib.model import MNISTNet


def test_torchsummary_prints_the_original_table():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        summary(MNISTNet(), (1, 28, 28), device="cpu")
    assert printed.getvalue() == Path(__file__).with_name("model_summary.txt").read_text()


def test_output_is_log_probabilities():
    log_probs = MNISTNet().eval()(torch.randn(5, 1, 28, 28))
    assert log_probs.shape == (5, 10)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5))
