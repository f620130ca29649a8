"""Other networks than `MNISTNet`, each written as a line of words, a word for a layer.

conv3-16    3×3 convolution to 16 channels, padded so that the map keeps its size
valid3-16   the same without padding
stride3-16  padded, with a stride of 2: half the size
maxpool, avgpool   2×2, stride 2
norm, relu  batch normalisation, ReLU
drop10      dropout of 10 %
gap         global average pooling
fc          fully connected, from all that is left to the ten classes
"""

import re
from bisect import bisect_left

import torch
from torch import nn

from s4lib import UsageError
from s4lib.model import block

BLOCK = "conv3-16 norm relu conv3-32 norm relu "
TRANSITION = "maxpool conv1-8 norm relu "
BLOCK3 = "valid3-16 relu drop10 valid3-32 relu "
HEAD = "gap drop15 fc"
MNISTNET = BLOCK + TRANSITION + BLOCK + TRANSITION + BLOCK3 + HEAD  # `MNISTNet` in words

CONVOLUTION = re.compile(r"(conv|valid|stride)(\d+)-(\d+)")


def layer(word: str, channels: int, size: int) -> tuple[nn.Module, int, int]:
    """The layer that `word` means for a map (N, channels, size, size), and its own channels and
    size. Raises ValueError where there can't be such a layer.
    """
    if match := CONVOLUTION.fullmatch(word):
        kind, kernel, out = match[1], int(match[2]), int(match[3])
        padding = 0 if kind == "valid" else kernel // 2
        stride = 2 if kind == "stride" else 1
        if not out or not kernel:
            raise ValueError("no parameters are left")
        if size + 2 * padding < kernel:
            raise ValueError(f"a {kernel}×{kernel} kernel doesn't fit a {size}×{size} map")
        convolution = nn.Conv2d(channels, out, kernel, stride, padding)
        return convolution, out, (size + 2 * padding - kernel) // stride + 1
    if word in ("maxpool", "avgpool"):
        if size < 2:
            raise ValueError(f"a {size}×{size} map can't be halved")
        pool = nn.MaxPool2d if word == "maxpool" else nn.AvgPool2d
        return pool(2), channels, size // 2
    if word == "fc":
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * size**2, 10)), 10, 1
    if match := re.fullmatch(r"drop(\d\d?)", word):
        return nn.Dropout(int(match[1]) / 100), channels, size
    simple = {
        "norm": (nn.BatchNorm2d(channels), channels, size),
        "relu": (nn.ReLU(inplace=True), channels, size),
        "gap": (nn.AdaptiveAvgPool2d(1), channels, 1),
    }
    if word not in simple:
        raise ValueError("there is no such layer")
    return simple[word]


def build(words: str) -> nn.Sequential:
    """The network that `words` describe: (N, 1, 28, 28) to log-probabilities (N, 10).

    Raises UsageError, naming the layer, if it can't be built.
    """
    layers, channels, size = {}, 1, 28
    for number, word in enumerate(words.split(), 1):
        try:
            layers[f"{number}_{word}"], channels, size = layer(word, channels, size)
        except ValueError as error:
            raise UsageError(f"Layer {number}, {word}: {error}.") from error
    if not words.split()[-1:] == ["fc"]:
        raise UsageError(f"The last layer must be fc, in: {words}")
    return block(**layers, log_softmax=nn.LogSoftmax(dim=1))


def count(words: str) -> int:
    """How many parameters the network has."""
    with torch.device("meta"):  # shapes alone
        return sum(parameter.numel() for parameter in build(words).parameters())


def multiplications(words: str) -> int:
    """How many multiplications the convolutions and the fully connected layer make an image."""
    total = 0

    def add(layer, _inputs, output):
        nonlocal total
        total += layer.weight[0].numel() * output[0].numel()

    with torch.device("meta"):
        model = build(words)
        for part in model.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.register_forward_hook(add)
        model.eval()(torch.zeros(1, 1, 28, 28))
    return total


def widened(words: str, factor: float) -> str:
    """The same network with `factor` times as many channels in every convolution."""
    return re.sub(
        r"(?<=\d-)\d+", lambda channels: str(max(1, round(factor * int(channels[0])))), words
    )


def matched(words: str, parameters: int = 17_498) -> str:
    """The network, all of it wider or narrower, with as nearly as can be so many parameters."""

    def width(percent):
        return widened(words, percent / 100)

    above = bisect_left(range(500), parameters, lo=1, key=lambda percent: count(width(percent)))
    return min(width(above - 1), width(above), key=lambda wide: abs(count(wide) - parameters))
