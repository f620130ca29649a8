"""What a run measured, epoch by epoch."""

import json
import platform
from dataclasses import asdict, dataclass, field

import torch
import torchvision

from s4lib import UsageError, __version__


@dataclass
class Epoch:
    """One pass over the training set and the test that follows it."""

    epoch: int  # from 1
    lr: float  # of the epoch's first batch
    train_loss: float  # mean over the examples seen, while the weights were changing
    train_accuracy: float  # per cent of them
    test_loss: float  # mean over all test images
    test_accuracy: float  # per cent of them
    test_correct: int
    test_images: int
    seconds: float  # training and test

    def log(self) -> str:
        """The epoch's lines in the log, below its progress bar."""
        return (
            f"Train Accuracy: {self.train_accuracy:.2f} %   Train Loss: {self.train_loss:.4f}\n"
            f"Test Accuracy:  {self.test_accuracy:.2f} %   Test Loss:  {self.test_loss:.4f}\n"
            "Number of correct predictions in test set: "
            f"{self.test_correct}/{self.test_images}   ({self.seconds:.1f} s)\n"
        )


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "s4lib": __version__,
    }


@dataclass
class History:
    """What was trained, on what, with what, and how it went."""

    recipe: dict
    dataset: str
    seed: int
    device: str
    precision: str
    versions: dict[str, str] = field(default_factory=versions)
    epochs: list[Epoch] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> "History":
        """The inverse of `to_json`. Raises UsageError when `text` is something else."""
        try:
            values = json.loads(text)
            epochs = [Epoch(**epoch) for epoch in values.pop("epochs")]
            return cls(**values, epochs=epochs)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"That is not a run's history: {error}") from error
