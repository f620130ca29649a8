"""Measure more of a trained network than its accuracy."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from s4lib.data import Dataset, Pairs
from s4lib.plots import activations
from s4lib.train import predict

BINS = 10


def dead_channels(model: nn.Module, images: Tensor) -> list[list[int]]:
    """For every ReLU in turn, count the channels that are positive nowhere, and all channels.

    Images (N, 1, 28, 28) are normalised. A dead channel is 0 for all of them.
    """
    relus = [
        name for name, module in model.named_modules() if isinstance(module, nn.ReLU | nn.LeakyReLU)
    ]
    highest = [maps.amax((0, 2, 3)) for maps in activations(model, images, relus).values()]
    return [[int((channels <= 0).sum()), len(channels)] for channels in highest]


def softmax(model: nn.Module, dataset: Dataset, aside: Pairs) -> dict:
    """Measure calibration on the held-out images, before and after temperature scaling, and the
    network's answers to images without a digit.

    The temperature is chosen on the images `aside`.
    """
    images, labels = aside
    temperature = best_temperature(predict(model, dataset.normalise(images)), labels)
    images, labels = dataset.test
    log_probs = predict(model, dataset.normalise(images))
    sure = {"digits": log_probs} | {
        name: predict(model, dataset.normalise(others))
        for name, others in no_digits(images[:500]).items()
    }
    return {
        "temperature": temperature,
        "before": calibration(log_probs, labels),
        "after": calibration(F.log_softmax(log_probs / temperature, 1), labels),
        "sure": {k: round(v.exp().max(1).values.mean().item(), 4) for k, v in sure.items()},
    }


def best_temperature(log_probs: Tensor, labels: Tensor) -> float:
    """Return the divisor of the logits, from 0.2 to 5, under which these labels are likeliest.

    Log-probabilities can stand for logits, because adding the same number to all of them does not
    change softmax. Guo et al. 2017, On Calibration of Modern Neural Networks.
    """
    candidates = torch.logspace(-1, 1, 201, base=5).tolist()
    return round(min(candidates, key=lambda t: F.cross_entropy(log_probs / t, labels).item()), 4)


def calibration(log_probs: Tensor, labels: Tensor) -> dict:
    """Return loss, expected calibration error, and the bins of the reliability diagram.

    A bin has the images whose highest probability lies in it: their number, the mean probability
    and the share predicted correctly. The error is the mean distance of the last two, over the
    images.
    """
    highest, predicted = log_probs.exp().max(1)
    right = (predicted == labels).float()
    number = (highest * BINS).long().clamp(max=BINS - 1)
    bins = [
        {
            "images": int(inside.sum()),
            "confidence": round(highest[inside].mean().item(), 4),
            "accuracy": round(right[inside].mean().item(), 4),
        }
        for inside in (number == k for k in range(BINS))
        if inside.any()
    ]
    gap = sum(bucket["images"] * abs(bucket["confidence"] - bucket["accuracy"]) for bucket in bins)
    return {
        "loss": round(F.nll_loss(log_probs, labels).item(), 4),
        "error": round(gap / len(labels), 5),
        "bins": bins,
    }


def no_digits(digits: Tensor) -> dict[str, Tensor]:
    """Make images like `digits` (N, 1, 28, 28) that show no digit."""
    generator = torch.Generator().manual_seed(0)
    order = torch.rand(len(digits), 28 * 28, generator=generator).argsort(1)
    return {
        "blank paper": torch.zeros(1, *digits.shape[1:], dtype=torch.uint8),
        "noise": torch.randint(0, 256, digits.shape, generator=generator, dtype=torch.uint8),
        "a digit's pixels, shuffled": digits.cpu().flatten(1).gather(1, order).view(digits.shape),
    }
