"""Write down, as a tape, which layers a PyTorch network calls on what.

PyTorch runs the network once, and every function that is called on its weights or on what follows
from its images becomes a step, be it a module's or not. So the order is that of execution, and a
layer that is used twice is two steps with the same weights.
"""

import inspect

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from backprop import layers
from backprop.tape import Step
from s4lib.runtime import UsageError


def record(net, images, seed=0):
    """How `net`, in float64, turns `images`, (N, C, H, W), into log-probabilities, (N, classes).

    Returns the steps that the result depends on, in order, and the values that they start from:
    "images", the weights by PyTorch's names, and constants such as dropout's masks, which are drawn
    after `torch.manual_seed(seed)`. A network in evaluation mode gives the steps of evaluation; in
    training mode its running statistics move, as in any forward pass.

    Raises UsageError, and names it, for whatever `layers.py` cannot differentiate.
    """
    images = images.clone().requires_grad_().clone()  # the second may be overwritten by a layer
    recorder = Recorder({**dict(net.named_buffers()), **dict(net.named_parameters())}, images)
    torch.manual_seed(seed)
    with recorder:
        log_probs = net(images)

    if id(log_probs) not in recorder.known:
        raise UsageError("The network's output does not follow from its images.")
    needed, steps = {recorder.known[id(log_probs)][0]}, []
    for step in reversed(recorder.steps):
        if step.output in needed:
            needed |= set(step.inputs)
            steps.insert(0, step)
    if steps[-1].kind != "log_softmax":
        raise UsageError(f"The network must end in log_softmax(dim=1), not in {steps[-1].kind}.")
    missing = dict.fromkeys(pair for pair in map(missing_pair, steps) if pair)
    if missing:
        raise UsageError(
            f"backprop/layers.py lacks {'; '.join(missing)}. "
            "Write the functions there, or leave the layer out."
        )
    return steps, {name: recorder.values[name] for name in needed & recorder.values.keys()}


def missing_pair(step) -> str | None:
    """The functions that a step needs and `layers.py` lacks, or None."""
    if step.kind == "log_softmax" and not step.options:
        return None  # it is differentiated together with the loss
    names = [f"{step.kind}_forward", f"{step.kind}_backward"]
    pair = [getattr(layers, name, None) for name in names]
    if None in pair:
        return " and ".join(names)
    known = set.intersection(*(set(inspect.signature(one).parameters) for one in pair))
    unknown = {option: value for option, value in step.options.items() if option not in known}
    if not unknown:
        return None
    options = ", ".join(f"{option}={value!r}" for option, value in unknown.items())
    return f"{' and '.join(names)} with {options}"


class Recorder(TorchFunctionMode):
    """While it is entered, each PyTorch function called on `weights` or what follows is a step."""

    def __init__(self, weights: dict[str, Tensor], images: Tensor):
        super().__init__()
        known = {**weights, "images": images}
        self.steps: list[Step] = []
        self.values = {name: tensor.numpy(force=True).copy() for name, tensor in known.items()}
        # By id, which stays unique because the tensor is kept: its name, and the tensor's version,
        # which PyTorch raises whenever it is overwritten.
        self.known = {id(one): (name, one._version, one) for name, one in known.items()}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [item for item in leaves([args, [*kwargs.values()]]) if isinstance(item, Tensor)]
        before = {id(tensor): tensor._version for tensor in tensors}
        random_state = torch.get_rng_state()
        result = function(*args, **kwargs)
        results = [item for item in leaves([result]) if isinstance(item, Tensor)]
        new = [item for item in results if before.get(id(item)) != item._version]
        if not (new and before.keys() & self.known.keys()):
            return result

        kind, inputs, options = read(function, args, kwargs, random_state)
        if not new[0].requires_grad:
            options = {**options, "requires_grad": False}
        names = tuple(self.name(item, before.get(id(item))) for item in inputs)
        output = f"{kind} {len(self.steps) + 1}"
        self.steps.append(Step(output, kind, names, options))
        self.known |= {id(item): (output, item._version, item) for item in new}
        return result

    def name(self, item, version) -> str:
        """What an argument is called; a number, or a tensor that follows from none, is constant.

        `version` is that of a tensor before the call.
        """
        if id(item) in self.known:
            name, expected, _ = self.known[id(item)]
            if version != expected:
                raise UsageError(f"The network overwrites {name} in place before its last use.")
            return name
        if isinstance(item, Tensor) and item.requires_grad:
            shape = tuple(item.shape)
            raise UsageError(f"A tensor of shape {shape} is no parameter and no function's result.")
        name = f"constant {len(self.values)}"
        self.values[name] = item.numpy().copy() if isinstance(item, Tensor) else item
        return name


def leaves(items):
    """The items of a list, and of the lists in it."""
    for item in items:
        if isinstance(item, list | tuple):
            yield from leaves(item)
        else:
            yield item


# ---- PyTorch's functions as layers: the kind, what it is handed, and {option: (value, usual)} ----


def read(function, args, kwargs, random_state):
    """The layer that a call was, as a `Step` has it: its kind, inputs, and unusual options."""
    name = (resolve_name(function) or function.__name__).removesuffix(".__get__")
    name = name.rpartition(".")[2].strip("_")
    kwargs = {key: value for key, value in kwargs.items() if key != "inplace"}
    if "input" in kwargs:
        args = kwargs.pop("input"), *args
    with torch.random.fork_rng(devices=[]):
        torch.set_rng_state(random_state)
        layer = LAYERS[name](function, *args, **kwargs) if name in LAYERS else None
    if layer:
        kind, inputs, options = layer
        return kind, inputs, {key: one for key, (one, usual) in options.items() if one != usual}
    inputs = [*args, *(value for value in kwargs.values() if isinstance(value, Tensor))]
    return name, leaves(inputs), {k: v for k, v in kwargs.items() if not isinstance(v, Tensor)}


def single(value):
    """(2, 2) is 2, since every layer here treats height and width alike."""
    return value[0] if isinstance(value, list | tuple) and len(set(value)) == 1 else value


def conv(_, x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    high, wide = weight.shape[2:]
    padding = {"valid": 0, "same": high // 2 if high % 2 else "same"}.get(padding, single(padding))
    known = isinstance(padding, int) and padding < high
    return (
        "conv",
        (x, weight, x.new_zeros(len(weight)) if bias is None else bias),
        {
            "padding" if known else "other_padding": (padding, 0),
            "kernel_size": ((high, wide), (high, high)),
            "stride": (single(stride), 1),
            "dilation": (single(dilation), 1),
            "groups": (groups, 1),
        },
    )


def batch_norm(
    _,
    x,
    running_mean,
    running_var,
    weight=None,
    bias=None,
    training=False,
    momentum=0.1,
    eps=layers.EPS,
):
    weight = x.new_ones(x.shape[1]) if weight is None else weight
    bias = x.new_zeros(x.shape[1]) if bias is None else bias
    running = () if training else (running_mean, running_var)
    options = {"eps": (eps, layers.EPS), "dimensions": (x.dim(), 4)}
    return "batch_norm", (x, weight, bias, *running), options


def linear(_, x, weight, bias=None):
    bias = x.new_zeros(len(weight)) if bias is None else bias
    return "linear", (x, weight, bias), {"dimensions": (x.dim(), 2)}


def relu(_, x):
    return "relu", (x,), {}


def dropout(function, x, p=0.5, training=True):
    """Dropout of ones, from the same random numbers, is the mask."""
    return "dropout", (x, function(torch.ones_like(x), p, training)), {}


def max_pool(
    _, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    cut = any(size % 2 for size in x.shape[2:])
    return (
        "max_pool",
        (x,),
        {
            "kernel_size": (single(kernel_size), 2),
            "stride": (single(stride) or 2, 2),
            "padding": (single(padding), 0),
            "dilation": (single(dilation), 1),
            "ceil_mode": (ceil_mode and cut, False),
            "return_indices": (return_indices, False),
        },
    )


def average_pool(_, x, kernel_size, stride=None, padding=0, *_others, **_options):
    """Over the whole map, it is global average pooling."""
    whole = single(kernel_size) == single(tuple(x.shape[2:])) and not padding
    return ("global_average_pool", (x,), {}) if whole else None


def adaptive_average_pool(_, x, output_size):
    return "global_average_pool", (x,), {"output_size": (single(output_size), 1)}


def reshape(function, x, *shape, **options):
    """From (N, …) to (N, everything else), it is flattening."""
    shape = function(x, *shape, **options).shape
    return ("flatten", (x,), {}) if x.dim() and shape == (len(x), x[0].numel()) else None


def add(_, x, other, alpha=1):
    shapes = [tuple(item.shape) for item in (x, other) if isinstance(item, Tensor)]
    return "add", (x, other), {"alpha": (alpha, 1), "shapes": (shapes, shapes[:1] * len(shapes))}


def log_softmax(_, x, dim=None, _stacklevel=3, dtype=None):
    dim = dim if dim is None else dim % x.dim()
    return (
        "log_softmax",
        (x,),
        {"dim": (dim, 1), "dimensions": (x.dim(), 2), "dtype": (dtype, None)},
    )


LAYERS = {
    **{"conv2d": conv, "batch_norm": batch_norm, "linear": linear, "relu": relu},
    **{"dropout": dropout, "dropout2d": dropout, "max_pool2d": max_pool},
    **{"avg_pool2d": average_pool, "adaptive_avg_pool2d": adaptive_average_pool},
    **dict.fromkeys(("flatten", "view", "reshape", "squeeze"), reshape),
    **{"add": add, "iadd": add, "radd": add, "log_softmax": log_softmax},
}
