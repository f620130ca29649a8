"""The usual slips in part 2: (answer cell, what is there, what stands there instead, hint)."""

import json
from dataclasses import asdict

from s4lib import BEST, History, MNISTNet
from s4lib.history import Epoch
from s4lib.runtime.checkpoint import load_weights, save_weights

MISTAKES = [
    ("network", "F.log_softmax(", "F.softmax(", "probabilities: end with log_softmax, not softmax"),
    (
        "network",
        "F.dropout(x.mean((2, 3)), 0.05, self.training)",
        "F.dropout(x.mean((2, 3)), 0, self.training)",
        "✗ no dropout at work",
    ),
    (
        "network",
        "F.dropout(x.mean((2, 3)), 0.05, self.training)",
        "F.dropout(x.mean((2, 3)), 0.05)",
        "✗ dropout at work in testing, too",
    ),
    ("network", "self.fc(x), dim=1", "self.fc(x), dim=0", "takes the images for the classes"),
    ("network", "F.log_softmax(self.fc(x), dim=1)", "self.fc(x)", "no log-probabilities"),
    ("network", "x.mean((2, 3))", "x.amax((2, 3))", "✗ no global average pooling at work"),
    ("fields", "(kernel - 1)", "kernel", "a kernel of k taps reaches k − 1 taps further, not k"),
    ("fields", "(kernel - 1) * jump", "(kernel - 1)", "the jump is forgotten"),
    (
        "fields",
        "field += (kernel - 1) * jump\n        jump *= stride",
        "jump *= stride\n        field += (kernel - 1) * jump",
        "a stride counts from the next layer on",
    ),
    ("fields", "jump *= stride", "jump += stride - 1", "strides multiply: after two of 2 the jump"),
    ("fields", "field, jump, sides = 1,", "field, jump, sides = 0,", "a field begins with 1"),
    ("fields", "* jump\n", "* jump * (kernel != stride)\n", "a pooling sees as much as its kernel"),
    ("fields", "jump *= stride", "jump *= stride; field *= stride", "multiplies the jump, not the"),
    ("by-hand", "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "[3, 5, 6]", "11 numbers are asked"),
    (
        "by-hand",
        "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
        "[3, 5, 6, 6, 8, 10, 11, 11, 13, 15, 17]",
        "the jump is forgotten",
    ),
    ("by-hand", "32, 40]", "28, 28]", "count on where the image ends"),
    (
        "by-hand",
        "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
        "[3, 5, 5, 5, 9, 13, 13, 13, 21, 29, 37]",
        "a pooling sees as much as its kernel is large",
    ),
    ("train-epoch", "        optimizer.zero_grad()\n", "", "zero_grad is forgotten"),
    ("train-epoch", "model.train()\n", "model\n", "model.train() is forgotten"),
    ("train-epoch", " * len(labels)", "", "✗ mean loss: not right, and none of the usual slips"),
    (
        "train-epoch",
        "loss.item() * len(labels)\n"
        "        correct += (log_probs.argmax(1) == labels).sum().item()\n"
        "        seen += len(labels)",
        "loss.item()\n"
        "        correct += (log_probs.argmax(1) == labels).float().mean().item()\n"
        "        seen += 1",
        "✗ mean loss, accuracy in %: the batches are of unequal size",
    ),
    (
        "train-epoch",
        "        optimizer.zero_grad()\n        loss.backward()\n",
        "        loss.backward()\n        optimizer.zero_grad()\n",
        "the weights never change: optimizer.step() is forgotten, or zero_grad comes before",
    ),
    ("train-epoch", "        optimizer.step()\n", "", "the weights never change: optimizer"),
    ("train-epoch", "F.nll_loss(log_probs,", "F.nll_loss(log_probs.exp(),", "given probabilities"),
    (
        "train-epoch",
        "F.nll_loss(log_probs, labels)",
        'F.nll_loss(log_probs, labels, reduction="sum")',
        "the loss of a batch is the mean over its images, not the sum",
    ),
    (
        "train-epoch",
        "loss.item() * len(labels)\n"
        "        correct += (log_probs.argmax(1) == labels).sum().item()\n"
        "        seen += len(labels)",
        "loss.item()\n"
        "        correct += (log_probs.argmax(1) == labels).float().mean().item()\n"
        "    seen = 1",
        "this is the sum of the batches' means",
    ),
    ("train-epoch", "100 * correct", "correct", "per cent are asked for, not a fraction"),
    ("train-epoch", "loss_sum / seen", "loss_sum", "this is the sum over all images: divide by"),
    (
        "train-epoch",
        "        loss_sum += loss.item()",
        "        log_probs = model(images)\n"
        "        loss_sum += F.nll_loss(log_probs, labels).item()",
        "loss and predictions are those before the step, not after it",
    ),
    (
        "train-epoch",
        "return loss_sum / seen, 100 * correct / seen",
        "return loss_sum / seen",
        "should return 2 numbers, mean loss, accuracy in %, but returned",
    ),
    ("test", "model.eval()", "model", "model.eval() is forgotten"),
    ("test", "torch.no_grad()", "torch.enable_grad()", "put it under torch.no_grad()"),
    (
        "test",
        'reduction="sum").item()',
        'reduction="mean").item()',
        "✗ mean loss: not right, and none of the usual slips",
    ),
    ("test", "100 * correct", "correct", "✗ accuracy in %: per cent are asked for"),
    (
        "test",
        "loss_sum / seen, 100 * correct / seen",
        "loss_sum / 3, 100 * correct / 3",
        "divide by the number of images, not of batches",
    ),
]


def write_run(folder) -> None:
    """A run that has reached the goal: the weights of `MNISTNet`, and a history that fits them."""
    model = load_weights(MNISTNet())
    own = (
        *("conv1", "norm1", "conv2", "norm2", "squeeze1", "norm3", "conv3", "norm4", "conv4"),
        *("norm5", "squeeze2", "norm6", "conv5", "conv6", "fc"),
    )
    layers = [
        layer for layer in model.modules() if layer.state_dict() and not any(layer.children())
    ]
    weights = {
        f"{name}.{part}": value
        for name, layer in zip(own, layers, strict=True)
        for part, value in layer.state_dict().items()
    }
    epochs = [Epoch(k, 0.01, 0.1, 99, 0.02, 99.56, 9956, 10_000, 9) for k in range(1, 20)]
    facts = "Net", 17_498, asdict(BEST), "MNIST", 0, "cpu", "float32", {}, epochs
    (folder / "run").mkdir(exist_ok=True)
    save_weights(folder / "run" / "weights.pt", weights)
    (folder / "run" / "history.json").write_text(json.dumps(asdict(History(*facts))))
