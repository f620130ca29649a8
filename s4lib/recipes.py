"""How to train: named sets of hyperparameters."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from s4lib.augment import random_affine
from s4lib.data import DATASETS
from s4lib.runtime import UsageError

NUMBERS = {  # of each, the type, and from where to where it may be
    "epochs": (int, 1, math.inf),
    "batch_size": (int, 1, math.inf),
    "lr": (float, 1e-12, math.inf),
    "warm_up": (float, 1e-12, 0.999),
    "gamma": (float, 1e-12, 1),
    "label_smoothing": (float, 0, 1),
    "rotation": (float, 0, 180),
    "translate": (float, 0, 28),
    "scale": (float, 0, 0.999),
    "plain_epochs": (int, 0, math.inf),
    "ema_decay": (float, 0, 0.999999),
    "ema_every": (int, 1, math.inf),
}
CHOICES = {"optimizer": ("adam", "muon"), "interpolation": ("nearest", "bilinear", "bicubic")}


def check_number(name: str, value, kind: type, low: float, high: float) -> None:
    """Raises UsageError unless `value` is a number of that kind in that range."""
    types = (int,) if kind is int else (int, float)
    if type(value) not in types or not low <= value <= high or value == math.inf:
        what = "a whole number" if kind is int else "a number"
        to = f"from {low} on" if high == math.inf else f"from {low} to {high}"
        raise UsageError(f"{name} must be {what} {to}, not {value!r}.")


def check_choice(name: str, value, choices) -> None:
    """Raises UsageError unless `value` is one of them."""
    if value not in [*choices]:
        raise UsageError(f"There is no {name} {value!r}. Choose one of {', '.join(choices)}.")


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run except the network, the data, the seed and the device.

    Raises UsageError for a value that can't be.
    """

    name: str
    epochs: int
    batch_size: int
    lr: float  # the highest
    optimizer: str  # adam, or muon: Muon for the convolutions and Adam for all else
    warm_up: float | None  # share of the run in which lr climbs, to fall to 0 in the rest; or
    milestones: tuple[float, ...]  # None, and after so many epochs lr is multiplied by gamma
    gamma: float
    label_smoothing: float  # share of the target that is spread over all ten digits
    rotation: float  # degrees, up to which an image is rotated either way
    translate: float  # pixels, up to which it is moved along either axis
    scale: float  # share, up to which it is shrunk or enlarged
    interpolation: str  # of the rotated image: nearest, bilinear or bicubic
    plain_epochs: int  # epochs at the end in which images stay as they are
    ema_decay: float  # of the moving average of the weights, which is then the result; 0: none
    ema_every: int  # steps from one update of the average to the next

    def __post_init__(self):
        for name, limits in NUMBERS.items():
            if (name, getattr(self, name)) != ("warm_up", None):
                check_number(name, getattr(self, name), *limits)
        for name, choices in CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        if not isinstance(self.milestones, tuple):
            raise UsageError(f"milestones must be a tuple, not {self.milestones!r}.")
        for milestone in self.milestones:
            check_number("Each of milestones", milestone, float, 1e-12, math.inf)
        if [*self.milestones] != sorted(self.milestones):
            raise UsageError(f"milestones must be in ascending order, not {self.milestones!r}.")

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
        return replace(recipe, milestones=milestones, plain_epochs=round(share * self.plain_epochs))

    def augmentation(
        self, generator: torch.Generator, epoch: int = 1
    ) -> Callable[[Tensor], Tensor]:
        """What happens to each of an epoch's batches, with `generator` for its random draws."""
        if epoch > self.epochs - self.plain_epochs:
            return lambda images: images
        return partial(
            random_affine,
            generator=generator,
            rotation=self.rotation,
            translate=self.translate,
            scale=self.scale,
            mode=self.interpolation,
        )


# The original's recipe; how far to rotate was chosen on held-out training images.
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
    rotation=7,
    translate=0,
    scale=0,
    interpolation="nearest",
    plain_epochs=0,
    ema_decay=0,
    ema_every=1,
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
    interpolation="bilinear",
)

# Chosen on them, too; `python -m tests.benchmarks.ladder best` compares. At the end the network
# learns what it is tested on, digits as they are (He et al., 2019, "Data Augmentation Revisited",
# https://arxiv.org/abs/1909.09148).
BEST = replace(FAST, name="best", epochs=19, rotation=10, translate=1, scale=0.1, plain_epochs=2)

# BEST, whose weights are averaged as training goes on: a large learning rate leaves each of them
# somewhere around a good value, and their mean near it, from the first epochs on.
CONSISTENT = replace(BEST, name="consistent", ema_decay=0.99, ema_every=4)

RECIPES = {recipe.name: recipe for recipe in (CLASSIC, FAST, BEST, CONSISTENT)}


def settings(recipe="classic", dataset="auto", epochs=None, seed=0) -> tuple[Recipe, str, int]:
    """A notebook's parameters, checked: the recipe with that many epochs, the data set, the seed.

    The environment's S4_RECIPE, S4_DATASET, S4_EPOCHS and S4_SEED go before. No epochs are the
    recipe's own. Raises UsageError for anything else.
    """
    recipe, dataset, epochs, seed = (
        os.environ.get(f"S4_{name}") or value
        for name, value in zip(
            ("RECIPE", "DATASET", "EPOCHS", "SEED"), (recipe, dataset, epochs, seed), strict=True
        )
    )
    check_choice("recipe", recipe, RECIPES)
    check_choice("data set", dataset, DATASETS)
    epochs = RECIPES[recipe].epochs if epochs in (None, "") else epochs
    numbers = [int(n) if str(n).isdecimal() else n for n in (epochs, seed)]
    check_number("epochs", numbers[0], int, 1, math.inf)
    check_number("seed", numbers[1], int, 0, 2**63 - 1)
    return RECIPES[recipe].adjusted(epochs=numbers[0]), dataset, numbers[1]
