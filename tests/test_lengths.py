"""Pages stay short enough to be read, their links, pictures and formulas work."""

import json
import os
import re
import shutil
import subprocess
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
HANDED_OUT = [str(path.relative_to(ROOT)) for path in ROOT.glob("notebooks/assignment/*/*/*.ipynb")]

# Sets every formula of the list [place, formula, whether displayed] and prints what can't be set.
KATEX = """
const katex = require("katex");
for (const [place, formula, displayMode] of JSON.parse(require("fs").readFileSync(0, "utf-8"))) {
  try { katex.renderToString(formula, { displayMode, strict: "error" }); }
  catch (error) { console.log(`${place}: ${error.message}`); }
}
"""


def read(path: Path) -> str:
    """The text of a page, or of a notebook's cells that are not code."""
    text = path.read_text("utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return text


def words(text: str) -> int:
    """Count the words that a reader sees without unfolding: a word has a letter or a digit."""
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
def test_links_and_pictures_lead_to_files_and_headings_that_exist(page):
    text, folder = read(ROOT / page), (ROOT / page).parent
    for picture in re.findall(r'src="([^":]+)"', text):
        assert (folder / picture).exists(), picture
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]+))?\)", text):
        aim = folder / target if target else ROOT / page
        assert aim.exists(), target
        if anchor and aim.suffix == ".md":
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


def formulas(page: str) -> list[tuple[str, bool]]:
    """Return every formula of a page, and whether it is displayed on lines of its own."""
    text = re.sub(r"```.*?```|`[^`\n]*`|<!--.*?-->", "", read(ROOT / page), flags=re.DOTALL)
    displayed = re.findall(r"\$\$(.+?)\$\$", text, re.DOTALL)
    text = re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL)
    inline = re.findall(r"(?<![\w\\])\$(\S|\S[^$\n]*\S)\$(?!\w)", text)
    assert text.count("$") == 2 * len(inline), "a $ beside a letter or a blank is text"
    return [(formula, True) for formula in displayed] + [(formula, False) for formula in inline]


@pytest.mark.parametrize("page", PAGES)
def test_markdown_leaves_formulas_as_they_are(page):
    """GitHub takes a backslash before punctuation away, and `|` ends a cell of a table."""
    for formula, _ in formulas(page):
        assert not re.search(r"\\[^a-zA-Z]", formula), formula
        assert "|" not in formula, formula


def test_katex_sets_every_formula():
    """Needs Node and KaTeX: `npm install --global katex`."""
    npm = shutil.which("npm")
    node = shutil.which("node")
    if not (npm and node):
        pytest.skip("needs Node")
    modules = os.environ.get("NODE_PATH") or subprocess.check_output([npm, "root", "-g"], text=True)
    kept = {**os.environ, "NODE_PATH": modules.strip()}
    pages = [*PAGES, *NOTEBOOKS, *HANDED_OUT]
    listed = [(page, *formula) for page in pages for formula in formulas(page)]
    options = {"env": kept, "capture_output": True, "text": True}
    done = subprocess.run([node, "-e", KATEX], input=json.dumps(listed), **options)
    if "Cannot find module 'katex'" in done.stderr:
        pytest.skip("needs KaTeX")
    assert (done.stdout, done.returncode) == ("", 0), done.stderr
    assert len(listed) > 200
