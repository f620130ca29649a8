"""What a recipe's fields do to training."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from s4lib import recipes
from s4lib.model import MNISTNet
from s4lib.muon import Muon
from s4lib.recipes import BEST, CLASSIC, FAST, RECIPES
from s4lib.together import fit_together
from s4lib.train import fit, make_optimizer, make_schedule, smooth
from tests.benchmarks.ladder import RUNGS
from tests.faults import few_digits


def rates(recipe, batches):
    optimizer = make_optimizer(MNISTNet().parameters(), recipe, fused=False)
    schedule = make_schedule(optimizer, recipe, batches)
    for _ in range(recipe.epochs * batches):
        yield [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        schedule.step()


def test_one_cycle_climbs_for_its_warm_up_and_falls_to_nothing():
    lr = [together[0] for together in rates(replace(FAST, epochs=2), 50)]
    peak = lr.index(max(lr))
    assert max(lr) == pytest.approx(FAST.lr)
    assert peak == round(FAST.warm_up * 100) - 1
    assert lr[:peak] == sorted(lr[:peak])
    assert lr[peak:] == sorted(lr[peak:], reverse=True)
    assert lr[-1] < 1e-4 * FAST.lr
    assert all(one == other for one, other in rates(FAST, 5))  # kernels' and all others'


def test_milestones_multiply_by_gamma():
    lr = [together[0] for together in rates(replace(CLASSIC, epochs=3, milestones=(1, 2.5)), 4)]
    assert lr == pytest.approx([0.01] * 4 + [0.001] * 6 + [0.0001] * 2)


def test_muon_has_the_convolutions_and_adam_the_rest():
    optimizer = make_optimizer(MNISTNet().parameters(), FAST, fused=False)
    others, kernels = (group["params"] for group in optimizer.param_groups)
    assert isinstance(optimizer, Muon)
    assert {p.ndim for p in kernels} == {4}
    assert {p.ndim for p in others} == {1, 2}
    assert sum(p.numel() for p in [*kernels, *others]) == 17_498
    assert type(make_optimizer(MNISTNet().parameters(), CLASSIC, fused=False)) is torch.optim.Adam


@pytest.mark.parametrize("smoothing", [0, 0.1, 1])
def test_label_smoothing_is_pytorchs(smoothing):
    logits, labels = torch.randn(8, 10), torch.arange(8)
    log_probs = logits.log_softmax(1)
    target = smooth(F.nll_loss(log_probs, labels), log_probs, smoothing)
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(target, expected)


@pytest.mark.parametrize("recipe", [FAST, BEST], ids=lambda recipe: recipe.name)
def test_the_ladder_ends_at_its_recipe(recipe):
    last = [*RUNGS[recipe.name].values()][-1]
    assert replace(last, name=recipe.name) == recipe


def test_recipes_go_by_their_names():
    assert RECIPES == {"classic": CLASSIC, "fast": FAST, "best": BEST}
    assert FAST.epochs <= 3
    assert BEST.epochs < 20


def test_the_last_epochs_see_images_as_they_are(digits, monkeypatch):
    """In `fit` and in `fit_together`, which count epochs on their own."""
    recipe, few = replace(BEST, epochs=3, plain=1), few_digits(digits)
    turned = []

    def count(images, **options):
        turned.append(len(images))
        return images

    monkeypatch.setattr(recipes, "random_affine", count)
    batches = len(few.train[1]) // recipe.batch_size
    fit(recipe, few, device="cpu")
    assert len(turned) == 2 * batches
    fit_together(recipe, few, [0, 1], device="cpu")
    assert len(turned) == 2 * batches + 2 * 2 * batches


def test_a_shorter_run_has_fewer_plain_epochs():
    recipe = replace(CLASSIC, epochs=10, plain=5)
    assert [recipe.adjusted(epochs=epochs).plain for epochs in (1, 2, 4, 10, 20)] == [0, 1, 2, 5, 5]
