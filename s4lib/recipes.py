"""How to train: named sets of hyperparameters."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from s4lib import UsageError
from s4lib.augment import random_affine
from s4lib.data import DATASETS


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run except the data, the seed and the device."""

    name: str
    epochs: int
    batch_size: int
    lr: float  # the highest
    optimizer: str  # adam, or muon: Muon for the convolutions and Adam for all else
    warm_up: float | None  # share of the run in which lr climbs, to fall to 0 in the rest; or
    milestones: tuple[float, ...]  # None, and after so many epochs lr is multiplied by gamma
    gamma: float
    label_smoothing: float  # share of the target that is spread over all ten digits
    dropout_block3: float
    dropout_head: float
    rotation: float  # degrees, up to which an image is turned either way
    shift: float  # pixels, up to which it is moved along either axis
    scale: float  # share, up to which it is shrunk or enlarged
    interpolation: str  # of the turned image: nearest, bilinear or bicubic
    plain: int  # epochs at the end in which images stay as they are

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"{name} must be a whole number, 1 or more, not {value!r}.")
        if not isinstance(self.lr, int | float) or not 0 < self.lr < math.inf:
            raise UsageError(f"lr must be a positive number, not {self.lr!r}.")

    def adjusted(
        self, epochs: int | None = None, batch_size: int | None = None, lr: float | None = None
    ) -> "Recipe":
        """This recipe with some of its numbers replaced.

        A shorter run has earlier milestones, and fewer plain epochs.
        """
        given = {"epochs": epochs, "batch_size": batch_size, "lr": lr}
        recipe = replace(
            self, **{name: value for name, value in given.items() if value is not None}
        )
        if recipe.epochs >= self.epochs:
            return recipe
        share = recipe.epochs / self.epochs
        milestones = tuple(share * epoch for epoch in self.milestones)
        return replace(recipe, milestones=milestones, plain=round(share * self.plain))

    def augmentation(
        self, generator: torch.Generator, epoch: int = 1
    ) -> Callable[[Tensor], Tensor]:
        """What happens to each of an epoch's batches, with `generator` for its random draws."""
        if epoch > self.epochs - self.plain:
            return lambda images: images
        return partial(
            random_affine,
            generator=generator,
            rotation=self.rotation,
            shift=self.shift,
            scale=self.scale,
            mode=self.interpolation,
        )


# The original's recipe; how far to turn was chosen on held-out training images.
CLASSIC = Recipe(
    name="classic",
    epochs=19,
    batch_size=128,
    lr=0.01,
    optimizer="adam",
    warm_up=None,
    milestones=(10, 15),
    gamma=0.1,
    label_smoothing=0,
    dropout_block3=0.10,
    dropout_head=0.15,
    rotation=7,
    shift=0,
    scale=0,
    interpolation="nearest",
    plain=0,
)

# Every choice was made on held-out training images: `python -m tests.benchmarks.ladder`.
FAST = replace(
    CLASSIC,
    name="fast",
    epochs=2,
    batch_size=64,
    lr=0.02,
    optimizer="muon",
    warm_up=0.15,
    milestones=(),
    label_smoothing=0.1,
    dropout_block3=0,
    dropout_head=0,
    interpolation="bilinear",
)

# Chosen on them, too; `python -m tests.benchmarks.ladder best` compares. At the end the network
# learns what it is tested on, digits as they are (He et al., 2019, "Data Augmentation Revisited",
# https://arxiv.org/abs/1909.09148).
BEST = replace(FAST, name="best", epochs=19, rotation=10, shift=1, scale=0.1, plain=2)

RECIPES = {recipe.name: recipe for recipe in (CLASSIC, FAST, BEST)}
DEFAULT = {"MNIST": FAST, "scikit-learn digits": replace(FAST, epochs=20)}  # which are few


def settings(recipe="classic", dataset="auto", epochs=None, seed=0) -> tuple[Recipe, str, int]:
    """A notebook's parameters, checked: the recipe with that many epochs, the data set, the seed.

    Numbers may be text, as environment variables are; no epochs are the recipe's own. Raises
    UsageError for anything else, with the choices.
    """
    if recipe not in [*RECIPES]:
        raise UsageError(f"There is no recipe {recipe!r}. Choose one of {', '.join(RECIPES)}.")
    if dataset not in DATASETS:
        raise UsageError(f"There is no data set {dataset!r}. Choose one of {', '.join(DATASETS)}.")
    if epochs in (None, ""):
        epochs = RECIPES[recipe].epochs
    for name, value, least in (("epochs", epochs, 1), ("seed", seed, 0)):
        if not str(value).isdecimal() or not least <= int(value) < 2**63:
            raise UsageError(f"{name} must be a whole number, {least} or more, not {value!r}.")
    return RECIPES[recipe].adjusted(epochs=int(epochs)), dataset, int(seed)
