"""`MNISTNet` by hand: 17,498 parameters, forward and backward, in NumPy alone."""

from functools import partial
from itertools import pairwise

import numpy as np

from backprop import layers

CONV = layers.conv_forward, layers.conv_backward
PADDED_CONV = tuple(partial(function, padding=1) for function in CONV)
NORM = layers.batch_norm_forward, layers.batch_norm_backward
RELU = layers.relu_forward, layers.relu_backward
POOL = layers.max_pool_forward, layers.max_pool_backward
DROPOUT = layers.dropout_forward, layers.dropout_backward
AVERAGE = layers.global_average_pool_forward, layers.global_average_pool_backward
FLATTEN = layers.flatten_forward, layers.flatten_backward
LINEAR = layers.linear_forward, layers.linear_backward

LAYERS = {  # in order, by the names that the PyTorch network uses
    "block1.conv1": PADDED_CONV,  # (N, 16, 28, 28)
    "block1.norm1": NORM,
    "block1.relu1": RELU,
    "block1.conv2": PADDED_CONV,  # (N, 32, 28, 28)
    "block1.norm2": NORM,
    "block1.relu2": RELU,
    "transition1.pool": POOL,  # (N, 32, 14, 14)
    "transition1.conv": CONV,  # (N, 8, 14, 14)
    "transition1.norm": NORM,
    "transition1.relu": RELU,
    "block2.conv1": PADDED_CONV,  # (N, 16, 14, 14)
    "block2.norm1": NORM,
    "block2.relu1": RELU,
    "block2.conv2": PADDED_CONV,  # (N, 32, 14, 14)
    "block2.norm2": NORM,
    "block2.relu2": RELU,
    "transition2.pool": POOL,  # (N, 32, 7, 7)
    "transition2.conv": CONV,  # (N, 8, 7, 7)
    "transition2.norm": NORM,
    "transition2.relu": RELU,
    "block3.conv1": CONV,  # (N, 16, 5, 5)
    "block3.relu1": RELU,
    "block3.dropout": DROPOUT,
    "block3.conv2": CONV,  # (N, 32, 3, 3)
    "block3.relu2": RELU,
    "gap": AVERAGE,  # (N, 32, 1, 1)
    "dropout": DROPOUT,
    "flatten": FLATTEN,  # (N, 32)
    "fc": LINEAR,  # (N, 10)
}

# A batch norm subtracts the mean, and with it whatever bias the convolution before it added:
# these 112 parameters change nothing, and their true gradient is zero.
SILENCED = {f"{conv}.bias" for conv, layer in pairwise(LAYERS) if LAYERS[layer] is NORM}


def to_numpy(state_dict):
    """A copy of a PyTorch state_dict as float64 arrays."""
    return {name: tensor.cpu().numpy().astype(np.float64) for name, tensor in state_dict.items()}


def operands(name, weights, masks):
    """What a layer is handed besides its input: its parameters, or its mask, or nothing."""
    running = ("running_mean", "running_var") if masks is None else ()
    names = (f"{name}.{kind}" for kind in ("weight", "bias", *running))
    handed = [weights[name] for name in names if name in weights]
    if masks and name in masks:
        handed.append(masks[name])
    return handed


def forward(weights, images, masks=None):
    """Every layer's output, by the layer's name, from "input", the images, to "log_softmax".

    `masks` holds an array for each of the two dropouts: then the network trains. Without, it
    evaluates: nothing is dropped, and batch norm uses its running statistics.
    """
    outputs = {"input": images}
    x = images
    for name, (layer, _) in LAYERS.items():
        outputs[name] = x = layer(x, *operands(name, weights, masks))
    outputs["log_softmax"] = layers.log_softmax_forward(x)
    return outputs


def backward(weights, outputs, labels, masks):
    """The slope of the loss along every parameter and, second, along every layer's output."""
    gradients, slopes = {}, {}
    slopes["fc"] = dy = layers.log_softmax_nll_backward(outputs["log_softmax"], labels)
    for before, name in reversed(list(pairwise(["input", *LAYERS]))):
        _, layer = LAYERS[name]
        handed = outputs[before], *operands(name, weights, masks)
        if f"{name}.weight" in weights:
            dy, gradients[f"{name}.weight"], gradients[f"{name}.bias"] = layer(dy, *handed)
        else:
            dy = layer(dy, *handed)
        slopes[before] = dy
    return gradients, slopes


def differentiate(weights, images, labels, masks):
    """The loss, its gradient along every parameter, and its gradient along the images."""
    outputs = forward(weights, images, masks)
    loss = layers.nll_forward(outputs["log_softmax"], labels)
    gradients, slopes = backward(weights, outputs, labels, masks)
    return loss, gradients, slopes["input"]
