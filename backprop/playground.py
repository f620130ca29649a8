"""The playground, `backprop/playground.html`: one page made of the sources in `backprop/page/`.

    python -m backprop              # build the page, with all else that is built
    python -m backprop.playground   # after new weights: choose digits, build, take the picture

Choosing needs MNIST, the picture needs Chromium; building needs neither.
"""

import base64
import html
import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from s4lib.data import MNIST_MEAN, MNIST_STD, load
from s4lib.model import MNISTNet
from s4lib.runtime import Parser, UsageError
from s4lib.runtime.checkpoint import load_weights
from s4lib.train import predict

HERE = Path(__file__).parent
SOURCES = HERE / "page"
PAGE = "backprop/playground.html"
PICTURE = "images/playground.png"

# Lines of the lesson that the page opens: the heading above each, and the words it begins with.
LINES = {
    # every layer
    "conv": ("Convolution", "multiplies each weight by the pixel"),
    "convKernel": ("Convolution", "output, so its gradient is a sum over the map"),
    "convInput": ("Convolution", "met the weight"),
    "norm": ("Batch normalisation", "Every channel is centred and scaled"),
    "normBack": ("Batch normalisation", "All three carry the factor"),
    "relu": ("Global average pooling, dropout, ReLU", "All three only multiply the gradient"),
    "reluBack": ("Global average pooling, dropout, ReLU", "All three only multiply the gradient"),
    "gap": ("Global average pooling, dropout, ReLU", "All three only multiply the gradient"),
    "pool": ("Max pooling", "Only this one reaches"),
    "linear": ("Fully connected", "is a sum of products, and a product"),
    "softmax": ("Log-softmax and negative log-likelihood", "Log-softmax turns the logits into"),
    "logits": ("Log-softmax and negative log-likelihood", "Differentiate the right-hand side"),
    # eight weights
    "hidden": ("1. Forward pass", "Each hidden unit computes the weighted sum"),
    "sigmoid": ("1. Forward pass", "The sigmoid squashes the sum"),
    "output": ("1. Forward pass", "The output units do the same"),
    "error": ("2. Loss", "half its squared distance from the target"),
    "first": ("3. Chain rule, output layer", "The first factor is the"),
    "second": ("3. Chain rule, output layer", "The second factor is the"),
    "last": ("3. Chain rule, output layer", "The last factor is what the weight multiplies"),
    "paths": ("4. Chain rule, hidden layer", "A hidden unit feeds both outputs"),
    "again": ("4. Chain rule, hidden layer", "From here on everything works as in the output"),
    "update": ("5. Update", "Every weight takes a step"),
    "curves": ("Six learning rates", "All six descend at every step"),
    "surface": ("Six learning rates", "all eight weights change"),
}
LESSONS = ("README.md", "LAYERS.md")  # the pages that have these lines

ORDINARY, MISTAKES, OTHERS = 2, 20, 5  # of each class; in all; of each class, easy and hard
IMPORT = re.compile(r'^import (?:\* as )?(\w+|\{[^;{}]+\}) from "\./([\w.]+)";\n', re.M)
EXPORT = r"^export (?:function|const) (\w+)"


def page() -> str:
    """Return the page's text: the sources, the weights shipped with `s4lib`, the chosen digits."""
    text, style = read("index.html"), read("style.css")
    content = json.dumps(data(), separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    text = text.replace('<link rel="stylesheet" href="style.css">', f"<style>\n{style}</style>")
    text = text.replace(' id="data"></script>', f' id="data">{content}</script>')
    return text.replace(' src="page.js"></script>', f">\n{joined('page.js')}</script>")


def read(name: str) -> str:
    """Return a source of the page."""
    return (SOURCES / name).read_text("utf-8")


def joined(first: str) -> str:
    """Join a JavaScript module and all its imports in one text, each module in a function.

    A page that is opened from disk may not import files. So the function returns what the module
    exports, and `import` reads it from there. Raises ValueError for any other form of the two.
    """
    modules, begun = {}, []

    def add(name: str) -> None:
        if name in begun:
            raise ValueError(f"{name} imports itself, by way of {', '.join(begun)}")
        begun.append(name)
        text = read(name)
        for _, other in IMPORT.findall(text):
            if other not in modules:
                add(other)
        exported = re.findall(EXPORT, text, re.M)
        text = IMPORT.sub(r'const \1 = modules["\2"];\n', text)
        text = re.sub(EXPORT, lambda found: found[0].removeprefix("export "), text, flags=re.M)
        if strange := re.search(r"^\s*(?:import|export)\b.*|\bimport\(.*", text, re.M):
            raise ValueError(f"{name}: the page cannot be joined with this: {strange[0].strip()}")
        result = f"return {{ {', '.join(exported)} }};"
        modules[name] = f'modules["{name}"] = (() => {{\n{text}\n{result}\n}})();\n'
        begun.pop()

    add(first)
    return "const modules = {};\n\n" + "\n".join(modules.values())


# ---- the lesson's lines --------------------------------------------------------------------------


def lines() -> dict:
    """Return the parts of the lesson that the page opens, by the names in LINES, if they are found.

    A line comes with its paragraph and the formulas and tables after it; if a sentence continues
    after a formula, with all of the sentence.
    """
    sections = {}  # heading: the file, and its paragraphs
    for file in filter(lambda file: (HERE / file).exists(), LESSONS):
        _, *heads_and_bodies = re.split(r"^#+ (.+)$", (HERE / file).read_text("utf-8"), flags=re.M)
        for heading, body in zip(heads_and_bodies[::2], heads_and_bodies[1::2], strict=True):
            sections.setdefault(heading, (file, re.split(r"\n{2,}", body.strip())))

    found = {}
    for name, (heading, line) in LINES.items():
        file, blocks = sections.get(heading, ("", []))
        first = next((k for k, block in enumerate(blocks) if line in plain(block)), None)
        if first is None:
            continue
        last = first + 1
        while first > 0 and blocks[first][0].islower():
            first -= 1  # a paragraph that continues after a formula
        while last < len(blocks) and blocks[last].startswith(("$$", "|")):
            last += 1
        text = "\n\n".join(blocks[first:last])
        slug = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        found[name] = {"file": file, "slug": slug, "title": heading, "text": text}
    return found


def plain(text: str) -> str:
    """Return Markdown without line breaks and emphasis, so that a line can be found in it."""
    return " ".join(text.split()).replace("**", "")


def data() -> dict:
    """Return in base64 what the page reads: weights as little-endian float32, and digits."""
    state = load_weights(MNISTNet()).state_dict()
    state = {name: value for name, value in state.items() if value.is_floating_point()}
    weights = b"".join(value.numpy().astype("<f4").tobytes() for value in state.values())
    images, chosen = read_digits()
    return {
        "mean": MNIST_MEAN,
        "std": MNIST_STD,
        "shapes": [[name, list(value.shape)] for name, value in state.items()],
        "weights": base64.b64encode(weights).decode(),
        "lines": lines(),
        "digits": {**chosen, "pixels": base64.b64encode(pack(images.tobytes())).decode()},
    }


def pack(pixels: bytes) -> bytes:
    """Compress bytes: a run of zeros becomes a 0 and the run's length."""
    return re.sub(rb"\0{1,255}", lambda zeros: bytes([0, len(zeros[0])]), pixels)


# ---- the digits ----------------------------------------------------------------------------------


def read_digits() -> tuple[np.ndarray, dict]:
    """Return the chosen test digits, uint8 (N, 28, 28), with their indices, labels and kinds."""
    chosen = json.loads(read("digits.json"))
    images = np.asarray(Image.open(SOURCES / "digits.png")).reshape(-1, 28, 28)
    return images, {k: chosen[k] for k in ("indices", "labels", "kinds")}


def choose_digits() -> None:
    """Choose test digits again with the shipped weights; save them as page/digits.png and .json.

    For drawing, choose the first digit of each class that is classified correctly, and the mistakes
    with the largest loss. For the effect of a step on others, choose from the rest of each class
    the first digits, and those with the largest loss.
    """
    dataset = load("mnist")
    images, labels = dataset.test
    log_probs = predict(load_weights(MNISTNet()), dataset.normalise(images))
    loss = F.nll_loss(log_probs, labels, reduction="none")
    right = log_probs.argmax(1) == labels
    first, hardest = range(len(labels)), loss.argsort(descending=True, stable=True).tolist()
    picks = {}  # index: kind

    def pick(count: int, order, wanted: torch.Tensor, kind: str = "") -> None:
        """Return the first digits of `wanted`, in this order, that are still left."""
        left = [k for k in order if wanted[k] and k not in picks]
        picks.update(dict.fromkeys(left[:count], kind))

    for digit in range(10):
        pick(ORDINARY, first, right & (labels == digit), "ordinary")
    pick(MISTAKES, hardest, ~right, "mistakes")
    for digit in range(10):
        for order in (first, hardest):
            pick(OTHERS, order, labels == digit)

    indices = list(picks)
    column = images[indices].reshape(-1, 28).numpy()  # one digit below the other
    Image.fromarray(column).save(SOURCES / "digits.png", optimize=True)
    chosen = {
        "credit": "MNIST test images by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, "
        "CC BY-SA 3.0",
        "indices": indices,
        "labels": labels[indices].tolist(),
        "kinds": list(picks.values()),
    }
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(item)}" for name, item in chosen.items())
    (SOURCES / "digits.json").write_text(f"{{\n{lines}\n}}\n", "utf-8")


# ---- in a browser, and in a notebook -------------------------------------------------------------


def chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome, or None."""
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    return next(filter(None, found), None)


def launch(playwright, *more):
    """Start the installed Chromium without a window and without network access."""
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *more]
    return playwright.chromium.launch(executable_path=chromium(), args=arguments)


def take_picture(source: Path, picture: Path) -> None:
    """Take a picture of the page while it teaches. Raises UsageError if a program is missing."""
    if not (chromium() and importlib.util.find_spec("playwright")):
        raise UsageError("The picture needs Chromium, installed, and pip install playwright.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        size = {"width": 1280, "height": 1240}
        view = browser.new_page(viewport=size, color_scheme="light", reduced_motion="reduce")
        view.goto(source.resolve().as_uri())
        view.locator("#mistakes input").first.check(force=True)
        view.click("#step")
        view.locator('[id="layer-block1.relu1"] canvas').focus()
        for key in ("Enter", "PageDown", "PageDown", "PageDown"):
            view.keyboard.press(key)
        view.mouse.move(0, 0)
        view.evaluate("scrollTo(0, 0)")
        view.wait_for_function("document.getElementById('others').ariaBusy === 'false'")
        view.screenshot(path=picture)
        browser.close()
    colours = Image.Quantize.MAXCOVERAGE  # the small keys keep their size
    Image.open(picture).convert("RGB").quantize(256, colours).save(picture, optimize=True)


def show():
    """Show the playground in a notebook; where no scripts run, as on GitHub, its picture."""
    from IPython.display import HTML

    content = (HERE / "playground.html").read_text("utf-8")
    content = content.replace("<html ", '<html data-walkthrough="../backprop" ', 1)
    path = HERE.parent / PICTURE  # which an installed package doesn't have
    picture = base64.b64encode(path.read_bytes() if path.exists() else b"").decode()
    return HTML(f"""
<img id="playground-picture" src="data:image/png;base64,{picture}" alt="The playground: \
a digit, the network's layers, and the gradient" style="max-width: 100%">
<iframe srcdoc="{html.escape(content)}" title="Playground" \
style="width: 100%; height: 860px; border: 0; display: none"></iframe>
<script>
for (const picture of document.querySelectorAll("#playground-picture")) {{
  picture.nextElementSibling.style.display = "block";
  picture.remove();
}}
</script>""")


def main(arguments: list[str] | None = None) -> int:
    """Choose digits with the shipped weights, build the page and take its picture."""
    parser = Parser(prog="python -m backprop.playground", description=__doc__.split("\n")[0])
    parser.parse_args(arguments)
    root = HERE.parent
    try:
        choose_digits()
        (root / PAGE).write_text(page(), "utf-8")
        take_picture(root / PAGE, root / PICTURE)
    except UsageError as error:
        parser.error(str(error))
    print(f"wrote {PAGE} and {PICTURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
