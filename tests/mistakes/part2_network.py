"""The usual slips in part 2: (answer cell, what is there, what stands there instead, hint)."""

import json
from dataclasses import asdict

import torch

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
        "✗ dropout at work in testing as well",
    ),
    ("network", "self.fc(x), dim=1", "self.fc(x), dim=0", "takes the images for the classes"),
    ("network", "F.log_softmax(self.fc(x), dim=1)", "self.fc(x)", "not log-probabilities"),
    ("network", "x.mean((2, 3))", "x.amax((2, 3))", "✗ no global average pooling at work"),
    ("fields", "(kernel - 1)", "kernel", "a kernel k wide reaches k − 1 positions further, not k"),
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
    ("by-hand", "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "[3, 5, 6]", "11 numbers are needed"),
    (
        "by-hand",
        "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
        "[3, 5, 6, 6, 8, 10, 11, 11, 13, 15, 17]",
        "the jump is forgotten",
    ),
    ("by-hand", "32, 40]", "28, 28]", "count the full square"),
    (
        "by-hand",
        "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
        "[3, 5, 5, 5, 9, 13, 13, 13, 21, 29, 37]",
        "a pooling sees as much as its kernel is large",
    ),
    ("train-epoch", "        optimizer.zero_grad()\n", "", "zero_grad is forgotten"),
    ("train-epoch", "model.train()\n", "model\n", "model.train() is forgotten"),
    ("train-epoch", " * len(labels)", "", "✗ mean loss: a batch's loss is already a mean"),
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
        "the weights never change: zero_grad() comes between backward() and step()",
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
    ("train-epoch", "100 * correct", "correct", "return per cent, not a fraction"),
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
        "✗ mean loss: a batch's loss is already a mean",
    ),
    ("test", "100 * correct", "correct", "✗ accuracy in %: return per cent, not"),
    (
        "test",
        "loss_sum / seen, 100 * correct / seen",
        "loss_sum / len(batches), 100 * correct / len(batches)",
        "divide by the number of images, not of batches",
    ),
    # The network
    (
        "network",
        "return F.log_softmax(self.fc(x), dim=1)",
        "return F.dropout(F.log_softmax(self.fc(x), dim=1), 0.05, self.training)",
        "in training the outputs are not log-probabilities",
    ),
    (
        "network",
        "F.log_softmax(self.fc(x)",
        "F.log_softmax(F.relu(self.fc(x))",
        "leave out the ReLU",
    ),
    (
        "network",
        "x.mean((2, 3))",
        "x",
        "Net raised RuntimeError: mat1 and mat2 shapes cannot be multi",
    ),
    (
        "network",
        "self.fc(x)",
        "self.fe(x)",
        "Net raised AttributeError: 'Net' object has no attribute",
    ),
    (
        "network",
        "        self.conv1 =",
        "        raise NotImplementedError()\n        self.conv1 =",
        "✗ Net is not written yet",
    ),
    (
        "network",
        "        x = F.relu(self.norm1",
        "        raise NotImplementedError()\n        x = F.relu(self.norm1",
        "✗ Net is not written yet",
    ),
    (
        "network",
        "self.norm6(self.squeeze2(",
        "(self.squeeze3(",
        "Net raised AttributeError: 'Net' ob",
    ),
    (
        "network",
        "self.fc = nn.Linear(32, 10)",
        "self.fc = nn.Linear(32, 9)",
        "returns (4, 9), not (4, 10)",
    ),
    (
        "network",
        "nn.Conv2d(1, 16, 3, padding=1)",
        "nn.Conv2d(1, 16, 3, padding=1).double()",
        "Net raised RuntimeError: ",
    ),
    # Receptive fields
    ("fields", "jump *= stride", "jump = stride", "the jump is not the last layer's stride alone"),
    ("fields", "jump *= stride", "jump += stride", "strides multiply: the jump is not their sum"),
    ("fields", "for kernel, stride in", "for stride, kernel in", "a layer is (kernel, stride), in"),
    ("fields", "append(field)", "append(min(field, 28))", "count the full square"),
    (
        "fields",
        "field += (kernel - 1) * jump",
        "field = (field - 1) * stride + kernel",
        "goes from the last layer back, not from the first on",
    ),
    (
        "fields",
        "field += (kernel - 1) * jump",
        "field = field * 2 if kernel == stride > 1 else field + (kernel - 1) * jump",
        "a pooling widens the field by (k − 1) jumps",
    ),
    (
        "fields",
        "in layers",
        "in layers[:6]",
        "fields should return 8 numbers, after layer 1, after",
    ),
    ("fields", "return sides", "return sides[-1]", "should return 8 numbers, after layer 1"),
    ("fields", "in layers", "in [(3, 1)] * len(layers)", "✗ "),
    (
        "fields",
        "    field, jump",
        "    raise NotImplementedError\n    field, jump",
        "not written yet",
    ),
    (
        "fields",
        "stride in layers",
        "stride in layer",
        "fields raised NameError: name 'layer' is not",
    ),
    ("by-hand", "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "{3: 5, 6: 7}", "but sees is {3: 5"),
    ("by-hand", "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "40", "11 numbers are needed"),
    ("by-hand", "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]", "None", "✗ sees is not written yet"),
    (
        "by-hand",
        "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
        "[3, 5, 10, 10, 14, 18, 36, 36, 44, 52, 60]",
        "a pooling widens the field by (k − 1) jumps",
    ),
    (
        "by-hand",
        "[3, 5, 6, 6, 10, 14, 16, 16, 24, 32, 40]",
        "[3, 5, 7, 7, 11, 15, 17, 17, 25, 33, 41]",
        "this follows from what is wrong before it",
    ),
    # Training
    (
        "train-epoch",
        "        loss.backward()\n",
        "",
        "the weights never change: loss.backward() is mi",
    ),
    (
        "train-epoch",
        "        loss.backward()\n        optimizer.step()\n",
        "        optimizer.step()\n        loss.backward()\n",
        "the weights never change: optimizer.step() comes before loss.backward()",
    ),
    (
        "train-epoch",
        "        optimizer.zero_grad()\n        loss.backward()\n        optimizer.step()\n",
        "        optimizer.step()\n        optimizer.zero_grad()\n        loss.backward()\n",
        "train_epoch raised RuntimeError: one of the variables needed",
    ),
    (
        "train-epoch",
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
        "train-epoch",
        "    model.train()\n",
        "    model.train()\n    optimizer = torch.optim.SGD(model.parameters(), 0.05)\n",
        "take the steps with the optimizer that is given",
    ),
    (
        "train-epoch",
        "in batches:",
        "in [*batches, *batches]:",
        "goes through the batches twice",
    ),
    ("train-epoch", "in batches:", "in batches[:1]:", "✗ "),
    (
        "train-epoch",
        "return loss_sum / seen, 100 * correct / seen",
        "return loss.item(), 100 * (log_probs.argmax(1) == labels).float().mean()",
        "this counts only the last batch",
    ),
    ("train-epoch", "    return", "        return", "✗ "),
    (
        "train-epoch",
        "return loss_sum / seen,",
        "return round(loss_sum / seen, 2),",
        "rounded to 2 dig",
    ),
    (
        "train-epoch",
        "seen += len(labels)",
        "seen += 64",
        "batch's size is len(labels), not a fixed",
    ),
    ("train-epoch", "len(labels)", "64", "✗ accuracy in %: a batch's size is len(labels), not a f"),
    ("train-epoch", "100 * correct / seen", "100 * correct", "✗ accuracy in %: "),
    ("train-epoch", "100 * correct / seen", "correct", "not the number of correct images"),
    (
        "train-epoch",
        "100 * correct / seen",
        "100 - 100 * correct / seen",
        "this is the share of mist",
    ),
    (
        "train-epoch",
        "return loss_sum / seen",
        "return -loss_sum / seen",
        "the loss is −log p, which is",
    ),
    ("train-epoch", "model.train()", "model.eval()", "model.train() is forgotten"),
    (
        "train-epoch",
        "model(images)",
        "model(image)",
        "train_epoch raised NameError: name 'image' is",
    ),
    (
        "train-epoch",
        "F.nll_loss(log_probs, labels)",
        "F.nll_loss(log_probs)",
        "raised TypeError: nll_",
    ),
    ("train-epoch", "    model.train()\n", "    raise NotImplementedError\n", "is not written yet"),
    (
        "train-epoch",
        "argmax(1)",
        "argmax(0)[:len(labels)].new_zeros(len(labels))",
        "✗ accuracy in %",
    ),
    # Testing
    ("test", "model.eval()", "model.train()", "model.eval()"),
    ("test", ', reduction="sum").item()', ").item()", "a batch's loss is already a mean"),
    (
        "test",
        "return loss_sum / seen, 100 * correct / seen",
        "hits = log_probs.argmax(1) == labels\n"
        "    return F.nll_loss(log_probs, labels), 100 * hits.float().mean()",
        "this counts only the last batch",
    ),
    (
        "test",
        "seen += len(labels)",
        "seen += 64",
        "a batch's size is len(labels), not a fixed number",
    ),
    ("test", "loss_sum / seen,", "round(loss_sum / seen, 3),", "✗ mean loss: rounded to 3 digits"),
    ("test", "loss_sum / seen,", "loss_sum,", "this is the sum over all images"),
    ("test", "100 * correct / seen", "correct", "not the number of correct images"),
    ("test", "in batches:", "in batches[:-1]:", "✗ "),
    ("test", "model.eval()", "model.double()", "test raised RuntimeError: "),
    (
        "test",
        "model.eval()",
        "model.eval(); model[1].weight.data *= 0.9",
        "✗ mean loss",
    ),
]


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
