"""Output size, jump and receptive field of every layer, from kernel, stride and padding."""

import contextlib
import io
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

from s4lib.runtime import UsageError
from s4lib.runtime.rehearsal import explained, refuse_scripted

ARGUMENTS = {  # of the functions that look at neighbours, in order
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
    "lp_pool2d": ("input", "norm_type", "kernel_size", "stride"),
}
MOVES = (  # they move the numbers of one tensor to other places
    *("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "view", "reshape"),
    *("flatten", "squeeze", "unsqueeze", "unflatten", "reshape_as", "narrow", "select"),
    "__getitem__",
)
RESIZES = ("pad", "expand", "expand_as", "repeat", "cat", "chunk", "split")  # without looking
PRODUCTS = ("matmul", "bmm", "__matmul__", "einsum", "scaled_dot_product_attention")


class Sides(tuple):
    """Height and width, for maps where they differ."""

    def __str__(self) -> str:
        return "×".join(map(str, self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


Side = int | Sides  # one number where height and width are equal


class Row(NamedTuple):
    """What one layer does to the map: sizes in its own pixels, the rest in pixels of the image."""

    layer: str
    kernel: Side
    stride: Side
    padding: Side
    size: Side  # side of the output map
    jump: Side  # distance between neighbouring activations
    receptive_field: Side  # side of the square that one activation sees


class Trace(NamedTuple):
    """A tensor's last layer before it, as a row, and which of the tensor's axes are the map's.

    Both axes are the same number if the map is flattened, and None if no map is left.
    """

    row: Row
    axes: tuple[int | None, int | None]


def both(value) -> tuple[int, int]:
    """Return a size's height and width; one number stands for both."""
    return tuple(value) if isinstance(value, list | tuple) and len(value) == 2 else (value,) * 2


def side(value) -> Side:
    """Return one number if height and width are equal."""
    high, wide = map(int, both(value))
    return high if high == wide else Sides((high, wide))


class Tracer(TorchFunctionMode):
    """While this mode is active, note for every tensor the row of the last layer before it.

    A kernel of k weights a side, d pixels apart, widens the field by (k - 1) d jump; then jump *=
    stride. Where paths meet, the largest field counts.
    """

    def __init__(self, names: dict[nn.Module, str]):
        super().__init__()
        self.names, self.rows = names, []
        self.modules = []  # layers that are being computed

    def enter(self, module, *_):
        self.modules.append(module)

    def leave(self, module, inputs, output):
        self.modules.pop()
        before = inputs[0] if inputs else None  # a tensor from a scripted function has no notes
        known = isinstance(before, Tensor) and hasattr(before, "traced")
        lost = isinstance(output, Tensor) and not hasattr(output, "traced")
        if known and lost and output.shape == before.shape:
            output.traced = before.traced

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        values = [*args, *kwargs.values()]
        values += [item for value in values if isinstance(value, list | tuple) for item in value]
        known = [v for v in values if isinstance(v, Tensor) and hasattr(v, "traced")]
        before = [(tensor, tensor.traced, tensor.shape) for tensor in known]  # or overwritten
        output = func(*args, **kwargs)
        if before:
            for after in output if isinstance(output, tuple | list) else [output]:
                if isinstance(after, Tensor):
                    after.traced = self.follow(func, before, after, args, kwargs)
        return output

    def follow(self, func, before: list, after: Tensor, args, kwargs) -> Trace:
        """Return what is known of a function's result, given what was known of its inputs."""
        name = func.__name__.removesuffix("_with_indices")
        fields = [both(trace.row.receptive_field) for _, trace, _ in before]
        tensor, (last, axes), shape = max(before, key=map_size)
        last = last._replace(receptive_field=side([*map(max, zip(*fields, strict=True))]))
        if axes == (None, None):  # no map is left in it
            return Trace(last, axes)
        sizes = both(last.size) if axes[0] == axes[1] else sizes_of(shape, axes)
        gone, steps = (False, False), (1, 1)
        if name in MOVES and tensor is (*args, *kwargs.values())[0]:
            left, steps = moved(func, tensor, axes, both(last.size)[1], args, kwargs)
        else:
            left, gone = remaining(after, axes, shape, args, kwargs)
        counts = sizes if left[0] == left[1] is not None else sizes_of(after.shape, left)
        counts = [1 if lost else count for count, lost in zip(counts, gone, strict=True)]
        if name in ARGUMENTS:
            values = dict(zip(ARGUMENTS[name], args, strict=False)) | kwargs
            return Trace(self.add_row(name, counts, last, values), left)
        seen = sees_all(name, axes, len(shape), args, kwargs)
        whole = [g or (s and n > 1) for g, s, n in zip(gone, seen, sizes, strict=True)]
        if window := windows(name, sizes, counts, whole, steps):
            values = dict(zip(("kernel_size", "stride"), window, strict=True))
            return Trace(self.add_row(name, counts, last, values), left)
        resized = (*counts,) != (*sizes,) and left[0] != left[1]
        if resized and name not in MOVES + RESIZES:
            raise UsageError(
                f"After {last.layer} the map becomes {counts[0]}×{counts[1]}, not "
                f"{sizes[0]}×{sizes[1]}, by {name}, whose receptive field isn't known here. Use a "
                "convolution or a pooling."
            )
        return Trace(last._replace(size=side(counts)), left)

    def add_row(self, name: str, counts, last: Row, values: dict) -> Row:
        """Note a layer that follows on the `last` row."""
        layer = self.names.get(self.modules[-1], "")
        inside = {child for child, _ in self.modules[-1].named_children()} - {"parametrizations"}
        if inside or not layer:  # called in `forward`
            layer = f"{layer}.{name}".lstrip(".")
        kernels = both(values.get("kernel_size") or tuple(values["weight"].shape[-2:]))
        strides = both(values.get("stride") or (1 if name == "conv2d" else kernels))
        dilations, padding = both(values.get("dilation", 1)), values.get("padding", 0)
        columns = []
        for axis in (0, 1):
            spread = dilations[axis] * (kernels[axis] - 1)
            border = {"same": spread // 2, "valid": 0}.get(padding, both(padding)[axis])
            jump = both(last.jump)[axis]
            field = both(last.receptive_field)[axis] + spread * jump
            stride = strides[axis]
            columns.append((kernels[axis], stride, border, counts[axis], jump * stride, field))
        self.rows.append(Row(layer, *map(side, zip(*columns, strict=True))))
        return self.rows[-1]


def map_size(known: tuple[Tensor, Trace, torch.Size]) -> int:
    """Return the number of activations in an input's map; 0 if no map is left."""
    _, trace, shape = known
    axes = {axis for axis in trace.axes if axis is not None}
    return math.prod(shape[axis] for axis in axes) if axes else 0


def sizes_of(shape, axes) -> tuple[int, int]:
    """Return height and width; an axis that is no longer there has 1."""
    return tuple(1 if axis is None else shape[axis] for axis in axes)


def moved(func, tensor, axes, width, args, kwargs):
    """Return which axes of the result are the map's, and the steps of its rows and columns.

    The function is given the row of each activation instead of `tensor`, and then the column.
    """
    results = []
    for positions in rows_and_columns(tensor, axes, width):
        given = [positions if value is tensor else value for value in args]
        named = {key: positions if value is tensor else value for key, value in kwargs.items()}
        results.append(func(*given, **named))
    rows, columns = results
    if sizes_of(tensor.shape, axes) == (1, 1):  # whose rows and columns look alike
        pairs = [d for d in range(rows.dim() - 1) if rows.shape[d : d + 2] == (1, 1)]
        return ((pairs[-1], pairs[-1] + 1) if pairs else (None, None)), (1, 1)
    high, wide = varying(rows), varying(columns)
    if high == wide is not None:  # flattened, unless channels were flattened as well
        in_order = rows.dim() > 2 and (rows.diff(dim=high) >= 0).all()
        return ((high, wide) if in_order else (None, None)), (1, 1)
    down, right = step(rows, high), step(columns, wide)
    return (high if down else None, wide if right else None), (down or 1, right or 1)


def rows_and_columns(tensor, axes, width) -> list[Tensor]:
    """Return the row of each activation, and its column, as tensors of the shape of `tensor`."""
    positions = []
    for axis in axes:
        numbers = torch.zeros(1) if axis is None else torch.arange(tensor.shape[axis])
        shape = [1] * tensor.dim()
        shape[axis or 0] = -1
        positions.append(numbers.view(shape).expand(tensor.shape).contiguous())
    rows, columns = positions
    return [rows // width, columns % width] if axes[0] == axes[1] else positions


def varying(positions: Tensor) -> int | None:
    """Return the only axis along which the numbers differ, or None."""
    axes = [
        axis
        for axis, size in enumerate(positions.shape)
        if size > 1 and positions.ne(positions.narrow(axis, 0, 1)).any()
    ]
    return axes[0] if len(axes) == 1 else None


def step(positions: Tensor, axis: int | None) -> int:
    """Return the step between numbers along an axis; 0 unless they grow evenly."""
    apart = torch.zeros(1) if axis is None else positions.diff(dim=axis)
    return int(apart.flatten()[0]) if (apart > 0).all() else 0


def remaining(after, axes, shape, args, kwargs):
    """Return which axes of the result are the map's, and whether rows and columns were joined."""
    count, new = len(shape), tuple(after.shape)
    if after.dim() == count:  # the map has the same axes; some may have been averaged
        return axes, tuple(axis is not None and shape[axis] > 1 == new[axis] for axis in axes)
    dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dims = dims if isinstance(dims, list | tuple) else [dims]
    dims = [dim % count if isinstance(dim, int) else None for dim in dims]
    ways = [(True, True), (True, False), (False, True)]
    for lost in sorted(ways, key=lambda lost: lost != tuple(axis in dims for axis in axes)):
        dropped = {axis for axis, is_lost in zip(axes, lost, strict=True) if is_lost}
        rest = [d for d in range(count) if d not in dropped]
        if None not in dropped and new == tuple(shape[d] for d in rest):
            places = tuple(rest.index(axis) if axis in rest else None for axis in axes)
            return places, tuple(axis in dropped for axis in axes)
    return (None, None), (False, False)


def sees_all(name, axes, count, args, kwargs) -> tuple[bool, bool]:
    """Return whether each result depends on whole rows and columns, as the mean of a norm does."""
    values = dict(enumerate(args)) | kwargs
    if name == "group_norm" or (
        name == "instance_norm" and values.get("use_input_stats", values.get(5, True))
    ):
        return True, True
    if name == "batch_norm":
        return (bool(values.get("training", values.get(5, False))),) * 2
    if name in PRODUCTS:
        return True, True
    over = ()
    if name in ("layer_norm", "rms_norm"):
        over = range(count - len(values.get("normalized_shape", values.get(1))), count)
    elif name == "linear":
        over = (count - 1,)
    elif name in ("softmax", "log_softmax"):
        dim = values.get("dim", values.get(1))
        over = (dim % count,) if isinstance(dim, int) else ()
    return tuple(axis in over for axis in axes)


def windows(name, sizes, counts, whole, steps):
    """Return kernel and stride of a function without such arguments, or None."""
    if name.startswith("adaptive") and counts != [1, 1]:
        return [*zip(*map(bins, sizes, counts), strict=True)]
    if name == "pixel_unshuffle":
        square = tuple(size // count for size, count in zip(sizes, counts, strict=True))
        return square, square
    kernel = tuple(size if every else 1 for size, every in zip(sizes, whole, strict=True))
    stride = tuple(1 if every else step for step, every in zip(steps, whole, strict=True))
    return (kernel, stride) if any(whole) or stride != (1, 1) else None


def bins(size: int, count: int) -> tuple[int, int]:
    """Return kernel and stride of adaptive pooling, whose windows may overlap."""
    return max(-(-(i + 1) * size // count) - i * size // count for i in range(count)), size // count


@torch.no_grad()
def receptive_fields(model: nn.Module) -> list[Row]:
    """Return one row for every convolution and pooling that `model` computes of a 28×28 image.

    A norm whose mean covers the whole map is a row as well, with a kernel as large as the map.
    Raises UsageError for any other function that changes the map's size.
    """
    refuse_scripted(model)
    tracer = Tracer({module: name for name, module in model.named_modules()})
    images = torch.zeros(2, 1, 28, 28).to(next(model.parameters(), torch.zeros(1)))
    images.traced = Trace(Row("the image", 1, 1, 0, 28, 1, 1), (2, 3))
    training = model.training
    with (
        register_module_forward_pre_hook(tracer.enter),
        register_module_forward_hook(tracer.leave, always_call=True),
        contextlib.redirect_stdout(io.StringIO()),
        explained(model),
        tracer,
    ):
        model.eval()(images)
    model.train(training)
    return tracer.rows


def table(rows: list[Row]) -> str:
    """Return the rows as aligned text under a header."""
    lines = [("layer", "kernel", "stride", "padding", "output", "jump", "sees"), *rows]
    widths = [max(len(str(cell)) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        for name, *numbers in lines
    )
