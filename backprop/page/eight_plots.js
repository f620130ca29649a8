// Six error curves, and the error surface that one can drag on.

import { forwardEight } from "./eight.js";
import * as paint from "./paint.js";

const LOOKS = [
  { colour: "#c99700", dash: [] },
  { colour: "#6ba52d", dash: [7, 3] },
  { colour: "#1f9e89", dash: [] },
  { colour: "#2a88ae", dash: [7, 3] },
  { colour: "#5a5fc0", dash: [] },
  { colour: "#a04fa8", dash: [7, 3] },
];

const { colour } = paint;

/** A canvas as sharp as the screen, with a pencil for CSS pixels; null while it is not shown. */
function sheet(canvas, ratio) {
  const width = canvas.clientWidth;
  if (!width) return null;
  const height = Math.round(width * ratio);
  const sharp = devicePixelRatio || 1;
  canvas.width = width * sharp;
  canvas.height = height * sharp;
  const pencil = canvas.getContext("2d");
  pencil.scale(sharp, sharp);
  pencil.font = `12px ${getComputedStyle(canvas).fontFamily}`;
  return { pencil, width, height };
}

/** Numbers below and beside a box, [place, text] each, and a line across for those beside. */
function axes(pencil, box, across, up) {
  pencil.fillStyle = colour("--muted");
  pencil.strokeStyle = colour("--line");
  pencil.lineWidth = 1;
  pencil.textAlign = "center";
  for (const [x, text] of across) pencil.fillText(text, x, box.bottom + 16);
  pencil.textAlign = "right";
  for (const [y, text] of up) {
    pencil.beginPath();
    pencil.moveTo(box.left, y);
    pencil.lineTo(box.right, y);
    pencil.stroke();
    pencil.fillText(text, box.left - 5, y + 4);
  }
  pencil.textAlign = "center";
}

/** E_total against the step: `paths` are { rate, rows }, six of them and perhaps one's own. */
export function drawCurves(canvas, paths) {
  const drawn = sheet(canvas, 0.62);
  if (!drawn) return;
  const { pencil, width, height } = drawn;
  const box = { left: 40, right: width - 62, top: 12, bottom: height - 34 };
  const curves = paths.map(({ rate, rows }, k) => ({
    ...(LOOKS[k] ?? { colour: colour("--ink"), dash: [2, 3] }),
    errors: rows.map(({ E_total }) => E_total),
    label: `η = ${rate}`,
  }));
  const top = 1.05 * Math.max(1e-9, ...curves.flatMap(({ errors }) => errors));
  const x = (step) => box.left + (step / 100) * (box.right - box.left);
  const y = (error) => box.bottom - (error / top) * (box.bottom - box.top);
  const across = [0, 25, 50, 75, 100].map((step) => [x(step), step]);
  axes(
    pencil,
    box,
    across,
    ticks(top).map((error) => [y(error), Number(error.toPrecision(2))]),
  );
  pencil.fillText("step", (box.left + box.right) / 2, height - 4);

  pencil.lineWidth = 1.8;
  for (const { errors, colour: stroke, dash } of curves) {
    pencil.beginPath();
    errors.forEach((error, step) => pencil.lineTo(x(step), y(error)));
    pencil.strokeStyle = stroke;
    pencil.setLineDash(dash);
    pencil.stroke();
  }
  pencil.textAlign = "left";
  const ends = curves.map((curve) => ({ ...curve, end: y(curve.errors.at(-1)) }));
  ends.sort((a, b) => a.end - b.end);
  for (const [k, y] of spread(ends.map(({ end }) => end), box.top, box.bottom, 15).entries()) {
    pencil.fillStyle = ends[k].colour;
    pencil.fillText(ends[k].label, box.right + 6, y + 4);
  }
}

/** Places in order, moved so that they are `apart` and stay between `low` and `high`. */
export function spread(places, low, high, apart) {
  const moved = [];
  for (const place of places) moved.push(Math.max(place, (moved.at(-1) ?? low - apart) + apart));
  for (let k = moved.length - 1, limit = high; k >= 0; k--, limit = moved[k + 1] - apart) {
    moved[k] = Math.min(moved[k], limit);
  }
  return moved;
}

/** Round numbers from 0 to `top`, at most so many steps. */
export function ticks(top, most = 6) {
  const power = 10 ** Math.floor(Math.log10(top / most));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => top / size <= most);
  return Array.from({ length: Math.floor(top / step) + 1 }, (_, k) => k * step);
}

/** Where w5 and w7 are moved to, w6 and w8 with them, and the rest stays; none leaves the span. */
export function moved(given, w5, w7, [low, high]) {
  const within = (value) => Math.min(high, Math.max(low, value));
  const to = { w5: within(w5), w7: within(w7) };
  return { ...given, ...to, w6: within(given.w6 + to.w5 - given.w5), w8: within(given.w8 + to.w7 - given.w7) };
}

const surfaceBox = (width, height) => ({
  ...{ left: 40, right: width - 8, top: 8, bottom: height - 34 },
});

/** w5 and w7 below a pointer, and how many pixels it is away from the ring. */
export function pointOn(canvas, event, given, [low, high]) {
  const bounds = canvas.getBoundingClientRect();
  const box = surfaceBox(bounds.width, bounds.height);
  const [across, up] = [box.right - box.left, box.bottom - box.top];
  const share = [(event.clientX - bounds.left - box.left) / across, (box.bottom - event.clientY + bounds.top) / up];
  const [w5, w7] = share.map((part) => low + part * (high - low));
  const apart = Math.hypot((across * (w5 - given.w5)) / (high - low), (up * (w7 - given.w7)) / (high - low));
  return { w5, w7, apart };
}

/** E_total over w5 and w7 within a span, the six paths on it, and a ring where they start. */
export function drawSurface(canvas, given, paths, [low, high]) {
  const drawn = sheet(canvas, 0.72);
  if (!drawn) return;
  const { pencil, width, height } = drawn;
  const box = surfaceBox(width, height);
  const [across, up] = [box.right - box.left, box.bottom - box.top];
  const x = (w5) => box.left + ((w5 - low) / (high - low)) * across;
  const y = (w7) => box.bottom - ((w7 - low) / (high - low)) * up;

  pencil.drawImage(heights(given, 120, 87, [low, high]), box.left, box.top, across, up);
  const numbers = ticks(high, 4).flatMap((k) => (k ? [-k, k] : [0]));
  const written = (place) => numbers.map((k) => [place(k), String(Number(k.toPrecision(2))).replace("-", "−")]);
  axes(pencil, { ...box, right: box.left }, written(x), written(y));
  pencil.fillText("w₅, and w₆ with it", box.left + across / 2, height - 4);
  pencil.save();
  pencil.translate(11, box.top + up / 2);
  pencil.rotate(-Math.PI / 2);
  pencil.fillText("w₇, and w₈ with it", 0, 0);
  pencil.restore();

  pencil.save();
  pencil.beginPath();
  pencil.rect(box.left, box.top, across, up);
  pencil.clip();
  pencil.lineJoin = "round";
  for (let k = paths.length - 1; k >= 0; k--) {
    pencil.beginPath(); // they lie on each other: the longest is drawn first, and widest
    for (const { w5, w7 } of paths[k].rows) pencil.lineTo(x(w5), y(w7));
    pencil.strokeStyle = LOOKS[k].colour;
    pencil.lineWidth = 3 + 1.6 * k;
    pencil.stroke();
  }
  pencil.restore();
  pencil.beginPath();
  pencil.arc(x(given.w5), y(given.w7), 7, 0, 2 * Math.PI);
  pencil.fillStyle = colour("--surface");
  pencil.strokeStyle = colour("--ink");
  pencil.lineWidth = 2.5;
  pencil.fill();
  pencil.stroke();
}

/** The surface as a small picture in twelve shades. */
function heights(given, columns, rows, [low, high]) {
  const errors = Float64Array.from({ length: columns * rows }, (_, k) => {
    const [across, down] = [(k % columns) + 0.5, Math.floor(k / columns) + 0.5];
    const w5 = low + (across / columns) * (high - low);
    const w7 = high - (down / rows) * (high - low);
    const [w6, w8] = [given.w6 + w5 - given.w5, given.w8 + w7 - given.w7];
    return forwardEight({ ...given, w5, w6, w7, w8 }).E_total;
  });
  const largest = paint.largestOf(errors);
  const picture = document.createElement("canvas");
  const shades = errors.map((error) => Math.ceil((12 * error) / largest) / 12);
  paint.paintMap(picture, shades, rows, columns, 1.8); // no shade so dark as to hide the paths
  return picture;
}
