"""Try a network before it is trained, so that an error is reported at once and not later."""

import contextlib
import copy
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from s4lib.runtime import UsageError

OURS = Path(__file__).parents[1]  # a user can do nothing with frames of the library's own
LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


@torch.no_grad()
def materialise(model: nn.Module) -> None:
    """Let the lazy layers of a network, if it has any, get their shapes from two blank images."""
    if any(map(is_lazy, (*model.parameters(), *model.buffers()))):
        training = model.training
        with explained(model):
            model.eval()(torch.zeros(2, 1, 28, 28))
        model.train(training)


def memory_format(model: nn.Module, images: Tensor, amp) -> torch.memory_format:
    """Return the layout in which `model` trains on such a batch: channels last, if it can.

    Some networks can't, such as those that call `view` on a map. They train in PyTorch's usual
    layout, which is slower. A step is tried in training mode on a copy, and the random numbers that
    it draws are given back. Raises UsageError, with the user's line, if neither layout trains.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    for layout in (torch.channels_last, torch.contiguous_format):
        with torch.random.fork_rng(devices), explained(model):
            try:
                step(copied(model).to(memory_format=layout).train(), images, amp)
                return layout
            except RuntimeError:
                if layout is torch.contiguous_format:
                    raise
    raise AssertionError("the last layout returns or raises")


def step(model: nn.Module, images: Tensor, amp) -> None:
    """Compute the outputs and the gradients once."""
    with torch.enable_grad(), amp.autocast():
        log_probs = model(images)
        if log_probs.shape != (len(images), 10):
            raise RuntimeError(f"it returns {tuple(log_probs.shape)} for {len(images)} images")
        log_probs.sum().backward()


def copied(model: nn.Module) -> nn.Module:
    """Copy a network; the copy shares with the original only what can't be copied.

    Training does not change such objects: a Python module or an open log that the network holds, an
    activation that it kept. Raises UsageError if more than that can't be copied.
    """
    try:
        return copy.deepcopy(model)
    except Exception:
        usual = vars(nn.Module()).keys()
        held = [
            value
            for module in model.modules()
            for name, value in vars(module).items()
            if name not in usual
        ]
    try:
        return copy.deepcopy(model, {id(kept): kept for kept in held if not can_be_copied(kept)})
    except Exception as error:
        name = type(model).__name__
        raise UsageError(f"{name} can't be copied: {first_line(error)}.") from error


def can_be_copied(value) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:
        return False
    return True


def plain(model: nn.Module) -> nn.Module:
    """Return the network within `torch.compile` and `nn.DataParallel`, wherever they are."""
    while isinstance(model, nn.DataParallel) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, nn.DataParallel) else model._orig_mod
    for name, child in model.named_children():
        setattr(model, name, plain(child))
    return model


@contextlib.contextmanager
def explained(model: nn.Module) -> Iterator[None]:
    """Turn an error in the network into a UsageError that names the user's line, or the layer."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(explain(error, model)) from error


def explain(error: Exception, model: nn.Module) -> str:
    """Return a message with the user's line, else the layer and the shape of its input."""
    what, (layer, given) = first_line(error), failing_layer(error)
    names = {module: name for name, module in model.named_modules()}
    name = names.get(layer) or type(layer).__name__
    if isinstance(layer, nn.Conv2d) and given and given[-3:] == (1, 28, 28):
        what = f"images have one channel, but {name} takes {layer.in_channels}: {layer}"
    elif layer is not None:
        what += f" ({name}, which is {layer}, is given {given})" if given else f" (in {name})"
    if any(p.dtype == torch.float64 for p in model.parameters()) and "dtype" in what:
        what += ". The network's weights are float64, images are float32"
    frames = [*traceback.extract_tb(error.__traceback__)]
    calls = [i for i, frame in enumerate(frames) if frame.filename == nn.modules.module.__file__]
    lines = [line for line in map(place, frames[calls[0] :] if calls else []) if line]
    if lines:
        return f"{lines[-1]}: {type(error).__name__}: {what}"
    return f"{type(model).__name__}: {what}"


def failing_layer(error: Exception) -> tuple[nn.Module | None, tuple[int, ...] | None]:
    """Return the innermost layer that an error came through, and the shape of its input."""
    layer = given = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and not any(module.children()):
            inputs = (frame.f_locals.get(name) for name in ("input", "x", "args"))
            inputs = [value[0] if isinstance(value, tuple) and value else value for value in inputs]
            shapes = [tuple(value.shape) for value in inputs if isinstance(value, Tensor)]
            layer, given = module, shapes[0] if shapes else given
    return layer, given


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def place(frame: traceback.FrameSummary) -> str | None:
    """Return the file and line of a frame in the user's own code, as the user would name them."""
    path = Path(frame.filename)
    if frame.name == "__torch_function__":  # a tool that follows the network's functions
        return None
    if any(map(path.is_relative_to, (OURS, *LIBRARIES))):
        return None
    if "ipykernel_" in frame.filename:
        return f"line {frame.lineno} of a cell"
    if frame.filename.startswith("<"):
        return None
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return f"{path}, line {frame.lineno}"


def refuse_scripted(model: nn.Module) -> None:
    """Raises UsageError, naming it, for a scripted part: its computation can't be followed."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError(
                f"{name or 'The network'} is scripted: what it computes can't be looked into. "
                "Check the class itself, without torch.jit.script."
            )
