"""The playground in a real browser: its numbers against PyTorch's, its controls, its looks.

The numbers are asked of `window.playground`. A picture's colours and words are read off the page.
"""

import base64
import io
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from backprop import network, playground
from s4lib.data import MNIST_MEAN, MNIST_STD, normalise
from s4lib.model import MNISTNet
from s4lib.photos import centre, crop, fit_box, read_digit
from s4lib.receptive_field import receptive_fields
from s4lib.runtime.checkpoint import load_weights
from tests.strokes import STROKES, draw

ROOT = playground.HERE.parent
FILE = ROOT / playground.PAGE
ADDRESS = FILE.as_uri()
SIZE = {"width": 1280, "height": 900}  # of a window, unless a test says otherwise


# ---- without a browser -----------------------------------------------------------------------


def test_the_committed_page_is_current():
    assert FILE.read_text("utf-8") == playground.page(), "run python -m backprop"


def test_the_page_is_small_and_asks_for_nothing():
    text = FILE.read_text("utf-8")
    assert FILE.stat().st_size < 400_000
    assert not re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"(?!data:)", text)
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    assert not re.findall(r"getImageData|toDataURL|readPixels", text)  # browsers may falsify them
    addresses = set(re.findall(r"https?://[\w.]+", text))
    assert addresses == {"https://creativecommons.org", "https://github.com"}  # links to follow


def test_the_digits_are_few_and_credited():
    images, chosen = playground.read_digits()
    kinds = chosen["kinds"]
    assert (kinds.count("ordinary"), kinds.count("mistakes"), kinds.count("")) == (20, 20, 100)
    assert len(set(chosen["indices"])) == len(images) == len(chosen["labels"]) == 140
    assert "CC BY-SA 3.0" in FILE.read_text("utf-8")
    assert json.loads((playground.SOURCES / "digits.json").read_text())["credit"]


def test_the_digits_are_those_of_the_test_set(mnist):
    images, chosen = playground.read_digits()
    assert (mnist.test[0][chosen["indices"], 0].numpy() == images).all()
    assert mnist.test[1][chosen["indices"]].tolist() == chosen["labels"]


@given(st.lists(st.sampled_from([0, 0, 0, 1, 255]), max_size=2000))
@settings(derandomize=True)
def test_packed_digits_unpack(values):
    packed, pixels = list(playground.pack(bytes(values))), []
    while packed:
        value = packed.pop(0)
        pixels += [value] if value else [0] * packed.pop(0)
    assert pixels == values


@pytest.mark.parametrize("name", playground.LINES)
def test_every_line_is_in_the_lesson(name):
    heading, line = playground.LINES[name]
    found = playground.lines().get(name)
    assert found, f"no '{line}' under '{heading}' in {playground.LESSONS}: see playground.LINES"
    assert found["text"].startswith(tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ$-*1|`")), found["text"]


def test_a_line_that_the_lesson_lacks_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "README.md").write_text("# Convolution\n\nmultiplies each weight by the pixel\n")
    monkeypatch.setattr(playground, "HERE", tmp_path)
    assert list(playground.lines()) == ["conv"]


@pytest.mark.parametrize(
    "line",
    [
        "export class Pad {}",
        "export async function see() {}",
        "export { see };",
        "export default see;",
        "export let see = 1;",
        'import see from "elsewhere";',
        'import { see } from "./see.js"',  # without a semicolon
        'const see = await import("./see.js");',
    ],
)
def test_the_joiner_refuses_what_it_does_not_know(tmp_path, monkeypatch, line):
    monkeypatch.setattr(playground, "SOURCES", tmp_path)
    (tmp_path / "see.js").write_text("export const see = 1;\n")
    (tmp_path / "first.js").write_text(f'import {{ see }} from "./see.js";\n{line}\n')
    with pytest.raises(ValueError, match=r"first\.js"):
        playground.joined("first.js")
    (tmp_path / "first.js").write_text('import {\n  see,\n} from "./see.js";\nlet a = see;\n')
    assert "{\n  see,\n} = modules" in playground.joined("first.js")
    (tmp_path / "see.js").write_text('import { a } from "./first.js";\n')
    with pytest.raises(ValueError, match="imports itself"):
        playground.joined("first.js")


# ---- the browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not playground.chromium():
        pytest.skip("Chromium is not installed, so nothing can open the page")
    with sync.sync_playwright() as running:
        started = playground.launch(running, "--disable-frame-rate-limit")
        yield started
        started.close()


def opened(browser, address=ADDRESS, **options):
    """The page, and a list of whatever it complains about or asks the network for."""
    options = {"viewport": SIZE, "reduced_motion": "reduce"} | options
    view = browser.new_page(**options)
    view.complaints = []
    view.on("console", lambda message: view.complaints.append(message.text))
    view.on("pageerror", lambda error: view.complaints.append(str(error)))
    view.on("request", lambda request: view.complaints.append(request.url))
    view.set_default_timeout(60_000)
    load(view, address)
    return view


def load(view, address=ADDRESS):
    """The page as it is at first, in a window that may have shown it before."""
    view.mouse.move(0, 0)
    view.goto("about:blank")  # else another # is all that would be loaded
    view.complaints.clear()
    view.goto(address)
    view.wait_for_selector("#bars .best, #bars.blank", state="attached")


@pytest.fixture(scope="module")
def window(browser):
    view = opened(browser)
    yield view
    view.close()


@pytest.fixture
def view(window):
    """The page as it opens, which must come through without a complaint.

    What was done before can still be undone, if a test looks for that: it calls `load`.
    """
    window.mouse.move(0, 0)
    window.evaluate(AFRESH)
    settle(window)
    window.complaints.clear()
    yield window
    assert set(window.complaints) <= {ADDRESS}


AFRESH = """() => {
  const element = (id) => document.getElementById(id);
  if (!element("tour").hidden) element("tour-close").click();
  element("note-close").click();
  for (const details of document.querySelectorAll("details")) details.open = false;
  playground.reset();
  history.replaceState(null, "", location.pathname);
  dispatchEvent(new PopStateEvent("popstate")); // as an address without anything opens it
  if (!element("hint").checked) element("hint").click();
  document.activeElement.blur();
  scrollTo(0, 0);
}"""


@pytest.fixture(scope="module")
def touched(browser):
    """A window with a touch screen."""
    view = opened(browser, has_touch=True)
    yield view
    view.close()
    assert view.complaints == [ADDRESS]


@pytest.fixture(scope="module")
def shared(touched):
    """The page for all the tests that only ask `window.playground`."""
    touched.evaluate(HELPERS)
    return touched


# Numbers travel as base64 of their 64 bits: quickly, and without loss.
HELPERS = """() => {
  window.pack = (arrays) => {
    const all = new Float64Array(arrays.reduce((sum, { length }) => sum + length, 0));
    let to = 0;
    for (const array of arrays) { all.set(array, to); to += array.length; }
    const bytes = new Uint8Array(all.buffer);
    let text = "";
    for (let k = 0; k < bytes.length; k += 8192) {
      text += String.fromCharCode(...bytes.subarray(k, k + 8192));
    }
    return btoa(text);
  };
  window.ask = ([pixels, label]) => {
    const { log_probs, activations } = playground.network(pixels);
    const all = { log_probs, ...activations, ...playground.gradients(label) };
    const once = [...new Set(Object.values(all))]; // a container's output is its last layer's
    return [Object.keys(all), Object.values(all).map((array) => once.indexOf(array)),
      once.map(({ length }) => length), pack(once)];
  };
}"""


PARAMETERS = [name for name, _ in MNISTNet().named_parameters()]


def unpack(packed):
    return np.frombuffer(base64.b64decode(packed))


def ask(view, pixels, label):
    """What the page says of an image: activations with log_probs, and gradients, by name."""
    names, which, sizes, packed = view.evaluate("ask", [np.ravel(pixels).tolist(), label])
    parts = np.split(unpack(packed), np.cumsum(sizes)[:-1])
    values = {name: parts[k] for name, k in zip(names, which, strict=True)}
    slopes = {name: values.pop(name) for name in [*PARAMETERS, "image"]}
    return values, slopes


# ---- equal to PyTorch ------------------------------------------------------------------------


def referee():
    """The shipped network in float64, as eval() has it."""
    return load_weights(MNISTNet()).double().eval()


def level(_pooling, inputs):
    """Of activations that are equal but for rounding, which differs by processor, make equal ones.

    Blank paper has many, and max pooling chooses the first of equals. Gradients pass unchanged.
    """
    (x,) = inputs
    return x + (x.round(decimals=12) - x).detach()


def by_autograd(model, pixels, label=None):
    """What `ask` returns, by PyTorch; and the label, chosen here if there is none.

    A right answer given with p within 1e-6 of 1 has a gradient p − 1 that PyTorch itself knows
    to ten digits and fewer. There, the runner-up is the label: a digit that was misread.
    """
    image = torch.tensor(np.reshape(pixels, (1, 1, 28, 28)), dtype=torch.float64)
    image = ((image - 255 * MNIST_MEAN) / (255 * MNIST_STD)).requires_grad_()
    seen, hooks = {}, []
    for name, module in model.named_modules():
        keep = lambda _, x, y, name=name: seen.update({name: y.detach().clone().numpy()})  # noqa: E731
        hooks.append(module.register_forward_hook(keep))
        if isinstance(module, torch.nn.MaxPool2d):
            hooks.append(module.register_forward_pre_hook(level))
    log_probs = model(image)
    for hook in hooks:
        hook.remove()
    best, second = log_probs[0].topk(2).indices.tolist()
    if label is None or (label == best and log_probs[0, best] > -1e-6):
        label = second
    loss = -log_probs[0, label]
    wanted = dict(model.named_parameters())
    slopes = torch.autograd.grad(loss, [*wanted.values(), image])
    gradients = dict(zip([*wanted, "image"], (s.numpy() for s in slopes), strict=True))
    return seen, gradients, label


def assert_same(ours, theirs, tolerance=1e-9):
    """The same names; each tensor equal to within `tolerance` of its largest value."""
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        assert ours[name].size == expected.size, name
        apart = np.abs(ours[name] - expected.ravel()).max()
        assert apart <= tolerance * np.abs(expected).max(), (name, apart)


def assert_equals_pytorch(view, model, pixels, label=None):
    seen, gradients, label = by_autograd(model, pixels, label)
    activations, slopes = ask(view, pixels, label)
    assert_same(activations, seen | {"log_probs": seen[""]})
    assert_same(slopes, gradients)
    assert sum(s.size for name, s in slopes.items() if name != "image") == 17_498
    loss = -seen[""][0, label]
    assert -activations["log_probs"][label] == pytest.approx(loss, rel=1e-9)


def test_digits_drawings_and_odd_pictures_equal_pytorch(shared):
    """Of the odd ones, whole maps are ties, inputs below zero and exact zeros."""
    images, chosen = playground.read_digits()
    cases = [*zip(images[:40:15], chosen["labels"][:40:15], strict=True)]
    for digit in (0, 4, 8):  # as `predict` would show them to the network
        ink = 1 - np.asarray(draw(digit, (200, 220), 22).convert("L")) / 255
        cases.append((centre(fit_box(crop(ink.round(1)))), digit))
    rng = np.random.default_rng(0)
    odd = [np.full(784, ink) for ink in (0.0, 17.0, 255.0)]
    odd += [255.0 * rng.integers(2, size=784), rng.uniform(0, 255, 784)]
    odd += [255.0 * (rng.random(784) < 0.01)]
    model = referee()
    for pixels, label in [*cases, *zip(odd, range(6), strict=True)]:
        assert_equals_pytorch(shared, model, pixels, label)


def test_steps_equal_pytorchs_and_reset_takes_them_back(shared):
    images, chosen = playground.read_digits()
    model, start = referee(), referee().state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    try:
        for pixels, label in zip(images[20:22], chosen["labels"][20:22], strict=True):
            _, gradients, label = by_autograd(model, pixels, label)
            ask(shared, pixels, label)
            packed = shared.evaluate("lr => pack(Object.values(playground.step(lr)))", 0.01)
            for name, parameter in model.named_parameters():
                parameter.grad = torch.tensor(gradients[name])
            optimizer.step()
            expected = np.concatenate([p.detach().numpy().ravel() for p in model.parameters()])
            np.testing.assert_allclose(unpack(packed), expected, rtol=1e-9, atol=1e-12)
            assert_equals_pytorch(shared, model, pixels, label)
    finally:
        shared.evaluate("playground.reset()")
    model.load_state_dict(start)
    assert_equals_pytorch(shared, model, images[0], chosen["labels"][0])


def test_misuse_is_told(view):
    """The first test in this window: nothing has been asked in it."""
    for call, complaint in {
        "playground.gradients(3)": "Call network",
        "playground.step(0.1)": "Call gradients",
        "playground.network([1, 2])": "784 pixels, not 2",
        "playground.gradients(10)": "from 0 to 9, not 10",
    }.items():
        with pytest.raises(Exception, match=complaint):
            view.evaluate(call)


# ---- modules of the page alone -----------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(browser):
    """A blank page."""
    view = browser.new_page()
    yield view
    view.close()


def module(alone, name):
    """Open one module of the page, and what it imports, as `it` in a blank page."""
    joined = f"(() => {{ {playground.joined(name)}; return modules; }})()"
    alone.add_script_tag(content=f'var modules = {joined}; var it = modules["{name}"];')
    return alone


def test_relu_passes_nothing_back_at_its_kink(alone):
    """No picture above gives a ReLU an input of exactly 0."""
    view = module(alone, "network.js")
    for values, slopes in ([-3, -1e-300, -0.0, 0], [0] * 4), ([-1, 2, 0, 3], [0, 1, 0, 1]):
        back = "(x) => Array.from(it.reluBackward(new Float64Array(4).fill(1), x).dx)"
        assert view.evaluate(back, values) == slopes


@pytest.mark.parametrize("size", [1.0, 1e3, 1e300])
def test_large_logits_stay_finite(alone, size):
    logits = size * np.array([1.0, -1, 0, 1])
    tensor = torch.tensor(logits[None], requires_grad=True)
    loss = F.cross_entropy(tensor, torch.tensor([2]))
    loss.backward()
    log_probs, slopes = module(alone, "network.js").evaluate(
        """(z) => { const p = it.logSoftmaxForward(Float64Array.from(z));
        return [Array.from(p), Array.from(it.lossBackward(p, 2))]; }""",
        logits.tolist(),
    )
    assert -log_probs[2] == pytest.approx(loss.item(), rel=1e-14)
    np.testing.assert_allclose(slopes, tensor.grad[0], rtol=0, atol=1e-14)


def test_written_parts_add_up_and_are_rounded(alone):
    view = module(alone, "numbers.js")
    rng = np.random.default_rng(0)
    cases = [[0.0], [0.0, 0.0], [1.0, -1.0], [1e-7, -1e-9], [1e6, 1.5], [12.345, -12.344]]
    for size in (1e-9, 1e-4, 0.1, 1, 30, 1e4):
        cases += [(size * rng.normal(size=n)).tolist() for n in (1, 2, 3, 9, 10, 32)]
    for parts in cases:
        for free in (None, 0):
            written = view.evaluate(
                "([parts, total, free]) => it.together(parts, total, { free })",
                [parts, math.fsum(parts), free],
            )
            texts = [Decimal(text.replace("−", "-")) for text in written["texts"]]
            total = Decimal(written["total"].replace("−", "-"))
            assert sum(texts) == total, parts
            unit = 10.0 ** (total.as_tuple().exponent + written["power"])
            for k, (text, part) in enumerate(zip(texts, parts, strict=True)):
                apart = abs(float(text) * 10.0 ** written["power"] - part)
                assert apart <= (1.001 if k != free else len(parts)) * unit
            assert abs(float(total) * 10.0 ** written["power"] - math.fsum(parts)) <= 0.501 * unit


def test_the_parts_of_every_gradient_add_up_to_it(alone):
    """sums.js alone: the parts of each activation and each gradient, and their totals."""
    view = module(alone, "sums.js")
    images, chosen = playground.read_digits()
    weights = {name: it.ravel().tolist() for name, it in referee().state_dict().items()}
    image = ((images[20].ravel() - 255 * MNIST_MEAN) / (255 * MNIST_STD)).tolist()
    apart = view.evaluate(MEASURE, [weights, image, chosen["labels"][20]])
    assert {kind for kind, *_ in apart} == {"forward", "backward"}
    assert len(apart) > 80
    for kind, name, parts, total in apart:
        assert parts == pytest.approx(total, rel=1e-9, abs=1e-12), (kind, name)


MEASURE = """([lists, image, label]) => {
  const { LAYERS, forward, backward } = modules["network.js"];
  const weights = Object.fromEntries(
    Object.entries(lists).map(([name, list]) => [name, Float64Array.from(list)]));
  const outputs = forward(weights, Float64Array.from(image));
  const { slopes } = backward(weights, outputs, label);
  const found = [];
  for (const layer of LAYERS.filter(({ kind }) => kind === "conv" || kind === "linear")) {
    const places = ([channels, height, width]) => Array.from({ length: 5 }, (_, k) => ({
      c: (7 * k) % channels, i: (5 * k) % height, j: (k * (width - 1)) >> 2 }));
    const whole = ({ channels, bias }) => channels.reduce((sum, { part }) => sum + part, bias ?? 0);
    for (const place of places(layer.output)) {
      const sum = it.productsForward(weights, outputs, layer, place);
      found.push(["forward", layer.name, whole(sum), sum.total]);
    }
    const { name } = it.layerBefore(layer.name);
    for (const place of places(layer.input)) {
      const sum = it.productsBack(weights, slopes, layer, { name, ...place });
      found.push(["backward", layer.name, whole(sum), sum.total]);
    }
  }
  return found;
}"""


def test_labels_stay_apart_and_inside_and_ticks_are_few(alone):
    view = module(alone, "eight_plots.js")
    for places in ([0, 0, 0, 0, 0, 0, 0], [100] * 7, [3, 4, 90, 91, 92], [50]):
        moved = view.evaluate("(places) => it.spread(places, 8, 120, 15)", places)
        assert min(np.diff([-7, *moved])) >= 15 - 1e-9
        assert moved[-1] <= 120
    for top in (1e-9, 3e-5, 0.011, 0.25, 0.98, 7, 1234):
        ticks = view.evaluate("(top) => it.ticks(top)", top)
        assert 3 <= len(ticks) <= 7
        assert ticks[-1] <= top * (1 + 1e-9)


# ---- eight weights ---------------------------------------------------------------------------

SYMBOLS = ["i1", "i2", "t1", "t2", *(f"w{k}" for k in range(1, 9))]


def test_eight_weights_equal_network_py(shared):
    rng = np.random.default_rng(0)
    cases = [(*network.INPUTS, *network.TARGETS, *network.WEIGHTS)]
    cases += [(*rng.uniform(-1, 1, 4), *rng.normal(0, scale, 8)) for scale in (1, 1, 1, 30)]
    for case in cases:
        given_ = dict(zip(SYMBOLS, map(float, case), strict=True))
        units, slopes, curves = shared.evaluate(
            """([given, rates]) => [playground.eight.forward(given),
              playground.eight.gradients(given), rates.map((rate) => playground.eight.train(given,
              rate).map(({ E_total }) => E_total))]""",
            [given_, network.RATES],
        )
        parts = {"inputs": case[:2], "targets": case[2:4], "weights": case[4:]}
        expected = network.forward(parts["inputs"], parts["weights"])
        np.testing.assert_allclose([units[u] for u in network.UNITS], expected, rtol=1e-12)
        np.testing.assert_allclose(
            [units[e] for e in network.ERRORS], network.errors(**parts), rtol=1e-12
        )
        gradients = network.gradients(**parts)
        close = {"rtol": 1e-12, "atol": 1e-12 * np.abs(gradients).max()}
        np.testing.assert_allclose([slopes[f"w{k}"] for k in range(1, 9)], gradients, **close)
        for rate, curve in zip(network.RATES, curves, strict=True):
            trained = network.train(rate, **parts)["E_total"]
            np.testing.assert_allclose(curve, trained, rtol=0, atol=1e-12)


def test_the_chain_rule_is_stepped_through_to_the_gradient(view):
    view.click("#tab-eight")
    view.press("#next-factor", "Enter")
    assert view.locator("#factors li").count() == 1
    for k, slope in enumerate(network.gradients(), 1):
        press(view.locator(f"#chain-weights input[value=w{k}]"))
        lit, last = view.evaluate("""() => {
          const [next, lit] = [document.getElementById("next-factor"), []];
          while (!next.disabled) {
            next.click();
            lit.push(document.querySelectorAll("#diagram .lit").length);
          }
          return [lit, document.querySelector("#factors li:last-child").innerText]; }""")
        assert min(lit) >= 1  # every factor lights an edge or a unit
        assert len(lit) == (4 if k > 4 else 10)
        assert f"{slope:.6g}"[:7].replace("-", "−") in last or f"{slope * 1e4:.4f}"[:5] in last
    view.click("#first-factor")
    assert view.locator("#factors li").count() == 0


def test_sliders_steps_and_the_dragged_surface(view):
    press(view.locator("#tab-eight"))
    error = """[document.querySelector('#diagram .total').textContent.replace(/\\s+/g, ' '),
      document.querySelector('#curves').toDataURL()]"""
    start = view.evaluate(error)
    assert "= .24252" in start[0]
    ends = [f"{network.train(rate)['E_total'][-1]:.4g}" for rate in (0.1, 2.0)]
    said = view.inner_text("#curves-text")
    assert all(f"{float(end):g}" in said.replace("0.005160", "0.00516") for end in ends)
    view.click("#eight-step")
    assert f"{network.train(0.5, 1)['E_total'][1]:.6f}".lstrip("0") in view.evaluate(error)[0]
    box = view.locator("#surface").bounding_box()
    view.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"])
    view.mouse.down()
    view.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.3 * box["height"], steps=3)
    view.mouse.up()
    across = (0.4 * box["width"] - 40) / (box["width"] - 48)
    up = (0.7 * box["height"] - 34) / (box["height"] - 42)
    for name, share in {"w5": across, "w7": up}.items():  # of the span from -3 to 3
        value = float(view.input_value(f"[aria-label={name}]"))
        assert value == pytest.approx(-3 + 6 * share, abs=0.1)
    dragged = view.evaluate(error)
    assert dragged != start
    view.focus("#surface")
    view.keyboard.press("ArrowRight")
    assert view.evaluate(error) != dragged
    for name in ("eta", *SYMBOLS):
        before = view.evaluate(error)
        view.focus(f"[aria-label={name}]")
        view.keyboard.press("ArrowLeft" if name == "t2" else "ArrowRight")
        assert view.evaluate(error) != before, name
    view.click("#eight-reset")
    assert view.evaluate(error) != start  # the learning rate is not a start value
    view.click("#eight-undo")
    view.fill("[aria-label=eta]", "0.5")
    press(view.locator("#eight-reset"))
    assert view.evaluate(error) == start


def test_sliders_and_surface_share_a_span_that_grows(view):
    press(view.locator("#tab-eight"))
    view.fill("[aria-label=eta]", "10")
    view.evaluate("for (let k = 0; k < 60; k++) document.getElementById('eight-ten').click()")
    expected = network.train(10.0, 600)
    assert view.inner_text("#eight-away") == "600 steps taken."
    assert "at step 600" in view.inner_text("#eight-losses output")
    w5 = expected["w5"][-1]
    slider = view.locator("#knobs [aria-label=w5]")
    assert w5 < -3
    assert float(slider.get_attribute("min")) <= w5
    assert float(slider.input_value()) == pytest.approx(w5, abs=0.006)
    slider.focus()
    view.keyboard.press("ArrowRight")
    assert float(slider.input_value()) == pytest.approx(w5 + 0.01, abs=0.006)
    view.focus("#surface")
    view.keyboard.press("ArrowLeft")  # by 0.05, from where it was
    assert float(slider.input_value()) == pytest.approx(w5 - 0.04, abs=0.011)
    for _ in range(2):
        view.keyboard.press("Control+z")
    assert view.inner_text("#eight-away") == "600 steps taken."
    view.keyboard.press("Control+z")
    assert view.inner_text("#eight-away") == "590 steps taken."
    assert float(slider.input_value()) == pytest.approx(expected["w5"][-11], abs=0.006)
    press(view.locator("#eight-reset"))
    assert slider.get_attribute("min") == "-3"


# ---- drawing ---------------------------------------------------------------------------------


def hand(view, digit, box=(0.2, 0.12, 0.8, 0.88)):
    """Draw a digit within a part of the pad, as a mouse would that is moved quickly."""
    left, top, right, bottom = box
    strokes = []
    for stroke in STROKES[digit]:
        kept = stroke[:1]
        for point in stroke[1:]:
            if math.dist(point, kept[-1]) > 0.2 or point == stroke[-1]:
                kept.append(point)
        strokes.append([(left + (right - left) * x, top + (bottom - top) * y) for x, y in kept])
    view.evaluate(MOUSE, strokes)
    settle(view)


MOUSE = """(strokes) => {
  const [pad, frame] = ["pad", "pad-frame"].map((id) => document.getElementById(id));
  const box = pad.getBoundingClientRect();
  frame.setPointerCapture = () => {}; // only the browser's own events can be captured
  const send = (kind, [x, y]) => pad.dispatchEvent(new PointerEvent(kind, { bubbles: true,
    pointerType: "mouse", isPrimary: true, pointerId: 1, button: 0,
    buttons: kind === "pointerup" ? 0 : 1,
    clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
  for (const stroke of strokes) {
    send("pointerdown", stroke[0]);
    for (const point of stroke.slice(1)) send("pointermove", point);
    send("pointerup", stroke.at(-1));
  }
  delete frame.setPointerCapture;
}"""


def settle(view):
    """Wait until the page has drawn what was asked of it."""
    view.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")


def press(control):
    """Press a control at once. That a mouse and the keyboard reach it, others test."""
    control.evaluate("(it) => it.click()")
    settle(control.page)


def best(view):
    return int(view.inner_text("#bars .best .class"))


def shares(view):
    return [float(text.strip("%")) for text in view.locator("#bars .share").all_inner_texts()]


def canvas(view, name):
    """A canvas's pixels, uint8 (H, W, 4); the last, alpha, is the ink where it shows ink."""
    address = view.evaluate("(id) => document.getElementById(id).toDataURL()", name)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))))


def ink_of(view, name):
    return canvas(view, name)[..., 3].astype(int)


def test_a_hand_draws_every_digit_and_it_is_read_as_predict_would(view, tmp_path):
    model = referee()
    read = []
    for digit in range(10):
        press(view.locator("#clear"))
        hand(view, digit)
        read.append(best(view))

        # What the network sees is what photos.py makes of the same ink, but for rounding.
        pad, seen = canvas(view, "pad"), ink_of(view, "seen")
        assert np.abs(seen - centre(fit_box(crop(pad[..., 3] / 255))).astype(int)).max() <= 1

        # And the whole way: the pad as a picture, read from a file.
        Image.fromarray(pad).save(tmp_path / "pad.png")
        image = normalise(read_digit(tmp_path / "pad.png")[None].float()).double()
        assert model(image).argmax().item() == best(view)
    assert read == list(range(10))


def test_ink_is_fitted_and_centred_as_photos_py_does(shared):
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 80), (80, 1), (28, 28), *rng.integers(1, 80, (12, 2)).tolist()]
    for height, width in sizes:
        ink = (rng.random((height, width)) * (rng.random((height, width)) < 0.2)).astype(np.float32)
        seen = shared.evaluate(
            "([ink, width]) => { const seen = playground.see(ink, width);"
            " return seen && Array.from(seen); }",
            [ink.ravel().tolist(), width],
        )
        if (ink > 0.1).any():
            expected = centre(fit_box(crop(ink))).astype(int)
            assert np.abs(np.reshape(seen, (28, 28)) - expected).max() <= 1, (height, width)
        else:
            assert seen is None


def test_bars_follow_the_stroke_and_undo_goes_back(view):
    first = shares(view)  # the digit that the page opens with
    pad = view.locator("#pad").bounding_box()
    view.mouse.move(pad["x"] + 150, pad["y"] + 40)
    view.mouse.down()
    view.mouse.move(pad["x"] + 150, pad["y"] + 90, steps=4)
    settle(view)
    early = shares(view)
    view.mouse.move(pad["x"] + 90, pad["y"] + 240, steps=8)
    view.mouse.move(pad["x"] + 220, pad["y"] + 240, steps=8)
    settle(view)
    late = shares(view)
    view.mouse.up()
    assert early != late  # while the mouse is still down
    view.click("#undo")
    settle(view)
    assert shares(view) == first
    hand(view, 7)
    view.click("#clear")
    settle(view)
    assert "blank" in view.get_attribute("#bars", "class")
    assert view.is_visible("#pad-hint")
    view.click("#undo")
    settle(view)
    assert best(view) == 7


def test_a_finger_draws(touched):
    view = touched
    view.set_viewport_size({"width": 390, "height": 844})
    view.evaluate(AFRESH)
    settle(view)
    pad = view.locator("#pad").bounding_box()
    session = view.context.new_cdp_session(view)
    press(view.locator("#clear"))

    def touch(kind, *points):
        places = [{"x": pad["x"] + x, "y": pad["y"] + y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", (180, 40))
    for y in range(60, 320, 20):
        touch("touchMove", (180, y))
    touch("touchEnd")
    settle(view)
    assert best(view) == 1
    assert view.evaluate("scrollY") == 0  # the page stood still
    session.detach()


def test_the_keyboard_draws(view):
    press(view.locator("#clear"))
    view.focus("#pad")
    for key in ["ArrowUp"] * 9 + [" "] + ["ArrowDown"] * 18:
        view.keyboard.press(key)
    settle(view)
    assert best(view) == 1


def test_a_test_digit_brings_its_label_and_another_drawing_has_none(view):
    _, chosen = playground.read_digits()
    for k in (0, 4):
        press(view.locator("#ordinary input").nth(k))
        settle(view)
        assert view.is_checked(f"#labels input[value='{chosen['labels'][k]}']")
    press(view.locator("#undo"))
    settle(view)
    assert view.is_checked(f"#labels input[value='{chosen['labels'][0]}']")
    assert view.locator("#ordinary input").first.is_checked()
    press(view.locator("#clear"))
    hand(view, 7)
    assert view.locator("#labels :checked").count() == 0
    press(view.locator("#labels input[value='7']"))
    hand(view, 1, box=(0.1, 0.1, 0.2, 0.2))
    assert view.is_checked("#labels input[value='7']")  # the same drawing, gone on with


def test_ink_on_a_test_digit_stays_where_it_is_drawn(view):
    press(view.locator("#ordinary input").nth(2))
    settle(view)
    before = ink_of(view, "seen")
    images, _ = playground.read_digits()
    assert (before == images[2]).all()
    hand(view, 7, box=(0.1, 0.02, 0.3, 0.2))
    after = ink_of(view, "seen")
    changed = after != before
    assert changed.any()
    assert not changed[:, 12:].any()
    assert (after >= before).all()


# ---- looking inside --------------------------------------------------------------------------


def number(text):
    """A number as the page writes it."""
    text = text.replace("−", "-").replace(" · 10", "e").strip()
    return float(text)


def test_every_layer_is_there_in_order_with_shape_and_field(view):
    rows = view.eval_on_selector_all(
        ".layer:not(#layer-input)",
        "all => all.map((row) => [row.id, row.textContent.replace(/\\s+/g, ' ')])",
    )
    modules = [name for name, m in MNISTNet().named_modules() if not list(m.children())]
    assert [name.removeprefix("layer-") for name, _ in rows] == modules
    parts = view.locator("#architecture .part b").all_inner_texts()
    assert parts == view.locator("#layers h3").all_inner_texts()
    seen, _, _ = by_autograd(referee(), np.zeros(784))
    fields = {row.layer: row.receptive_field for row in receptive_fields(MNISTNet())}
    for name, text in rows:
        name = name.removeprefix("layer-")
        assert " × ".join(map(str, seen[name].shape[1:])) in text
        if name in fields:
            assert f"sees {fields[name]} × {fields[name]}" in text


WALK = """(keys) => {
  const text = (selector) => [...document.querySelectorAll(`#explanation ${selector}`)]
    .map((it) => it.textContent);
  const numbers = (all) => [...all].map((it) => it.textContent);
  const written = () => {
    const found = [];
    for (const way of document.querySelectorAll("#explanation .way")) {
      for (const table of way.querySelectorAll("table.adds")) {
        found.push([way.className, numbers(table.querySelectorAll("tbody td:last-child")),
          table.querySelector("tfoot td").textContent]);
      }
      for (const cells of way.querySelectorAll(".cells.adds")) {
        const total = cells.closest(".products, li").querySelector(".total").textContent;
        found.push([way.className, numbers(cells.children), total]);
      }
      for (const line of way.querySelectorAll(".figures")) {
        const sum = line.textContent.match(/(−?[\\d.]+) ([+−]) ([\\d.]+) = (−?[\\d.]+)\\s*$/);
        if (sum) found.push([way.className, [sum[1], sum[2].replace("+", "") + sum[3]], sum[4]]);
      }
    }
    return found;
  };
  return [...document.querySelectorAll(".layer")].flatMap(({ id }) => keys.map((key) => {
    document.querySelector(`[id="${id}"] canvas`)
      .dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    return { name: id.replace("layer-", ""), what: text(".what")[0], value: text(".value")[0],
      slope: text(".slope")[0], end: text(".forward .chosen .why").at(-1), sums: written(),
      ends: text(".backward .why"), powers: text(".backward sup").length,
      heading: text(".backward h5")[0], links: text(".backward .number").length };
  }));
}"""
EXPLAINED = {  # the layer, and what is named on the backward side of its explanation
    "input": "Convolution: block1.conv1",
    "block1.conv1": "Normalisation: block1.norm1",
    "block1.norm1": "ReLU: block1.relu1",
    "block1.relu1": "Convolution: block1.conv2",
    "block1.relu2": "Max pooling: transition1.pool",
    "transition1.pool": "Convolution: transition1.conv",
    "block3.relu2": "Global average: gap",
    "dropout": "Fully connected: fc",
    "fc": "Softmax and loss",
    "log_softmax": "The loss",
}


def test_every_layer_is_explained_by_sums_that_add_up_as_written(view):
    """Forward they end in the activation, backward in its gradient, to the last digit shown."""
    decimal = lambda text: Decimal(text.strip().replace("−", "-"))  # noqa: E731
    images, chosen = playground.read_digits()
    press(view.locator("#mistakes input").nth(3))
    settle(view)
    values, *_ = by_autograd(referee(), images[23], chosen["labels"][23])
    ways = {"forward": 0, "backward": 0}
    walk = view.evaluate(WALK, ["Enter", "PageDown", "ArrowDown"])
    for seen in walk:
        name = seen["name"]
        for way, parts, total in seen["sums"]:
            assert sum(map(decimal, parts)) == decimal(total), (name, way, parts, total)
            ways[way.split()[1]] += 1
        if name != "input":
            place = tuple(int(n) for n in re.findall(r"\d+", seen["what"]))
            value = np.squeeze(values[name][0])[place]
            assert number(seen["value"]) == pytest.approx(value, rel=1e-3)
            assert number(seen["end"]) == pytest.approx(value, rel=1e-3)
        if name != "log_softmax" and not seen["powers"]:
            slope = pytest.approx(number(seen["slope"]), rel=2e-2, abs=1e-4)
            assert any(number(end) == slope for end in seen["ends"])
        assert seen["heading"] == EXPLAINED.get(name, seen["heading"])
        assert (seen["links"] > 0) == (name not in ("fc", "log_softmax"))
    assert min(ways.values()) > 40
    assert {seen["name"] for seen in walk} >= {*EXPLAINED}


def test_a_number_leads_to_where_it_comes_from_down_to_the_image(view):
    view.locator('[id="layer-log_softmax"] canvas').click(position={"x": 10, "y": 10})
    view.locator("#explanation .number").first.click()
    trail = view.evaluate("""() => {
      const trail = [];
      let next;
      while ((next = document.querySelector("#explanation .number")) && trail.length < 40) {
        trail.push(document.querySelector("#explanation h3").textContent);
        next.click();
      }
      return [...trail, document.querySelector("#explanation h3").textContent]; }""")
    assert trail[0] == "fc"
    assert trail[-1] == "the image"
    assert len(trail) > 8
    press(view.locator("#labels input[value='3']"))
    view.locator(".backward .number").first.click()  # and a pixel's gradient to what made it
    assert view.inner_text("#explanation h3") == "block1.conv1"


def overlay(view):
    return view.evaluate("document.getElementById('overlay').toDataURL()")


def test_pointing_lights_up_a_field_and_a_press_holds_it_until_something_ends_it(view):
    empty = overlay(view)
    row = view.locator('[id="layer-block1.relu1"] canvas')
    row.hover(position={"x": 40, "y": 20})
    pointed = view.inner_text("#explanation .what")
    row.hover(position={"x": 14, "y": 14})
    assert overlay(view) != empty
    assert view.inner_text("#explanation .what") != pointed
    view.locator("#inside-title").hover()
    assert overlay(view) == empty

    def held():
        row.click(position={"x": 14, "y": 14})
        picked = view.inner_text("#explanation .what")
        row.hover(position={"x": 40, "y": 20})
        assert view.inner_text("#explanation .what") == picked
        view.locator("#inside-title").hover()
        return overlay(view) != empty

    for end in ("Escape", "cross", "stroke", "clear", "digit"):
        assert held()
        if end == "Escape":
            view.keyboard.press("Escape")
        elif end == "cross":
            view.click("#close")
        elif end == "stroke":
            hand(view, 7)
        elif end == "clear":
            press(view.locator("#clear"))
        else:
            press(view.locator("#ordinary input").first)
            view.uncheck("#hint")
        settle(view)
        assert view.inner_text("#explanation h3") == "Where a number comes from", end
        assert overlay(view) == empty


def test_a_channel_is_typed_in(view):
    view.locator('[id="layer-block2.conv2"] canvas').click(position={"x": 47, "y": 14})
    field = view.locator("[data-channel=forward]")

    def channel():
        return view.inner_text(".addition tbody th >> nth=0")

    for typed, shown in {"12": 12, "5": 5, "0": 0, "99": 15, "1.5": 1, "-3": 1}.items():
        field.focus()
        view.keyboard.press("Control+A")
        view.keyboard.type(typed)
        assert channel() == f"input channel {shown}", typed
        view.keyboard.press("Tab")
        assert field.input_value() == str(shown), typed
    field.focus()
    view.keyboard.press("Control+A")
    view.keyboard.press("Delete")  # no number yet: nothing changes
    assert channel() == "input channel 1"
    strip = view.locator(".strip[data-side=forward]")
    box = strip.bounding_box()
    strip.click(position={"x": box["width"] * 3.5 / 16, "y": 20})
    assert channel() == "input channel 3"
    assert field.input_value() == "3"


def test_numbers_open_the_lines_that_derive_them_inside_the_page(view):
    view.locator('[id="layer-block1.relu1"] canvas').click(position={"x": 14, "y": 14})
    view.locator(".forward .why").first.click()
    assert view.inner_text("#note h3") == "Convolution"
    assert "multiplies each weight by the pixel" in view.inner_text("#note")
    assert view.locator("#note math").count() > 0
    assert view.locator("#note merror").count() == 0
    view.keyboard.press("Escape")
    assert view.is_hidden("#note")
    assert view.inner_text("#explanation h3") == "block1.relu1"  # only the note was closed
    view.locator(".forward .why").first.focus()
    view.keyboard.press("Enter")
    assert view.is_visible("#note")
    press(view.locator("#tab-eight"))
    assert view.is_hidden("#note")
    view.locator("#diagram .node .why").first.click()
    assert view.inner_text("#note h3") == "1. Forward pass"


def test_every_line_is_shown_without_a_trace_of_its_source(alone):
    view = module(alone, "prose.js")
    for name, line in playground.lines().items():
        html = view.evaluate("(text) => it.toHTML(text)", line["text"])
        text = re.sub(r"<[^>]+>", "", html)
        assert not re.search(r"\\\\|\$|\*\*|\]\(|[{}]", text), (name, text)


def test_the_links_lead_to_the_walkthrough_from_disk_and_from_github_pages(browser, view):
    pages = "https://someone.github.io/some-fork/"
    fork = browser.new_page()
    fork.route(pages, lambda route: route.fulfill(path=FILE, content_type="text/html"))
    fork.goto(pages + "#eight")
    fork.locator("#diagram .node .why").first.click()
    there = "https://github.com/someone/some-fork/blob/HEAD/backprop/README.md"
    assert fork.locator("#note .more a").get_attribute("href") == f"{there}#1-forward-pass"
    assert fork.get_attribute("#walkthrough", "href") == there
    fork.close()
    assert view.get_attribute("#walkthrough", "href") == "README.md"


def test_a_word_says_what_it_means_on_hover_on_focus_and_in_a_list(view):
    word = view.locator("#loss .word").first
    word.hover()
    assert view.inner_text("#note").startswith("loss")
    view.locator("h1").hover()
    view.wait_for_selector("#note", state="hidden")
    word.focus()
    assert view.is_visible("#note")
    view.keyboard.press("Escape")
    assert view.is_hidden("#note")
    view.click("summary")
    listed = view.locator("#words dt").all_inner_texts()
    assert {"activation", "kernel", "ReLU", "logit", "natural log"} <= set(listed)
    used = view.eval_on_selector_all(".word", "all => all.map((it) => it.dataset.word)")
    assert set(used) <= set(listed)


def test_the_architecture_leads_to_the_layers(view):
    view.locator(".part").nth(2).click()
    places = view.evaluate("""() => [...document.querySelectorAll(".part")].map((part) => {
      part.click();
      const heading = document.getElementById(`stage-${part.dataset.stage}`);
      return heading.getBoundingClientRect().y; })""")
    assert all(-1 <= place < 900 for place in places)
    view.locator('[id="layer-block2.conv2"] canvas').click(position={"x": 47, "y": 14})
    assert view.inner_text(".part[aria-current] b") == "Block 2"


def test_the_tour_shows_what_it_talks_of_and_can_be_left_and_taken_up(view):
    view.click("#tour-open")
    view.wait_for_selector(".toured")
    stops = int(re.search(r"of (\d+)", view.inner_text("#tour-count"))[1])
    assert 8 <= stops <= 10
    shown = view.evaluate(TOUR, stops)
    assert [count for count, *_ in shown] == [f"Stop {k + 1} of {stops}" for k in range(stops)]
    assert len({title for _, title, *_ in shown}) == stops
    for _, title, top, bottom in shown:
        assert top < 900, title
        assert bottom > 0, title
    assert view.is_visible("#diagram")
    view.click("#tour-back")
    view.click("#tour-close")
    assert view.locator(".toured").count() == 0
    assert f"{stops - 1} of" in view.inner_text("#tour-open")
    view.click("#tour-open")
    assert view.inner_text("#tour-count") == f"Stop {stops - 1} of {stops}"
    view.click("#tour-next")
    view.keyboard.press("Escape")
    assert view.is_hidden("#tour")
    assert view.inner_text("#tour-open") == "Take the tour"


TOUR = """async (stops) => {
  const text = (id) => document.getElementById(id).textContent;
  const frame = () => new Promise(requestAnimationFrame);
  const seen = [];
  while (seen.length < stops) {
    await frame().then(frame);
    const { top, bottom } = document.querySelector(".toured").getBoundingClientRect();
    seen.push([text("tour-count"), text("tour-title"), top, bottom]);
    if (seen.length < stops) document.getElementById("tour-next").click();
  }
  return seen;
}"""


# ---- teaching --------------------------------------------------------------------------------


def wait_for_the_others(view):
    view.wait_for_function("document.getElementById('others').ariaBusy === 'false'")


def read_others(model):
    images, chosen = playground.read_digits()
    pixels = torch.tensor(images[40:, None], dtype=torch.float64)
    with torch.no_grad():
        guesses = model((pixels - 255 * MNIST_MEAN) / (255 * MNIST_STD)).argmax(1)
    return guesses == torch.tensor(chosen["labels"][40:])


def test_a_step_teaches_and_what_it_does_to_others_is_counted_and_marked(view):
    load(view)
    images, chosen = playground.read_digits()
    press(view.locator("#mistakes input").first)
    label = chosen["labels"][20]
    wait_for_the_others(view)
    assert view.is_checked(f"#labels input[value='{label}']")
    before, loss = shares(view), number(view.inner_text("#loss b"))
    lr = 10 ** float(view.input_value("#rate"))

    model = referee()
    right = read_others(model)
    assert f"{right.sum()} of them read right" in view.inner_text("#others-title")
    for step in range(11):
        seen, gradients, _ = by_autograd(model, images[20], label)
        if step == 0:
            assert loss == pytest.approx(-seen[""][0][label], rel=1e-3)
        for name, parameter in model.named_parameters():
            parameter.data -= lr * torch.tensor(gradients[name])
        if step == 0:
            one = read_others(model)
    view.click("#step")
    wait_for_the_others(view)
    assert number(view.inner_text("#loss b")) < loss
    view.click("#ten")
    wait_for_the_others(view)
    now = read_others(model)
    assert f"{now.sum()} read right" in view.inner_text("#others-title")
    kinds = view.eval_on_selector_all("#others label", "all => all.map((a) => a.dataset.kind)")
    assert {*kinds} == {"right", "wrong", "learned", "unlearned"}
    for was, is_, kind in zip(one, now, kinds, strict=True):  # by the last press
        assert kind == [["wrong", "learned"], ["unlearned", "right"]][int(was)][int(is_)]
    press(view.locator("#tab-eight"))
    press(view.locator("#tab-digit"))
    assert view.inner_text("#away-text") == "11 steps from the trained weights"
    after = by_autograd(model, images[20], label)[0][""][0]
    assert shares(view) == [pytest.approx(100 * math.exp(p), abs=0.051) for p in after]

    view.click("#unstep")
    wait_for_the_others(view)
    assert view.inner_text("#away-text") == "1 step from the trained weights"
    assert "at step 1" in view.inner_text("#losses output")
    view.click("#trained-bar")
    wait_for_the_others(view)
    assert shares(view) == before
    assert view.is_hidden("#away")
    assert f"{right.sum()} read right" in view.inner_text("#others-title")
    press(view.locator("#unstep"))  # going back can be undone, too
    assert view.inner_text("#away-text") == "1 step from the trained weights"


def test_naming_the_digit_sends_the_gradient_back_and_nothing_jumps(view):
    places = """() => ["#bars", "#step", "#others", "#inside-title", "#layers"].map((id) =>
      document.querySelector(id).getBoundingClientRect().top)"""
    before = view.evaluate(places)
    assert view.is_disabled("#step")
    assert view.is_disabled("[name=show][value=slopes]")
    press(view.locator("#labels input[value='8']"))
    assert view.evaluate(places) == before
    pictures = set()
    for show in ("outputs", "slopes", "weights", "gradients"):
        press(view.locator(f"[name=show][value={show}]"))
        picture = "document.querySelector('[id=\"layer-block1.conv1\"] canvas').toDataURL()"
        pictures.add(view.evaluate(picture))
    assert len(pictures) == 4
    laid_over = overlay(view)
    view.uncheck("#hint")
    assert overlay(view) != laid_over


def test_undo_goes_back_through_everything_and_is_bounded(view):
    load(view)
    first = shares(view)
    press(view.locator("#ordinary input").first)
    settle(view)
    press(view.locator("#labels input[value='3']"))
    taken = shares(view)
    press(view.locator("#step"))
    taught = shares(view)
    press(view.locator("#clear"))
    settle(view)
    for state, label in ((taught, "3"), (taken, "3"), (first, None)):
        view.keyboard.press("Control+z")
        settle(view)
        assert shares(view) == state
        checked = view.locator("#labels :checked")
        assert (checked.input_value() if checked.count() else None) == label
    assert view.is_hidden("#away")
    view.evaluate("playground.network(Array(784).fill(0)); playground.gradients(3)")
    view.evaluate("for (let k = 0; k < 52; k++) playground.step(1e-6)")
    undone = view.evaluate("""() => { let count = 0; const undo = document.getElementById("unstep");
      while (!undo.disabled) { undo.click(); count++; } return count; }""")
    assert undone == 50
    assert view.inner_text("#away-text") == "2 steps from the trained weights"


def test_the_loss_is_drawn_over_the_steps_and_said_where_one_points(view):
    press(view.locator("#mistakes input").first)
    settle(view)
    losses = [number(view.inner_text("#loss b"))]
    for _ in range(3):
        press(view.locator("#step"))
        losses.append(number(view.inner_text("#loss b")))
    chart = view.locator("#losses svg")
    assert len(re.findall("[ML]", view.get_attribute("#losses .line", "d"))) == 4
    box = chart.bounding_box()
    for step, loss in enumerate(losses):
        chart.hover(position={"x": min(box["width"] - 1, 1 + step * box["width"] / 3), "y": 20})
        said = view.inner_text("#losses output")
        assert said.startswith(f"step {step}:")
        assert number(said.split(":")[1]) == loss
    press(view.locator("#ordinary input").first)  # another digit begins another line
    settle(view)
    press(view.locator("#step"))
    assert view.get_attribute("#losses .line", "d").count("M") == 2
    assert view.inner_text("#away-text") == "4 steps from the trained weights"  # for all digits


# ---- the address -----------------------------------------------------------------------------


def looks(view):
    """What a link should bring back."""
    return view.evaluate("""() => [
      [...document.querySelectorAll("#bars .share, #knobs output")].map((it) => it.textContent),
      [...document.querySelectorAll("main input:checked")].map((it) => it.name + it.value).sort(),
      document.getElementById("explanation").textContent, document.getElementById("rate").value,
      document.getElementById("eight").hidden, document.getElementById("factors").textContent,
      document.getElementById("overlay").toDataURL()]""")


def test_a_link_opens_the_same_view_and_back_leads_back(view):
    load(view)

    def address(*shown):
        """The address, when it tells of these: it follows a moment later."""
        every = "(shown) => shown.every((name) => location.hash.includes(`${name}=`))"
        view.wait_for_function(every, arg=shown)
        return view.evaluate("location.href")

    view.wait_for_timeout(350)  # whatever there was to write would have been written
    assert address() == ADDRESS
    hand(view, 5)
    press(view.locator("#labels input[value='6']"))
    view.focus("#rate")
    view.keyboard.press("ArrowRight")
    press(view.locator("[name=show][value=slopes]"))
    view.locator('[id="layer-block2.relu2"] canvas').click(position={"x": 47, "y": 14})
    view.mouse.move(0, 0)
    drawing, address_of_drawing = looks(view), address("draw", "label", "rate", "show", "pick")
    view.keyboard.press("Escape")
    press(view.locator("#others input").nth(7))
    settle(view)
    digit, address_of_digit = looks(view), address("digit")
    press(view.locator("#tab-eight"))
    view.focus("[aria-label=w3]")
    view.keyboard.press("ArrowRight")
    view.click("#eight-ten")
    press(view.locator("#chain-weights input[value=w2]"))
    view.press("#next-factor", "Enter")
    eight, address_of_eight = looks(view), address("w3", "chain", "factor")
    view.go_back()
    settle(view)
    assert address("digit") == address_of_digit
    assert view.is_visible("#digit")
    for wanted, link in (
        (eight, address_of_eight),
        (drawing, address_of_drawing),
        (digit, address_of_digit),
    ):
        load(view, link)
        settle(view)
        assert looks(view) == wanted


def test_a_strange_address_opens_the_page_as_well(view):
    for strange in (
        *("#digit=-1", "#draw=%%%&label=17", "#draw=AAA", "#pick=block9.conv1/0/0/0&show=what"),
        *("#pick=fc/10/0/0", "#view=eight&w1=Infinity&eta=-3&factor=1e9&chain=w9"),
        "#rate=nan&=&&",
    ):
        view.evaluate("(hash) => { location.hash = hash; }", strange)
        settle(view)
        assert view.complaints == [], strange
        assert view.is_visible("#bars") != view.is_visible("#diagram")


# ---- what a step teaches ---------------------------------------------------------------------


def test_the_overlay_shows_where_more_ink_would_help(view):
    """Green where ∂L/∂image is below zero, purple where it is above."""
    images, chosen = playground.read_digits()
    press(view.locator("#mistakes input").first)
    settle(view)
    _, gradients, _ = by_autograd(referee(), images[20], chosen["labels"][20])
    slope = gradients["image"][0, 0]
    colours = canvas(view, "overlay")
    middles = (np.arange(28) + 0.5) * 400 / 28
    colours = colours[middles.astype(int)][:, middles.astype(int)]
    strong = np.abs(slope) > 0.2 * np.abs(slope).max()
    assert strong.sum() > 20
    green = colours[..., 1] > colours[..., 0]
    assert (green[strong] == (slope < 0)[strong]).all()
    assert (np.abs(colours[strong][:, :3][slope[strong] < 0] - [0, 158, 115]) < 4).all()
    assert (np.abs(colours[strong][:, :3][slope[strong] > 0] - [204, 121, 167]) < 4).all()


# ---- the whole page --------------------------------------------------------------------------


@pytest.mark.parametrize("tab", ["#tab-digit", "#tab-eight"])
def test_every_control_can_be_pressed(view, tab):
    press(view.locator(tab))
    if tab == "#tab-digit":
        press(view.locator("#labels input[value='3']"))
        view.locator('[id="layer-block1.conv2"] canvas').click(position={"x": 20, "y": 20})
    pressed = view.evaluate("""() => {
      const controls = document.querySelectorAll("main :is(button, input, [tabindex='0'])");
      return [...controls].filter((it) => {
        if (!it.checkVisibility() || it.disabled) return false;
        if (it.type === "range" || it.type === "number") {
          it.stepUp();
          it.dispatchEvent(new Event("input", { bubbles: true }));
        } else it.click();
        return true;
      }).length;
    }""")
    assert pressed > (170 if tab == "#tab-digit" else 20)
    view.evaluate("document.getElementById('note-close').click()")
    settle(view)


def test_the_keyboard_reaches_everything(view):
    press(view.locator("#labels input[value='3']"))
    for tab in ("tab-digit", "tab-eight"):
        view.click(f"#{tab}")
        wanted = view.evaluate("""() => {
          const all = document.querySelectorAll("button, input, [tabindex='0'], a[href]");
          const reach = [...all].filter((it) => it.checkVisibility() && !it.disabled
            && it.tabIndex >= 0 && it.id !== "");
          return reach.filter((it) => it.type !== "radio").map((it) => it.id);
        }""")
        reached, groups = set(), set()
        view.focus("#tour-open")
        for _ in range(300):
            now, group, marked = view.evaluate("""() => {
              const it = document.activeElement;
              const shown = it.type === "radio" ? it.parentElement : it;
              return [it.id, it.type === "radio" ? it.name : "",
                getComputedStyle(shown).outlineStyle !== "none"];
            }""")
            reached.add(now)
            groups.add(group)
            if now == "walkthrough":
                break
            view.keyboard.press("Tab")
            assert marked or now in (tab, "tour-open"), now  # the focus can be seen
        assert set(wanted) <= reached
        radios = {"tab-digit": {"digit", "label", "show"}, "tab-eight": {"chain"}}[tab]
        assert radios <= groups
    view.focus("#tab-eight")
    view.keyboard.press("ArrowLeft")
    view.focus("#labels input[value='3']")
    view.keyboard.press("ArrowRight")
    assert view.is_checked("#labels input[value='4']")


def test_screen_readers_get_a_name_for_everything(view):
    press(view.locator("#labels input[value='3']"))
    view.locator('[id="layer-block1.conv2"] canvas').click(position={"x": 20, "y": 20})
    session = view.context.new_cdp_session(view)
    for tab in ("#tab-eight", "#tab-digit"):
        press(view.locator(tab))
        tree = session.send("Accessibility.getFullAXTree")["nodes"]
        roles = {"button", "radio", "slider", "checkbox", "tab", "link", "spinbutton"}
        roles |= {"application", "tabpanel", "region", "complementary"}
        named = 0
        for node in tree:
            if node.get("ignored") or node.get("role", {}).get("value") not in roles:
                continue
            assert node.get("name", {}).get("value", "").strip(), node
            named += 1
        assert named > 20
    said = "document.getElementById('verdict').textContent"
    view.wait_for_function(f"/^The network reads the digit \\d, \\d+ per cent\\.$/.test({said})")


CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((it) => {
  const box = it.getBoundingClientRect();
  const outside = box.right > innerWidth + 0.5 || box.left < -0.5;
  const clipped = !outside && it.scrollWidth > it.clientWidth + 1
    && getComputedStyle(it).overflowX !== "visible";
  return box.width > 0 && (outside || clipped) && it.checkVisibility()
    && !it.closest(".visually-hidden, [type=radio]");
}).map((it) => it.outerHTML.slice(0, 80))"""


SIZES = {  # of a window, and how large its text is
    "desktop": (1366, 768, 1),
    "small laptop": (1024, 768, 1),
    "tablet": (820, 1180, 1),
    "phone": (390, 844, 1),
    "old phone": (320, 568, 1),
    "phone held sideways": (844, 390, 1),
    "small phone held sideways": (568, 320, 1),
    "at 200%": (720, 450, 1),
    "large text": (1366, 768, 2),
}


def test_nothing_is_cut_off_and_the_pad_leaves_room_at_any_size(touched):
    for size, (width, height, larger) in SIZES.items():
        touched.emulate_media(color_scheme="dark" if size in ("phone", "desktop") else "light")
        touched.set_viewport_size({"width": width, "height": height})
        style = touched.add_style_tag(content=LARGE_TEXT) if larger > 1 else None
        check_size(touched, size, width, height, larger)
        if style:
            style.evaluate("(it) => it.remove()")


def check_size(view, size, width, height, larger):
    """Both views, before and after a digit is named and an activation picked."""
    view.evaluate(AFRESH)
    settle(view)
    assert view.evaluate(CUT_OFF) == []
    pad = view.locator("#pad").bounding_box()
    assert pad["height"] <= 0.6 * height + 1
    if larger == 1 and size not in ("old phone", "at 200%"):
        step = view.locator("#step").bounding_box()  # together on the screen
        assert step["y"] + step["height"] - pad["y"] <= height
    press(view.locator("#labels input[value='3']"))
    row = view.locator('[id="layer-block2.conv2"]')
    row.locator("canvas").click(position={"x": 20, "y": 20})
    assert view.is_visible("#explanation .sum")
    assert view.evaluate(CUT_OFF) == []
    if view.evaluate("getComputedStyle(document.getElementById('explain')).position") == "fixed":
        tapped, sheet = row.bounding_box(), view.locator("#explain").bounding_box()
        assert tapped["y"] + min(tapped["height"], 60) <= sheet["y"]  # it is not hidden
        view.click("#close")
    view.evaluate("scrollTo(0, 0)")
    press(view.locator("#tab-eight"))
    press(view.locator("#next-factor"))
    assert view.evaluate(CUT_OFF) == []
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    texts = view.eval_on_selector_all(
        "#diagram text", "all => all.map((it) => it.getBoundingClientRect().height)"
    )
    assert min(texts) > 9  # pixels from top to bottom of the smallest
    assert contrast(view, "--muted", "--paper") > 4.5
    assert contrast(view, "--ink", "--surface") > 7
    assert contrast(view, "--accent", "--accent-ink") > 4.5


# What a browser's setting for larger text does to sizes in pixels: it zooms them.
LARGE_TEXT = ":is(p, button, h1, h2, h3, dt, dd, label, legend, figcaption) { font-size: 26px; }"


def test_a_finger_scrolls_past_sliders_and_the_surface(touched):
    from playwright.sync_api import TimeoutError as Late

    view = touched
    view.set_viewport_size({"width": 390, "height": 844})
    view.evaluate(AFRESH)
    press(view.locator("#tab-eight"))
    session = view.context.new_cdp_session(view)
    values = "[...document.querySelectorAll('#knobs output')].map((it) => it.textContent)"
    before = view.evaluate(values)

    def swipe(x, y):
        for kind, up in (("touchStart", 0), *(("touchMove", 15 * k) for k in range(1, 12))):
            points = [{"x": x, "y": y - up}]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        settle(view)

    for name, across in (("#knobs [aria-label=w1]", 0.8), ("#surface", 0.9)):
        for _ in range(8):  # a browser on a busy machine drops a swipe now and then
            view.locator(name).evaluate("(it) => it.scrollIntoView({ block: 'center' })")
            settle(view)
            box = view.locator(name).bounding_box()
            top = view.evaluate("scrollY")
            swipe(box["x"] + across * box["width"], box["y"] + box["height"] / 2)
            with suppress(Late):
                view.wait_for_function("(top) => scrollY > top", arg=top, timeout=3_000)
                break
        else:
            pytest.fail(f"a finger on {name} does not scroll the page")
        assert view.evaluate(values) == before, name
    session.detach()


def test_high_contrast_shows_what_is_chosen_and_how_much(view):
    press(view.locator("#labels input[value='3']"))
    view.emulate_media(forced_colors="active")
    settle(view)
    colours = view.evaluate("""() => {
      const of = (selector) => getComputedStyle(document.querySelector(selector)).backgroundColor;
      return [[".bars .best .bar", ".bars .track"], ["[role=tab][aria-selected=true]",
        "[role=tab][aria-selected=false]"], ["#labels :checked + span", "#labels span"],
        [".segments :checked + span", ".segments :enabled:not(:checked) + span"],
        [".flow-bars div", "body"], [".key.more", ".key.less"], [".key.less", "body"]]
        .map((pair) => pair.map(of)); }""")
    view.emulate_media(forced_colors="none")
    for chosen, other in colours:
        assert chosen != other


def test_each_view_prints_light_and_complete_on_one_page(window):
    view = window
    view.emulate_media(color_scheme="dark")
    load(view, ADDRESS + "#label=7&pick=block2.relu1/3/5/6")
    settle(view)
    press(view.locator("#step"))
    for tab in ("#tab-digit", "#tab-eight"):
        view.emulate_media(media="screen")
        press(view.locator(tab))
        view.emulate_media(media="print")
        settle(view)
        printed = view.pdf(prefer_css_page_size=True, print_background=True)
        assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1, tab
        paper = view.evaluate("getComputedStyle(document.body).getPropertyValue('--paper')")
        assert paper == "#f6f5f1"
        if tab == "#tab-digit":
            pad = canvas(view, "pad")
            assert pad[pad[..., 3] > 200][:, 0].max() < 60  # dark ink
            for shown in ("#away", "#explanation .sum", "#layers", "#bars", "#architecture"):
                assert view.is_visible(shown), shown
    view.emulate_media(media="screen", color_scheme="light")


def contrast(view, *names):
    """The contrast ratio of two of the page's colours, as WCAG defines it."""
    light = []
    for name in names:
        colour = view.evaluate(
            "(name) => getComputedStyle(document.body).getPropertyValue(name)", name
        )
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        light.append(np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05)
    return max(light) / min(light)


def test_the_colour_scale_survives_colour_blindness(view):
    session = view.context.new_cdp_session(view)
    kinds = ("deuteranopia", "protanopia", "tritanopia")
    for scheme, deficiency in itertools.product(("dark", "light"), kinds):
        view.emulate_media(color_scheme=scheme)
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
        picture = Image.open(io.BytesIO(view.locator("#scale").screenshot())).convert("RGB")
        scale = np.asarray(picture).astype(float)[picture.height // 2]
        for size in (0.15, 0.4):  # minus is not plus, and neither is nothing
            places = ((np.array([-size, 0, size]) + 1) / 2 * (len(scale) - 1)).round().astype(int)
            minus, nothing, plus = scale[places]
            assert np.abs(minus - plus).max() > 60, (scheme, deficiency, size)
            assert np.abs(plus - nothing).max() > 40
            assert np.abs(minus - nothing).max() > 40
    session.detach()


# ---- other engines and judges ----------------------------------------------------------------


@pytest.fixture(scope="module")
def packages():
    """A folder outside the repository with what npm delivers for these tests."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(home) / "session4-playground"
    if not shutil.which("npm"):
        pytest.skip("npm is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = ["puppeteer-core@24", "axe-core@4"]
    with FileLock(folder / "lock"):
        if not all((folder / "node_modules" / name.split("@")[0]).exists() for name in wanted):
            quiet = ["--no-audit", "--no-fund", "--silent", "--ignore-scripts"]
            try:
                subprocess.run(
                    ["npm", "install", *quiet, *wanted], cwd=folder, timeout=90, check=True
                )
            except subprocess.SubprocessError:
                pytest.skip("npm can't deliver puppeteer-core and axe-core")
    return folder


@pytest.fixture(scope="module", autouse=True)
def firefox(request):
    """Firefox at its test, from the beginning: it works while Chromium's tests wait for frames."""
    program = shutil.which("firefox-esr") or shutil.which("firefox")
    wanted = test_firefox_reads_and_remembers_the_same.__name__
    if not program or all(item.name != wanted for item in request.session.items):
        yield None
        return
    try:
        packages = request.getfixturevalue("packages")
    except pytest.skip.Exception:
        yield None
        return
    strokes = json.dumps([stroke[:: max(1, len(stroke) // 12)] for stroke in STROKES[3]])
    script = Path(__file__).parent / "firefox.mjs"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = ["node", script, packages, program, ADDRESS, strokes]
    with subprocess.Popen(command, **pipes, start_new_session=True) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_firefox_reads_and_remembers_the_same(browser, packages, firefox):
    """A mouse draws while Firefox falsifies what pages read from a canvas; Chromium agrees."""
    if not firefox:
        pytest.skip("Firefox is not installed")
    output, errors = firefox.communicate(timeout=150)
    assert firefox.returncode == 0, errors
    seen = json.loads(output)
    assert seen["complaints"] == []
    for state in ("drawn", "taken"):
        view = opened(browser, ADDRESS + seen[state]["hash"])
        settle(view)
        assert view.locator("#bars .share").all_inner_texts() == seen[state]["shares"]
        assert view.inner_text("#caption").strip() == seen[state]["caption"].strip()
        view.close()
    assert seen["taught"]["away"] == "10 steps from the trained weights"
    assert seen["taught"]["shares"] != seen["drawn"]["shares"]
    assert seen["undone"]["away"] == ""
    assert seen["undone"]["shares"] == seen["drawn"]["shares"]
    assert seen["taken"]["label"]
    assert seen["back"] == seen["undone"]


STATES = {
    "#label=3&pick=block2.conv2/4/5/6": ["#step"],
    "#label=3&pick=log_softmax/3/0/0&show=slopes": [],
    "#show=weights": ["#tour-open", "#tour-next"],
    "#label=7&pick=fc/2/0/0": [".forward .why"],
    "#draw=": ["summary"],
    "#view=eight&chain=w1&factor=10": ["#eight-ten"],
}


AXE = """async (exclude) => (await axe.run({ exclude }, { resultTypes: ["violations"],
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }))
  .violations.map((it) => [it.id, it.nodes.slice(0, 4).map(({ html }) => html.slice(0, 160))])"""


def test_axe_finds_nothing(window, packages):
    """In every state, by turns on a light phone and on a dark desktop."""
    view, source = window, (packages / "node_modules/axe-core/axe.min.js").read_text("utf-8")
    view.evaluate(source)
    looks = itertools.cycle([(390, "light"), (1366, "dark")])
    for number, (state, presses) in enumerate(STATES.items()):
        width, scheme = next(looks)
        view.emulate_media(color_scheme=scheme)
        view.set_viewport_size({"width": width, "height": 844})
        view.evaluate(AFRESH)
        view.evaluate("(hash) => { location.hash = hash; }", state)
        settle(view)
        for button in presses:
            view.locator(button).first.evaluate(
                "(it) => it.dispatchEvent(new Event('click', { bubbles: true }))"
            )
        seen = [".shelf label"] if number > 1 else []  # all digits are alike in every state
        found = view.evaluate(AXE, [[selector] for selector in seen])
        assert found == [], state
    view.emulate_media(color_scheme="light")
    view.set_viewport_size(SIZE)


# ---- in a notebook ---------------------------------------------------------------------------


@pytest.mark.parametrize("scripts", [True, False])
def test_a_notebook_shows_the_page_or_its_picture(browser, scripts):
    context = browser.new_context(java_script_enabled=scripts)
    view = context.new_page()
    view.set_content(f"<div>{playground.show().data}</div>")
    if scripts:
        frame = view.frame_locator("iframe")
        frame.locator("#bars .best").wait_for()
        assert view.locator("img").count() == 0
        assert frame.locator("#walkthrough").get_attribute("href") == "../backprop/README.md"
    else:
        assert view.locator("img").is_visible()
        assert view.locator("iframe").is_hidden()
    context.close()
