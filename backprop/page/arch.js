// The picture of the architecture: a deck of cards for what each part of the network gives.

import { STAGES, sees, stageOf } from "./inside.js";
import { LAYERS } from "./network.js";
import { layerOf } from "./sums.js";

const MADE_OF = {
  input: "what you draw",
  block1: "two convolutions",
  transition1: "pooling, 1×1",
  block2: "two convolutions",
  transition2: "pooling, 1×1",
  block3: "two convolutions",
  head: "average, ten digits",
};

/**
 * A button for each part in `element`, in the order of the forward pass; a press leads to its
 * layers. The returned function marks the part that a layer belongs to.
 */
export function makeArchitecture(element) {
  const parts = Object.entries(STAGES).map(([stage, title]) => {
    const layer = stage === "input" ? layerOf(stage) : LAYERS.findLast(({ name }) => stageOf(name) === stage);
    const [channels, side] = layer.output;
    const shape = stage === "head" ? "10" : `${channels} × ${side} × ${side}`;
    const button = document.createElement("button");
    button.className = "part";
    button.dataset.stage = stage;
    button.innerHTML = `${deck(channels, side)}<b>${title}</b>
      <small>${MADE_OF[stage]}</small> <small class="facts">${shape}</small> <small>${stage === "head" ? "sees all" : sees(layer).split(",")[0]}</small>`;
    const entry = document.createElement("li");
    entry.append(button);
    element.append(entry);
    return button;
  });
  element.addEventListener("click", (event) => {
    const part = event.target.closest(".part");
    if (!part) return;
    const heading = document.getElementById(`stage-${part.dataset.stage}`);
    // A heading is not there while its layers have nothing to show, as pooling has no kernels.
    const smooth = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    const target = heading.hidden ? heading.parentElement : heading;
    target.scrollIntoView({ behavior: smooth ? "smooth" : "auto", block: "start" });
    heading.focus({ preventScroll: true });
  });
  return (name) => {
    for (const part of parts) {
      const here = name !== undefined && part.dataset.stage === stageOf(name);
      if (here) part.setAttribute("aria-current", "true");
      else part.removeAttribute("aria-current");
    }
  };
}

/** A card for every four channels, as large as the map. */
function deck(channels, side) {
  const ten = side === 1;
  const count = ten ? 10 : Math.ceil(channels / 4);
  const size = ten ? 5 : 10 + 1.1 * side;
  const [right, up] = ten ? [6.4, 0] : [2.6, 1.6];
  const [width, height] = [size + (count - 1) * right, size + (count - 1) * up];
  const [left, top] = [(68 - width) / 2, (56 - height) / 2];
  const cards = Array.from({ length: count }, (_, k) => {
    const at = count - 1 - k; // the last one in front
    return `<rect x="${(left + at * right).toFixed(1)}" y="${(top + (count - 1 - at) * up).toFixed(1)}" width="${size}" height="${size}" rx="1.5"/>`;
  });
  return `<svg viewBox="0 0 68 56" aria-hidden="true">${cards.join("")}</svg>`;
}
