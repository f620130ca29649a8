"""Measure how fast the playground is in Chromium on one core: medians, in milliseconds.

python -m tests.benchmarks.playground [--rounds 50]
"""

import argparse
import os
import statistics
import sys

from playwright.sync_api import sync_playwright

from backprop import playground

TIME = """([call, rounds]) => {
  const pixels = Array.from({ length: 784 }, (_, k) => (37 * k) % 256);
  playground.network(pixels);
  const times = [];
  for (let k = 0; k < rounds + 20; k++) {
    const started = performance.now();
    call === "network" ? playground.network(pixels) : playground.gradients(3);
    times.push(performance.now() - started);
  }
  return times.slice(20); // the first ones wait for the compiler
}"""

# Every frame of a stroke is one callback: see, forward, bars, all pictures.
FRAMES = """
  window.frames_ = [];
  const ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (callback) => ask((now) => {
    const started = performance.now();
    callback(now);
    window.frames_.push(performance.now() - started);
  });
"""


def stroke(view) -> None:
    """A zigzag, by the mouse, after everything on the page has begun to be compiled."""
    pad = view.locator("#pad").bounding_box()
    view.mouse.move(pad["x"] + 60, pad["y"] + 60)
    view.mouse.down()
    for k in range(60):
        view.mouse.move(pad["x"] + 60 + 180 * (k % 2), pad["y"] + 60 + 3 * k)
    view.mouse.up()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50, help="timed calls of each (50)")
    rounds = max(1, parser.parse_args().rounds)
    if not playground.chromium():
        print("This needs Chromium, which is not installed.", file=sys.stderr)
        return 2
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])  # one core, and so the browser
    address = (playground.HERE.parent / playground.PAGE).as_uri()
    with sync_playwright() as playwright:
        browser = playground.launch(playwright)
        paints = []
        for _ in range(7):
            view = browser.new_page(viewport={"width": 1280, "height": 900})
            view.add_init_script(FRAMES)
            view.goto(address)
            view.wait_for_function("performance.getEntriesByType('paint').length > 1")
            paints.append(
                view.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            )
            if len(paints) < 7:
                view.close()
        stroke(view)
        view.evaluate("frames_.length = 0")
        stroke(view)
        rows = {
            "forward pass": view.evaluate(TIME, ["network", rounds]),
            "backward pass, with its forward pass": view.evaluate(TIME, ["gradients", rounds]),
            "a frame of a stroke, with all pictures": view.evaluate("frames_"),
            "first paint, from opening the file": paints,
        }
        version = browser.version
        browser.close()
    for name, times in rows.items():
        print(f"{name:40} {statistics.median(times):6.1f} ms  (of {len(times)})")
    print(f"Chromium {version}, one core of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
