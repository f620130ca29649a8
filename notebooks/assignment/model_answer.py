"""A network for Part 2 of the assignment, in plain PyTorch: 19,650 parameters.

It has six 3×3 convolutions, each followed by batch normalisation and ReLU, and two poolings between
them. `MNISTNet`'s transitions, which squeeze a block's result into 8 channels, are left out; the
convolutions of blocks 1 and 2 are narrower instead. `fit(Net, load(), RECIPE)` trains it; `python
-m tests.benchmarks.records open` measures it over ten seeds.
"""

from dataclasses import replace

from torch import Tensor, nn

from s4lib import BEST

# Half as many steps as BEST, each larger; the average reaches back over as many images.
RECIPE = replace(BEST, name="larger batches", batch_size=64, lr=0.02, ema_every=4)


def convolution(inputs: int, outputs: int, padding: int = 1) -> nn.Sequential:
    """Return 3×3 convolution, batch normalisation, whose shift replaces the bias, and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Net(nn.Module):
    """Turn grey digits, (N, 1, 28, 28), into log-probabilities of the ten classes, (N, 10)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            convolution(1, 8),  # (N, 8, 28, 28), an activation sees 3×3 pixels
            convolution(8, 16),  # (N, 16, 28, 28), sees 5×5
            nn.MaxPool2d(2),  # (N, 16, 14, 14), sees 6×6
            convolution(16, 16),  # (N, 16, 14, 14), sees 10×10
            convolution(16, 24),  # (N, 24, 14, 14), sees 14×14
            nn.MaxPool2d(2),  # (N, 24, 7, 7), sees 16×16
            convolution(24, 24, padding=0),  # (N, 24, 5, 5), sees 24×24
            convolution(24, 32, padding=0),  # (N, 32, 3, 3), sees 32×32
        )
        self.average = nn.AdaptiveAvgPool2d(1)  # (N, 32, 1, 1), sees all
        self.dropout = nn.Dropout(0.05)
        self.classify = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        features = self.average(self.features(images)).flatten(1)
        return self.classify(self.dropout(features)).log_softmax(1)
