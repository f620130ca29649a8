"""`python -m notebooks.pictures`: draw Part 2's pictures, and fill in the tables of stored runs.

The pictures come from results and MNIST, the drawings from the recipes and made-up numbers; the
tables, in README.md and s4lib/README.md, come from results alone.
"""

import re
import sys
from pathlib import Path

import torch

from notebooks.drawings import DRAWINGS
from s4lib import BEST, history, load, plots
from s4lib.plots import save_figure
from s4lib.recipes import RECIPES
from s4lib.runtime import Parser, run_command
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


def make(_) -> int:
    digits = load("mnist")
    augment = BEST.augmentation(torch.Generator().manual_seed(0))
    figures = {
        "samples": plots.samples(digits),
        "augmented": plots.augmented(digits, augment),
        "modelloss": plots.model_loss(runs("classic")),
        **{f"drawing_{name}": draw() for name, draw in DRAWINGS.items()},
    }
    for name, figure in figures.items():
        save_figure(figure, ROOT / "images" / f"{name}.png")
    fill(tables())
    return 0


if __name__ == "__main__":
    parser = Parser(prog="python -m notebooks.pictures", description=__doc__.split(": ")[1])
    parser.set_defaults(run=make)
    sys.exit(run_command(parser))
