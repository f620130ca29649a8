"""Networks written in words: as large, and as shaped, as the words say."""

import re

import pytest
import torch

from notebooks.experiments.catalogue import EXPERIMENTS, FIVES, deep, dropped, pooled
from notebooks.experiments.variants import (
    BASELINE,
    MNISTNET,
    build,
    count,
    matched,
    multiplications,
    normed,
    widened,
)
from s4lib import UsageError
from s4lib.model import MNISTNet
from s4lib.receptive_field import receptive_fields

NETWORKS = sorted({v.network for one in EXPERIMENTS.values() for v in one.variants.values()})


def by_hand(words: str) -> tuple[int, int]:
    """Parameters and multiplications, by arithmetic alone."""
    channels, size, parameters, products = 1, 28, 0, 0
    for word in words.split():
        if match := re.fullmatch(r"(conv|valid|stride|dilated)(\d)-(\d+)", word):
            kernel, out = int(match[2]), int(match[3])
            kernel = 3 if match[1] == "dilated" else kernel
            size -= kernel - 1 if match[1] == "valid" else 0
            size = (size + 1) // 2 if match[1] == "stride" else size
            parameters += kernel**2 * channels * out + out
            products += kernel**2 * channels * out * size**2
            channels = out
        elif word.endswith("pool"):
            size //= 2
        elif word == "gap":
            size = 1
        elif word == "norm":
            parameters += 2 * channels
        elif word == "fc":
            parameters += 10 * channels * size**2 + 10
            products += 10 * channels * size**2
    return parameters, products


def test_the_words_of_mnistnet_build_mnistnet():
    torch.manual_seed(0)
    model = MNISTNet().eval()
    torch.manual_seed(0)
    built = build(MNISTNET).eval()
    images = torch.randn(5, 1, 28, 28)
    assert built(images).equal(model(images))
    rates = [layer.p for layer in built.modules() if isinstance(layer, torch.nn.Dropout)]
    assert rates == [layer.p for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]


@pytest.mark.parametrize("words", NETWORKS)
def test_every_network_is_as_large_as_its_words_say_and_gives_log_probabilities(words):
    assert (count(words), multiplications(words)) == by_hand(words)
    log_probs = build(words).eval()(torch.randn(3, 1, 28, 28))
    assert log_probs.shape == (3, 10)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "conv3-16 valid7-8 " + 4 * "valid7-8 " + "fc",
            "Layer 6, valid7-8: Calculated padded",
        ),
        ("conv3-16 " + 5 * "maxpool " + "fc", "Layer 6, maxpool: "),
        ("conv3-16 norm conv3-0 fc", "Layer 3, conv3-0: there is no such layer."),
        ("conv3-16 nrom fc", "Layer 2, nrom: there is no such layer."),
        ("conv3-16 gap", "The last layer must be fc, in: conv3-16 gap"),
        ("", "The last layer must be fc, in: "),
    ],
)
def test_what_can_not_be_built_is_said_with_the_layer(words, message):
    with pytest.raises(UsageError) as raised:
        build(words)
    assert str(raised.value).startswith(message)


def test_widening_multiplies_channels_and_leaves_kernels():
    assert widened("conv3-16 norm valid5-32 drop10 fc", 1.5) == "conv3-24 norm valid5-48 drop10 fc"
    assert widened("conv3-1 fc", 0.1) == "conv3-1 fc"


def test_matching_finds_the_nearest_width():
    assert matched(MNISTNET) == MNISTNET
    narrow = widened(MNISTNET, 0.37)
    assert matched(narrow, count(narrow)) == narrow
    best = abs(count(matched(FIVES)) - 17_498)
    others = (widened(FIVES, percent / 100) for percent in range(50, 150))
    assert best == min(abs(count(other) - 17_498) for other in others)


def test_networks_said_to_be_as_large_are():
    alike = []
    for name, one in EXPERIMENTS.items():
        whole = name in ("depth", "kernels", "head", "field_kernels")
        alike += [v.network for label, v in one.variants.items() if whole or "same" in label]
    assert len(alike) > 10
    for words in alike:
        assert abs(count(words) / 17_498 - 1) < 0.04


def test_only_the_receptive_field_differs_between_the_networks_that_ask_for_it():
    """Both have as many convolutions, channels, parameters and multiplications, and equal maps."""
    networks = [variant.network for variant in EXPERIMENTS["field"].variants.values()]
    assert len({re.sub(r"dilated\d|conv3", "", words) for words in networks}) == 1
    assert len({(count(words), multiplications(words)) for words in networks}) == 1
    assert len({last_convolution(words) for words in networks}) == len(networks)


def test_batch_normalisation_comes_before_every_relu_once():
    assert (
        normed("conv3-16 norm relu valid3-8 relu fc") == "conv3-16 norm relu valid3-8 norm relu fc"
    )
    assert normed(normed(MNISTNET)) == normed(MNISTNET)
    assert normed(MNISTNET).count("norm relu") == MNISTNET.count("relu")


def last_convolution(words: str) -> int:
    rows = receptive_fields(build(words))
    return [row for row in rows if not row.layer.endswith(("pool", "gap"))][-1].receptive_field


def test_receptive_fields_are_those_that_the_names_say():
    for experiment in ("field", "field_kernels"):
        for name, variant in EXPERIMENTS[experiment].variants.items():
            assert name == f"{last_convolution(variant.network)} pixels"
    assert last_convolution(FIVES) == last_convolution(MNISTNET) == 32
    assert [last_convolution(deep(n)) for n in (1, 2, 3, 4)] == [18, 32, 46, 60]


def test_poolings_come_where_they_are_asked_for():
    assert pooled(2, 4) == BASELINE
    assert "pool" not in pooled()
    for places in ((2,), (1, 2), (2, 3), (2, 5), (2, 6), (4, 6), (2, 4, 6)):
        before = pooled(*places).split("maxpool")[:-1]
        passed = [" ".join(before[: k + 1]).count("3-") for k in range(len(before))]
        assert passed == list(places)
        assert pooled(*places).replace("maxpool ", "") == BASELINE.replace("maxpool ", "")


def test_dropout_comes_where_it_is_asked_for():
    early = dropped(25, early=True, late=False).split()
    late = dropped(25, early=False, late=True).split()
    assert early[early.index("drop25") - 1] == "maxpool"
    assert late[-2:] == ["drop25", "fc"]
    assert dropped(25, early=True, late=True).split().count("drop25") == 2
    plain = [word for word in BASELINE.split() if not word.startswith("drop")]
    assert [word for word in early if word != "drop25"] == plain


OF_TRAINING = """lr lr_range norm scale scale_no_norm dropout overfitting batch batch_updates
softmax transition_position transitions_old"""  # compared with MNISTNet itself


def test_the_baseline_has_batch_normalisation_in_all_blocks():
    assert normed(MNISTNET) == BASELINE
    assert BASELINE.replace("norm ", "") == MNISTNET.replace("norm ", "")
    for name, one in EXPERIMENTS.items():
        for label, variant in one.variants.items():
            old = name in OF_TRAINING.split() or name in (
                "baseline",
                "norm_distance",
                "dead",
                "all_images",
            )
            bare = re.search(r"(?<!norm) (relu|leaky)", variant.network)
            assert not bare or old or "without batch norm" in label, (name, label)
