// All layers as pictures, in which the reader picks an activation to be explained.

import { makeExplanation, nameOf } from "./explain.js";
import { LAYERS, receptiveField } from "./network.js";
import { show } from "./numbers.js";
import * as paint from "./paint.js";
import { layerOf } from "./sums.js";
import { word } from "./words.js";

export const STAGES = {
  input: "Image",
  block1: "Block 1",
  transition1: "Transition 1",
  block2: "Block 2",
  transition2: "Transition 2",
  block3: "Block 3",
  head: "Head",
};
const ROWS = [layerOf("input"), ...LAYERS];

/** The part of the network that a layer belongs to. */
export const stageOf = (name) => {
  if (name === "input") return name;
  return name.includes(".") ? name.split(".")[0] : "head";
};
const describe = ({ kind, size, padding }) =>
  ({
    input: "as the network sees it",
    conv: `${size}×${size} convolution${size > 1 ? (padding ? ", padded" : ", not padded") : ""}`,
    norm: "batch normalisation",
    relu: "ReLU",
    pool: "2×2 max pooling",
    dropout: "dropout, which passes all here",
    gap: "global average pooling",
    linear: "fully connected",
    log_softmax: "log-softmax",
  })[kind];

/** "3 × 3", the receptive field of an activation in the middle of a layer, within the image. */
export function sees({ name, output }) {
  const [top, , bottom] = receptiveField(name, Math.floor(output[1] / 2), 0);
  const side = bottom - top + 1;
  return side > 28 ? `sees ${side} × ${side}, all of the image` : `sees ${side} × ${side}`;
}

/** The list of layers, and the explanation of one activation. `state` and `pick` are the page's. */
export function makeInside(state, pick, { list, panel, explanation, close, said }) {
  const rows = ROWS.map((layer) => makeRow(layer));
  const byCanvas = new Map(rows.map((row) => [row.canvas, row]));
  const explain = makeExplanation(state, pick, explanation, pick.pin);
  let wide = 0;

  for (const [stage, title] of Object.entries(STAGES)) {
    const heading = document.createElement("h3");
    heading.id = `stage-${stage}`;
    heading.tabIndex = -1;
    heading.textContent = title;
    list.append(heading, ...rows.filter(({ layer }) => stageOf(layer.name) === stage).map((r) => r.figure));
  }

  function makeRow(layer) {
    const figure = document.createElement("figure");
    const flat = layer.kind === "linear" || layer.kind === "log_softmax";
    const shape = layer.output.slice(0, flat ? 1 : 3);
    figure.id = `layer-${layer.name}`;
    figure.className = "layer";
    const title = layer.name === "input" ? "image" : layer.name.split(".").at(-1);
    const text = describe(layer);
    const helped = { norm: word("batch normalisation"), relu: word("ReLU"), pool: word("max pooling", text) }[layer.kind];
    figure.innerHTML = `
      <figcaption><b>${title}</b> ${helped ?? text}
        <span class="facts"><span class="shape">${shape.join(" × ")} · ${sees(layer)}</span> <span class="range"></span></span>
      </figcaption>
      <canvas tabindex="0" role="application" aria-label="${layer.name}, ${text},
        ${layer.output[0]} channels of ${layer.output[1]} by ${layer.output[2]}. Arrow keys move
        within a channel, page up and page down change it."></canvas>
      ${layer.output[0] === 10 ? '<div class="classes" aria-hidden="true"></div>' : ""}`;
    const row = {
      layer,
      figure,
      canvas: figure.querySelector("canvas"),
      shape: figure.querySelector(".shape"),
      range: figure.querySelector(".range"),
      facts: `${shape.join(" × ")} · ${sees(layer)}`,
      near: true, // near the screen, so painted at once
      stale: true,
    };
    listen(row);
    return row;
  }

  const ofMaps = () => state.show === "outputs" || state.show === "slopes";

  /** What a row shows just now: a map for every channel, or null if it has nothing to show. */
  function maps({ layer }) {
    const [channels, height, width] = layer.output;
    if (ofMaps()) {
      const values = state[state.show]?.[layer.name];
      if (!values) return null;
      const area = height * width;
      return {
        side: width,
        all: Array.from({ length: channels }, (_, c) => values.subarray(c * area, (c + 1) * area)),
      };
    }
    const source = state[state.show];
    const weight = source?.[`${layer.name}.weight`];
    if (!weight) return null;
    if (layer.kind === "norm") {
      const beta = source[`${layer.name}.bias`];
      return { side: 2, all: Array.from(weight, (gamma, c) => [gamma, beta[c], gamma, beta[c]]) };
    }
    return kernelMaps(weight, channels, layer.input[0], layer.size);
  }

  function paintRow(row) {
    row.stale = false;
    const shown = maps(row);
    row.figure.hidden = !shown;
    if (!shown) return;
    const { canvas, layer } = row;
    row.grid = paint.arrange(shown.all.length, wide);
    row.side = shown.side;
    const largest = Math.max(...shown.all.map(paint.largestOf));
    paint.paintTiles(canvas, shown.all, shown.side, row.grid, largest);
    row.range.innerHTML = `· up to ±${show(largest, 2)}`;
    row.shape.textContent = ofMaps() ? row.facts : weightFacts(layer);
    canvas.style.width = row.grid.fills ? "100%" : "";
    if (layer.output[0] === 10) writeClasses(row, shown.all, largest);
    if (pick.now()?.name === layer.name) mark(canvas.getContext("2d"), row);
  }

  /** The shape of a layer's weights, for which activations have no meaning. */
  function weightFacts({ kind, input, output, size }) {
    if (kind === "norm") return `${output[0]} × γ, β`;
    return kind === "linear" ? `${output[0]} × ${input[0]}` : `${output[0]} × ${input[0]} × ${size} × ${size}`;
  }

  /** The ten classes have names, which are written on their tiles. */
  function writeClasses({ figure }, all, largest) {
    figure.querySelector(".classes").innerHTML = all
      .map((map, k) => `<span style="color: ${paint.inkOn(map[0], largest)}">${map.length > 1 ? "" : k}</span>`)
      .join("");
  }

  function mark(pencil, { grid, layer }) {
    const { c, i, j } = pick.now();
    const [x, y] = paint.corner(c, grid.columns);
    const cell = paint.TILE / layer.output[2];
    pencil.lineWidth = 2;
    pencil.strokeStyle = paint.colour("--accent");
    pencil.strokeRect(x + 1, y + 1, paint.TILE - 2, paint.TILE - 2);
    if (layer.output[2] > 1 && ofMaps()) pencil.strokeRect(x + j * cell - 1, y + i * cell - 1, cell + 2, cell + 2);
  }

  // ---- picking an activation ----------------------------------------------------------------

  function listen(row) {
    const { canvas, layer } = row;
    const [channels, height, width] = layer.output;
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const shrunk = canvas.width / box.width;
      const at = paint.hit(
        (event.clientX - box.left) * shrunk,
        (event.clientY - box.top) * shrunk,
        row.side,
        channels,
        row.grid.columns,
      );
      if (!at) return null;
      // A kernel serves all places: take the middle.
      return { name: layer.name, ...at, ...(ofMaps() ? {} : { i: height >> 1, j: width >> 1 }) };
    };
    canvas.addEventListener("pointermove", (event) => {
      const at = event.pointerType === "mouse" ? place(event) : null;
      if (at) pick.hover(at);
    });
    canvas.addEventListener("pointerleave", pick.leave);
    canvas.addEventListener("click", (event) => {
      const at = place(event);
      if (at) pick.pin(at);
    });
    canvas.addEventListener("keydown", (event) => {
      const move = {
        ArrowUp: [0, -1, 0],
        ArrowDown: [0, 1, 0],
        ArrowLeft: [0, 0, -1],
        ArrowRight: [0, 0, 1],
        PageUp: [-1, 0, 0],
        PageDown: [1, 0, 0],
      }[event.key];
      if (!move && event.key !== "Enter") return;
      event.preventDefault();
      const now = pick.now();
      const here = now?.name === layer.name ? now : { c: 0, i: height >> 1, j: width >> 1 };
      const flat = width === 1; // nothing to move within a channel
      const [dc, di, dj] = flat && move ? [move[0] + move[1] + move[2], 0, 0] : (move ?? [0, 0, 0]);
      const within = (value, limit) => Math.min(limit - 1, Math.max(0, value));
      pick.pin({
        name: layer.name,
        c: within(here.c + dc, channels),
        i: within(here.i + di, height),
        j: within(here.j + dj, width),
      });
    });
  }

  close.addEventListener("click", () => {
    const row = rows.find(({ layer }) => layer.name === pick.now()?.name);
    pick.clear();
    row?.canvas.focus({ preventScroll: true });
  });

  // ---- all of it ------------------------------------------------------------------------------

  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === wide || contentRect.width === 0) return;
    wide = contentRect.width;
    rows.forEach(paintRow);
  }).observe(list);

  const watch = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const row = byCanvas.get(target);
        row.near = isIntersecting;
        if (row.near && row.stale && wide) paintRow(row);
      }
    },
    { rootMargin: "300px" },
  );
  rows.forEach(({ canvas }) => watch.observe(canvas));
  let shown = null; // what all rows have been laid out for

  return {
    /** Paint what can be seen, the rest when it is scrolled to. */
    paint() {
      if (!wide) wide = list.clientWidth;
      const all = shown !== state.show || paint.printing();
      shown = state.show;
      for (const row of rows) {
        row.stale = true;
        if (all || row.near) paintRow(row);
      }
      for (const heading of all ? list.querySelectorAll("h3") : []) {
        let next = heading.nextElementSibling;
        while (next?.hidden) next = next.nextElementSibling;
        heading.hidden = !next || next.tagName === "H3";
      }
      explain();
    },
    /** Show that another activation is picked than `before`; bring its row above the panel. */
    repick(before) {
      const now = pick.now();
      for (const row of rows) if ([before?.name, now?.name].includes(row.layer.name)) paintRow(row);
      panel.classList.toggle("open", pick.held());
      explain();
      if (!pick.held()) {
        said.textContent = "";
        return;
      }
      said.textContent = `${now.name}, ${nameOf(now)}: ${explanation.querySelector(".value").textContent}`;
      if (getComputedStyle(panel).position === "fixed") {
        document.getElementById(`layer-${now.name}`).scrollIntoView({ block: "nearest" });
      }
    },
    /** Light the layers up one after another, from the last to the first. */
    flow() {
      rows.forEach(({ figure }, k) => {
        figure.classList.remove("flowing");
        figure.style.setProperty("--delay", `${(rows.length - k) * 45}ms`);
        void figure.offsetWidth; // so that the animation starts again
        figure.classList.add("flowing");
      });
    },
  };
}

/** Each kernel as a square picture: its input channels side by side, transparent in between. */
function kernelMaps(weight, kernels, inputs, size) {
  const across = Math.ceil(Math.sqrt(inputs));
  const pitch = inputs > 1 && size > 1 ? size + 1 : size;
  const side = across * pitch - (pitch - size);
  const all = Array.from({ length: kernels }, (_, o) => {
    const map = new Float64Array(side * side).fill(NaN);
    for (let c = 0; c < inputs; c++) {
      for (let tap = 0; tap < size * size; tap++) {
        const row = Math.floor(c / across) * pitch + Math.floor(tap / size);
        const column = (c % across) * pitch + (tap % size);
        map[row * side + column] = weight[(o * inputs + c) * size * size + tap];
      }
    }
    return map;
  });
  return { side, all };
}
