"""The experiments behind `notebooks/README.md`: what is compared with what."""

import re
from dataclasses import dataclass, replace
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
    measure: str | None = None  # what else to measure at the end: "softmax"


class Experiment(NamedTuple):
    """Variants by name, the first of them the reference, and what their table shows."""

    question: str
    variants: dict[str, Variant]
    columns: tuple[str, ...] = ("parameters", "held-out accuracy")  # names in `report.COLUMNS`
    compared: bool = True  # the others with the first


def normed(words: str) -> str:
    """The same network with batch normalisation before every ReLU."""
    return re.sub(r"(?<!norm) relu", " norm relu", words)


def deep(convolutions: int) -> str:
    """So many 3×3 convolutions in each of three blocks, all padded."""
    block = "conv3-16 norm relu " * (convolutions - 1) + "conv3-32 norm relu "
    block3 = "conv3-16 relu " * (convolutions - 1) + "drop10 conv3-32 relu "
    return block + TRANSITION + block + TRANSITION + block3 + HEAD


def seeing(kernel2: int, kernel3: int) -> str:
    """Other kernels in the blocks 2 and 3, padded."""
    block2 = BLOCK.replace("conv3", f"conv{kernel2}")
    block3 = BLOCK3.replace("valid3", f"conv{kernel3}")
    return BLOCK + TRANSITION + block2 + TRANSITION + block3 + HEAD


def pooled(*places: int) -> str:
    """MNISTNet with a max pooling after these of its six 3×3 convolutions, counted from 1."""
    words = MNISTNET.replace("maxpool ", "")
    ends = [one.end() for one in re.finditer(r"3-\d+ (norm )?relu ", words)]
    for place in sorted(places, reverse=True):
        words = words[: ends[place - 1]] + "maxpool " + words[ends[place - 1] :]
    return words


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


def with_and_without_norm(name: str, question: str, columns, words) -> dict[str, Experiment]:
    """Networks of about MNISTNet's number of parameters, without and with batch normalisation in
    block 3, where without it channels die.
    """
    both = {name: str, f"{name}_norm": normed}
    return {
        name: Experiment(
            question, networks({k: matched(norm(w)) for k, w in words.items()}), columns
        )
        for name, norm in both.items()
    }


NORMED = normed(MNISTNET)
NO_NORM = MNISTNET.replace("norm ", "")
LEAKY = MNISTNET.replace(BLOCK3, BLOCK3.replace("relu", "leaky"))
NO_TRANSITION = MNISTNET.replace(TRANSITION, "maxpool ")
TRANSITION_FIRST = MNISTNET.replace("maxpool conv1-8 norm relu", "conv1-8 norm relu maxpool")
FIVE = BLOCK.replace("conv3-16 norm relu conv3", "conv5")
FIVES = FIVE + TRANSITION + FIVE + TRANSITION + "drop10 valid5-32 relu " + HEAD
DROPOUTS = {
    "none": dropped(0, early=False, late=False),
    "both 25 %": dropped(25, early=True, late=True),
    "early 50 %": dropped(50, early=True, late=False),
    "late 50 %": dropped(50, early=False, late=True),
    "both 50 %": dropped(50, early=True, late=True),
}
BASE = Variant()
FEW = Variant(images=1_000, epochs=20, rotation=0)
ACCURACY = ("held-out accuracy",)
SIZES = ("parameters", "multiplications", *ACCURACY)
FIELDS = ("sees", "last map", "multiplications", *ACCURACY)
GAP = ("training accuracy", *ACCURACY, "gap")

# A variant that several experiments share is run once.
# fmt: off
EXPERIMENTS = {
    "baseline": Experiment("What does MNISTNet itself reach?",
        {"MNISTNet": BASE}, ("parameters", "training accuracy", *ACCURACY)),
    "norm_distance": Experiment("How near the prediction may batch normalisation come?", networks({
        "blocks 1 and 2 (MNISTNet)": MNISTNET,
        "block 1 alone": BLOCK + NO_NORM.removeprefix(BLOCK.replace("norm ", "")),
        "block 3 alone": NO_NORM.replace(BLOCK3, normed(BLOCK3)),
        "all blocks": NORMED,
    }), ("dead channels", *ACCURACY)),
    "norm": Experiment("Batch normalisation: with or without, before or after ReLU?", {
        "before ReLU (MNISTNet)": BASE,
        "none": Variant(NO_NORM),
        "after ReLU": Variant(MNISTNET.replace("norm relu", "relu norm")),
        "before ReLU, lr 0.001": Variant(lr=0.001),
        "none, lr 0.001": Variant(NO_NORM, lr=0.001),
    }),
    "lr": Experiment("What does the learning rate change?", {
        f"{lr:g}": Variant(lr=lr) for lr in (0.01, 0.0001, 0.001, 0.003, 0.03)
    }, ("training accuracy", "dead channels", *ACCURACY)),
    "dead": Experiment("Do dead channels cost accuracy?", {
        "MNISTNet": BASE,
        "leaky ReLU in block 3": Variant(LEAKY),
        "batch norm in all blocks": Variant(NORMED),
        "a learning rate of 0.003": Variant(lr=0.003),
    }, ("parameters", "dead channels", *ACCURACY)),
    **with_and_without_norm("depth", "How many layers?",
        ("parameters", "sees", "dead channels", *ACCURACY),
        {f"{3 * n} convolutions": deep(n) for n in (2, 1, 3, 4)}),
    **with_and_without_norm("kernels", "Two 3×3 kernels, or one 5×5?", SIZES,
        {"two 3×3": MNISTNET, "one 5×5": FIVES}),
    **with_and_without_norm("head", "When to stop convolving, and what then?", SIZES, {
        "at 3×3, then average": MNISTNET,
        "at 3×3, then flatten": MNISTNET.replace("gap ", ""),
        "at 7×7, then average": BLOCK + TRANSITION + BLOCK + "maxpool " + HEAD,  # has no block 3
        "at 1×1": MNISTNET.replace("valid3-16 relu", "valid3-16 relu valid3-16 relu"),
    }),
    "width": Experiment("How many kernels?", {
        f"× {factor:g}": Variant(widened(MNISTNET, factor)) for factor in (1, 0.25, 0.5, 2)
    }, SIZES),
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
        pooling_after((2, 4), (2, 3), (2, 6)), FIELDS),
    "field": Experiment("How large a receptive field?", networks({
        f"{pixels} pixels": matched(normed(seeing(*kernels)))
        for pixels, kernels in {32: (3, 3), 8: (1, 1), 16: (3, 1), 64: (3, 7)}.items()
    }), SIZES),
    "transitions": Experiment("What do the 1×1 convolutions of the transitions do?", networks({
        "1×1 to 8 channels (MNISTNet)": MNISTNET,
        "none": NO_TRANSITION,
        "none, same number of parameters": matched(NO_TRANSITION),
    }), SIZES),
    "squeeze": Experiment("To how many channels should a transition squeeze?", networks({
        f"{n} channels": MNISTNET.replace("conv1-8", f"conv1-{n}") for n in (8, 4, 32)
    }), SIZES),
    "transition_position": Experiment("Where do the 1×1 convolutions belong?", networks({
        "after each pooling (MNISTNet)": MNISTNET, "before each pooling": TRANSITION_FIRST,
    }), SIZES),
    "scale": Experiment("Does image normalisation matter?", {
        "mean 0, standard deviation 1 (MNISTNet)": BASE,
        "0 to 255": Variant(mean=0.0, std=1 / 255),
    }, ACCURACY),
    "scale_no_norm": Experiment("Does it without batch normalisation?", {
        "mean 0, standard deviation 1": Variant(NO_NORM, lr=0.001),
        "0 to 255": Variant(NO_NORM, lr=0.001, mean=0.0, std=1 / 255),
    }, ACCURACY),
    "dropout": Experiment("Dropout: how much, and where?", {
        name: replace(FEW, network=words) for name, words in DROPOUTS.items()
    }, GAP),
    "overfitting": Experiment("With how many images does the network overfit?", {
        f"{variant.images:,} images": replace(variant, network=DROPOUTS["none"], rotation=0)
        for variant in (FEW, BASE)
    }, GAP, compared=False),
    "batch": Experiment("What does the batch size change, in five epochs?", {
        "64, lr 0.01": BASE,
        "256, lr 0.01": Variant(batch_size=256),
        "256, lr 0.02": Variant(batch_size=256, lr=0.02),
    }, ("updates", *ACCURACY)),
    "batch_updates": Experiment("What does it change, in equally many updates?", {
        f"{size}": Variant(batch_size=size, updates=160) for size in (64, 16, 256)
    }, ("updates", *ACCURACY)),
    "lr_range": Experiment("The range test: at which learning rate does the loss fall, and rise?",
        {"1e-06 to 10": Variant(lr=1e-6, ramp=10, updates=200)}, (), compared=False),
    "softmax": Experiment("How far can the probabilities be trusted?", {
        "MNISTNet": Variant(measure="softmax"),
        "1,000 images, no dropout": replace(FEW, network=DROPOUTS["none"], measure="softmax"),
    }, (), compared=False),
    "all_images": Experiment("What was better on 10,000 images: is it on 50,000?", {
        name: Variant(network, images=50_000, batch_size=128) for name, network in {
            "MNISTNet": MNISTNET,
            "norm in all blocks": NORMED,
            "one 5×5 for two 3×3": matched(FIVES),
        }.items()
    }, SIZES),
}
# fmt: on

FEWEST_SEEDS = 3  # for each variant,
REFERENCE_SEEDS = 10  # and for those that others are compared with
SEEDS = {next(iter(one.variants.values())): REFERENCE_SEEDS
         for one in EXPERIMENTS.values() if one.compared}  # fmt: skip
SEEDS |= {Variant(LEAKY): 6} | dict.fromkeys(EXPERIMENTS["all_images"].variants.values(), 4)
