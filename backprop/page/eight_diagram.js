// The drawing of the class network with its live numbers.

import { derived } from "./walkthrough.js";

const X = { i: 38, h: 168, o: 308, E: 424 };
const Y = { 1: 84, 2: 244 };
const NODE = { width: 72, height: 50 };

/** Which units an edge joins. */
export const EDGES = {
  ...{ w1: ["i1", "h1"], w2: ["i2", "h1"], w3: ["i1", "h2"], w4: ["i2", "h2"] },
  ...{ w5: ["h1", "o1"], w6: ["h2", "o1"], w7: ["h1", "o2"], w8: ["h2", "o2"] },
  ...{ E1: ["o1", "E1"], E2: ["o2", "E2"] },
};
// Where on an edge its weight is written, and how far below it: so that none hides another.
const PLACE = {
  ...{ w1: [0.5, -22], w2: [0.3, 0], w3: [0.3, 0], w4: [0.5, 24] },
  ...{ w5: [0.5, -22], w6: [0.3, 0], w7: [0.3, 0], w8: [0.5, 24] },
};

/**
 * The drawing as SVG. `values` holds what is given, units and errors by their symbols, `slopes`
 * the gradient by the weights' names; edges and units in `lit` are lit, `chosen` is a weight.
 */
export function diagram(values, slopes, lit, chosen) {
  const named = { values, slopes, lit, chosen };
  const edges = Object.keys(EDGES).map((name) => edge(name, named));
  const nodes = ["1", "2"].flatMap((n) => [
    node(`i${n}`, { [`i${n}`]: null }, named),
    node(`h${n}`, { [`h${n}`]: "hidden", [`a_h${n}`]: "sigmoid" }, named),
    node(`o${n}`, { [`o${n}`]: "output", [`a_o${n}`]: "sigmoid" }, named),
    node(`E${n}`, { [`t${n}`]: null, [`E${n}`]: "error" }, named),
  ]);
  const titles = Object.entries({ i: "inputs", h: "hidden", o: "outputs", E: "errors" });
  const total = `${symbol("E_total")} = ${short(values.E_total, 6)}`;
  return `<svg viewBox="0 0 464 318" role="group" aria-label="The network with its numbers">
    <g class="titles">${titles.map(([x, title]) => text(X[x], 16, title)).join("")}</g>
    ${edges.join("")}${nodes.join("")}
    <text class="total" x="${X.E + NODE.width / 2}" y="308">${derived("error", total)}</text>
  </svg>`;
}

const text = (x, y, content) => `<text x="${x}" y="${y}">${content}</text>`;
const at = (unit) => [X[unit[0]], Y[unit[1]]];

/** A line from unit to unit, and on it the weight with its gradient, if it has one. */
function edge(name, { values, slopes, lit, chosen }) {
  const [[x0, y0], [x1, y1]] = EDGES[name].map(at);
  const [dx, dy] = [x1 - x0, y1 - y0];
  const share = 32 / Math.hypot(dx, dy); // hidden by the units
  const kind = [lit.includes(name) && "lit", name === chosen && "chosen"].filter(Boolean).join(" ");
  const line = `<line class="edge ${kind}" x1="${x0 + share * dx}" y1="${y0 + share * dy}"
    x2="${x1 - share * dx}" y2="${y1 - share * dy}"/>`;
  if (!(name in PLACE)) return line;
  const [along, below] = PLACE[name];
  const [x, y] = [x0 + along * dx, y0 + along * dy + below];
  const slope = derived(name > "w4" ? "last" : "again", `∂ ${short(slopes[name])}`);
  return `${line}<g class="weight ${kind}" data-weight="${name}">
    <rect x="${x - 28}" y="${y - 17}" width="56" height="33" rx="5"/>
    ${text(x, y - 3, `${symbol(name)} ${short(values[name])}`)}
    <g class="slope">${text(x, y + 11, slope)}</g></g>`;
}

/** A unit with its numbers: by symbol, the line of the walkthrough that each leads to. */
function node(name, lines, { values, lit }) {
  const [x, y] = at(name);
  const { width, height } = NODE;
  const count = Object.keys(lines).length;
  const texts = Object.entries(lines).map(([of, key], k) => {
    const content = `${symbol(of)} ${short(values[of])}`;
    return text(x, y + (k - (count - 1) / 2) * 17 + 4, key ? derived(key, content) : content);
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
