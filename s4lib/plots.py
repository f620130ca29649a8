"""Every figure of Part 2: functions that take data and return a matplotlib `Figure`."""

import functools

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours: distinct for colour-blind readers and, by lightness, in grey.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"

STYLE = {
    "axes.grid": True,
    "axes.prop_cycle": mpl.cycler(color=[BLUE, ORANGE, GREEN, PURPLE, GREY]),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 12,
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 150,
}


def styled(draw):
    """Draw with the project's style, whatever the reader's own matplotlib settings."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with mpl.rc_context({**mpl.rcParamsDefault, **STYLE, "backend": mpl.rcParams["backend"]}):
            return draw(*args, **kwargs)

    return wrapper


@styled
def image_grid(images, titles=None, columns: int = 10, title: str = "") -> Figure:
    """Grey images (N, 1, 28, 28) in rows of `columns`, the ink black, each with its own title."""
    rows = -(-len(images) // columns)
    fig = Figure(figsize=(columns, rows * (1.25 if titles else 1) + 0.4))
    axes = list(fig.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.axis("off")
    for ax, image, text in zip(axes, images, titles or [""] * len(images), strict=False):
        ax.imshow(image.squeeze().numpy(force=True), cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(text, fontsize=9, loc="center", pad=3)
    fig.suptitle(title, x=0.01, ha="left", fontsize=12)
    return fig


def samples(dataset, per_class: int = 5) -> Figure:
    """The first training images of every class, a column for each."""
    images, labels = dataset.train
    pick = torch.stack([(labels == digit).nonzero()[:per_class, 0] for digit in range(10)])
    return image_grid(images[pick.T.flatten()], title=f"{dataset.name}: training images")


def augmented(dataset, augment, versions: int = 9, count: int = 5) -> Figure:
    """Training images, each followed by what `augment` makes of it in `versions` draws."""
    images = dataset.train[0][:count].float()
    draws = torch.stack([images, *(augment(images) for _ in range(versions))], 1)
    title = f"{dataset.name}: the image as it is, then as nine different epochs see it"
    return image_grid(draws.flatten(0, 1), columns=versions + 1, title=title)


@styled
def model_loss(histories, goal: float = 99.4) -> Figure:
    """Loss and accuracy against epoch; of several runs the mean, with ±1 standard deviation."""
    first = histories[0]
    epochs = [epoch.epoch for epoch in first.epochs]
    fig = Figure(figsize=(11, 4.2))
    for ax, quantity, label in zip(
        fig.subplots(1, 2), ("loss", "accuracy"), ("loss", "accuracy (%)"), strict=True
    ):
        lowest = []
        for part, color, line in (("train", ORANGE, "--"), ("test", BLUE, "-")):
            name = f"{part}_{quantity}"
            values = np.array([[getattr(e, name) for e in h.epochs] for h in histories])
            mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else 0
            ax.plot(epochs, mean, line, color=color, marker=".", label=part)
            ax.fill_between(epochs, mean - spread, mean + spread, color=color, alpha=0.2, lw=0)
            lowest.append(mean[1:].min() if len(mean) > 1 else mean[0])
        for before, after in zip(first.epochs, first.epochs[1:], strict=False):
            if after.lr < before.lr:
                ax.axvline(before.epoch + 0.5, color=GREY, lw=1, ls=":")
                height, anchor = (0.98, "top") if quantity == "loss" else (0.02, "bottom")
                ax.text(
                    before.epoch + 0.6, height, f"lr {after.lr:g}", color=GREY, rotation=90,
                    va=anchor, transform=ax.get_xaxis_transform(), fontsize=9,
                )  # fmt: skip
        ax.set(xlabel="epoch", ylabel=label, xlim=(0.5, epochs[-1] + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        if quantity == "accuracy":
            ax.set_ylim(min(lowest) - 0.3, 100.05)
            ax.axhline(goal, color=GREY, lw=1, ls="-.", label=f"{goal} %")
        ax.legend(loc="center right", frameon=True, framealpha=1, edgecolor="white")
    runs = f"mean of {len(histories)} runs, ±1 s.d." if len(histories) > 1 else f"seed {first.seed}"
    fig.suptitle(f"{first.recipe['name']} on {first.dataset}, {runs}", x=0.01, ha="left")
    return fig


@styled
def confusion_matrix(labels, predictions, name: str) -> Figure:
    """How often each digit was taken for each; the right answers, far more, left uncoloured."""
    counts = torch.bincount(labels * 10 + predictions, minlength=100).view(10, 10).numpy(force=True)
    wrong = np.where(np.eye(10, dtype=bool), 0, counts)
    fig = Figure(figsize=(6.4, 6))
    ax = fig.subplots()
    ax.imshow(wrong, cmap="Oranges", vmax=max(4, wrong.max() * 1.3))
    for (true, predicted), count in np.ndenumerate(counts):
        if count:
            weight = "bold" if true == predicted else "normal"
            ax.text(predicted, true, count, ha="center", va="center", fontsize=9, weight=weight)
    ax.set(xticks=range(10), yticks=range(10), xlabel="predicted", ylabel="true digit")
    ax.grid(visible=False)
    ax.set_title(f"{name}: {wrong.sum():,} mistakes in {counts.sum():,} test images")
    return fig


def mistakes(images, labels, log_probs, name: str, count: int = 25) -> Figure:
    """The wrongly predicted images that the network was surest of, the surest first."""
    confidence, predictions = log_probs.exp().max(1)
    wrong = (predictions != labels).nonzero()[:, 0]
    wrong = wrong[confidence[wrong].argsort(descending=True)][:count]
    titles = [f"{labels[i]} as {predictions[i]}\n{100 * confidence[i]:.1f} %" for i in wrong]
    return image_grid(images[wrong], titles, 5, f"{name}: the most confident mistakes")
