"""Two examples that MNIST is often begun with, and the original's way: the race's company.

    python -m tests.benchmarks.peers [--epochs 1]

PyTorch's (github.com/pytorch/examples, `mnist/main.py`) and Keras's small convnet
(github.com/keras-team/keras-io, `mnist_convnet.py`; its layers and numbers, in PyTorch). Each
feeds its network as its authors do: PyTorch's transforms image by image in a `DataLoader`, which
without a GPU keeps the order of the file; Keras's keeps all images in memory as floats, shuffles
them, and holds the last tenth out for validation. Both are tested after every epoch.
"""

import argparse
import os
import time
from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST
from tqdm import tqdm

from s4lib.data import MNIST_MEAN, MNIST_STD, load
from s4lib.model import MNISTNet
from s4lib.recipes import CLASSIC
from s4lib.runtime.device import choose_device

TEST_BATCH = 1000


def original_way():
    """The original's loader, network and optimizer: (train on some batches, test, schedule)."""
    device = choose_device()
    to_normal = [transforms.ToTensor(), transforms.Normalize((MNIST_MEAN,), (MNIST_STD,))]
    turn = transforms.RandomRotation((-CLASSIC.rotation, CLASSIC.rotation))
    workers = {"num_workers": 4, "pin_memory": True} if device.type == "cuda" else {}
    train_loader, test_loader = (
        DataLoader(
            MNIST(
                os.environ.get("S4_DATA", "data"), train=training, transform=transforms.Compose(way)
            ),
            CLASSIC.batch_size,
            shuffle=True,
            drop_last=training,
            **workers,
        )
        for training, way in ((True, [turn, *to_normal]), (False, to_normal))
    )
    model = MNISTNet().to(device)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.ReLU):
            model.set_submodule(name, nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters(), CLASSIC.lr)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, CLASSIC.milestones, CLASSIC.gamma)

    def train_on(batches):
        model.train()
        correct = 0
        with open(os.devnull, "w") as null, tqdm(total=batches, file=null) as bar:
            for images, labels in islice(train_loader, batches):
                images, labels = images.to(device), labels.to(device)
                optimizer.zero_grad()
                log_probs = model(images)
                loss = F.nll_loss(log_probs, labels)
                loss.backward()
                optimizer.step()
                correct += (log_probs.argmax(1) == labels).sum().item()
                bar.set_description(f"loss={loss.item()}")
                bar.update()

    @torch.no_grad()
    def test():
        model.eval()
        correct = 0
        for images, labels in test_loader:
            log_probs = model(images.to(device))
            correct += (log_probs.argmax(1) == labels.to(device)).sum().item()
        return 100 * correct / len(test_loader.dataset)

    return train_on, test, schedule


def pytorch_network() -> nn.Sequential:
    """1,199,882 parameters."""
    features = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    hidden = [nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*features, *hidden, nn.Linear(128, 10), nn.LogSoftmax(dim=1))


def keras_network() -> nn.Sequential:
    """34,826 parameters, initialised as Keras does: Glorot's uniform kernels, biases of 0."""
    first = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    head = [nn.Flatten(), nn.Dropout(0.5), nn.Linear(1600, 10), nn.LogSoftmax(dim=1)]
    network = nn.Sequential(*first, *second, *head)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return network


def pytorch_batches(training: bool, device: torch.device) -> DataLoader:
    """PyTorch's example: every image is converted and normalised when its batch is made."""
    to_normal = [transforms.ToTensor(), transforms.Normalize((MNIST_MEAN,), (MNIST_STD,))]
    root = os.environ.get("S4_DATA", "data")
    digits = MNIST(root, train=training, transform=transforms.Compose(to_normal))
    accelerated = {"num_workers": 1, "pin_memory": True, "shuffle": True}
    more = accelerated if device.type == "cuda" else {}
    return DataLoader(digits, 64 if training else TEST_BATCH, **more)


class KerasBatches:
    """Keras's example: images from 0 to 1, the first nine tenths of them shuffled every epoch."""

    def __init__(self, training: bool, device: torch.device):
        dataset = load("mnist")
        images, labels = dataset.train if training else dataset.test
        count = len(labels) * 9 // 10 if training else len(labels)
        self.images, self.labels = (images[:count] / 255).to(device), labels[:count].to(device)
        self.training = training

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.labels)
        order = torch.randperm(count) if self.training else torch.arange(count)
        for pick in order.split(128 if self.training else TEST_BATCH):
            yield self.images[pick], self.labels[pick]


PEERS = {  # name: (network, batches, epochs, optimizer, the learning rate's factor per epoch)
    "PyTorch's example": (pytorch_network, pytorch_batches, 14, torch.optim.Adadelta, 1.0, 0.7),
    "Keras's example": (keras_network, KerasBatches, 15, torch.optim.Adam, 0.001, 1.0),
}


def train(name: str, seed: int, epochs: int | None = None) -> dict:
    """Train a peer for its own number of epochs, or `epochs`.

    Returns its `seconds` since the start and `accuracies` (%) on the test images, by epoch, and
    its number of `parameters`. Reading the data and all tests count.
    """
    start = time.perf_counter()
    torch.manual_seed(seed)
    device = choose_device()
    make, batches, own, optimizer_class, lr, gamma = PEERS[name]
    network = make().to(device)
    train_batches, test_batches = batches(True, device), batches(False, device)
    optimizer = optimizer_class(network.parameters(), lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma)
    seconds, accuracies = [], []
    for _ in range(epochs or own):
        network.train()
        for images, labels in train_batches:
            optimizer.zero_grad()
            F.nll_loss(network(images.to(device)), labels.to(device)).backward()
            optimizer.step()
        schedule.step()
        accuracies.append(accuracy(network, test_batches, device))
        seconds.append(time.perf_counter() - start)
    count = sum(parameter.numel() for parameter in network.parameters())
    return {"seconds": seconds, "accuracies": accuracies, "parameters": count}


@torch.no_grad()
def accuracy(network: nn.Module, batches, device: torch.device) -> float:
    """Per cent of a test set's images that the network gets right."""
    network.eval()
    right = []
    for images, labels in batches:
        right.append(network(images.to(device)).argmax(1) == labels.to(device))
    return 100 * torch.cat(right).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="fewer than the example's own")
    epochs = parser.parse_args().epochs
    print("| example | parameters | epochs | seconds | accuracy |\n|---|---:|---:|---:|---:|")
    for name in PEERS:
        run = train(name, seed=0, epochs=epochs)
        print(
            f"| {name} | {run['parameters']:,} | {len(run['seconds'])} "
            f"| {run['seconds'][-1]:.1f} | {run['accuracies'][-1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
