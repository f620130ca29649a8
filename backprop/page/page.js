// The page: its data, what happens when something is pressed, and `window.playground`.

import { fromAddress, packStrokes, toAddress, unpackStrokes, wholeNumber } from "./address.js";
import { makeArchitecture } from "./arch.js";
import { forwardEight, gradientsEight, trainEight } from "./eight.js";
import { makeEight } from "./eight_view.js";
import { makeInside } from "./inside.js";
import { LAYERS, backward, descend, forward, normalise, receptiveField } from "./network.js";
import { closeNote } from "./note.js";
import { makePad } from "./pad.js";
import * as paint from "./paint.js";
import { makePick } from "./pick.js";
import { see } from "./see.js";
import { makeStops } from "./stops.js";
import { layerOf } from "./sums.js";
import { makeTeach } from "./teach.js";
import { makeTour } from "./tour.js";
import { walkthrough } from "./walkthrough.js";
import { wordList } from "./words.js";

const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const trained = readWeights();
const digits = readDigits();
const intro = digits[data.digits.kinds.indexOf("mistakes")];
const BLANK = new Uint8ClampedArray(28 * 28);
const KEPT = 50; // presses that can be undone; each keeps the weights that it changed
const SHOWS = ["outputs", "slopes", "weights", "gradients"];
const RATE = -2.3; // the learning rate's power of ten

const state = {
  weights: trained,
  past: [], // { weights, steps, losses } before each press
  steps: 0, // from the trained weights
  losses: [], // [step, loss] of every step, null where another drawing begins
  pixels: BLANK, // what the network sees
  frame: null, // where that lies on the pad
  drawn: null, // what is on the pad
  subject: null, // what the label belongs to: the first digit, a chosen one, a drawing, or nothing
  outputs: null,
  label: null, // which digit it was
  slopes: null, // of the loss along every output, once there is a label
  gradients: null, // and along every parameter
  show: "outputs", // or slopes, weights, gradients
};
let order = []; // what was done, "pad" or "step", for Ctrl+Z
let reopened = null; // { label, show, place } that belong to what comes on the pad next

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

const pick = makePick((before) => {
  inside.repick(before);
  mark(pick.now()?.name);
  showNote();
  paintOverlay();
  remember();
});

const pad = makePad(element("pad"), element("pad-frame"), {
  begun() {
    order.push("pad");
    pick.clear();
    return state.label;
  },
  undone(label) {
    reopened = { label };
  },
  changed(seen, drawn) {
    const subject = seen && (drawn.intro ? "intro" : (drawn.digit ?? "drawing"));
    if (subject !== state.subject) state.label = drawn.intro ? null : (drawn.digit?.label ?? null);
    Object.assign(state, { pixels: seen?.pixels ?? BLANK, frame: seen, drawn, subject });
    showHint(seen);
    checkDigit(drawn.intro ? undefined : drawn.digit?.index);
    const { label, show = state.show, place } = reopened ?? {};
    if (reopened) Object.assign(state, { label: label ?? null, show });
    const quiet = place !== undefined; // it was opened by its address
    reopened = null;
    think(quiet);
    if (quiet) {
      if (place) pick.pin(place);
      else pick.clear();
      known = whereabouts();
      clearTimeout(writing);
    }
  },
});

let checked = []; // the test digit that is on the pad
function checkDigit(index) {
  for (const input of checked) input.checked = false;
  checked = index === undefined ? [] : (byIndex.get(String(index)) ?? []);
  for (const input of checked) input.checked = true;
}

const inside = makeInside(state, pick, {
  list: element("layers"),
  panel: element("explain"),
  explanation: element("explanation"),
  close: element("close"),
  said: element("picked"),
});
const mark = makeArchitecture(element("architecture"));

const teach = makeTeach(
  state,
  element,
  digits.filter((_, k) => !data.digits.kinds[k]),
  {
    run,
    label: chooseLabel,
    step,
    undo: undoStep,
    reset,
    take: pad.take,
    rate: () => remember(),
    canUndo: () => state.past.length > 0,
  },
);
const eight = makeEight(element, () => remember());
const byIndex = new Map(); // the inputs of a test digit, by its index

const loss = (outputs) => -outputs.log_softmax[state.label];

function step(times, lr) {
  let { weights } = state;
  const last = state.losses.at(-1);
  const goesOn = last && last[0] === state.steps && last[1] === loss(state.outputs);
  const losses = goesOn ? [] : [null, [state.steps, loss(state.outputs)]];
  let outputs = run(weights, state.pixels);
  for (let k = 1; k <= times; k++) {
    weights = descend(weights, backward(weights, outputs, state.label).gradients, lr);
    outputs = run(weights, state.pixels);
    losses.push([state.steps + k, loss(outputs)]);
  }
  keep();
  state.losses = [...state.losses, ...losses].slice(-1000);
  changeWeights(weights, state.steps + times);
  flow();
}

/** Remember the weights as they are, to undo what comes. */
function keep() {
  const { weights, steps, losses } = state;
  state.past = [...state.past, { weights, steps, losses }].slice(-KEPT);
  order.push("step");
}

function undoStep() {
  const before = state.past.at(-1);
  if (!before) return;
  forget("step");
  state.past = state.past.slice(0, -1);
  state.losses = before.losses;
  changeWeights(before.weights, before.steps);
}

function undoPad() {
  forget("pad");
  pad.undo();
}

/** Take the last of this kind out of what was done. */
function forget(kind) {
  const at = order.lastIndexOf(kind);
  if (at >= 0) order.splice(at, 1);
}

/** Undo whatever was done last. */
function undo() {
  while (order.length) {
    const kind = order.at(-1);
    if (kind === "step" && state.past.length) return undoStep();
    if (kind === "pad" && pad.canUndo()) return undoPad();
    order.pop();
  }
}

function changeWeights(weights, steps) {
  const before = state.weights;
  Object.assign(state, { weights, steps });
  think();
  teach.compareOthers(before);
}

function reset() {
  if (state.steps === 0) return;
  keep();
  state.losses = [];
  changeWeights(trained, 0);
}

function chooseLabel(label) {
  state.label = label;
  think();
  flow();
}

function flow() {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  teach.flow();
  inside.flow();
}

/** Forward, and backward if there is a label; then show all of it. */
function think(quiet = false) {
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
  if (!quiet) remember();
}

// ---- the address --------------------------------------------------------------------------------

/** What the address holds: only what differs from the page as it opens. */
function whatIsShown() {
  const { digit, strokes, intro: untouched } = state.drawn ?? { strokes: [], intro: true };
  const place = pick.held() ? pick.now() : null;
  const rate = Number(element("rate").value);
  return {
    view: element("eight").hidden ? undefined : "eight",
    digit: untouched ? undefined : digit?.index,
    draw: untouched || (digit && strokes.length === 0) ? undefined : packStrokes(strokes),
    label: state.label === (digit?.label ?? null) && !untouched ? undefined : (state.label ?? undefined),
    pick: place ? [place.name, place.c, place.i, place.j].join("/") : undefined,
    show: state.show === "outputs" ? undefined : state.show,
    rate: rate === RATE ? undefined : rate,
    ...eight.whatIsShown(),
  };
}

/** The part of it that deserves a place in the history: Back leads from one to the one before. */
function whereabouts() {
  const { drawn, label, show } = state;
  const drawing = drawn && !drawn.intro && !drawn.digit ? drawn.strokes.length > 0 : "";
  const place = pick.held() ? Object.values(pick.now()) : [];
  return [element("eight").hidden, drawn?.intro ? "" : drawn?.digit?.index, drawing, label, show, ...place].join();
}

let known = null;
let writing = 0;
function remember() {
  if (known === null) return; // the page has not opened yet
  const here = whereabouts();
  clearTimeout(writing);
  if (here !== known) write("pushState");
  else writing = setTimeout(write, 300, "replaceState");
  known = here;
}

function write(how) {
  const hash = toAddress(whatIsShown());
  if (hash === location.hash.slice(1)) return;
  try {
    history[how](null, "", hash ? `#${hash}` : location.pathname + location.search);
  } catch {
    // a frame in a notebook has no address of its own, and some browsers limit how often
  }
}

/** Show what an address holds. */
function reopen(hash) {
  const view = fromAddress(hash);
  const digit = digits.find(({ index }) => String(index) === view.digit);
  const label = wholeNumber(view.label, 0, 9) ?? digit?.label ?? null;
  const show = SHOWS.includes(view.show) ? view.show : "outputs";
  reopened = { label, show, place: placeOf(view.pick) };
  state.subject = null;
  if (digit || "draw" in view) pad.open(digit ?? null, unpackStrokes(view.draw ?? ""));
  else pad.open(intro, [], true);
  const rate = Number(view.rate ?? RATE);
  teach.setRate(rate >= -4 && rate <= 0 ? rate : RATE);
  eight.reopen(view);
  open(view.view === "eight" ? tabs[1] : tabs[0], true);
}

/** The activation that a link picks; null if there is no such one. */
function placeOf(text) {
  const [name, ...rest] = (text ?? "").split("/");
  const layer = layerOf(name);
  if (layer.name !== name) return null;
  const [c, i, j] = layer.output.map((length, axis) => wholeNumber(rest[axis], 0, length - 1));
  return [c, i, j].includes(null) ? null : { name, c, i, j };
}

// ---- what is shown ------------------------------------------------------------------------------

element("bars").innerHTML = Array.from(
  { length: 10 },
  (_, k) =>
    `<li><span class="class">${k}</span><span class="track"><span class="bar"></span></span><span class="share"></span></li>`,
).join("");
const bars = [...element("bars").children].map((row) => ({
  row,
  bar: row.querySelector(".bar"),
  share: row.querySelector(".share"),
}));

let saying = 0;
function showReading() {
  const shares = [...state.outputs.log_softmax].map(Math.exp);
  const best = shares.indexOf(Math.max(...shares));
  const blank = state.frame === null;
  bars.forEach(({ row, bar, share }, k) => {
    row.classList.toggle("best", k === best && !blank);
    row.classList.toggle("right", k === state.label);
    bar.style.width = `${100 * shares[k]}%`;
    share.textContent = `${(100 * shares[k]).toFixed(1)}%`;
  });
  element("bars").classList.toggle("blank", blank);
  paint.paintInk(element("seen"), state.pixels);
  element("undo").disabled = !pad.canUndo();
  showCaption(blank, best);
  clearTimeout(saying); // a screen reader wants the end of it, not every frame
  saying = setTimeout(() => {
    element("verdict").textContent = blank
      ? ""
      : `The network reads the digit ${best}, ${Math.round(100 * shares[best])} per cent.`;
  }, 500);
}

/** The line above the pad: what is on it, and the network's answer. */
function showCaption(blank, best) {
  const { digit, strokes, intro: untouched } = state.drawn;
  const says = `The network says <b>${best}</b>.`;
  const whose = digit && `Test digit, a <b>${digit.label}</b>${strokes.length ? ", with your ink" : ""}. ${says}`;
  if (blank) element("caption").textContent = "Blank paper: draw a digit on it.";
  else if (whose) element("caption").innerHTML = `${whose} ${untouched ? "Draw over it." : ""}`;
  else element("caption").innerHTML = `Your drawing. ${says}`;
}

/** What lies on an empty pad, or below a drawing that blurs when it is enlarged. */
function showHint(seen) {
  const hint = element("pad-hint");
  hint.hidden = Boolean(seen && !seen.small);
  hint.classList.toggle("small", Boolean(seen));
  hint.textContent = seen ? "Tiny, so it blurs: draw larger." : "Draw a digit here";
}

function showNote() {
  for (const input of document.querySelectorAll("[name=show]")) {
    input.disabled = !state[input.value];
    input.checked = input.value === state.show;
  }
  const colours = (what) => `Vermilion: if this ${what} grew, the loss would also grow. Blue: the loss would fall.`;
  element("inside-note").textContent = pick.held()
    ? "Press the same picture elsewhere, or a number beside it, to go on. Escape or × closes it."
    : {
        outputs: "Point at an activation, or tap it, to see where it comes from.",
        slopes: colours("activation"),
        weights:
          "Each picture holds one kernel, its input channels side by side; of a normalisation, γ and β.",
        gradients: colours("weight"),
      }[state.show];
}

/** Over the drawing: the gradient at the image, and the receptive field of what is picked. */
function paintOverlay() {
  const canvas = element("overlay");
  const pencil = canvas.getContext("2d");
  const { scale, top, left } = state.frame ?? { scale: 28 / canvas.width, top: 0, left: 0 };
  const taught = Boolean(state.slopes);
  element("hint").disabled = !taught;
  element("hint-legend").classList.toggle("off", !(taught && element("hint").checked));
  pencil.setTransform(1, 0, 0, 1, 0, 0);
  pencil.clearRect(0, 0, canvas.width, canvas.height);
  pencil.setTransform(1 / scale, 0, 0, 1 / scale, -left / scale, -top / scale);
  if (taught && element("hint").checked) paintHelp(pencil, state.slopes.input);
  const place = pick.now();
  if (!place) return;
  const [up, from, down, to] = receptiveField(place.name, place.i, place.j);
  pencil.fillStyle = paint.colour("--veil");
  pencil.beginPath();
  pencil.rect(-100, -100, 300, 300);
  pencil.rect(from, up, to - from + 1, down - up + 1);
  pencil.fill("evenodd");
  pencil.strokeStyle = paint.colour("--accent");
  pencil.lineWidth = 3 * scale;
  pencil.strokeRect(from, up, to - from + 1, down - up + 1);
}

/** Green where more ink would lower the loss, purple where it would raise it. */
function paintHelp(pencil, slopes) {
  const largest = paint.largestOf(slopes);
  slopes.forEach((slope, k) => {
    pencil.globalAlpha = largest ? 0.9 * (Math.abs(slope) / largest) ** 0.7 : 0;
    pencil.fillStyle = slope < 0 ? "#009E73" : "#CC79A7";
    const inset = 0.12;
    pencil.fillRect((k % 28) + inset, Math.floor(k / 28) + inset, 1 - 2 * inset, 1 - 2 * inset);
  });
  pencil.globalAlpha = 1;
}

function paintExamples() {
  for (const [k, digit] of digits.entries()) {
    const kind = data.digits.kinds[k];
    if (!kind) continue;
    const holder = document.createElement("label");
    holder.innerHTML = `<input type="radio" name="digit" value="${digit.index}" aria-label="a ${digit.label}, test digit ${digit.index}"><canvas></canvas>`;
    holder.querySelector("input").addEventListener("change", () => pad.take(digit));
    holder.title = `a ${digit.label}: test digit ${digit.index}`;
    element(kind).append(holder);
  }
  for (const input of document.querySelectorAll("[name=digit]")) {
    byIndex.set(input.value, [...(byIndex.get(input.value) ?? []), input]);
  }
}

function paintDigits() {
  for (const { pixels, index } of digits) {
    for (const input of byIndex.get(String(index))) paint.paintInk(input.nextElementSibling, pixels);
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

element("undo").addEventListener("click", undoPad);
element("clear").addEventListener("click", pad.clear);
element("hint").addEventListener("change", paintOverlay);
document.addEventListener("change", (event) => {
  if (event.target.name !== "show") return;
  state.show = event.target.value;
  inside.paint();
  showNote();
  remember();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input:is([type=number], [type=text])");
  if (event.key === "Escape") closeNote() || tour.leave() || pick.clear();
  else if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !typing) {
    event.preventDefault();
    if (element("eight").hidden) undo();
    else eight.undo();
  }
});
element("walkthrough").href = walkthrough();
element("words").innerHTML = wordList();

// A finger that scrolls the page may begin on a slider: then the slider stays as it was.
for (const kind of ["pointerdown", "pointercancel"]) {
  document.addEventListener(kind, ({ target }) => {
    if (target.type !== "range") return;
    if (kind === "pointerdown") target.dataset.before = target.value;
    else {
      target.value = target.dataset.before;
      target.dispatchEvent(new Event("input", { bubbles: true }));
    }
  }, true);
}

const tabs = [element("tab-digit"), element("tab-eight")];
function open(tab, quiet = false) {
  for (const each of tabs) {
    each.setAttribute("aria-selected", each === tab);
    each.tabIndex = each === tab ? 0 : -1;
    element(each.getAttribute("aria-controls")).hidden = each !== tab;
  }
  closeNote();
  if (tab === tabs[1]) eight.render();
  else if (state.outputs) inside.paint();
  if (!quiet) remember();
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
addEventListener("popstate", () => reopen(location.hash));
paint.onTheme(() => {
  paintDigits();
  paintScale();
  think();
  eight.render();
});

const bestGuess = () => state.outputs.log_softmax.indexOf(Math.max(...state.outputs.log_softmax));
const tour = makeTour(
  element,
  makeStops({
    digit: () => open(tabs[0]),
    eight: () => open(tabs[1]),
    clear: pick.clear,
    pin: pick.pin,
    best: bestGuess,
    taught() {
      if (state.label === null) chooseLabel(state.drawn.digit?.label ?? bestGuess());
    },
  }),
);

// ---- for tests and the curious ------------------------------------------------------------------

/** The output of each of PyTorch's named_modules(): a container has the output of its last layer. */
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
    keep();
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
paintDigits();
paintScale();
reopen(location.hash);
setTimeout(() => state.weights === trained && teach.compareOthers(trained), 300); // after the first paint
