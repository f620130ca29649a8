"""The network is the one in the table."""

import contextlib
import io
from pathlib import Path

from torchsummary import summary

from s4lib.model import MNISTNet


def test_torchsummary_prints_the_original_table():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        summary(MNISTNet(), (1, 28, 28), device="cpu")
    assert printed.getvalue() == Path(__file__).with_name("model_summary.txt").read_text()
