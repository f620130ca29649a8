// From a drawing to an image like MNIST's: what photos.py does with the ink on clean paper.

const SIDE = 28;
const BOX = 20;
const LOBES = 3; // of the Lanczos filter

/**
 * What the network sees of a drawing: { pixels, scale, top, left }, or null for blank paper.
 *
 * `ink` is from 0 to 1, row by row. It is cropped, fitted into 20×20, and its centre of mass put
 * at the centre of 28×28 `pixels` from 0 to 255. A point (x, y) of the drawing ends up at
 * (left + x · scale, top + y · scale).
 */
export function see(ink, width) {
  const crop = cropInk(ink, width);
  if (!crop) return null;
  const small = fitBox(crop);
  const pixels = new Uint8ClampedArray(SIDE * SIDE);
  const [top, left] = centreOfMass(small).map((mass, axis) => {
    const room = SIDE - (axis === 0 ? small.height : small.width);
    return Math.min(Math.max(roundHalfToEven(SIDE / 2 - mass), 0), room);
  });
  for (let i = 0; i < small.height; i++) {
    const row = small.values.subarray(i * small.width, (i + 1) * small.width);
    pixels.set(row, (top + i) * SIDE + left);
  }
  const scale = BOX / Math.max(crop.width, crop.height);
  return { pixels, scale, top: top - crop.top * scale, left: left - crop.left * scale };
}

/** The rectangle that holds all ink above a tenth. */
function cropInk(ink, width) {
  let [top, left, bottom, right] = [Infinity, Infinity, -1, -1];
  for (let k = 0; k < ink.length; k++) {
    if (ink[k] <= 0.1) continue;
    const [row, column] = [Math.floor(k / width), k % width];
    top = Math.min(top, row);
    bottom = row;
    left = Math.min(left, column);
    right = Math.max(right, column);
  }
  if (bottom < 0) return null;
  const size = { width: right - left + 1, height: bottom - top + 1 };
  const values = new Float32Array(size.width * size.height);
  for (let i = 0; i < size.height; i++) {
    const from = (top + i) * width + left;
    values.set(ink.subarray(from, from + size.width), i * size.width);
  }
  return { values, top, left, ...size };
}

/** Scale to 20 pixels along the longer side; whole numbers, the darkest ink at 255. */
function fitBox({ values, width, height }) {
  const scale = BOX / Math.max(width, height);
  const [columns, rows] = [width, height].map((side) => Math.max(1, roundHalfToEven(side * scale)));
  const narrow = resizeRows(values, width, columns);
  const upright = transpose(resizeRows(transpose(narrow, columns), height, rows), rows);
  const small = upright.map((value) => Math.max(0, value));
  const factor = Math.fround(255 / Math.max(...small));
  const whole = small.map((value) => roundHalfToEven(Math.fround(value * factor)));
  return { values: whole, width: columns, height: rows };
}

/** Resize each row of `width` to `size` by Pillow's Lanczos filter, in float32 as Pillow does. */
function resizeRows(values, width, size) {
  const scale = width / size;
  const stretch = Math.max(1, scale); // the filter covers more pixels when it makes smaller
  const height = values.length / width;
  const resized = new Float32Array(height * size);
  for (let j = 0; j < size; j++) {
    const centre = (j + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - LOBES * stretch + 0.5));
    const last = Math.min(width, Math.trunc(centre + LOBES * stretch + 0.5));
    const taps = [];
    for (let k = first; k < last; k++) taps.push(lanczos((k - centre + 0.5) / stretch));
    const sum = taps.reduce((total, tap) => total + tap, 0);
    for (let i = 0; i < height; i++) {
      let value = 0;
      for (let k = first; k < last; k++) value += (values[i * width + k] * taps[k - first]) / sum;
      resized[i * size + j] = value;
    }
  }
  return resized;
}

function lanczos(x) {
  if (Math.abs(x) >= LOBES) return 0;
  const sinc = (t) => (t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t));
  return sinc(x) * sinc(x / LOBES);
}

function transpose(values, width) {
  const height = values.length / width;
  return values.map((_, k) => values[(k % height) * width + Math.floor(k / height)]);
}

function centreOfMass({ values, width }) {
  let [sum, rows, columns] = [0, 0, 0];
  values.forEach((value, k) => {
    sum += value;
    rows += value * Math.floor(k / width);
    columns += value * (k % width);
  });
  return [rows / sum, columns / sum];
}

/** Python's round, and NumPy's: halves go to the even neighbour. */
function roundHalfToEven(x) {
  const down = Math.floor(x);
  if (x - down !== 0.5) return Math.round(x);
  return down % 2 === 0 ? down : down + 1;
}
