"""From kernel, stride and padding to output size, jump and receptive field, for every layer."""

from typing import NamedTuple

from torch import nn


class Row(NamedTuple):
    """What one layer does to the map; sizes in pixels of its own output, the rest of the image."""

    layer: str
    kernel: int
    stride: int
    padding: int
    size: int  # side of the output map
    jump: int  # distance between neighbouring activations
    receptive_field: int  # side of the square that one activation can see


def receptive_fields(model: nn.Module, size: int = 28) -> list[Row]:
    """One row for every convolution and pooling of `model`, fed with size × size images, in order.

    A kernel of k taps that are j pixels apart sees k - 1 taps more than its input did:
    field += (k - 1) j; then j is multiplied by the stride. Raises ValueError, naming the layer,
    where the map shrinks to nothing.
    """
    rows, jump, field = [], 1, 1
    for name, layer in model.named_modules():
        if isinstance(layer, nn.AdaptiveAvgPool2d):  # to 1×1: a kernel as large as the map
            kernel, stride, padding = size, 1, 0
        elif isinstance(layer, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            kernel, stride, padding = (
                value[0] if isinstance(value, tuple) else value
                for value in (layer.kernel_size, layer.stride, layer.padding)
            )
        else:
            continue
        if size + 2 * padding < kernel:
            raise ValueError(f"{name}: a {kernel}×{kernel} kernel doesn't fit a {size}×{size} map")
        size = (size + 2 * padding - kernel) // stride + 1
        field += (kernel - 1) * jump
        jump *= stride
        rows.append(Row(name, kernel, stride, padding, size, jump, field))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as aligned text under a header."""
    lines = [("layer", "kernel", "stride", "padding", "output", "jump", "sees"), *rows]
    widths = [max(len(str(cell)) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        f"{name:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(numbers, widths[1:], strict=True))
        for name, *numbers in lines
    )
