"""Find the images that excite a channel most and least, which hint at what it responds to.

The network is the one that comes with s4lib; the images are the first 3,000 of MNIST's test images.
Their results choose nothing.
"""

import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from s4lib import MNISTNet
from s4lib.data import Dataset
from s4lib.history import markdown
from s4lib.plots import ORANGE, Figure, activations, styled
from s4lib.receptive_field import receptive_fields
from s4lib.runtime.checkpoint import atomic_write, load_weights

FILE = "channels.json"
STAGES = {"block 1": "block1.relu2", "block 2": "block2.relu2", "block 3": "block3.relu2"}
SHOWN = 3  # channels of each stage: the first ones that are not dead
LOOKED_AT = 3_000  # images
IMAGES = 9  # so many that excite a channel most, and as many that excite it least


class Excitement(NamedTuple):
    """The largest activation of each channel after a layer, for every image, and its position."""

    highest: Tensor  # (N, channels)
    position: Tensor  # (N, channels), counted row by row over the map


@torch.no_grad()
def excitement(model: MNISTNet, dataset: Dataset) -> dict[str, Excitement]:
    """Measure how much each test image excites the channels of each of STAGES."""
    found = {layer: [] for layer in STAGES.values()}
    for images in dataset.test[0][:LOOKED_AT].split(500):
        for layer, maps in activations(model, dataset.normalise(images), STAGES.values()).items():
            found[layer].append(maps.flatten(2).max(2))
    return {
        stage: Excitement(*(torch.cat(batches) for batches in zip(*found[layer], strict=True)))
        for stage, layer in STAGES.items()
    }


def extremes(highest: Tensor) -> tuple[Tensor, Tensor]:
    """Return the images that excite one channel most and least, from its activations (N,)."""
    order = highest.argsort(descending=True, stable=True)
    return order[:IMAGES], order[-IMAGES:].flip(0)


def alive(highest: Tensor) -> list[int]:
    """Return the channels that some image excites."""
    return (highest.amax(0) > 0).nonzero().flatten().tolist()


def agreement(labels: Tensor) -> int:
    """Return how many of these images show the digit that is commonest among them."""
    return int(labels.bincount().max())


def measured(found: dict[str, Excitement], dataset: Dataset) -> dict[str, dict]:
    """Return for each stage how many extreme images of a channel show one digit, on average."""
    labels = dataset.test[1][:LOOKED_AT]
    draws = torch.randint(len(labels), (1_000, IMAGES), generator=torch.Generator().manual_seed(0))
    result = {"any images": {"most": mean(map(agreement, labels[draws]))}}
    for stage, (highest, _) in found.items():
        ends = [extremes(highest[:, channel]) for channel in alive(highest)]
        most, least = ([agreement(labels[end]) for end in ones] for ones in zip(*ends, strict=True))
        result[stage] = {"channels": len(ends), "most": mean(most), "least": mean(least)}
    return result


def table(folder: Path) -> str | None:
    """Return the table of what `folder` keeps, in Markdown."""
    if not (folder / FILE).exists():
        return None
    rows = [
        [stage, *(f"{measured[key]:{form}}" if key in measured else "" for key, form in
                  (("channels", "d"), ("most", ".1f"), ("least", ".1f")))]
        for stage, measured in json.loads((folder / FILE).read_text("utf-8")).items()
    ]  # fmt: skip
    header = ["after", "channels", f"of the {IMAGES} most exciting", f"of the {IMAGES} least"]
    return markdown(header, rows)


def square(layer: str, position: int) -> tuple[float, float, int]:
    """Return left, top and side of the pixels that an activation sees, from its position."""
    centre, jump = 0.0, 1  # of the map's first activation; distance to the next
    for row in receptive_fields(MNISTNet()):
        centre += ((row.kernel - 1) / 2 - row.padding) * jump
        jump = row.jump
        if row.layer == layer.replace("relu", "conv"):
            break
    y, x = divmod(position, row.size)
    corner = centre - (row.receptive_field - 1) / 2
    return corner + x * jump, corner + y * jump, row.receptive_field


@styled
def figure(found: dict[str, Excitement], dataset: Dataset) -> Figure:
    """Draw a row for each channel: on the left the images that excite it most, on the right those
    that excite it least. A frame is around what the most excited activation sees.
    """
    rows = [(stage, channel) for stage in found for channel in alive(found[stage].highest)[:SHOWN]]
    fig = Figure(figsize=(11, 0.62 * len(rows) + 0.4))
    axes = fig.subplots(len(rows), 2 * IMAGES + 1)
    for line, (stage, channel) in zip(axes, rows, strict=True):
        most, least = extremes(found[stage].highest[:, channel])
        line[0].set_ylabel(f"{stage}\n#{channel}", rotation=0, ha="right", va="center", fontsize=9)
        for ax, image in zip(line, [*most, None, *least], strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if image is None:
                ax.axis("off")
                continue
            ax.imshow(dataset.test[0][image, 0], cmap="gray_r", vmin=0, vmax=255)
            if ax in line[:IMAGES]:
                left, top, side = square(STAGES[stage], int(found[stage].position[image, channel]))
                ax.add_patch(
                    Rectangle((left - 0.5, top - 0.5), side, side, fill=False, ec=ORANGE, lw=1.2)
                )
            ax.set(xlim=(-0.5, 27.5), ylim=(27.5, -0.5))
    axes[0][IMAGES // 2].set_title("most exciting", fontsize=10)
    axes[0][-1 - IMAGES // 2].set_title("least exciting", fontsize=10)
    return fig


def make(dataset: Dataset, folder: Path) -> Figure:
    """Measure, keep the result in `folder`, and draw it."""
    found = excitement(load_weights(MNISTNet()), dataset)
    atomic_write(folder / FILE, json.dumps(measured(found, dataset), indent=1).encode())
    return figure(found, dataset)
