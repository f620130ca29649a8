"""`python -m notebooks.pictures`: the pictures of Part 2 again, from results, weights and MNIST."""

from pathlib import Path

import torch

from s4lib import CLASSIC, MNISTNet, history, load, plots, predict
from s4lib.__main__ import save_figure
from s4lib.runtime.checkpoint import load_weights

ROOT = Path(__file__).parents[1]


def main(out: Path = ROOT / "images") -> None:
    digits = load("mnist")
    images, labels = digits.test
    log_probs = predict(load_weights(MNISTNet()), digits.normalise(images))
    runs = history.parse((ROOT / "notebooks/results/classic.json").read_text())
    augment = CLASSIC.augmentation(torch.Generator().manual_seed(0))
    for name, figure in {
        "samples": plots.samples(digits),
        "augmented": plots.augmented(digits, augment),
        "modelloss": plots.model_loss(runs),
        "confusion_matrix": plots.confusion_matrix(labels, log_probs.argmax(1), digits.name),
        "mistakes": plots.mistakes(images, labels, log_probs, digits.name),
    }.items():
        save_figure(figure, out / f"{name}.png")


if __name__ == "__main__":
    main()
