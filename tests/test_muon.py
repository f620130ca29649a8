"""Muon's steps are orthogonal, and the parameters that are not its own get Adam's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s4lib.model import MNISTNet
from s4lib.muon import Muon, orthogonalise
from s4lib.recipes import FAST
from s4lib.train import make_optimizer


@given(st.integers(0, 2**32), st.floats(1e-6, 1e6))
def test_orthogonalised_matrices_keep_their_singular_vectors_and_lose_their_values(seed, size):
    torch.manual_seed(seed)
    matrices = [size * torch.randn(shape) for shape in ((16, 9), (32, 144), (8, 32))]
    for matrix, padded in zip(matrices, orthogonalise(matrices), strict=True):
        rows, columns = matrix.shape
        assert padded.count_nonzero() == padded[:rows, :columns].count_nonzero()
        u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
        turned = u.mT @ padded[:rows, :columns] @ vh.mT
        torch.testing.assert_close(turned, turned.diag().diag(), atol=1e-3, rtol=0)
        well_conditioned = values > 0.05 * values[0]
        assert ((turned.diag() > 0.6) & (turned.diag() < 1.3))[well_conditioned].all()


def test_a_kernel_steps_by_lr_along_its_orthogonalised_nesterov_momentum():
    kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
    optimizer = Muon([{"params": [kernel], "momentum": 0.9}], lr=0.1)
    velocity = torch.zeros_like(kernel)
    for _ in range(3):
        before, gradient = kernel.detach().clone(), torch.randn_like(kernel)
        kernel.grad = gradient.clone()
        optimizer.step()
        velocity = 0.9 * velocity + gradient
        direction = orthogonalise([(gradient + 0.9 * velocity).flatten(1)])[0].view_as(kernel)
        torch.testing.assert_close(kernel.detach(), before - 0.1 * direction)


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
