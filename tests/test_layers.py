"""Each layer by hand against autograd, and its numerical corners."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from backprop import layers, record, tape

quick = settings(derandomize=True, max_examples=10)
sizes = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)


def spread(rng, *shape):
    """Random values, all at least 1e-3 away from zero and from each other: no kink is near."""
    count = int(np.prod(shape))
    return ((rng.permutation(count) + 0.25) / count - 0.5).reshape(shape)


def maps(draw, rng):
    """Feature maps of a size that every layer accepts, odd ones too, (N, C, 2, 5) for example."""
    return spread(rng, draw(sizes), draw(sizes), 1 + draw(sizes), 1 + draw(sizes))


def kernels(size, draw, rng):
    """Feature maps large enough for a kernel of this size, with kernels and biases for them."""
    n, c, o = draw(sizes), draw(sizes), draw(sizes)
    x = spread(rng, n, c, size + draw(sizes) - 1, size + draw(sizes) - 1)
    return x, rng.normal(size=(o, c, size, size)), rng.normal(size=o)


def normed(draw, rng):
    """Feature maps with a scale and an offset for every channel."""
    x = maps(draw, rng)
    return x, rng.normal(size=x.shape[1]), rng.normal(size=x.shape[1])


def running(draw, rng):
    """The same with running means and variances."""
    x, weight, bias = normed(draw, rng)
    return x, weight, bias, rng.normal(size=x.shape[1]), rng.uniform(0.5, 2, size=x.shape[1])


def pairs(draw, rng):
    """Feature maps twice."""
    x = maps(draw, rng)
    return x, rng.normal(size=x.shape)


def masked(draw, rng):
    """Feature maps and a dropout mask."""
    x = maps(draw, rng)
    return x, (rng.random(x.shape) < 0.7) / 0.7


def rows(draw, rng):
    """A fully connected layer's input, weight and bias."""
    n, c, o = draw(sizes), draw(sizes), draw(sizes)
    return spread(rng, n, c), rng.normal(size=(o, c)), rng.normal(size=o)


def alone(draw, rng):
    """Feature maps and nothing else."""
    return (maps(draw, rng),)


def torch_norm(x, weight, bias, mean=None, var=None):
    """PyTorch's batch norm: with running statistics, or in training."""
    mean, var = (None if value is None else value.detach() for value in (mean, var))
    return F.batch_norm(x, mean, var, weight, bias, training=mean is None)


def broadcast(draw, rng):
    """Feature maps, and a number for each channel."""
    x = maps(draw, rng)
    return x, rng.uniform(0.5, 2, size=(x.shape[1], 1, 1))


def positive(draw, rng):
    """Feature maps above zero."""
    return (maps(draw, rng) + 1,)


def many(draw, rng):
    """Feature maps with values on both sides of every kink."""
    return (9 * maps(draw, rng),)


def grouped(draw, rng):
    """Four maps of two groups, and four kernels of two channels each."""
    x = spread(rng, draw(sizes), 4, 2 + draw(sizes), 2 + draw(sizes))
    return x, rng.normal(size=(4, 2, 3, 3)), rng.normal(size=4)


def standardised(draw, rng):
    """Four maps, each with a scale and an offset."""
    x = spread(rng, draw(sizes), 4, 1 + draw(sizes), 2)
    return x, rng.normal(size=4), rng.normal(size=4)


def lined_up(draw, rng):
    """Rows of five with a scale and an offset for each of the five."""
    return spread(rng, draw(sizes), draw(sizes), 5), rng.normal(size=5), rng.normal(size=5)


def matrices(draw, rng):
    """Two stacks of matrices, to be multiplied."""
    n, a, b, c = draw(sizes), draw(sizes), draw(sizes), draw(sizes)
    return rng.normal(size=(n, a, b)), rng.normal(size=(n, b, c))


def case(kind, torch_forward, inputs=alone, **options):
    """A layer with these options, its derivative, PyTorch's version and its inputs."""
    return *(partial(function, **options) for function in tape.pair(kind)), torch_forward, inputs


CONSTANTS = {"dropout": 1, "batch norm, evaluating": 2}  # how many arguments have no gradient
LAYERS = {  # forward, backward, PyTorch's version, and how to draw what they are handed
    "conv 1x1": case("conv", F.conv2d, partial(kernels, 1)),
    "conv 3x3": case("conv", F.conv2d, partial(kernels, 3)),
    "conv 3x3, padded": case("conv", partial(F.conv2d, padding=1), partial(kernels, 3), padding=1),
    "batch norm": case("batch_norm", torch_norm, normed),
    "batch norm, evaluating": case("batch_norm", torch_norm, running),
    "relu": case("relu", F.relu),
    "dropout": case("dropout", torch.mul, masked),
    "max pool": case("max_pool", partial(F.max_pool2d, kernel_size=2)),
    "global average pool": case(
        "global_average_pool", partial(F.adaptive_avg_pool2d, output_size=1)
    ),
    "flatten": case("flatten", partial(torch.flatten, start_dim=1)),
    "linear": case("linear", F.linear, rows),
    "conv, stride 2": case("conv", partial(F.conv2d, stride=2), partial(kernels, 3), stride=2),
    "conv, dilation 2 and padding": case(
        *("conv", partial(F.conv2d, dilation=2, padding=3), partial(kernels, 3)),
        **{"dilation": 2, "padding": 3},
    ),
    "conv, sides differ": case(
        *("conv", partial(F.conv2d, stride=(2, 1), padding=(0, 2)), partial(kernels, 2)),
        **{"stride": (2, 1), "padding": (0, 2)},
    ),
    "conv, groups": case(
        "conv", partial(F.conv2d, groups=2, stride=2), grouped, groups=2, stride=2
    ),
    "max pool, overlapping": case(
        *("max_pool", partial(F.max_pool2d, kernel_size=2, stride=1, padding=1)),
        **{"kernel_size": 2, "stride": 1, "padding": 1},
    ),
    "max pool, dilated": case(
        *("max_pool", partial(F.max_pool2d, kernel_size=2, stride=1, padding=1, dilation=2)),
        **{"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2},
    ),
    "add": case("add", torch.add, pairs),
    "add, broadcast": case("add", partial(torch.add, alpha=-3), broadcast, alpha=-3),
    "mul": case("mul", torch.mul, broadcast),
    "div": case("div", torch.div, broadcast),
    "pow": case("pow", lambda x: x**1.7, positive, exponent=1.7),
    "exp": case("exp", torch.exp),
    "log": case("log", torch.log, positive),
    "matmul": case("matmul", torch.matmul, matrices),
    "sigmoid": case("sigmoid", torch.sigmoid, many),
    "tanh": case("tanh", torch.tanh, many),
    "silu": case("silu", F.silu, many),
    "gelu": case("gelu", F.gelu, many),
    "gelu by tanh": case("gelu", partial(F.gelu, approximate="tanh"), many, approximate="tanh"),
    "softplus": case(
        "softplus", partial(F.softplus, beta=2, threshold=3), many, beta=2, threshold=3
    ),
    "mish": case("mish", F.mish, many),
    "leaky relu": case("leaky_relu", partial(F.leaky_relu, negative_slope=0.2), negative_slope=0.2),
    "prelu": case("prelu", lambda x, w: torch.where(x > 0, x, w * x), broadcast),
    "elu": case("elu", partial(F.elu, alpha=2), many, alpha=2),
    "selu": case("elu", F.selu, many, alpha=1.6732632423543772, scale=1.0507009873554805),
    "celu": case("elu", partial(F.celu, alpha=2), many, alpha=2, input_scale=0.5),
    "clamp": case("clamp", partial(torch.clamp, min=-1, max=2), many, low=-1, high=2),
    "hardswish": case("hardswish", F.hardswish, many),
    "softmax": case("softmax", partial(F.softmax, dim=1), dim=1),
    "log softmax": case("log_softmax", partial(F.log_softmax, dim=2), dim=2),
    "group norm": case(
        "group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), standardised, groups=2, eps=1e-5
    ),
    "layer norm": case(
        "layer_norm", lambda x, w, b: F.layer_norm(x, (5,), w, b), lined_up, eps=1e-5
    ),
    "sum": case("sum", lambda x: x.sum((0, 2)), dim=(0, 2)),
    "mean": case("mean", lambda x: x.mean(1, keepdim=True), dim=(1,), keepdims=True),
    "permute": case("permute", lambda x: x.permute(3, 0, 2, 1), dims=(3, 0, 2, 1)),
    "repeat": case("repeat", lambda x: x.repeat(2, 1, 3, 1, 2), repeats=(2, 1, 3, 1, 2)),
    "slice": case("slice", lambda x: x[:, :, ::2, 1], key=np.s_[:, :, ::2, 1]),
    "pad": case("pad", lambda x: F.pad(x, (1, 2, 0, 3)), borders=((0, 0), (0, 0), (0, 3), (1, 2))),
    "reflect": case(
        *("pad", lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")),
        **{"borders": ((0, 0), (0, 0), (1, 1), (1, 1)), "mode": "reflect"},
    ),
    "cat": case("cat", lambda x, y: torch.cat([x, y], 1), pairs, dim=1),
    "stack": case("stack", lambda x, y: torch.stack([x, y], 3), pairs, dim=3),
}
every_layer = pytest.mark.parametrize("layer", LAYERS)


def close(ours, theirs, tolerance=1e-11):
    """Same shape, and equal to within `tolerance` of the largest value or of one."""
    theirs = np.asarray(theirs)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()))


def gradients(layer, dy, handed):
    """Return what `backward` returns, as a tuple with an item for each argument with a gradient."""
    result = LAYERS[layer][1](dy, *handed)
    result = result if isinstance(result, tuple) else (result,)
    assert len(result) == len(handed) - CONSTANTS.get(layer, 0)
    return result


def by_autograd(torch_forward, handed, dy):
    """PyTorch's output and its gradients along all it was handed."""
    tensors = [torch.tensor(array, requires_grad=True) for array in handed]
    y = torch_forward(*tensors)
    y.backward(torch.tensor(dy))
    return y.detach(), [tensor.grad for tensor in tensors]


@every_layer
@quick
@given(data=st.data(), seed=seeds)
def test_equals_autograd(layer, data, seed):
    forward, _, torch_forward, inputs = LAYERS[layer]
    rng = np.random.default_rng(seed)
    handed = inputs(data.draw, rng)
    for array in handed:
        array.flags.writeable = False  # a layer that changes its input fails
    y = forward(*handed)
    dy = rng.normal(size=y.shape)
    torch_y, torch_gradients = by_autograd(torch_forward, handed, dy)
    close(y, torch_y)
    for ours, theirs in zip(gradients(layer, dy, handed), torch_gradients, strict=False):
        close(ours, theirs)


@every_layer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_the_dtype(layer, dtype):
    forward, _, _, inputs = LAYERS[layer]
    handed = [array.astype(dtype) for array in inputs(lambda _size: 3, np.random.default_rng(0))]
    y = forward(*handed)
    assert {y.dtype, *(g.dtype for g in gradients(layer, y, handed))} == {np.dtype(dtype)}


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("counted", [True, False])
@pytest.mark.parametrize("ceil", [True, False])
def test_average_pooling_weighs_its_windows_as_pytorch_does(padding, counted, ceil):
    rng = np.random.default_rng(0)
    for size, kernel, stride in [(7, 2, 2), (7, 3, 2), (8, 3, 3), (9, 8, 1), (5, 2, 1)]:
        x = rng.normal(size=(2, 3, size, size))
        pool = partial(
            F.avg_pool2d,
            **{"kernel_size": kernel, "stride": stride, "padding": padding},
            **{"ceil_mode": ceil, "count_include_pad": counted},
        )
        torch_y = pool(torch.tensor(x))
        count = torch_y.shape[-1]
        weights = record.window_weights(size, count, kernel, stride, padding, counted)
        close(layers.average_pool_forward(x, weights, weights), torch_y)
        dy = rng.normal(size=torch_y.shape)
        _, (torch_dx,) = by_autograd(pool, [x], dy)
        close(layers.average_pool_backward(dy, x, weights, weights), torch_dx)


@pytest.mark.parametrize(("size", "count"), [(7, 2), (7, 3), (6, 3), (5, 5), (3, 5)])
def test_adaptive_pooling_weighs_its_bins_as_pytorch_does(size, count):
    x = np.random.default_rng(0).normal(size=(2, 3, size, size))
    weights = record.bins(size, count)
    close(
        layers.average_pool_forward(x, weights, weights),
        F.adaptive_avg_pool2d(torch.tensor(x), count),
    )


def check_loss(logits, labels):
    """The loss and its gradient at the logits against PyTorch's; returns both."""
    log_probs = layers.log_softmax_forward(logits)
    loss = layers.nll_forward(log_probs, labels)
    dlogits = layers.log_softmax_nll_backward(log_probs, labels)
    tensor = torch.tensor(logits, requires_grad=True)
    torch_loss = F.cross_entropy(tensor, torch.tensor(labels))
    torch_loss.backward()
    close(loss, torch_loss.detach(), 1e-14)
    close(dlogits, tensor.grad, 1e-14)
    return loss, dlogits


@quick
@given(n=sizes, classes=st.integers(2, 10), seed=seeds)
def test_loss_equals_autograd(n, classes, seed):
    rng = np.random.default_rng(seed)
    check_loss(rng.normal(size=(n, classes)), rng.integers(classes, size=n))


@pytest.mark.parametrize("size", [1e3, 1e6, 1e300])
def test_large_logits_stay_finite(size):
    logits = size * np.array([[1.0, -1, 0], [-1, -1, -1], [0, 1, 1]])
    loss, dlogits = check_loss(logits, np.array([1, 0, 2]))
    assert np.isfinite(loss)
    np.testing.assert_allclose(3 * dlogits[0], [1, -1, 0])  # sure, and wrong
    np.testing.assert_allclose(3 * dlogits[1], [-2 / 3, 1 / 3, 1 / 3])  # undecided


@pytest.mark.parametrize("constant", [0.0, 3.7, -50.0])
def test_batch_norm_of_a_constant_channel(constant):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(size=(2, 4, 3, 6, 6))
    x[:, 1] = constant
    handed = x, np.array([1.5, -2, 0.5]), np.array([0.1, 0.2, 0.3])
    torch_y, torch_gradients = by_autograd(LAYERS["batch norm"][2], handed, dy)
    y = layers.batch_norm_forward(*handed)
    close(y, torch_y)
    np.testing.assert_allclose(y[:, 1], 0.2, atol=1e-10)
    for ours, theirs in zip(layers.batch_norm_backward(dy, *handed), torch_gradients, strict=True):
        close(ours, theirs)


def test_relu_of_negative_numbers_and_zeros_passes_nothing_back():
    x = np.array([-3.0, -1e-300, -0.0, 0.0])
    np.testing.assert_array_equal(layers.relu_forward(x), np.zeros(4))
    np.testing.assert_array_equal(layers.relu_backward(np.ones(4), x), np.zeros(4))
    _, (torch_dx,) = by_autograd(F.relu, [x], np.ones(4))
    np.testing.assert_array_equal(torch_dx, np.zeros(4))


@quick
@given(seed=seeds, levels=st.integers(1, 3))
def test_max_pool_routes_ties_as_pytorch_does(seed, levels):
    rng = np.random.default_rng(seed)
    x = rng.integers(levels, size=(2, 3, 4, 6)).astype(float)  # one level: every window is a tie
    dy = rng.normal(size=(2, 3, 2, 3))
    torch_y, (torch_dx,) = by_autograd(LAYERS["max pool"][2], [x], dy)
    np.testing.assert_array_equal(layers.max_pool_forward(x), torch_y)
    np.testing.assert_array_equal(layers.max_pool_backward(dy, x), torch_dx)
