"""Rotate, move and scale every image of a batch by random amounts of its own, in one call."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor


@cache
def centres(height: int, width: int, device: torch.device) -> Tensor:
    """x and y of every pixel's centre, from -1 to 1 across the image, and 1: (3, H · W)."""
    y, x = (torch.linspace(-1, 1, n, device=device) * (n - 1) / n for n in (height, width))
    x, y = torch.meshgrid(x, y, indexing="xy")
    return torch.stack([x, y, torch.ones_like(x)]).flatten(1)


def affine(
    images: Tensor, degrees: Tensor, translate: Tensor, scale: Tensor, mode: str = "bilinear"
) -> Tensor:
    """Rotate, translate and enlarge each image of a float batch (N, C, H, W) about its own centre.

    degrees (N,): counter-clockwise; translate (N, 2): pixels to the right and down; scale (N,): 2
    doubles the size; mode: `nearest`, `bilinear` or `bicubic`. Pixels from outside the image are 0.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(degrees)
    cos, sin = torch.cos(angle) / scale, torch.sin(angle) / scale
    # grid_sample asks where each output pixel comes from, so this is the inverse of the motion,
    # in coordinates that run from -1 to 1 across the image.
    right, down = 2 * translate[:, 0] / width, 2 * translate[:, 1] / height
    rows = [cos, -sin, -cos * right + sin * down, sin, cos, -sin * right - cos * down]
    # This is F.affine_grid, which multiplies image by image and takes ten times as long on a CPU.
    grid = torch.stack(rows, 1).view(-1, 3) @ centres(height, width, images.device)
    grid = grid.view(-1, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode=mode, align_corners=False)


def random_affine(
    images: Tensor,
    generator: torch.Generator,
    rotation: float = 0,
    translate: float = 0,
    scale: float = 0,
    mode: str = "bilinear",
) -> Tensor:
    """Apply `affine` with random amounts for each image: up to ±rotation degrees, ±translate pixels
    and a scale within 1 ± `scale`, all uniform. If all three are 0, return the images unchanged.
    """
    if not (rotation or translate or scale):
        return images
    draw = torch.rand(4, len(images), generator=generator, device=images.device) * 2 - 1
    return affine(images, rotation * draw[0], translate * draw[1:3].T, 1 + scale * draw[3], mode)
