// The mathematics of the class network, eight weights, in float64: what network.py does in NumPy.

export const START = {
  ...{ i1: 0.05, i2: 0.1, t1: 0.01, t2: 0.99 },
  ...{ w1: 0.15, w2: 0.2, w3: 0.25, w4: 0.3, w5: 0.4, w6: 0.45, w7: 0.5, w8: 0.55 },
};
export const WEIGHTS = ["w1", "w2", "w3", "w4", "w5", "w6", "w7", "w8"];
export const RATES = [0.1, 0.2, 0.5, 0.8, 1, 2];

/** 1 / (1 + e^−x), arranged so that e is never raised to a positive power: no overflow. */
export function sigmoid(x) {
  const z = Math.exp(-Math.abs(x));
  return (x >= 0 ? 1 : z) / (1 + z);
}

/** The sigmoid's derivative, a (1 − a), with 1 − a as σ(−x), which keeps its digits near 1. */
export function slope(x) {
  return sigmoid(x) * sigmoid(-x);
}

/** Every unit and error of the network by its symbol. `given` holds i1 i2 t1 t2 w1 … w8. */
export function forwardEight(given) {
  const { i1, i2, t1, t2, w1, w2, w3, w4, w5, w6, w7, w8 } = given;
  const h1 = w1 * i1 + w2 * i2;
  const h2 = w3 * i1 + w4 * i2;
  const a_h1 = sigmoid(h1);
  const a_h2 = sigmoid(h2);
  const o1 = w5 * a_h1 + w6 * a_h2;
  const o2 = w7 * a_h1 + w8 * a_h2;
  const a_o1 = sigmoid(o1);
  const a_o2 = sigmoid(o2);
  const E1 = (t1 - a_o1) ** 2 / 2;
  const E2 = (t2 - a_o2) ** 2 / 2;
  return { h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2, E1, E2, E_total: E1 + E2 };
}

/** The eight partial derivatives ∂E_total/∂w by the names of the weights, by the chain rule. */
export function gradientsEight(given) {
  const { i1, i2, t1, t2, w5, w6, w7, w8 } = given;
  const { h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2 } = forwardEight(given);

  const dE_do1 = (a_o1 - t1) * slope(o1);
  const dE_do2 = (a_o2 - t2) * slope(o2);

  // a_h1 reaches the error through o1 (with w5) and o2 (with w7); both paths add up
  const dE_dh1 = (dE_do1 * w5 + dE_do2 * w7) * slope(h1);
  const dE_dh2 = (dE_do1 * w6 + dE_do2 * w8) * slope(h2);

  return {
    ...{ w1: dE_dh1 * i1, w2: dE_dh1 * i2, w3: dE_dh2 * i1, w4: dE_dh2 * i2 },
    ...{ w5: dE_do1 * a_h1, w6: dE_do1 * a_h2, w7: dE_do2 * a_h1, w8: dE_do2 * a_h2 },
  };
}

/** Gradient descent: what is given and E_total after 0, 1, … `steps` updates. */
export function trainEight(given, rate, steps = 100) {
  const rows = [];
  let now = given;
  for (let step = 0; step <= steps; step++) {
    rows.push({ ...now, E_total: forwardEight(now).E_total });
    const slopes = gradientsEight(now);
    now = { ...now };
    for (const w of WEIGHTS) now[w] -= rate * slopes[w];
  }
  return rows;
}
