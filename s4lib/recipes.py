"""How to train: named sets of hyperparameters."""

import math
from dataclasses import dataclass

from s4lib import UsageError


@dataclass(frozen=True)
class Recipe:
    """All that decides a training run except the data, the seed and the device."""

    name: str
    epochs: int
    batch_size: int
    lr: float  # Adam's
    milestones: tuple[int, ...]  # epochs after which lr is multiplied by gamma
    gamma: float
    dropout_block3: float
    dropout_head: float
    rotation: float  # degrees, up to which an image is turned either way
    interpolation: str  # of the turned image: nearest, bilinear or bicubic

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"lr must be a positive number, not {self.lr}.")


# The original's recipe; how far to turn was chosen on held-out training images.
CLASSIC = Recipe(
    name="classic",
    epochs=19,
    batch_size=128,
    lr=0.01,
    milestones=(10, 15),
    gamma=0.1,
    dropout_block3=0.10,
    dropout_head=0.15,
    rotation=5,
    interpolation="bilinear",
)

RECIPES = {recipe.name: recipe for recipe in (CLASSIC,)}
