// The walkthrough's Markdown and TeX as HTML and MathML: as much of them as its lines use.

const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Markdown as HTML: paragraphs, lists, tables, $$formulas$$; `inline` leaves the paragraph out. */
export function toHTML(markdown, inline = false) {
  if (inline) return inlineHTML(markdown);
  return markdown.split(/\n{2,}/).map(block).join("");
}

function block(text) {
  const formula = text.match(/^\$\$([^]*)\$\$$/);
  if (formula) return `<div class="formula">${toMathML(formula[1], true)}</div>`;
  if (text.startsWith("|")) return table(text);
  const marker = text.match(/^(-|\d+\.) /);
  if (!marker) return `<p>${inlineHTML(text)}</p>`;
  const items = text.split(/\n(?=(?:-|\d+\.) )/).map((item) => item.replace(/^(-|\d+\.) /, ""));
  const list = marker[1] === "-" ? "ul" : "ol";
  return `<${list}>${items.map((item) => `<li>${inlineHTML(item)}</li>`).join("")}</${list}>`;
}

function table(text) {
  const rows = text.split("\n").filter((row) => !/^\|[\s:|-]+\|$/.test(row));
  const cells = rows.map((row) => row.slice(1, -1).split("|").map((cell) => inlineHTML(cell.trim())));
  const line = (tag, all) => `<tr>${all.map((cell) => `<${tag}>${cell}</${tag}>`).join("")}</tr>`;
  return `<table>${line("th", cells[0])}${cells.slice(1).map((row) => line("td", row)).join("")}</table>`;
}

function inlineHTML(text) {
  return text
    .split(/(\$[^$]+\$|`[^`]+`)/)
    .map((part) => {
      if (/^\$.+\$$/s.test(part)) return toMathML(part.slice(1, -1));
      if (/^`.+`$/s.test(part)) return `<code>${escaped(part.slice(1, -1))}</code>`;
      return escaped(part)
        .replace(/!?\[([^\]]*)\]\([^)]*\)/g, "$1")
        .replace(/\*\*([^*]+)\*\*/g, "<b>$1</b>")
        .replace(/\*([^*]+)\*/g, "<i>$1</i>");
    })
    .join("");
}

// ---- TeX ------------------------------------------------------------------------------------------

const SIGNS = {
  ...{ partial: "∂", cdot: "·", times: "×", sum: "∑", le: "≤", ge: "≥", approx: "≈", to: "→", star: "⋆" },
  ...{ ldots: "…", dots: "…", pm: "±", infty: "∞", quad: "\u2003", qquad: "\u2003\u2003", ",": "\u2009" },
};
const LETTERS = {
  ...{ alpha: "α", beta: "β", gamma: "γ", delta: "δ", varepsilon: "ε", epsilon: "ε", eta: "η" },
  ...{ theta: "θ", lambda: "λ", mu: "μ", pi: "π", sigma: "σ", Delta: "Δ", Sigma: "Σ", ell: "ℓ" },
};
const NAMES = ["log", "exp", "max", "min", "ln"];

/** TeX as MathML; what is not known stays as it is written. */
export function toMathML(tex, display = false) {
  const tokens = tex.match(/\\[a-zA-Z]+|\\.|\d+(?:[.,]\d+)*|\S/g) ?? [];
  let at = 0;

  function row(end) {
    const parts = [];
    while (at < tokens.length && tokens[at] !== end) parts.push(scripted());
    at++;
    return `<mrow>${parts.join("")}</mrow>`;
  }

  /** One thing with its indices and exponents. */
  function scripted() {
    const base = one();
    let [sub, sup] = ["", ""];
    while (tokens[at] === "_" || tokens[at] === "^") {
      if (tokens[at++] === "_") sub = one();
      else sup = one();
    }
    if (sub && sup) return `<msubsup>${base}${sub}${sup}</msubsup>`;
    if (sub) return `<msub>${base}${sub}</msub>`;
    return sup ? `<msup>${base}${sup}</msup>` : base;
  }

  function one() {
    const token = tokens[at++] ?? "";
    if (token === "{") return row("}");
    if (/^\d/.test(token)) return `<mn>${token}</mn>`;
    if (/^[a-zA-Z]$/.test(token)) return `<mi>${token}</mi>`;
    if (!token.startsWith("\\")) return `<mo>${escaped(token.replace("-", "−"))}</mo>`;
    const name = token.slice(1);
    if (/^[td]?frac$/.test(name)) return `<mfrac>${one()}${one()}</mfrac>`;
    if (name === "sqrt") return `<msqrt>${one()}</msqrt>`;
    if (name === "hat") return `<mover>${one()}<mo>^</mo></mover>`;
    if (name === "left" || name === "right") return one();
    if (name === "mathrm" || name === "text") return `<mi mathvariant="normal">${word()}</mi>`;
    if (NAMES.includes(name)) return `<mi>${name}</mi>`;
    if (name in LETTERS) return `<mi>${LETTERS[name]}</mi>`;
    return `<mo>${escaped(SIGNS[name] ?? token)}</mo>`;
  }

  /** The letters between braces. */
  function word() {
    const from = ++at;
    while (at < tokens.length && tokens[at] !== "}") at++;
    return escaped(tokens.slice(from, at++).join(""));
  }

  return `<math${display ? ' display="block"' : ""}>${row()}</math>`;
}
