// The words of the field, one sentence each: on hover where they are used, and as a list.

import { addNote } from "./note.js";

export const WORDS = {
  activation: "A number that a layer gives: one for each channel, row and column.",
  "batch normalisation":
    "Each channel is shifted and scaled by the mean and the standard deviation that it had in training, then by two learned numbers, γ and β.",
  channel: "One of the maps that a layer gives. Each is made by a kernel of its own.",
  gradient: "How much the loss would change if a number grew a little, per unit. Below 0, the loss would fall.",
  kernel: "The small square of weights that a convolution lays on every place of its input: multiply, then add.",
  "learning rate": "How far a step goes: each weight changes by the learning rate times its gradient.",
  logit: "One of the ten numbers that the last layer of weights gives, before softmax turns them into probabilities.",
  loss: "How wrong the answer is: −log of the probability that the network gave to the right digit. 0 is perfect.",
  "natural log":
    "The logarithm to base e, 2.718…: a pocket calculator's ln key, not its log key. ln 0.5 is −0.693.",
  "max pooling": "Of every 2 × 2 values the largest goes on, so the map has half the rows and columns.",
  "receptive field": "The pixels of the image that a number depends on.",
  ReLU: "Rectified linear unit: what is below 0 becomes 0, what is above stays as it is.",
  softmax: "Turns ten numbers into probabilities that add up to 1: e to the power of each, divided by their sum.",
};

/** A word that shows what it means; `text` is how it is written here. */
export function word(name, text = name) {
  return `<button class="word" data-word="${name}">${text}</button>`;
}

addNote("word", (name) => `<p><b>${name}</b>: ${WORDS[name]}</p>`, true);

/** The list of all of them. */
export function wordList() {
  return Object.entries(WORDS)
    .sort(([a], [b]) => a.localeCompare(b))
    .map(([name, meaning]) => `<div><dt>${name}</dt><dd>${meaning}</dd></div>`)
    .join("");
}
