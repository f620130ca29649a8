"""Load the digits, and form batches from them."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from s4lib.runtime import UsageError, check_choice, check_number
from s4lib.runtime.distributed import all_reduce, shard, world_size
from s4lib.runtime.download import read_mnist

DATASETS = ("auto", "mnist", "digits")
SHORT_NAMES = {"MNIST": "mnist", "scikit-learn digits": "digits"}

MNIST_MEAN, MNIST_STD = 0.1307, 0.3081

Pairs = tuple[Tensor, Tensor]


def normalise(images: Tensor, mean: float = MNIST_MEAN, std: float = MNIST_STD) -> Tensor:
    """Turn ink from 0 to 255 into float32; over the training set its mean is 0, its deviation 1."""
    return (images - 255.0 * mean).div_(255 * std)  # 255.0: a mean of 0 must not leave bytes


@dataclass(frozen=True)
class Dataset:
    """Digits: uint8 images (N, 1, 28, 28), 0 for paper and 255 for ink; int64 labels (N,)."""

    name: str
    train: Pairs
    test: Pairs
    mean: float = MNIST_MEAN  # of the training pixels, as a fraction of full ink
    std: float = MNIST_STD

    def to(self, device: torch.device | str) -> "Dataset":
        """Return the same digits with all tensors in the memory of `device`."""
        train, test = (tuple(t.to(device) for t in pairs) for pairs in (self.train, self.test))
        return replace(self, train=train, test=test)

    def normalise(self, images: Tensor) -> Tensor:
        return normalise(images, self.mean, self.std)

    def hold_out(self, count: int) -> "Dataset":
        """Use the last `count` training images for testing, so that the test set chooses nothing.

        Raises UsageError if no image would be left to train on, or none to test on.
        """
        images, labels = self.train
        check_number("The number of images to hold out", count, int, 1, len(labels) - 1)
        return replace(
            self,
            name=f"{self.name}, {count:,} training images held out",
            train=(images[:-count], labels[:-count]),
            test=(images[-count:], labels[-count:]),
        )


def load(name: str = "auto", root: str | os.PathLike | None = None) -> Dataset:
    """Load `mnist`, or the `digits` bundled with scikit-learn; `auto` uses MNIST if possible.

    MNIST is read from `root` (else `$S4_DATA`, else `./data`), in the layout of torchvision or of
    Kaggle, and is downloaded to there if it is missing. Raises UsageError for an unknown name, for
    a damaged file, and for `mnist` if it can't be downloaded.
    """
    check_choice("data set", name, DATASETS)
    if name == "digits":
        return load_digits()
    root = Path(root or os.environ.get("S4_DATA") or "data").expanduser()
    try:
        return load_mnist(root)
    except OSError as error:
        if name == "mnist":
            raise UsageError(
                f"MNIST is not in {root} and can't be fetched ({error}).\n"
                "Put its four files there, or choose the bundled data set, digits."
            ) from error
        print(f"No MNIST in {root} ({error}): using scikit-learn's 1,797 digits instead.")
        return load_digits()


def load_mnist(root: Path) -> Dataset:
    """MNIST by LeCun, Cortes and Burges: 60,000 training and 10,000 test images.

    Raises UsageError for a damaged file, OSError if a missing one can't be downloaded.
    """
    files = {
        name: torch.from_numpy(np.frombuffer(content, np.uint8).copy())
        for name, content in read_mnist(root).items()
    }
    train, test = (
        (
            files[f"{part}-images-idx3-ubyte"][16:].view(-1, 1, 28, 28),  # after the header
            files[f"{part}-labels-idx1-ubyte"][8:].long(),
        )
        for part in ("train", "t10k")
    )
    return Dataset("MNIST", train, test)


def load_digits() -> Dataset:
    """The 1,797 digits bundled with scikit-learn, enlarged from 8×8 to MNIST's 20×20 in 28×28."""
    from sklearn import datasets, model_selection  # a second of import that MNIST doesn't need

    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) * (255 / 16)
    images = F.interpolate(images, size=(20, 20), mode="bicubic", align_corners=False)
    images = F.pad(images, (4, 4, 4, 4)).round().clamp(0, 255).byte()
    train_images, test_images, train_labels, test_labels = model_selection.train_test_split(
        images, torch.from_numpy(bunch.target), test_size=360, stratify=bunch.target, random_state=0
    )
    pixels = train_images.double() / 255
    return Dataset(
        "scikit-learn digits",
        (train_images, train_labels),
        (test_images, test_labels),
        mean=pixels.mean().item(),
        std=pixels.std().item(),
    )


@dataclass
class Batches:
    """Iterate over a data set's training images in batches, in a new random order on every pass.

    The last, incomplete batch is left out. A batch is selected, given to `augment` as float ink
    from 0 to 255, and normalised, all on the images' device. Each item is float32 (B, 1, 28, 28)
    and int64 labels (B,); each of several processes gets its own shard of both. Raises UsageError
    if `batch_size` is larger than the data set, or can't be divided equally among the processes.

    With a `share` below 1, a pass shows only that share of the images: first those that have not
    been shown yet, then those with the highest loss when they were last shown. `record` stores
    these losses; only such a pass needs it.
    """

    dataset: Dataset
    batch_size: int
    generator: torch.Generator  # on the images' device
    augment: Callable[[Tensor], Tensor] = lambda images: images
    share: float = 1

    def __post_init__(self):
        labels = self.dataset.train[1]
        self.losses = torch.full(labels.shape, torch.inf, device=labels.device)
        if self.batch_size > len(labels):
            raise UsageError(
                f"A batch of {self.batch_size:,} is larger than the {len(labels):,} "
                f"training images of {self.dataset.name}. Choose a smaller batch size."
            )
        if self.batch_size % world_size():
            raise UsageError(
                f"A batch of {self.batch_size} can't be shared equally among {world_size()} "
                "processes. Choose another batch size, or other --nproc_per_node."
            )

    def steps(self, share: float) -> int:
        """Return the number of batches of a pass over such a share of the images, at least one."""
        return max(1, round(share * len(self.losses)) // self.batch_size)

    def __len__(self) -> int:
        return self.steps(self.share)

    def __str__(self) -> str:
        """Describe for the log what a pass shows; empty if it shows all images."""
        count = len(self) * self.batch_size
        return f", the {count:,} images of highest loss" if self.share < 1 else ""

    def __iter__(self) -> Iterator[Pairs]:
        images, labels = self.dataset.train
        order = torch.randperm(len(labels), generator=self.generator, device=labels.device)
        if self.share < 1:
            hardest = self.losses[order].topk(len(self) * self.batch_size).indices
            order = order[hardest.sort().values]  # shuffled as before, not by loss
        order = order[: len(self) * self.batch_size]
        self.losses[order] = 0
        for pick in order.split(self.batch_size):
            # index_select copies whole images, a tenth of the time that images[pick] takes.
            chosen = self.augment(images.index_select(0, pick).float())
            (self.shown,) = shard(pick)
            yield shard(self.dataset.normalise(chosen), labels.index_select(0, pick))
        (self.losses[order],) = all_reduce(self.losses[order])

    def record(self, log_probs: Tensor) -> None:
        """Store the losses of the images shown last, from their log-probabilities (B, 10)."""
        labels = self.dataset.train[1].index_select(0, self.shown)
        losses = F.nll_loss(log_probs.float(), labels, reduction="none")
        self.losses.index_copy_(0, self.shown, losses)

    def state_dict(self) -> dict[str, Tensor]:
        return {"losses": self.losses}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.losses.copy_(state["losses"])
