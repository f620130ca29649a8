// The mathematics of MNISTNet, forward and backward, for one image, in float64: what layers.py
// does in NumPy. Nothing here depends on a page.
//
// A feature map of C channels, H rows and W columns is a Float64Array, channel by channel, row by
// row. A layer is a pair of functions:
//
//     y = forward(x, layer, …)            what the layer does
//     { dx, … } = backward(dy, x, layer, …)   its derivative, by the chain rule
//
// where `layer` holds the shapes of x and y, and … are the layer's parameters. dy is ∂L/∂y. Batch
// normalisation uses its running statistics and dropout passes all, as PyTorch's eval() has it.

export const EPS = 1e-5; // keeps batch normalisation from dividing by zero; PyTorch's value

const conv = (channels, size, padding = 0) => ({ kind: "conv", channels, size, padding });
const [norm, relu, pool, dropout, gap] = ["norm", "relu", "pool", "dropout", "gap"].map((kind) => ({
  kind,
}));

/** Every layer in order, by its name in PyTorch, with the shapes [C, H, W] of input and output. */
export const LAYERS = withShapes([1, 28, 28], {
  "block1.conv1": conv(16, 3, 1), // 16 × 28 × 28
  "block1.norm1": norm,
  "block1.relu1": relu,
  "block1.conv2": conv(32, 3, 1), // 32 × 28 × 28
  "block1.norm2": norm,
  "block1.relu2": relu,
  "transition1.pool": pool, // 32 × 14 × 14
  "transition1.conv": conv(8, 1), // 8 × 14 × 14
  "transition1.norm": norm,
  "transition1.relu": relu,
  "block2.conv1": conv(16, 3, 1), // 16 × 14 × 14
  "block2.norm1": norm,
  "block2.relu1": relu,
  "block2.conv2": conv(32, 3, 1), // 32 × 14 × 14
  "block2.norm2": norm,
  "block2.relu2": relu,
  "transition2.pool": pool, // 32 × 7 × 7
  "transition2.conv": conv(8, 1), // 8 × 7 × 7
  "transition2.norm": norm,
  "transition2.relu": relu,
  "block3.conv1": conv(16, 3), // 16 × 5 × 5
  "block3.relu1": relu,
  "block3.dropout": dropout,
  "block3.conv2": conv(32, 3), // 32 × 3 × 3
  "block3.relu2": relu,
  gap, // 32 × 1 × 1
  dropout,
  fc: { kind: "linear", channels: 10 }, // 10
  log_softmax: { kind: "log_softmax" }, // 10
});

function withShapes(shape, layers) {
  let input = shape;
  return Object.entries(layers).map(([name, layer]) => {
    const [channels, height, width] = input;
    const { size = 1, padding = 0 } = layer;
    const side = (length) => {
      if (layer.kind === "pool") return length / 2;
      return layer.kind === "gap" ? 1 : length + 2 * padding - size + 1;
    };
    const output = [layer.channels ?? channels, side(height), side(width)];
    const whole = { name, ...layer, size, padding, input, output };
    input = output;
    return whole;
  });
}

// ---- convolution ------------------------------------------------------------------------------

/** y[o,i,j] = bias[o] + Σ_c Σ_a Σ_b  weight[o,c,a,b] · x[c,i+a−p,j+b−p] */
export function convForward(x, { input, output, size, padding }, weight, bias) {
  return correlate(x, input, weight, output, size, padding, bias);
}

/**
 * Every product weight · x passes its dy on to both factors:
 *
 *     dx[c,i,j]        = Σ_o Σ_a Σ_b  weight[o,c,a,b] · dy[o,i−a+p,j−b+p]
 *     dweight[o,c,a,b] = Σ_i Σ_j  dy[o,i,j] · x[c,i+a−p,j+b−p]
 *     dbias[o]         = Σ_i Σ_j  dy[o,i,j]
 *
 * The minus signs make dx a correlation with the flipped kernel.
 */
export function convBackward(dy, x, { input, output, size, padding }, weight) {
  const flipped = flip(weight, input[0], output[0], size * size);
  return {
    dx: correlate(dy, output, flipped, input, size, size - 1 - padding),
    dweight: patchesTimesSlopes(dy, output, x, input, size, padding),
    dbias: sumChannels(dy, output),
  };
}

/** Lay the kernels on every patch of the zero-padded maps: multiply, then sum. */
function correlate(x, input, weight, output, size, padding, bias) {
  const [kernels, rows, columns] = output;
  const { padded, plane, stride } = pad(x, input, padding);
  const y = new Float64Array(kernels * rows * columns);
  const add = size === 3 ? addNineTaps : addOneTap;
  for (let o = 0; o < kernels; o++) {
    const map = y.subarray(o * rows * columns, (o + 1) * rows * columns);
    if (bias) map.fill(bias[o]);
    for (let c = 0; c < input[0]; c++) {
      const kernel = (o * input[0] + c) * size * size;
      add(map, columns, padded, c * plane, stride, weight, kernel);
    }
  }
  return y;
}

/** Add one 3×3 kernel's products to a map. A step to the right reads only three new numbers. */
function addNineTaps(y, columns, x, start, stride, weight, k) {
  const w0 = weight[k];
  const w1 = weight[k + 1];
  const w2 = weight[k + 2];
  const w3 = weight[k + 3];
  const w4 = weight[k + 4];
  const w5 = weight[k + 5];
  const w6 = weight[k + 6];
  const w7 = weight[k + 7];
  const w8 = weight[k + 8];
  for (let to = 0; to < y.length; start += stride) {
    let top = start + 2;
    let middle = top + stride;
    let bottom = middle + stride;
    let a = x[top - 2];
    let b = x[top - 1];
    let d = x[middle - 2];
    let e = x[middle - 1];
    let g = x[bottom - 2];
    let h = x[bottom - 1];
    for (const end = to + columns; to < end; to++, top++, middle++, bottom++) {
      const c = x[top];
      const f = x[middle];
      const i = x[bottom];
      y[to] += w0 * a + w1 * b + w2 * c + w3 * d + w4 * e + w5 * f + w6 * g + w7 * h + w8 * i;
      a = b;
      b = c;
      d = e;
      e = f;
      g = h;
      h = i;
    }
  }
}

/** Add one 1×1 kernel's products to a map; such kernels need no padding. */
function addOneTap(y, columns, x, start, stride, weight, k) {
  for (let to = 0; to < y.length; to++) y[to] += weight[k] * x[start + to];
}

/** Kernels (O, C, area) read backwards, and as (C, O, area). */
function flip(weight, channels, kernels, area) {
  return weight.map((_, k) => {
    const c = Math.floor(k / (kernels * area));
    const o = Math.floor(k / area) % kernels;
    return weight[(o * channels + c) * area + area - 1 - (k % area)];
  });
}

/** dweight: for each tap of each kernel, the sum of dy times what the tap met. */
function patchesTimesSlopes(dy, [kernels, rows, columns], x, input, size, padding) {
  const { padded, plane, stride } = pad(x, input, padding);
  const dweight = new Float64Array(kernels * input[0] * size * size);
  for (let o = 0, tap = 0; o < kernels; o++) {
    for (let c = 0; c < input[0]; c++) {
      for (let a = 0; a < size; a++) {
        for (let b = 0; b < size; b++, tap++) {
          let sum = 0;
          for (let i = 0; i < rows; i++) {
            let at = c * plane + (i + a) * stride + b;
            const end = (o * rows + i + 1) * columns;
            for (let from = end - columns; from < end; from++) sum += dy[from] * padded[at++];
          }
          dweight[tap] = sum;
        }
      }
    }
  }
  return dweight;
}

/** The maps with a border of zeros, and how far apart its channels and its rows lie. */
function pad(x, [channels, height, width], padding) {
  const stride = width + 2 * padding;
  const plane = (height + 2 * padding) * stride;
  if (padding === 0) return { padded: x, plane, stride };
  const padded = new Float64Array(channels * plane);
  for (let c = 0; c < channels; c++) {
    for (let i = 0; i < height; i++) {
      const from = (c * height + i) * width;
      padded.set(x.subarray(from, from + width), c * plane + (i + padding) * stride + padding);
    }
  }
  return { padded, plane, stride };
}

/** Each channel's sum. */
function sumChannels(x, [channels]) {
  const area = x.length / channels;
  return Float64Array.from({ length: channels }, (_, c) => {
    let sum = 0;
    for (let k = c * area; k < (c + 1) * area; k++) sum += x[k];
    return sum;
  });
}

// ---- batch normalisation, with running statistics ---------------------------------------------

/** y = γ · x̂ + β, where x̂ = (x − μ) / √(var + ε), for every channel. */
export function normForward(x, { output }, gamma, beta, mean, variance) {
  const area = x.length / output[0];
  return x.map((value, k) => {
    const c = Math.floor(k / area);
    return ((value - mean[c]) * gamma[c]) / Math.sqrt(variance[c] + EPS) + beta[c];
  });
}

/** dx = dy · γ / √(var + ε), dγ = Σ dy · x̂ and dβ = Σ dy: the statistics are constants here. */
export function normBackward(dy, x, { output }, gamma, beta, mean, variance) {
  const area = x.length / output[0];
  const dx = new Float64Array(x.length);
  const dweight = new Float64Array(output[0]);
  for (let c = 0; c < output[0]; c++) {
    const std = Math.sqrt(variance[c] + EPS);
    for (let k = c * area; k < (c + 1) * area; k++) {
      dx[k] = (dy[k] * gamma[c]) / std;
      dweight[c] += (dy[k] * (x[k] - mean[c])) / std;
    }
  }
  return { dx, dweight, dbias: sumChannels(dy, output) };
}

// ---- ReLU, dropout, pooling -------------------------------------------------------------------

/** y = max(x, 0). */
export function reluForward(x) {
  return x.map((value) => (value > 0 ? value : 0));
}

/** dx = dy where x > 0, else 0. At x = 0 it is 0, as in PyTorch. */
export function reluBackward(dy, x) {
  return { dx: dy.map((slope, k) => (x[k] > 0 ? slope : 0)) };
}

/** Nothing is dropped, because the network evaluates. */
export function dropoutForward(x) {
  return x;
}

export function dropoutBackward(dy) {
  return { dx: dy };
}

/** For each 2×2 window, where its largest value lies; if several tie, the first, as in PyTorch. */
export function poolWinners(x, { input, output }) {
  const width = input[2];
  const [channels, rows, columns] = output;
  const winners = new Int32Array(channels * rows * columns);
  for (let k = 0; k < winners.length; k++) {
    const row = Math.floor(k / columns); // counted through all channels
    const corner = 2 * row * width + 2 * (k % columns);
    let best = corner;
    for (const at of [corner + 1, corner + width, corner + width + 1]) {
      if (x[at] > x[best]) best = at;
    }
    winners[k] = best;
  }
  return winners;
}

/** The largest value of every 2×2 window. */
export function poolForward(x, layer) {
  return Float64Array.from(poolWinners(x, layer), (at) => x[at]);
}

/** All of dy goes to the window's largest value. */
export function poolBackward(dy, x, layer) {
  const dx = new Float64Array(x.length);
  poolWinners(x, layer).forEach((at, k) => {
    dx[at] = dy[k];
  });
  return { dx };
}

/** The mean of every map. */
export function gapForward(x, { input }) {
  const area = input[1] * input[2];
  return sumChannels(x, input).map((sum) => sum / area);
}

/** Every pixel gets the same share. */
export function gapBackward(dy, x, { input }) {
  const area = input[1] * input[2];
  return { dx: x.map((_, k) => dy[Math.floor(k / area)] / area) };
}

// ---- the head ---------------------------------------------------------------------------------

/** y = weight · x + bias. */
export function linearForward(x, _, weight, bias) {
  return bias.map((offset, o) =>
    x.reduce((sum, value, c) => sum + weight[o * x.length + c] * value, offset),
  );
}

/** dx = weightᵀ · dy, dweight = dy · xᵀ, dbias = dy. */
export function linearBackward(dy, x, _, weight) {
  const dx = x.map((_, c) =>
    dy.reduce((sum, slope, o) => sum + slope * weight[o * x.length + c], 0),
  );
  const dweight = weight.map((_, k) => dy[Math.floor(k / x.length)] * x[k % x.length]);
  return { dx, dweight, dbias: dy.slice() };
}

/** log p_k = z_k − log Σ_j exp z_j. Subtracting the maximum from z first keeps exp finite. */
export function logSoftmaxForward(z) {
  const largest = Math.max(...z);
  const others = z.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  const log = Math.log(others);
  return z.map((value) => value - largest - log);
}

/** From the loss, −log p of the label, straight to the logits: ∂L/∂z_k = p_k − [k = label]. */
export function lossBackward(logProbs, label) {
  return logProbs.map((value, k) => Math.exp(value) - (k === label ? 1 : 0));
}

// ---- the whole network ------------------------------------------------------------------------

const FORWARD = {
  conv: convForward,
  norm: normForward,
  relu: reluForward,
  dropout: dropoutForward,
  pool: poolForward,
  gap: gapForward,
  linear: linearForward,
  log_softmax: logSoftmaxForward,
};
const BACKWARD = {
  conv: convBackward,
  norm: normBackward,
  relu: reluBackward,
  dropout: dropoutBackward,
  pool: poolBackward,
  gap: gapBackward,
  linear: linearBackward,
};
const KINDS = ["weight", "bias", "running_mean", "running_var"];

/** A layer's own parameters and statistics, in the order in which its functions take them. */
function operands(weights, name) {
  return KINDS.map((kind) => weights[`${name}.${kind}`]).filter(Boolean);
}

/** Bytes of ink, 0 the paper and 255 full, to what the network was trained on. */
export function normalise(pixels, mean, std) {
  return new Float64Array(pixels).map((ink) => (ink - 255 * mean) / (255 * std));
}

/** Every layer's output by its name, from "input", the normalised image, to "log_softmax". */
export function forward(weights, image) {
  const outputs = { input: image };
  let x = image;
  for (const layer of LAYERS) {
    x = FORWARD[layer.kind](x, layer, ...operands(weights, layer.name));
    outputs[layer.name] = x;
  }
  return outputs;
}

/**
 * The slope of the loss, −log p of the label: `gradients` by the parameters' names, and `slopes`
 * by the names of the outputs.
 */
export function backward(weights, outputs, label) {
  const gradients = {};
  const slopes = { fc: lossBackward(outputs.log_softmax, label) };
  for (let k = LAYERS.length - 2; k >= 0; k--) {
    const { name, kind } = LAYERS[k];
    const before = k > 0 ? LAYERS[k - 1].name : "input";
    const step = BACKWARD[kind](
      slopes[name],
      outputs[before],
      LAYERS[k],
      ...operands(weights, name),
    );
    slopes[before] = step.dx;
    if (step.dweight) {
      gradients[`${name}.weight`] = step.dweight;
      gradients[`${name}.bias`] = step.dbias;
    }
  }
  return { gradients, slopes };
}

/** New weights, one step against the gradient: w − lr · ∂L/∂w. The old ones stay as they are. */
export function descend(weights, gradients, lr) {
  const stepped = { ...weights };
  for (const [name, slope] of Object.entries(gradients)) {
    stepped[name] = weights[name].map((w, k) => w - lr * slope[k]);
  }
  return stepped;
}

/** The pixels [top, left, bottom, right], ends included, that reach row i, column j of a layer. */
export function receptiveField(name, i, j) {
  let [top, left, bottom, right] = [i, j, i, j];
  for (let k = LAYERS.findIndex((layer) => layer.name === name); k >= 0; k--) {
    const { kind, input, size, padding } = LAYERS[k];
    if (kind === "gap") [top, left, bottom, right] = [0, 0, input[1] - 1, input[2] - 1];
    else if (kind === "pool") {
      [top, left, bottom, right] = [2 * top, 2 * left, 2 * bottom + 1, 2 * right + 1];
    } else {
      top -= padding;
      left -= padding;
      bottom += size - 1 - padding;
      right += size - 1 - padding;
    }
  }
  return [top, left, bottom, right];
}
