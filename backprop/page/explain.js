// Where a number comes from, as the panel shows it: forward, the sum that makes an activation, and
// beside it backward, the sum that makes its gradient. The numbers come from sums.js.

import { receptiveField } from "./network.js";
import { bracketed, plus, read, relation, relationTo, rounded, scaled, show, together } from "./numbers.js";
import * as paint from "./paint.js";
import * as sums from "./sums.js";
import { derived } from "./walkthrough.js";
import { word } from "./words.js";

const CONVOLVED = ["conv", "norm", "relu"];
const [STRIP, CELL] = [16, 18]; // channels in a row of a strip, and the pixels of each

/** "block1.conv1, channel 3, row 4, column 5", for eyes and for screen readers. */
export function nameOf({ name, c, i, j }) {
  const [channels, height] = sums.layerOf(name).output;
  if (channels === 10) return `digit ${c}`;
  const place = height > 1 ? `row ${i}, column ${j}` : "";
  return [name === "input" ? "" : `channel ${c}`, place].filter(Boolean).join(", ");
}

/**
 * A function that writes the explanation of what is picked into an element. `choose` is called
 * with a place when the reader picks another activation there.
 */
export function makeExplanation(state, pick, element, choose) {
  const chosen = { forward: null, back: null }; // whose products are written out; null: the largest
  let written = {}; // the sums of products on show, by their side
  let whose = "";

  // ---- what the reader does -----------------------------------------------------------------

  element.addEventListener("click", (event) => {
    const target = event.target.closest("[data-pick]");
    if (!target) return;
    const [name, ...place] = target.dataset.pick.split(" ");
    const [c, i, j] = place.map(Number);
    choose({ name, c, i, j });
    element.querySelector("h3").focus();
  });
  element.addEventListener("input", ({ target }) => {
    const side = target.dataset.channel;
    if (!side || !/^\d+$/.test(target.value.trim())) return; // not a number yet
    chosen[side] = Math.min(written[side].sum.channels.length - 1, Number(target.value));
    showProducts(side);
  });
  element.addEventListener("change", ({ target }) => {
    const side = target.dataset.channel;
    if (side) target.value = which(side); // what was typed may not have been a channel
  });
  element.addEventListener("pointerdown", (event) => {
    const { target } = event;
    const box = target.getBoundingClientRect();
    const [across, down] = [
      (event.clientX - box.left) / box.width,
      (event.clientY - box.top) / box.height,
    ];
    if (target.className === "magnified") {
      const { name, c } = pick.now();
      const [, height, width] = sums.layerOf(name).output;
      choose({ name, c, i: Math.floor(down * height), j: Math.floor(across * width) });
    } else if (target.className === "strip") {
      const { side, first } = target.dataset;
      const k = Number(first) + Math.floor(across * STRIP);
      if (k >= written[side].sum.channels.length) return;
      chosen[side] = k;
      element.querySelector(`[data-channel=${side}]`).value = k;
      showProducts(side);
    }
  });

  // ---- all of it ----------------------------------------------------------------------------

  function explain() {
    const place = pick.now();
    if (!place || !state.outputs) {
      element.innerHTML = `<h3 tabindex="-1">Where a number comes from</h3>
        <p class="note">Point at any ${word("activation")}, or tap it. Its
        ${word("receptive field")} lights up in the drawing, and the sum that makes it appears here.</p>`;
      whose = "";
      return;
    }
    const id = `${place.name} ${place.c}`;
    if (id !== whose) Object.assign(chosen, { forward: null, back: null });
    whose = id;
    written = {};
    const { name } = place;
    const layer = sums.layerOf(name);
    const flat = layer.output[1] === 1;
    const slope = state.slopes?.[name] && sums.valueAt(state.slopes, place);
    element.innerHTML = `
      <h3 tabindex="-1">${name === "input" ? "the image" : name}</h3>
      <p class="what">${nameOf(place)}</p>
      <dl class="values"><div><dt>activation</dt><dd class="value">${show(sums.valueAt(state.outputs, place))}</dd></div>
        ${slope === undefined || slope === null ? "" : `<div><dt>gradient</dt><dd class="value slope">${show(slope)}</dd></div>`}</dl>
      <div class="sights">
        <figure><canvas class="field" role="img" aria-label="The pixels that it depends on"></canvas>
          <figcaption>it sees ${fieldText(place)}</figcaption></figure>
        ${flat ? "" : '<figure><canvas class="magnified" role="img" aria-label="Its channel, enlarged"></canvas><figcaption>its channel: press a place</figcaption></figure>'}
      </div>
      <div class="ways">
        <section class="way forward" aria-label="Forward"><h4>Forward: its value</h4>
          <ol class="sum">${forwardSteps(layer, place).join("")}</ol></section>
        <section class="way backward" aria-label="Backward"><h4>Backward: its ${word("gradient")}</h4>
          <ol class="sum">${backwardSteps(place).join("")}</ol></section>
      </div>`;
    paintField(place);
    if (!flat) paintMagnified(layer, place);
    for (const side of Object.keys(written)) showProducts(side);
  }

  function fieldText({ name, i, j }) {
    const [top, left, bottom, right] = receptiveField(name, i, j);
    const inside = (low, high) => Math.min(27, high) - Math.max(0, low) + 1;
    const all = `${bottom - top + 1} × ${right - left + 1}`;
    const there = `${inside(top, bottom)} × ${inside(left, right)}`;
    return all === there ? `${all} pixels` : `${there} pixels, of ${all} with padding`;
  }

  // ---- forward ------------------------------------------------------------------------------

  /** The steps that make an activation, as items of a list. */
  function forwardSteps(layer, place) {
    const { kind } = layer;
    if (CONVOLVED.includes(kind)) return convolved(layer, place);
    const value = () => sums.valueAt(state.outputs, place);
    const source = { ...place, name: sums.layerBefore(layer.name).name };
    switch (kind) {
      case "input":
        return [item(true, "The image", "<p>The ink, normalised: MNIST's mean is subtracted, and the result is divided by its standard deviation.</p>")];
      case "pool":
        return [poolStep(layer, place)];
      case "gap":
        return [averageStep(place, source.name)];
      case "linear":
        return [productsStep("forward", layer, place, true)];
      case "log_softmax":
        return [softmaxStep(place.c)];
      default:
        return [item(true, "Dropout", `<p>passes everything on when the network evaluates:
          ${number(source)} = <b>${derived("relu", show(value()))}</b></p>`)];
    }
  }

  const item = (marked, title, body) =>
    `<li${marked ? ' class="chosen" aria-current="true"' : ""}><h5>${title}</h5>${body}</li>`;

  /** A number that is an activation, or its gradient: a press leads to where it comes from. */
  function number(place, { values = state.outputs, digits = 4, text } = {}) {
    const shown = text ?? show(sums.valueAt(values, place), digits);
    const { name, c, i, j } = place;
    return `<button class="number" data-pick="${name} ${c} ${i} ${j}">${shown}</button>`;
  }

  /** Convolution, normalisation and ReLU at one place; the picked one of them is marked. */
  function convolved(layer, place) {
    let at = layer;
    while (at.kind !== "conv") at = sums.layerBefore(at.name);
    const steps = [];
    do {
      const here = { ...place, name: at.name };
      const marked = at === layer;
      if (at.kind === "conv") steps.push(productsStep("forward", at, here, marked));
      else steps.push(item(marked, ...(at.kind === "norm" ? normStep(at, here) : reluStep(at, here))));
      at = sums.layerAfter(at.name);
    } while (CONVOLVED.includes(at.kind) && at.kind !== "conv");
    return steps;
  }

  function normStep({ name }, place) {
    const { gamma, beta, mean, std } = sums.statistics(state.weights, name, place.c);
    const x = sums.valueAt(state.outputs, { ...place, name: sums.layerBefore(name).name });
    const y = sums.valueAt(state.outputs, place);
    const centred = together([x, -mean], x - mean, { digits: 5 });
    const last = together([y - beta, beta], y, { free: 0 });
    const scaled = (read(centred.total, centred.power) * rounded(gamma)) / rounded(std);
    return [
      `${word("batch normalisation", "Normalisation")}, by running statistics`,
      `<p class="figures">${units(centred)}<var>x</var> − <var>μ</var> = ${centred.texts[0]} ${plus(centred.texts[1])} = ${centred.total}</p>
      <p class="figures">· <var>γ</var> / <var>σ</var>: ${centred.total} · ${bracketed(gamma)} / ${show(std)}
        ${relationTo(scaled, last.texts[0], last.power)} ${last.texts[0]}</p>
      <p class="figures">${units(last)}+ <var>β</var>: ${last.texts[0]} ${plus(last.texts[1])} = <b>${derived("norm", last.total)}</b></p>`,
    ];
  }

  const units = ({ power }) => (power ? `<small>in 10<sup>${String(power).replace("-", "−")}</sup></small> ` : "");

  function reluStep({ name }, place) {
    const x = sums.valueAt(state.outputs, { ...place, name: sums.layerBefore(name).name });
    return [
      word("ReLU"),
      `<p class="figures">max(${show(x)}, 0) = <b>${derived("relu", show(Math.max(0, x)))}</b></p>`,
    ];
  }

  function poolStep(layer, { name, c, i, j }) {
    return item(
      true,
      word("max pooling", "Maximum"),
      `${windowCells(layer, { c, i, j })}
      <p class="figures">the largest of the four =
      <b>${derived("pool", show(sums.valueAt(state.outputs, { name, c, i, j })))}</b>; of equals, the first</p>`,
    );
  }

  /** The four values of a window, the winner marked. */
  function windowCells(layer, { c, i, j }) {
    const { places, won } = sums.windowOf(state.outputs, layer, c, i, j);
    const cells = places.map(
      (place, k) => `<div${k === won ? ' class="won"' : ""}>${number(place)}${k === won ? "<small>won</small>" : ""}</div>`,
    );
    return `<div class="cells wide" style="--side: 2">${cells.join("")}</div>`;
  }

  function averageStep(place, source) {
    const places = sums.placesOf(source, place.c);
    const values = places.map((at) => sums.valueAt(state.outputs, at));
    const sum = values.reduce((so, x) => so + x, 0);
    const { texts, total, power } = together(values, sum);
    const mean = sums.valueAt(state.outputs, place);
    const [, , width] = sums.layerOf(source).output;
    const cells = places.map((at, k) => number(at, { text: texts[k] }));
    return item(
      true,
      "Average",
      `<p>${units({ power })}</p><div class="cells wide adds" style="--side: ${width}">${cells.join("")}</div>
      <p class="figures">they add up to <b class="total">${total}</b></p>
      <p class="figures">${power ? show(sum) : total} / ${places.length}
      ${relation((power ? rounded(sum) : read(total)) / places.length, mean)} <b>${derived("relu", show(mean))}</b></p>`,
    );
  }

  function softmaxStep(c) {
    const z = [...state.outputs.fc];
    const logs = [...state.outputs.log_softmax];
    const log = z[0] - logs[0];
    const sum = together([z[c], -log], logs[c], { free: 1 });
    const rows = z.map(
      (_, k) => `<tr${k === c ? ' class="chosen"' : ""}><th scope="row">${k}</th>
      <td>${number({ name: "fc", c: k, i: 0, j: 0 })}</td><td>${show(logs[k])}</td>
      <td>${show(100 * Math.exp(logs[k]), 3)}%</td></tr>`,
    );
    return item(
      true,
      word("softmax", "Softmax"),
      `<p>log <var>p</var> = <var>z</var> − log Σ <var>e<sup>z</sup></var>, with the ${word("natural log")}</p>
      <p class="figures">${units(sum)}${sum.texts[0]} ${plus(sum.texts[1])} = <b>${derived("softmax", sum.total)}</b></p>
      <table><thead><tr><td></td><th>${word("logit")} <var>z</var></th><th>log <var>p</var></th><th><var>p</var></th></tr></thead>
      <tbody>${rows.join("")}</tbody></table>`,
    );
  }

  // ---- backward -----------------------------------------------------------------------------

  /** How the gradient of an activation follows from the gradients of the layer after it. */
  function backwardSteps(place) {
    if (!state.slopes) {
      return [`<li><p class="note">Say which digit it was. Then there is a loss, and here stands the sum
        that makes this number's gradient.</p></li>`];
    }
    const after = sums.layerAfter(place.name);
    if (!after) {
      const right = place.c === state.label;
      return [item(true, "The loss", `<p class="figures">The loss is −log <var>p</var> of the right digit, ${state.label}, so
        ∂L/∂log <var>p</var> = <b>${derived("logits", right ? "−1" : "0")}</b> here.</p>`)];
    }
    switch (after.kind) {
      case "conv":
        return [productsStep("back", after, place, true)];
      case "linear":
        return [digitsStep(after, place)];
      case "norm":
        return [normBack(after, place)];
      case "pool":
        return [poolBack(after, place)];
      case "gap":
        return [factorStep(after, { ...place, name: "gap", i: 0, j: 0 }, place, [1 / 9, "1/9"], "gap",
          "Global average", "Each of the nine has the same share of the average.")];
      case "log_softmax":
        return [lossStep(place.c)];
      case "relu": {
        const open = sums.valueAt(state.outputs, place) > 0;
        return [factorStep(after, { ...place, name: after.name }, place, [open ? 1 : 0, open ? "1" : "0"], "reluBack",
          word("ReLU"), open ? "This is above 0, so all passes." : "This is not above 0, so nothing passes.")];
      }
      default:
        return [factorStep(after, { ...place, name: after.name }, place, [1, "1"], "reluBack", "Dropout",
          "Nothing is dropped, so all passes.")];
    }
  }

  /** What comes back, times one factor. */
  function factorStep(after, source, place, [factor, text], key, title, why) {
    const dy = sums.valueAt(state.slopes, source);
    const dx = sums.valueAt(state.slopes, place);
    return item(
      true,
      `${title}: ${after.name}`,
      `<p>${why}</p><p class="figures">${number(source, { values: state.slopes })} · ${text}
      ${relation(rounded(dy) * factor, dx)} <b>${derived(key, show(dx))}</b></p>`,
    );
  }

  function normBack(after, place) {
    const { gamma, std } = sums.statistics(state.weights, after.name, place.c);
    const source = { ...place, name: after.name };
    const [dy, dx] = [source, place].map((at) => sums.valueAt(state.slopes, at));
    return item(
      true,
      `${word("batch normalisation", "Normalisation")}: ${after.name}`,
      `<p>What comes back, times <var>γ</var> / <var>σ</var>: the running statistics are constants.</p>
      <p class="figures">${number(source, { values: state.slopes })} · ${bracketed(gamma)} / ${show(std)}
      ${relation((rounded(dy) * rounded(gamma)) / rounded(std), dx)} <b>${derived("normBack", show(dx))}</b></p>`,
    );
  }

  function poolBack(after, place) {
    const window = { name: after.name, c: place.c, i: place.i >> 1, j: place.j >> 1 };
    const { places, won } = sums.windowOf(state.outputs, after, place.c, window.i, window.j);
    const mine = places[won].i === place.i && places[won].j === place.j;
    const why = mine ? "It won its window, and gets all." : "Another won its window, so it gets nothing.";
    return factorStep(after, window, place, mine ? [1, "1"] : [0, "0"], "pool", word("max pooling", "Max pooling"), why)
      .replace("</p>", `</p>${windowCells(after, window)}`);
  }

  function lossStep(c) {
    const p = Math.exp(state.outputs.log_softmax[c]);
    const right = c === state.label;
    const sum = together(right ? [p, -1] : [p], p - (right ? 1 : 0), { free: 0 });
    return item(
      true,
      `${word("softmax", "Softmax")} and loss`,
      `<p>The probability that the network gave, minus the one that it should have given.</p>
      <p class="figures">${units(sum)}${sum.texts[0]} ${right ? plus(sum.texts[1]) : "− 0"} = <b>${derived("logits", sum.total)}</b></p>`,
    );
  }

  /** Ten digits push on each average: all ten products are written. */
  function digitsStep(layer, place) {
    const sum = sums.productsBack(state.weights, state.slopes, layer, place);
    const parts = sum.channels.map(({ part }) => part);
    const { texts, total, power } = together(parts, sum.total);
    const rows = sum.channels.map(
      ({ weights }, k) => `<tr${k === state.label ? ' class="chosen"' : ""}><th scope="row">${k}</th>
        <td>${number({ name: layer.name, c: k, i: 0, j: 0 }, { values: state.slopes, digits: 3 })}</td>
        <td>${show(weights[0], 3)}</td><td>${texts[k]}</td></tr>`,
    );
    return item(
      true,
      `Fully connected: ${layer.name}`,
      `<p>${units({ power })}</p><table class="adds"><thead><tr><td></td><th>comes back</th><th>weight</th><th>product</th></tr></thead>
      <tbody>${rows.join("")}</tbody>
      <tfoot><tr><th colspan="3" scope="row">sum</th><td><b>${derived("linear", total)}</b></td></tr></tfoot></table>`,
    );
  }

  // ---- sums of products, forward and backward -----------------------------------------------

  const LABELS = {
    forward: { values: "patch", weights: "kernel", one: "input channel", title: "Convolution" },
    back: { values: "what comes back", weights: "flipped kernel", one: "kernel", title: "Convolution" },
  };

  /** A sum over channels, with one channel written out; `showProducts` fills it in. */
  function productsStep(side, layer, place, marked) {
    const make = side === "forward" ? sums.productsForward : sums.productsBack;
    const values = side === "forward" ? state.outputs : state.slopes;
    const sum = make(state.weights, values, layer, place);
    const linear = layer.kind === "linear";
    written[side] = { sum, layer, place, linear };
    const count = sum.channels.length;
    const strips = Array.from(
      { length: count > 1 ? Math.ceil(count / STRIP) : 0 },
      (_, k) => `<canvas class="strip" data-side="${side}" data-first="${k * STRIP}" aria-hidden="true"></canvas>`,
    );
    const { values: first, weights, one, title } = LABELS[side];
    const names = layer.size > 1 ? `${first}, ${weights}` : `${side === "back" ? first : "input"}, weight`;
    const label = linear ? "average" : one;
    const field = `<p><label>${label} <input type="number" data-channel="${side}" min="0" max="${count - 1}" value="${which(side)}"></label>
      <span class="most"></span></p>`;
    return item(
      marked,
      `${linear ? "Fully connected" : title}${side === "back" ? `: ${layer.name}` : ""}`,
      `${strips.join("")}
      ${count > 1 ? `<p class="legend">For each ${label}: ${names}, product</p>${field}` : ""}
      <div class="products" data-side="${side}"></div>`,
    );
  }

  /** Which channel is written out. */
  function which(side) {
    const { channels } = written[side].sum;
    return Math.min(chosen[side] ?? sums.largestPart(channels), channels.length - 1);
  }

  /** Write one channel's products and the sum over all; the fields around stay as they are. */
  function showProducts(side) {
    const { sum, layer, place, linear } = written[side];
    const k = which(side);
    const { places, factors, weights, products, part } = sum.channels[k];
    const own = together(products, part);
    const many = layer.size > 1;
    const cells = (texts, more = "") =>
      `<div class="cells ${more}" style="--side: ${layer.size}">${texts.join("")}</div>`;
    const plain = (texts) => Array.from(texts, (text) => `<span>${text}</span>`);
    const come = scaled(factors);
    const sources = places.map((at, tap) =>
      at ? number(at, { text: come.texts[tap] }) : '<span class="padding" title="padding">0</span>',
    );
    const slopes =
      side === "forward" && state.gradients && scaled(sums.kernelOf(state.gradients, layer, place.c, k), 2);
    const names = LABELS[side];
    const grid = (title, content, { power }) =>
      `<div><p>${title}${power ? `, ${units({ power })}` : ""}</p>${content}</div>`;
    const first = side === "forward" && !many ? "input" : names.values;
    const kernel = scaled(weights, 2);
    const box = element.querySelector(`.products[data-side=${side}]`);
    box.innerHTML = `<div class="grids">
      ${grid(first, cells(sources), come)}
      ${grid(many ? names.weights : "weight", cells(plain(kernel.texts)), kernel)}
      ${many ? grid("products", cells(plain(own.texts), "adds"), own) : ""}
      ${slopes ? grid(derived("convKernel", many ? "kernel's gradient" : "its gradient"), cells(plain(slopes.texts)), slopes) : ""}
    </div>
    ${sumTable(side, sum, k, many ? own : null, linear, layer)}`;
    const most = box.closest("li").querySelector(".most");
    if (most) most.textContent = chosen[side] === null ? "(largest)" : "";
    for (const strip of element.querySelectorAll(`.strip[data-side=${side}]`)) paintStrip(strip, sum, layer, k);
  }

  /** The written addition: this channel, all others, the bias, and the result below a line. */
  function sumTable(side, { channels, bias, total }, k, own, linear, layer) {
    const { part } = channels[k];
    const others = channels.length - 1;
    const parts = [part, ...(others ? [total - part - (bias ?? 0)] : []), ...(bias === null ? [] : [bias])];
    const { texts, total: end, power } = together(parts, total, { free: others ? 1 : 0 });
    const one = linear ? "average" : LABELS[side].one;
    const names = [
      channels.length > 1 ? `${one} ${k}` : layer.size > 1 ? "the products" : "the product",
      ...(others ? [`the ${others} others`] : []),
      ...(bias === null ? [] : ["bias"]),
    ];
    const key = side === "back" ? "convInput" : linear ? "linear" : "conv";
    const rows = names.map((name, at) => `<tr><th scope="row">${name}</th><td>${texts[at]}</td></tr>`);
    const nine = own ? `<p class="figures">the nine products add up to <b class="total">${own.total}</b></p>` : "";
    return `${nine}<table class="adds addition">${power ? `<caption>${units({ power })}</caption>` : ""}<tbody>${rows.join("")}</tbody>
      <tfoot><tr><th scope="row">${side === "back" ? "gradient" : "sum"}</th><td><b>${derived(key, end)}</b></td></tr></tfoot></table>`;
  }

  // ---- pictures -----------------------------------------------------------------------------

  function paintField({ name, i, j }) {
    const canvas = element.querySelector(".field");
    const small = document.createElement("canvas");
    paint.paintInk(small, state.pixels);
    const [top, left, bottom, right] = receptiveField(name, i, j).map((at) => 5 * at);
    const box = [left, top, right - left + 5, bottom - top + 5];
    canvas.width = canvas.height = 140;
    const pencil = canvas.getContext("2d");
    pencil.fillStyle = paint.colour("--lit");
    pencil.fillRect(...box);
    pencil.imageSmoothingEnabled = false;
    pencil.drawImage(small, 0, 0, 140, 140);
    pencil.strokeStyle = paint.colour("--accent");
    pencil.lineWidth = 2;
    pencil.strokeRect(...box);
  }

  function paintMagnified({ name, output }, { c, i, j }) {
    const [, height, width] = output;
    const canvas = element.querySelector(".magnified");
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
    pencil.strokeStyle = paint.colour("--ink");
    pencil.strokeRect(j * cell, i * cell, cell, cell);
  }

  /** The factors and the products of up to sixteen channels, side by side. */
  function paintStrip(canvas, { channels }, layer, marked) {
    const first = Number(canvas.dataset.first);
    canvas.width = STRIP * CELL;
    canvas.height = 3 * CELL + 3;
    const rows = [({ factors }) => factors, ({ weights }) => [...weights], ({ part }) => [part]];
    const largest = rows.map((row) => Math.max(...channels.map((one) => paint.largestOf(row(one)))));
    const pencil = canvas.getContext("2d");
    channels.slice(first, first + STRIP).forEach((one, at) => {
      rows.forEach((row, r) => {
        const values = row(one);
        const side = Math.sqrt(values.length);
        const dot = (CELL - 3) / side;
        values.forEach((value, tap) => {
          pencil.fillStyle = paint.css(value, largest[r]);
          pencil.fillRect(at * CELL + (tap % side) * dot, r * CELL + Math.floor(tap / side) * dot, dot, dot);
        });
      });
      if (first + at !== marked) return;
      pencil.fillStyle = paint.colour("--accent");
      pencil.fillRect(at * CELL, 3 * CELL, CELL - 3, 3);
    });
  }

  return explain;
}
