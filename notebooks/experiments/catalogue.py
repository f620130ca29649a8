"""The experiments behind `notebooks/README.md`: what is compared with what."""

from dataclasses import dataclass, replace
from math import sqrt
from typing import NamedTuple

from notebooks.experiments.variants import (
    BLOCK,
    BLOCK3,
    HEAD,
    MNISTNET,
    TRANSITION,
    matched,
    widened,
)
from s4lib.data import MNIST_MEAN, MNIST_STD
from s4lib.recipes import CLASSIC


@dataclass(frozen=True)
class Variant:
    """All that decides a run except the data set, the seed and the device."""

    network: str = MNISTNET
    images: int = 10_000  # to train on, the first ones
    epochs: int = 5
    updates: int | None = None  # instead of epochs
    batch_size: int = 64
    lr: float = 0.01  # Adam's; falls as CLASSIC's does, earlier in a shorter run
    ramp: float | None = None  # instead of falling, lr grows geometrically up to this
    rotation: float = CLASSIC.rotation
    mean: float = MNIST_MEAN  # subtracted from the ink, 0 to 1, which is then
    std: float = MNIST_STD  # divided by this
    measure: str | None = None  # what else to measure at the end, a name in `measures.MEASURES`


class Experiment(NamedTuple):
    """Variants by name, the first of them the reference, and what their table shows."""

    question: str
    variants: dict[str, Variant]
    columns: tuple[str, ...] = ("parameters", "test accuracy")  # names in `report.COLUMNS`


def deep(convolutions: int) -> str:
    """So many 3×3 convolutions in each of three blocks, all padded."""
    block = "conv3-16 norm relu " * (convolutions - 1) + "conv3-32 norm relu "
    block3 = "conv3-16 relu " * (convolutions - 1) + "drop10 conv3-32 relu "
    return matched(block + TRANSITION + block + TRANSITION + block3 + HEAD)


def seeing(kernel2: int, kernel3: int) -> str:
    """Other kernels in the blocks 2 and 3, padded."""
    block2 = BLOCK.replace("conv3", f"conv{kernel2}")
    block3 = BLOCK3.replace("valid3", f"conv{kernel3}")
    return matched(BLOCK + TRANSITION + block2 + TRANSITION + block3 + HEAD)


def single(kernel: int, last: str) -> str:
    """One large kernel in place of every pair of 3×3; block 3 has `conv` or `valid`, `last`."""
    block = f"conv{kernel}-32 norm relu "
    return block + TRANSITION + block + TRANSITION + f"drop10 {last}{kernel}-32 relu " + HEAD


def pooled(*places: int) -> str:
    """MNISTNet with a max pooling after these of its six 3×3 convolutions, counted from 1."""
    words, convolutions = [], 0
    for word in MNISTNET.replace("maxpool ", "").split():
        words.append(word)
        convolutions += "3-" in word
        if word == "relu" and "conv1-8" not in words[-3:] and convolutions in places:
            words.append("maxpool")
    return " ".join(words)


def pooling_after(*all_places: tuple[int, ...]) -> dict[str, Variant]:
    """A variant for each, named after its places."""
    return {" and ".join(map(str, at)) or "none": Variant(pooled(*at)) for at in all_places}


def dropped(percent: int, early: bool, late: bool) -> str:
    """MNISTNet with dropout after block 1, before the fully connected layer, or both."""
    plain = MNISTNET.replace("drop10 ", "").replace("drop15 ", "")
    if early:
        plain = plain.replace("maxpool", f"maxpool drop{percent}", 1)
    return plain.replace("fc", f"drop{percent} fc") if late else plain


def networks(words: dict[str, str]) -> dict[str, Variant]:
    return {name: Variant(network) for name, network in words.items()}


DROPOUTS = {
    "none": dropped(0, early=False, late=False),
    "both 25 %": dropped(25, early=True, late=True),
    "early 50 %": dropped(50, early=True, late=False),
    "late 50 %": dropped(50, early=False, late=True),
    "both 50 %": dropped(50, early=True, late=True),
}
NO_NORM = MNISTNET.replace("norm ", "")
NORM_IN_BLOCK3 = MNISTNET.replace(BLOCK3, BLOCK3.replace(" relu", " norm relu"))
NO_TRANSITION = MNISTNET.replace(TRANSITION, "maxpool ")
FLAT = MNISTNET.replace("gap ", "")
TO_BLOCK3 = BLOCK + TRANSITION + BLOCK + TRANSITION
BASE = Variant()
FEW = Variant(images=1_000, epochs=20, rotation=0)
ALL = Variant(images=60_000, epochs=CLASSIC.epochs, batch_size=CLASSIC.batch_size)
SIZES = ("parameters", "multiplications", "test accuracy")
FIELDS = ("sees", "last map", "multiplications", "test accuracy")
DEPTHS = ("parameters", "sees", "multiplications", "test accuracy")
WORST = ("worst run", "test accuracy")
GAP = ("training accuracy", "test accuracy", "gap")

# A variant that several experiments share is run once, and kept with the first of them.
# fmt: off
EXPERIMENTS = {
    "baseline": Experiment(
        "What does MNISTNet itself reach?",
        {"MNISTNet": BASE},
        ("parameters", "training accuracy", "test accuracy"),
    ),
    "norm": Experiment("Batch normalisation: with or without, before or after ReLU?", {
        "blocks 1 and 2 (MNISTNet)": BASE,
        "none": Variant(NO_NORM),
        "none, lr 0.001": Variant(NO_NORM, lr=0.001),
        "blocks 1 and 2, lr 0.001": Variant(lr=0.001),
        "after ReLU": Variant(MNISTNET.replace("norm relu", "relu norm")),
    }, WORST),
    "norm_distance": Experiment("How near the prediction may batch normalisation come?", networks({
        "blocks 1 and 2 (MNISTNet)": MNISTNET,
        "block 1 alone": BLOCK + NO_NORM.removeprefix(BLOCK.replace("norm ", "")),
        "block 3 alone": NO_NORM.replace(BLOCK3, BLOCK3.replace(" relu", " norm relu")),
        "all blocks": NORM_IN_BLOCK3,
    }), WORST),
    "lr": Experiment("What does the learning rate change?", {
        f"{lr:g}": Variant(lr=lr) for lr in (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
    }, ("training accuracy", "test accuracy")),
    "width": Experiment("How many kernels?", {
        f"× {factor:g}": Variant(widened(MNISTNET, factor))
        for factor in (0.25, 0.5, 0.75, 1, 1.5, 2)
    }, SIZES),
    "depth": Experiment("How many layers?", networks({
        f"{3 * n} convolutions": deep(n) for n in (1, 2, 3, 4)
    }), DEPTHS),
    "kernels": Experiment(
        "3×3, or fewer and larger kernels with the same receptive field?", networks({
        "two 3×3 (MNISTNet)": MNISTNET,
        "one 5×5, as many channels": single(5, "valid"),
        "one 5×5, as many parameters": matched(single(5, "valid")),
        "three 3×3": deep(3),
        "one 7×7, as many parameters": matched(single(7, "conv")),
    }), DEPTHS),
    "pooling": Experiment("Max pooling, average pooling or a stride?", networks({
        "max pooling (MNISTNet)": MNISTNET,
        "average pooling": MNISTNET.replace("maxpool", "avgpool"),
        "convolution with stride 2":
            MNISTNET.replace("conv3-32", "stride3-32").replace("maxpool ", ""),
    }), SIZES),
    "pools": Experiment("How many max poolings?",
        pooling_after((2, 4), (), (2,), (2, 4, 6)), FIELDS),
    "pool_position": Experiment("After which of the six 3×3 convolutions?",
        pooling_after((2, 4), (1, 2), (2, 3), (4, 6)), FIELDS),
    "pool_distance": Experiment("How near the prediction may the last max pooling come?",
        pooling_after((2, 4), (2, 3), (2, 5), (2, 6)), FIELDS),
    "field": Experiment("How large a receptive field?", networks({
        "8 pixels": seeing(1, 1),
        "16 pixels": seeing(3, 1),
        "32 pixels": seeing(3, 3),
        "48 pixels": seeing(3, 5),
        "64 pixels": seeing(3, 7),
    }), SIZES),
    "transitions": Experiment("What do the 1×1 convolutions of the transitions do?", networks({
        "1×1 to 8 channels (MNISTNet)": MNISTNET,
        "none": NO_TRANSITION,
        "none, as many parameters": matched(NO_TRANSITION),
    }), SIZES),
    "squeeze": Experiment("To how many channels should a transition squeeze?", networks({
        f"{n} channels": MNISTNET.replace("conv1-8", f"conv1-{n}") for n in (8, 4, 16, 32)
    }), SIZES),
    "transition_position": Experiment("Where do the 1×1 convolutions belong?", networks({
        "after each pooling (MNISTNet)": MNISTNET,
        "before each pooling":
            MNISTNET.replace("maxpool conv1-8 norm relu", "conv1-8 norm relu maxpool"),
        "after the first alone, as many parameters":
            matched(BLOCK + TRANSITION + BLOCK + "maxpool " + BLOCK3 + HEAD),
        "after the second alone, as many parameters":
            matched(BLOCK + "maxpool " + BLOCK + TRANSITION + BLOCK3 + HEAD),
    }), SIZES),
    "head": Experiment("When to stop convolving, and what then?", networks({
        "at 3×3, then average (MNISTNet)": MNISTNET,
        "at 3×3, then flatten": FLAT,
        "at 3×3, then flatten, as many parameters": matched(FLAT),
        "at 7×7, then average": matched(BLOCK + TRANSITION + BLOCK + "maxpool " + HEAD),
        "at 7×7, then a 7×7 kernel": matched(TO_BLOCK3 + "drop10 valid7-32 relu drop15 fc"),
        "at 5×5, then average": matched(TO_BLOCK3 + "drop10 valid3-32 relu " + HEAD),
        "at 1×1": matched(MNISTNET.replace("valid3-16 relu", "valid3-16 relu valid3-16 relu")),
    }), SIZES),
    "batch": Experiment("What does the batch size change?", {
        **{f"{size}, lr 0.01": Variant(batch_size=size) for size in (16, 64, 256, 2048)},
        **{f"{size}, lr × {size / 64:g}": Variant(batch_size=size, lr=0.01 * size / 64)
           for size in (16, 256, 2048)},
        **{f"{size}, lr × √{size // 64}": Variant(batch_size=size, lr=0.01 * sqrt(size / 64))
           for size in (256, 2048)},
        **{f"{size}, 80 updates": Variant(batch_size=size, updates=80)
           for size in (16, 64, 256, 2048)},
    }, ("updates", "seconds for 10,000 images", "test accuracy")),
    "scale": Experiment("Does image normalisation matter?", {
        "mean 0, standard deviation 1 (MNISTNet)": BASE,
        "0 to 1": Variant(mean=0, std=1),
        "0 to 255": Variant(mean=0, std=1 / 255),
        "mean 0, standard deviation 1, no norm": Variant(NO_NORM, lr=0.001),
        "0 to 1, no norm": Variant(NO_NORM, lr=0.001, mean=0, std=1),
        "0 to 255, no norm": Variant(NO_NORM, lr=0.001, mean=0, std=1 / 255),
    }, WORST),
    "dropout": Experiment("Dropout: how much, and where?", {
        f"1,000 images, {name}": replace(FEW, network=words) for name, words in DROPOUTS.items()
    }, GAP),
    "overfitting": Experiment("With how many images does dropout help?", {
        f"{variant.images:,} images, {name}": replace(variant, network=DROPOUTS[name])
        for variant in (FEW, replace(BASE, rotation=0), replace(ALL, rotation=0, epochs=5))
        for name in ("none", "both 25 %")
    }, GAP),
    "lr_range": Experiment(
        "The learning-rate range test: at which learning rate does the loss fall, and rise?",
        {"1e-06 to 10": Variant(lr=1e-6, ramp=10, updates=200)},
        (),
    ),
    "noise": Experiment(
        "How noisy is the gradient of a batch?",
        {"after 200 updates": Variant(updates=200, measure="gradient_noise")},
        (),
    ),
    "softmax": Experiment("How far can the probabilities be trusted?", {
        "MNISTNet": Variant(measure="softmax"),
        "1,000 images, no dropout": replace(FEW, network=DROPOUTS["none"], measure="softmax"),
    }, ()),
    "surprises": Experiment(
        "What went against the usual advice: does it hold on all images?", {
        name: Variant(network, images=60_000) for name, network in {
            "MNISTNet": MNISTNET,
            "one 5×5 for two 3×3": matched(single(5, "valid")),
            "norm in all blocks": NORM_IN_BLOCK3,
            "a third pooling": pooled(2, 4, 6),
            "flattened": matched(FLAT),
        }.items()
    }, SIZES),
    "width_full": Experiment("The smallest width that reaches 99.40 % on all images?", {
        f"× {factor:g}": replace(ALL, network=widened(MNISTNET, factor)) for factor in (0.5, 0.75)
    }, SIZES),
}
# fmt: on
