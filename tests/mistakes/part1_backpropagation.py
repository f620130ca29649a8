"""The usual slips in part 1, by answer cell: (what is there, what stands there instead, hint)."""

MISTAKES = {
    "forward": [
        ("a_o2 = 1 / (1 + np.exp(-o2))", "a_o2 = o2", "a_o2: the sigmoid is missing"),
        (
            "a_h1 = 1 / (1 + np.exp(-h1))",
            "a_h1 = h1",
            "a_h1: the sigmoid is missing\n✗ o1, o2, a_o1, a_o2: this follows from",
        ),
        ("h1 = w1 * i1 + w2 * i2 + b1", "h1 = w1 * i1 + w3 * i2 + b1", "w2 and w3 are swapped"),
        ("o1 = w5 * a_h1 + w6", "o1 = w5 * a_h1 + w7", "w6 and w7 are swapped"),
        ("o1 = w5 * a_h1 + w6 * a_h2", "o1 = w6 * a_h1 + w5 * a_h2", "w5 and w6 are swapped"),
        ("+ w2 * i2 + b1", "+ w2 * i2", "h1: the biases are missing"),
        ("return h1, h2, a_h1, a_h2", "return h1, a_h1, h2, a_h2", "h2: this is the value of a_h1"),
        ("return h1, h2,", "return", "should return 8 numbers, h1, h2, a_h1, a_h2, o1"),
        ("np.exp(-", "np.exp(", "✗ a_h1, a_h2, a_o1, a_o2: the sign in the exponent is wrong"),
        ("1 / (1 + np.exp", "1 / 1 + (np.exp", "a_h1, a_h2, a_o1, a_o2: 1 / 1 + e^−x is 1"),
        ("1 / (1 + np.exp(-", "np.tanh((", "a_h1, a_h2, a_o1, a_o2: this is tanh"),
        ("1 / (1 + np.exp(-", "max(0, (", "a_o1, a_o2: this is ReLU"),
        ("np.exp(-h1)", "np.exp(-1 / (1 + np.exp(-h1)))", "a_h1: the sigmoid is taken twice"),
        ("i1, i2 = inputs", "i1, i2 = globals()['inputs']", "right for your numbers, wrong"),
        ("w8 = weights", "w8 = globals()['weights']", "right for your numbers, wrong for"),
        ("b1, b2 = biases", "b1, b2 = 0.35, 0.60", "✗ h1, h2, o1, o2: not right"),
        ("1 / (1 + np.exp(-h1))", "round(1 / (1 + np.exp(-h1)), 4)", "a_h1: rounded to 4 d"),
        ("b1, b2 = biases", "b2, b1 = biases", "✗ h1, h2, o1, o2: b1 and b2 are swapped"),
        ("+ w2 * i2 + b1", "+ w2 * i2 + b1 * i1", "✗ h1: a bias is added as it is"),
        ("+ w2 * i2 + b1", "+ w2 * i2 + b1 * i2", "✗ h1: a bias is added as it is"),
        ("w1 * i1 + w2 * i2 + b1", "(w1 + b1) * i1 + (w2 + b1) * i2", "h1: a bias is added as it"),
        ("+ w8 * a_h2 + b2", "+ w8 * a_h2 + 2 * b2", "a unit's bias is added once"),
        ("w5 * a_h1 + w6 * a_h2", "w5 * i1 + w6 * i2", "add up a_h1 and a_h2, not i1 and i2"),
        ("w5 * a_h1 + w6 * a_h2", "w5 * h1 + w6 * h2", "add up a_h1 and a_h2, not h1 and h2"),
        ("w1 * i1 + w2 * i2", "w1 * i2 + w2 * i1", "h1: each weight has the other input"),
        ("w7 * a_h1 + w8 * a_h2", "w8 * a_h1 + w7 * a_h2", "o2: w7 and w8 are swapped"),
        (
            "return h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2",
            "print(h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2)",
            "but returned None: is its return missing?",
        ),
        ("    h1 = w1", "    h1 = W1", "forward raised NameError: name 'W1' is not defined (l"),
    ],
    "errors": [
        ("(t1 - a_o1) ** 2 / 2", "(t1 - a_o1) ** 2", "½ is missing\n✗ E_total: this follows from"),
        ("(t2 - a_o2) ** 2 / 2", "(t2 - a_o2) / 2", "E2: the square is missing"),
        ("E1 + E2", "(E1 + E2) / 2", "E_total: E_total is the sum, not the mean"),
        ("*_, a_o1, a_o2", "*_, a_o1, a_o2, _, _", "of a_o1 and a_o2, not of o1 and o2"),
        ("(t1 - a_o1) ** 2 / 2", "(t1 - a_o1)^2 / 2", "in Python, a power is `**`, not `^` (line "),
        ("(t1 - a_o1) ** 2 / 2", "(t1 - float(a_o1)) ^ 2", "is `**`, not `^` (line "),
        (" ** 2 / 2", " ** 2", "✗ E1, E2, E_total: the ½ is missing"),
        ("t1, t2 = targets", "t1, t2 = globals()['targets']", "right for your numbers, wrong"),
        ("forward(inputs,", "forward(globals()['inputs'],", "right for your numbers, wrong"),
        ("t1, t2 = targets", "t2, t1 = targets", "E1, E2, E_total: the targets are swapped"),
        (
            "(t1 - a_o1) ** 2 / 2",
            "-t1 * np.log(a_o1) - (1 - t1) * np.log(1 - a_o1)",
            "E1: this is the cross-entropy",
        ),
        ("(t1 - a_o1) ** 2 / 2", "abs(t1 - a_o1)", "E1: square and ½ are missing"),
        (" ** 2 / 2", " ** 2 * (1 // 2)", "E1, E2, E_total: this is always 0"),
        ("(t1 - a_o1) ** 2 / 2", "((t1 - a_o1) / 2) ** 2", "the ½ comes outside"),
    ],
    "output-gradients": [
        ("(a_o2 - t2)", "2 * (a_o2 - t2)", "∂E/∂w7, ∂E/∂w8: twice too large"),
        ("(a_o2 - t2)", "(a_o2 - t2) / 2", "half of what it should be"),
        (" * a_o1 * (1 - a_o1)", "", "the slope of the output's sigmoid, a_o (1 − a_o)"),
        ("a_o2 * (1 - a_o2)", "o2 * (1 - o2)", "a_o (1 − a_o), not o (1 − o)"),
        ("(a_o", "-(a_o", "✗ ∂E/∂w5, ∂E/∂w6, ∂E/∂w7, ∂E/∂w8: the sign is wrong"),
        ("t2 = targets", "t2 = globals()['targets']", "right for your numbers"),
        ("dE_do1 * a_h1", "dE_do1", "∂E/∂w5: the last factor, a_h, is missing"),
        ("dE_do1 * a_h1", "dE_do1 * h1", "∂E/∂w5: the last factor is a_h, not h"),
        ("dE_do1 * a_h1", "dE_do1 * weights[4]", "is a_h, not the weight"),
        ("dE_do1 * a_h1", "dE_do1 * inputs[0]", "is a_h, not the input"),
        (
            "(a_o1 - t1) * a_o1 * (1 - a_o1)",
            "(a_o1 - t1) / (1 + np.exp(-a_o1)) * (1 - 1 / (1 + np.exp(-a_o1)))",
            "∂E/∂w5, ∂E/∂w6: the slope is σ′(o) = a_o (1 − a_o)",
        ),
        ("* a_o1 * (1 - a_o1)", "* a_o1 * a_o1", "a factor of it is missing"),
        ("* a_o1 * (1 - a_o1)", "* a_o1", "a factor of it is missing"),
        ("* a_o1 * (1 - a_o1)", "* (1 - a_o1)", "a factor of it is missing"),
        ("* a_o1 * (1 - a_o1)", "* (1 - a_o1 ** 2)", "is the slope of tanh"),
        ("* a_o1 * (1 - a_o1)", "* a_o1 * 1 - a_o1", "∂E/∂w6: not right, and none of the usual"),
        ("a_o2 * (1 - a_o2)", "a_o1 * (1 - a_o1)", "was copied from the first output"),
        ("(a_o2 - t2) * a_o2 * (1 - a_o2)", "(a_o1 - t1) * a_o1 * (1 - a_o1)", "∂E/∂w8: the line"),
        ("(a_o2 - t2)", "(a_o1 - t2)", "was copied from the first output"),
        ("t1, t2 = targets", "t2, t1 = targets", "the targets are swapped"),
        (
            "    dE_do1 = (a_o1 - t1) * a_o1 * (1 - a_o1)",
            "    def E(k):\n"
            "        nudged = [w + 1e-3 * (j == k) for j, w in enumerate(weights)]\n"
            "        return errors(inputs, targets, nudged)[2]\n"
            "    return [(E(k) - E(None)) / 1e-3 for k in range(4, 8)]\n"
            "    dE_do1 = (a_o1 - t1) * a_o1 * (1 - a_o1)",
            "nearly right: rounded on the way, or a difference quotient",
        ),
    ],
    "hidden-gradients": [
        ("from_o1 * w5 + from_o2 * w7", "from_o1 * w5", "only the path through o1"),
        ("from_o1 * w6 + from_o2 * w8", "from_o2 * w8", "only the path through o2"),
        (
            "from_o2 * w7) * a_h1 * (1 - a_h1)\n    dE_dh2 = (from_o1 * w6",
            "from_o2 * w6) * a_h1 * (1 - a_h1)\n    dE_dh2 = (from_o1 * w7",
            "∂E/∂w1, ∂E/∂w2, ∂E/∂w3, ∂E/∂w4: w6 and w7 are swapped on the way back",
        ),
        ("from_o1 * w5", "from_o1 * w6", "∂E/∂w1, ∂E/∂w2: w5 and w6 are swapped"),
        ("* a_h1 * (1 - a_h1)", "* a_h1", "a_h (1 − a_h): a factor of it is missing"),
        ("* a_h1 * (1 - a_h1)", "", "the slope of the hidden unit's sigmoid, a_h (1"),
        ("a_h2 * (1 - a_h2)", "h2 * (1 - h2)", "a_h (1 − a_h), not h (1 − h)"),
        (
            "a_o2 * (1 - a_o2)\n    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * a_h1 * (1 - a_h1)",
            "1\n    from_o1 = a_o1 - t1\n    dE_dh1 = from_o1 * w5 + from_o2 * w7",
            "∂E/∂w1, ∂E/∂w2: the slopes of both sigmoids, a (1 − a), are missing",
        ),
        (
            "    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * a_h1 * (1 - a_h1)",
            "    from_o1, from_o2 = (a_o1 - t1) * o1 * (1 - o1), (a_o2 - t2) * o2 * (1 - o2)\n"
            "    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * h1 * (1 - h1)",
            "∂E/∂w1, ∂E/∂w2: both slopes are a (1 − a), of the sigmoid and not of the sum",
        ),
        (
            "    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * a_h1 * (1 - a_h1)\n"
            "    dE_dh2 = (from_o1 * w6 + from_o2 * w8)",
            "    g5, g6, g7, g8 = output_gradients(inputs, targets, weights)\n"
            "    dE_dh1 = (g5 * w5 + g7 * w7) * a_h1 * (1 - a_h1)\n"
            "    dE_dh2 = (g6 * w6 + g8 * w8)",
            "✗ ∂E/∂w1, ∂E/∂w2, ∂E/∂w3, ∂E/∂w4: back to a_h1 goes ∂E/∂o1 times w5, not ∂E/∂w5 times",
        ),
        (
            "(from_o1 * w5 + from_o2 * w7)",
            "(from_o1 * a_h1 + from_o2 * a_h1)",
            "✗ ∂E/∂w1, ∂E/∂w2: back to a_h1 goes ∂E/∂o1 times w5, not ∂E/∂w5 alone",
        ),
        (
            "(from_o1 * w6 + from_o2 * w8)",
            "(from_o1 + from_o2)",
            "the weights on the way back are missing: back to a_h1 goes ∂E/∂o1 times w5",
        ),
        ("i2 = inputs", "i2 = globals()['inputs']", "right for your numbers, wrong"),
        ("dE_dh1 * i1", "dE_dh1", "∂E/∂w1: the last factor, i1 or i2, is missing"),
        ("dE_dh1 * i1", "dE_dh1 * w1", "∂E/∂w1: the last factor is i1 or i2, not the"),
        ("dE_dh1 * i1", "dE_dh1 * a_h1", "∂E/∂w1: the last factor is i1 or i2, not a"),
        ("a_h2 * (1 - a_h2)", "a_h1 * (1 - a_h1)", "copied from the first hidden un"),
        ("from_o1 * w5 +", "from_o1 * w5 -", "wrong in one of the two paths"),
        ("(from_o1 * w6 +", "(-from_o1 * w6 +", "wrong in one of the two paths"),
        (
            "    from_o1 =",
            "    w5, w6 = (w - 0.5 * g for w, g in zip((w5, w6), output_gradients(inputs, targets,"
            " weights)))\n"
            "    w7, w8 = (w - 0.5 * g for w, g in zip((w7, w8), output_gradients(inputs, targets,"
            " weights)[2:]))\n    from_o1 =",
            "the error comes back through the old w5 … w8, not the new ones",
        ),
        (
            "    from_o1 =",
            "    slope = lambda a: np.exp(-a) / (1 + np.exp(-a)) ** 2\n"
            "    at_h1 = (a_o1 - t1) * slope(a_o1) * w5 + (a_o2 - t2) * slope(a_o2) * w7\n"
            "    return [at_h1 * slope(a_h1) * i for i in inputs] + [0, 0]\n    from_o1 =",
            "∂E/∂w1, ∂E/∂w2: both slopes are a (1 − a), with a = σ(sum)",
        ),
        (
            "    dE_dh1 =",
            "    slope = lambda a: 1 / (1 + np.exp(-a)) * (1 - 1 / (1 + np.exp(-a)))\n"
            "    return [(from_o1 * v + from_o2 * u) * slope(a) * i for v, u, a in ((w5, w7, a_h1),"
            " (w6, w8, a_h2)) for i in inputs]\n    dE_dh1 =",
            "the slope is σ′(h) = a_h (1 − a_h)",
        ),
        ("    return dE", "    return 4 * [0.1]; return dE", "the same whatever the"),
    ],
    "update": [
        ("w - rate * dE_dw", "w - dE_dw", "the learning rate is missing"),
        ("w - rate", "w + rate", "the sign is wrong: a step goes against the gradient"),
        ("w - rate", "-rate", "this is the step alone"),
        (
            "steps = gradients(inputs, targets, weights)",
            "after = [w - rate * s for w, s in zip(weights, gradients(inputs, targets, weights))]\n"
            "    first = hidden_gradients(inputs, targets, [*weights[:4], *after[4:]])\n"
            "    steps = [*first, *output_gradients(inputs, targets, weights)]",
            "w1⁺, w2⁺, w3⁺, w4⁺: updated weights are used too early",
        ),
        (
            "steps = gradients(inputs, targets, weights)",
            "after = [w - rate * s for w, s in zip(weights, gradients(inputs, targets, weights))]\n"
            "    last = output_gradients(inputs, targets, [*after[:4], *weights[4:]])\n"
            "    steps = [*hidden_gradients(inputs, targets, weights), *last]",
            "w5⁺, w6⁺, w7⁺, w8⁺: updated weights are used too early",
        ),
        (
            "return [w",
            "return weights - float(rate) * steps\n    return [w",
            "✗ update: Python does not calculate with a whole tuple or list: go through its "
            "numbers with `zip`, or make it an `np.array` (line 5)",
        ),
        ("return [w", "return weights - steps\n    return [w", "✗ update: Python does not ca"),
        ("return [w", "weights[0] = 1\n    return [w", "make it a list, `list(…)`, first (l"),
        ("w - rate *", "w - 0.5 *", "right for a learning rate of 0.5, wrong for others"),
        ("zip(weights", "zip(globals()['weights']", "right for your numbers, wrong for others"),
        ("w - rate * dE_dw", "rate * dE_dw", "this is the step alone"),
        (
            "    return",
            "    weights = [*weights]\n    for k in range(8):\n"
            "        weights[k] -= rate * gradients(inputs, targets, weights)[k]\n"
            "    return weights\n    return",
            "✗ w2⁺, w3⁺, w4⁺, w5⁺, w6⁺, w7⁺, w8⁺: updated weights are used too early",
        ),
        (
            "    return",
            "    weights = [*weights]\n    for k in reversed(range(8)):\n"
            "        weights[k] -= rate * gradients(inputs, targets, weights)[k]\n"
            "    return weights\n    return",
            "updated weights are used too early",
        ),
    ],
    "train": [
        ("weights = update(", "update(", "the weights never change"),
        ("[errors(inputs, targets, weights)[2]]", "[]; steps += 1", "one step too late"),
        ("weights, rate)", "weights, 1)", "the learning rate is missing"),
        ("weights, rate)", "weights, -rate)", "the sign is wrong: the error rises"),
        (
            "    for _ in range(steps):\n        weights = update(inputs, targets, weights, rate)",
            "    move = np.array(update(inputs, targets, weights, rate)) - weights\n"
            "    for _ in range(steps):\n        weights = weights + move",
            "every step takes the start's gradients",
        ),
        ("[2]]", "[2], 0]", "but returned 7"),
        (
            "[2]",
            "",
            "✗ train should return 6 numbers, E_total at step 0 … E_total at step 5: each entry "
            "should be one number, E_total; you gave three",
        ),
        ("weights, rate)", "weights, 0.5)", "right for a learning rate of 0.5, wrong for"),
        ("range(steps)", "range(5)", "should return 4 numbers, E_total at step 0"),
        ("weights)[2]", "weights)[0]", "this is E1 alone: return E_total"),
        ("weights)[2]", "weights)[1]", "this is E2 alone: return E_total"),
        (
            "    for _ in range(steps):",
            "    for k in range(steps):\n        rate = rate / (1 + k)",
            "right up to step 1",
        ),
        ("range(steps)", "range(steps - 1)", "✗ the last is missing"),
        ("range(steps)", "range(steps + 1)", "✗ the last is too many"),
        ("curve = [errors(inputs, targets, weights)[2]]", "curve = []", "✗ the first is missing"),
        (
            "        weights = update(inputs, targets, weights, rate)",
            "        if not curve[1:]:\n            start = weights\n"
            "        weights = update(inputs, targets, start, rate)",
            "every step begins at the start",
        ),
        ("curve.append(", "curve.add(", "train raised AttributeError: 'list' object has no"),
    ],
    "graph": [
        (', label=f"η = {rate}"', "", "no label names the curve of 0.1, 0.2, 0.5, 0.8, 1.0, 2.0"),
        ("axes.plot(curve", "axes.plot(curve[1:]", "the graph lacks the curves of 0.1, 0.2, 0.5"),
        (', ylabel="$E_{total}$"', "", "the labels of both axes are missing"),
        (
            "    axes.legend()\n",
            "",
            "✗ the curves have labels, but no legend shows them: call `axes.legend()` last",
        ),
        ('xlabel="step", ylabel="$E_{total}$"', 'xlabel="x", ylabel="y"', "labels of both"),
        ('xlabel="step", ylabel="$E_{total}$"', 'xlabel=" ", ylabel=" "', "labels of both"),
        (
            'xlabel="step", ylabel="$E_{total}$"',
            'xlabel="$E_{total}$", ylabel="step"',
            "the names of the axes are swapped",
        ),
        (
            'label=f"η = {rate}"',
            'label=f"η = {[*reversed(curves)][[*curves].index(rate)]}"',
            "the curve of 0.1 is called η = 2.0",
        ),
        (
            "    for rate, curve in curves.items():",
            "    axes.remove()\n    every = figure.subplots(2, 3).flat\n"
            "    for axes, (rate, curve) in zip(every, curves.items()):",
            "the curves are in several graphs: draw all of them in one",
        ),
        ("return figure", "return axes", "error_graph should return a Figure, but returned Axes"),
        ("return figure", "pass", "should return a Figure, but returned None"),
    ],
    "bias-gradients": [
        ("at_o1 + at_o2", "at_o1", "∂E/∂b2: a bias enters two units, and only the first"),
        ("at_h1 + at_h2", "at_h2", "∂E/∂b1: a bias enters two units, and only the second"),
        ("at_h1 + at_h2", "(at_h1 + at_h2) / 2", "add up; this is their mean"),
        ("return at_h1", "return -at_h1", "this is their difference"),
        (
            "return at_h1 + at_h2, at_o1 + at_o2",
            "g = gradients(inputs, targets, weights)\n    return sum(g[:4]), sum(g[4:])",
            "✗ ∂E/∂b1, ∂E/∂b2: a bias's gradient is the sum of ∂E/∂h1 and ∂E/∂h2, not of the",
        ),
        (
            "return at_h1 + at_h2, at_o1 + at_o2",
            "return (at_h1 + at_h2) * sum(inputs), (at_o1 + at_o2) * (a_h1 + a_h2)",
            "✗ ∂E/∂b1, ∂E/∂b2: a bias's gradient is the sum of ∂E/∂h1 and ∂E/∂h2, not of the",
        ),
        (
            "weights, biases)\n",
            "weights, (0.35, 0.60))\n",
            "right for biases of 0.35 and 0.60, wrong",
        ),
        ("at_h1 + at_h2", "at_h1 * inputs[0] + at_h2 * inputs[1]", "a bias has no input"),
        ("at_h1 + at_h2", "(at_h1 + at_h2) * inputs[0]", "a bias has no input"),
        ("at_o1 + at_o2", "at_o1 * a_h1 + at_o2 * a_h2", "a bias has no input"),
        ("at_o1 + at_o2", "(at_o1 + at_o2) * biases[1]", "is 1, not the bias"),
        ("weights, biases)\n", "weights)\n", "biases are missing in the forward pass"),
    ],
    "batch-gradients": [
        ("np.mean(rows", "np.sum(rows", "the mean over the batch is forgotten"),
        ("np.mean(rows, axis=0)", "rows[0]", "only the first example is counted"),
        ("np.mean(rows, axis=0)", "rows[-1]", "only the last example is counted"),
        (
            "rows = [gradients(i, t, weights) for i, t in zip(inputs, targets, strict=True)]",
            "rows = [gradients(inputs.mean(axis=0), targets.mean(axis=0), weights)]",
            "the gradients of the mean example, not the mean of the gradients",
        ),
        (
            "    rows =",
            "    return gradients(inputs, targets, weights)\n    rows =",
            "✗ batch_gradients: `gradients` takes one example; you gave it a table of several: "
            "loop over the rows (line 4)",
        ),
        ("np.mean(rows, axis=0)", "sum(map(np.array, rows)) / 6", "right for 6 exam"),
        ("zip(inputs, targets,", "zip(inputs[:3], targets[:3],", "right for 3 examp"),
        ("gradients(i, t, weights)", "gradients(i, t, globals()['weights'])", "right for your"),
        ("np.mean(rows, axis=0)", "np.sum(rows, axis=0) / 2", "number of examples"),
        ("np.mean(rows, axis=0)", "np.mean(rows, axis=1)", "should return 8 numbers, ∂"),
    ],
}
