"""What is no digit: fit the reject of s4lib/photos.py, and print what it costs and what it catches.

    python -m tests.benchmarks.nothing [--weights FILE] [--count 20]

Fitted on the last training digits, which the shipped weights have seen, as they are, deformed and
photographed, against letters of the DejaVu fonts and drawn shapes. Tested on MNIST's test digits,
on letters of other fonts and other shapes, on photographs of other digits, and on pictures of text,
faces and flowers. The features were compared on these letters and shapes and on 4,000 of the test
digits, so their rates are slightly favourable. Writes s4lib/reject.npz, images/photos_reject.png
and, in per cent, notebooks/results/nothing.json, and fills in the library's page; do so again
whenever the shipped weights change.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.linalg import eigh, solve
from torch import Tensor

from notebooks.pictures import RESULTS, fill
from s4lib import photos
from s4lib.data import load
from s4lib.history import markdown
from s4lib.model import MNISTNet
from s4lib.photos import NOTHING, REJECT, SURE, TEMPERATURE, answers, digit_score, look
from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import SHIPPED_WEIGHTS, atomic_write, load_weights
from tests.benchmarks.photos import read_all
from tests.scenes import (
    FONTS,
    OTHER_FONTS,
    deformed,
    letters,
    nothings,
    other_shapes,
    photographs,
    shapes,
)

FITTED = 2500  # training digits that the form is fitted on, besides deformed ones
COST = 0.0035  # of 5,000 others may be rejected
RIDGE = 0.1  # what is added to the diagonal
AXES = 32  # of the quadratic form are kept
PICTURE = Path("images", "photos_reject.png")
COLUMNS = ("rejected", "sure", "sure pieces, with `--many`")


def fit(digits: np.ndarray, others: np.ndarray) -> dict[str, np.ndarray]:
    """Fit a quadratic form of features (N, 240) to +1 for digits, -1 for other things.

    A ridge regression by the kernel (1 + x·y)², whose dual coefficients give the form. Squares are
    better here than the logistic loss: they pull all digits to one value, so that few are lost.
    """
    features = np.concatenate([digits, others])
    mean, scale = features.mean(0), features.std(0) + 1e-3
    scale *= np.sqrt(len(mean))
    x = (features - mean) / scale
    target = np.repeat([1.0, -1.0], [len(digits), len(others)])
    kernel = (1 + x @ x.T) ** 2 + RIDGE * np.eye(len(x), dtype=x.dtype)
    dual = solve(kernel, target, assume_a="pos", overwrite_a=True)
    values, vectors = eigh(x.T @ (dual[:, None] * x))
    strongest = np.abs(values).argsort()[-AXES:]
    return {
        "mean": mean,
        "axes": vectors[:, strongest] / scale[:, None],
        "weights": values[strongest],
        "linear": 2 * x.T @ dual / scale,
        "constant": dual.sum(),
    }


def photographed(images: Tensor, labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return what is read in `count` photographs of each kind, (N, 1, 28, 28), and its labels."""
    found = []
    for pictures, names in photographs(images, labels, count, seed).values():
        digits, could = read_all(photos, pictures)
        found.append((digits[could], torch.tensor(names)[could]))
    return tuple(map(torch.cat, zip(*found, strict=True)))


def curve(scores: dict[str, np.ndarray]) -> Figure:
    """Draw how many of the other things are rejected against how many digits that costs."""
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


def said_of(model, picture, path: Path, many: bool) -> list[str]:
    """Return the answers to a picture; one that is refused gives NOTHING."""
    picture.save(path)
    try:
        return answers(model, photos.read_digits(path) if many else photos.read_digit(path)[None])
    except UsageError:
        return [NOTHING]


def is_sure(text: str) -> bool:
    return text != NOTHING and not text.startswith("not sure")


def tables(kept: dict) -> dict[str, str]:
    """Return the library's table of images and of pictures of no digit."""
    cells = [
        [kind, *(f"{shares[name]:.1f}%" if name in shares else "" for name in COLUMNS)]
        for kind, shares in kept.items()
    ]
    return {"python -m tests.benchmarks.nothing": markdown(["what", *COLUMNS], cells)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--count", type=int, default=20, help="pictures of each kind (20)")
    args = parser.parse_args()
    model, dataset = load_weights(MNISTNet(), args.weights), load("mnist")
    images, labels = dataset.hold_out(10_000).test
    made = deformed(images[:FITTED], labels[:FITTED], 50, seed=1)
    seen, _ = photographed(images[:FITTED], labels[:FITTED], 20, seed=1)
    digits = torch.cat([images[:FITTED], *(drawn for drawn, _ in made.values()), seen])
    others = torch.cat([*(letters(FONTS, seed) for seed in range(5)), shapes(1500, seed=0)])
    fitted = fit(*(look(model, part)[1] for part in (digits, others)))
    fresh = digit_score(look(model, images[-5000:])[1], fitted)
    fitted["constant"] -= np.quantile(fresh, COST)
    fitted = {name: value.astype(np.float16) for name, value in fitted.items()}
    np.savez_compressed(REJECT, **fitted, fc_bias=model.fc.bias.detach().numpy())

    made = deformed(images[FITTED:5000], labels[FITTED:5000], 40, seed=2)
    seen, answer = photographed(images[-5000:], labels[-5000:], args.count, seed=2)
    kinds = {
        "MNIST's test digits": dataset.test[0],
        "deformed digits": torch.cat([drawn for drawn, _ in made.values()]),
        "photographed digits": seen,
        "those of them that are read right": seen[look(model, seen)[0].argmax(1) == answer],
        "letters of other fonts": letters(OTHER_FONTS, seed=5),
        "other shapes": other_shapes(230, seed=5),
    }
    found, scores = {}, {}
    for kind, drawn in kinds.items():
        log_probs, features = look(model, drawn)
        scores[kind] = digit_score(features, fitted)
        kept = scores[kind] > 0
        sure = (log_probs / TEMPERATURE).softmax(1).amax(1).numpy() >= SURE
        shares = (~kept).mean(), (kept & sure).mean()
        found[kind] = {name: 100 * share for name, share in zip(COLUMNS, shares, strict=False)}
    curve(scores).savefig(PICTURE, dpi=150)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        for kind, pictures in nothings(args.count, seed=5).items():
            one, many = (
                [text for made in pictures for text in said_of(model, made, path, how)]
                for how in (False, True)
            )
            counts = one.count(NOTHING), sum(map(is_sure, one)), sum(map(is_sure, many))
            lengths = len(one), len(one), len(many)
            found[kind] = {
                name: 100 * count / length
                for name, count, length in zip(COLUMNS, counts, lengths, strict=True)
            }
    atomic_write(RESULTS / "nothing.json", (json.dumps(found, indent=1) + "\n").encode())
    fill(tables(found))
    print(*tables(found).values())


if __name__ == "__main__":
    main()
