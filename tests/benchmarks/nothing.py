"""What is no digit: fit the reject of s4lib/photos.py, and print what it costs and what it catches.

    python -m tests.benchmarks.nothing [--weights FILE]

Fitted on the last 10,000 training digits, as they are and deformed, against letters of the DejaVu
fonts and drawn shapes; tested on MNIST's test digits, which choose nothing, and on letters of other
fonts and other shapes. Writes s4lib/reject.npz, images/photos_reject.png and, in per cent, what
the library's page says, notebooks/results/nothing.json; do so again whenever the shipped weights
change. Prints a Markdown table.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor, nn

from notebooks.pictures import RESULTS
from s4lib.data import load, normalise
from s4lib.model import MNISTNet
from s4lib.photos import REJECT, SURE, TEMPERATURE, digit_score
from s4lib.runtime.checkpoint import SHIPPED_WEIGHTS, atomic_write, load_weights
from s4lib.train import predict
from tests.scenes import FONTS, OTHER_FONTS, deformed, letters, other_shapes, shapes

COST = 0.002  # of the digits that it is fitted on may be rejected
PICTURE = Path("images", "photos_reject.png")


def last_features(model: nn.Module, images: Tensor) -> np.ndarray:
    """What comes into the fully connected layer, (N, 32), of images uint8 (N, 1, 28, 28)."""
    seen = []
    hook = model.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predict(model, normalise(images))
    hook.remove()
    return torch.cat(seen).numpy()


def fit(digits: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """The quadratic form that separates the features of digits from those of other things."""
    scale, products = StandardScaler(), PolynomialFeatures(2, include_bias=False)
    model = make_pipeline(
        scale, products, LogisticRegression(C=0.05, max_iter=1000, class_weight="balanced")
    )
    model.fit(np.concatenate([digits, others]), np.repeat([1, 0], [len(digits), len(others)]))
    coefficients, count = model[-1].coef_[0], digits.shape[1]
    quadratic, linear = np.zeros((count, count)), np.zeros(count)
    for powers, value in zip(products.powers_, coefficients, strict=True):
        at = np.repeat(np.arange(count), powers)
        if len(at) == 1:
            linear[at[0]] = value
        else:
            quadratic[at[0], at[1]] += value / 2
            quadratic[at[1], at[0]] += value / 2
    # of (f - mean) / scale to of f
    quadratic /= np.outer(scale.scale_, scale.scale_)
    linear /= scale.scale_
    shifted = linear - 2 * quadratic @ scale.mean_
    constant = scale.mean_ @ quadratic @ scale.mean_ - linear @ scale.mean_
    return {"quadratic": quadratic, "linear": shifted, "constant": np.array(constant)}


def curve(scores: dict[str, np.ndarray]) -> Figure:
    """Of the other things, how many are rejected, against how many digits that costs."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    steps = np.linspace(0, 0.02, 200)
    limits = np.quantile(scores["MNIST's test digits"], steps)
    colours = {"letters of other fonts": "#D55E00", "other shapes": "#0072B2"}
    for kind, colour in colours.items():
        axes.plot(100 * steps, [100 * (scores[kind] < limit).mean() for limit in limits],
                  color=colour, label=kind)  # fmt: skip
    cost = 100 * (scores["MNIST's test digits"] < 0).mean()
    axes.axvline(cost, color="black", linewidth=0.8)
    axes.annotate(" as shipped", (cost, 4))
    axes.set(xlabel="true digits rejected, %", ylabel="rejected, %", ylim=(0, 101), xlim=(0, 2))
    axes.legend(loc="lower right", frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    args = parser.parse_args()
    model, dataset = load_weights(MNISTNet(), args.weights), load("mnist")
    images, labels = dataset.hold_out(10_000).test
    made = deformed(images, labels, 100, seed=1)
    digits = torch.cat([images, *(drawn for drawn, _ in made.values())])
    others = torch.cat([*(letters(FONTS, seed) for seed in range(5)), shapes(800, seed=0)])
    digits, others = (last_features(model, part) for part in (digits, others))
    fitted = fit(digits, others)
    fitted["constant"] = fitted["constant"] - np.quantile(digit_score(digits, fitted), COST)
    fitted = {name: value.astype(np.float32) for name, value in fitted.items()}
    np.savez(REJECT, **fitted, fc_bias=model.fc.bias.detach().numpy())

    made = deformed(images, labels, 40, seed=2)
    kinds = {
        "MNIST's test digits": dataset.test[0],
        "deformed digits": torch.cat([drawn for drawn, _ in made.values()]),
        "letters of other fonts": letters(OTHER_FONTS, seed=5),
        "other shapes": other_shapes(400, seed=5),
    }
    print("| what | rejected | sure otherwise |\n|---|---:|---:|")
    scores, found = {}, {}
    for kind, drawn in kinds.items():
        scores[kind] = digit_score(last_features(model, drawn), fitted)
        sure = (predict(model, normalise(drawn)) / TEMPERATURE).softmax(1).amax(1).numpy() >= SURE
        kept = scores[kind] > 0
        found[kind] = {"rejected": 100 * (~kept).mean(), "sure": 100 * (kept & sure).mean()}
        print("| {} | {rejected:.2f}% | {sure:.1f}% |".format(kind, **found[kind]))
    atomic_write(RESULTS / "nothing.json", (json.dumps(found, indent=1) + "\n").encode())
    curve(scores).savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
