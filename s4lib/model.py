"""`MNISTNet`: 17,498 parameters, three blocks of 3×3 convolutions, two transitions, one head."""

from collections import OrderedDict

from torch import Tensor, nn


def block(**layers: nn.Module) -> nn.Sequential:
    """A sequence whose layers have names, so that weights are called `block1.conv1.weight`."""
    return nn.Sequential(OrderedDict(layers))


class MNISTNet(nn.Module):
    """Turn grey 28×28 digits, (N, 1, 28, 28), into log-probabilities of the ten classes, (N, 10).

    Each block widens the maps from 8 channels (or 1) to 32. Transitions halve the sides of the maps
    and squeeze them to 8 channels, so that the next block stays cheap. The third block has neither
    padding nor batch normalisation, as in the submission that it comes from. The head averages each
    map and classifies the averages.

    ReLU overwrites its input, which no layer needs again; copy what a hook should keep. The
    comments give each layer's output, and the side of the square of input pixels that an activation
    sees.
    """

    def __init__(self, dropout_block3: float = 0.10, dropout_head: float = 0.15):
        super().__init__()
        self.block1 = block(
            conv1=nn.Conv2d(1, 16, 3, padding=1),  # (N, 16, 28, 28), sees 3
            norm1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(16, 32, 3, padding=1),  # (N, 32, 28, 28), sees 5
            norm2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(inplace=True),
        )
        self.transition1 = block(
            pool=nn.MaxPool2d(2),  # (N, 32, 14, 14), sees 6
            conv=nn.Conv2d(32, 8, 1),  # (N, 8, 14, 14), sees 6
            norm=nn.BatchNorm2d(8),
            relu=nn.ReLU(inplace=True),
        )
        self.block2 = block(
            conv1=nn.Conv2d(8, 16, 3, padding=1),  # (N, 16, 14, 14), sees 10
            norm1=nn.BatchNorm2d(16),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(16, 32, 3, padding=1),  # (N, 32, 14, 14), sees 14
            norm2=nn.BatchNorm2d(32),
            relu2=nn.ReLU(inplace=True),
        )
        self.transition2 = block(
            pool=nn.MaxPool2d(2),  # (N, 32, 7, 7), sees 16
            conv=nn.Conv2d(32, 8, 1),  # (N, 8, 7, 7), sees 16
            norm=nn.BatchNorm2d(8),
            relu=nn.ReLU(inplace=True),
        )
        self.block3 = block(
            conv1=nn.Conv2d(8, 16, 3),  # (N, 16, 5, 5), sees 24
            relu1=nn.ReLU(inplace=True),
            dropout=nn.Dropout(dropout_block3),
            conv2=nn.Conv2d(16, 32, 3),  # (N, 32, 3, 3), sees 32
            relu2=nn.ReLU(inplace=True),
        )
        self.gap = nn.AdaptiveAvgPool2d(1)  # (N, 32, 1, 1), sees 40: the whole image
        self.dropout = nn.Dropout(dropout_head)
        self.fc = nn.Linear(32, 10)  # (N, 10)
        self.log_softmax = nn.LogSoftmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.transition1(self.block1(x))
        x = self.transition2(self.block2(x))
        x = self.gap(self.block3(x))
        logits = self.fc(self.dropout(x).flatten(1))
        return self.log_softmax(logits)
