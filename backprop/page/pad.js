// The drawing pad: mouse, pen, finger and keys; what is on it, and what the network sees of it.

import { PEN, addLine, inkOf, inkOver } from "./ink.js";
import { colour, onTheme, paintInk } from "./paint.js";
import { see } from "./see.js";

const BLANK = { digit: null, strokes: [], intro: false };
const APART = 2; // of two points of a stroke, at least: an address should stay short
const SMALL = 0.35; // of the pad's side: a drawing that is smaller blurs when it is enlarged

/**
 * A pad on a canvas, whose frame takes the pointer. `changed` is called with what the network sees,
 * { pixels, scale, top, left, small }, and with what is on the pad, { digit, strokes, intro }.
 * `begun` is called before every change, and returns what `undo` should hand back to `undone`.
 */
export function makePad(canvas, frame, { changed, begun, undone }) {
  const side = canvas.width;
  const pencil = canvas.getContext("2d");
  const layer = document.createElement("canvas");

  let now = BLANK; // `intro`: a digit that nobody has asked for, which the first stroke replaces
  let ink = inkOf([], side);
  let past = [];
  let pending = false;
  let cursor = null; // of the keyboard's pen

  function paint() {
    pencil.clearRect(0, 0, side, side);
    for (const pixels of [now.digit?.pixels, now.strokes.length ? ink : null]) {
      if (!pixels) continue;
      paintInk(layer, pixels);
      pencil.drawImage(layer, 0, 0, side, side);
    }
    if (cursor) {
      pencil.beginPath();
      pencil.arc(...cursor.at, PEN / 2, 0, 2 * Math.PI);
      pencil.lineWidth = 3;
      pencil.strokeStyle = colour("--accent");
      pencil.stroke();
    }
  }

  function refresh() {
    pending = false;
    paint();
    if (now.digit) {
      const pixels = inkOver(now.digit.pixels, ink, side);
      return changed({ pixels, scale: 28 / side, top: 0, left: 0, small: false }, now);
    }
    const seen = see(Float32Array.from(ink, (value) => value / 255), side);
    changed(seen && { ...seen, small: 20 / seen.scale < SMALL * side }, now);
  }

  function soon() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(refresh);
  }

  function show(next) {
    now = next;
    ink = inkOf(now.strokes, side);
    soon();
  }

  function become(next) {
    past.push([now, begun()]);
    if (past.length > 50) past.shift();
    show(next);
  }

  function begin(point) {
    const digit = now.intro ? null : now.digit;
    const strokes = now.intro ? [] : now.strokes;
    become({ digit, strokes: [...strokes, [point.map(Math.round)]], intro: false });
  }

  function extend(place) {
    const stroke = now.strokes.at(-1);
    const point = place.map(Math.round);
    if (Math.hypot(point[0] - stroke.at(-1)[0], point[1] - stroke.at(-1)[1]) < APART) return;
    addLine(ink, side, stroke.at(-1), point);
    stroke.push(point);
    soon();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [
      ((event.clientX - box.left) * side) / box.width,
      ((event.clientY - box.top) * side) / box.height,
    ];
  }

  let drawing = null; // the pointer that draws
  frame.addEventListener("pointerdown", (event) => {
    if (drawing !== null || event.button !== 0) return;
    drawing = event.pointerId;
    frame.setPointerCapture(drawing);
    begin(place(event));
  });
  frame.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) extend(place(each));
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    frame.addEventListener(end, (event) => {
      if (event.pointerId === drawing) drawing = null;
    });
  }

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if ((!move && event.key !== " ") || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    cursor ??= { at: [side / 2, side / 2], down: false };
    if (move) {
      const step = side / 28;
      cursor.at = cursor.at.map((v, axis) => Math.min(side, Math.max(0, v + move[axis] * step)));
      if (cursor.down) extend(cursor.at);
    } else {
      cursor.down = !cursor.down;
      if (cursor.down) begin(cursor.at);
    }
    paint();
  });
  canvas.addEventListener("blur", () => {
    cursor = null;
    paint();
  });
  onTheme(paint);

  return {
    clear: () => become(BLANK),
    take: (digit) => become({ digit, strokes: [], intro: false }),
    /** Show this without a way back: what the page opens with, or what its address holds. */
    open(digit, strokes, intro = false) {
      show({ digit, strokes, intro });
    },
    undo() {
      if (past.length === 0) return;
      const [before, kept] = past.pop();
      undone(kept);
      show(before);
    },
    canUndo: () => past.length > 0,
  };
}
