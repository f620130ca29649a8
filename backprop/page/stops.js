// What the guided tour shows, stop by stop.

import { derived } from "./walkthrough.js";
import { word } from "./words.js";

const PLACE = { c: 3, i: 12, j: 14 }; // near the middle, where there is ink

/** The stops; `act` has digit(), eight(), clear(), pin(place), taught() and best(). */
export function makeStops(act) {
  const pin = (name, place = PLACE) => () => {
    act.digit();
    act.pin({ name, ...place });
  };
  return [
    {
      title: "A network reads a digit",
      text: `Somebody wrote this digit for a form; it is one of MNIST's test images. The bars are the
        network's answer: a probability for each of the ten digits. Draw over it, and the bars follow the pen.`,
      at: "#pad-frame",
      set() {
        act.digit();
        act.clear();
      },
    },
    {
      title: "Seven parts, one after the other",
      text: `Each card stands for four ${word("channel", "channels")}, and is as large as its map. From left to
        right the maps shrink, while every number in them sees more of the image: its
        ${word("receptive field")} grows.`,
      at: "#architecture",
      set: act.digit,
    },
    {
      title: "A convolution: multiply, then add",
      text: `A ${word("kernel")} is nine weights. They lie on nine pixels, are multiplied with them, and the
        products are added up with a bias: that is one ${word("activation")}. The box on the pad shows which
        pixels. The same kernel serves every place. ${derived("conv", "The formula")}.`,
      at: '[id="layer-block1.conv1"]',
      set: pin("block1.conv1"),
    },
    {
      title: "Brought to one scale, and cut off at zero",
      text: `${word("batch normalisation", "Batch normalisation")} brings every channel to about the same size.
        ${word("ReLU")} then keeps what is above zero. Without it, all layers together could do no more than one.`,
      at: '[id="layer-block1.relu1"]',
      set: pin("block1.relu1"),
    },
    {
      title: "The largest of four",
      text: `${word("max pooling", "Max pooling")} keeps the largest of every four values. The map has half the
        rows and half the columns, and from here on a number covers twice as much of the image.`,
      at: '[id="layer-transition1.pool"]',
      set: pin("transition1.pool", { c: 3, i: 6, j: 7 }),
    },
    {
      title: "Ten logits become ten probabilities",
      text: `The network ends in one ${word("logit")} for each digit. ${word("softmax", "Softmax")} makes them
        probabilities: they are positive and add up to 1. Press a logit in the table to go back, step by step,
        to the image.`,
      at: '[id="layer-log_softmax"]',
      set: () => pin("log_softmax", { c: act.best(), i: 0, j: 0 })(),
    },
    {
      title: "How wrong is it?",
      text: `The ${word("loss")} is −ln of the probability that the right digit got. It is 0 for a perfect answer
        and grows without end. To have one, the network must be told which digit it was.`,
      at: "#loss",
      set() {
        act.digit();
        act.taught();
      },
    },
    {
      title: "The gradient comes back",
      text: `Backward, every number learns how the loss would change if it grew. Through a convolution the
        ${word("gradient", "gradients")} come back as a sum again: the kernels are read backwards and laid on what comes
        back; multiply, then add. Forward and backward are shown side by side.
        ${derived("convInput", "Why the kernel is flipped")}.`,
      at: '[id="layer-block1.relu1"]',
      set() {
        act.taught();
        pin("block1.relu1")();
      },
    },
    {
      title: "One step, and what it does to others",
      text: `Press <b>One step</b> beside the drawing: all 17,498 weights move a little against their gradients, and
        the loss falls. Look at a hundred other digits: some are learned, some unlearned. A bar at the
        top says how far you are from the trained weights, and leads back.`,
      at: ".others",
      set() {
        act.digit();
        act.taught();
        act.clear();
      },
    },
    {
      title: "The same with eight weights",
      text: `Small enough for a pocket calculator: every number of the network is in the drawing. Press <b>Next
        factor</b> and watch the chain rule go from the error back to a weight.`,
      at: "#diagram",
      set: act.eight,
    },
  ];
}
