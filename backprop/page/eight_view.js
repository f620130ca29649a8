// The second view: the class network with all its numbers, to be changed, derived and dragged.

import * as eight from "./eight.js";
import { EDGES, diagram } from "./eight_diagram.js";
import { drawCurves, drawSurface, moved, pointOn } from "./eight_plots.js";
import { derived, plus, show } from "./walkthrough.js";

const symbol = (name) => {
  const [letter, ...rest] = name.replace("a_", "").split("");
  const sub = `<sub>${rest.join("")}</sub>`;
  if (name === "E_total") return "<var>E</var><sub>total</sub>";
  return name.startsWith("a_")
    ? `<var>a</var><sub>${letter}${rest.join("")}</sub>`
    : `<var>${letter}</var>${sub}`;
};
const d = (top, bottom) => `∂${symbol(top)}/∂${symbol(bottom)}`;

/** The view in `element(id)`'s elements. */
export function makeEight(element) {
  let now = { ...eight.START };
  let rate = 0.5;
  let weight = "w5"; // whose chain is stepped through
  let shown = 0; // factors of it

  // ---- sliders ------------------------------------------------------------------------------

  const groups = {
    "learning rate": { eta: [0.1, 10] },
    inputs: { i1: [0, 1], i2: [0, 1] },
    targets: { t1: [0, 1], t2: [0, 1] },
    weights: Object.fromEntries(eight.WEIGHTS.map((name) => [name, [-3, 3]])),
  };
  const knobs = {};
  for (const [title, names] of Object.entries(groups)) {
    const set = document.createElement("fieldset");
    set.innerHTML = `<legend>${title}</legend>`;
    for (const [name, [low, high]] of Object.entries(names)) {
      const knob = document.createElement("label");
      knob.className = "knob";
      knob.innerHTML = `<span>${name === "eta" ? "<var>η</var>" : symbol(name)}</span>
        <input type="range" min="${low}" max="${high}" step="any" aria-label="${name}"><output></output>`;
      const [range, output] = [knob.querySelector("input"), knob.querySelector("output")];
      range.step = name === "eta" ? 0.1 : 0.01;
      range.addEventListener("input", () => {
        if (name === "eta") rate = Number(range.value);
        else now = { ...now, [name]: Number(range.value) };
        render();
      });
      knobs[name] = { range, output };
      set.append(knob);
    }
    element("knobs").append(set);
  }
  element("eight-step").addEventListener("click", () => learn(1));
  element("eight-ten").addEventListener("click", () => learn(10));
  element("eight-reset").addEventListener("click", () => {
    now = { ...eight.START };
    rate = 0.5;
    render();
  });

  function learn(steps) {
    const { E_total, ...after } = eight.trainEight(now, rate, steps).at(-1);
    now = after;
    render();
  }

  function showKnobs() {
    for (const [name, { range, output }] of Object.entries(knobs)) {
      const value = name === "eta" ? rate : now[name];
      if (document.activeElement !== range || Number(range.value) !== value) range.value = value;
      output.textContent = String(Number(value.toPrecision(4))).replace("-", "−");
    }
  }

  element("diagram").addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-weight]");
    if (chosen) choose(chosen.dataset.weight);
  });

  // ---- the chain rule -----------------------------------------------------------------------

  element("chain-weights").innerHTML = eight.WEIGHTS.map(
    (name) =>
      `<label><input type="radio" name="chain" value="${name}" aria-label="${name}"><span>${symbol(name)}</span></label>`,
  ).join("");
  element("chain-weights").addEventListener("change", (event) => choose(event.target.value));
  element("next-factor").addEventListener("click", () => {
    shown++;
    render();
  });
  element("first-factor").addEventListener("click", () => {
    shown = 0;
    render();
  });

  function choose(name) {
    weight = name;
    shown = 0;
    render();
  }

  /** The factors of a weight's gradient in order: what it is, its value, the edge or unit it is of. */
  function chain(units) {
    const [from, to] = EDGES[weight];
    const out = (n) => [
      {
        text: `${d("E" + n, "a_o" + n)} = ${symbol("a_o" + n)} − ${symbol("t" + n)}`,
        value: units[`a_o${n}`] - now[`t${n}`],
        of: [`E${n}`],
        key: "first",
      },
      {
        text: `${d("a_o" + n, "o" + n)} = ${symbol("a_o" + n)} (1 − ${symbol("a_o" + n)})`,
        value: eight.slope(units[`o${n}`]),
        of: [`o${n}`],
        key: "second",
      },
    ];
    const last = (unit, value) => ({
      text: `∂${symbol(to)}/∂${symbol(weight)} = ${symbol(unit)}`,
      value,
      of: [weight],
      key: "last",
    });
    if (to[0] === "o")
      return { roads: [out(to[1])], rest: [last(`a_${from}`, units[`a_${from}`])] };
    const roads = ["1", "2"].map((n) => {
      const road = Object.keys(EDGES).find((w) => EDGES[w][0] === to && EDGES[w][1] === `o${n}`);
      return [
        ...out(n),
        {
          text: `${d("o" + n, "a_" + to)} = ${symbol(road)}`,
          value: now[road],
          of: [road],
          key: "roads",
        },
      ];
    });
    const squash = {
      text: `${d("a_" + to, to)} = ${symbol("a_" + to)} (1 − ${symbol("a_" + to)})`,
      value: eight.slope(units[to]),
      of: [to],
      key: "again",
    };
    return { roads, rest: [squash, last(from, now[from])] };
  }

  function showChain(units, slopes) {
    const { roads, rest } = chain(units);
    const items = [];
    let product = 1;
    let sum = 0;
    const add = (factor, text) => items.push({ ...factor, text });
    roads.forEach((road, r) => {
      product = 1;
      road.forEach((factor, k) => {
        product *= factor.value;
        add(
          factor,
          line(factor, k > 0 ? `${symbolOfRoad(roads.length, r)} so far ${show(product)}` : ""),
        );
      });
      sum += product;
    });
    product = sum;
    if (roads.length > 1) {
      const parts = roads.map((road) => road.reduce((p, { value }) => p * value, 1));
      add(
        { of: roads.map((road) => road.at(-1).of[0]) },
        `<span>both roads added</span> <span>${show(parts[0])} ${plus(parts[1])} = <b>${derived("roads", show(sum))}</b></span>`,
      );
    }
    rest.forEach((factor) => {
      product *= factor.value;
      add(factor, line(factor, `product ${show(product)}`));
    });
    const after = now[weight] - rate * slopes[weight];
    add(
      { of: [weight] },
      `<span>∂${symbol("E_total")}/∂${symbol(weight)} = <b>${derived(weight > "w4" ? "last" : "again", show(slopes[weight], 6))}</b></span>
      <span>one step: ${show(now[weight])} − ${show(rate)} · ${slopes[weight] < 0 ? `(${show(slopes[weight])})` : show(slopes[weight])} = <b>${derived("update", show(after, 6))}</b></span>`,
    );
    shown = Math.min(shown, items.length);
    element("factors").innerHTML = items
      .slice(0, shown)
      .map(({ text }, k) => `<li${k === shown - 1 ? ' class="now"' : ""}>${text}</li>`)
      .join("");
    element("next-factor").disabled = shown === items.length;
    element("first-factor").disabled = shown === 0;
    for (const input of element("chain-weights").querySelectorAll("input"))
      input.checked = input.value === weight;
    return shown > 0 ? items[shown - 1].of : [];
  }

  const symbolOfRoad = (count, r) => (count > 1 ? `road ${r + 1}` : "product");
  const line = ({ text, value, key }, running) =>
    `<span>${text} = <b>${derived(key, show(value))}</b></span> <span class="running">${running}</span>`;

  // ---- the surface --------------------------------------------------------------------------

  const surface = element("surface");
  function move(w5, w7) {
    now = moved(now, w5, w7);
    render();
  }
  surface.addEventListener("pointerdown", (event) => {
    surface.setPointerCapture(event.pointerId);
    move(...pointOn(surface, event));
  });
  surface.addEventListener("pointermove", (event) => {
    if (surface.hasPointerCapture(event.pointerId)) move(...pointOn(surface, event));
  });
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  surface.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    move(now.w5 + 0.05 * step[0], now.w7 + 0.05 * step[1]);
  });

  // ---- all of it ------------------------------------------------------------------------------

  function render() {
    const units = eight.forwardEight(now);
    const slopes = eight.gradientsEight(now);
    showKnobs();
    const lit = showChain(units, slopes);
    element("diagram").innerHTML = diagram({ ...now, ...units }, slopes, lit, weight);

    const six = eight.RATES.map((r) => ({ rate: r, rows: eight.trainEight(now, r) }));
    const own = eight.RATES.includes(rate) ? [] : [{ rate, rows: eight.trainEight(now, rate) }];
    drawCurves(element("curves"), [...six, ...own]);
    drawSurface(surface, now, six);
    const [slow, fast] = [six[0], six[5]].map(({ rows }) => rows.at(-1).E_total);
    const start = show(units.E_total);
    element("curves").setAttribute("aria-label", `Six error curves, all from ${start}`);
    element("curves-text").innerHTML = `${symbol("E_total")} over a hundred steps from here, at six
      learning rates: it ends at ${derived("curves", show(slow))} with 0.1 and at
      ${derived("curves", show(fast))} with 2.`;
    const place = `w5 = ${show(now.w5)}, w7 = ${show(now.w7)}`;
    surface.setAttribute("aria-label", `The error over w5 and w7, from ${place}. Arrows move it.`);
    element("surface-text").innerHTML = `The ${derived("surface", "error surface")} over
      ${symbol("w5")} and ${symbol("w7")}, in stronger colours where the error is larger, with the
      six paths. Drag the ring: ${symbol("w6")} and ${symbol("w8")} go with it.`;
  }

  return { render };
}
