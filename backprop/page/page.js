// The page: what it knows, what happens when something is pressed, and `window.playground`.

import { forwardEight, gradientsEight, trainEight } from "./eight.js";
import { makeEight } from "./eight_view.js";
import { makeInside } from "./inside.js";
import { LAYERS, backward, descend, forward, normalise, receptiveField } from "./network.js";
import { makePad } from "./pad.js";
import * as paint from "./paint.js";
import { see } from "./see.js";
import { makeTeach } from "./teach.js";
import { walkthrough } from "./walkthrough.js";

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const trained = readWeights();
const digits = readDigits();
const BLANK = new Uint8ClampedArray(28 * 28);

const state = {
  weights: trained,
  past: [], // [weights, steps] before each press
  steps: 0, // from the trained weights
  pixels: BLANK, // what the network sees
  frame: null, // where that lies on the pad
  digit: null, // the test digit that the reader chose, below the strokes
  outputs: null,
  label: null, // which digit it was
  slopes: null, // of the loss along every output, once there is a label
  gradients: null, // and along every parameter
  show: "outputs", // or slopes, weights, gradients
  picked: null, // the activation that is explained: { name, c, i, j }
  pinned: false, // it stays although the mouse moves on
};

// ---- what came with the page --------------------------------------------------------------------

function bytes(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Parameters and running statistics by name, in float64. */
function readWeights() {
  const numbers = new Float32Array(bytes(data.weights).buffer);
  let from = 0;
  return Object.fromEntries(
    data.shapes.map(([name, shape]) => {
      const count = shape.reduce((product, side) => product * side, 1);
      from += count;
      return [name, Float64Array.from(numbers.subarray(from - count, from))];
    }),
  );
}

/** The test digits. In their bytes, 0 is followed by the number of zeros that it stands for. */
function readDigits() {
  const packed = bytes(data.digits.pixels);
  const pixels = new Uint8ClampedArray(28 * 28 * data.digits.labels.length);
  for (let k = 0, to = 0; k < packed.length; k++) {
    if (packed[k] > 0) pixels[to++] = packed[k];
    else to += packed[++k];
  }
  return data.digits.labels.map((label, k) => {
    const own = pixels.subarray(784 * k, 784 * (k + 1));
    return { label, index: data.digits.indices[k], pixels: own };
  });
}

/** What the network makes of an image of bytes. */
function run(weights, pixels) {
  return forward(weights, normalise(pixels, data.mean, data.std));
}

// ---- what happens -------------------------------------------------------------------------------

const pad = makePad(element("pad"), (seen, digit) => {
  state.pixels = seen?.pixels ?? BLANK;
  state.frame = seen;
  if (!seen || digit !== state.digit) state.label = digit?.label ?? null;
  state.digit = digit;
  element("pad-hint").hidden = Boolean(seen);
  for (const input of document.querySelectorAll("[name=digit]")) {
    input.checked = input.value === String(digit?.index);
  }
  think();
});

const inside = makeInside(
  state,
  {
    list: element("layers"),
    panel: element("explain"),
    explanation: element("explanation"),
    close: element("close"),
  },
  () => {
    inside.repick(pickedBefore);
    pickedBefore = state.picked;
    showNote();
    paintOverlay();
  },
);
let pickedBefore = null;

const teach = makeTeach(
  state,
  element,
  digits.filter((_, k) => !data.digits.kinds[k]),
  {
    run,
    label: chooseLabel,
    step(times, lr) {
      let weights = state.weights;
      for (let k = 0; k < times; k++) {
        const { gradients } = backward(weights, run(weights, state.pixels), state.label);
        weights = descend(weights, gradients, lr);
      }
      state.past.push([state.weights, state.steps]);
      changeWeights(weights, state.steps + times);
      flow();
    },
    undo() {
      changeWeights(...state.past.pop());
    },
    reset,
    take: pad.take,
  },
);

const eight = makeEight(element);

function changeWeights(weights, steps) {
  const before = state.weights;
  Object.assign(state, { weights, steps });
  think();
  teach.compareOthers(before);
}

function reset() {
  state.past = [];
  changeWeights(trained, 0);
}

function chooseLabel(label) {
  const first = state.label === null;
  state.label = label;
  if (first && state.show === "outputs") state.show = "slopes";
  think();
  flow();
}

function flow() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  teach.flow();
  inside.flow();
}

function setShow(show) {
  state.show = show;
  inside.paint();
}

/** Forward, and backward if there is a label; then show all of it. */
function think() {
  state.outputs = run(state.weights, state.pixels);
  state.slopes = state.gradients = null;
  if (state.label !== null)
    Object.assign(state, backward(state.weights, state.outputs, state.label));
  if (!state[state.show]) state.show = "outputs";
  showReading();
  teach.show();
  inside.paint();
  showNote();
  paintOverlay();
}

// ---- what is shown ------------------------------------------------------------------------------

element("bars").innerHTML = Array.from(
  { length: 10 },
  (_, k) =>
    `<li><span class="class">${k}</span><span class="track"><span class="bar"></span></span><span class="share"></span></li>`,
).join("");

let saying = 0;
function showReading() {
  const shares = [...state.outputs.log_softmax].map(Math.exp);
  const best = shares.indexOf(Math.max(...shares));
  const blank = state.frame === null;
  [...element("bars").children].forEach((row, k) => {
    row.classList.toggle("best", k === best && !blank);
    row.classList.toggle("right", k === state.label);
    row.querySelector(".bar").style.width = `${100 * shares[k]}%`;
    row.querySelector(".share").textContent = `${(100 * shares[k]).toFixed(1)}%`;
  });
  element("bars").classList.toggle("blank", blank);
  paint.paintInk(element("seen"), state.pixels);
  clearTimeout(saying); // a screen reader wants the end of it, not every frame
  saying = setTimeout(() => {
    element("verdict").textContent = blank
      ? "Nothing is drawn."
      : `The network reads a ${best}, ${Math.round(100 * shares[best])} per cent.`;
  }, 500);
  element("undo").disabled = !pad.canUndo();
  element("clear").disabled = blank;
}

function showNote() {
  for (const input of document.querySelectorAll("[name=show]")) {
    input.disabled = !state[input.value];
    input.checked = input.value === state.show;
  }
  element("inside-note").textContent = state.pinned
    ? "Press the same picture elsewhere, or a number at its side, to go on; Escape or × lets go."
    : {
        outputs: "Point at an activation, or tap it, to see where it comes from.",
        slopes: "Orange: if this activation grew, the loss would. Blue: the loss would fall.",
        weights:
          "Each picture holds one kernel, its input channels side by side; of a normalisation, γ and β.",
        gradients: "Orange: if this weight grew, the loss would. Blue: the loss would fall.",
      }[state.show];
}

/** Over the drawing: the gradient at the image, and the receptive field of what is picked. */
function paintOverlay() {
  const canvas = element("overlay");
  const pencil = canvas.getContext("2d");
  const { scale, top, left } = state.frame ?? { scale: 28 / canvas.width, top: 0, left: 0 };
  const taught = Boolean(state.slopes);
  element("hint-switch").hidden = !taught;
  element("hint-legend").hidden = !(taught && element("hint").checked);
  pencil.setTransform(1, 0, 0, 1, 0, 0);
  pencil.clearRect(0, 0, canvas.width, canvas.height);
  pencil.setTransform(1 / scale, 0, 0, 1 / scale, -left / scale, -top / scale);
  if (taught && element("hint").checked) {
    const help = state.slopes.input.map((slope) => -slope);
    const largest = paint.largestOf(help);
    help.forEach((value, k) => {
      pencil.globalAlpha = largest ? 0.9 * (Math.abs(value) / largest) ** 0.7 : 0;
      pencil.fillStyle = value > 0 ? "#e0660a" : "#0a7fc2";
      const inset = 0.12;
      pencil.fillRect((k % 28) + inset, Math.floor(k / 28) + inset, 1 - 2 * inset, 1 - 2 * inset);
    });
    pencil.globalAlpha = 1;
  }
  if (state.picked) {
    const [from, up, to, down] = (([t, l, b, r]) => [l, t, r, b])(
      receptiveField(state.picked.name, state.picked.i, state.picked.j),
    );
    const styles = getComputedStyle(document.body);
    pencil.fillStyle = styles.getPropertyValue("--veil");
    pencil.beginPath();
    pencil.rect(-100, -100, 300, 300);
    pencil.rect(from, up, to - from + 1, down - up + 1);
    pencil.fill("evenodd");
    pencil.strokeStyle = styles.getPropertyValue("--accent");
    pencil.lineWidth = 3 * scale;
    pencil.strokeRect(from, up, to - from + 1, down - up + 1);
  }
}

function paintExamples() {
  for (const kind of ["ordinary", "mistakes"]) {
    element(kind).replaceChildren(
      ...digits
        .map((digit, k) => {
          const holder = document.createElement("label");
          holder.innerHTML = `<input type="radio" name="digit" value="${digit.index}" aria-label="a ${digit.label}, test digit ${digit.index}"><canvas></canvas>`;
          holder.querySelector("input").addEventListener("change", () => {
            pad.take(digit);
          });
          holder.title = `a ${digit.label}: test digit ${digit.index}`;
          paint.paintInk(holder.querySelector("canvas"), digit.pixels);
          return holder;
        })
        .filter((_, k) => data.digits.kinds[k] === kind),
    );
  }
}

function paintScale() {
  paint.paintMap(
    element("scale"),
    Float64Array.from({ length: 1210 }, (_, k) => ((k % 121) - 60) / 60),
    10,
    121,
    1,
  );
}

// ---- controls -----------------------------------------------------------------------------------

element("undo").addEventListener("click", pad.undo);
element("clear").addEventListener("click", pad.clear);
element("hint").addEventListener("change", paintOverlay);
document.addEventListener("change", (event) => {
  if (event.target.name !== "show") return;
  setShow(event.target.value);
  showNote();
});
element("walkthrough").href = walkthrough();

const tabs = [element("tab-digit"), element("tab-eight")];
function open(tab) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", each === tab);
    each.tabIndex = each === tab ? 0 : -1;
    element(each.getAttribute("aria-controls")).hidden = each !== tab;
  }
  if (tab === tabs[1]) eight.render();
  else inside.paint();
}
for (const tab of tabs) {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tabs.find((each) => each !== tab);
    open(other);
    other.focus();
  });
}
addEventListener("resize", () => element("eight").hidden || eight.render());
paint.onTheme(() => {
  paintExamples();
  paintScale();
  teach.repaint();
  think();
  eight.render();
});

// ---- for tests and the curious ------------------------------------------------------------------

/** The output of each of PyTorch's named_modules(): a container's is that of its last layer. */
function byModule(outputs) {
  const named = { "": outputs.log_softmax };
  for (const { name } of LAYERS) {
    const container = name.split(".")[0];
    named[container] = named[name] = outputs[name];
  }
  return named;
}

const parameters = data.shapes.map(([name]) => name).filter((name) => !name.includes(".running_"));
const inOrder = (values) => Object.fromEntries(parameters.map((name) => [name, values[name]]));
let asked = null; // what was last handed to `network`, and the gradients from it

window.playground = {
  /** 784 numbers from 0, paper, to 255, ink, row by row, to { log_probs, activations }. */
  network(pixels) {
    if (pixels.length !== 784) throw new Error(`An image has 784 pixels, not ${pixels.length}.`);
    const outputs = run(state.weights, pixels);
    asked = { pixels, gradients: null };
    return { log_probs: outputs.log_softmax, activations: byModule(outputs) };
  },
  /** The slopes of −log_probs[label] at these pixels: by named_parameters(), and at the image. */
  gradients(label) {
    if (!Number.isInteger(label) || label < 0 || label > 9) {
      throw new Error(`A label is a whole number from 0 to 9, not ${label}.`);
    }
    if (!asked) throw new Error("Call network(pixels) first: gradients are those of its result.");
    const outputs = run(state.weights, asked.pixels);
    const { gradients, slopes } = backward(state.weights, outputs, label);
    asked.gradients = gradients;
    return { ...inOrder(gradients), image: slopes.input };
  },
  /** One step against these gradients, for the whole page; the new parameters by their names. */
  step(lr) {
    if (!asked?.gradients) throw new Error("Call gradients(label) first: a step needs them.");
    state.past.push([state.weights, state.steps]);
    changeWeights(descend(state.weights, asked.gradients, lr), state.steps + 1);
    return inOrder(state.weights);
  },
  /** Back to the trained weights. */
  reset,
  /** What the network is shown of ink from 0 to 1, row by row; null for blank paper. */
  see: (ink, width) => see(Float32Array.from(ink), width)?.pixels ?? null,
  /** The class network: `given` holds i1 i2 t1 t2 w1 … w8 by name. */
  eight: { forward: forwardEight, gradients: gradientsEight, train: trainEight },
};

// ---- begin --------------------------------------------------------------------------------------

paintExamples();
paintScale();
pad.take(digits[data.digits.kinds.indexOf("mistakes")], true);
open(location.hash === "#eight" ? tabs[1] : tabs[0]);
