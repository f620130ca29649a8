// The page's address: after the # stands what a link should open again, as name=value&name=value.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const OFFSET = 1024; // a stroke may leave the pad, to where places are negative

/** Strokes of whole pixels as text: two letters for every number, a dot between strokes. */
export function packStrokes(strokes) {
  const letters = (v) => {
    const whole = Math.min(4095, Math.max(0, Math.round(v) + OFFSET));
    return DIGITS[whole >> 6] + DIGITS[whole & 63];
  };
  return strokes.map((stroke) => stroke.flat().map(letters).join("")).join(".");
}

/** The strokes of such a text; what is no such text has none. */
export function unpackStrokes(text) {
  if (!/^([\w-]{4})+(\.([\w-]{4})+)*$/.test(text)) return [];
  return text.split(".").map((stroke) =>
    stroke.match(/.{4}/g).map((four) =>
      [0, 2].map((k) => DIGITS.indexOf(four[k]) * 64 + DIGITS.indexOf(four[k + 1]) - OFFSET),
    ),
  );
}

/** What follows the #. What is undefined is left out. */
export function toAddress(view) {
  const known = Object.entries(view).filter(([, value]) => value !== undefined);
  return new URLSearchParams(known).toString().replaceAll("%2F", "/");
}

/** The names and values after the #; `#eight` alone also opens the second view. */
export function fromAddress(hash) {
  const view = Object.fromEntries(new URLSearchParams(hash.replace(/^#/, "")));
  if ("eight" in view) view.view = "eight";
  return view;
}

/** A whole number within limits, or null. */
export function wholeNumber(text, low, high) {
  if (!/^-?\d+$/.test(text ?? "")) return null;
  const value = Number(text);
  return value >= low && value <= high ? value : null;
}
