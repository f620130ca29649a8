"""The usual slips in part 2, by answer cell: (what is there, what stands there instead, hint)."""

import json
from dataclasses import asdict

import torch

from s4lib import BEST, History, MNISTNet
from s4lib.history import Epoch
from s4lib.runtime.checkpoint import load_weights, save_weights

MISTAKES = {
    "network": [
        ("F.log_softmax(", "F.softmax(", "probabilities: end with log_softmax, not softmax"),
        (
            "F.dropout(x.mean((2, 3)), 0.05, self.training)",
            "F.dropout(x.mean((2, 3)), 0, self.training)",
            "✗ no dropout at work",
        ),
        (
            "F.dropout(x.mean((2, 3)), 0.05, self.training)",
            "F.dropout(x.mean((2, 3)), 0.05)",
            "✗ dropout at work in testing as well",
        ),
        ("self.fc(x), dim=1", "self.fc(x), dim=0", "takes the images for the classes"),
        ("F.log_softmax(self.fc(x), dim=1)", "self.fc(x)", "not log-probabilities"),
        ("x.mean((2, 3))", "x.amax((2, 3))", "✗ no global average pooling at work"),
        (
            "return F.log_softmax(self.fc(x), dim=1)",
            "return F.dropout(F.log_softmax(self.fc(x), dim=1), 0.05, self.training)",
            "in training the outputs are not log-probabilities",
        ),
        ("F.log_softmax(self.fc(x)", "F.log_softmax(F.relu(self.fc(x))", "leave out the ReLU"),
        ("x.mean((2, 3))", "x", "Net raised RuntimeError: mat1 and mat2 shapes cannot be multi"),
        ("self.fc(x)", "self.fe(x)", "Net raised AttributeError: 'Net' object has no attribute"),
        (
            "        self.conv1 =",
            "        raise NotImplementedError()\n        self.conv1 =",
            "✗ Net is not written yet",
        ),
        (
            "        x = F.relu(self.norm1",
            "        raise NotImplementedError()\n        x = F.relu(self.norm1",
            "✗ Net is not written yet",
        ),
        ("self.fc = nn.Linear(32, 10)", "self.fc = nn.Linear(32, 9)", "(4, 9), not (4, 10)"),
    ],
    "fields": [
        ("(kernel - 1)", "kernel", "a kernel k wide reaches k − 1 positions further, not k"),
        ("(kernel - 1) * jump", "(kernel - 1)", "the jump is forgotten"),
        (
            "field += (kernel - 1) * jump\n        jump *= stride",
            "jump *= stride\n        field += (kernel - 1) * jump",
            "a stride counts from the next layer on",
        ),
        ("jump *= stride", "jump += stride - 1", "strides multiply: after two of 2 the jump"),
        ("field, jump, sides = 1,", "field, jump, sides = 0,", "a field begins with 1"),
        ("* jump\n", "* jump * (kernel != stride)\n", "a pooling sees as much as its kernel"),
        ("jump *= stride", "jump *= stride; field *= stride", "multiplies the jump, not the"),
        ("jump *= stride", "jump = stride", "the jump is not the last layer's stride alone"),
        ("jump *= stride", "jump += stride", "strides multiply: the jump is not their sum"),
        ("for kernel, stride in", "for stride, kernel in", "a layer is (kernel, stride), in"),
        ("append(field)", "append(min(field, 28))", "count the full square"),
        (
            "field += (kernel - 1) * jump",
            "field = (field - 1) * stride + kernel",
            "goes from the last layer back, not from the first on",
        ),
        (
            "field += (kernel - 1) * jump",
            "field = field * 2 if kernel == stride > 1 else field + (kernel - 1) * jump",
            "a pooling widens the field by (k − 1) jumps",
        ),
        ("in layers", "in layers[:6]", "fields should return 8 numbers, after layer 1, after"),
        ("return sides", "return sides[-1]", "should return 8 numbers, after layer 1"),
        ("in layers", "in [(3, 1)] * len(layers)", "the same whatever the arguments are"),
    ],
    "by-hand": [
        ("[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "[3, 5, 6]", "11 numbers are needed"),
        (
            "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
            "[3, 5, 6, 6, 8, 10, 11, 11, 13, 15, 17]",
            "the jump is forgotten",
        ),
        ("32, 40]", "28, 28]", "count the full square"),
        ("[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "{3: 5, 6: 7}", "but sees is {3: 5"),
        ("[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "40", "11 numbers are needed"),
        ("[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "None", "✗ sees is not written yet"),
        (
            "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
            "[3, 5, 7, 7, 11, 15, 17, 17, 25, 33, 41]",
            "this follows from what is wrong before it",
        ),
    ],
    "train-epoch": [
        ("        optimizer.zero_grad()\n", "", "zero_grad is forgotten"),
        ("model.train()\n", "model\n", "model.train() is forgotten"),
        (" * len(labels)", "", "✗ mean loss: a batch's loss is already a mean"),
        (
            "loss.item() * len(labels)\n"
            "        correct += (log_probs.argmax(1) == labels).sum().item()\n"
            "        seen += len(labels)",
            "loss.item()\n"
            "        correct += (log_probs.argmax(1) == labels).float().mean().item()\n"
            "        seen += 1",
            "✗ mean loss, accuracy in %: the batches are of unequal size",
        ),
        (
            "        optimizer.zero_grad()\n        loss.backward()\n",
            "        loss.backward()\n        optimizer.zero_grad()\n",
            "the weights never change: zero_grad() comes between backward() and step()",
        ),
        ("        optimizer.step()\n", "", "the weights never change: optimizer"),
        ("F.nll_loss(log_probs,", "F.nll_loss(log_probs.exp(),", "given probabilities"),
        (
            "F.nll_loss(log_probs, labels)",
            'F.nll_loss(log_probs, labels, reduction="sum")',
            "the loss of a batch is the mean over its images, not the sum",
        ),
        (
            "loss.item() * len(labels)\n"
            "        correct += (log_probs.argmax(1) == labels).sum().item()\n"
            "        seen += len(labels)",
            "loss.item()\n"
            "        correct += (log_probs.argmax(1) == labels).float().mean().item()\n"
            "    seen = 1",
            "this is the sum of the batches' means",
        ),
        ("100 * correct", "correct", "return per cent, not a fraction"),
        ("loss_sum / seen", "loss_sum", "this is the sum over all images: divide by"),
        (
            "        loss_sum += loss.item()",
            "        log_probs = model(images)\n"
            "        loss_sum += F.nll_loss(log_probs, labels).item()",
            "loss and predictions are those before the step, not after it",
        ),
        (
            "return loss_sum / seen, 100 * correct / seen",
            "return loss_sum / seen",
            "should return 2 numbers, mean loss, accuracy in %, but returned",
        ),
        ("        loss.backward()\n", "", "the weights never change: loss.backward() is mi"),
        (
            "        loss.backward()\n        optimizer.step()\n",
            "        optimizer.step()\n        loss.backward()\n",
            "the weights never change: optimizer.step() comes before loss.backward()",
        ),
        (
            "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n",
            "        optimizer.step()\n        optimizer.zero_grad()\n        loss.backward()\n",
            "train_epoch raised RuntimeError: one of the variables needed",
        ),
        (
            "        log_probs = model(images)\n"
            "        loss = F.nll_loss(log_probs, labels)\n"
            "        optimizer.zero_grad()\n"
            "        loss.backward()\n"
            "        optimizer.step()\n",
            "        optimizer.step()\n"
            "        log_probs = model(images)\n"
            "        loss = F.nll_loss(log_probs, labels)\n"
            "        optimizer.zero_grad()\n"
            "        loss.backward()\n",
            "optimizer.step() comes before loss.backward(): it takes the last batch's",
        ),
        (
            "    model.train()\n",
            "    model.train()\n    optimizer = torch.optim.SGD(model.parameters(), 0.05)\n",
            "take the steps with the optimizer that is given",
        ),
        ("in batches:", "in [*batches, *batches]:", "goes through the batches twice"),
        (
            "return loss_sum / seen, 100 * correct / seen",
            "return loss.item(), 100 * (log_probs.argmax(1) == labels).float().mean()",
            "this counts only the last batch",
        ),
        ("    return", "        return", "this counts only the first batch: does return stand"),
        ("return loss_sum / seen,", "return round(loss_sum / seen, 2),", "rounded to 2 dig"),
        ("seen += len(labels)", "seen += 64", "batch's size is len(labels), not a fixed"),
        ("100 * correct / seen", "correct", "not the number of correct images"),
        ("100 * correct / seen", "100 - 100 * correct / seen", "this is the share of mist"),
        ("return loss_sum / seen", "return -loss_sum / seen", "the loss is −log p, which is"),
        ("model.train()", "model.eval()", "model.train() is forgotten"),
        ("F.nll_loss(log_probs, labels)", "F.nll_loss(log_probs)", "raised TypeError: nll_"),
        ("    model.train()\n", "    raise NotImplementedError\n", "is not written yet"),
    ],
    "test": [
        ("model.eval()", "model", "model.eval() is forgotten"),
        ("torch.no_grad()", "torch.enable_grad()", "put it under torch.no_grad()"),
        (
            'reduction="sum").item()',
            'reduction="mean").item()',
            "mean loss: a batch's loss is already",
        ),
        ("loss_sum / seen,", "round(loss_sum / seen, 3),", "✗ mean loss: rounded to 3 digits"),
        ("in batches:", "in batches[:-1]:", "accuracy in %: not right"),
        ("model.eval()", "model.double()", "test raised RuntimeError: "),
        ("model.eval()", "model.eval(); model[1].weight.data *= 0.9", "✗ weights: not right"),
    ],
}


CORRECT = 9947  # test images of MNIST that the weights of `write_run` predict


def write_run(folder) -> None:
    """A run that has reached the goal: weights of the solution's network, and a fitting history.

    The weights are those that ship, with noise: far enough off not to be known, near enough to do.
    """
    model = load_weights(MNISTNet())
    own = (
        *("conv1", "norm1", "conv2", "norm2", "squeeze1", "norm3", "conv3", "norm4", "conv4"),
        *("norm5", "squeeze2", "norm6", "conv5", "conv6", "fc"),
    )
    layers = [
        layer for layer in model.modules() if layer.state_dict() and not any(layer.children())
    ]
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data += 0.004 * torch.randn(parameter.shape, generator=generator)
    weights = {
        f"{name}.{part}": value
        for name, layer in zip(own, layers, strict=True)
        for part, value in layer.state_dict().items()
    }
    accuracy = CORRECT / 100
    epochs = [Epoch(k, 0.01, 0.1, 99, 0.02, accuracy, CORRECT, 10_000, 9.0) for k in range(1, 20)]
    facts = "Net", 17_498, asdict(BEST), "MNIST", 0, "cpu", "float32", {}, epochs
    (folder / "run").mkdir(exist_ok=True)
    save_weights(folder / "run" / "weights.pt", weights)
    (folder / "run" / "history.json").write_text(json.dumps(asdict(History(*facts))))
