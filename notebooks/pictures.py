"""`python -m notebooks.pictures`: draw Part 2's pictures, and fill in the tables of stored runs.

The pictures come from results and MNIST, the drawings from the recipes and made-up numbers; the
tables, in README.md and s4lib/README.md, come from results alone.
"""

import re
from pathlib import Path

import torch

from notebooks.drawings import DRAWINGS
from s4lib import BEST, history, load, plots
from s4lib.plots import save_figure
from s4lib.recipes import RECIPES
from s4lib.runtime.checkpoint import atomic_write

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "notebooks" / "results"


def runs(name: str) -> list[history.History]:
    return history.parse((RESULTS / f"{name}.json").read_text())


def tables() -> dict[str, str]:
    """Return the tables of runs, by the command in the comment above each."""
    header, *rest = zip(
        *(history.summary(runs(name)).splitlines() for name in RECIPES), strict=True
    )
    train = "python -m s4lib train --recipe"
    return {
        f"{train} NAME --seeds N": "\n".join([header[0], rest[0][0], *rest[1]]),
        f"{train} best --seeds N": history.table(runs("best")),
        "python -m tests.benchmarks.records open": history.summary(runs("open")),
    }


def filled(page: str, found: dict[str, str]) -> str:
    """Return the page's text with each of these tables below the comment naming its command."""
    for command, table in found.items():
        place = rf"(<!-- table: {re.escape(command)} -->\n)(?:\|.*\n)+"
        page = re.sub(place, lambda match, table=table: f"{match[1]}{table}\n", page)
    return page


def fill(found: dict[str, str]) -> None:
    """Bring these tables up to date on the front page and on the library's."""
    for page in (ROOT / "README.md", ROOT / "s4lib" / "README.md"):
        atomic_write(page, filled(page.read_text("utf-8"), found).encode())


def main(out: Path = ROOT / "images") -> None:
    digits = load("mnist")
    augment = BEST.augmentation(torch.Generator().manual_seed(0))
    for name, figure in {
        "samples": plots.samples(digits),
        "augmented": plots.augmented(digits, augment),
        "modelloss": plots.model_loss(runs("classic")),
    }.items():
        save_figure(figure, out / f"{name}.png")
    for name, draw in DRAWINGS.items():
        save_figure(draw(), out / f"drawing_{name}.png")
    fill(tables())


if __name__ == "__main__":
    main()
