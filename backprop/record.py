"""Read the graph that PyTorch records of a network's run, as steps for `layers.py`.

For its own backward pass PyTorch links each result to a node with the name of the function that
made it, and its inputs. These nodes are read, whether a module called the function or not. So the
steps are in order of execution, and a layer that is used twice is two steps with the same weights.
"""

import inspect
import math
import re
from copy import deepcopy
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from backprop import layers
from backprop.tape import Step, pair
from s4lib.runtime import UsageError
from s4lib.runtime.rehearsal import refuse_scripted

CONSTANT = Tensor | int | float
SUMS = {"add", "sub", "rsub", "subtract"}  # functions without other arguments than their terms


class Piece(NamedTuple):
    """One of several results of a node, such as those of `chunk`."""

    node: torch.autograd.graph.Node
    number: int


def record(net, images, seed=0, seen=None):
    """Return how `net`, in float64, turns `images`, (N, C, H, W), into log-probabilities, (N,
    classes).

    The result is the steps that the output depends on, in order, and the values that they start
    from: "images", the weights under PyTorch's names, and constants such as dropout's masks, drawn
    after `torch.manual_seed(seed)`. A network in evaluation mode gives the steps of evaluation; it
    stays unchanged, with its statistics. The dictionary `seen` gets PyTorch's outputs of the steps.

    Raises UsageError, with its name, for a function without a pair in `layers.py`.
    """
    refuse_scripted(net)
    given = {name: p.detach().clone().requires_grad_() for name, p in net.named_parameters()}
    given |= {name: buffer.clone() for name, buffer in net.named_buffers()}
    images = images.detach().clone().requires_grad_()
    torch.manual_seed(seed)
    with NodeNotes(keep=seen is not None):
        output = functional_call(net, given, images.clone())  # a clone may be overwritten
        log_probs = as_log_probs(output)
    if not isinstance(output, Tensor):
        kind = type(output).__name__
        raise UsageError(f"The network returns a {kind}, not one tensor.")
    if getattr(log_probs, "grad_fn", None) is None:
        raise UsageError("No gradient leads from the network's output back to its images.")

    names = {tensor: name for name, tensor in {**given, "images": images}.items()}
    steps = []
    for node, kind, inputs, options in layers_behind(log_probs):
        output, *handed = (name_of(item, names) for item in (node, *inputs))
        steps.insert(0, Step(output, kind, tuple(handed), options))
        if seen is not None and "value" in getattr(node, "metadata", ()):
            seen[output] = node.metadata["value"].numpy()
    check_pairs(steps)
    check_end(steps[-1], log_probs.detach())
    return steps, {
        name: item.numpy(force=True) if isinstance(item, Tensor) else item
        for item, name in names.items()
        if isinstance(item, CONSTANT)
    }


def layers_behind(tensor):
    """Return the nodes that a tensor depends on, the last executed first, and their layers."""
    ahead = {behind((tensor.grad_fn, 0))}
    while ahead:
        node = max(ahead, key=moment)
        kind, inputs, options = as_layer(node)
        ahead |= {item for item in inputs if not isinstance(item, CONSTANT)}
        ahead.remove(node)
        yield node, kind, inputs, options


def as_log_probs(output):
    """Return a network's output, with log-softmax added after logits, (N, classes).

    What adds up to 1 over the classes needs no softmax; over the images, it is a mistake.
    """
    if not isinstance(output, Tensor) or output.dim() != 2:
        return output
    done = adds_up_to_1(output.detach(), 0) or adds_up_to_1(output.detach(), 1)
    return output if done else F.log_softmax(output, 1)


def adds_up_to_1(log_probs, dim) -> bool:
    """Return whether probabilities along the axis `dim` add up to 1."""
    totals = log_probs.exp().sum(dim)
    return torch.allclose(totals, torch.ones_like(totals), atol=1e-6)


def check_end(last, log_probs) -> None:
    """Raises UsageError unless the `last` step makes log-probabilities."""
    table = log_probs.dim() == 2
    if table and adds_up_to_1(log_probs, 1):
        return
    end = ", ".join([last.kind, *(f"{name}={value}" for name, value in last.options.items())])
    shape = "" if table else f" of {tuple(log_probs.shape)}"
    raise UsageError(f"The network must end in log_softmax(dim=1), not in {end}{shape}.")


def moment(item) -> int:
    """Return the number under which PyTorch made a node; it grows with time."""
    return getattr(item, "node", item)._sequence_nr()


def name_of(item, names) -> str:
    """Return the name of a node's result, a tensor or a number, which `names` then holds."""
    if item is None:
        raise UsageError("A layer gets an input that was computed without gradients.")
    if item not in names:
        if isinstance(item, Tensor) and item.requires_grad:
            shape = tuple(item.shape)
            raise UsageError(f"A tensor of shape {shape} is neither a parameter nor a result.")
        kind = "constant" if isinstance(item, CONSTANT) else function_of(item)
        names[item] = f"{kind} {len(names)}"
    return names[item]


def check_pairs(steps) -> None:
    """Raises UsageError, with their names, for functions that steps need and that do not exist."""
    missing = {}
    for step in steps:
        names, functions = f"{step.kind}_forward and {step.kind}_backward", pair(step.kind)
        if None in functions:
            missing[names] = None
            continue
        known = set.intersection(*(set(parameters(function)) for function in functions))
        unknown = [f"{name}={value!r}" for name, value in step.options.items() if name not in known]
        if unknown:
            missing[f"{names} with {', '.join(unknown)}"] = None
    if missing:
        raise UsageError(
            f"backprop/layers.py lacks {'; '.join(missing)}. "
            "Write the functions there, or leave the layer out."
        )


@cache
def parameters(function) -> list[str]:
    """Return the names of a function's parameters, in order."""
    try:
        return [*inspect.signature(function).parameters]
    except ValueError:  # older versions of NumPy don't tell them of np.sin and the like
        return []


class NodeNotes(TorchFunctionMode):
    """While active, note for every node its function's name and arguments without gradients, and
    its result, if that is needed.
    """

    def __init__(self, keep=False):
        super().__init__()
        self.keep = keep

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        constants = [
            deepcopy(value)  # which the function may overwrite
            for value in (*args, *kwargs.values())
            if isinstance(value, CONSTANT) and not getattr(value, "requires_grad", False)
        ]
        result = function(*args, **kwargs)
        node = getattr(result, "grad_fn", None)
        if node is not None and "function" not in node.metadata:
            node.metadata["function"] = re.sub(r"^__[ir]?|_+$", "", function.__name__)
            node.metadata["constants"] = constants
            if self.keep:
                node.metadata["value"] = result.detach().clone()
        return result


def shape_of(item) -> tuple[int, ...]:
    """Return the shape of a tensor or of a function's result."""
    if isinstance(item, CONSTANT):
        return tuple(getattr(item, "shape", ()))
    node, number = item if isinstance(item, Piece) else (item, 0)
    return tuple(node._input_metadata[number].shape)


def function_of(item) -> str:
    """Return the name of a node's function: "leaky_relu" for LeakyReluBackward0."""
    node = getattr(item, "node", item)
    name = re.sub(r".*::|^Native|Backward\d*$", "", node.name())
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def behind(edge):
    """Return what an edge of the graph leads to: a leaf, the source of a clone, one piece."""
    node, number = edge
    while node is not None and function_of(node) in ("clone", "alias"):
        ((node, number),) = node.next_functions
    pieces = function_of(node) in ("split", "split_with_sizes", "unbind") if node else False
    return Piece(node, number) if pieces else getattr(node, "variable", node)


# ---- PyTorch's functions as layers: the kind, what it is handed, and {option: (value, usual)} ----


def as_layer(item):
    """Return a node's layer, as a `Step` needs it: its kind, inputs, and unusual options.

    A function that is not listed below becomes a layer of the same name, with those options, under
    PyTorch's names, that its pair in `layers.py` accepts.
    """
    function = function_of(item)
    if function == "differentiable_graph":
        raise UsageError("A scripted function can't be followed: leave out torch.jit.script.")
    node = getattr(item, "node", item)
    inputs = [behind(edge) for edge in node.next_functions]
    try:
        layer = LAYERS[function](item, *inputs) if function in LAYERS else None
    except RuntimeError as error:  # PyTorch's saved tensor was overwritten
        raise UsageError(f"{function} can't be followed: {str(error).splitlines()[0]}") from error
    if layer:
        kind, inputs, options = layer
        unusual = {name: value for name, (value, usual) in options.items() if value != usual}
        return kind, inputs, unusual
    inputs = [item for item in inputs if item is not None]
    forward, _ = pair(function)
    wanted = parameters(forward)[len(inputs) :] if forward else []
    saved = {name: getattr(node, f"_saved_{name}", None) for name in wanted}
    return function, inputs, {name: value for name, value in saved.items() if value is not None}


def single(values):
    """Return one number for (2, 2), where height and width are treated alike."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def signed(number: int) -> int:
    """Return a negative number, which PyTorch shows as the difference to 2^64."""
    return number - 2**64 if number >= 2**63 else number


def axes(node, name, count) -> tuple[int, ...]:
    """Return the saved dimensions of that name, of `count`, from 0 on; all, if none are named."""
    saved = getattr(node, f"_saved_{name}", ())
    saved = saved if isinstance(saved, tuple) else (saved,)
    return tuple(signed(number) % count for number in saved) or tuple(range(count))


def eps_of(node) -> float:
    """Return a norm's eps; PyTorch saves it for batch normalisation only."""
    floats = [value for value in node.metadata.get("constants", ()) if isinstance(value, float)]
    return floats[-1] if floats else layers.EPS


def filled(parameter, value, shape):
    """Return a weight or bias; if it was left out, a tensor with one value everywhere."""
    return torch.full(shape, value, dtype=torch.float64) if parameter is None else parameter


def conv(node, x, weight, bias):
    weight = node._saved_weight if weight is None else weight
    if bias is None and tuple(node._saved_bias_sym_sizes_opt or (0,)) != (0,):
        return "conv", (x, weight, None), {}  # a bias without gradients is not saved
    shape = shape_of(weight)
    options = {
        "padding": (single(node._saved_padding), 0),
        "stride": (single(node._saved_stride), 1),
        "dilation": (single(node._saved_dilation), 1),
        "groups": (node._saved_groups, 1),
        "transposed": (node._saved_transposed, False),
        "dimensions": (len(shape), 4),
    }
    return "conv", (x, weight, filled(bias, 0.0, shape[:1])), options


def batch_norm(node, x, weight, bias):
    channels = shape_of(node)[1:2]
    inputs = [x, filled(weight, 1.0, channels), filled(bias, 0.0, channels)]
    if not node._saved_training:
        inputs += [node._saved_running_mean, node._saved_running_var]
    return "batch_norm", inputs, {"eps": (node._saved_eps, layers.EPS)}


def group_norm(node, x, weight, bias):
    inputs = x, filled(weight, 1.0, (node._saved_C,)), filled(bias, 0.0, (node._saved_C,))
    return "group_norm", inputs, {"groups": (node._saved_group, None), "eps": (eps_of(node), None)}


def layer_norm(node, x, weight, bias):
    shape = tuple(node._saved_normalized_shape)
    inputs = x, filled(weight, 1.0, shape), filled(bias, 0.0, shape)
    return "layer_norm", inputs, {"eps": (eps_of(node), None)}


def linear(node, *inputs):
    *bias, x, weight = inputs
    weight = node._saved_mat2 if weight is None else weight
    if isinstance(weight, Tensor) or function_of(weight) != "t":
        return None if bias else ("matmul", (x, weight), {})
    weight = behind(weight.next_functions[0])
    bias = bias or [filled(None, 0.0, shape_of(node)[1:])]
    return "linear", (x, weight, *bias), {}


def product(node, x, other=None):
    """Return dropout or a product; PyTorch drops values by multiplying with a mask of constants."""
    if isinstance(getattr(node, "_saved_other", None), int | float):
        return "mul", (x, node._saved_other), {}
    if None not in (x, other):
        return "mul", (x, other), {}
    x, mask = (x, node._saved_other) if other is None else (other, node._saved_self)
    if mask is None:
        return None
    return ("dropout" if shape_of(x) == shape_of(node) else "mul"), (x, mask), {}


def quotient(node, x, other=None):
    x = node._saved_self if x is None else x
    return "div", (x, node._saved_other if other is None else other), {}


def power(exponent=None):
    def read_power(node, x):
        saved = node._saved_exponent if exponent is None else exponent
        return "pow", (x,), {"exponent": (saved, None)}

    return read_power


def negative(node, x):
    return "mul", (x, -1), {}


def total(node, x, other=None):
    """Return a sum or a difference; a term without gradients is among the function's arguments."""
    function, alpha = function_of(node), node._saved_alpha
    if x is None or other is None:
        noted = node.metadata.get("constants", ())
        if node.metadata.get("function") not in SUMS or not noted:
            return None
        x, other = (noted[0], other) if x is None else (x, noted[0])
    if function == "rsub":  # other − α · x
        x, other = other, x
    return "add", (x, other), {"alpha": (alpha if function == "add" else -alpha, 1)}


def max_pool(node, x):
    kernel, padding, dilation = (
        getattr(node, f"_saved_{name}") for name in ("kernel_size", "padding", "dilation")
    )
    stride = node._saved_stride or kernel
    reach = [
        (count - 1) * step + rate * (taps - 1) + 1
        for count, step, rate, taps in zip(
            shape_of(node)[-2:], stride, dilation, kernel, strict=True
        )
    ]
    sizes = shape_of(x)[-2:]
    if node._saved_ceil_mode:  # as many rows and columns as the windows need
        far = [end - size - p for end, size, p in zip(reach, sizes, padding, strict=True)]
        padding = tuple(zip(padding, far, strict=True))
    options = {
        "kernel_size": (single(kernel), 2),
        "stride": (single(stride), 2),
        "padding": (single(padding) if isinstance(padding[0], int) else padding, 0),
        "dilation": (single(dilation), 1),
        "dimensions": (len(shape_of(x)), 4),
    }
    return "max_pool", (x,), options


def adaptive_max_pool(node, x):
    """Return the maximum of whole maps; a maximum of parts of a map has no pair."""
    if shape_of(node)[2:] != (1, 1):
        return None
    whole = shape_of(x)[2:]
    return "max_pool", (x,), {"kernel_size": (single(whole), 2), "stride": (single(whole), 2)}


def average_pool(node, x):
    """Return average pooling; over a part of the map, rows and columns have weights."""
    sizes, counts = shape_of(x), shape_of(node)
    if len(sizes) != 4:
        return None
    if function_of(node) == "adaptive_avg_pool2d":
        weights = [bins(size, count) for size, count in zip(sizes[2:], counts[2:], strict=True)]
    else:
        kernel = node._saved_kernel_size
        facts = kernel, counts[2:], node._saved_padding, node._saved_divisor_override
        if facts == (sizes[2:], (1, 1), (0, 0), None):
            return "global_average_pool", (x,), {}
        weights = [
            window_weights(size, count, *facts, node._saved_count_include_pad)
            for size, count, *facts in zip(
                sizes[2:], counts[2:], kernel, node._saved_stride or kernel, node._saved_padding,
                strict=True,
            )
        ]  # fmt: skip
        if divisor := node._saved_divisor_override:
            weights[0] = weights[0] * (math.prod(kernel) / divisor)
    return "average_pool", (x, *map(torch.from_numpy, weights)), {}


def bins(size, count):
    """Return the weights of `size` values in adaptive pooling's `count` means: (count, size)."""
    weights = np.zeros((count, size))
    for number in range(count):
        first, end = number * size // count, -(-(number + 1) * size // count)
        weights[number, first:end] = 1 / (end - first)
    return weights


def window_weights(size, count, kernel, stride, padding, with_border):
    """Return the weights of `size` values in each window; the border may or may not be counted."""
    weights = np.zeros((count, size))
    for number in range(count):
        first = number * stride - padding
        end = min(first + kernel, size + padding)
        inside = slice(max(first, 0), min(end, size))
        weights[number, inside] = 1 / (end - first if with_border else inside.stop - inside.start)
    return weights


def over_axes(node, x):
    """Return a mean or a sum; a mean over whole maps is global average pooling."""
    shape, function = shape_of(x), function_of(node)
    over = axes(node, "dim", len(shape))
    kept = len(shape_of(node)) == len(shape) > 0
    if function == "mean" and len(shape) == 4 and {*over} == {2, 3}:
        return "global_average_pool", (x,), {"keepdims": (kept, True)}
    return function, (x,), {"dim": (over, None), "keepdims": (kept, False)}


def reshape(node, x):
    """Return a reshape; from (N, …) to (N, everything else) it is flattening."""
    shape = shape_of(x)
    flat = shape_of(node) == (*shape[:1], math.prod(shape[1:]))
    return ("flatten", (x,), {}) if flat else ("reshape", (x,), {"shape": (shape_of(node), None)})


def permute(node, x):
    count = len(shape_of(x))
    if function_of(node) == "permute":
        return "permute", (x,), {"dims": (axes(node, "dims", count), None)}
    dims = [*range(count)]
    ends = (0, -1) if function_of(node) == "t" else (node._saved_dim0, node._saved_dim1)
    first, second = map(signed, ends)
    dims[first], dims[second] = dims[second], dims[first]
    return "permute", (x,), {"dims": (tuple(dims), None)}


def expand(node, x):
    return "expand", (x,), {"shape": (shape_of(node), None)}


def repeat(node, x):
    return "repeat", (x,), {"repeats": (tuple(node._saved_repeats), None)}


def slices(item, x):
    """Return which part of x a slice, an index, or a piece of a split is."""
    node, number = item if isinstance(item, Piece) else (item, 0)
    function = function_of(node)
    if function == "index":
        key = tuple(slice(None) if i is None else i.numpy() for i in node._saved_indices)
        return "slice", (x,), {"key": (key, None)}
    (dim,) = axes(node, "dim", len(shape_of(x)))
    if function == "slice":
        start, end = node._saved_start, node._saved_end
        part = slice(start and signed(start), end and signed(end), node._saved_step)
    elif function in ("select", "unbind"):
        part = signed(node._saved_index) if function == "select" else number
    else:
        sizes = getattr(node, "_saved_split_sizes", None) or [node._saved_split_size] * number
        start = sum(sizes[:number])
        part = slice(start, start + shape_of(item)[dim])
    return "slice", (x,), {"key": ((*[slice(None)] * dim, part), None)}


def pad(node, x):
    function, count = function_of(node), len(shape_of(x))
    values = [*map(signed, getattr(node, "_saved_pad", getattr(node, "_saved_padding", ())))]
    if min(values) < 0:
        return None  # which cuts
    pairs = [*zip(values[::2], values[1::2], strict=True)][::-1]
    borders = ((0, 0),) * (count - len(pairs)) + tuple(pairs)
    mode = {"reflection_pad2d": "reflect", "replication_pad2d": "edge"}.get(function, "constant")
    fill = [value for value in node.metadata.get("constants", ()) if value]
    options = {"borders": (borders, None), "mode": (mode, "constant"), "value": (fill, [])}
    return "pad", (x,), options


def joined(node, *parts):
    (dim,) = axes(node, "dim", len(shape_of(node)))
    return function_of(node), parts, {"dim": (dim, None)}


def clamp(node, x):
    function = function_of(node)
    names = ("min_val", "max_val") if function == "hardtanh" else ("min", "max")
    low, high = (getattr(node, f"_saved_{name}", None) for name in names)
    options = {"low": (low, None), "high": (high, None), "closed": (function != "hardtanh", True)}
    return "clamp", (x,), options


def softmax(node, x):
    """Return softmax or its logarithm; dim=1 is usual."""
    (dim,) = axes(node, "dim", len(shape_of(node)))
    function = function_of(node).removeprefix("safe_")
    return function, (x,), {"dim": (dim, 1 if function == "log_softmax" else None)}


def celu(node, x):
    alpha = node._saved_alpha
    return "elu", (x,), {"alpha": (alpha, 1), "input_scale": (1 / alpha, 1)}


def prelu(node, x, weight):
    return "prelu", (x, weight), {}


LAYERS = {
    **{"convolution": conv, "batch_norm": batch_norm, "addmm": linear, "mm": linear},
    **{"group_norm": group_norm, "layer_norm": layer_norm, "max_pool2dwith_indices": max_pool},
    **{"adaptive_max_pool2d": adaptive_max_pool, "mul": product, "div": quotient, "neg": negative},
    **dict.fromkeys(("avg_pool2d", "adaptive_avg_pool2d"), average_pool),
    **dict.fromkeys(("mean", "sum"), over_axes),
    **dict.fromkeys(
        ("view", "unsafe_view", "reshape_alias", "squeeze", "unsqueeze", "unflatten"), reshape
    ),
    **dict.fromkeys(("permute", "transpose", "t"), permute),
    **dict.fromkeys(("add", "sub", "rsub"), total),
    **dict.fromkeys(("slice", "select", "index", "unbind", "split", "split_with_sizes"), slices),
    **dict.fromkeys(("constant_pad_nd", "reflection_pad2d", "replication_pad2d"), pad),
    **dict.fromkeys(("cat", "stack"), joined),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max", "hardtanh"), clamp),
    **dict.fromkeys(("softmax", "safe_softmax", "log_softmax"), softmax),
    **{"pow": power(), "sqrt": power(0.5), "rsqrt": power(-0.5), "reciprocal": power(-1)},
    **{"expand": expand, "repeat": repeat, "celu": celu, "prelu_kernel": prelu},
    "bmm": lambda node, x, other: ("matmul", (x, other), {}),
}
