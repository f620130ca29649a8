"""Pages stay short enough to be read, link to headings that exist, and show every picture."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOLERANCE = 1.03
LIMITS = {  # words: tables and code among them, folded parts and comments not among them
    "README.md": 1_200,
    "backprop/README.md": 2_500,
    "backprop/LAYERS.md": 2_500,
    "notebooks/README.md": 4_500,
    "notebooks/assignment/README.md": 2_000,
    "s4lib/README.md": 3_000,
    "notebooks/*.ipynb": 8_000,  # together; without their code
}
PAGES = [name for name in LIMITS if name.endswith(".md") and (ROOT / name).exists()]

NOTEBOOKS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("notebooks/*.ipynb"))


def read(path: Path) -> str:
    """The text of a page, or of a notebook's cells that are not code."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return text


def words(text: str) -> int:
    """How many words are read unless one unfolds more: what has a letter or a digit."""
    shown = re.sub(r"<details>.*?</details>|<!--.*?-->", "", text, flags=re.DOTALL)
    return len(re.findall(r"\S*\w\S*", shown))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    names = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        names.add(name if name not in names else f"{name}-1")
    return names


def test_words_are_counted_as_a_reader_meets_them():
    page = (
        "# Two words\n\n<!-- table: x -->\n| a | 1 |\n|---|---:|\n<details>\nfolded\n</details>\n"
    )
    assert words(page) == 4


@pytest.mark.parametrize("pattern", LIMITS)
def test_no_page_is_longer_than_agreed(pattern):
    counts = {path.name: words(read(path)) for path in sorted(ROOT.glob(pattern))}
    assert sum(counts.values()) <= TOLERANCE * LIMITS[pattern], counts


@pytest.mark.parametrize("page", PAGES + NOTEBOOKS)
def test_links_lead_to_headings_that_exist(page):
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)#([^)\s]+)\)", read(ROOT / page)):
        aim = (ROOT / page).parent / target if target else ROOT / page
        if aim.suffix == ".md":
            assert anchor in anchors(aim.read_text("utf-8")), f"{target}#{anchor}"


def test_every_picture_is_shown_somewhere():
    """A drawing that a notebook makes itself counts, though it shows no file."""
    notebooks = [path.read_text("utf-8") for path in ROOT.glob("notebooks/*.ipynb")]
    text = "".join(notebooks + [read(ROOT / page) for page in PAGES])
    hidden = [
        picture.name
        for picture in (ROOT / "images").glob("*.png")
        if picture.name not in text
        and f"drawings.{picture.stem.removeprefix('drawing_')}(" not in text
    ]
    assert not hidden
