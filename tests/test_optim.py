"""Muon's steps are orthogonal, other parameters get Adam's, and schedules are the recipe's."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s4lib.model import MNISTNet
from s4lib.optim import Muon, make_optimizer, make_schedule, orthogonalise, padded
from s4lib.recipes import CLASSIC, FAST


@given(st.integers(0, 2**32), st.floats(1e-6, 1e6))
def test_orthogonalised_matrices_keep_their_singular_vectors_and_lose_their_values(seed, size):
    torch.manual_seed(seed)
    shapes = [(16, 1, 3, 3), (32, 16, 3, 3), (8, 32, 1, 1)]
    kernels = [size * torch.randn(shape) for shape in shapes]
    matrices, views = padded(kernels)
    torch._foreach_copy_(views, kernels)
    for matrix, kernel in zip(orthogonalise(matrices), kernels, strict=True):
        rows, columns = kernel.flatten(1).shape
        assert matrix.count_nonzero() == matrix[:rows, :columns].count_nonzero()
        u, values, vh = torch.linalg.svd(kernel.flatten(1), full_matrices=False)
        turned = u.mT @ matrix[:rows, :columns] @ vh.mT
        torch.testing.assert_close(turned, turned.diag().diag(), atol=1e-3, rtol=0)
        well_conditioned = values > 0.05 * values[0]
        assert ((turned.diag() > 0.6) & (turned.diag() < 1.3))[well_conditioned].all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_kernel_steps_by_lr_along_its_orthogonalised_nesterov_momentum(layout):
    """Whatever kernels step beside it, and whether they do: one has a gradient every other time."""
    shapes = [(4, 2, 3, 3), (6, 4, 1, 1), (2, 1, 5, 5)]
    kernels = [nn.Parameter(torch.randn(shape).to(memory_format=layout)) for shape in shapes]
    optimizer = Muon([{"params": kernels, "momentum": 0.9}], lr=0.1)
    velocities = [torch.zeros(shape) for shape in shapes]
    for step in range(4):
        expected = [kernel.detach().clone() for kernel in kernels]
        for i, kernel in enumerate(kernels[step % 2 :], step % 2):
            kernel.grad = torch.randn_like(kernel)
            velocities[i] = 0.9 * velocities[i] + kernel.grad
            direction = kernel.grad + 0.9 * velocities[i]
            expected[i] -= 0.1 * orthogonalise(direction.flatten(1)[None]).view(shapes[i])
        optimizer.step()
        torch.testing.assert_close([kernel.detach() for kernel in kernels], expected)


@pytest.mark.parametrize("fused", [False, True])
def test_the_other_parameters_take_adams_steps(fused):
    torch.manual_seed(0)
    ours, theirs = MNISTNet(), MNISTNet()
    theirs.load_state_dict(ours.state_dict())
    optimizers = (
        make_optimizer(ours.parameters(), FAST, fused),
        torch.optim.Adam(theirs.parameters(), FAST.lr),
    )
    for step in range(3):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            torch.manual_seed(step)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert one.ndim == 4 or torch.allclose(one, other, rtol=1e-4, atol=1e-6), name
        assert one.ndim != 4 or not torch.allclose(one, other, atol=1e-3), name


def test_a_step_compiles_as_a_whole_and_reads_its_rate_from_a_tensor():
    """So a GPU can run it as one graph, which keeps numbers as they were but reads tensors again.

    The first step, which makes the optimizer's memory, comes before, and Adam's own code, where
    PyTorch breaks the graph on purpose, stays outside.
    """
    compiler, trained = partial(torch.compile, backend="eager", fullgraph=True), []
    for compiled in (False, True):
        torch.manual_seed(0)
        model, images, labels = MNISTNet(), torch.randn(8, 1, 28, 28), torch.randint(10, (8,))
        optimizer = make_optimizer(model.parameters(), FAST, fused=True)
        forward, lr = model.__call__, torch.tensor(0.0)
        for step, rate in enumerate((0.03, 0.02, 0.01)):
            if compiled and step == 1:
                forward = compiler(forward)
                optimizer.step_along_orthogonal = compiler(optimizer.step_along_orthogonal)
            lr.fill_(rate)
            for group in optimizer.param_groups:
                group["lr"] = lr if compiled else rate
            nn.functional.nll_loss(forward(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
        # A bias before batch normalisation has no gradient but rounding errors.
        trained.append([parameter for parameter in model.parameters() if parameter.ndim > 1])
    torch.testing.assert_close(*trained)


def rates(recipe, *steps):
    optimizer = make_optimizer(MNISTNet().parameters(), recipe, fused=False)
    schedule = make_schedule(optimizer, recipe, steps)
    for _ in range(sum(steps)):
        yield [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        schedule.step()


def test_one_cycle_climbs_for_its_warm_up_and_falls_to_nothing():
    lr = [together[0] for together in rates(FAST, 60, 25, 15)]
    peak = lr.index(max(lr))
    assert max(lr) == pytest.approx(FAST.lr)
    assert peak == round(FAST.warm_up * 100) - 1
    assert lr[:peak] == sorted(lr[:peak])
    assert lr[peak:] == sorted(lr[peak:], reverse=True)
    assert lr[-1] < 1e-4 * FAST.lr
    assert all(one == other for one, other in rates(FAST, 5, 5))  # kernels' and all others'


def test_milestones_are_epochs_however_long():
    lr = [together[0] for together in rates(replace(CLASSIC, milestones=(0.9999, 2.5)), 8, 2, 2)]
    assert lr == pytest.approx([0.01] * 8 + [0.001] * 3 + [0.0001])


@pytest.mark.parametrize(("warm_up", "steps"), [(0.1, 10), (0.25, 4), (0.5, 2), (0.01, 100)])
def test_a_climb_of_a_single_step_begins_at_the_top(warm_up, steps):
    lr = [together[0] for together in rates(replace(FAST, warm_up=warm_up), steps)]
    assert lr[0] == pytest.approx(FAST.lr)
    assert lr == sorted(lr, reverse=True)


def test_muon_has_the_convolutions_and_adam_the_rest():
    optimizer = make_optimizer(MNISTNet().parameters(), FAST, fused=False)
    others, kernels = (group["params"] for group in optimizer.param_groups)
    assert isinstance(optimizer, Muon)
    assert {p.ndim for p in kernels} == {4}
    assert {p.ndim for p in others} == {1, 2}
    assert sum(p.numel() for p in [*kernels, *others]) == 17_498
    assert type(make_optimizer(MNISTNet().parameters(), CLASSIC, fused=False)) is torch.optim.Adam


def test_muon_trains_a_network_without_convolutions_and_one_without_anything_else():
    for parameters in ([torch.zeros(3, 2)], [torch.zeros(3, 2, 3, 3)]):
        (group,) = make_optimizer(parameters, FAST, fused=False).param_groups
        assert group["params"] == parameters
