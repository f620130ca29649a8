// The drawing pad: mouse, pen, finger and keys; what is on it, and what the network sees of it.

import { see } from "./see.js";
import { inkColour, onTheme, paintInk } from "./paint.js";

const PEN = 34; // of the pad's 400 pixels: in the 20×20 box no thinner than MNIST's strokes
const BLANK = { digit: null, strokes: [], intro: false };

/**
 * A pad on a canvas. `changed` is called with what the network sees, { pixels, scale, top, left },
 * and with the test digit below the strokes that the reader chose, or null.
 */
export function makePad(canvas, changed) {
  const side = canvas.width;
  const pencil = canvas.getContext("2d", { willReadFrequently: true });
  const sketch = document.createElement("canvas"); // the strokes alone
  sketch.width = sketch.height = side;
  const ink = sketch.getContext("2d", { willReadFrequently: true });

  let now = BLANK; // `intro`: a digit that nobody has asked for, which the first stroke replaces
  let past = [];
  let pending = false;
  let cursor = null; // of the keyboard's pen

  function drawStrokes() {
    ink.clearRect(0, 0, side, side);
    ink.lineWidth = PEN;
    ink.lineCap = ink.lineJoin = "round";
    for (const stroke of now.strokes) {
      ink.beginPath();
      ink.moveTo(...stroke[0]);
      for (const point of stroke.length > 1 ? stroke : [stroke[0], stroke[0]]) ink.lineTo(...point);
      ink.stroke();
    }
  }

  function paint() {
    pencil.clearRect(0, 0, side, side);
    if (now.digit) {
      const small = document.createElement("canvas");
      paintInk(small, now.digit.pixels);
      pencil.imageSmoothingEnabled = true;
      pencil.drawImage(small, 0, 0, side, side);
    }
    ink.globalCompositeOperation = "source-in";
    ink.fillStyle = inkColour();
    ink.fillRect(0, 0, side, side);
    ink.globalCompositeOperation = "source-over";
    pencil.drawImage(sketch, 0, 0);
    if (cursor) {
      pencil.beginPath();
      pencil.arc(...cursor.at, PEN / 2, 0, 2 * Math.PI);
      pencil.lineWidth = 3;
      pencil.strokeStyle = getComputedStyle(canvas).getPropertyValue("--accent");
      pencil.stroke();
    }
  }

  /** The strokes' ink from 0 to 1, row by row. */
  function strokesInk() {
    const { data } = ink.getImageData(0, 0, side, side);
    const values = new Float32Array(side * side);
    for (let k = 0; k < values.length; k++) values[k] = data[4 * k + 3] / 255;
    return values;
  }

  function refresh() {
    pending = false;
    drawStrokes();
    paint();
    if (!now.digit) changed(see(strokesInk(), side), null);
    else {
      const pixels = inkOver(now.digit.pixels, strokesInk(), side);
      changed({ pixels, ...frame(side) }, now.intro ? null : now.digit);
    }
  }

  function soon() {
    if (pending) return;
    pending = true;
    requestAnimationFrame(refresh);
  }

  function become(next) {
    past.push(now);
    now = next;
    soon();
  }

  function begin(point) {
    const digit = now.intro ? null : now.digit;
    become({ digit, strokes: [...now.strokes, [point]], intro: false });
  }

  function extend(point) {
    now.strokes.at(-1).push(point);
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
  canvas.addEventListener("pointerdown", (event) => {
    if (drawing !== null || event.button !== 0) return;
    drawing = event.pointerId;
    canvas.setPointerCapture(drawing);
    begin(place(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== drawing) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) extend(place(each));
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => {
      if (event.pointerId === drawing) drawing = null;
    });
  }

  const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  canvas.addEventListener("keydown", (event) => {
    const move = MOVES[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    cursor ??= { at: [side / 2, side / 2], down: false };
    if (move) {
      const step = side / 28;
      cursor.at = cursor.at.map((v, axis) => Math.min(side, Math.max(0, v + move[axis] * step)));
      if (cursor.down) extend([...cursor.at]);
    } else {
      cursor.down = !cursor.down;
      if (cursor.down) begin([...cursor.at]);
    }
    paint();
  });
  canvas.addEventListener("blur", () => {
    cursor = null;
    paint();
  });
  onTheme(soon);

  return {
    clear: () => become(BLANK),
    take(digit, intro = false) {
      become({ digit, strokes: [], intro });
      if (intro) past = [];
    },
    undo() {
      if (past.length === 0) return;
      now = past.pop();
      soon();
    },
    canUndo: () => past.length > 0,
  };
}

/** How the 28×28 image lies on the pad when a test digit fills it. */
function frame(side) {
  return { scale: 28 / side, top: 0, left: 0 };
}

/** A test digit with strokes added where they were drawn: nothing is moved. */
function inkOver(pixels, ink, side) {
  const cell = side / 28;
  const sums = new Float64Array(28 * 28);
  ink.forEach((value, k) => {
    if (value > 0) {
      const [row, column] = [Math.floor(k / side), k % side];
      sums[Math.floor(row / cell) * 28 + Math.floor(column / cell)] += value;
    }
  });
  return pixels.map((value, k) => Math.max(value, Math.min(255, (255 * sums[k]) / cell ** 2)));
}
