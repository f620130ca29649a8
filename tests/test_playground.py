"""The playground in a real browser: its numbers against PyTorch's, its controls, its looks.

The numbers are asked of `window.playground`. A picture's colours and words are read off the page.
"""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
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
quick = settings(derandomize=True, max_examples=15)
seeds = st.integers(0, 2**32 - 1)


# ---- without a browser -----------------------------------------------------------------------


def test_the_committed_page_is_current():
    assert FILE.read_text("utf-8") == playground.page(), "run python -m backprop"


def test_the_page_is_small_and_asks_for_nothing():
    text = FILE.read_text("utf-8")
    assert FILE.stat().st_size < 400_000
    assert not re.findall(r"<(?:script|img|iframe|link)[^>]*(?:src|href)=\"(?!data:)", text)
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
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


def slugs():
    """The anchors that GitHub gives to the walkthrough's headings, with each section's text."""
    text = (playground.HERE / "README.md").read_text("utf-8")
    _, *parts = re.split(r"^#+ (.+)$", text, flags=re.M)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-"): body
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_link_leads_to_a_line_of_the_walkthrough():
    source = (playground.SOURCES / "walkthrough.js").read_text("utf-8")
    lines = re.findall(r"\w+: \[\s*\"(.+?)\",\s*\"(.+?)\",?\s*\]", source)
    assert len(lines) > 20
    for section, line in lines:
        assert line in slugs()[section].replace("**", ""), (section, line)


# ---- the browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not playground.chromium():
        pytest.skip("Chromium is not installed, so nothing can open the page")
    with sync.sync_playwright() as running:
        started = playground.launch(running)
        yield started
        started.close()


def opened(browser, address=ADDRESS, **options):
    """The page, and a list of whatever it complains about or asks the network for."""
    options = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
    view = browser.new_page(**options)
    view.complaints = []
    view.on("console", lambda message: view.complaints.append(message.text))
    view.on("pageerror", lambda error: view.complaints.append(str(error)))
    view.on("request", lambda request: view.complaints.append(request.url))
    view.set_default_timeout(20_000)
    load(view, address)
    return view


def load(view, address=ADDRESS):
    """The page as it is at first, in a window that may have shown it before."""
    view.mouse.move(0, 0)
    view.complaints.clear()
    view.goto(address)
    view.wait_for_selector("#bars .best")


@pytest.fixture(scope="module")
def window(browser):
    view = opened(browser)
    yield view
    view.close()


@pytest.fixture
def view(window):
    """The page, freshly loaded, which must come through without a complaint."""
    load(window)
    yield window
    assert window.complaints == [ADDRESS]


@pytest.fixture(scope="module")
def touched(browser):
    """A window with a touch screen."""
    view = opened(browser, has_touch=True)
    yield view
    view.close()


@pytest.fixture(scope="module")
def shared(browser):
    """One page for all the tests that only ask `window.playground`."""
    view = opened(browser)
    view.evaluate(HELPERS)
    yield view
    view.close()
    assert view.complaints == [ADDRESS]


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


def drawings():
    """The ten digits of the scripted hand, as `predict` would show them to the network."""
    for digit in range(10):
        ink = 1 - np.asarray(draw(digit, (200, 220), 22).convert("L")) / 255
        yield centre(fit_box(crop(ink.round(1)))), digit


def test_digits_and_drawings_equal_pytorch(shared):
    images, chosen = playground.read_digits()
    model = referee()
    cases = [*zip(images[:40], chosen["labels"], strict=False), *drawings()]
    assert len(cases) >= 50
    for pixels, label in cases:
        assert_equals_pytorch(shared, model, pixels, label)


@quick
@given(seed=seeds, kind=st.sampled_from(["paper", "ink", "levels", "noise", "pixels"]))
def test_odd_pictures_equal_pytorch(shared, seed, kind):
    """Whole maps of ties, of inputs below zero and of exact zeros come up here."""
    rng = np.random.default_rng(seed)
    pixels = {
        "paper": lambda: np.zeros(784),
        "ink": lambda: np.full(784, float(rng.integers(1, 256))),
        "levels": lambda: 255.0 * rng.integers(2, size=784),
        "noise": lambda: rng.uniform(0, 255, 784),
        "pixels": lambda: 255.0 * (rng.random(784) < 0.01),
    }[kind]()
    assert_equals_pytorch(shared, referee(), pixels, int(rng.integers(10)))


def test_steps_equal_pytorchs_and_reset_takes_them_back(shared):
    images, chosen = playground.read_digits()
    model, start = referee(), referee().state_dict()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    try:
        for pixels, label in zip(images[20:23], chosen["labels"][20:23], strict=True):
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
    for call, complaint in {
        "playground.gradients(3)": "Call network",
        "playground.step(0.1)": "Call gradients",
        "playground.network([1, 2])": "784 pixels, not 2",
        "playground.gradients(10)": "from 0 to 9, not 10",
    }.items():
        with pytest.raises(Exception, match=complaint):
            view.evaluate(call)


# ---- each layer of network.js alone ----------------------------------------------------------


@pytest.fixture(scope="module")
def alone(browser):
    """A blank page with nothing but network.js."""
    view = browser.new_page()
    source = (playground.SOURCES / "network.js").read_text("utf-8")
    names = re.findall(r"^export (?:function|const) (\w+)", source, re.M)
    view.add_script_tag(
        content=f"{source}\nwindow.layers = {{ {', '.join(names)} }};", type="module"
    )
    view.wait_for_function("window.layers")
    yield view
    view.close()


CALL = """([name, dy, x, layer, rest]) => {
  const [slopes, input, ...parameters] = [dy, x, ...rest].map((array) => Float64Array.from(array));
  const y = layers[name + "Forward"](input, layer, ...parameters);
  const back = layers[name + "Backward"](slopes, input, layer, ...parameters);
  return [y, back.dx, back.dweight ?? [], back.dbias ?? []].map((array) => Array.from(array));
}"""


def check_layer(view, name, function, x, *parameters, statistics=(), layer=None, dy=None, seed=0):
    """A layer forward and backward against PyTorch's `function`."""
    tensors = [torch.tensor(array, requires_grad=True) for array in (x, *parameters)]
    y = function(*tensors)
    if dy is None:
        dy = np.random.default_rng(seed).normal(size=y.shape)
    slopes = torch.autograd.grad(y, tensors, torch.tensor(dy))
    shapes = {"input": [*x.shape[1:], 1, 1][:3], "output": [*y.shape[1:], 1, 1][:3]}
    flat = [np.ravel(array).tolist() for array in (*parameters, *statistics)]
    handed = [name, np.ravel(dy).tolist(), np.ravel(x).tolist(), {**shapes, **(layer or {})}, flat]
    ours = view.evaluate(CALL, handed)
    for mine, theirs in zip(ours, (y.detach(), *slopes), strict=False):
        theirs = theirs.numpy().ravel()
        largest = max(1, np.abs(theirs).max())
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11 * largest)


@quick
@given(data=st.data(), seed=seeds)
def test_convolutions_equal_pytorchs(alone, data, seed):
    rng = np.random.default_rng(seed)
    size = data.draw(st.sampled_from([1, 3]))
    padding = data.draw(st.integers(0, 1)) if size == 3 else 0
    c, o = rng.integers(1, 5, 2)
    height, width = size - 1 + rng.integers(1, 5, 2)
    check_layer(
        alone,
        "conv",
        lambda x, weight, bias: F.conv2d(x, weight, bias, padding=padding),
        rng.normal(size=(1, c, height, width)),
        rng.normal(size=(o, c, size, size)),
        rng.normal(size=o),
        layer={"size": size, "padding": padding},
    )


@quick
@given(seed=seeds, constant=st.booleans())
def test_normalisation_by_running_statistics_equals_pytorchs(alone, seed, constant):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(1, 3, 2, 4))
    if constant:
        x[:, 1] = 3.7
    mean, variance = rng.normal(size=3), rng.uniform(0, 2, 3)
    variance[0] = 0
    running = torch.tensor(mean), torch.tensor(variance)
    check_layer(
        alone,
        "norm",
        lambda x, weight, bias: F.batch_norm(x, *running, weight, bias),
        x,
        rng.normal(size=3),
        rng.normal(size=3),
        statistics=(mean, variance),
    )


@pytest.mark.parametrize("values", [[-3.0, -1e-300, -0.0, 0.0], [-1.0, 2, 0, 3]])
def test_relu_equals_pytorchs_where_nothing_passes_and_at_its_kink(alone, values):
    check_layer(alone, "relu", F.relu, np.reshape(values, (1, 1, 2, 2)))


@quick
@given(seed=seeds, levels=st.integers(1, 3))
def test_ties_are_routed_as_pytorch_does(alone, seed, levels):
    x = np.random.default_rng(seed).integers(levels, size=(1, 3, 4, 6)).astype(float)
    check_layer(alone, "pool", lambda x: F.max_pool2d(x, 2), x, seed=seed)


@quick
@given(seed=seeds)
def test_average_and_fully_connected_equal_pytorchs(alone, seed):
    rng = np.random.default_rng(seed)
    check_layer(alone, "gap", lambda x: F.adaptive_avg_pool2d(x, 1), rng.normal(size=(1, 4, 3, 3)))
    check_layer(alone, "dropout", lambda x: x * 1, rng.normal(size=(1, 4, 3, 3)))
    weight, bias = rng.normal(size=(3, 4)), rng.normal(size=3)
    check_layer(alone, "linear", F.linear, rng.normal(size=(1, 4)), weight, bias)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6, 1e300])
def test_large_logits_stay_finite(alone, size):
    logits = size * np.array([1.0, -1, 0, 1])
    tensor = torch.tensor(logits[None], requires_grad=True)
    loss = F.cross_entropy(tensor, torch.tensor([2]))
    loss.backward()
    log_probs, slopes = alone.evaluate(
        """(z) => { const p = layers.logSoftmaxForward(Float64Array.from(z));
        return [Array.from(p), Array.from(layers.lossBackward(p, 2))]; }""",
        logits.tolist(),
    )
    assert -log_probs[2] == pytest.approx(loss.item(), rel=1e-14)
    np.testing.assert_allclose(slopes, tensor.grad[0], rtol=0, atol=1e-14)


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
    for k, slope in enumerate(network.gradients(), 1):
        view.check(f"#chain-weights input[value=w{k}]", force=True)
        lit = []
        while view.is_enabled("#next-factor"):
            view.press("#next-factor", "Enter")  # a click waits until nothing moves
            lit.append(view.locator("#diagram .lit").count())
        assert min(lit) >= 1  # every factor lights an edge or a unit
        assert len(lit) == (4 if k > 4 else 10)
        last = view.inner_text("#factors li:last-child")
        assert f"{slope:.6g}"[:7].replace("-", "−") in last or f"{slope * 1e4:.4f}"[:5] in last
        view.click("#first-factor")
        assert view.locator("#factors li").count() == 0


def test_sliders_steps_and_the_dragged_surface(view):
    view.click("#tab-eight")
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
    assert float(view.input_value("[aria-label=w5]")) == pytest.approx(-1.68, abs=0.1)
    assert float(view.input_value("[aria-label=w7]")) == pytest.approx(2.03, abs=0.1)
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
    assert view.evaluate(error) == start


# ---- drawing ---------------------------------------------------------------------------------


def hand(view, digit, box=(0.2, 0.12, 0.8, 0.88)):
    """Draw a digit on the pad, by the mouse, within a part of it."""
    pad = view.locator("#pad").bounding_box()
    left, top, right, bottom = box
    for stroke in STROKES[digit]:
        kept = stroke[:1]
        for point in stroke[1:]:
            if math.dist(point, kept[-1]) > 0.2 or point == stroke[-1]:
                kept.append(point)
        points = [
            (
                pad["x"] + pad["width"] * (left + (right - left) * x),
                pad["y"] + pad["height"] * (top + (bottom - top) * y),
            )
            for x, y in kept
        ]
        view.mouse.move(*points[0])
        view.mouse.down()
        for point in points[1:]:
            view.mouse.move(*point)
        view.mouse.up()
    settle(view)


def settle(view):
    """Wait until the page has drawn what was asked of it."""
    view.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def best(view):
    return int(view.inner_text("#bars .best .class"))


def shares(view):
    return [float(text.strip("%")) for text in view.locator("#bars .share").all_inner_texts()]


PIXELS = """(id) => {
  const shown = document.getElementById(id);
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [shown.width, shown.height];
  const pencil = copy.getContext("2d", { willReadFrequently: true });
  pencil.drawImage(shown, 0, 0);
  const { data } = pencil.getImageData(0, 0, copy.width, copy.height);
  let text = "";
  for (let k = 0; k < data.length; k += 8192) {
    text += String.fromCharCode(...data.subarray(k, k + 8192));
  }
  return [btoa(text), copy.height, copy.width];
}"""


def canvas(view, name):
    """A canvas's pixels, uint8 (H, W, 4); the last, alpha, is the ink where it shows ink."""
    text, height, width = view.evaluate(PIXELS, name)
    return np.frombuffer(base64.b64decode(text), np.uint8).reshape(height, width, 4)


def ink_of(view, name):
    return canvas(view, name)[..., 3].astype(int)


def test_a_hand_draws_every_digit_and_it_is_read_as_predict_would(view, tmp_path):
    model = referee()
    read = []
    for digit in range(10):
        view.click("#clear")
        hand(view, digit)
        read.append(best(view))

        picture = view.evaluate("document.getElementById('pad').toDataURL().split(',')[1]")
        (tmp_path / "pad.png").write_bytes(base64.b64decode(picture))

        # What the network sees is what photos.py makes of the same ink, but for rounding.
        ink = np.asarray(Image.open(tmp_path / "pad.png"))[..., 3] / 255
        seen = ink_of(view, "seen")
        assert np.abs(seen - centre(fit_box(crop(ink))).astype(int)).max() <= 1

        # And the whole way: the pad as a picture, read from a file.
        image = normalise(read_digit(tmp_path / "pad.png")[None].float()).double()
        assert model(image).argmax().item() == best(view)
    assert read == list(range(10))


@quick
@given(seed=seeds, height=st.integers(1, 80), width=st.integers(1, 80))
def test_ink_is_fitted_and_centred_as_photos_py_does(shared, seed, height, width):
    rng = np.random.default_rng(seed)
    ink = (rng.random((height, width)) * (rng.random((height, width)) < 0.2)).astype(np.float32)
    seen = shared.evaluate(
        "([ink, width]) => { const seen = playground.see(ink, width);"
        " return seen && Array.from(seen); }",
        [ink.ravel().tolist(), width],
    )
    if not (ink > 0.1).any():
        assert seen is None
        return
    expected = centre(fit_box(crop(ink))).astype(int)
    assert np.abs(np.reshape(seen, (28, 28)) - expected).max() <= 1


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
    load(view)
    pad = view.locator("#pad").bounding_box()
    session = view.context.new_cdp_session(view)
    view.click("#clear")

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
    view.click("#clear")
    view.focus("#pad")
    for key in ["ArrowUp"] * 9 + [" "] + ["ArrowDown"] * 18:
        view.keyboard.press(key)
    settle(view)
    assert best(view) == 1


def test_a_test_digit_brings_its_label_and_another_drawing_has_none(view):
    _, chosen = playground.read_digits()
    for k in (0, 4):
        view.locator("#ordinary input").nth(k).check(force=True)
        settle(view)
        assert view.is_checked(f"#labels input[value='{chosen['labels'][k]}']")
    view.click("#undo")
    settle(view)
    assert view.is_checked(f"#labels input[value='{chosen['labels'][0]}']")
    assert view.locator("#ordinary input").first.is_checked()
    view.click("#clear")
    hand(view, 7)
    assert view.locator("#labels :checked").count() == 0
    view.check("#labels input[value='7']", force=True)
    hand(view, 1, box=(0.1, 0.1, 0.2, 0.2))
    assert view.is_checked("#labels input[value='7']")  # the same drawing, gone on with


def test_ink_on_a_test_digit_stays_where_it_is_drawn(view):
    view.locator("#ordinary input").nth(2).check(force=True)
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
        ".layer", "all => all.map((row) => [row.id, row.textContent.replace(/\\s+/g, ' ')])"
    )
    modules = [name for name, m in MNISTNet().named_modules() if not list(m.children())]
    assert [name.removeprefix("layer-") for name, _ in rows] == modules
    seen, _, _ = by_autograd(referee(), np.zeros(784))
    fields = {row.layer: row.receptive_field for row in receptive_fields(MNISTNet())}
    for name, text in rows:
        name = name.removeprefix("layer-")
        assert " × ".join(map(str, seen[name].shape[1:])) in text
        if name in fields:
            assert f"sees {fields[name]} × {fields[name]}" in text


def test_an_explanation_ends_in_the_activation(view):
    """For every layer: the number shown, that of the sum, and the parts that it names."""
    images, _ = playground.read_digits()
    view.locator("#ordinary input").first.check(force=True)
    seen, _, _ = by_autograd(referee(), images[0])
    for name, values in seen.items():
        row = view.locator(f'[id="layer-{name}"] canvas')
        if not row.count():
            continue
        row.focus()
        view.keyboard.press("PageDown")
        for _ in range(2 if values.ndim < 4 or values.shape[2] == 1 else 1):
            view.keyboard.press("ArrowDown")
        what = view.inner_text("#explanation .what")
        place = [int(n) for n in re.findall(r"\d+", what.split("\n")[0])]
        value = np.squeeze(values[0])[tuple(place)]
        assert number(view.inner_text("#explanation .value")) == pytest.approx(value, rel=1e-3)
        chosen = view.locator("#sum .chosen, .sum .chosen .why, .sum li:only-child .why").last
        assert number(chosen.inner_text()) == pytest.approx(value, rel=1e-3)


def test_a_convolution_adds_up(view):
    """The nine products that are written out, and the sums below them, for one activation."""
    view.locator("#ordinary input").first.check(force=True)
    view.locator('[id="layer-block2.conv2"] canvas').click(position={"x": 47, "y": 14})
    grids = [
        [number(text) for text in grid.locator("> *").all_inner_texts()]
        for grid in view.locator("#explanation .cells").all()[:2]
    ]
    patch, kernel = map(np.array, grids)
    figures = view.locator("#explanation .sum li").first.locator(".figures").all_inner_texts()
    part, total = (number(n) for n in re.findall(r"−?\d\S*(?=;|$)", figures[0])[:2])
    assert patch @ kernel == pytest.approx(part, abs=0.03 * np.abs(patch * kernel).sum() + 0.01)
    again, sign, bias, value = re.match(r"(\S+) ([+−]) (\S+) bias = (\S+)", figures[1]).groups()
    assert number(again) == total
    bias = number(bias) * (1 if sign == "+" else -1)
    assert total + bias == pytest.approx(number(value), abs=2e-3 * abs(total) + 1e-3)


def test_a_number_leads_to_where_it_comes_from_down_to_the_image(view):
    view.locator('[id="layer-log_softmax"] canvas').click(position={"x": 10, "y": 10})
    trail = []
    while view.locator("#explanation .number").count() and len(trail) < 40:
        trail.append(view.inner_text("#explanation h3"))
        view.locator("#explanation .number").first.click()
    assert trail[0] == "log_softmax"
    assert view.inner_text("#explanation h3").startswith("block1.")
    assert len(trail) > 8


def test_pointing_lights_up_the_receptive_field_and_a_press_holds_it(view):
    empty = view.evaluate("document.getElementById('overlay').toDataURL()")
    row = view.locator('[id="layer-block1.relu1"] canvas')
    row.hover(position={"x": 14, "y": 14})
    pointed = view.inner_text("#explanation")
    assert view.evaluate("document.getElementById('overlay').toDataURL()") != empty
    row.hover(position={"x": 40, "y": 20})
    assert view.inner_text("#explanation") != pointed
    row.click(position={"x": 40, "y": 20})
    held = view.inner_text("#explanation h3 + p")
    row.hover(position={"x": 14, "y": 14})
    assert view.inner_text("#explanation h3 + p") == held


def test_the_links_lead_to_the_walkthrough_from_disk_and_from_github_pages(browser, view):
    view.locator('[id="layer-block1.relu1"] canvas').click(position={"x": 14, "y": 14})
    link = view.get_attribute("#explanation .why >> nth=0", "href")
    assert link.startswith("README.md#convolution:~:text=Each%20output")
    pages = "https://someone.github.io/some-fork/"
    fork = browser.new_page()
    fork.route(pages, lambda route: route.fulfill(path=FILE, content_type="text/html"))
    fork.goto(pages + "#eight")
    there = "https://github.com/someone/some-fork/blob/HEAD/backprop/README.md"
    link = fork.locator("#diagram .node .why").first.get_attribute("href")
    assert link.startswith(f"{there}#1-forward-pass")
    fork.close()


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
    images, chosen = playground.read_digits()
    view.locator("#mistakes input").first.check(force=True)
    label = chosen["labels"][20]
    wait_for_the_others(view)
    assert view.is_checked(f"#labels input[value='{label}']")
    before, loss = shares(view), number(view.inner_text("#loss b"))
    lr = 10 ** float(view.input_value("#rate"))

    model = referee()
    right = read_others(model)
    assert f"{right.sum()} of them read right" in view.inner_text("#others-title")
    for step in range(11):
        _, gradients, _ = by_autograd(model, images[20], label)
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
    assert "11 steps away" in view.inner_text("#progress")
    after = by_autograd(model, images[20], label)[0][""][0]
    assert shares(view) == [pytest.approx(100 * math.exp(p), abs=0.051) for p in after]

    view.click("#unstep")
    wait_for_the_others(view)
    assert "1 step away" in view.inner_text("#progress")
    view.click("#trained")
    wait_for_the_others(view)
    assert shares(view) == before
    assert view.is_disabled("#unstep")
    assert f"{right.sum()} read right" in view.inner_text("#others-title")


def test_naming_the_digit_sends_the_gradient_back(view):
    assert view.is_hidden("#lesson")
    assert view.is_disabled("[name=show][value=slopes]")
    view.check("#labels input[value='8']", force=True)
    assert view.is_visible("#lesson")
    pixels = ink_of(view, "seen")
    loss = number(view.inner_text("#loss b"))
    log_probs = referee()(
        ((torch.tensor(pixels).double() - 255 * MNIST_MEAN) / (255 * MNIST_STD)).view(1, 1, 28, 28)
    )[0]
    assert loss == pytest.approx(-log_probs[8].item(), rel=1e-3)
    assert view.is_checked("[name=show][value=slopes]")
    pictures = set()
    for show in ("outputs", "slopes", "weights", "gradients"):
        view.check(f"[name=show][value={show}]", force=True)
        pictures.add(view.evaluate("document.querySelector('.layer canvas').toDataURL()"))
    assert len(pictures) == 4
    hint = "document.getElementById('overlay').toDataURL()"
    laid_over = view.evaluate(hint)
    view.uncheck("#hint")
    assert view.evaluate(hint) != laid_over


def test_the_overlay_shows_where_more_ink_would_help(view):
    """Orange where ∂L/∂image is below zero, blue where it is above."""
    images, chosen = playground.read_digits()
    view.locator("#mistakes input").first.check(force=True)
    settle(view)
    _, gradients, _ = by_autograd(referee(), images[20], chosen["labels"][20])
    slope = gradients["image"][0, 0]
    colours = canvas(view, "overlay")
    middles = (np.arange(28) + 0.5) * 400 / 28
    colours = colours[middles.astype(int)][:, middles.astype(int)]
    strong = np.abs(slope) > 0.2 * np.abs(slope).max()
    assert strong.sum() > 20
    warm = colours[..., 0] > colours[..., 2]
    assert (warm[strong] == (slope < 0)[strong]).all()


# ---- the whole page --------------------------------------------------------------------------


@pytest.mark.parametrize("tab", ["#tab-digit", "#tab-eight"])
def test_every_control_can_be_pressed(view, tab):
    view.click(tab)
    if tab == "#tab-digit":
        view.check("#labels input[value='3']", force=True)
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
    settle(view)


def test_the_keyboard_reaches_everything(view):
    view.check("#labels input[value='3']", force=True)
    for tab in ("tab-digit", "tab-eight"):
        view.click(f"#{tab}")
        wanted = view.evaluate("""() => {
          const all = document.querySelectorAll("button, input, [tabindex='0'], a[href]");
          const reach = [...all].filter((it) => it.checkVisibility() && !it.disabled
            && it.tabIndex >= 0 && it.id !== "");
          return reach.filter((it) => it.type !== "radio").map((it) => it.id);
        }""")
        reached, groups = set(), set()
        view.focus(f"#{tab}")
        for _ in range(150):
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
            assert marked or now == tab, now  # the focus can be seen
        assert set(wanted) <= reached
        radios = {"tab-digit": {"digit", "label", "show"}, "tab-eight": {"chain"}}[tab]
        assert radios <= groups
    view.focus("#tab-eight")
    view.keyboard.press("ArrowLeft")
    view.focus("#labels input[value='3']")
    view.keyboard.press("ArrowRight")
    assert view.is_checked("#labels input[value='4']")


def test_screen_readers_get_a_name_for_everything(view):
    view.check("#labels input[value='3']", force=True)
    view.locator('[id="layer-block1.conv2"] canvas').click(position={"x": 20, "y": 20})
    session = view.context.new_cdp_session(view)
    for tab in ("#tab-eight", "#tab-digit"):
        view.click(tab)
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
    view.wait_for_function(f"/^The network reads a \\d, \\d+ per cent\\.$/.test({said})")


CUT_OFF = """() => [...document.querySelectorAll("body *")].filter((it) => {
  if (!it.checkVisibility() || it.closest(".visually-hidden, [type=radio]")) return false;
  const box = it.getBoundingClientRect();
  const hides = getComputedStyle(it).overflowX !== "visible";
  const clipped = hides && it.scrollWidth > it.clientWidth + 1;
  return box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5 || clipped);
}).map((it) => it.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(390, "light"), (390, "dark"), (960, "light"), (1280, "light"), (1280, "dark")],
)
def test_nothing_is_cut_off(touched, width, scheme):
    view = touched
    view.set_viewport_size({"width": width, "height": 844})
    view.emulate_media(color_scheme=scheme)
    load(view)
    assert view.evaluate(CUT_OFF) == []
    view.check("#labels input[value='3']", force=True)
    view.locator('[id="layer-block2.conv2"] canvas').click(position={"x": 20, "y": 20})
    assert view.is_visible("#explanation .sum")
    assert view.evaluate(CUT_OFF) == []
    if width < 940:
        view.click("#close")
    view.click("#tab-eight")
    view.click("#next-factor")
    assert view.evaluate(CUT_OFF) == []
    assert view.evaluate("document.documentElement.scrollWidth") == width
    assert contrast(view, "--muted", "--paper") > 4.5
    assert contrast(view, "--ink", "--surface") > 7
    assert contrast(view, "--accent", "--accent-ink") > 4.5


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colour_scale_survives_colour_blindness(browser, scheme):
    view = opened(browser, color_scheme=scheme)
    session = view.context.new_cdp_session(view)
    for deficiency in ("deuteranopia", "protanopia", "tritanopia"):
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": deficiency})
        picture = Image.open(io.BytesIO(view.locator("#scale").screenshot())).convert("RGB")
        scale = np.asarray(picture).astype(float)[picture.height // 2]
        for size in (0.15, 0.4):  # minus is not plus, and neither is nothing
            places = ((np.array([-size, 0, size]) + 1) / 2 * (len(scale) - 1)).round().astype(int)
            minus, nothing, plus = scale[places]
            assert np.abs(minus - plus).max() > 60, (deficiency, size)
            assert np.abs(plus - nothing).max() > 40
            assert np.abs(minus - nothing).max() > 40
    view.close()


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
