"""Find out, while a network runs, what computes its output.

PyTorch links every result to a node of its graph. Each function of interest writes its name at the
node of its result, and the nodes that lead to the output count. So do the parameters: one that no
path leads to is never used. Scripted functions can't be seen, only what comes before them.
"""

import contextlib
import io
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from s4lib.runtime import UsageError
from s4lib.runtime.rehearsal import copied, explained, plain, refuse_scripted
from s4lib.train import Network, make_network

NORM, DROPOUT = "batch normalisation", "dropout"
AVERAGE, LINEAR = "global average pooling", "fully connected layer"
ALL_DROPPED = "dropout with p = 1"
IMAGES = 16  # ghost batch normalisation may split a batch into so many
FAR = 8  # so many functions between a map and its average, as in x.flatten(2).sum(2) / 49


class Found(NamedTuple):
    """What a forward pass has shown."""

    layers: set[str]  # that the output depends on
    parameters: set[int]  # the ids of those that the output depends on
    calls: dict[nn.Module, tuple]  # each layer's last: shapes, and whether its result is used


def prepared(network: Network) -> nn.Module:
    """Return a copy of the network on the CPU, without wrappers, with gradients for all parameters.

    Raises UsageError for scripted parts, whose computation can't be followed.
    """
    model = plain(copied(make_network(network)).cpu())
    refuse_scripted(model)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return model


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """While active, nothing is printed or compiled, and random numbers are not used up."""
    eager = contextlib.nullcontext
    if "torch._dynamo" in sys.modules:  # importing it takes seconds
        eager = getattr(torch.compiler, "set_stance", eager)
    silence = contextlib.redirect_stdout(io.StringIO())
    with torch.random.fork_rng(devices=[]), silence, eager("force_eager"):
        yield


def inspect_network(model: nn.Module) -> Found:
    """Return what the output of a `prepared` network depends on, in the network's present mode."""
    calls = {}

    def note(module, inputs, output):
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            calls[module] = tuple(inputs[0].shape), tuple(output.shape), output.grad_fn

    leaves = [module for module in model.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(note) for module in leaves]
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    try:
        with undisturbed(), explained(model), torch.enable_grad(), Inspection():
            images = torch.randn(IMAGES, 1, 28, 28, dtype=dtype, requires_grad=True)
            output = model(images.clone())  # the network may overwrite it
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor):
        raise UsageError(
            f"The network returns a {type(output).__name__}, not one tensor (N, 10). "
            "Let forward return the log-probabilities alone."
        )
    nodes = leading_to(getattr(output, "grad_fn", None))
    layers = set().union(*(node.metadata.get("layers", ()) for node in nodes))
    variables = {id(node.variable) for node in nodes if hasattr(node, "variable")}
    used = {module: (*shapes, node in nodes) for module, (*shapes, node) in calls.items()}
    return Found(layers, variables, used)


def leading_to(node) -> set:
    """Yield a node and all nodes that its result was computed from."""
    nodes, ahead = set(), [node]
    while ahead:
        node = ahead.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            ahead += [before for before, _ in node.next_functions]
    return nodes


@dataclass(eq=False)
class Value:
    """How a tensor was computed: the function and its arguments. Unknown without a function."""

    shape: torch.Size
    dtype: torch.dtype
    function: Callable | None = None
    args: tuple = ()  # with a Value for each tensor that comes from the images or parameters
    kwargs: dict = field(default_factory=dict)
    number: int | None = None  # which of several results


PARAMETER = Value(torch.Size(), torch.float32)  # a tensor to stand for each


class Inspection(TorchFunctionMode):
    """While active, note how every result was computed, and for its node which layer it is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [tensor for tensor in flattened((args, kwargs)) if isinstance(tensor, Tensor)]
        nodes = {tensor.grad_fn for tensor in tensors}
        before = described(args), described(kwargs)  # the function may overwrite them
        output = func(*args, **kwargs)
        several = isinstance(output, tuple | list)
        for number, result in enumerate(output if several else [output]):
            if isinstance(result, Tensor) and result.grad_fn not in {None, *nodes}:
                number = number if several else None
                result.value = Value(result.shape, result.dtype, func, *before, number)
                layer = layer_of(func.__name__, result.value, args, kwargs)
                result.grad_fn.metadata.setdefault("layers", set()).update(layer)
        return output


def flattened(item) -> Iterator:
    """Yield everything in nested tuples, lists and dictionaries."""
    if isinstance(item, tuple | list | dict):
        for part in item.values() if isinstance(item, dict) else item:
            yield from flattened(part)
    else:
        yield item


def mapped(function: Callable, item):
    """Apply `function` to everything in nested tuples, lists and dictionaries."""
    if isinstance(item, dict):
        return {name: mapped(function, part) for name, part in item.items()}
    if isinstance(item, tuple | list):
        items = [mapped(function, part) for part in item]
        return items if isinstance(item, list) else tuple(items)
    return function(item)


def described(item):
    """Return a function's arguments with a Value for each tensor that has a history."""

    def describe(argument):
        if not isinstance(argument, Tensor) or not argument.requires_grad:
            return argument
        if argument.grad_fn is None:
            return PARAMETER
        if not hasattr(argument, "value"):
            argument.value = Value(argument.shape, argument.dtype)
        return argument.value

    return mapped(describe, item)


def layer_of(name: str, value: Value, args, kwargs) -> set[str]:
    """Return which of the layers a call of the function `name` is: none or one."""
    if "dropout" in name:
        values = {"p": 0.5, **dict(zip(("input", "p", "training"), args, strict=False)), **kwargs}
        training = values.get("training", values.get("train", True))
        if not training or values["p"] == 0:
            return set()
        return {ALL_DROPPED if values["p"] == 1 else DROPOUT}
    if name in ("batch_norm", "linear"):
        return {NORM if name == "batch_norm" else LINEAR}
    return {AVERAGE} if is_average(value) else set()


def is_average(value: Value) -> bool:
    """Return whether a function has completed the average of a whole map, larger than 1×1.

    The map may be any result from which functions without parameters lead here. Each such map is
    replaced by random numbers, so the values that this network happens to compute play no part.
    """
    ahead, tried = [value], set()
    for _ in range(FAR):
        makers = [
            source for source in ahead if source.function and PARAMETER not in arguments(source)
        ]
        ahead = [source for maker in makers for source in arguments(maker) if source not in tried]
        tried.update(ahead)
        for source in ahead:
            maps = source.shape[:2].numel()
            larger = len(source.shape) == 4 and source.shape.numel() > maps == value.shape.numel()
            if larger and (
                averages(value, source, torch.float64) or averages(value, source, source.dtype)
            ):
                return True
    return False


def arguments(value: Value) -> list[Value]:
    """Return the arguments that a value was computed from."""
    return [
        argument
        for argument in flattened((value.args, value.kwargs))
        if isinstance(argument, Value)
    ]


@torch.no_grad()
def averages(value: Value, maps: Value, dtype: torch.dtype) -> bool:
    """Return whether `value`, computed again from other `maps`, is their mean, in two trials."""
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        fresh = 1 + 2 * torch.randn(maps.shape, generator=generator, dtype=torch.float64)
        try:
            result = again(value, {maps: fresh.to(dtype)})
        except Exception:  # a function that rejects such numbers computes no average
            return False
        exact = 1e-6 if result.dtype == torch.float64 else 1e-2 if result.itemsize < 4 else 1e-4
        expected = fresh.mean(tuple(range(2, fresh.dim())))
        if not torch.allclose(result.flatten().double(), expected.flatten(), 0, exact):
            return False
    return True


def again(value: Value, known: dict[Value, Tensor]) -> Tensor:
    """Compute a value again where other values are `known`."""
    if value not in known:
        if value.function is None:
            raise ValueError("it also depends on what is not known")

        def fill(argument):
            return again(argument, known).clone() if isinstance(argument, Value) else argument

        result = value.function(*mapped(fill, value.args), **mapped(fill, value.kwargs))
        known[value] = result if value.number is None else result[value.number]
    return known[value]


def never_used(model: nn.Module, *found: Found) -> dict[str, int]:
    """Return the modules without any parameter that an output depends on, and their parameters.

    Within a module that is never used, only the outermost is named.
    """
    used = set().union(*(shown.parameters for shown in found))
    idle = {}
    owners = [(name, [*module.parameters()]) for name, module in model.named_modules() if name]
    owners += [(name, [parameter]) for name, parameter in model.named_parameters()]
    for name, parameters in owners:
        inside = any(name.startswith(f"{outer}.") for outer in idle)
        if parameters and not inside and not used & {*map(id, parameters)}:
            idle[name] = sum(math.prod(parameter.shape) for parameter in parameters)
    return idle
