// All layers as pictures, in which the reader chooses an activation to be explained.

import { makeExplanation } from "./explain.js";
import { LAYERS, receptiveField } from "./network.js";
import * as paint from "./paint.js";
import { show } from "./walkthrough.js";

const STAGES = {
  block1: "Block 1",
  transition1: "Transition 1",
  block2: "Block 2",
  transition2: "Transition 2",
  block3: "Block 3",
  head: "Head",
};
const stageOf = (name) => (name.includes(".") ? name.split(".")[0] : "head");
const describe = ({ kind, size, padding }) =>
  ({
    conv: `${size}×${size} convolution${size > 1 ? (padding ? ", padded" : ", not padded") : ""}`,
    norm: "batch normalisation",
    relu: "ReLU",
    pool: "2×2 max pooling",
    dropout: "dropout, which passes all here",
    gap: "global average pooling",
    linear: "fully connected",
    log_softmax: "log-softmax",
  })[kind];

/** "3 × 3", the receptive field of an activation in the middle of a layer. */
function sees({ name, output }) {
  const [top, , bottom] = receptiveField(name, Math.floor(output[1] / 2), 0);
  return `sees ${bottom - top + 1} × ${bottom - top + 1}`;
}

/**
 * The list of layers and the explanation of one activation. `state` is the page's; `picked` is
 * called after the reader has chosen another activation, which is then `state.picked`.
 */
export function makeInside(state, { list, panel, explanation, close }, picked) {
  const rows = LAYERS.map((layer) => makeRow(layer));
  const explain = makeExplanation(state, explanation, (...place) => {
    hold();
    pick(...place);
  });
  let wide = 0;

  for (const [stage, title] of Object.entries(STAGES)) {
    const heading = document.createElement("h3");
    heading.textContent = title;
    list.append(
      heading,
      ...rows.filter(({ layer }) => stageOf(layer.name) === stage).map((r) => r.figure),
    );
  }

  function makeRow(layer) {
    const figure = document.createElement("figure");
    const shape = layer.output.slice(
      0,
      layer.kind === "linear" || layer.kind === "log_softmax" ? 1 : 3,
    );
    figure.id = `layer-${layer.name}`;
    figure.className = "layer";
    figure.innerHTML = `
      <figcaption><b>${layer.name.split(".").at(-1)}</b> ${describe(layer)}
        <span class="facts">${shape.join(" × ")} · ${sees(layer)} <span class="range"></span></span>
      </figcaption>
      <canvas tabindex="0" role="application" aria-label="${layer.name}, ${describe(layer)},
        ${layer.output[0]} channels of ${layer.output[1]} by ${layer.output[2]}. Arrow keys move
        within a channel, page up and page down change it."></canvas>
      ${layer.output[0] === 10 ? '<div class="classes" aria-hidden="true"></div>' : ""}`;
    const row = {
      layer,
      figure,
      canvas: figure.querySelector("canvas"),
      range: figure.querySelector(".range"),
    };
    listen(row);
    return row;
  }

  /** What a row shows just now: a map for every channel, or null if it has nothing to show. */
  function maps({ layer }) {
    const [channels, height, width] = layer.output;
    if (state.show === "outputs" || state.show === "slopes") {
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
    const shown = maps(row);
    row.figure.hidden = !shown;
    if (!shown) return;
    const { canvas, layer } = row;
    row.grid = paint.arrange(shown.all.length, wide);
    row.side = shown.side;
    const largest = Math.max(...shown.all.map(paint.largestOf));
    paint.paintTiles(canvas, shown.all, shown.side, row.grid, largest);
    row.range.innerHTML = `· up to ±${show(largest, 2)}`;
    const pencil = canvas.getContext("2d");
    canvas.style.width = row.grid.fills ? "100%" : "";
    if (layer.output[0] === 10) writeClasses(row, shown.all, largest);
    if (state.picked?.name === layer.name) mark(pencil, row);
  }

  /** The ten classes have names, which are written on their tiles. */
  function writeClasses({ figure }, all, largest) {
    figure.querySelector(".classes").innerHTML = all
      .map(
        (map, k) =>
          `<span style="color: ${paint.inkOn(map[0], largest)}">${map.length > 1 ? "" : k}</span>`,
      )
      .join("");
  }

  function mark(pencil, { grid, layer }) {
    const { c, i, j } = state.picked;
    const [x, y] = paint.corner(c, grid.columns);
    const cell = paint.TILE / layer.output[2];
    const styles = getComputedStyle(document.body);
    pencil.lineWidth = 2;
    pencil.strokeStyle = styles.getPropertyValue("--ink");
    pencil.strokeRect(x + 1, y + 1, paint.TILE - 2, paint.TILE - 2);
    if (layer.output[2] > 1 && (state.show === "outputs" || state.show === "slopes")) {
      pencil.strokeRect(x + j * cell - 1, y + i * cell - 1, cell + 2, cell + 2);
    }
  }

  // ---- choosing an activation ---------------------------------------------------------------

  function pick(name, c, i, j) {
    state.picked = { name, c, i, j };
    picked();
  }

  function listen(row) {
    const { canvas, layer } = row;
    const [channels, height, width] = layer.output;
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      const shrunk = canvas.width / box.width;
      const at = hit(row, (event.clientX - box.left) * shrunk, (event.clientY - box.top) * shrunk);
      if (at) pick(layer.name, at.c, at.i, at.j);
      return at;
    };
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && !state.pinned) point(event);
    });
    canvas.addEventListener("click", (event) => {
      if (!point(event)) return;
      hold();
      picked();
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
      const flat = width === 1; // nothing to move within a channel
      if (!move && event.key !== "Enter") return;
      event.preventDefault();
      const here =
        state.picked?.name === layer.name ? state.picked : { c: 0, i: height >> 1, j: width >> 1 };
      const [dc, di, dj] = flat && move ? [move[0] + move[1] + move[2], 0, 0] : (move ?? [0, 0, 0]);
      const within = (value, limit) => Math.min(limit - 1, Math.max(0, value));
      hold();
      pick(
        layer.name,
        within(here.c + dc, channels),
        within(here.i + di, height),
        within(here.j + dj, width),
      );
    });
  }

  function hit(row, x, y) {
    const at = paint.hit(x, y, row.side, row.layer.output[0], row.grid.columns);
    if (!at || state.show === "outputs" || state.show === "slopes") return at;
    const [, height, width] = row.layer.output; // a kernel serves all places: take the middle
    return { c: at.c, i: height >> 1, j: width >> 1 };
  }

  function hold() {
    state.pinned = true;
    panel.classList.add("open");
  }

  function unpin() {
    state.pinned = false;
    panel.classList.remove("open");
    picked();
  }

  close.addEventListener("click", unpin);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && state.pinned) unpin();
  });

  // ---- all of it ------------------------------------------------------------------------------

  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === wide || contentRect.width === 0) return;
    wide = contentRect.width;
    rows.forEach(paintRow);
  }).observe(list);

  return {
    paint() {
      if (!wide) wide = list.clientWidth;
      rows.forEach(paintRow);
      for (const heading of list.querySelectorAll("h3")) {
        let next = heading.nextElementSibling;
        while (next?.hidden) next = next.nextElementSibling;
        heading.hidden = !next || next.tagName === "H3";
      }
      explain();
    },
    /** Paint only what changes when another activation is chosen. */
    repick(before) {
      for (const row of rows)
        if ([before?.name, state.picked?.name].includes(row.layer.name)) paintRow(row);
      explain();
    },
    /** Light the layers up one after another, from the last to the first. */
    flow() {
      rows.forEach(({ figure }, k) => {
        figure.classList.remove("flowing");
        figure.style.setProperty("--delay", `${(rows.length - k) * 45}ms`);
        void figure.offsetWidth; // so that the animation starts anew
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
