"""Read the tape that PyTorch keeps of a network's run, and write it down as one for `layers.py`.

For its own backward pass PyTorch links each result to a node that says which function made it, of
what. These nodes are read here, be the function a module's or not. So the order is that of
execution, and a layer that is used twice is two steps with the same weights.
"""

import inspect
import math
import re
from copy import deepcopy

import torch
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from backprop import layers
from backprop.tape import Step
from s4lib.runtime import UsageError

CONSTANT = Tensor | int | float
ZERO, ONE = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # for a bias or weight left out


def record(net, images, seed=0):
    """How `net`, in float64, turns `images`, (N, C, H, W), into log-probabilities, (N, classes).

    Returns the steps that the result depends on, in order, and the values that they start from:
    "images", the weights by PyTorch's names, and constants such as dropout's masks, which are drawn
    after `torch.manual_seed(seed)`. A network in evaluation mode gives the steps of evaluation.
    The network itself, its running statistics included, stays as it is.

    Raises UsageError, and names it, for whatever `layers.py` cannot differentiate.
    """
    given = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    given |= {name: buffer.clone() for name, buffer in net.named_buffers()}
    images = images.detach().clone().requires_grad_()
    torch.manual_seed(seed)
    with Notes():
        log_probs = functional_call(net, given, images.clone())  # a clone may be overwritten
    if getattr(log_probs, "grad_fn", None) is None:
        raise UsageError("No gradient leads from the network's output back to its images.")

    names = {tensor: name for name, tensor in {**given, "images": images}.items()}
    steps, ahead = [], {log_probs.grad_fn}
    while ahead:
        node = max(ahead, key=lambda node: node._sequence_nr())  # the last that was executed
        kind, inputs, options = read(node)
        output, *handed = (name_of(item, names) for item in (node, *inputs))
        steps.insert(0, Step(output, kind, tuple(handed), options))
        ahead |= {item for item in inputs if not isinstance(item, CONSTANT)}
        ahead.remove(node)
    *before, last = steps
    missing = dict.fromkeys(pair for pair in map(missing_pair, before) if pair)
    if missing:
        raise UsageError(
            f"backprop/layers.py lacks {'; '.join(missing)}. "
            "Write the functions there, or leave the layer out."
        )
    if last.kind != "log_softmax" or last.options:
        end = ", ".join([last.kind, *(f"{name}={value}" for name, value in last.options.items())])
        raise UsageError(f"The network must end in log_softmax(dim=1), not in {end}.")
    return steps, {
        name: item.numpy(force=True) if isinstance(item, Tensor) else item
        for item, name in names.items()
        if isinstance(item, CONSTANT)
    }


def name_of(item, names) -> str:
    """What a node's result, a tensor or a number is called, in `names` from now on."""
    if item is None:
        raise UsageError("A layer is handed something that was computed without gradients.")
    if item not in names:
        if isinstance(item, Tensor) and item.requires_grad:
            shape = tuple(item.shape)
            raise UsageError(f"A tensor of shape {shape} is no parameter and no function's result.")
        kind = "constant" if isinstance(item, CONSTANT) else function_of(item)
        names[item] = f"{kind} {len(names)}"
    return names[item]


def missing_pair(step) -> str | None:
    """The functions that a step needs and `layers.py` lacks, or None."""
    names = [f"{step.kind}_forward", f"{step.kind}_backward"]
    pair = [getattr(layers, name, None) for name in names]
    if None in pair:
        return " and ".join(names)
    known = set.intersection(*(set(inspect.signature(one).parameters) for one in pair))
    unknown = [f"{name}={value!r}" for name, value in step.options.items() if name not in known]
    return f"{' and '.join(names)} with {', '.join(unknown)}" if unknown else None


class Notes(TorchFunctionMode):
    """While it is entered: every node notes what its function is handed without gradients, and the
    shape of its result.
    """

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        constants = [
            deepcopy(one)  # which the function may overwrite
            for one in (*args, *kwargs.values())
            if isinstance(one, CONSTANT) and not getattr(one, "requires_grad", False)
        ]
        result = function(*args, **kwargs)
        if node := getattr(result, "grad_fn", None):
            node.metadata.setdefault("constants", constants)
            node.metadata["shape"] = tuple(result.shape)
        return result


def shape_of(item) -> tuple[int, ...]:
    """The shape of a tensor or of a function's result; of one within a function it is ()."""
    noted = getattr(item, "metadata", {})
    return tuple(getattr(item, "shape", noted.get("shape", ())))


def function_of(node) -> str:
    """The function that a node belongs to: "leaky_relu" for LeakyReluBackward0."""
    name = re.sub(r".*::|^Native|Backward\d*$", "", node.name())
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def behind(node):
    """What a node stands for: a leaf for its tensor, a clone for what it was made of."""
    while node is not None and function_of(node) == "clone":
        ((node, _),) = node.next_functions
    return getattr(node, "variable", node)


# ---- PyTorch's functions as layers: the kind, what it is handed, and {option: (value, usual)} ----


def read(node):
    """The layer that a node is, as a `Step` has it: its kind, inputs, and unusual options.

    A function that is not listed below is a layer of its own name, with those of its options, by
    PyTorch's names, that the pair in `layers.py` takes.
    """
    function = function_of(node)
    inputs = [behind(before) for before, _ in node.next_functions]
    layer = LAYERS[function](node, *inputs) if function in LAYERS else None
    if layer:
        kind, inputs, options = layer
        return kind, inputs, {name: one for name, (one, usual) in options.items() if one != usual}
    inputs = [item for item in inputs if item is not None]
    forward = getattr(layers, f"{function}_forward", None)
    wanted = [*inspect.signature(forward).parameters][len(inputs) :] if forward else []
    saved = {name: getattr(node, f"_saved_{name}", None) for name in wanted}
    return function, inputs, {name: one for name, one in saved.items() if one is not None}


def single(values):
    """(2, 2) is 2, since every layer here treats height and width alike."""
    return values[0] if len(set(values)) == 1 else values


def conv(node, x, weight, bias):
    high, wide = (*shape_of(weight)[2:], 0, 0)[:2]
    padding = single(node._saved_padding)
    known = isinstance(padding, int) and padding < high
    options = {
        "padding" if known else "other_padding": (padding, 0),
        "kernel_size": ((high, wide), (high, high)),
        "stride": (single(node._saved_stride), 1),
        "dilation": (single(node._saved_dilation), 1),
        "groups": (node._saved_groups, 1),
        "transposed": (node._saved_transposed, False),
    }
    return "conv", (x, weight, ZERO if bias is None else bias), options


def batch_norm(node, x, weight, bias):
    weight, bias = ONE if weight is None else weight, ZERO if bias is None else bias
    running = () if node._saved_training else (node._saved_running_mean, node._saved_running_var)
    options = {"eps": (node._saved_eps, layers.EPS), "dimensions": (len(shape_of(node)), 4)}
    return "batch_norm", (x, weight, bias, *running), options


def linear(node, *inputs):
    *bias, x, transposed = inputs
    if function_of(transposed) != "t":
        return None
    weight = behind(transposed.next_functions[0][0])
    return "linear", (x, weight, *(bias or [ZERO])), {}


def dropout(node, x, other):
    """PyTorch drops values by a product with a mask; so is any other product with a constant."""
    x, mask = (x, node._saved_other) if other is None else (other, node._saved_self)
    known = mask is not None and shape_of(x) == shape_of(node)
    return ("dropout", (x, mask), {}) if known else None


def max_pool(node, x):
    cut = any(size % 2 for size in shape_of(x)[2:])
    options = {
        "kernel_size": (single(node._saved_kernel_size), 2),
        "stride": (single(node._saved_stride or (2,)), 2),
        "padding": (single(node._saved_padding), 0),
        "dilation": (single(node._saved_dilation), 1),
        "ceil_mode": (node._saved_ceil_mode and cut, False),
    }
    return "max_pool", (x,), options


def average(node, x):
    """Over the whole map, it is global average pooling."""
    shape = shape_of(x)
    size = getattr(node, "_saved_kernel_size", shape[2:])
    over = {dim % 4 for dim in getattr(node, "_saved_dim", (2, 3))}
    whole = (len(shape), size, over) == (4, shape[2:], {2, 3})
    if not whole or shape_of(node) not in ((*shape[:2], 1, 1), shape[:2]):
        return None
    return "global_average_pool", (x,), {"keepdims": (len(shape_of(node)) == 4, True)}


def reshape(node, x):
    """From (N, …) to (N, everything else), it is flattening."""
    shape = shape_of(x)
    flat = shape_of(node) == (*shape[:1], math.prod(shape[1:]))
    return ("flatten", (x,), {}) if flat else None


def add(node, *terms):
    shapes = [shape_of(term) for term in terms if term is not None]
    same = {*shapes} == {shape_of(node)}
    terms = [node.metadata["constants"][0] if term is None else term for term in terms]
    return "add", terms, {"alpha": (node._saved_alpha, 1), "shapes": (same or shapes, True)}


def log_softmax(node, x):
    dimensions = node._saved_result.dim()
    options = {"dim": (node._saved_dim % dimensions, 1), "dimensions": (dimensions, 2)}
    return "log_softmax", (x,), options


LAYERS = {
    **{"convolution": conv, "batch_norm": batch_norm, "addmm": linear, "mm": linear},
    **{"mul": dropout, "max_pool2dwith_indices": max_pool, "avg_pool2d": average, "mean": average},
    **dict.fromkeys(("view", "unsafe_view", "reshape_alias", "squeeze"), reshape),
    **{"add": add, "log_softmax": log_softmax},
}
