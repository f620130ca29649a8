// Numbers as they are written on the page: rounded, but so that a written sum adds up as written.

/** A number as a reader wants it: a true minus, four digits. */
export function show(x, digits = 4) {
  if (x === 0) return "0";
  if (!Number.isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : "not a number";
  const [size, places] = [Math.abs(x), digits - 1];
  const text = size < 1e-4 || size >= 1e5 ? x.toExponential(places - 1) : x.toPrecision(digits);
  return text
    .replace("e", " · 10^")
    .replace(/\^([+-]?\d+)/, (_, power) => `<sup>${Number(power)}</sup>`)
    .replaceAll("-", "−");
}

/** The same with brackets around what is negative, to stand behind a sign. */
export const bracketed = (x, digits) => (x < 0 ? `(${show(x, digits)})` : show(x, digits));

/** "=" if the numbers as they are written give the result as it is written, else "≈". */
export function relation(written, result, digits = 4) {
  return show(written, digits) === show(result, digits) ? "=" : "≈";
}

/** The number that a text of `together` stands for, and "=" or "≈" for a value and such a text. */
export const read = (text, power = 0) => Number(text.replace("−", "-")) * 10 ** power;
export function relationTo(value, text, power = 0) {
  const places = text.split(".")[1]?.length ?? 0;
  return (value / 10 ** power).toFixed(places) === read(text).toFixed(places) ? "=" : "≈";
}

/** The number that `show` writes. */
export const rounded = (x, digits = 4) => {
  const size = Math.abs(x);
  if (!Number.isFinite(x)) return x;
  return Number(size < 1e-4 || size >= 1e5 ? x.toExponential(digits - 2) : x.toPrecision(digits));
};

/**
 * The parts of a sum and their total, written with equally many decimals so that the written parts
 * add up to the written total: { texts, total, power }, all in units of 10^power.
 *
 * The total is rounded as usual, and so is every part. What is then missing goes to the part
 * number `free`, or, without one, by one in the last place to those that were rounded furthest the
 * other way.
 */
export function together(parts, total, { free = null, digits = 4 } = {}) {
  const all = [...parts, total];
  if (!all.every(Number.isFinite)) return { texts: parts.map((x) => show(x)), total: show(total), power: 0 };
  const largest = Math.max(...all.map(Math.abs));
  const order = (x) => (x === 0 ? 0 : Math.floor(Math.log10(Math.abs(x))));
  const power = largest > 0 && (largest < 1e-3 || largest >= 1e5) ? order(largest) : 0;
  const [top, end] = [order(largest) - power, order(total) - power];
  const wanted = Math.max(digits - 1 - top, Math.min(digits - 1 - end, digits + 1 - top));
  const places = Math.max(0, Math.min(9, wanted));
  const unit = 10 ** (places - power);
  const whole = parts.map((x) => Math.round(x * unit));
  const sum = Math.round(total * unit);
  const missing = sum - whole.reduce((so, x) => so + x, 0);
  if (free !== null) whole[free] += missing;
  else {
    const sign = Math.sign(missing);
    parts
      .map((x, k) => [sign * (x * unit - whole[k]), k])
      .sort(([a], [b]) => b - a)
      .slice(0, Math.abs(missing))
      .forEach(([, k]) => (whole[k] += sign));
  }
  const text = (x) => (x / 10 ** places).toFixed(places).replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−");
  return { texts: whole.map((x, k) => (x || parts[k] ? text(x) : "0")), total: text(sum), power };
}

/** Numbers side by side in as little room as they need: { texts, power }, in units of 10^power. */
export function scaled(values, digits = 3) {
  const largest = Math.max(...Array.from(values, Math.abs));
  const power = largest > 0 && largest < 1e-2 ? Math.floor(Math.log10(largest)) : 0;
  const texts = Array.from(values, (value) => {
    if (value === 0 || !Number.isFinite(value)) return show(value);
    const number = value / 10 ** power;
    const places = digits - 1 - Math.floor(Math.log10(Math.abs(number)));
    return number.toFixed(Math.min(digits + 1, Math.max(0, places))).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  });
  return { texts, power };
}

/** Signed, for a sum: "+ 1.5" or "− 1.5". Takes a number or a text of `together`. */
export function plus(x) {
  const text = typeof x === "string" ? x : show(x);
  return text.startsWith("−") ? `− ${text.slice(1)}` : `+ ${text}`;
}
