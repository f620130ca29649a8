// The sums behind an activation and behind its gradient, as numbers. Nothing here depends on a page.
//
// A place is an activation { name, c, i, j }: layer, channel, row and column. `values` are a map
// for each layer by its name, as `forward` gives them (outputs) or `backward` (slopes).

import { EPS, LAYERS, poolWinners } from "./network.js";

const INDEX = Object.fromEntries(LAYERS.map(({ name }, k) => [name, k]));
const INPUT = { name: "input", kind: "input", output: [1, 28, 28] };

export const layerOf = (name) => LAYERS[INDEX[name]] ?? INPUT;
export const layerAfter = (name) => LAYERS[(INDEX[name] ?? -1) + 1] ?? null;
export const layerBefore = (name) => LAYERS[INDEX[name] - 1] ?? INPUT;

export function valueAt(values, { name, c, i, j }) {
  const [, height, width] = layerOf(name).output;
  return values[name][(c * height + i) * width + j];
}

/** The kernel (size × size) from input channel `from` to output channel `to`. */
export function kernelOf(weights, { name, input, size }, to, from) {
  const start = (to * input[0] + from) * size * size;
  return weights[`${name}.weight`].subarray(start, start + size * size);
}

/**
 * What the kernel lies on when it makes output (i, j) of a layer: for each tap a place in input
 * channel `from`, or null in the padding.
 */
export function patchOf(layer, from, i, j) {
  const { name } = layerBefore(layer.name);
  return Array.from({ length: layer.size ** 2 }, (_, tap) => {
    const row = i + Math.floor(tap / layer.size) - layer.padding;
    const column = j + (tap % layer.size) - layer.padding;
    return inside(layer.input, row, column) ? { name, c: from, i: row, j: column } : null;
  });
}

/**
 * What the flipped kernel lies on when it makes the gradient at input (i, j) of a layer: for each
 * tap a place in output channel `of`, or null outside of the map.
 */
export function patchBack(layer, of, i, j) {
  const reach = layer.size - 1 - layer.padding;
  return Array.from({ length: layer.size ** 2 }, (_, tap) => {
    const row = i + Math.floor(tap / layer.size) - reach;
    const column = j + (tap % layer.size) - reach;
    return inside(layer.output, row, column) ? { name: layer.name, c: of, i: row, j: column } : null;
  });
}

function inside([, height, width], row, column) {
  return row >= 0 && column >= 0 && row < height && column < width;
}

/**
 * The sum of products that makes output (c, i, j) of a convolution or of the fully connected
 * layer: for each input channel { places, factors, weights, part }, with bias and total.
 */
export function productsForward(weights, outputs, layer, { c, i, j }) {
  const channels = Array.from({ length: layer.input[0] }, (_, from) =>
    multiplied(patchOf(layer, from, i, j), outputs, kernelOf(weights, layer, c, from)),
  );
  const bias = weights[`${layer.name}.bias`][c];
  return { channels, bias, total: outputs[layer.name][index(layer.output, c, i, j)] };
}

/**
 * The sum of products that makes the gradient at input (c, i, j) of such a layer: for each of its
 * kernels, what comes back times the flipped kernel.
 */
export function productsBack(weights, slopes, layer, { name, c, i, j }) {
  const channels = Array.from({ length: layer.output[0] }, (_, of) =>
    multiplied(patchBack(layer, of, i, j), slopes, kernelOf(weights, layer, of, c).slice().reverse()),
  );
  return { channels, bias: null, total: slopes[name][index(layer.input, c, i, j)] };
}

function multiplied(places, values, weights) {
  const factors = places.map((place) => (place ? valueAt(values, place) : 0));
  const products = factors.map((factor, tap) => factor * weights[tap]);
  return { places, factors, weights, products, part: products.reduce((sum, x) => sum + x, 0) };
}

const index = ([, height, width], c, i, j) => (c * height + i) * width + j;

/** Which channel adds most to a sum, up or down. */
export function largestPart(channels) {
  return channels.reduce(
    (best, { part }, k) => (Math.abs(part) > Math.abs(channels[best].part) ? k : best),
    0,
  );
}

/** γ, β, μ and σ = √(var + ε) of a normalised channel. */
export function statistics(weights, name, c) {
  const [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"].map(
    (kind) => weights[`${name}.${kind}`][c],
  );
  return { gamma, beta, mean, std: Math.sqrt(variance + EPS) };
}

/** The 2×2 window of pooled output (c, i, j): four places, and which of them won. */
export function windowOf(outputs, layer, c, i, j) {
  const { name, output } = layerBefore(layer.name);
  const winner = poolWinners(outputs[name], layer)[index(layer.output, c, i, j)];
  const places = [0, 1, 2, 3].map((tap) => ({ name, c, i: 2 * i + (tap >> 1), j: 2 * j + (tap & 1) }));
  return { places, won: places.findIndex((p) => index(output, p.c, p.i, p.j) === winner) };
}

/** Every place of a channel. */
export function placesOf(name, c) {
  const [, height, width] = layerOf(name).output;
  return Array.from({ length: height * width }, (_, k) => ({ name, c, i: Math.floor(k / width), j: k % width }));
}
