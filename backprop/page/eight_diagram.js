// The drawing of the class network with its live numbers.

import { derived } from "./walkthrough.js";

const NODE = { width: 72, height: 50 };
const LAYERS = { i: "inputs", h: "hidden", o: "outputs", E: "errors" };
// From left to right, or where there is little room from top to bottom.
const WIDE = {
  ...{ width: 464, height: 318, along: { i: 38, h: 168, o: 308, E: 424 }, across: { 1: 84, 2: 244 } },
  at: (along, across) => [along, across],
  title: (along) => [along, 16],
};
const TALL = {
  ...{ width: 340, height: 520, along: { i: 46, h: 186, o: 326, E: 446 }, across: { 1: 84, 2: 256 } },
  at: (along, across) => [across, along],
  title: (along) => [170, along - 30],
};

/** Which units an edge joins. */
export const EDGES = {
  ...{ w1: ["i1", "h1"], w2: ["i2", "h1"], w3: ["i1", "h2"], w4: ["i2", "h2"] },
  ...{ w5: ["h1", "o1"], w6: ["h2", "o1"], w7: ["h1", "o2"], w8: ["h2", "o2"] },
  ...{ E1: ["o1", "E1"], E2: ["o2", "E2"] },
};
// Where on an edge its weight is written, and how far beside it: so that none hides another.
const PLACE = {
  ...{ w1: [0.5, -22], w2: [0.3, 0], w3: [0.3, 0], w4: [0.5, 24] },
  ...{ w5: [0.5, -22], w6: [0.3, 0], w7: [0.3, 0], w8: [0.5, 24] },
};

/**
 * The drawing as SVG. `values` holds what is given, units and errors by their symbols, `slopes`
 * the gradient by the weights' names; edges and units in `lit` are lit, `chosen` is a weight.
 */
export function diagram(values, slopes, lit, chosen, narrow) {
  const plan = narrow ? TALL : WIDE;
  const named = { values, slopes, lit, chosen, plan };
  const edges = Object.keys(EDGES).map((name) => edge(name, named));
  const nodes = ["1", "2"].flatMap((n) => [
    node(`i${n}`, { [`i${n}`]: null }, named),
    node(`h${n}`, { [`h${n}`]: "hidden", [`a_h${n}`]: "sigmoid" }, named),
    node(`o${n}`, { [`o${n}`]: "output", [`a_o${n}`]: "sigmoid" }, named),
    node(`E${n}`, { [`t${n}`]: null, [`E${n}`]: "error" }, named),
  ]);
  const titles = Object.entries(LAYERS).map(([unit, title]) => text(...plan.title(plan.along[unit]), title));
  const total = `${symbol("E_total")} = ${short(values.E_total, 6)}`;
  return `<svg viewBox="0 0 ${plan.width} ${plan.height}" role="group" aria-label="The network with its numbers">
    <g class="titles">${titles.join("")}</g>
    ${edges.join("")}${nodes.join("")}
    <text class="total" x="${plan.width - 6}" y="${plan.height - 10}">${derived("error", total)}</text>
  </svg>`;
}

const text = (x, y, content) => `<text x="${x}" y="${y}">${content}</text>`;
const at = (unit, plan) => plan.at(plan.along[unit[0]], plan.across[unit[1]]);

/** A line from unit to unit, and on it the weight with its gradient, if it has one. */
function edge(name, { values, slopes, lit, chosen, plan }) {
  const [[x0, y0], [x1, y1]] = EDGES[name].map((unit) => at(unit, plan));
  const [dx, dy] = [x1 - x0, y1 - y0];
  const share = 32 / Math.hypot(dx, dy); // hidden by the units
  const kind = [lit.includes(name) && "lit", name === chosen && "chosen"].filter(Boolean).join(" ");
  const line = `<line class="edge ${kind}" x1="${x0 + share * dx}" y1="${y0 + share * dy}"
    x2="${x1 - share * dx}" y2="${y1 - share * dy}"/>`;
  if (!(name in PLACE)) return line;
  const [along, beside] = PLACE[name];
  const [right, below] = plan.at(0, beside);
  const [x, y] = [x0 + along * dx + right, y0 + along * dy + below];
  const slope = derived(name > "w4" ? "last" : "again", `∂ ${short(slopes[name])}`);
  return `${line}<g class="weight ${kind}" data-weight="${name}">
    <rect x="${x - 29}" y="${y - 17}" width="58" height="34" rx="5"/>
    ${text(x, y - 3, `${symbol(name)} ${short(values[name])}`)}
    <g class="slope">${text(x, y + 12, slope)}</g></g>`;
}

/** A unit with its numbers: by symbol, the line of the walkthrough that each opens. */
function node(name, lines, { values, lit, plan }) {
  const [x, y] = at(name, plan);
  const { width, height } = NODE;
  const count = Object.keys(lines).length;
  const texts = Object.entries(lines).map(([of, key], k) => {
    const content = `${symbol(of)} ${short(values[of])}`;
    return text(x, y + (k - (count - 1) / 2) * 18 + 4, key ? derived(key, content) : content);
  });
  return `<g class="node ${lit.includes(name) ? "lit" : ""}">
    <rect x="${x - width / 2}" y="${y - height / 2}" width="${width}" height="${height}" rx="25"/>
    ${texts.join("")}</g>`;
}

/** A symbol as SVG: an italic letter and its index. */
function symbol(name) {
  const [letter, index] = name.includes("_") ? name.split("_") : [name[0], name.slice(1)];
  return `<tspan class="symbol">${letter}</tspan><tspan class="sub" dy="3">${index}</tspan
    ><tspan dy="-3"> </tspan>`;
}

/** A number in as little room as it needs. */
function short(value, digits = 3) {
  const tiny = value !== 0 && Math.abs(value) < 1e-4;
  const number = tiny ? value.toExponential(0) : String(Number(value.toPrecision(digits)));
  return number.replace("0.", ".").replaceAll("-", "−");
}
