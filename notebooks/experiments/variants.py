"""Other networks than `MNISTNet`, each written as a line of words, a word for a layer.

conv3-16    3×3 convolution to 16 channels, padded so that the map keeps its size
valid3-16   the same without padding
dilated2-16   3×3, padded, its weights 2 pixels apart
stride3-16  padded, with a stride of 2: half the size
maxpool, avgpool   2×2, stride 2
norm, relu  batch normalisation, ReLU
leaky       leaky ReLU: negative numbers are divided by ten, not set to 0
drop10      dropout of 10 %
gap         global average pooling
fc          fully connected, from all that is left to the ten classes
"""

import re
from bisect import bisect_left
from functools import cache

import torch
from torch import Tensor, nn

from s4lib import UsageError
from s4lib.model import block

BLOCK = "conv3-16 norm relu conv3-32 norm relu "
TRANSITION = "maxpool conv1-8 norm relu "
BLOCK3 = "valid3-16 relu drop10 valid3-32 relu "
HEAD = "gap drop15 fc"
MNISTNET = BLOCK + TRANSITION + BLOCK + TRANSITION + BLOCK3 + HEAD  # `MNISTNet` in words


def normed(words: str) -> str:
    """Return the same network with batch normalisation before every ReLU."""
    return re.sub(r"(?<!norm) relu", " norm relu", words)


BASELINE = normed(MNISTNET)  # what the experiments compare with


def layer(word: str, x: Tensor) -> nn.Module:
    """Return the layer that `word` means for a map x (N, channels, size, size).

    Raises ValueError for a word without a layer.
    """
    found = re.fullmatch(r"([a-z]+)([1-9]\d*)?(?:-([1-9]\d*))?", word)
    match found and found.groups():
        case ("conv" | "valid" | "stride" as kind, str(kernel), str(out)):
            padding = 0 if kind == "valid" else int(kernel) // 2
            stride = 2 if kind == "stride" else 1
            return nn.Conv2d(x.shape[1], int(out), int(kernel), stride, padding)
        case ("dilated", str(apart), str(out)):
            return nn.Conv2d(x.shape[1], int(out), 3, padding=int(apart), dilation=int(apart))
        case ("maxpool", None, None):
            return nn.MaxPool2d(2)
        case ("avgpool", None, None):
            return nn.AvgPool2d(2)
        case ("norm", None, None):
            return nn.BatchNorm2d(x.shape[1])
        case ("relu", None, None):
            return nn.ReLU(inplace=True)
        case ("leaky", None, None):
            return nn.LeakyReLU(0.1, inplace=True)
        case ("drop", str(percent), None):
            return nn.Dropout(int(percent) / 100)
        case ("gap", None, None):
            return nn.AdaptiveAvgPool2d(1)
        case ("fc", None, None):
            return nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10))
    raise ValueError("there is no such layer")


def build(words: str) -> nn.Sequential:
    """Return the network that `words` describe: (N, 1, 28, 28) to log-probabilities (N, 10).

    Raises UsageError, naming the layer, if it can't be built.
    """
    # Max pooling before ReLU gives the same bits, and leaves ReLU a quarter of the work.
    words = words.replace("relu maxpool", "maxpool relu")
    layers, x = {}, torch.zeros(1, 1, 28, 28)
    for number, word in enumerate(words.split(), 1):
        try:
            made = layers[f"{number}_{word}"] = layer(word, x)
            if not word.startswith(("norm", "relu", "leaky", "drop")):  # they keep the shape
                x = made(x)
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"Layer {number}, {word}: {error}.") from error
    if words.split()[-1:] != ["fc"]:
        raise UsageError(f"The last layer must be fc, in: {words}")
    return block(**layers, log_softmax=nn.LogSoftmax(dim=1)).train()


@cache
def count(words: str) -> int:
    """How many parameters the network has."""
    with torch.random.fork_rng(devices=[]):  # so that counting does not change later random draws
        return sum(parameter.numel() for parameter in build(words).parameters())


@cache
def multiplications(words: str) -> int:
    """Return how many multiplications convolutions and fully connected layers make per image."""
    total, x = 0, torch.zeros(1, 1, 28, 28)
    for layer in build(words).eval():
        x = layer(x)
        weights = sum(parameter.numel() for parameter in layer.parameters() if parameter.dim() > 1)
        total += weights * x.shape[2:].numel()  # each weight is used at every position
    return total


def widened(words: str, factor: float) -> str:
    """Return the same network with `factor` times as many channels in every convolution."""
    return re.sub(r"(?<=\d-)\d+", lambda out: str(max(1, round(factor * int(out[0])))), words)


def matched(words: str, parameters: int = 17_498) -> str:
    """Return the network, made wider or narrower, with about so many parameters."""

    def width(percent):
        return widened(words, percent / 100)

    above = bisect_left(range(500), parameters, lo=1, key=lambda percent: count(width(percent)))
    return min(width(above - 1), width(above), key=lambda wide: abs(count(wide) - parameters))
