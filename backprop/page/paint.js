// Numbers as colours: blue below zero, vermilion above, a scale that survives colour blindness.

export const TILE = 28; // pixels of a channel's picture
const GAP = 4; // between two of them

const STOPS = {
  light: {
    positive: [
      [255, 255, 255],
      [244, 168, 104],
      [213, 94, 0],
      [84, 32, 0],
    ],
    negative: [
      [255, 255, 255],
      [128, 188, 226],
      [0, 114, 178],
      [0, 40, 66],
    ],
  },
  dark: {
    positive: [
      [11, 13, 15],
      [140, 62, 6],
      [240, 128, 40],
      [255, 232, 208],
    ],
    negative: [
      [11, 13, 15],
      [8, 80, 122],
      [58, 160, 220],
      [216, 240, 255],
    ],
  },
};
const scheme = matchMedia("(prefers-color-scheme: dark)");
const print = matchMedia("print"); // paper is light
const dark = () => scheme.matches && !print.matches;
let shades = makeShades();

/** Call `repaint` whenever the page's light turns dark, or the other way round, and for print. */
export function onTheme(repaint) {
  for (const query of [scheme, print]) {
    query.addEventListener("change", () => {
      shades = makeShades();
      repaint();
    });
  }
}

/** Whether the page is being printed: then nothing may wait until it is scrolled to. */
export const printing = () => print.matches;

/** A colour of the style sheet by its name. */
export const colour = (name) => getComputedStyle(document.body).getPropertyValue(name);

/** The colours of −1 to 1 in 511 steps, as the words of an image's memory. */
function makeShades() {
  const { positive, negative } = STOPS[dark() ? "dark" : "light"];
  return Uint32Array.from({ length: 511 }, (_, k) => {
    const stops = k < 255 ? negative : positive;
    const place = 3 * Math.abs(k / 255 - 1) ** 0.7; // lets small numbers show
    const low = Math.min(2, Math.floor(place));
    const [r, g, b] = stops[low].map((from, c) =>
      Math.round(from + (stops[low + 1][c] - from) * (place - low)),
    );
    return (255 << 24) | (b << 16) | (g << 8) | r;
  });
}

/** A number's colour, where `largest` has the strongest. */
function shade(value, largest) {
  if (!(largest > 0) || Number.isNaN(value)) return shades[255];
  return shades[255 + Math.round(255 * Math.min(1, Math.max(-1, value / largest)))];
}

/** The same for a style sheet. */
export function css(value, largest) {
  const word = shade(value, largest);
  return `rgb(${word & 255} ${(word >> 8) & 255} ${(word >> 16) & 255})`;
}

/** Whether black or white is the ink to write with on that colour. */
export function inkOn(value, largest) {
  const word = shade(value, largest);
  const [r, g, b] = [word & 255, (word >> 8) & 255, (word >> 16) & 255];
  return 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#14171a" : "#ffffff";
}

export function largestOf(values) {
  let largest = 0;
  for (let k = 0; k < values.length; k++) {
    if (values[k] > largest) largest = values[k];
    else if (-values[k] > largest) largest = -values[k];
  }
  return largest; // what is not a number does not count
}

/** One map, a pixel for a number; the style sheet enlarges it. */
export function paintMap(canvas, values, height, width, largest = largestOf(values)) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const words = new Uint32Array(image.data.buffer);
  for (let k = 0; k < words.length; k++) words[k] = shade(values[k], largest);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** So many tiles in rows of 16, or of 8 where there is little room; the ten classes in one row. */
export function arrange(count, width) {
  const roomy = width >= 0.75 * widthOf(16); // the style sheet may make them that much smaller
  const columns = count === 10 ? 10 : Math.min(count, roomy ? 16 : 8);
  return { columns, rows: Math.ceil(count / columns), fills: !roomy && columns === 8 };
}

/** How wide so many tiles are. */
const widthOf = (columns) => columns * (TILE + GAP) - GAP;

/** Square maps side by side, all on one scale; not-a-number is left transparent. */
export function paintTiles(canvas, maps, side, { columns, rows }, largest) {
  canvas.width = widthOf(columns);
  canvas.height = widthOf(rows);
  const image = new ImageData(canvas.width, canvas.height);
  const words = new Uint32Array(image.data.buffer);
  const nearest = Int32Array.from({ length: TILE }, (_, k) => Math.floor((k * side) / TILE));
  const colours = new Uint32Array(side * side);
  maps.forEach((map, c) => {
    for (let k = 0; k < colours.length; k++) {
      colours[k] = Number.isNaN(map[k]) ? 0 : shade(map[k], largest);
    }
    const [left, top] = corner(c, columns);
    for (let i = 0; i < TILE; i++) {
      const to = (top + i) * canvas.width + left;
      const from = nearest[i] * side;
      for (let j = 0; j < TILE; j++) words[to + j] = colours[from + nearest[j]];
    }
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The top left corner of a tile. */
export function corner(c, columns) {
  return [(c % columns) * (TILE + GAP), Math.floor(c / columns) * (TILE + GAP)];
}

/** Which tile lies below a point of the canvas, and which row and column of its map. */
export function hit(x, y, side, count, columns) {
  const [across, down] = [Math.floor(x / (TILE + GAP)), Math.floor(y / (TILE + GAP))];
  const c = down * columns + across;
  if (x < 0 || y < 0 || across >= columns || c >= count) return null;
  const at = (place) => Math.min(side - 1, Math.floor(((place % (TILE + GAP)) * side) / TILE));
  return { c, i: at(y), j: at(x) };
}

/** A digit as ink: grey on transparent, so that light and dark pages both can show it. */
export function paintInk(canvas, pixels) {
  const side = Math.sqrt(pixels.length);
  const image = new ImageData(side, side);
  const words = new Uint32Array(image.data.buffer);
  const grey = dark() ? 0xebebeb : 0x141414;
  for (let k = 0; k < words.length; k++) words[k] = (pixels[k] << 24) | grey;
  canvas.width = side;
  canvas.height = side;
  canvas.getContext("2d").putImageData(image, 0, 0);
}
