"""The layers of `MNISTNet`, forward and backward, by hand in NumPy.

A layer is a pair of plain functions that keep no state:

    y = forward(x, …)           what the layer does
    dx, … = backward(dy, x, …)  its derivative, by the chain rule

`backward` takes dy, which is ∂L/∂y, the gradient of the loss L along each output, and then
the same arguments as `forward`. It returns ∂L/∂x and, if the layer has them, ∂L/∂weight and
∂L/∂bias. A gradient has the shape of what it belongs to. Results have the dtype of their
inputs: float64 in, float64 out. `LAYERS.md` derives every `backward` here.

Layers that other networks have, but `MNISTNet` has not, are in `more_layers.py`.

In the formulas n counts images, c and o channels (in and out), i and j rows and columns of a
map, a and b rows and columns of a kernel.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

EPS = 1e-5  # keeps batch normalisation from dividing by zero; PyTorch's value
PER_CHANNEL = (0, 2, 3)  # summing over these axes leaves one number for each channel


# ---- convolution -------------------------------------------------------------------------------


def correlate(x, weight, padding=0, stride=1, dilation=1):
    """Lay the kernels on every patch of the zero-padded maps: multiply, then sum.

    y[n,o,i,j] = Σ_c Σ_a Σ_b  weight[o,c,a,b] · x[n,c,i+a−p,j+b−p]

    With a stride s and a dilation d, rows are s·i + d·a − p and columns s·j + d·b − p.
    """
    patches = windows(x, weight.shape[2:], padding, stride, dilation)  # (N, H', W', K, K, C)
    y = np.tensordot(patches, weight.transpose(2, 3, 1, 0), 3)  # (N, H', W', O)
    return y.transpose(0, 3, 1, 2)  # (N, O, H', W')


def windows(x, size, padding=0, stride=1, dilation=1, fill=0):
    """The size×size patches of the padded maps, (N, H', W', size, size, C): a view."""
    (high, wide), (down, right), (rows, columns) = map(both, (size, stride, dilation))
    x = bordered(x, padding, fill).transpose(0, 2, 3, 1)  # (N, H+2p, W+2p, C)
    span = rows * (high - 1) + 1, columns * (wide - 1) + 1
    patches = sliding_window_view(x, span, axis=(1, 2))[:, ::down, ::right, :, ::rows, ::columns]
    return patches.transpose(0, 1, 2, 4, 5, 3)


def both(value):
    """Return a size as (height, width); a single number means both."""
    return value if isinstance(value, tuple) else (value, value)


def bordered(x, padding, fill=0):
    """Add a border of `fill` to the maps (N, C, H, W); a negative padding cuts a border off.

    `padding` is a number, (height, width), or ((top, bottom), (left, right)).
    """
    (top, bottom), (left, right) = map(both, both(padding))
    borders = (max(0, top), max(0, bottom)), (max(0, left), max(0, right))
    x = np.pad(x, ((0, 0), (0, 0), *borders), constant_values=fill) if np.any(borders) else x
    return x[:, :, max(0, -top) :, max(0, -left) :][
        :, :, : min(0, bottom) or None, : min(0, right) or None
    ]


def conv_forward(x, weight, bias, padding=0, stride=1, dilation=1, groups=1):
    """Turn maps (N, C, H, W) and kernels (O, C, K, K) into (N, O, H', W'); H' = H + 2p − K + 1.

    With several groups, each has its own share of the maps, kernels and biases.
    """
    if groups > 1:
        shares = zip(np.split(x, groups, 1), *in_groups(groups, weight, bias), strict=True)
        each = [conv_forward(*share, padding, stride, dilation) for share in shares]
        return np.concatenate(each, 1)
    return correlate(x, weight, padding, stride, dilation) + bias[:, None, None]


def conv_backward(dy, x, weight, bias, padding=0, stride=1, dilation=1, groups=1):
    """Every product weight · x passes its dy on to both of its factors.

    dx[n,c,i,j]      = Σ_o Σ_a Σ_b  weight[o,c,a,b] · dy[n,o,i−a+p,j−b+p]
    dweight[o,c,a,b] = Σ_n Σ_i Σ_j  dy[n,o,i,j] · x[n,c,i+a−p,j+b−p]
    dbias[o]         = Σ_n Σ_i Σ_j  dy[n,o,i,j]

    The minus signs in front of a and b make dx a correlation with the flipped kernel, "full"
    because dy is padded until even the corner of x has met every tap. A stride leaves positions
    out: their dy is 0.
    """
    if groups > 1:
        maps = np.split(dy, groups, 1), np.split(x, groups, 1)
        shares = zip(*maps, *in_groups(groups, weight, bias), strict=True)
        each = [conv_backward(*share, padding, stride, dilation) for share in shares]
        dx, dweight, dbias = zip(*each, strict=True)
        return np.concatenate(dx, 1), np.concatenate(dweight), np.concatenate(dbias)
    flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, O, K, K)
    reach = [rate * (taps - 1) for rate, taps in zip(both(dilation), weight.shape[2:], strict=True)]
    borders = [both(border) for border in both(padding)]
    spread = dy
    if stride != 1:
        sizes = [
            size + sum(border) - far
            for size, border, far in zip(x.shape[2:], borders, reach, strict=True)
        ]
        spread = np.zeros((*dy.shape[:2], *sizes), dy.dtype)
        spread[:, :, :: both(stride)[0], :: both(stride)[1]] = dy
    full = tuple(
        (far - first, far - last) for far, (first, last) in zip(reach, borders, strict=True)
    )
    dx = correlate(spread, flipped, full, dilation=dilation)
    patches = windows(x, weight.shape[2:], padding, stride, dilation)
    dweight = np.tensordot(dy, patches, (PER_CHANNEL, (0, 1, 2)))  # (O, K, K, C)
    return dx, dweight.transpose(0, 3, 1, 2), dy.sum(PER_CHANNEL)


def in_groups(groups, *arrays):
    """Cut each array into `groups` equal parts along its first axis."""
    return [np.split(array, groups) for array in arrays]


# ---- batch normalisation -----------------------------------------------------------------------


def batch_statistics(x):
    """Return mean and variance (biased: divided by the count) of every channel, each (C,)."""
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)  # (0, 2, 3) of maps
    return x.mean(axes), x.var(axes)


def on_channels(vector, x):
    """Return a vector (C,), one value per channel, in a shape that broadcasts against x."""
    return vector.reshape(-1, *[1] * (x.ndim - 2))  # (C, 1, 1) for maps, (C,) for (N, C)


def batch_norm_forward(x, weight, bias, mean=None, var=None, eps=EPS):
    """Centre and scale every channel of (N, C, H, W), or of (N, C), then give it a learned scale
    and offset.

    y = γ · x̂ + β    x̂ = (x − μ) / σ    σ = √(var + ε)    γ is `weight`, β is `bias`

    In training μ and var are the batch's own; to evaluate, pass the running ones, each (C,).
    """
    if mean is None:
        mean, var = batch_statistics(x)
    scale = weight / np.sqrt(var + eps)  # (C,)
    return (x - on_channels(mean, x)) * on_channels(scale, x) + on_channels(bias, x)


def batch_norm_backward(dy, x, weight, bias, mean=None, var=None, eps=EPS):
    """x reaches y along three paths: itself, its channel's mean and its standard deviation.

    dβ = Σ dy    dγ = Σ dy · x̂                                     (sums over n, i, j)
    dx = γ/σ · (dy  −  mean(dy)  −  x̂ · mean(dy · x̂))
                itself   through μ     through σ

    Running statistics do not depend on x, so with them only the first path is left.
    """
    running = mean is not None
    if not running:
        mean, var = batch_statistics(x)
    std = on_channels(np.sqrt(var + eps), x)
    x_hat = (x - on_channels(mean, x)) / std
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    dbias = dy.sum(axes)  # (C,)
    dweight = (dy * x_hat).sum(axes)  # (C,)
    scale = on_channels(weight, x) / std
    if running:
        return scale * dy, dweight, dbias
    count = x[:, 0].size  # N · H · W
    by_mean = on_channels(dbias, x) / count
    by_std = x_hat * on_channels(dweight, x) / count
    dx = scale * (dy - by_mean - by_std)
    return dx, dweight, dbias


# ---- ReLU and dropout --------------------------------------------------------------------------


def relu_forward(x):
    """y = max(x, 0)."""
    return np.maximum(x, 0)


def relu_backward(dy, x):
    """dx = dy where x > 0, else 0. At the kink, x = 0, PyTorch also uses 0."""
    return dy * (x > 0)


def dropout_forward(x, mask):
    """y = x · mask. A mask is 0 where a value is dropped and 1/(1 − p) where it is kept.

    The mask holds the factor that keeps the mean of y equal to the mean of x. In testing it is 1.
    """
    return x * mask


def dropout_backward(dy, x, mask):
    """dx = dy · mask: a value that was dropped gets no gradient."""
    return dy * mask


# ---- pooling -----------------------------------------------------------------------------------


def pooled(x, kernel_size, stride, padding, dilation):
    """Return the values of every window in reading order: (N, C, H, W) to (N, C, H', W', K · K).

    For 2×2 windows, H' = H // 2 and W' = W // 2. As in PyTorch, a last odd row or column belongs to
    no window. Values outside the map are −∞, which is never the largest.
    """
    patches = windows(x, kernel_size, padding, stride, dilation, fill=-np.inf)
    n, h, w, *_, c = patches.shape
    return patches.transpose(0, 5, 1, 2, 3, 4).reshape(n, c, h, w, -1)


def max_pool_forward(x, kernel_size=2, stride=2, padding=0, dilation=1):
    """Keep the largest value of every 2×2 window: (N, C, H, W) to (N, C, H // 2, W // 2)."""
    return pooled(x, kernel_size, stride, padding, dilation).max(axis=-1)


def max_pool_backward(dy, x, kernel_size=2, stride=2, padding=0, dilation=1):
    """Give all of dy to the window's largest value, if several tie to the first, as in PyTorch.

    dx = Σ dy of those windows in which x is the largest
    """
    values = pooled(x, kernel_size, stride, padding, dilation)
    winner = values.argmax(axis=-1)  # the first of equals
    dx = np.zeros_like(bordered(x, padding))
    steps, spread = both(stride), both(dilation)
    for number, taps in enumerate(np.ndindex(both(kernel_size))):  # one value of each window
        rows, columns = (
            d * tap + s * np.arange(size)
            for d, tap, s, size in zip(spread, taps, steps, dy.shape[2:], strict=True)
        )
        dx[:, :, rows[:, None], columns] += dy * (winner == number)
    (top, bottom), (left, right) = map(both, both(padding))
    return bordered(dx, ((-top, -bottom), (-left, -right)))


def average_pool_forward(x, rows, columns):
    """Return the mean of each window, given the windows' weights along rows and columns of a map.

    y = rows · x · columnsᵀ: (N, C, H, W), (H', H) and (W', W) to (N, C, H', W'). Row i of `rows` is
    1/K where the i-th window lies, and 0 elsewhere.
    """
    return rows @ x @ columns.T


def average_pool_backward(dy, x, rows, columns):
    """Each value gets its share of the dy of every window that it is in."""
    return rows.T @ dy @ columns


def global_average_pool_forward(x, keepdims=True):
    """Return the mean of every map: (N, C, H, W) to (N, C, 1, 1), or to (N, C)."""
    return x.mean((2, 3), keepdims=keepdims)


def global_average_pool_backward(dy, x, keepdims=True):
    """y = Σ x / (H · W), so every pixel gets the same share: dx = dy / (H · W)."""
    dy = dy.reshape(*x.shape[:2], 1, 1)
    return np.broadcast_to(dy / x[0, 0].size, x.shape)


# ---- the head ----------------------------------------------------------------------------------


def flatten_forward(x):
    """Flatten (N, C, H, W) to (N, C · H · W)."""
    return x.reshape(len(x), -1)


def flatten_backward(dy, x):
    """Return the same numbers in the shape that they had."""
    return dy.reshape(x.shape)


def linear_forward(x, weight, bias):
    """y = x · weightᵀ + bias: (N, C), (O, C) and (O,) to (N, O)."""
    return x @ weight.T + bias


def linear_backward(dy, x, weight, bias):
    """y[n,o] = Σ_c x[n,c] · weight[o,c] + bias[o] gives, product by product:

    dx = dy · weight    dweight = dyᵀ · x    dbias = Σ_n dy
    """
    return dy @ weight, dy.T @ x, dy.sum(0)


def log_softmax_forward(logits, dim=1):
    """log p_k = z_k − log Σ_j exp z_j for each row z of (N, 10), or along another axis.

    Subtracting the row's maximum from z first changes no result, and keeps exp finite.
    """
    z = logits - logits.max(dim, keepdims=True)
    return z - np.log(np.exp(z).sum(dim, keepdims=True))


def nll_forward(log_probs, labels):
    """Return the mean negative log-likelihood: L = −(1/N) Σ_n log p[n, label[n]]."""
    return -log_probs[np.arange(len(labels)), labels].mean()


def log_softmax_nll_backward(log_probs, labels):
    """Return the gradient along the logits, loss and log-softmax in one step.

    For an image with label c,  L = −log p_c = −z_c + log Σ_j exp z_j, hence
        ∂L/∂z_k = −[k = c] + exp z_k / Σ_j exp z_j = p_k − [k = c]
    so dlogits = (p − y) / N, where y is 1 at each label, and N comes from the batch's mean.
    """
    dlogits = np.exp(log_probs)
    dlogits[np.arange(len(labels)), labels] -= 1
    return dlogits / len(labels)


def nll_backward(log_probs, labels):
    """L is the mean of −log p[n, label[n]]: the slope is −1/N at each label, and 0 elsewhere."""
    dlog_probs = np.zeros_like(log_probs)
    dlog_probs[np.arange(len(labels)), labels] = -1 / len(labels)
    return dlog_probs
