"""From kernel, stride and padding to output size, jump and receptive field, for every layer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from s4lib.runtime import UsageError

ARGUMENTS = {  # of the functions that look at neighbours, in order
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
}


class Row(NamedTuple):
    """What one layer does to the map; sizes in pixels of its own output, the rest of the image."""

    layer: str
    kernel: int
    stride: int
    padding: int
    size: int  # side of the output map
    jump: int  # distance between neighbouring activations
    receptive_field: int  # side of the square that one activation can see


class Follower(TorchFunctionMode):
    """Tells `see` of every function of PyTorch's that is called, by a layer or in `forward`.

    A subclass notes on each output what is known of its inputs.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        values = [*args, *kwargs.values()]
        values += [one for part in values if isinstance(part, list | tuple) for one in part]
        inputs = [value for value in values if isinstance(value, Tensor)]
        after = output[0] if isinstance(output, tuple) and output else output
        if inputs and isinstance(after, Tensor):
            self.see(func.__name__.removesuffix("_with_indices"), inputs, after, args, kwargs)
        return output


class Fields(Follower):
    """Every tensor on its way remembers the row of the last layer that it has come through.

    A kernel of k taps that are d pixels apart sees k - 1 taps more than its input did: field +=
    (k - 1) d jump; then jump *= stride. Where paths meet, the largest field counts.
    """

    def __init__(self, names: dict[nn.Module, str]):
        super().__init__()
        self.names, self.rows = names, []
        self.modules = []  # that are being computed

    def enter(self, module, *_):
        self.modules.append(module)

    def leave(self, *_):
        self.modules.pop()

    def see(self, name: str, inputs: list[Tensor], after: Tensor, args, kwargs) -> None:
        before = [one for one in inputs if hasattr(one, "row")]
        if not before:
            return
        last = max((one.row for one in before), key=lambda row: row.receptive_field)
        size = before[0].shape[-1]
        if name in ARGUMENTS:
            values = dict(zip(ARGUMENTS[name], args, strict=False)) | kwargs
            after.row = self.add(name, after, last, values)
        elif (
            before[0].dim() == 4
            and size > 1
            and after.numel() == after.shape[:2].numel() == before[0].shape[1]
        ):
            # One number is left of every channel: however that is called, it saw the whole map.
            after.row = self.add(name, after, last, {"kernel_size": size, "stride": 1})
        elif after.dim() == 4 and (after.shape[-1] == size or name == "pad"):
            after.row = last
        elif after.dim() == 4:
            raise UsageError(
                f"After {last.layer} the map becomes {after.shape[-1]}×{after.shape[-1]}, not "
                f"{size}×{size}, by {name}, whose receptive field isn't known here. Use a "
                "convolution or a pooling."
            )

    def add(self, name: str, after: Tensor, last: Row, values: dict) -> Row:
        """Note what follows on the `last` row."""
        layer = self.names.get(self.modules[-1], "")
        if any(self.modules[-1].children()) or not layer:  # called in `forward`
            layer = f"{layer}.{name}".lstrip(".")
        kernel = side(layer, values.get("kernel_size") or values["weight"].shape[-2:])
        stride = side(layer, values.get("stride") or (1 if name == "conv2d" else kernel))
        spread = side(layer, values.get("dilation", 1)) * (kernel - 1)
        padding = side(layer, values.get("padding", 0))
        padding = {"same": spread // 2, "valid": 0}.get(padding, padding)
        size = after.shape[-1] if after.dim() == 4 else 1
        field = last.receptive_field + spread * last.jump
        self.rows.append(Row(layer, kernel, stride, padding, size, last.jump * stride, field))
        return self.rows[-1]


def side(layer: str, value) -> int:
    """The number that stands for both directions. Raises UsageError if they differ."""
    both = {int(one) for one in value} if isinstance(value, list | tuple) else {value}
    if len(both) > 1:
        raise UsageError(f"{layer} treats rows and columns differently: its field is no square.")
    return both.pop()


@torch.no_grad()
def receptive_fields(model: nn.Module) -> list[Row]:
    """One row for every convolution and pooling that `model` computes of a 28×28 image.

    Raises UsageError for what changes the map's size otherwise.
    """
    fields = Fields({module: name for name, module in model.named_modules()})
    image = torch.zeros(1, 1, 28, 28).to(next(model.parameters(), torch.zeros(1)))
    image.row = Row("the image", 1, 1, 0, 28, 1, 1)
    training = model.training
    with (
        register_module_forward_pre_hook(fields.enter),
        register_module_forward_hook(fields.leave, always_call=True),
        fields,
    ):
        model.eval()(image)
    model.train(training)
    return fields.rows


def table(rows: list[Row]) -> str:
    """The rows as aligned text under a header."""
    lines = [("layer", "kernel", "stride", "padding", "output", "jump", "sees"), *rows]
    widths = [max(len(str(cell)) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        for name, *numbers in lines
    )
