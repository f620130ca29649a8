"""Every image gets its own motion, and the motion is the one asked for."""

import pytest
import torch
import torch.nn.functional as F

from s4lib.augment import affine, random_affine

MODES = ("nearest", "bilinear", "bicubic")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def identity(count):
    return torch.zeros(count), torch.zeros(count, 2), torch.ones(count)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_equal_rot90(mode, quarters):
    images = torch.rand(3, 1, 28, 28, generator=generator()) * 255
    degrees, translate, scale = identity(3)
    rotated = affine(images, degrees + 90 * quarters, translate, scale, mode)
    expected = torch.rot90(images, quarters, (2, 3))
    inner = slice(1, -1)
    torch.testing.assert_close(
        rotated[..., inner, inner], expected[..., inner, inner], atol=0.02, rtol=0
    )


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_grid_is_pytorchs(mode):
    images = torch.rand(5, 2, 28, 20, generator=generator()) * 255
    degrees, zero, scale = torch.tensor([[-170.0, -8, 0, 9, 80], [0] * 5, [0.5, 0.9, 1, 1.1, 2]])
    angle = torch.deg2rad(degrees)
    rows = [torch.cos(angle), -torch.sin(angle), zero, torch.sin(angle), torch.cos(angle), zero]
    theta = (torch.stack(rows, 1) / scale[:, None]).view(5, 2, 3)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    expected = F.grid_sample(images, grid, mode=mode, align_corners=False)
    moved = affine(images, degrees, torch.zeros(5, 2), scale, mode)
    torch.testing.assert_close(moved, expected, atol=0.02, rtol=0)


def test_translation_moves_right_and_down():
    images = torch.rand(2, 1, 28, 28, generator=generator())
    degrees, translate, scale = identity(2)
    moved = affine(images, degrees, translate + torch.tensor([3.0, 2.0]), scale)
    torch.testing.assert_close(moved[..., 2:, 3:], images[..., :-2, :-3], atol=1e-4, rtol=0)
    assert moved[..., :2, :].abs().max() < 1e-4  # what comes in is paper


def test_rotated_and_translated_images_rotate_about_their_own_centre():
    """A dot 8 pixels right of the centre goes up by a quarter turn, then right."""
    image = torch.zeros(1, 1, 29, 29)
    image[0, 0, 14, 22] = 1
    moved = affine(image, torch.tensor([90.0]), torch.tensor([[5.0, 0.0]]), torch.ones(1))
    assert moved[0, 0].argmax().item() == (14 - 8) * 29 + 14 + 5


def test_scale_two_doubles_the_size():
    image = torch.zeros(1, 1, 28, 28)
    image[..., 10:18, 12:16] = 1
    doubled = affine(image, torch.zeros(1), torch.zeros(1, 2), torch.tensor([2.0]), "nearest")
    assert doubled.sum() == 4 * image.sum()
    assert doubled[..., 6:22, 10:18].min() == 1


def test_images_of_one_batch_rotate_by_different_angles():
    bar = torch.zeros(64, 1, 29, 29)
    bar[:, :, 14, :] = 255
    rotated = random_affine(bar, generator(), rotation=30)
    y, x = torch.meshgrid(torch.arange(29.0) - 14, torch.arange(29.0) - 14, indexing="ij")
    xy, xx, yy = ((rotated * moment).sum((1, 2, 3)) for moment in (x * y, x * x, y * y))
    angles = torch.rad2deg(torch.atan2(-2 * xy, xx - yy) / 2)
    assert angles.unique().numel() == 64
    assert angles.abs().max() < 31
    assert angles.max() > 20
    assert angles.min() < -20


@pytest.mark.parametrize("mode", MODES)
def test_zero_strength_returns_the_input_bit_for_bit(mode):
    images = torch.rand(4, 1, 28, 28)
    assert random_affine(images, generator(), mode=mode).equal(images)


def test_the_generator_decides():
    images = torch.rand(4, 1, 28, 28)
    motion = {"rotation": 10, "translate": 2, "scale": 0.1}
    first, again = (random_affine(images, generator(7), **motion) for _ in range(2))
    assert first.equal(again)
    assert not first.equal(random_affine(images, generator(8), **motion))
