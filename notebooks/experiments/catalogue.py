"""The experiments behind `notebooks/README.md`: what is compared with what."""

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from notebooks.experiments.variants import (
    BASELINE,
    BLOCK,
    BLOCK3,
    HEAD,
    MNISTNET,
    TRANSITION,
    matched,
    normed,
    widened,
)
from s4lib.data import MNIST_MEAN, MNIST_STD
from s4lib.recipes import CLASSIC


@dataclass(frozen=True)
class Variant:
    """All that decides a run except the data set, the seed and the device."""

    network: str = BASELINE
    images: int = 10_000  # the first ones of the training images
    epochs: int = 5
    updates: int | None = None  # instead of epochs
    batch_size: int = 64
    lr: float = 0.01  # Adam's; falls as CLASSIC's does, earlier in a shorter run
    ramp: float | None = None  # if given, lr grows geometrically up to this instead of falling
    rotation: float = CLASSIC.rotation
    mean: float = MNIST_MEAN  # subtracted from the ink, 0 to 1; then the ink is
    std: float = MNIST_STD  # divided by this
    measure: str | None = None  # another measurement at the end: "softmax"
    batch_factor: float = 1  # by how much Adam's β₁, β₂ and ε are adapted to a larger batch


class Experiment(NamedTuple):
    """Variants by name, the first of them the reference, and the columns of their table."""

    question: str
    variants: dict[str, Variant]
    columns: tuple[str, ...] = ("parameters", "held-out accuracy")  # names in `report.COLUMNS`
    compared: bool = True  # the other variants with the first


def deep(convolutions: int) -> str:
    """Return so many 3×3 convolutions in each of three blocks, all padded."""
    block = "conv3-16 norm relu " * (convolutions - 1) + "conv3-32 norm relu "
    block3 = block.replace("conv3-32", "drop10 conv3-32")
    return block + TRANSITION + block + TRANSITION + block3 + HEAD


def dilated(two: int, three: int) -> str:
    """The baseline, half as wide, padded and without pooling; the weights of a kernel in blocks 2
    and 3 lie so many pixels apart. So the receptive field differs, and nothing else does.
    """
    block2, block3 = (BLOCK.replace("conv3", f"dilated{apart}") for apart in (two, three))
    squeeze = TRANSITION.removeprefix("maxpool ")
    block3 = block3.replace(" relu ", " relu drop10 ", 1)
    return widened(BLOCK + squeeze + block2 + squeeze + block3 + HEAD, 0.5)


def seeing(kernel2: int, kernel3: int) -> str:
    """Return the baseline with padded kernels of another size in blocks 2 and 3, about as large."""
    block2 = BLOCK.replace("conv3", f"conv{kernel2}")
    block3 = normed(BLOCK3.replace("valid3", f"conv{kernel3}"))
    return matched(BLOCK + TRANSITION + block2 + TRANSITION + block3 + HEAD)


def pooled(*places: int) -> str:
    """Return the baseline with a max pooling after these of its six 3×3 convolutions, from 1."""
    words = BASELINE.replace("maxpool ", "")
    ends = [match.end() for match in re.finditer(r"3-\d+ norm relu ", words)]
    for place in sorted(places, reverse=True):
        words = words[: ends[place - 1]] + "maxpool " + words[ends[place - 1] :]
    return words


def pooling_after(*all_places: tuple[int, ...]) -> dict[str, Variant]:
    """Return a variant for each pair of places, named after them."""
    return {" and ".join(map(str, at)) or "none": Variant(pooled(*at)) for at in all_places}


def dropped(percent: int, early: bool, late: bool) -> str:
    """Return the baseline with dropout after block 1, before the fully connected layer, or both."""
    plain = BASELINE.replace("drop10 ", "").replace("drop15 ", "")
    if early:
        plain = plain.replace("maxpool", f"maxpool drop{percent}", 1)
    return plain.replace("fc", f"drop{percent} fc") if late else plain


def networks(words: dict[str, str]) -> dict[str, Variant]:
    return {name: Variant(network) for name, network in words.items()}


def inks(base: Variant) -> dict[str, Variant]:
    """Return three kinds of ink: normalised, moved so that paper is 0, and 79 times as large."""
    return {
        "normalised: mean 0, standard deviation 1": base,
        "only moved: paper is 0, not −0.42": replace(base, mean=0.0),
        "only scaled: standard deviation 79": replace(base, std=1 / 255),
        "both: 0 to 255": replace(base, mean=0.0, std=1 / 255),
    }


NO_NORM = BASELINE.replace("norm ", "")
LEAKY = MNISTNET.replace(BLOCK3, BLOCK3.replace("relu", "leaky"))
NO_TRANSITION = BASELINE.replace(TRANSITION, "maxpool ")
LINEAR_TRANSITION = BASELINE.replace(TRANSITION, "maxpool conv1-8 ")
TRANSITION_FIRST = BASELINE.replace("maxpool conv1-8 norm relu", "conv1-8 norm relu maxpool")
FIVE = BLOCK.replace("conv3-16 norm relu conv3", "conv5")
FIVES = FIVE + TRANSITION + FIVE + TRANSITION + "drop10 valid5-32 norm relu " + HEAD
PLAIN = dropped(0, early=False, late=False)
DROPOUTS = {
    "none": PLAIN,
    "both 25 %": dropped(25, early=True, late=True),
    "early 50 %": dropped(50, early=True, late=False),
    "late 50 %": dropped(50, early=False, late=True),
    "both 50 %": dropped(50, early=True, late=True),
}
# Every row is compared with the baseline; MNISTNet itself has no batch norm in block 3.
BASE, OLD = Variant(), Variant(MNISTNET)
FEW = Variant(PLAIN, images=1_000, epochs=20, rotation=0)
ACCURACY = ("held-out accuracy",)
SIZES = ("parameters", "multiplications", *ACCURACY)
FIELDS = ("sees", "last map", "multiplications", *ACCURACY)
GAP = ("updates", "training accuracy", *ACCURACY, "gap")

# A variant that several experiments share is run once.
# fmt: off
EXPERIMENTS = {
    "baseline": Experiment("What does the baseline reach, and what MNISTNet?",
        {"baseline": BASE, "MNISTNet": OLD},
        ("parameters", "training accuracy", *ACCURACY)),
    "depth": Experiment("How many layers?", networks({
        f"{3 * n} convolutions": matched(deep(n)) for n in (2, 1, 3, 4)
    }), ("parameters", "sees", *ACCURACY)),
    "pooling": Experiment("Max pooling, average pooling or a stride?", networks({
        "max pooling": BASELINE,
        "average pooling": BASELINE.replace("maxpool", "avgpool"),
        "convolution with stride 2":
            BASELINE.replace("conv3-32", "stride3-32").replace("maxpool ", ""),
    }), SIZES),
    "pools": Experiment("How many max poolings?",
        pooling_after((2, 4), (), (2,), (2, 4, 6)), FIELDS),
    "transitions": Experiment("What do the 1×1 convolutions of the transitions do?", networks({
        "1×1 to 8 channels": BASELINE,
        "1×1 without batch norm and ReLU": LINEAR_TRANSITION,
        "none": NO_TRANSITION,
        "none, same number of parameters": matched(NO_TRANSITION),
    }), SIZES),
    "transitions_old": Experiment("And in MNISTNet, whose block 3 is not normalised?", networks({
        "1×1 to 8 channels (MNISTNet)": MNISTNET,
        "none": MNISTNET.replace(TRANSITION, "maxpool "),
        "none, same number of parameters": matched(MNISTNET.replace(TRANSITION, "maxpool ")),
    }), SIZES),
    "kernels": Experiment("Two 3×3 kernels, or one 5×5?",
        networks({"two 3×3": BASELINE, "one 5×5": matched(FIVES)}), SIZES),
    "field": Experiment("How large a receptive field?", networks({
        f"{pixels} pixels": dilated(*apart)
        for pixels, apart in {29: (2, 4), 13: (1, 1), 21: (2, 2), 45: (4, 6)}.items()
    }), ("parameters", "last map", *ACCURACY)),
    "field_kernels": Experiment("And with larger kernels and fewer channels?", networks({
        f"{pixels} pixels": seeing(*kernels)
        for pixels, kernels in {32: (3, 3), 8: (1, 1), 16: (3, 1), 64: (3, 7)}.items()
    }), SIZES),
    "lr_range": Experiment("The range test: at which learning rate does the loss fall, and rise?",
        {"1e-06 to 10": replace(BASE, lr=1e-6, ramp=10, updates=200)}, (), compared=False),
    "lr": Experiment("What does the learning rate change?", {
        f"{lr:g}": replace(BASE, lr=lr) for lr in (0.01, 0.001, 0.1, 1)
    }, ("training accuracy", *ACCURACY)),
    "width": Experiment("How many kernels?", {
        f"× {factor:g}": Variant(widened(BASELINE, factor)) for factor in (1, 0.25, 0.5, 2)
    }, SIZES),
    "norm": Experiment("Batch normalisation: with or without, before or after ReLU?", {
        "before ReLU": BASE,
        "none": Variant(NO_NORM),
        "after ReLU": Variant(BASELINE.replace("norm relu", "relu norm")),
        "before ReLU, lr 0.001": replace(BASE, lr=0.001),
        "none, lr 0.001": Variant(NO_NORM, lr=0.001),
    }),
    "scale": Experiment("Does image normalisation matter?", inks(BASE), ACCURACY),
    "scale_no_norm": Experiment("Does it without batch normalisation?",
        inks(Variant(NO_NORM, lr=0.001)), ACCURACY),
    "pool_position": Experiment("After which of the six 3×3 convolutions?",
        pooling_after((2, 4), (1, 2), (2, 3), (4, 6)), FIELDS),
    "squeeze": Experiment("To how many channels should a transition squeeze?", networks({
        f"{n} channels": BASELINE.replace("conv1-8", f"conv1-{n}") for n in (8, 4, 32)
    }), SIZES),
    "transition_position": Experiment("Where do the 1×1 convolutions belong?", networks({
        "after each pooling": BASELINE, "before each pooling": TRANSITION_FIRST,
    }), SIZES),
    "dropout": Experiment("Dropout: how much, and where?", {
        name: replace(FEW, network=words) for name, words in DROPOUTS.items()
    }, GAP),
    "overfitting": Experiment("With how many images does the network overfit?", {
        "1,000 images, 5 epochs": replace(FEW, epochs=5),
        "10,000 images, 5 epochs": replace(FEW, images=10_000, epochs=5),
        "1,000 images, 20 epochs": FEW,
        "10,000 images, 20 epochs": replace(FEW, images=10_000),
        "10,000 images, 300 updates": replace(FEW, images=10_000, updates=300),
    }, GAP, compared=False),
    "pool_distance": Experiment("How near the prediction may the last max pooling come?",
        pooling_after((2, 4), (2, 3), (2, 6)), FIELDS),
    "norm_distance": Experiment("How near the prediction may batch normalisation come?", networks({
        "all blocks (the baseline)": BASELINE,
        "blocks 1 and 2 (MNISTNet)": MNISTNET,
        "block 1 alone": BLOCK + NO_NORM.removeprefix(BLOCK.replace("norm ", "")),
        "block 3 alone": NO_NORM.replace(BLOCK3.replace("norm ", ""), normed(BLOCK3)),
    }), ("dead channels", *ACCURACY)),
    "head": Experiment("When to stop convolving, and what then?",
        networks({name: matched(words) for name, words in {
            "at 3×3, then average": BASELINE,
            "at 3×3, then flatten": BASELINE.replace("gap ", ""),
            "at 7×7, then average": BLOCK + TRANSITION + BLOCK + "maxpool " + HEAD,  # no block 3
            "at 1×1": BASELINE.replace("valid3-16 norm", "valid3-16 norm relu valid3-16 norm"),
        }.items()}), SIZES),
    "batch": Experiment("What does the batch size change, in five epochs?", {
        "64, lr 0.01": BASE,
        "256, lr 0.01": replace(BASE, batch_size=256),
        "256, by the rule": replace(BASE, batch_size=256, lr=0.02, batch_factor=4),
    }, ("updates", *ACCURACY)),
    "dead": Experiment("Do dead channels cost accuracy?", {
        "leaky ReLU in block 3": Variant(LEAKY),
        "MNISTNet": OLD,
        "batch norm in all blocks": BASE,
    }, ("parameters", "dead channels", *ACCURACY)),
    "softmax": Experiment("How far can the probabilities be trusted?", {
        "baseline": replace(BASE, measure="softmax"),
        "baseline, 1,000 images": replace(FEW, measure="softmax"),
        "MNISTNet, 1,000 images": replace(
            FEW, network=re.sub(r"drop\d+ ", "", MNISTNET), measure="softmax"),
    }, (), compared=False),
    "all_images": Experiment("Does batch norm in block 3 also help with 50,000 images?", {
        name: Variant(network, images=50_000, batch_size=128) for name, network in {
            "baseline": BASELINE,
            "MNISTNet": MNISTNET,
        }.items()
    }, SIZES),
}
# fmt: on

FEWEST_SEEDS = 3  # for each variant
MORE_SEEDS = 10  # for the variants that others are compared with
SEEDS = {next(iter(experiment.variants.values())): MORE_SEEDS
         for experiment in EXPERIMENTS.values() if experiment.compared}  # fmt: skip
SEEDS |= dict.fromkeys(EXPERIMENTS["all_images"].variants.values(), 4)
SEEDS |= dict.fromkeys(EXPERIMENTS["field"].variants.values(), 6)
SEEDS |= {Variant(LEAKY): 6, replace(BASE, lr=1): 6}
