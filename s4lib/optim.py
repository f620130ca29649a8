"""Muon, and the optimizers, schedules and averages of weights that a recipe names."""

from collections.abc import Iterable
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, MultiStepLR, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from s4lib.recipes import Recipe
from s4lib.runtime.rehearsal import copied


def orthogonalise(x: Tensor) -> Tensor:
    """Bring the singular values of each matrix (N, m, n) near 1, except those that are 0.

    This takes five Newton-Schulz iterations with the coefficients of Keller Jordan's Muon (2024).
    They bring singular values from 0.2 % of the matrix's norm on to between 0.7 and 1.2, and raise
    smaller ones up to 485 times. Rows and columns of zeros stay zeros.
    """
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        polynomial = torch.baddbmm(square, square, square, beta=-4.775, alpha=2.0315)
        x = torch.baddbmm(x, polynomial, x, beta=3.4445)
    return x


def padded(kernels: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return zeros (N, m, n), a matrix for each kernel, and views of them with the kernels' shapes.

    A matrix has one row for each output channel.
    """
    sizes = [(len(kernel), kernel[0].numel()) for kernel in kernels]
    matrices = kernels[0].new_zeros(len(kernels), *map(max, zip(*sizes, strict=True)))
    views = [
        matrix[:rows, :columns].view(kernel.shape)
        for matrix, kernel, (rows, columns) in zip(matrices, kernels, sizes, strict=True)
    ]
    return matrices, views


class Muon(torch.optim.Adam):
    """Adam, except for parameters in groups that have a `momentum`, which Muon updates.

    Their gradients, with one row for each output channel, go into a Nesterov momentum. The step is
    `lr` times its orthogonalised matrix. So the step is equally long in all directions, whether the
    gradient is large along them or small. Source: kellerjordan.github.io/posts/muon.
    """

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            if "momentum" in group:
                kernels = [kernel for kernel in group["params"] if kernel.grad is not None]
                if kernels:
                    self.step_along_orthogonal(kernels, group["lr"], group["momentum"])
        return super().step(closure)

    def step_along_orthogonal(self, kernels: list[Tensor], lr: float, momentum: float) -> None:
        """Update all kernels at once: on a GPU, a call costs more than the computation in it."""
        grads = [kernel.grad for kernel in kernels]
        velocities = [self.velocity(kernel) for kernel in kernels]
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, grads)
        matrices, steps = padded(kernels)
        torch._foreach_copy_(steps, grads)
        torch._foreach_add_(steps, velocities, alpha=momentum)
        torch.mul(orthogonalise(matrices), -lr, out=matrices)
        torch._foreach_add_(kernels, steps)
        for kernel in kernels:
            kernel.grad = None  # so that Adam skips it

    def velocity(self, kernel: Tensor) -> Tensor:
        """Return the moving sum of a kernel's gradients, 0 at first."""
        memory = self.state[kernel]
        if not memory:  # Adam's load_state_dict() looks for a step
            memory |= {"velocity": torch.zeros_like(kernel), "step": torch.zeros(())}
        return memory["velocity"]


def make_optimizer(
    parameters: Iterable[Tensor], recipe: Recipe, fused: bool
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer; with `fused`, Adam updates all parameters in one call.

    A GradScaler needs `fused` off, because it leaves the check for overflow to a fused optimizer,
    and Muon's part does not check.
    """
    parameters = list(parameters)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(parameters, recipe.lr, fused=fused)
    kernels = [parameter for parameter in parameters if parameter.ndim >= 4]
    others = [parameter for parameter in parameters if parameter.ndim < 4]
    groups = [{"params": others}, {"params": kernels, "momentum": 0.95}]
    return Muon([group for group in groups if group["params"]], recipe.lr, fused=fused)


def make_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: list[int]
) -> LRScheduler:
    """Return the schedule of the recipe's learning rate, to be stepped after every batch."""
    if recipe.warm_up is None:
        ends = [0, *accumulate(steps)]
        milestones = np.interp(recipe.milestones, range(len(ends)), ends).round().astype(int)
        return MultiStepLR(optimizer, milestones.tolist(), recipe.gamma)
    warm_up = recipe.warm_up
    if warm_up * sum(steps) == 1:  # PyTorch would divide by the 0 steps of the rise
        warm_up *= 1 - 1e-9
    return OneCycleLR(
        optimizer,
        max_lr=recipe.lr,
        total_steps=sum(steps),
        pct_start=warm_up,
        anneal_strategy="linear",
        cycle_momentum=False,
    )


def make_average(model: nn.Module, recipe: Recipe, steps: int) -> AveragedModel | None:
    """Return the recipe's exponential moving average of weights and buffers, or None.

    It also averages the statistics of batch normalisation, because they belong to the weights. The
    average reaches back at most a twentieth of a run's `steps`; otherwise the first weights of a
    short run would stay in it.
    """
    if not recipe.ema_decay:
        return None
    updates = max(1, steps // recipe.ema_every)
    decay = min(recipe.ema_decay, max(0, 1 - 20 / updates))
    update = get_ema_multi_avg_fn(decay)
    average = AveragedModel(nn.Identity(), multi_avg_fn=update, use_buffers=True)
    average.module = copied(model)
    return average
