// Where in the walkthrough, backprop/README.md, each number is derived: the section, and the line.

const LINES = {
  // every layer
  conv: ["convolution", "Each output is a sum of products"],
  convKernel: ["convolution", "output, so its gradient is a sum over the map"],
  convInput: ["convolution", "So the backward pass of a convolution is a"],
  norm: ["batch-normalisation", "Every channel is centred and scaled"],
  normBack: ["batch-normalisation", "Itself."],
  relu: ["global-average-pooling-dropout-relu", "These three layers only multiply"],
  pool: ["max-pooling", "Only the largest of four values reaches"],
  linear: ["fully-connected", "is a sum of products, and a product"],
  softmax: ["log-softmax-and-negative-log-likelihood", "log-softmax makes them log-probabilities"],
  logits: ["log-softmax-and-negative-log-likelihood", "Differentiate the right-hand side"],
  back: ["from-eight-weights-to-17498", "That loop is backpropagation"],
  // eight weights
  hidden: ["1-forward-pass", "Each hidden unit adds up its inputs"],
  sigmoid: ["1-forward-pass", "The sigmoid squashes the sum"],
  output: ["1-forward-pass", "The output units do the same"],
  error: ["2-loss", "half its squared distance from the target"],
  first: ["3-chain-rule-output-layer", "The first factor is the"],
  second: ["3-chain-rule-output-layer", "The second factor is the"],
  last: ["3-chain-rule-output-layer", "The last factor is what the weight multiplies"],
  roads: ["4-chain-rule-hidden-layer", "A hidden unit feeds both outputs"],
  again: ["4-chain-rule-hidden-layer", "From there on all is as in the output layer"],
  update: ["5-update", "Every weight takes a step"],
  curves: ["six-learning-rates", "All six descend at every step"],
  surface: ["six-learning-rates", "The same on the error surface"],
};

/**
 * The walkthrough's address: GitHub shows a fork's where GitHub Pages shows its page; a notebook
 * says where it is; beside the page on disk it is the file itself.
 */
export function walkthrough() {
  const told = document.documentElement.dataset.walkthrough;
  const owner = location.hostname.match(/^(.+)\.github\.io$/)?.[1];
  const name = location.pathname.split("/")[1];
  if (told) return told;
  return owner ? `https://github.com/${owner}/${name}/blob/HEAD/backprop/README.md` : "README.md";
}

/** HTML that leads to the line of the walkthrough which derives it. */
export function derived(key, html) {
  const [section, line] = LINES[key];
  const address = `${walkthrough()}#${section}:~:text=${encodeURIComponent(line)}`;
  return `<a class="why" href="${address}" target="_blank" rel="noopener">${html}</a>`;
}

/** A number as a reader wants it: a true minus, four digits. */
export function show(x, digits = 4) {
  if (x === 0) return "0";
  const [size, places] = [Math.abs(x), digits - 1];
  const text = size < 1e-4 || size >= 1e5 ? x.toExponential(places - 1) : x.toPrecision(digits);
  return text
    .replace("e", " · 10^")
    .replace(/\^([+-]?\d+)/, (_, power) => `<sup>${Number(power)}</sup>`)
    .replaceAll("-", "−");
}

/** Signed, for a sum: "+ 1.5" or "− 1.5". */
export function plus(x) {
  return x < 0 ? `− ${show(-x)}` : `+ ${show(x)}`;
}
