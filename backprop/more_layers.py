"""Layers of other networks than `MNISTNet`, as pairs of functions like those of `layers.py`.

They are activations, norms, arithmetic, and functions that only move numbers. A formula is for one
number unless its docstring says otherwise. Where a smaller array is repeated to match a larger one,
its gradient is summed over the copies: see `summed`.
"""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=[float])


# ---- activations -------------------------------------------------------------------------------


def sigmoid_forward(x):
    """y = 1 / (1 + e^−x), written so that no e^… overflows."""
    return 0.5 * (1 + np.tanh(x / 2))


def sigmoid_backward(dy, x):
    """y' = y · (1 − y)."""
    y = sigmoid_forward(x)
    return dy * y * (1 - y)


def tanh_forward(x):
    return np.tanh(x)


def tanh_backward(dy, x):
    """y' = 1 − y²."""
    return dy * (1 - np.tanh(x) ** 2)


def silu_forward(x):
    """y = x · σ(x), also called swish."""
    return x * sigmoid_forward(x)


def silu_backward(dy, x):
    """y' = σ + x · σ · (1 − σ)."""
    s = sigmoid_forward(x)
    return dy * (s + x * s * (1 - s))


def gelu_forward(x, approximate="none"):
    """y = x · Φ(x), where Φ is the normal distribution's; or the approximation by tanh."""
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x * 0.5 * (1 + erf(x / math.sqrt(2))).astype(x.dtype)


def gelu_backward(dy, x, approximate="none"):
    """y' = Φ(x) + x · e^(−x²/2) / √(2π); of the approximation, by the product rule."""
    if approximate == "tanh":
        t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
        inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
        return dy * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)
    phi = 0.5 * (1 + erf(x / math.sqrt(2))).astype(x.dtype)
    return dy * (phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))


def softplus_forward(x, beta=1, threshold=20):
    """y = log(1 + e^βx) / β; if βx is above the threshold, y = x."""
    return np.where(x * beta > threshold, x, np.logaddexp(0, beta * x) / beta).astype(x.dtype)


def softplus_backward(dy, x, beta=1, threshold=20):
    """y' = σ(βx)."""
    return dy * np.where(x * beta > threshold, 1, sigmoid_forward(beta * x)).astype(x.dtype)


def mish_forward(x):
    """y = x · tanh(log(1 + e^x))."""
    return x * np.tanh(np.logaddexp(0, x))


def mish_backward(dy, x):
    """y' = t + x · (1 − t²) · σ(x), where t is the tanh."""
    t = np.tanh(np.logaddexp(0, x))
    return dy * (t + x * (1 - t**2) * sigmoid_forward(x))


def leaky_relu_forward(x, negative_slope=0.01):
    """y = x where x > 0, else slope · x."""
    return np.where(x > 0, x, negative_slope * x).astype(x.dtype)


def leaky_relu_backward(dy, x, negative_slope=0.01):
    return np.where(x > 0, dy, negative_slope * dy).astype(x.dtype)


def prelu_forward(x, weight):
    """A leaky ReLU whose slopes are learned: (C, 1, 1), or one number."""
    return np.where(x > 0, x, weight * x)


def prelu_backward(dy, x, weight):
    """Where x is not positive, dx = slope · dy, and x · dy adds to dslope."""
    dweight = summed(np.where(x > 0, 0, x * dy), weight.shape)
    return np.where(x > 0, dy, weight * dy), dweight


def elu_forward(x, alpha=1, scale=1, input_scale=1):
    """y = scale · x where x > 0, else scale · α · (e^x − 1). SELU and CELU scale it."""
    negative = alpha * np.expm1(np.minimum(x, 0) * input_scale)
    return (scale * np.where(x > 0, x, negative)).astype(x.dtype)


def elu_backward(dy, x, alpha=1, scale=1, input_scale=1):
    """y' = scale, or scale · α · e^x."""
    negative = alpha * input_scale * np.exp(np.minimum(x, 0) * input_scale)
    return (dy * scale * np.where(x > 0, 1, negative)).astype(x.dtype)


def clamp_forward(x, low=-np.inf, high=np.inf, closed=True):
    """y = x, but not below `low` and not above `high`. ReLU6 stays from 0 to 6."""
    return np.clip(x, low, high)


def clamp_backward(dy, x, low=-np.inf, high=np.inf, closed=True):
    """dx = dy from `low` to `high`, and 0 outside; at the two ends it does what PyTorch does."""
    inside = (low <= x) & (x <= high) if closed else (low < x) & (x < high)
    return dy * inside


def hardswish_forward(x):
    """y = x · (x + 3) / 6, the factor (x + 3) / 6 clipped to the range from 0 to 1."""
    return x * np.clip((x + 3) / 6, 0, 1)


def hardswish_backward(dy, x):
    """y' = 0 below −3, 1 above 3, and x / 3 + 1 / 2 between."""
    return dy * np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)).astype(x.dtype)


def softmax_forward(x, dim):
    """p_k = e^z_k / Σ_j e^z_j along the axis `dim`."""
    shifted = np.exp(x - x.max(dim, keepdims=True))
    return shifted / shifted.sum(dim, keepdims=True)


def softmax_backward(dy, x, dim):
    """dz = p · (dy − Σ_j p_j · dy_j)."""
    p = softmax_forward(x, dim)
    return p * (dy - (p * dy).sum(dim, keepdims=True))


def log_softmax_backward(dy, x, dim=1):
    """log p_k = z_k − log Σ_j e^z_j gives dz = dy − p · Σ_j dy_j."""
    return dy - softmax_forward(x, dim) * dy.sum(dim, keepdims=True)


# ---- norms -------------------------------------------------------------------------------------


def standardise(rows, eps):
    """Return each row (…, n) minus its mean, over its standard deviation; and that deviation."""
    std = np.sqrt(rows.var(-1, keepdims=True) + eps)
    return (rows - rows.mean(-1, keepdims=True)) / std, std


def standardise_backward(dy, rows, eps):
    """Add the three paths of batch normalisation: dx = (dy − mean(dy) − x̂ · mean(dy · x̂)) / σ."""
    x_hat, std = standardise(rows, eps)
    by_std = x_hat * (dy * x_hat).mean(-1, keepdims=True)
    return (dy - dy.mean(-1, keepdims=True) - by_std) / std


def group_norm_forward(x, weight, bias, groups, eps):
    """Standardise every image's channels in groups, then scale and shift each channel."""
    x_hat, _ = standardise(x.reshape(len(x), groups, -1), eps)
    per_channel = (-1, *[1] * (x.ndim - 2))
    return x_hat.reshape(x.shape) * weight.reshape(per_channel) + bias.reshape(per_channel)


def group_norm_backward(dy, x, weight, bias, groups, eps):
    rows = x.reshape(len(x), groups, -1)
    per_channel = (-1, *[1] * (x.ndim - 2))
    dx_hat = (dy * weight.reshape(per_channel)).reshape(rows.shape)
    x_hat = standardise(rows, eps)[0].reshape(x.shape)
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    dx = standardise_backward(dx_hat, rows, eps).reshape(x.shape)
    return dx, (dy * x_hat).sum(axes), dy.sum(axes)


def layer_norm_forward(x, weight, bias, eps):
    """Standardise the last axes, as many as `weight` has, together; then scale and shift."""
    x_hat, _ = standardise(x.reshape(-1, weight.size), eps)
    return x_hat.reshape(x.shape) * weight + bias


def layer_norm_backward(dy, x, weight, bias, eps):
    rows = x.reshape(-1, weight.size)
    x_hat = standardise(rows, eps)[0].reshape(x.shape)
    dx = standardise_backward((dy * weight).reshape(rows.shape), rows, eps)
    return dx.reshape(x.shape), summed(dy * x_hat, weight.shape), summed(dy, bias.shape)


# ---- arithmetic --------------------------------------------------------------------------------


def summed(gradient, shape):
    """Return the gradient of a repeated array: the sum over all its copies."""
    gradient = gradient.sum(tuple(range(gradient.ndim - len(shape))))
    ones = tuple(axis for axis, size in enumerate(shape) if size == 1)
    return gradient.sum(ones, keepdims=True)


def add_forward(x, other, alpha=1):
    """y = x + α · other, as at the end of a skip connection."""
    return x + alpha * other


def add_backward(dy, x, other, alpha=1):
    """Each term gets dy times its constant factor."""
    return summed(dy, np.shape(x)), summed(alpha * dy, np.shape(other))


def maximum_forward(x, other):
    """y is the larger of two values, as in maxout."""
    return np.maximum(x, other)


def maximum_backward(dy, x, other):
    """The larger value gets dy; equal ones share it, as in PyTorch."""
    share = np.where(x == other, 0.5, x > other)
    return summed(dy * share, np.shape(x)), summed(dy * (1 - share), np.shape(other))


def minimum_forward(x, other):
    return np.minimum(x, other)


def minimum_backward(dy, x, other):
    """min(x, y) = −max(−x, −y), so this follows from the maximum."""
    return maximum_backward(dy, -x, -other)


def mul_forward(x, other):
    """y = x · other, as in a squeeze-and-excitation block, which weighs maps."""
    return x * other


def mul_backward(dy, x, other):
    """Each factor gets dy times the other."""
    return summed(dy * other, np.shape(x)), summed(dy * x, np.shape(other))


def div_forward(x, other):
    """y = x / other."""
    return x / other


def div_backward(dy, x, other):
    """dx = dy / other and dother = −dy · x / other²."""
    return summed(dy / other, np.shape(x)), summed(-dy * x / other**2, np.shape(other))


def pow_forward(x, exponent):
    """y = x^k."""
    return x**exponent


def pow_backward(dy, x, exponent):
    """y' = k · x^(k−1)."""
    return dy * exponent * x ** (exponent - 1)


def exp_forward(x):
    return np.exp(x)


def exp_backward(dy, x):
    """y' = y."""
    return dy * np.exp(x)


def log_forward(x):
    return np.log(x)


def log_backward(dy, x):
    """y' = 1 / x."""
    return dy / x


def matmul_forward(x, other):
    """y = x · other: (…, n, m) and (…, m, k) to (…, n, k)."""
    return x @ other


def matmul_backward(dy, x, other):
    """dx = dy · otherᵀ and dother = xᵀ · dy."""
    return dy @ other.swapaxes(-1, -2), x.swapaxes(-1, -2) @ dy


def sum_forward(x, dim, keepdims=False):
    """y = Σ x along the axes `dim`."""
    return x.sum(dim, keepdims=keepdims)


def sum_backward(dy, x, dim, keepdims=False):
    """Every term gets all of dy."""
    return np.broadcast_to(dy if keepdims else np.expand_dims(dy, dim), x.shape)


def mean_forward(x, dim, keepdims=False):
    """y = Σ x / n along the axes `dim`."""
    return x.mean(dim, keepdims=keepdims)


def mean_backward(dy, x, dim, keepdims=False):
    """Every term gets an n-th of dy."""
    share = dy * (dy.size / x.size)
    return np.broadcast_to(share if keepdims else np.expand_dims(share, dim), x.shape)


# ---- what only moves numbers about -------------------------------------------------------------


def reshape_forward(x, shape):
    """Return the same numbers in another shape."""
    return x.reshape(shape)


def reshape_backward(dy, x, shape):
    return dy.reshape(x.shape)


def permute_forward(x, dims):
    """Return the same numbers with their axes in another order."""
    return x.transpose(dims)


def permute_backward(dy, x, dims):
    return dy.transpose(np.argsort(dims))


def expand_forward(x, shape):
    """Repeat x along the axes of length one until it has this shape."""
    return np.broadcast_to(x, shape)


def expand_backward(dy, x, shape):
    return summed(dy, x.shape)


def repeat_forward(x, repeats):
    """Lay copies of x end to end, as many along each axis as `repeats` has."""
    return np.tile(x, repeats)


def repeat_backward(dy, x, repeats):
    """Sum over the copies: the copy's number and the place within a copy are two axes."""
    shape = (1,) * (len(repeats) - x.ndim) + x.shape
    axes = [size for pair in zip(repeats, shape, strict=True) for size in pair]
    return dy.reshape(axes).sum(tuple(range(0, len(axes), 2))).reshape(x.shape)


def slice_forward(x, key):
    """Return a part of x: x[key]."""
    return x[key]


def slice_backward(dy, x, key):
    """What was left out gets 0."""
    dx = np.zeros_like(x)
    dx[key] = dy
    return dx


def pad_forward(x, borders, mode="constant"):
    """Add a border of zeros, or of x's own values, as `np.pad` names them."""
    return np.pad(x, borders, mode=mode)


def pad_backward(dy, x, borders, mode="constant"):
    """A value gets the dy of all its copies: `place` holds the value that each copy comes from."""
    place = np.pad(np.arange(x.size).reshape(x.shape) + 1, borders, mode=mode)  # 0 is a zero
    return np.bincount(place.ravel(), dy.ravel(), x.size + 1)[1:].reshape(x.shape).astype(dy.dtype)


def cat_forward(*parts, dim):
    """Join the parts along the axis `dim`."""
    return np.concatenate(parts, dim)


def cat_backward(dy, *parts, dim):
    """Each part gets its own piece of dy."""
    ends = np.cumsum([part.shape[dim] for part in parts])[:-1]
    return tuple(np.split(dy, ends, dim))


def stack_forward(*parts, dim):
    """Stack the parts along a new axis."""
    return np.stack(parts, dim)


def stack_backward(dy, *parts, dim):
    return tuple(np.moveaxis(dy, dim, 0))
