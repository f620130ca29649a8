"""From kernel, stride and padding to output size, jump and receptive field, for every layer."""

import contextlib
import io
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
PERMUTATIONS = ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis")
RESHAPES = ("view", "reshape", "flatten", "squeeze", "unsqueeze", "unflatten", "reshape_as")
MOVES = (
    "pad",
    "expand",
    "expand_as",
    "repeat",
    "cat",
    "narrow",
    "chunk",
    "split",
    *PERMUTATIONS,
    *RESHAPES,
    "__getitem__",
)
PRODUCTS = ("matmul", "bmm", "__matmul__", "einsum", "scaled_dot_product_attention")


class Sides(tuple):
    """Height and width, where they differ."""

    def __str__(self) -> str:
        return "×".join(map(str, self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


Side = int | Sides  # one number where height and width are alike


class Row(NamedTuple):
    """What one layer does to the map; sizes in pixels of its own output, the rest of the image."""

    layer: str
    kernel: Side
    stride: Side
    padding: Side
    size: Side  # side of the output map
    jump: Side  # distance between neighbouring activations
    receptive_field: Side  # side of the square that one activation can see


class Seen(NamedTuple):
    """What is known of a tensor on its way: its last row, and which of its axes are the map's.

    The two are the same where the map is flattened, and None where nothing is left of it.
    """

    row: Row
    axes: tuple[int | None, int | None]


def both(value) -> tuple[int, int]:
    """Height and width of a size: one number stands for both."""
    return tuple(value) if isinstance(value, list | tuple) and len(value) == 2 else (value,) * 2


def side(value) -> Side:
    """One number if height and width are alike."""
    high, wide = (int(one) for one in both(value))
    return high if high == wide else Sides((high, wide))


class Fields(TorchFunctionMode):
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

    def leave(self, module, inputs, output):
        self.modules.pop()
        before = inputs[0] if inputs else None  # what a scripted function makes knows nothing
        known = isinstance(before, Tensor) and hasattr(before, "seen")
        lost = isinstance(output, Tensor) and not hasattr(output, "seen")
        if known and lost and output.shape == before.shape:
            output.seen = before.seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        values = [*args, *kwargs.values()]
        values += [one for part in values if isinstance(part, list | tuple) for one in part]
        inputs = [value for value in values if isinstance(value, Tensor)]
        before = [
            (one, one.seen, one.shape, one.stride()) for one in inputs if hasattr(one, "seen")
        ]
        output = func(*args, **kwargs)
        if before:
            name = func.__name__.removesuffix("_with_indices")
            for after in output if isinstance(output, tuple | list) else [output]:
                if isinstance(after, Tensor):
                    after.seen = self.see(name, before, after, args, kwargs)
        return output

    def see(self, name: str, before: list, after: Tensor, args, kwargs) -> Seen:
        """What is known of the result of a function, of what was known of its inputs."""
        fields = [both(seen.row.receptive_field) for _, seen, *_ in before]
        _, (last, axes), shape, strides = max(before, key=map_size)
        last = last._replace(receptive_field=side([*map(max, zip(*fields, strict=True))]))
        if axes == (None, None):  # no map is left
            return Seen(last, axes)
        sizes = both(last.size) if axes[0] == axes[1] else sizes_of(shape, axes)
        left, gone = remaining(name, after, axes, shape, strides, sizes, args, kwargs)
        counts = sizes if left[0] == left[1] is not None else sizes_of(after.shape, left)
        counts = [1 if lost else count for count, lost in zip(counts, gone, strict=True)]
        values = dict(zip(ARGUMENTS.get(name, ()), args, strict=False)) | kwargs
        whole = sees_all(name, axes, len(shape), args, kwargs)
        taps = [
            (size, 1) if lost or (every and size > 1) else None
            for size, lost, every in zip(sizes, gone, whole, strict=True)
        ]
        if name in ARGUMENTS:
            return Seen(self.add(name, counts, last, values), left)
        if name.startswith("adaptive") and counts != [1, 1]:
            taps = [*map(bins, sizes, counts)]
        elif name == "pixel_unshuffle":
            taps = [(size // count,) * 2 for size, count in zip(sizes, counts, strict=True)]
        elif name == "__getitem__" and (steps := steps_of(args[1], axes, len(shape))) != [1, 1]:
            taps = [(1, step) for step in steps]
        if any(taps):
            kernel, stride = zip(*(one or (1, 1) for one in taps), strict=True)
            values = {"kernel_size": kernel, "stride": stride}
            return Seen(self.add(name, counts, last, values), left)
        if (*counts,) != (*sizes,) and left[0] != left[1] and name not in MOVES:
            raise UsageError(
                f"After {last.layer} the map becomes {counts[0]}×{counts[1]}, not "
                f"{sizes[0]}×{sizes[1]}, by {name}, whose receptive field isn't known here. Use a "
                "convolution or a pooling."
            )
        return Seen(last._replace(size=side(counts)), left)

    def add(self, name: str, counts, last: Row, values: dict) -> Row:
        """Note what follows on the `last` row."""
        layer = self.names.get(self.modules[-1], "")
        inside = [
            part for part, _ in self.modules[-1].named_children() if part != "parametrizations"
        ]
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


def map_size(one) -> int:
    """How many activations the map of an input has; 0 where nothing is left of it."""
    _, seen, shape, _ = one
    if seen.axes == (None, None):
        return 0
    return (
        shape[seen.axes[0]]
        if seen.axes[0] == seen.axes[1]
        else torch.Size(sizes_of(shape, seen.axes)).numel()
    )


def sizes_of(shape, axes) -> tuple[int, int]:
    """Height and width: 1 of an axis that is left no more."""
    return tuple(1 if axis is None else shape[axis] for axis in axes)


def remaining(name, after, axes, shape, strides, sizes, args, kwargs):
    """Which axes of the result are the map's, and whether rows and columns were put together."""
    count, new = len(shape), tuple(after.shape)
    if name == "__getitem__":
        return kept_axes(args[1], axes, count), (False, False)
    if name in PERMUTATIONS:
        places = [
            next(
                (
                    d
                    for d in range(after.dim())
                    if (new[d], after.stride(d)) == (shape[a], strides[a])
                ),
                None,
            )
            if a is not None
            else None
            for a in axes
        ]
        return tuple(places), (False, False)
    if name in RESHAPES:
        pairs = [d for d in range(len(new) - 1) if new[d : d + 2] == sizes]
        flat = [d for d in range(len(new)) if len(new) > 2 and new[d] == sizes[0] * sizes[1]]
        if pairs:
            return (pairs[-1], pairs[-1] + 1), (False, False)
        return ((flat[-1], flat[-1]) if flat and max(sizes) > 1 else (None, None)), (False, False)
    if after.dim() == count:  # a map of the same axes, some of which may have been averaged
        gone = [a is not None and shape[a] > 1 == new[a] for a in axes]
        return axes, tuple(gone)
    over = kwargs.get("dim", args[1] if len(args) > 1 else None)
    over = over if isinstance(over, list | tuple) else [over]
    over = [one % count if isinstance(one, int) else None for one in over]
    ways = [(True, True), (True, False), (False, True)]
    for lost in sorted(ways, key=lambda lost: lost != tuple(axis in over for axis in axes)):
        dropped = {a for a, one in zip(axes, lost, strict=True) if one}
        rest = [d for d in range(count) if d not in dropped]
        if None not in dropped and new == tuple(shape[d] for d in rest):
            places = tuple(rest.index(a) if a in rest else None for a in axes)
            return places, tuple(a in dropped for a in axes)
    return (None, None), (False, False)


def sees_all(name, axes, count, args, kwargs) -> tuple[bool, bool]:
    """Whether each result depends on whole rows and columns, as the mean of a norm does."""
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


def bins(size: int, count: int) -> tuple[int, int]:
    """Kernel and stride of adaptive pooling, whose windows may overlap."""
    return max(-(-(i + 1) * size // count) - i * size // count for i in range(count)), size // count


def indices(key, count: int) -> list:
    """What a key in square brackets does to each of `count` axes."""
    key = [*key] if isinstance(key, tuple) else [key]
    missing = count - sum(one is not None and one is not Ellipsis for one in key)
    if Ellipsis in [one for one in key if not isinstance(one, Tensor)]:
        place = next(i for i, one in enumerate(key) if one is Ellipsis)
        key[place : place + 1] = [slice(None)] * missing
    return key + [slice(None)] * (count - sum(one is not None for one in key))


def kept_axes(key, axes, count: int) -> tuple[int | None, int | None]:
    """Where the map's axes are after x[key]."""
    places, place, axis = {}, 0, 0
    for one in indices(key, count):
        if one is not None:
            places[axis] = None if isinstance(one, int) else place
            axis += 1
        place += not isinstance(one, int)
    return tuple(places.get(a) for a in axes)


def steps_of(key, axes, count: int) -> list[int]:
    """The steps of x[key] along the map's axes."""
    parts = [one for one in indices(key, count) if one is not None]
    steps = [getattr(part, "step", None) or 1 for part in parts]
    return [1 if axis is None else steps[axis] for axis in axes]


@torch.no_grad()
def receptive_fields(model: nn.Module) -> list[Row]:
    """One row for every convolution and pooling that `model` computes of a 28×28 image.

    A norm whose mean is the whole map's is a row, too: its kernel is as large as the map. Raises
    UsageError for what changes the map's size otherwise.
    """
    refuse_scripted(model)
    fields = Fields({module: name for name, module in model.named_modules()})
    images = torch.zeros(2, 1, 28, 28).to(next(model.parameters(), torch.zeros(1)))
    images.seen = Seen(Row("the image", 1, 1, 0, 28, 1, 1), (2, 3))
    training = model.training
    with (
        register_module_forward_pre_hook(fields.enter),
        register_module_forward_hook(fields.leave, always_call=True),
        contextlib.redirect_stdout(io.StringIO()),
        explained(model),
        fields,
    ):
        model.eval()(images)
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
