// Where a number comes from: the sum that makes an activation, and the slope that comes back to it.

import { LAYERS, poolWinners, receptiveField } from "./network.js";
import * as paint from "./paint.js";
import { derived, plus, show } from "./walkthrough.js";

const EPS = 1e-5; // of batch normalisation
const INDEX = Object.fromEntries(LAYERS.map(({ name }, k) => [name, k]));

/**
 * A function that writes the explanation of `state.picked` into an element. `choose` is called
 * with name, channel, row and column when the reader picks another activation there.
 */
export function makeExplanation(state, element, choose) {
  let channel = null; // of the input, whose products are written out; null for the largest
  let whose = ""; // the layer and channel that it belongs to

  element.addEventListener("click", (event) => {
    const target = event.target.closest("[data-pick]");
    if (!target) return;
    const [name, ...place] = target.dataset.pick.split(" ");
    choose(name, ...place.map(Number));
    element.querySelector("h3").focus();
  });
  element.addEventListener("input", (event) => {
    if (event.target.id !== "channel") return;
    channel = Number(event.target.value);
    explain();
    element.querySelector("#channel").focus();
  });
  element.addEventListener("pointerdown", (event) => {
    const { id } = event.target;
    const box = event.target.getBoundingClientRect();
    const [across, down] = [
      (event.clientX - box.left) / box.width,
      (event.clientY - box.top) / box.height,
    ];
    if (id === "magnified") {
      const [, height, width] = LAYERS[INDEX[state.picked.name]].output;
      const { name, c } = state.picked;
      choose(name, c, Math.floor(down * height), Math.floor(across * width));
    } else if (event.target.dataset.first) {
      channel =
        Number(event.target.dataset.first) +
        Math.floor(across * Number(event.target.dataset.count));
      explain();
    }
  });
  function explain() {
    if (!state.picked || !state.outputs) {
      element.innerHTML = `<h3 tabindex="-1">Where a number comes from</h3>
        <p class="note">Point at any activation at the left, or tap it. Its receptive field lights up in
        the drawing, and the sum that makes it stands here.</p>`;
      return;
    }
    const { name, c, i, j } = state.picked;
    if (`${name} ${c}` !== whose) [whose, channel] = [`${name} ${c}`, null];
    const layer = LAYERS[INDEX[name]];
    const [, height, width] = layer.output;
    const place = height > 1 ? `, row ${i}, column ${j}` : "";
    const what = layer.output[0] === 10 ? `digit ${c}` : `channel ${c}${place}`;
    element.innerHTML = `
      <h3 tabindex="-1">${name}</h3>
      <p class="what">${what} <b class="value">${show(valueAt(name, c, i, j))}</b></p>
      <div class="sights">
        <figure><canvas id="field" role="img" aria-label="The pixels that it depends on"></canvas>
          <figcaption>it sees ${fieldText(name, i, j)}</figcaption></figure>
        ${
          height > 1
            ? `<figure><canvas id="magnified" role="img" aria-label="Its channel"></canvas>
          <figcaption>channel ${c}</figcaption></figure>`
            : ""
        }
      </div>
      <ol class="sum">${steps(layer, c, i, j).join("")}</ol>
      ${state.slopes ? backwards(layer, c, i, j) : ""}`;
    paintField(name, i, j);
    if (height > 1) paintMagnified(layer, c, i, j);
    for (const strip of element.querySelectorAll("canvas[data-first]"))
      paintStrip(strip, layer, c, i, j);
  }

  const valueAt = (name, c, i, j, of = state.outputs) => {
    const shape = name === "input" ? [1, 28, 28] : LAYERS[INDEX[name]].output;
    return of[name][(c * shape[1] + i) * shape[2] + j];
  };
  const nameBefore = (k) => (k > 0 ? LAYERS[k - 1].name : "input");

  function fieldText(name, i, j) {
    const [top, left, bottom, right] = receptiveField(name, i, j);
    const inside = (low, high) => Math.min(27, high) - Math.max(0, low) + 1;
    const all = `${bottom - top + 1} × ${right - left + 1}`;
    const there = `${inside(top, bottom)} × ${inside(left, right)}`;
    return `${all} pixels${all === there ? "" : `, ${there} of them in the image`}`;
  }

  function paintField(name, i, j) {
    const canvas = element.querySelector("#field");
    const small = document.createElement("canvas");
    paint.paintInk(small, state.pixels);
    const [top, left, bottom, right] = receptiveField(name, i, j).map((at) => 5 * at);
    const box = [left, top, right - left + 5, bottom - top + 5];
    const styles = getComputedStyle(document.body);
    canvas.width = canvas.height = 140;
    const pencil = canvas.getContext("2d");
    pencil.fillStyle = styles.getPropertyValue("--lit");
    pencil.fillRect(...box);
    pencil.imageSmoothingEnabled = false;
    pencil.drawImage(small, 0, 0, 140, 140);
    pencil.strokeStyle = styles.getPropertyValue("--accent");
    pencil.lineWidth = 2;
    pencil.strokeRect(...box);
  }

  function paintMagnified({ name, output }, c, i, j) {
    const [, height, width] = output;
    const canvas = element.querySelector("#magnified");
    const values = (state.show === "slopes" ? state.slopes : state.outputs)[name];
    const map = values.subarray(c * height * width, (c + 1) * height * width);
    const cell = Math.floor(140 / width);
    const small = document.createElement("canvas");
    paint.paintMap(small, map, height, width, paint.largestOf(values));
    canvas.width = cell * width;
    canvas.height = cell * height;
    const pencil = canvas.getContext("2d");
    pencil.imageSmoothingEnabled = false;
    pencil.drawImage(small, 0, 0, canvas.width, canvas.height);
    pencil.lineWidth = 2;
    pencil.strokeStyle = getComputedStyle(document.body).getPropertyValue("--ink");
    pencil.strokeRect(j * cell, i * cell, cell, cell);
  }

  /** The steps that make an activation, as items of a list. */
  function steps(layer, c, i, j) {
    const k = INDEX[layer.name];
    if (["conv", "norm", "relu"].includes(layer.kind)) return convChain(k, c, i, j);
    if (layer.kind === "pool") return [poolStep(k, c, i, j)];
    if (layer.kind === "gap") return [gapStep(k, c)];
    if (layer.kind === "linear") return [productStep(k, c, 0, 0)];
    if (layer.kind === "log_softmax") return [softmaxStep(c)];
    const value = valueAt(layer.name, c, i, j);
    return [
      `<li><h4>Dropout</h4><p>passes everything on when the network evaluates:
      ${number(nameBefore(k), c, i, j)} = ${derived("relu", show(value))}</p></li>`,
    ];
  }

  /** A number that is an activation: a press leads to where it comes from. */
  function number(name, c, i, j, digits = 4) {
    const value = show(valueAt(name, c, i, j), digits);
    if (name === "input") return `<span>${value}</span>`;
    return `<button class="number" data-pick="${name} ${c} ${i} ${j}">${value}</button>`;
  }

  /** Convolution, normalisation and ReLU at one place; the chosen one of them is marked. */
  function convChain(k, c, i, j) {
    let first = k;
    while (LAYERS[first].kind !== "conv") first--;
    const chain = [];
    for (let at = first; at === first || ["norm", "relu"].includes(LAYERS[at].kind); at++) {
      const step = { conv: productStep, norm: normStep, relu: reluStep }[LAYERS[at].kind];
      chain.push(step(at, c, i, j, at === k));
    }
    return chain;
  }

  const item = (chosen, title, body) =>
    `<li${chosen ? ' class="chosen" aria-current="true"' : ""}><h4>${title}</h4>${body}</li>`;

  function normStep(k, c, i, j, chosen) {
    const { name } = LAYERS[k];
    const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(
      (kind) => state.weights[`${name}.${kind}`][c],
    );
    const x = valueAt(nameBefore(k), c, i, j);
    return item(
      chosen,
      "Normalisation, by running statistics",
      `
      <p><var>γ</var> · (<var>x</var> − <var>μ</var>) / √(var + ε) + <var>β</var></p>
      <p class="figures">${show(gamma)} · (${show(x)} ${plus(-mean)}) / ${show(Math.sqrt(variance + EPS))}
        ${plus(beta)} = <b>${derived("norm", show(valueAt(name, c, i, j)))}</b></p>`,
    );
  }

  function reluStep(k, c, i, j, chosen) {
    const x = valueAt(nameBefore(k), c, i, j);
    return item(
      chosen,
      "ReLU",
      `
      <p class="figures">max(${show(x)}, 0) = <b>${derived("relu", show(Math.max(0, x)))}</b></p>`,
    );
  }

  /** A sum of products: of a convolution at one place, or of the fully connected layer. */
  function productStep(k, c, i, j, chosen) {
    const layer = LAYERS[k];
    const parts = contributions(layer, c, i, j);
    const bias = state.weights[`${layer.name}.bias`][c];
    const total = parts.reduce((sum, part) => sum + part, 0);
    const most = parts.reduce(
      (best, part, at) => (Math.abs(part) > Math.abs(parts[best]) ? at : best),
      0,
    );
    const at = Math.min(channel ?? most, parts.length - 1);
    const linear = layer.kind === "linear";
    const bands = [];
    for (let from = 0; from < parts.length; from += 16) {
      const count = Math.min(16, parts.length - from);
      if (parts.length > 1)
        bands.push(`<canvas class="strip" data-first="${from}" data-count="${count}"></canvas>`);
    }
    const kernel = layer.size > 1 ? "kernel × patch" : "weight × input";
    const names = linear ? "average" : "input channel";
    const chooser =
      parts.length > 1
        ? `<p><label>${names} <input type="number" id="channel" min="0" max="${parts.length - 1}" value="${at}"></label>
         ${channel === null ? "adds most" : ""}</p>`
        : "";
    return item(
      chosen,
      linear ? "Sum of products" : `Convolution`,
      `
      ${bands.join("")}
      ${parts.length > 1 ? `<p class="legend">${layer.size > 1 ? "patch, kernel" : "input, weight"}, product, for each ${names}</p>` : ""}
      ${chooser}
      ${products(layer, c, at, i, j)}
      <p class="figures">${kernel}: ${show(parts[at])}${parts.length > 1 ? `; all ${parts.length}: ${show(total)}` : ""}</p>
      <p class="figures">${show(total)} ${plus(bias)} bias =
        <b>${derived(linear ? "linear" : "conv", show(valueAt(layer.name, c, i, j)))}</b></p>`,
    );
  }

  /** For each input channel, the products summed over the patch. */
  function contributions(layer, c, i, j) {
    return Array.from({ length: layer.input[0] }, (_, from) => {
      const patch = patchOf(layer, from, i, j);
      return kernelOf(layer, c, from).reduce((sum, w, tap) => sum + w * patch[tap].value, 0);
    });
  }

  function kernelOf({ name, input, size }, c, from, of = state.weights) {
    const start = (c * input[0] + from) * size * size;
    return of[`${name}.weight`].subarray(start, start + size * size);
  }

  /** What the kernel lies on: a value for each tap, with its place, or 0 in the padding. */
  function patchOf(layer, from, i, j) {
    const before = nameBefore(INDEX[layer.name]);
    return Array.from({ length: layer.size ** 2 }, (_, tap) => {
      const row = i + Math.floor(tap / layer.size) - layer.padding;
      const column = j + (tap % layer.size) - layer.padding;
      const there = row >= 0 && column >= 0 && row < layer.input[1] && column < layer.input[2];
      return { there, row, column, before, value: there ? valueAt(before, from, row, column) : 0 };
    });
  }

  /** One input channel's patch and kernel in numbers; the patch's lead further back. */
  function products(layer, c, from, i, j) {
    const patch = patchOf(layer, from, i, j);
    const kernel = kernelOf(layer, c, from);
    const slopes = state.gradients && kernelOf(layer, c, from, state.gradients);
    const cells = (values) =>
      `<div class="cells" style="--side: ${layer.size}">${values.join("")}</div>`;
    const inputs = patch.map((at) =>
      at.there
        ? number(at.before, from, at.row, at.column, 3)
        : '<span class="padding" title="padding">0</span>',
    );
    const short = (values) => Array.from(values, (w) => `<span>${show(w, 2)}</span>`);
    return `<div class="products">
      <div><p>${layer.size > 1 ? "patch" : "input"}</p>${cells(inputs)}</div>
      <div><p>${layer.size > 1 ? "kernel" : "weight"}</p>${cells(short(kernel))}</div>
      ${slopes ? `<div><p>${derived("convKernel", "its gradient")}</p>${cells(short(slopes))}</div>` : ""}
    </div>`;
  }

  /** Patches, kernels and products of up to sixteen input channels, one below the other. */
  function paintStrip(canvas, picked, c, i, j) {
    let k = INDEX[picked.name];
    while (LAYERS[k].kind !== "conv" && LAYERS[k].kind !== "linear") k--;
    const layer = LAYERS[k];
    const [first, count] = [Number(canvas.dataset.first), Number(canvas.dataset.count)];
    const [cell, side] = [18, layer.size];
    canvas.width = 16 * cell;
    canvas.height = 3 * cell;
    canvas.dataset.count = 16;
    const parts = contributions(layer, c, i, j);
    const largest = [
      paint.largestOf(state.outputs[nameBefore(k)]),
      paint.largestOf(state.weights[`${layer.name}.weight`]),
      paint.largestOf(parts),
    ];
    const pencil = canvas.getContext("2d");
    for (let at = 0; at < count; at++) {
      const from = first + at;
      const patch = patchOf(layer, from, i, j).map(({ value }) => value);
      [patch, [...kernelOf(layer, c, from)], [parts[from]]].forEach((values, row) => {
        const n = row < 2 ? side : 1;
        const dot = (cell - 3) / n;
        values.forEach((value, tap) => {
          pencil.fillStyle = paint.css(value, largest[row]);
          pencil.fillRect(
            at * cell + (tap % n) * dot,
            row * cell + Math.floor(tap / n) * dot,
            dot,
            dot,
          );
        });
      });
    }
  }

  function poolStep(k, c, i, j) {
    const layer = LAYERS[k];
    const [, rows, columns] = layer.output;
    const before = nameBefore(k);
    const winner = poolWinners(state.outputs[before], layer)[(c * rows + i) * columns + j];
    const cells = [0, 1, 2, 3].map((tap) => {
      const [row, column] = [2 * i + (tap >> 1), 2 * j + (tap & 1)];
      const won = (c * layer.input[1] + row) * layer.input[2] + column === winner;
      return `<div${won ? ' class="won"' : ""}>${number(before, c, row, column)}${won ? "<small>won</small>" : ""}</div>`;
    });
    return item(
      true,
      "Maximum",
      `<div class="cells wide" style="--side: 2">${cells.join("")}</div>
      <p class="figures">the largest of the four =
      <b>${derived("pool", show(valueAt(layer.name, c, i, j)))}</b>; of equals, the first</p>`,
    );
  }

  function gapStep(k, c) {
    const [, height, width] = LAYERS[k].input;
    const cells = Array.from({ length: height * width }, (_, at) =>
      number(nameBefore(k), c, Math.floor(at / width), at % width),
    );
    return item(
      true,
      "Average",
      `<div class="cells wide" style="--side: ${width}">${cells.join("")}</div>
      <p class="figures">sum / ${height * width} = <b>${derived("relu", show(valueAt("gap", c, 0, 0)))}</b></p>`,
    );
  }

  function softmaxStep(c) {
    const z = [...state.outputs.fc];
    const log = z[0] - state.outputs.log_softmax[0];
    const rows = z.map(
      (logit, k) => `<tr${k === c ? ' class="chosen"' : ""}><th>${k}</th>
      <td>${number("fc", k, 0, 0)}</td><td>${show(state.outputs.log_softmax[k])}</td>
      <td>${show(100 * Math.exp(state.outputs.log_softmax[k]), 3)}%</td></tr>`,
    );
    return item(
      true,
      "Softmax",
      `
      <p>log <var>p</var> = <var>z</var> − log Σ <var>e<sup>z</sup></var></p>
      <p class="figures">${show(z[c])} ${plus(-log)} = <b>${derived("softmax", show(state.outputs.log_softmax[c]))}</b></p>
      <table><thead><tr><th></th><th>logit <var>z</var></th><th>log <var>p</var></th><th><var>p</var></th></tr></thead>
      <tbody>${rows.join("")}</tbody></table>`,
    );
  }

  // ---- and backwards ------------------------------------------------------------------------

  function backwards(layer, c, i, j) {
    const slope = state.slopes[layer.name];
    if (!slope) {
      const right = c === state.label;
      return `<section class="back"><h4>And back</h4><p class="figures">∂L/∂log <var>p</var> =
        ${derived("logits", right ? "−1" : "0")}${right ? ", the right digit's" : ""}</p></section>`;
    }
    const value = valueAt(layer.name, c, i, j, state.slopes);
    const [how, key] = whyBack(layer, c, i, j);
    return `<section class="back"><h4>And back</h4>
      <p class="figures">∂L/∂this = <b>${derived(key, show(value))}</b></p><p>${how}</p></section>`;
  }

  /** How the slope of an activation follows from that of the layer after it, in words. */
  function whyBack(layer, c, i, j) {
    const k = INDEX[layer.name];
    const after = LAYERS[k + 1];
    const x = valueAt(layer.name, c, i, j);
    const dy = () => show(valueAt(after.name, c, i, j, state.slopes));
    switch (after.kind) {
      case "relu":
        return [
          x > 0
            ? `ReLU passes on ${dy()}, because this is above 0.`
            : "ReLU lets nothing through: this is not above 0.",
          "relu",
        ];
      case "norm": {
        const std = Math.sqrt(state.weights[`${after.name}.running_var`][c] + EPS);
        return [
          `Normalisation passes on ${dy()} · <var>γ</var> / √(var + ε) =
          ${dy()} · ${show(state.weights[`${after.name}.weight`][c])} / ${show(std)}.`,
          "normBack",
        ];
      }
      case "pool": {
        const [row, column] = [i >> 1, j >> 1];
        const winner = poolWinners(state.outputs[layer.name], after)[
          (c * after.output[1] + row) * after.output[2] + column
        ];
        const won = winner === (c * layer.output[1] + i) * layer.output[2] + j;
        return [
          won
            ? "It won its window, and gets all of its slope."
            : "It did not win its window, and gets nothing.",
          "pool",
        ];
      }
      case "conv":
        return [
          `The sum over the ${after.output[0]} kernels of ${after.name}, flipped, times what comes back there.`,
          "convInput",
        ];
      case "gap":
        return [
          `A ninth of ${show(valueAt("gap", c, 0, 0, state.slopes))}: each pixel of the average has the same share.`,
          "relu",
        ];
      case "linear":
        return [
          "The sum over the ten digits of weight × (<var>p</var> − 1 for the right digit, <var>p</var> for the others).",
          "linear",
        ];
      case "log_softmax": {
        const p = Math.exp(state.outputs.log_softmax[c]);
        return [
          c === state.label
            ? `${show(p)} − 1, because it was a ${c}.`
            : `${show(p)}, the probability it gave.`,
          "logits",
        ];
      }
      default:
        return [`Dropout passes on ${dy()}.`, "relu"];
    }
  }

  return explain;
}
