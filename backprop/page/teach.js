// Teaching: the loss and its gradient, steps and their undoing, and what a step does to others.

import { makeChart } from "./chart.js";
import { LAYERS } from "./network.js";
import { relation, rounded, show } from "./numbers.js";
import * as paint from "./paint.js";
import { derived } from "./walkthrough.js";
import { word } from "./words.js";

const BUSY = 24; // milliseconds of work before the page gets its turn

/**
 * The lesson. `act` has what the page does: label(k), step(times, lr), undo(), reset(), take(k),
 * rate(), run(weights, pixels). `others` are test digits, { label, index, pixels }.
 */
export function makeTeach(state, element, others, act) {
  const bars = ["input", ...LAYERS.slice(0, -1).map(({ name }) => name)].map((name) => {
    const bar = document.createElement("div");
    bar.title = name;
    element("flow").append(bar);
    return { name, bar };
  });
  const tiles = others.map((digit, k) => makeTile(digit, k));
  const readings = new WeakMap(); // weights: how they read the others
  const drawLosses = makeChart(element("losses"));
  let turn = 0; // counts calls, so that a newer one stops an older one

  element("labels").innerHTML = Array.from(
    { length: 10 },
    (_, k) => `<label><input type="radio" name="label" value="${k}"><span>${k}</span></label>`,
  ).join("");
  const labels = [...element("labels").querySelectorAll("input")];
  element("labels").addEventListener("change", (event) => act.label(Number(event.target.value)));
  for (const [id, times] of [["step", 1], ["ten", 10]]) {
    element(id).addEventListener("click", () => act.step(times, lr()));
  }
  for (const id of ["unstep", "unstep-bar"]) element(id).addEventListener("click", act.undo);
  for (const id of ["trained", "trained-bar"]) element(id).addEventListener("click", act.reset);
  element("rate").addEventListener("input", () => {
    showRate();
    act.rate();
  });
  showRate();

  function lr() {
    return 10 ** Number(element("rate").value);
  }

  function showRate() {
    const text = show(lr(), 2);
    element("rate-value").innerHTML = text;
    element("rate").setAttribute("aria-valuetext", text);
  }

  function makeTile({ pixels, label, index }, k) {
    const holder = document.createElement("label");
    holder.innerHTML = `<input type="radio" name="digit" value="${index}" aria-label="a ${label}"><canvas></canvas><i></i><b></b>`;
    element("others").append(holder);
    const tile = {
      holder,
      label,
      input: holder.querySelector("input"),
      mark: holder.querySelector("b"),
      change: holder.querySelector("i"),
    };
    tile.input.addEventListener("change", () => act.take(others[k]));
    return { ...tile, paint: () => paint.paintInk(holder.querySelector("canvas"), pixels) };
  }

  /** Read the hundred digits, a few at a time; stop when another turn than `mine` has begun. */
  async function readOthers(weights, mine) {
    if (!readings.has(weights)) readings.set(weights, []);
    const read = readings.get(weights);
    let started = performance.now();
    while (read.length < others.length && turn === mine) {
      read.push(act.run(weights, others[read.length].pixels).log_softmax);
      if (performance.now() - started < BUSY) continue;
      await new Promise((resume) => setTimeout(resume));
      started = performance.now();
    }
    return read;
  }

  const guess = (logProbs) => logProbs.indexOf(Math.max(...logProbs));

  /** Show what changed from `before` to `after`, both readings of the hundred. */
  function compare(before, after) {
    const count = { right: 0, learned: 0, unlearned: 0 };
    tiles.forEach((tile, k) => {
      const [was, is] = [before, after].map((read) => guess(read[k]) === tile.label);
      const kind = was === is ? (is ? "right" : "wrong") : is ? "learned" : "unlearned";
      if (is) count.right++;
      if (kind in count && kind !== "right") count[kind]++;
      tile.holder.dataset.kind = kind;
      tile.mark.textContent = { right: "", wrong: "✗", learned: "✓", unlearned: "✗" }[kind];
      const gain = Math.exp(after[k][tile.label]) - Math.exp(before[k][tile.label]);
      tile.change.style.background = Math.abs(gain) < 5e-4 ? "" : paint.css(gain, 0.5);
      tile.input.setAttribute(
        "aria-label",
        `a ${tile.label}, read as ${guess(after[k])}${was === is ? "" : `, ${kind}`}`,
      );
    });
    element("others-title").innerHTML =
      before === after
        ? `A hundred other digits: ${count.right} of them read right`
        : `A hundred other digits: ${count.right} read right, <b>${count.learned} learned ✓</b> and
         <b>${count.unlearned} unlearned ✗</b> by the last press`;
  }

  /** Read the others with the present weights, and show what has changed since `before`. */
  async function compareOthers(before) {
    const mine = ++turn;
    element("others").setAttribute("aria-busy", true);
    const [was, is] = [await readOthers(before, mine), await readOthers(state.weights, mine)];
    if (turn !== mine) return;
    element("others").setAttribute("aria-busy", false);
    compare(was, is);
  }

  /** Show that the weights are no longer the trained ones, as long as that is so. */
  function showAway() {
    const { steps } = state;
    element("away").hidden = steps === 0;
    element("away-text").textContent =
      `${steps} ${steps === 1 ? "step" : "steps"} from the trained weights`;
    element("unstep").disabled = element("unstep-bar").disabled = !act.canUndo();
    element("trained").disabled = steps === 0;
  }

  function showLoss() {
    const logProb = state.outputs.log_softmax[state.label];
    if (!Number.isFinite(logProb)) {
      element("loss").textContent =
        "The steps were too long: the numbers have overflowed. Undo the last one.";
      return;
    }
    const p = Math.exp(logProb);
    const sign = relation(-Math.log(rounded(100 * p, 3) / 100), -logProb);
    element("loss").innerHTML = `The network gave the ${state.label} a probability <var>p</var> of
      ${derived("softmax", `${show(100 * p, 3)}%`)}. The ${word("loss")} is −${word("natural log", "ln")} <var>p</var>
      ${sign} <b>${derived("softmax", show(-logProb || 0))}</b>.`;
  }

  function showSizes() {
    const sizes = bars.map(({ name }) => Math.log10(rms(state.slopes[name]) || 1e-30));
    const [low, high] = [Math.min(...sizes), Math.max(...sizes)];
    bars.forEach(({ bar }, k) => {
      bar.style.height = `${10 + 90 * ((sizes[k] - low) / (high - low || 1))}%`;
    });
  }

  return {
    compareOthers,
    lr,
    setRate(power) {
      element("rate").value = power;
      showRate();
    },
    repaint() {
      tiles.forEach((tile) => tile.paint());
    },
    show() {
      const taught = state.label !== null;
      element("lesson").classList.toggle("untaught", !taught);
      labels.forEach((input) => (input.checked = Number(input.value) === state.label));
      for (const id of ["step", "ten"]) element(id).disabled = !taught;
      showAway();
      drawLosses(state.losses);
      if (taught) {
        showLoss();
        showSizes();
      } else {
        element("loss").innerHTML = `Say which digit it was: then there is a ${word("loss")}, and its
          ${word("gradient")} flows back to every number below and to the image.`;
        bars.forEach(({ bar }) => (bar.style.height = ""));
      }
    },
    /** The gradient's way back, bar by bar. */
    flow() {
      bars.forEach(({ bar }, k) => {
        bar.classList.remove("flowing");
        bar.style.setProperty("--delay", `${(bars.length - k) * 45}ms`);
        void bar.offsetWidth;
        bar.classList.add("flowing");
      });
    },
  };
}

function rms(values) {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}
