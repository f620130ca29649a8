// The loss over the steps that were taken, as a line; pointing at it shows the loss at a step.

import { show } from "./numbers.js";

const [WIDTH, HEIGHT] = [300, 60];

/**
 * `element` is a figure with an svg and an output. The returned function draws `rows`, [step, loss]
 * each, oldest first; null between them starts another line, as for another digit.
 */
export function makeChart(element) {
  const [svg, output] = [element.querySelector("svg"), element.querySelector("output")];
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  let known = [];
  let [x, y] = [Number, Number];

  function say(row) {
    if (known.length === 0) output.textContent = "No step yet.";
    else if (row) output.innerHTML = `step ${row[0]}: ${show(row[1])}`;
    else {
      const last = known.at(-1);
      output.innerHTML = `${show(known[0][1])} at step ${known[0][0]}, <b>${show(last[1])}</b> at step ${last[0]}`;
    }
  }

  svg.addEventListener("pointermove", (event) => {
    if (known.length === 0) return;
    const box = svg.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const apart = ([step]) => Math.abs(x(step) - at);
    const row = known.reduce((best, each) => (apart(each) < apart(best) ? each : best));
    say(row);
    const mark = svg.querySelector(".mark");
    mark.setAttribute("d", `M${x(row[0])} 0V${HEIGHT}`);
  });
  svg.addEventListener("pointerleave", () => {
    say();
    svg.querySelector(".mark")?.setAttribute("d", "");
  });

  return (rows) => {
    known = rows.filter((row) => row && Number.isFinite(row[1]));
    const steps = known.map(([step]) => step);
    const [first, last] = [Math.min(...steps), Math.max(...steps)];
    const top = Math.max(...known.map(([, loss]) => loss)) || 1;
    x = (step) => 3 + ((WIDTH - 6) * (step - first)) / (last - first || 1);
    y = (loss) => HEIGHT - 3 - ((HEIGHT - 8) * loss) / top;
    let path = "";
    let pen = "M";
    for (const row of rows) {
      if (row && Number.isFinite(row[1])) path += `${pen}${x(row[0]).toFixed(1)} ${y(row[1]).toFixed(1)}`;
      pen = row ? "L" : "M";
    }
    svg.innerHTML = `<path class="ground" d="M0 ${HEIGHT - 1}H${WIDTH}"/><path class="line" d="${known.length > 1 ? path : ""}"/><path class="mark" d=""/>`;
    say();
  };
}
