"""The usual slips in part 1: (answer cell, what is there, what stands there instead, hint)."""

MISTAKES = [
    (
        "forward",
        "a_o2 = 1 / (1 + np.exp(-o2))",
        "a_o2 = o2",
        "a_o2: the sigmoid is missing",
    ),
    ("forward", "np.exp(-h1)", "np.exp(h1)", "a_h1: the sign in the exponent is wrong"),
    (
        "forward",
        "a_h1 = 1 / (1 + np.exp(-h1))",
        "a_h1 = h1",
        "o1, o2, a_o1, a_o2: this follows from",
    ),
    ("errors", "(t1 - a_o1) ** 2 / 2", "(t1 - a_o1) ** 2", "E_total: this follows from"),
    ("forward", "a_h1 = 1 / (1 + np.exp(-h1))", "a_h1 = h1", "a_h1: the sigmoid is missing"),
    ("forward", "np.exp(-o2)", "np.exp(o2)", "a_o2: the sign in the exponent is wrong"),
    (
        "forward",
        "h1 = w1 * i1 + w2 * i2 + b1",
        "h1 = w1 * i1 + w3 * i2 + b1",
        "w2 and w3 are swapped",
    ),
    ("forward", "o1 = w5 * a_h1 + w6", "o1 = w5 * a_h1 + w7", "w6 and w7 are swapped"),
    (
        "forward",
        "o1 = w5 * a_h1 + w6 * a_h2",
        "o1 = w6 * a_h1 + w5 * a_h2",
        "w5 and w6 are swapped",
    ),
    ("forward", "+ w2 * i2 + b1", "+ w2 * i2", "h1: the biases are missing"),
    (
        "forward",
        "return h1, h2, a_h1, a_h2",
        "return h1, a_h1, h2, a_h2",
        "h2: this is the value of a_h1",
    ),
    ("forward", "return h1, h2,", "return", "should return 8 numbers, h1, h2, a_h1, a_h2, o1"),
    ("errors", "(t1 - a_o1) ** 2 / 2", "(t1 - a_o1) ** 2", "E1: the ½ is missing"),
    ("errors", "(t2 - a_o2) ** 2 / 2", "(t2 - a_o2) / 2", "E2: the square is missing"),
    ("errors", "E1 + E2", "(E1 + E2) / 2", "E_total: E_total is the sum, not the mean"),
    ("errors", "*_, a_o1, a_o2", "*_, a_o1, a_o2, _, _", "of a_o1 and a_o2, not of o1 and o2"),
    ("output-gradients", "(a_o1 - t1)", "(t1 - a_o1)", "∂E/∂w5, ∂E/∂w6: the sign is wrong"),
    ("output-gradients", "(a_o2 - t2)", "2 * (a_o2 - t2)", "∂E/∂w7, ∂E/∂w8: twice too large"),
    ("output-gradients", "(a_o2 - t2)", "(a_o2 - t2) / 2", "half of what it should be"),
    (
        "output-gradients",
        " * a_o1 * (1 - a_o1)",
        "",
        "the slope of the output's sigmoid, a_o (1 − a_o)",
    ),
    ("output-gradients", "a_o2 * (1 - a_o2)", "o2 * (1 - o2)", "a_o (1 − a_o), not o (1 − o)"),
    (
        "output-gradients",
        "dE_do1 * a_h2, dE_do2 * a_h1",
        "dE_do2 * a_h1, dE_do1 * a_h2",
        "∂E/∂w6: this is the value of ∂E/∂w7",
    ),
    ("hidden-gradients", "from_o1 * w5 + from_o2 * w7", "from_o1 * w5", "only the path through o1"),
    ("hidden-gradients", "from_o1 * w6 + from_o2 * w8", "from_o2 * w8", "only the path through o2"),
    (
        "hidden-gradients",
        "from_o2 * w7) * a_h1 * (1 - a_h1)\n    dE_dh2 = (from_o1 * w6",
        "from_o2 * w6) * a_h1 * (1 - a_h1)\n    dE_dh2 = (from_o1 * w7",
        "∂E/∂w1, ∂E/∂w2, ∂E/∂w3, ∂E/∂w4: w6 and w7 are swapped on the way back",
    ),
    ("hidden-gradients", "from_o1 * w5", "from_o1 * w6", "∂E/∂w1, ∂E/∂w2: w5 and w6 are swapped"),
    (
        "hidden-gradients",
        "* a_h1 * (1 - a_h1)",
        "",
        "the slope of the hidden unit's sigmoid, a_h (1",
    ),
    ("hidden-gradients", "a_h2 * (1 - a_h2)", "h2 * (1 - h2)", "a_h (1 − a_h), not h (1 − h)"),
    (
        "hidden-gradients",
        "a_o2 * (1 - a_o2)\n    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * a_h1 * (1 - a_h1)",
        "1\n    from_o1 = a_o1 - t1\n    dE_dh1 = from_o1 * w5 + from_o2 * w7",
        "∂E/∂w1, ∂E/∂w2: the slopes of both sigmoids, a (1 − a), are missing",
    ),
    (
        "hidden-gradients",
        "    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * a_h1 * (1 - a_h1)",
        "    from_o1, from_o2 = (a_o1 - t1) * o1 * (1 - o1), (a_o2 - t2) * o2 * (1 - o2)\n"
        "    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * h1 * (1 - h1)",
        "∂E/∂w1, ∂E/∂w2: both slopes are a (1 − a), of the sigmoid and not of the sum",
    ),
    (
        "hidden-gradients",
        "dE_dh1 * i2, dE_dh2 * i1",
        "dE_dh2 * i1, dE_dh1 * i2",
        "∂E/∂w3: this is the value of ∂E/∂w2",
    ),
    ("update", "w - rate * dE_dw", "w - dE_dw", "the learning rate is missing"),
    ("update", "w - rate", "w + rate", "the sign is wrong: a step goes against the gradient"),
    ("update", "w - rate", "-rate", "this is the step alone"),
    (
        "update",
        "steps = gradients(inputs, targets, weights)",
        "after = [w - rate * s for w, s in zip(weights, gradients(inputs, targets, weights))]\n"
        "    first = hidden_gradients(inputs, targets, [*weights[:4], *after[4:]])\n"
        "    steps = [*first, *output_gradients(inputs, targets, weights)]",
        "w1⁺, w2⁺, w3⁺, w4⁺: updated weights are used too early",
    ),
    (
        "update",
        "steps = gradients(inputs, targets, weights)",
        "after = [w - rate * s for w, s in zip(weights, gradients(inputs, targets, weights))]\n"
        "    last = output_gradients(inputs, targets, [*after[:4], *weights[4:]])\n"
        "    steps = [*hidden_gradients(inputs, targets, weights), *last]",
        "w5⁺, w6⁺, w7⁺, w8⁺: updated weights are used too early",
    ),
    ("train", "weights = update(", "update(", "the weights never change"),
    (
        "train",
        "curve = [errors(inputs, targets, weights)[2]]",
        "curve = []; steps += 1",
        "one step too late",
    ),
    ("train", "weights, rate)", "weights, 1)", "the learning rate is missing"),
    ("train", "weights, rate)", "weights, -rate)", "the sign is wrong: the error rises"),
    (
        "train",
        "    for _ in range(steps):\n        weights = update(inputs, targets, weights, rate)",
        "    move = np.array(update(inputs, targets, weights, rate)) - weights\n"
        "    for _ in range(steps):\n        weights = weights + move",
        "every step takes the start's gradients",
    ),
    ("train", "[2]]", "[2], 0]", "but returned 7"),
    (
        "graph",
        ', label=f"η = {rate}"',
        "",
        "no label names the curve of 0.1, 0.2, 0.5, 0.8, 1.0, 2.0",
    ),
    (
        "graph",
        "axes.plot(curve",
        "axes.plot(curve[1:]",
        "the graph lacks the curves of 0.1, 0.2, 0.5, 0.8, 1.0, 2.0",
    ),
    ("graph", ', ylabel="$E_{total}$"', "", "the labels of both axes are missing"),
    (
        "bias-gradients",
        "at_o1 + at_o2",
        "at_o1",
        "∂E/∂b2: a bias enters two units, and only the first",
    ),
    (
        "bias-gradients",
        "at_h1 + at_h2",
        "at_h2",
        "∂E/∂b1: a bias enters two units, and only the second",
    ),
    ("bias-gradients", "at_h1 + at_h2", "(at_h1 + at_h2) / 2", "add up; this is their mean"),
    ("bias-gradients", "return at_h1", "return -at_h1", "this is their difference"),
    (
        "bias-gradients",
        "at_h1 + at_h2",
        "3 * at_h1 + at_h2 ** 2",
        "not right, and none of the usual slips",
    ),
    ("batch-gradients", "np.mean(rows", "np.sum(rows", "the mean over the batch is forgotten"),
    ("batch-gradients", "np.mean(rows, axis=0)", "rows[0]", "only the first example is counted"),
    ("batch-gradients", "np.mean(rows, axis=0)", "rows[-1]", "only the last example is counted"),
    (
        "batch-gradients",
        "rows = [gradients(i, t, weights) for i, t in zip(inputs, targets, strict=True)]",
        "rows = [gradients(inputs.mean(axis=0), targets.mean(axis=0), weights)]",
        "the gradients of the mean example, not the mean of the gradients",
    ),
    (
        "hidden-gradients",
        "    dE_dh1 = (from_o1 * w5 + from_o2 * w7) * a_h1 * (1 - a_h1)\n"
        "    dE_dh2 = (from_o1 * w6 + from_o2 * w8)",
        "    g5, g6, g7, g8 = output_gradients(inputs, targets, weights)\n"
        "    dE_dh1 = (g5 * w5 + g7 * w7) * a_h1 * (1 - a_h1)\n"
        "    dE_dh2 = (g6 * w6 + g8 * w8)",
        "✗ ∂E/∂w1, ∂E/∂w2, ∂E/∂w3, ∂E/∂w4: back to a_h1 goes ∂E/∂o1 times w5, not ∂E/∂w5 times w5",
    ),
    (
        "hidden-gradients",
        "(from_o1 * w5 + from_o2 * w7)",
        "(from_o1 * a_h1 + from_o2 * a_h1)",
        "✗ ∂E/∂w1, ∂E/∂w2: back to a_h1 goes ∂E/∂o1 times w5, not ∂E/∂w5 alone",
    ),
    (
        "hidden-gradients",
        "(from_o1 * w6 + from_o2 * w8)",
        "(from_o1 + from_o2)",
        "the weights on the way back are missing: back to a_h1 goes ∂E/∂o1 times w5",
    ),
    *(
        (
            "bias-gradients",
            "return at_h1 + at_h2, at_o1 + at_o2",
            f"g = {source}\n    return sum(g[:4]), sum(g[4:])",
            "✗ ∂E/∂b1, ∂E/∂b2: a bias's gradient is the sum of ∂E/∂h1 and ∂E/∂h2, not of the "
            "weights' gradients",
        )
        for source in (
            "gradients(inputs, targets, weights)",
            "[at_h1 * i for i in inputs] + [at_h2 * i for i in inputs]\n"
            "    g += [at * a for at in (at_o1, at_o2) for a in (a_h1, a_h2)]",
        )
    ),
    # What Python says of a mistake is no help.
    (
        "errors",
        "(t1 - a_o1) ** 2 / 2",
        "(t1 - a_o1)^2 / 2",
        "✗ errors: in Python, a power is `**`, not `^` (line ",
    ),
    ("errors", "(t1 - a_o1) ** 2 / 2", "(t1 - float(a_o1)) ^ 2", "is `**`, not `^` (line "),
    (
        "update",
        "return [w",
        "return weights - float(rate) * steps\n    return [w",
        "✗ update: Python does not calculate with a whole tuple or list: go through its numbers "
        "with `zip`, or make it an `np.array` (line 5)",
    ),
    (
        "update",
        "return [w",
        "return weights - steps\n    return [w",
        "✗ update: Python does not ca",
    ),
    ("update", "return [w", "weights[0] = 1\n    return [w", "make it a list, `list(…)`, first (l"),
    (
        "batch-gradients",
        "    rows =",
        "    return gradients(inputs, targets, weights)\n    rows =",
        "✗ batch_gradients: `gradients` takes one example; you gave it a table of several: loop "
        "over the rows (line 4)",
    ),
    (
        "train",
        "[2]",
        "",
        "✗ train should return 6 numbers, E_total at step 0 … E_total at step 5: each entry should "
        "be one number, E_total; you gave three",
    ),
    (
        "graph",
        "    axes.legend()\n",
        "",
        "✗ the curves have labels, but no legend shows them: call `axes.legend()` last",
    ),
    # The same slip in two places is one slip.
    (
        "forward",
        "np.exp(-",
        "np.exp(",
        "✗ a_h1, a_h2, a_o1, a_o2: the sign in the exponent is wrong",
    ),
    ("forward", "1 / (1 + np.exp", "1 / 1 + (np.exp", "a_h1, a_h2, a_o1, a_o2: 1 / 1 + e^−x is 1"),
    ("forward", "1 / (1 + np.exp(-", "np.tanh((", "a_h1, a_h2, a_o1, a_o2: this is tanh"),
    ("forward", "1 / (1 + np.exp(-", "max(0, (", "a_o1, a_o2: this is ReLU"),
    ("errors", " ** 2 / 2", " ** 2", "✗ E1, E2, E_total: the ½ is missing"),
    ("output-gradients", "(a_o", "-(a_o", "✗ ∂E/∂w5, ∂E/∂w6, ∂E/∂w7, ∂E/∂w8: the sign is wrong"),
    # Arguments are used, all of them.
    ("forward", "i1, i2 = inputs", "i1, i2 = globals()['inputs']", "right for your numbers, wrong"),
    ("forward", "w8 = weights", "w8 = globals()['weights']", "right for your numbers, wrong for"),
    ("forward", "b1, b2 = biases", "b1, b2 = 0.35, 0.60", "✗ h1, h2, o1, o2: "),
    (
        "errors",
        "t1, t2 = targets",
        "t1, t2 = globals()['targets']",
        "right for your numbers, wrong",
    ),
    ("errors", "forward(inputs,", "forward(globals()['inputs'],", "right for your numbers, wrong"),
    ("output-gradients", "t2 = targets", "t2 = globals()['targets']", "right for your numbers"),
    (
        "hidden-gradients",
        "i2 = inputs",
        "i2 = globals()['inputs']",
        "right for your numbers, wrong",
    ),
    ("update", "w - rate *", "w - 0.5 *", "right for a learning rate of 0.5, wrong for others"),
    (
        "update",
        "zip(weights",
        "zip(globals()['weights']",
        "right for your numbers, wrong for others",
    ),
    ("train", "weights, rate)", "weights, 0.5)", "right for a learning rate of 0.5, wrong for"),
    ("train", "range(steps)", "range(5)", "should return 4 numbers, E_total at step 0"),
    (
        "bias-gradients",
        "weights, biases)\n",
        "weights, (0.35, 0.60))\n",
        "right for biases of 0.35 and 0.60, wrong for others",
    ),
    (
        "batch-gradients",
        "np.mean(rows, axis=0)",
        "sum(map(np.array, rows)) / 6",
        "right for 6 exam",
    ),
    (
        "batch-gradients",
        "zip(inputs, targets,",
        "zip(inputs[:3], targets[:3],",
        "right for 3 examp",
    ),
    (
        "batch-gradients",
        "gradients(i, t, weights)",
        "gradients(i, t, globals()['weights'])",
        "right",
    ),
    # Forward
    ("forward", "1 / (1 + np.exp(-h1))", "round(1 / (1 + np.exp(-h1)), 4)", "a_h1: rounded to 4 d"),
    (
        "forward",
        "return h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2",
        "return np.round([h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2], 4)",
        "rounded to 4 digits: return all of them",
    ),
    ("forward", "b1, b2 = biases", "b2, b1 = biases", "✗ h1, h2, o1, o2: b1 and b2 are swapped"),
    ("forward", "+ w2 * i2 + b1", "+ w2 * i2 + b1 * i1", "✗ h1: a bias is added as it is"),
    ("forward", "+ w2 * i2 + b1", "+ w2 * i2 + b1 * i2", "✗ h1: a bias is added as it is"),
    (
        "forward",
        "w1 * i1 + w2 * i2 + b1",
        "(w1 + b1) * i1 + (w2 + b1) * i2",
        "✗ h1: a bias is added as it is",
    ),
    ("forward", "+ w8 * a_h2 + b2", "+ w8 * a_h2 + 2 * b2", "a unit's bias is added once"),
    (
        "forward",
        "w5 * a_h1 + w6 * a_h2",
        "w5 * i1 + w6 * i2",
        "add up a_h1 and a_h2, not i1 and i2",
    ),
    (
        "forward",
        "w5 * a_h1 + w6 * a_h2",
        "w5 * h1 + w6 * h2",
        "add up a_h1 and a_h2, not h1 and h2",
    ),
    ("forward", "w1 * i1 + w2 * i2", "w1 * i2 + w2 * i1", "h1: each weight has the other input"),
    ("forward", "w7 * a_h1 + w8 * a_h2", "w8 * a_h1 + w7 * a_h2", "o2: w7 and w8 are swapped"),
    (
        "forward",
        "return h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2",
        "print(h1, h2, a_h1, a_h2, o1, o2, a_o1, a_o2)",
        "but returned None: is its return missing?",
    ),
    (
        "forward",
        "    h1 = w1",
        "    raise NotImplementedError()\n    h1 = w1",
        "is not written yet",
    ),
    (
        "forward",
        "    h1 = w1",
        "    h1 = W1",
        "forward raised NameError: name 'W1' is not defined (l",
    ),
    ("forward", "    return h1", "    return [h1, h2][2]", "forward raised IndexError: list index"),
    # Errors
    ("errors", "t1, t2 = targets", "t2, t1 = targets", "E1, E2, E_total: the targets are swapped"),
    (
        "errors",
        "(t1 - a_o1) ** 2 / 2",
        "-t1 * np.log(a_o1) - (1 - t1) * np.log(1 - a_o1)",
        "E1: this is the cross-entropy",
    ),
    ("errors", "(t1 - a_o1) ** 2 / 2", "abs(t1 - a_o1)", "E1: square and ½ are missing"),
    ("errors", "(t2 - a_o2) ** 2 / 2", "abs(t2 - a_o2) / 2", "E2: the square is missing"),
    ("errors", "(t1 - a_o1) ** 2 / 2", "1 // 2 * (t1 - a_o1) ** 2", "E1: this is always 0"),
    ("errors", " ** 2 / 2", " ** 2 * (1 // 2)", "E1, E2, E_total: this is always 0"),
    ("errors", "(t1 - a_o1) ** 2 / 2", "((t1 - a_o1) / 2) ** 2", "the ½ comes outside"),
    (
        "errors",
        "return E1, E2, E1 + E2",
        "return E1 + E2",
        "should return 3 numbers, E1, E2, E_total",
    ),
    ("errors", "    E1 = (t1", "    E1 = forward(inputs)(t1", "errors raised TypeError: "),
    # Gradients of the output layer
    ("output-gradients", "dE_do1 * a_h1", "dE_do1", "∂E/∂w5: the last factor, a_h, is missing"),
    ("output-gradients", "dE_do1 * a_h1", "dE_do1 * h1", "∂E/∂w5: the last factor is a_h, not h"),
    ("output-gradients", "dE_do1 * a_h1", "dE_do1 * weights[4]", "is a_h, not the weight"),
    ("output-gradients", "dE_do1 * a_h1", "dE_do1 * inputs[0]", "is a_h, not the input"),
    (
        "output-gradients",
        "(a_o1 - t1) * a_o1 * (1 - a_o1)",
        "(a_o1 - t1) / (1 + np.exp(-a_o1)) * (1 - 1 / (1 + np.exp(-a_o1)))",
        "∂E/∂w5, ∂E/∂w6: the slope is σ′(o) = a_o (1 − a_o)",
    ),
    ("output-gradients", "* a_o1 * (1 - a_o1)", "* a_o1 * a_o1", "a factor of it is missing"),
    ("output-gradients", "* a_o1 * (1 - a_o1)", "* a_o1", "a factor of it is missing"),
    ("output-gradients", "* a_o1 * (1 - a_o1)", "* (1 - a_o1)", "a factor of it is missing"),
    ("output-gradients", "* a_o1 * (1 - a_o1)", "* (1 - a_o1 ** 2)", "is the slope of tanh"),
    ("output-gradients", "* a_o1 * (1 - a_o1)", "* a_o1 * 1 - a_o1", "✗ ∂E/∂w5, ∂E/∂w6: "),
    (
        "output-gradients",
        "a_o2 * (1 - a_o2)",
        "a_o1 * (1 - a_o1)",
        "was copied from the first output",
    ),
    (
        "output-gradients",
        "(a_o2 - t2) * a_o2 * (1 - a_o2)",
        "(a_o1 - t1) * a_o1 * (1 - a_o1)",
        "∂E/∂w7",
    ),
    ("output-gradients", "(a_o2 - t2)", "(a_o1 - t2)", "was copied from the first output"),
    ("output-gradients", "t1, t2 = targets", "t2, t1 = targets", "the targets are swapped"),
    (
        "output-gradients",
        "    dE_do1 = (a_o1 - t1) * a_o1 * (1 - a_o1)",
        "    def E(k):\n"
        "        nudged = [w + 1e-3 * (j == k) for j, w in enumerate(weights)]\n"
        "        return errors(inputs, targets, nudged)[2]\n"
        "    return [(E(k) - E(None)) / 1e-3 for k in range(4, 8)]\n"
        "    dE_do1 = (a_o1 - t1) * a_o1 * (1 - a_o1)",
        "nearly right: rounded on the way, or a difference quotient",
    ),
    ("output-gradients", "return dE_do1", "return 1, dE_do1", "4 numbers, ∂E/∂w5, ∂E/∂w6"),
    # Gradients of the hidden layer
    ("hidden-gradients", "dE_dh1 * i1", "dE_dh1", "∂E/∂w1: the last factor, i1 or i2, is missing"),
    (
        "hidden-gradients",
        "dE_dh1 * i1",
        "dE_dh1 * w1",
        "∂E/∂w1: the last factor is i1 or i2, not the",
    ),
    (
        "hidden-gradients",
        "dE_dh1 * i1",
        "dE_dh1 * a_h1",
        "∂E/∂w1: the last factor is i1 or i2, not a",
    ),
    (
        "hidden-gradients",
        "a_h2 * (1 - a_h2)",
        "a_h1 * (1 - a_h1)",
        "copied from the first hidden un",
    ),
    ("hidden-gradients", "from_o1 * w5 +", "from_o1 * w5 -", "wrong in one of the two paths"),
    ("hidden-gradients", "(from_o1 * w6 +", "(-from_o1 * w6 +", "wrong in one of the two paths"),
    (
        "hidden-gradients",
        "(from_o1 * w5 + from_o2 * w7)",
        "(from_o1 * w5 + from_o2 * w7) / 2",
        "half of what it should be",
    ),
    (
        "hidden-gradients",
        "    from_o1 =",
        "    w5, w6 = (w - 0.5 * g for w, g in zip((w5, w6), output_gradients(inputs, targets,"
        " weights)))\n"
        "    w7, w8 = (w - 0.5 * g for w, g in zip((w7, w8), output_gradients(inputs, targets,"
        " weights)[2:]))\n    from_o1 =",
        "the error comes back through the old w5 … w8, not the new ones",
    ),
    (
        "hidden-gradients",
        "    dE_dh1 =",
        "    slope = lambda a: 1 / (1 + np.exp(-a)) * (1 - 1 / (1 + np.exp(-a)))\n"
        "    return [(from_o1 * v + from_o2 * u) * slope(a) * i for v, u, a in ((w5, w7, a_h1),"
        " (w6, w8, a_h2)) for i in inputs]\n    dE_dh1 =",
        "the slope is σ′(h) = a_h (1 − a_h)",
    ),
    ("hidden-gradients", "t1, t2 = targets", "t2, t1 = targets", "the targets are swapped"),
    (
        "hidden-gradients",
        "    return dE",
        "    return 4 * [0.1]; return dE",
        "the same whatever the",
    ),
    # Update and training
    ("update", "w - rate * dE_dw", "rate * dE_dw", "this is the step alone"),
    (
        "update",
        "    return",
        "    weights = [*weights]\n    for k in range(8):\n"
        "        weights[k] -= rate * gradients(inputs, targets, weights)[k]\n"
        "    return weights\n    return",
        "✗ w2⁺, w3⁺, w4⁺, w5⁺, w6⁺, w7⁺, w8⁺: updated weights are used too early",
    ),
    (
        "update",
        "    return",
        "    weights = [*weights]\n    for k in reversed(range(8)):\n"
        "        weights[k] -= rate * gradients(inputs, targets, weights)[k]\n"
        "    return weights\n    return",
        "updated weights are used too early",
    ),
    ("train", "weights)[2]", "weights)[0]", "this is E1 alone: return E_total"),
    ("train", "weights)[2]", "weights)[1]", "this is E2 alone: return E_total"),
    (
        "train",
        "    for _ in range(steps):",
        "    for k in range(steps):\n        rate = rate / (1 + k)",
        "right up to step 1",
    ),
    ("train", "range(steps)", "range(steps - 1)", "✗ the last is missing"),
    ("train", "range(steps)", "range(steps + 1)", "✗ the last is too many"),
    (
        "train",
        "curve = [errors(inputs, targets, weights)[2]]",
        "curve = []",
        "✗ the first is missing",
    ),
    (
        "train",
        "        weights = update(inputs, targets, weights, rate)",
        "        if not curve[1:]:\n            start = weights\n"
        "        weights = update(inputs, targets, start, rate)",
        "every step begins at the start",
    ),
    ("train", "curve.append(", "curve.add(", "train raised AttributeError: 'list' object has no"),
    # The graph
    ("graph", 'xlabel="step", ylabel="$E_{total}$"', 'xlabel="x", ylabel="y"', "labels of both"),
    ("graph", 'xlabel="step", ylabel="$E_{total}$"', 'xlabel=" ", ylabel=" "', "labels of both"),
    (
        "graph",
        'xlabel="step", ylabel="$E_{total}$"',
        'xlabel="$E_{total}$", ylabel="step"',
        "the names of the axes are swapped",
    ),
    (
        "graph",
        'label=f"η = {rate}"',
        'label=f"η = {[*reversed(curves)][[*curves].index(rate)]}"',
        "the curve of 0.1 is called η = 2.0",
    ),
    (
        "graph",
        "    for rate, curve in curves.items():",
        "    axes.remove()\n    every = figure.subplots(2, 3).flat\n"
        "    for axes, (rate, curve) in zip(every, curves.items()):",
        "the curves are in several graphs: draw all of them in one",
    ),
    (
        "graph",
        "return figure",
        "return axes",
        "error_graph should return a Figure, but returned Axes",
    ),
    ("graph", "return figure", "pass", "should return a Figure, but returned None"),
    ("graph", "curves.items()", "CURVES.items()", "error_graph raised NameError: name 'CURVES'"),
    ("graph", "    for rate", "    raise NotImplementedError()\n    for rate", "not written yet"),
    # The biases, a batch
    (
        "bias-gradients",
        "at_h1 + at_h2",
        "at_h1 * inputs[0] + at_h2 * inputs[1]",
        "a bias has no input",
    ),
    ("bias-gradients", "at_h1 + at_h2", "(at_h1 + at_h2) * inputs[0]", "a bias has no input"),
    ("bias-gradients", "at_o1 + at_o2", "at_o1 * a_h1 + at_o2 * a_h2", "a bias has no input"),
    ("bias-gradients", "at_o1 + at_o2", "(at_o1 + at_o2) * biases[1]", "is 1, not the bias"),
    (
        "bias-gradients",
        "weights, biases)\n",
        "weights)\n",
        "biases are missing in the forward pass",
    ),
    (
        "bias-gradients",
        "return at_h1 + at_h2, at_o1 + at_o2",
        "return at_o1 + at_o2, at_h1 + at_h2",
        "✗ ∂E/∂b1: this is the value of ∂E/∂b2",
    ),
    ("batch-gradients", "np.mean(rows, axis=0)", "np.sum(rows, axis=0) / 2", "number of examples"),
    (
        "batch-gradients",
        "np.mean(rows, axis=0)",
        "np.mean(rows, axis=1)",
        "should return 8 numbers, ∂",
    ),
]
