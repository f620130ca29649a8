// The ink of strokes, computed from their points. The canvas is only painted on and never read
// back: some browsers give a page noise in place of its own pixels.

export const PEN = 34; // of the pad's 400 pixels: in the 20×20 box no thinner than MNIST's strokes

/** Bytes (side × side) of ink, 0 the paper and 255 full, for strokes of points [x, y]. */
export function inkOf(strokes, side) {
  const ink = new Uint8ClampedArray(side * side);
  for (const stroke of strokes) {
    stroke.forEach((point, k) => addLine(ink, side, stroke[Math.max(0, k - 1)], point));
  }
  return ink;
}

/**
 * Add the ink of a line with round ends, a pen's width wide. A pixel that the pen's edge cuts has
 * a share of the ink, by the distance from its centre to the edge.
 */
export function addLine(ink, side, [x0, y0], [x1, y1]) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const length = dx * dx + dy * dy || 1; // a dot has no length
  const reach = PEN / 2 + 0.5;
  const within = (v) => Math.min(side, Math.max(0, v));
  const [left, right] = [within(Math.floor(Math.min(x0, x1) - reach)), within(Math.ceil(Math.max(x0, x1) + reach))];
  const [top, bottom] = [within(Math.floor(Math.min(y0, y1) - reach)), within(Math.ceil(Math.max(y0, y1) + reach))];
  for (let i = top; i < bottom; i++) {
    for (let j = left; j < right; j++) {
      const [x, y] = [j + 0.5 - x0, i + 0.5 - y0];
      const along = Math.min(1, Math.max(0, (x * dx + y * dy) / length));
      const share = reach - Math.hypot(x - along * dx, y - along * dy);
      const value = 255 * Math.min(1, share);
      if (value > ink[i * side + j]) ink[i * side + j] = value;
    }
  }
}

/** A test digit's 28×28 bytes with the ink added where it was drawn: nothing is moved. */
export function inkOver(pixels, ink, side) {
  const cell = side / 28;
  const sums = new Float64Array(28 * 28);
  ink.forEach((value, k) => {
    if (value === 0) return;
    const [row, column] = [Math.floor(k / side), k % side];
    sums[Math.floor(row / cell) * 28 + Math.floor(column / cell)] += value;
  });
  return pixels.map((value, k) => Math.max(value, Math.min(255, sums[k] / cell ** 2)));
}
