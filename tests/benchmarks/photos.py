"""How well are photos read, by kind, and how honest are the probabilities?

    python -m tests.benchmarks.photos [--weights FILE] [--before PHOTOS.PY] [--show FAILED.PNG]
    python -m tests.benchmarks.photos --keep

Pictures of the last 10,000 training digits, deformed and photographed, and of shapes drawn by
strokes; see tests/scenes.py. The shipped weights have seen those digits as MNIST has them; to
compare networks, train them on the other 50,000 and name their `--weights`. `--before` also reads
the pictures with another version of s4lib/photos.py and of the paper.py beside it, from `git show
VERSION:s4lib/photos.py`. The temperature is fitted on half of the deformed digits, and its effect
shown on the others and on the pictures. It belongs in s4lib/photos.py as TEMPERATURE whenever the
shipped weights change.
Prints Markdown tables; `--keep` also writes notebooks/results/photos.json, in which the column
before stays unless `--before` is given, and fills in the library's page.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor

from notebooks.pictures import RESULTS, fill
from s4lib import photos, plots
from s4lib.data import load, normalise
from s4lib.history import markdown
from s4lib.model import MNISTNet
from s4lib.runtime import UsageError
from s4lib.runtime.checkpoint import SHIPPED_WEIGHTS, atomic_write, load_weights
from s4lib.train import predict
from tests.scenes import SHAPES, deformed, enlarge, pages, photographs

KEPT = RESULTS / "photos.json"
FRAMED = ("bar", "border", "boxed", "sheet")  # words in the names of kinds with more than a digit
BINS = (0, 0.5, 0.8, 0.95, 0.99, 1)  # of the probability of an answer


def read_all(reader, pictures: list) -> tuple[Tensor, Tensor]:
    """The pictures as `reader` sees them, uint8 (N, 1, 28, 28), and which it could read, (N,)."""
    seen = torch.zeros(len(pictures), 1, 28, 28, dtype=torch.uint8)
    could = torch.zeros(len(pictures), dtype=torch.bool)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.png")
        for i, image in enumerate(pictures):
            image.save(path, compress_level=1)
            try:
                seen[i] = reader.read_digit(path)
                could[i] = True
            except UsageError:
                pass
    return seen, could


def large(images: Tensor, labels: Tensor, rng) -> tuple:
    """One of the digits, drawn large, and its name."""
    pick = int(rng.integers(len(images)))
    return enlarge(images[pick, 0].numpy()), int(labels[pick])


def read_pages(reader, model, made: list) -> tuple[int, int]:
    """How many pages are read right, and how many of several digits get a sure single answer."""
    right = sure = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.png")
        for image, names in made:
            image.save(path, compress_level=1)
            try:
                digits = predict(model, normalise(reader.read_digits(path))).argmax(1)
                right += "".join(map(str, digits.tolist())) == names
                if len(names) > 1:
                    log_probs = predict(model, normalise(reader.read_digit(path)[None]))
                    sure += not reader.answer(log_probs[0]).startswith("not sure")
            except UsageError:
                pass
    return right, sure


def version(path: Path):
    """Another version of s4lib/photos.py, with the paper.py beside it, if there is one."""

    def module(path: Path):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        return loaded

    beside = path.with_name("paper.py")
    ours = sys.modules["s4lib.paper"]
    sys.modules["s4lib.paper"] = module(beside) if beside.exists() else ours
    before = module(path)
    sys.modules["s4lib.paper"] = ours
    return before


def fit_temperature(log_probs: Tensor, labels: Tensor) -> float:
    """The temperature, to 0.01, at which the labels are likeliest.

    Source: Guo et al., "On calibration of modern neural networks", 2017.
    """
    candidates = torch.arange(0.5, 5, 0.01)
    losses = [F.cross_entropy(log_probs / temperature, labels) for temperature in candidates]
    return round(candidates[torch.stack(losses).argmin()].item(), 2)


def reliability(title: str, log_probs: Tensor, labels: Tensor, temperature: float) -> str:
    """How often answers are right, by how probable they are said to be: before, after."""
    lines = [
        f"| {title}: probability of the answer | answers | mean | right | calibrated: answers "
        "| mean | right |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    right = (log_probs.argmax(1) == labels).double()
    both = [(log_probs / t).softmax(1).amax(1).double() for t in (1, temperature)]
    for low, high in pairwise(BINS):
        cells = [f"{100 * low:.0f} to {100 * high:.0f}%"]
        for said in both:
            chosen = (low < said) & (said <= high)
            shares = [100 * values[chosen].mean() for values in (said, right)]
            cells += [f"{chosen.sum():,}", *("" if s.isnan() else f"{s:.1f}%" for s in shares)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(kept: dict) -> dict[str, str]:
    """Return the library's table: pictures in three groups, then every kind of page."""
    readers = ("before", "now")
    kinds = {"with bars, a border, a box or a sheet": [], "of other scenes": [], "by strokes": []}
    framed, scenes, strokes = kinds.values()
    for kind, shares in kept["pictures"].items():
        in_frame = framed if any(word in kind for word in FRAMED) else scenes
        (strokes if kind in SHAPES else in_frame).append(shares)
    rows = {
        f"{len(group)} kinds {name}": {r: mean(shares[r] for shares in group) for r in readers}
        for name, group in kinds.items()
    } | kept["pages"]
    cells = [[name, *(f"{shares[r]:.1f}%" for r in readers)] for name, shares in rows.items()]
    header = [f"pictures, {kept['count']} of each kind", "before", "read right"]
    return {"python -m tests.benchmarks.photos --keep": markdown(header, cells)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--keep", action="store_true", help="also in notebooks/results")
    parser.add_argument("--before", type=Path, help="another version of photos.py")
    parser.add_argument("--show", type=Path, help="a picture of what was misread")
    parser.add_argument("--count", type=int, default=20, help="pictures of each kind (20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = load_weights(MNISTNet(), args.weights)
    images, labels = load("mnist").hold_out(10_000).test
    readers = {"before": version(args.before)} if args.before else {}
    readers["now"] = photos
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"pictures": {}, "pages": {}}

    print(
        f"| kind, {args.count} each |{' before |' if args.before else ''} read right | none read |"
    )
    print(f"|---|{'---:|' * (len(readers) + 1)}")
    right, probable, truth, wrong = torch.zeros(len(readers)), [], [], []
    kinds = photographs(images, labels, args.count, args.seed)
    for kind, (pictures, digits) in kinds.items():
        cells, digits = [kind], torch.tensor(digits)
        for number, (name, reader) in enumerate(readers.items()):
            seen, could = read_all(reader, pictures)
            log_probs = predict(model, normalise(seen))
            hits = could & (log_probs.argmax(1) == digits)
            right[number] += hits.sum()
            share = 100 * hits.double().mean().item()
            kept["pictures"].setdefault(kind, {})[name] = share
            cells.append(f"{share:.1f}%")
        print(f"| {' | '.join(cells)} | {(~could).sum()} |", flush=True)
        probable.append(log_probs[could])
        truth.append(digits[could])
        wrong += [(image, kind, digits[i]) for i, image in enumerate(seen) if not hits[i]]
    shares = [f"{100 * hits / (args.count * len(kinds)):.1f}%" for hits in right]
    print(f"| all {args.count * len(kinds):,} | {' | '.join(shares)} | |\n")
    if args.show:
        titles = [f"{kind}\n{digit}" for _, kind, digit in wrong]
        grid = plots.image_grid([image for image, *_ in wrong], titles, 8, "Misread")
        grid.savefig(args.show)

    before = " before |" if args.before else ""
    print(f"| pages, with --many |{before} read right | sure without it |")
    print(f"|---|{'---:|' * (len(readers) + 1)}")
    for kind, made in pages(partial(large, images, labels), args.count, args.seed).items():
        results = [read_pages(reader, model, made) for reader in readers.values()]
        shares = [100 * right / len(made) for right, _ in results]
        kept["pages"].setdefault(kind, {}).update(zip(readers, shares, strict=True))
        cells = [f"{share:.1f}%" for share in shares]
        print(f"| {kind} | {' | '.join(cells)} | {results[-1][1]} |", flush=True)
    print()

    made = deformed(images, labels, args.count * 5, args.seed)
    print("| deformed digits, as MNIST would have them | right |\n|---|---:|")
    fitted, checked = [], []
    for kind, (digits, names) in made.items():
        log_probs = predict(model, normalise(digits))
        print(f"| {kind} | {100 * (log_probs.argmax(1) == names).double().mean():.1f}% |")
        fitted.append((log_probs[::2], names[::2]))
        checked.append((log_probs[1::2], names[1::2]))
    temperature = fit_temperature(*map(torch.cat, zip(*fitted, strict=True)))
    print(f"\nTEMPERATURE = {temperature} (in photos.py: {photos.TEMPERATURE})\n")
    print(reliability("digits", *map(torch.cat, zip(*checked, strict=True)), temperature))
    print()
    print(reliability("pictures", torch.cat(probable), torch.cat(truth), temperature))
    if args.keep:
        kept |= {"count": args.count, "temperature": temperature}
        atomic_write(KEPT, (json.dumps(kept, indent=1) + "\n").encode())
        fill(tables(kept))


if __name__ == "__main__":
    main()
