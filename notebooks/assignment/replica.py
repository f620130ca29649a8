"""Describe a network as plain data, and build the same network from it elsewhere.

`describe` runs in a student's process: it follows a network through training and testing and
records which layers of `torch.nn` and functions of PyTorch are called. `Replica` builds a network
from the record that computes the same without any of the student's code. The grader then compares
both on images that it draws afterwards, so a false record is noticed.
"""

import copy
import functools
import inspect

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode, get_overridable_functions, resolve_name

SIZES = (11, 13)  # of batches: a number that grows with them is the batch's size
MAKERS = ("zeros", "ones", "full", "empty", "arange", "linspace", "eye", "tensor", "as_tensor")
RANDOM = ("rand", "randn", "randint")


class DifferenceError(Exception):
    """A network that can't be described, or that computes something other than its description."""


@functools.cache
def functions() -> dict:
    """The functions that may be called, by name; they compute tensors and do nothing else."""
    found = {}
    for listed in get_overridable_functions().values():
        for function in listed:
            name = full_name(function)
            if name:
                found[name] = function
    return found | {f"torch.{name}": getattr(torch, name) for name in MAKERS + RANDOM}


def full_name(function) -> str:
    name = resolve_name(function)
    return name or f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"


# In the student's process


class Trace(TorchFunctionMode):
    """Record every layer and function that is called, in order, with arguments and results."""

    def __init__(self, model: nn.Module, layers: dict[str, nn.Module], image: Tensor):
        super().__init__()
        self.names = {module: name for name, module in layers.items()}
        state = [*model.named_parameters(), *model.named_buffers()]
        self.state = {id(tensor): name for name, tensor in state}
        self.known, self.alive, self.steps, self.depth = {}, [], [], 0
        self.number(image)

    def number(self, tensor: Tensor) -> int:
        if id(tensor) not in self.known:
            self.known[id(tensor)] = len(self.alive)
            self.alive.append(tensor)  # kept, because its id could become another tensor's
        return self.known[id(tensor)]

    def data(self, value):
        """Return an argument as data."""
        if isinstance(value, Tensor):
            if id(value) in self.known:
                return {"x": self.known[id(value)]}
            if id(value) in self.state:
                return {"state": self.state[id(value)]}
            kind = str(value.dtype).removeprefix("torch.")
            return {"const": value.detach().tolist(), "dtype": kind}
        if isinstance(value, list | tuple):
            return {"list" if isinstance(value, list) else "tuple": [*map(self.data, value)]}
        if isinstance(value, slice):
            return {"slice": [*map(self.data, (value.start, value.stop, value.step))]}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if value is Ellipsis:
            return {"ellipsis": True}
        if isinstance(value, torch.device | torch.memory_format | torch.layout):
            return {"torch": str(value).removeprefix("torch.")}
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise DifferenceError(f"an argument that is a {type(value).__name__}")

    def outputs(self, value):
        """Return the numbers of the tensors in a result."""
        if isinstance(value, Tensor):
            return self.number(value)
        return [*map(self.outputs, value)] if isinstance(value, list | tuple) else None

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.depth:
            return func(*args, **kwargs)
        output = func(*args, **kwargs)
        if any_tensor(output):  # a size is recorded where it is used
            named = {str(name): self.data(value) for name, value in kwargs.items()}
            values = [*map(self.data, args)]
            self.steps.append([f"f:{full_name(func)}", values, named, self.outputs(output)])
        return output

    def enter(self, module, inputs) -> None:
        if module in self.names:
            self.depth += 1

    def leave(self, module, inputs, output) -> None:
        if module in self.names:
            self.depth -= 1
            if not self.depth:
                values = [*map(self.data, inputs)]
                self.steps.append([f"m:{self.names[module]}", values, {}, self.outputs(output)])


def any_tensor(value) -> bool:
    if isinstance(value, list | tuple):
        return any(map(any_tensor, value))
    return isinstance(value, Tensor)


def settings(module: nn.Module) -> dict | None:
    """Return what `torch.nn` needs to build such a layer again, or nothing for other layers."""
    kind = type(module)
    if getattr(nn, kind.__name__, None) is not kind or any(module.children()):
        return None
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict | nn.ParameterList):
        return None
    made = {}
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        value = getattr(module, name, None)
        if name in ("self", "device", "dtype") or parameter.kind in (2, 4):
            continue
        made[name] = value is not None if name == "bias" else plain(value)
    return made


def plain(value):
    if isinstance(value, list | tuple):
        return [*map(plain, value)]
    return value if type(value) in (bool, int, float, str) else None


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if settings(module) is not None}


@torch.enable_grad()
def follow(model: nn.Module, shape: list, training: bool) -> list:
    """Return the steps from an image to what the network returns."""
    model = copy.deepcopy(model).train(training)
    image = torch.randn(shape)
    trace = Trace(model, layers_of(model), image)
    with (
        torch.random.fork_rng(devices=[]),
        register_module_forward_pre_hook(trace.enter),
        register_module_forward_hook(trace.leave, always_call=False),
        trace,
    ):
        output = model(image)
    if not isinstance(output, Tensor):
        return [trace.steps, None, f"{type(output).__name__}"]
    return [trace.steps, trace.data(output), ""]


def describe(model: nn.Module, shapes: list, keep, failure) -> dict:
    """Return a network as data, and its steps with each of two batch sizes."""
    model = model.cpu()
    modes = {}
    for mode in ("train", "eval"):
        try:
            modes[mode] = [follow(model, [size, *shapes], mode == "train") for size in SIZES]
        except DifferenceError as error:
            modes[mode] = {"unknown": str(error)}
        except Exception as error:
            modes[mode] = {"error": failure(error)}
    from notebooks.assignment import wire

    state = [
        [name, wire.encode(tensor, keep), bool(tensor.requires_grad), name in buffers]
        for buffers in [{name for name, _ in model.named_buffers()}]
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    ]
    persistent = [*model.state_dict()]
    modules = [
        [name, type(module).__name__, settings(module), bool(module.training)]
        for name, module in model.named_modules()
    ]
    shared = {
        f"{kind}s": aliases(getattr(model, f"named_{kind}s")) for kind in ("module", "parameter")
    }
    return {"shared": shared, "name": type(model).__name__, "modules": modules, "state": state,
            "persistent": persistent, "modes": modes}  # fmt: skip


def aliases(named) -> list:
    """Return further names of an object with several names, each with the first one."""
    first, found = {}, []
    for name, member in named(remove_duplicate=False):
        if first.setdefault(id(member), name) != name:
            found.append([name, first[id(member)]])
    return found


def outputs(model: nn.Module, images: Tensor, training: bool, direction: Tensor, random_state):
    """Return log-probabilities of images, and the gradients of their product with `direction`."""
    model = copy.deepcopy(model).train(training)
    if random_state is not None:
        torch.set_rng_state(random_state)
    output = model(images)
    output = output if isinstance(output, Tensor) else torch.zeros(0)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not output.requires_grad:
        return [output.detach(), []]
    loss = (output * direction).sum() if output.shape == direction.shape else output.sum()
    return [output.detach(), [*torch.autograd.grad(loss, parameters, allow_unused=True)]]


# In the grader's process


class Part(nn.Module):
    """A module for a class of the student's; only what is in it is known."""


class Replica(nn.Module):
    """A network built from data, which computes what the described network computes."""

    def __init__(self, data: dict, raise_error):
        super().__init__()
        self.steps = {mode: steps_of(found) for mode, found in data["modes"].items()}
        self.raise_error = raise_error
        for name, kind, values, _ in data["modules"]:
            if name:
                self.add(str(name), kind, values)
        for (name, _, requires_grad, is_buffer), tensor in zip(
            data["state"], data["tensors"], strict=True
        ):
            self.set_tensor(str(name), tensor, requires_grad, is_buffer, name in data["persistent"])
        for name, first in data["shared"]["modules"]:
            parent, last = self.parent(str(name))
            parent.add_module(last, self.get_submodule(str(first)))
        for name, first in data["shared"]["parameters"]:
            parent, last = self.parent(str(name))
            if last not in parent._parameters:
                parent.register_parameter(last, self.get_parameter(str(first)))
        for name, *_, training in data["modules"]:
            self.get_submodule(name).training = bool(training)

    def parent(self, name: str) -> tuple[nn.Module, str]:
        """Return the module that something belongs to, and its name there."""
        above, _, last = name.rpartition(".")
        return self.get_submodule(above), last

    def add(self, name: str, kind: str, values: dict | None) -> None:
        parent, last = self.parent(name)
        made = Part()
        if values is not None:
            layer = getattr(nn, str(kind))
            if not issubclass(layer, nn.Module):
                raise DifferenceError(f"no layer: {kind}")
            values = {str(k): tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            made = layer(**values)
        parent.add_module(last, made)

    def set_tensor(self, name, tensor, requires_grad, is_buffer, persistent) -> None:
        parent, last = self.parent(name)
        if is_buffer:
            parent.register_buffer(last, tensor, persistent=persistent)
        elif tensor.is_floating_point():
            parent.register_parameter(last, nn.Parameter(tensor, requires_grad))

    def forward(self, image: Tensor):
        steps, output, problem = self.steps["train" if self.training else "eval"]
        if problem:
            self.raise_error(problem)
        values = {0: image}
        size = len(image)
        state = dict([*self.named_parameters(), *self.named_buffers()])

        def value(data):
            return made(data, values, state, size)

        for call, args, kwargs, numbers in steps:
            kind, name = call[:2], call[2:]
            target = self.get_submodule(name) if kind == "m:" else functions().get(name)
            if target is None:
                raise DifferenceError(f"a function that is not known here: {name}")
            result = target(*map(value, args), **{k: value(v) for k, v in kwargs.items()})
            keep(result, numbers, values)
        return value(output)


def keep(result, numbers, values: dict) -> None:
    """Store a result under the numbers that it has in the record."""
    if isinstance(numbers, list):
        for item, number in zip(result, numbers, strict=False):
            keep(item, number, values)
    elif numbers is not None:
        values[numbers] = result


def made(data, values: dict, state: dict, size: int):
    """Turn data of `Trace.data` and `both` back into an argument of a call."""
    if not isinstance(data, dict):
        return data
    if "x" in data:
        return values[data["x"]]
    if "state" in data:
        return state[data["state"]]
    if "batch" in data:
        return data["batch"][0] * size + data["batch"][1]
    if "const" in data:
        return torch.tensor(data["const"], dtype=getattr(torch, data["dtype"]))
    if "dtype" in data or "torch" in data:
        name = data.get("dtype") or data["torch"]
        return getattr(torch, name) if hasattr(torch, name) else torch.device(name)
    if "ellipsis" in data:
        return ...
    items = [made(item, values, state, size) for item in next(iter(data.values()))]
    return {"list": list, "tuple": tuple, "slice": lambda x: slice(*x)}[next(iter(data))](items)


def steps_of(found):
    """Return steps, output and problem of one mode, from the records of two batch sizes."""
    if isinstance(found, dict):
        return [], None, found
    (steps, output, other), (more, *_) = found
    if other:
        return [], None, {"returned": other}
    return both(steps, more), output, None


def both(first, second):
    """Return what two records share; numbers that grow with the batch become {"batch": [a, b]}."""
    if isinstance(first, dict) and isinstance(second, dict) and first.keys() == second.keys():
        return {k: both(first[k], second[k]) for k in first}
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [both(a, b) for a, b in zip(first, second, strict=True)]
    if first == second:
        return first
    if type(first) is type(second) is int:
        rate, rest = divmod(second - first, SIZES[1] - SIZES[0])
        if not rest:
            return {"batch": [rate, first - rate * SIZES[0]]}
    raise DifferenceError("what it computes depends on the size of the batch")
