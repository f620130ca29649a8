// The second view: the class network with all its numbers, to be changed, derived and dragged.

import { makeChart } from "./chart.js";
import * as eight from "./eight.js";
import { EDGES, diagram } from "./eight_diagram.js";
import { drawCurves, drawSurface, moved, pointOn } from "./eight_plots.js";
import { bracketed, plus, relation, rounded, show, together } from "./numbers.js";
import { derived } from "./walkthrough.js";

const RATE = 0.5;
const SPAN = 3; // of sliders and surface, from −3 to 3, until a weight needs more
const NEAR = 40; // pixels from the ring: there a finger drags it, elsewhere it scrolls the page

const symbol = (name) => {
  const [letter, ...rest] = name.replace("a_", "").split("");
  const sub = `<sub>${rest.join("")}</sub>`;
  if (name === "E_total") return "<var>E</var><sub>total</sub>";
  return name.startsWith("a_")
    ? `<var>a</var><sub>${letter}${rest.join("")}</sub>`
    : `<var>${letter}</var>${sub}`;
};
const d = (top, bottom) => `∂${symbol(top)}/∂${symbol(bottom)}`;

/** The view in `element(id)`'s elements; `changed` is called after each change. */
export function makeEight(element, changed) {
  let now = { ...eight.START };
  let rate = RATE;
  let span = SPAN;
  let steps = 0; // since a number was last set
  let errors = []; // [step, error], null where a number was set in between
  let past = []; // what Undo leads back to
  let weight = "w5"; // whose chain is stepped through
  let shown = 0; // factors of it
  const drawErrors = makeChart(element("eight-losses"));

  function keep() {
    past = [...past, { now, rate, span, steps, errors }].slice(-50);
  }

  function undo() {
    if (past.length === 0) return;
    ({ now, rate, span, steps, errors } = past.pop());
    render();
    changed();
  }

  /** Numbers that were set, and not learned. */
  function set(next) {
    if (steps > 0) errors = [...errors, null];
    [now, steps] = [next, 0];
    render();
    changed();
  }

  // ---- sliders ------------------------------------------------------------------------------

  const groups = {
    "learning rate": { eta: [0.1, 10] },
    inputs: { i1: [0, 1], i2: [0, 1] },
    targets: { t1: [0, 1], t2: [0, 1] },
    weights: Object.fromEntries(eight.WEIGHTS.map((name) => [name, [-SPAN, SPAN]])),
  };
  const limits = Object.assign({}, ...Object.values(groups));
  const knobs = {};
  let turning = null; // the slider that is being moved: one Undo takes all of its way back
  for (const [title, names] of Object.entries(groups)) {
    const fieldset = document.createElement("fieldset");
    fieldset.innerHTML = `<legend>${title}</legend>`;
    for (const [name, [low, high]] of Object.entries(names)) {
      const knob = document.createElement("label");
      knob.className = "knob";
      knob.innerHTML = `<span>${name === "eta" ? "<var>η</var>" : symbol(name)}</span>
        <input type="range" min="${low}" max="${high}" step="${name === "eta" ? 0.1 : 0.01}" aria-label="${name}"><output></output>`;
      const [range, output] = [knob.querySelector("input"), knob.querySelector("output")];
      range.addEventListener("input", () => {
        if (turning !== range) keep();
        turning = range;
        if (name === "eta") {
          rate = Number(range.value);
          render();
          changed();
        } else set({ ...now, [name]: Number(range.value) });
      });
      range.addEventListener("change", () => (turning = null));
      knobs[name] = { range, output };
      fieldset.append(knob);
    }
    element("knobs").append(fieldset);
  }
  element("eight-step").addEventListener("click", () => learn(1));
  element("eight-ten").addEventListener("click", () => learn(10));
  element("eight-undo").addEventListener("click", undo);
  element("eight-reset").addEventListener("click", () => {
    keep();
    span = SPAN;
    errors = [];
    set({ ...eight.START });
  });

  function learn(times) {
    keep();
    const rows = eight.trainEight(now, rate, times);
    const first = steps > 0 ? [] : [...(errors.length ? [null] : []), [0, rows[0].E_total]];
    errors = [...errors, ...first, ...rows.slice(1).map(({ E_total }, k) => [steps + k + 1, E_total])].slice(-1000);
    const { E_total, ...after } = rows.at(-1);
    now = after;
    steps += times;
    render();
    changed();
  }

  function showKnobs() {
    span = Math.max(span, ...eight.WEIGHTS.map((name) => Math.ceil(Math.abs(now[name]))));
    for (const [name, { range, output }] of Object.entries(knobs)) {
      const value = name === "eta" ? rate : now[name];
      if (eight.WEIGHTS.includes(name)) [range.min, range.max] = [-span, span];
      if (turning !== range) range.value = value;
      output.textContent = String(Number(value.toPrecision(4))).replace("-", "−");
      range.setAttribute("aria-valuetext", output.textContent);
    }
    element("eight-away").textContent =
      steps > 0 ? `${steps} ${steps === 1 ? "step" : "steps"} taken.` : "No step taken yet.";
    element("eight-undo").disabled = past.length === 0;
  }

  element("diagram").addEventListener("click", (event) => {
    const chosen = event.target.closest("[data-weight]");
    if (chosen && !event.target.closest(".why")) choose(chosen.dataset.weight);
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
    element("factors").lastElementChild?.scrollIntoView({ block: "nearest" });
    changed();
  });
  element("first-factor").addEventListener("click", () => choose(weight));

  function choose(name) {
    weight = name;
    shown = 0;
    render();
    changed();
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
      return { paths: [out(to[1])], rest: [last(`a_${from}`, units[`a_${from}`])] };
    const paths = ["1", "2"].map((n) => {
      const edge = Object.keys(EDGES).find((w) => EDGES[w][0] === to && EDGES[w][1] === `o${n}`);
      return [
        ...out(n),
        {
          text: `${d("o" + n, "a_" + to)} = ${symbol(edge)}`,
          value: now[edge],
          of: [edge],
          key: "paths",
        },
      ];
    });
    const squash = {
      text: `${d("a_" + to, to)} = ${symbol("a_" + to)} (1 − ${symbol("a_" + to)})`,
      value: eight.slope(units[to]),
      of: [to],
      key: "again",
    };
    return { paths, rest: [squash, last(from, now[from])] };
  }

  const line = ({ text, value, key }, running) =>
    `<span>${text} = <b>${derived(key, show(value))}</b></span> <span class="running">${running}</span>`;

  /** Every factor in order, as { of, text }; products run along. */
  function factors(units, slopes) {
    const { paths, rest } = chain(units);
    const products = paths.map((path) => path.reduce((product, { value }) => product * value, 1));
    const total = products.reduce((sum, product) => sum + product, 0);
    const added = together(products, total);
    const items = paths.flatMap((path, p) => {
      let product = 1;
      return path.map((factor, k) => {
        product *= factor.value;
        const exact = k === path.length - 1 && paths.length > 1 && added.power === 0;
        const whose = paths.length > 1 ? `path ${p + 1} so far` : "product";
        return { of: factor.of, text: line(factor, k > 0 ? `${whose} ${exact ? added.texts[p] : show(product)}` : "") };
      });
    });
    if (paths.length > 1) {
      const scale = added.power ? ` · 10<sup>${String(added.power).replace("-", "−")}</sup>` : "";
      const sum = `${added.texts[0]} ${plus(added.texts[1])}`;
      items.push({
        of: paths.map((path) => path.at(-1).of[0]),
        text: `<span>both paths added</span> <span>${scale ? `(${sum})${scale}` : sum} = <b>${derived("paths", added.total + scale)}</b></span>`,
      });
    }
    let product = total;
    for (const factor of rest) {
      product *= factor.value;
      items.push({ of: factor.of, text: line(factor, `product ${show(product)}`) });
    }
    items.push({ of: [weight], text: stepText(slopes[weight]) });
    return items;
  }

  function stepText(slope) {
    const after = now[weight] - rate * slope;
    const written = rounded(now[weight]) - rounded(rate) * rounded(slope);
    return `<span>${d("E_total", weight)} = <b>${derived(weight > "w4" ? "last" : "again", show(slope, 6))}</b></span>
      <span>one step: ${show(now[weight])} − ${show(rate)} · ${bracketed(slope)}
      ${relation(written, after, 6)} <b>${derived("update", show(after, 6))}</b></span>`;
  }

  function showChain(units, slopes) {
    const items = factors(units, slopes);
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

  // ---- the surface --------------------------------------------------------------------------

  const surface = element("surface");
  let dragging = null; // the pointer that has the ring
  let tapped = null; // where a finger came down, which may scroll the page
  const pointed = (event) => pointOn(surface, event, now, [-span, span]);
  const move = ({ w5, w7 }) => set(moved(now, w5, w7, [-span, span]));
  surface.addEventListener("touchstart", (event) => {
    if (pointed(event.touches[0]).apart < NEAR) event.preventDefault(); // drag, and do not scroll
  }, { passive: false });
  surface.addEventListener("pointerdown", (event) => {
    const at = pointed(event);
    tapped = event.pointerType === "touch" && at.apart >= NEAR ? event : null;
    if (tapped) return;
    dragging = event.pointerId;
    surface.setPointerCapture(dragging);
    keep();
    move(at);
  });
  surface.addEventListener("pointermove", (event) => {
    if (event.pointerId === dragging) move(pointed(event));
  });
  surface.addEventListener("lostpointercapture", () => (dragging = null));
  surface.addEventListener("pointerup", (event) => {
    if (!tapped || Math.hypot(event.clientX - tapped.clientX, event.clientY - tapped.clientY) > 8) return;
    keep(); // a tap away from the ring brings it there
    move(pointed(event));
  });
  surface.addEventListener("pointercancel", () => (tapped = null));
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  surface.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step) return;
    event.preventDefault();
    keep();
    move({ w5: now.w5 + 0.05 * step[0], w7: now.w7 + 0.05 * step[1] });
  });

  // ---- all of it ------------------------------------------------------------------------------

  function render() {
    const units = eight.forwardEight(now);
    const slopes = eight.gradientsEight(now);
    showKnobs();
    drawErrors(errors);
    const lit = showChain(units, slopes);
    const narrow = element("diagram").clientWidth < 420;
    element("diagram").innerHTML = diagram({ ...now, ...units }, slopes, lit, weight, narrow);

    const six = eight.RATES.map((r) => ({ rate: r, rows: eight.trainEight(now, r) }));
    const own = eight.RATES.includes(rate) ? [] : [{ rate, rows: eight.trainEight(now, rate) }];
    drawCurves(element("curves"), [...six, ...own]);
    drawSurface(surface, now, six, [-span, span]);
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

  // ---- the address ----------------------------------------------------------------------------

  /** The numbers that are not as the page opens, by their names, for its address. */
  function whatIsShown() {
    const own = Object.entries(now).filter(([name, value]) => value !== eight.START[name]);
    return {
      ...Object.fromEntries(own),
      eta: rate === RATE ? undefined : rate,
      chain: weight === "w5" ? undefined : weight,
      factor: shown || undefined,
    };
  }

  function reopen(view) {
    const number = (name, otherwise, [low, high]) => {
      const value = Number(view[name] || NaN);
      return value >= low && value <= high ? value : otherwise;
    };
    const far = (name) => (eight.WEIGHTS.includes(name) ? [-1000, 1000] : limits[name]);
    const before = JSON.stringify([now, rate]);
    now = Object.fromEntries(
      Object.entries(eight.START).map(([name, value]) => [name, number(name, value, far(name))]),
    );
    rate = number("eta", RATE, limits.eta);
    weight = eight.WEIGHTS.includes(view.chain) ? view.chain : "w5";
    shown = Math.floor(number("factor", 0, [0, 20]));
    if (JSON.stringify([now, rate]) !== before) [span, steps, errors, past] = [SPAN, 0, [], []];
  }

  return { render, undo, whatIsShown, reopen };
}
