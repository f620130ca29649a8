"""The layers of `MNISTNet` and a few more, forward and backward, by hand in NumPy.

A layer is a pair of plain functions that remember nothing:

    y = forward(x, …)           what the layer does
    dx, … = backward(dy, x, …)  its derivative, by the chain rule

`backward` is handed dy, which is ∂L/∂y, the slope of the loss L along each output, and then
exactly what `forward` was handed. It returns ∂L/∂x and, if the layer has them, ∂L/∂weight and
∂L/∂bias; like dy, each has the shape of what it is the slope along. Results have the dtype of
their inputs: float64 in, float64 out.

In the formulas n counts images, c and o channels (in and out), i and j rows and columns of a
map, a and b rows and columns of a kernel.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

EPS = 1e-5  # keeps batch normalisation from dividing by zero; PyTorch's value
PER_CHANNEL = (0, 2, 3)  # the axes to sum over to be left with one number for each channel


# ---- convolution -------------------------------------------------------------------------------


def correlate(x, weight, padding):
    """Lay the kernels on every patch of the zero-padded maps: multiply, then sum.

    y[n,o,i,j] = Σ_c Σ_a Σ_b  weight[o,c,a,b] · x[n,c,i+a−p,j+b−p]
    """
    patches = windows(x, weight.shape[-1], padding)  # (N, H', W', K, K, C)
    y = np.tensordot(patches, weight.transpose(2, 3, 1, 0), 3)  # (N, H', W', O)
    return y.transpose(0, 3, 1, 2)  # (N, O, H', W')


def windows(x, size, padding):
    """Every size×size patch of the zero-padded maps, (N, H', W', size, size, C): a view."""
    border = (padding, padding)
    x = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), border, border, (0, 0)))  # (N, H+2p, W+2p, C)
    return sliding_window_view(x, (size, size), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)


def conv_forward(x, weight, bias, padding=0):
    """Feature maps (N, C, H, W) and kernels (O, C, K, K) to (N, O, H', W'), H' = H + 2p − K + 1."""
    return correlate(x, weight, padding) + bias[:, None, None]


def conv_backward(dy, x, weight, bias, padding=0):
    """Every product weight · x passes its dy on to both of its factors.

    dx[n,c,i,j]      = Σ_o Σ_a Σ_b  weight[o,c,a,b] · dy[n,o,i−a+p,j−b+p]
    dweight[o,c,a,b] = Σ_n Σ_i Σ_j  dy[n,o,i,j] · x[n,c,i+a−p,j+b−p]
    dbias[o]         = Σ_n Σ_i Σ_j  dy[n,o,i,j]

    The minus signs in front of a and b make dx a correlation with the flipped kernel, "full"
    because dy is padded until even the corner of x has met every tap.
    """
    size = weight.shape[-1]
    flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1)  # (C, O, K, K)
    dx = correlate(dy, flipped, padding=size - 1 - padding)
    dweight = np.tensordot(dy, windows(x, size, padding), (PER_CHANNEL, (0, 1, 2)))  # (O, K, K, C)
    return dx, dweight.transpose(0, 3, 1, 2), dy.sum(PER_CHANNEL)


# ---- batch normalisation -----------------------------------------------------------------------


def batch_statistics(x):
    """Mean and variance (biased: divided by the count) of every channel, each (C,)."""
    return x.mean(PER_CHANNEL), x.var(PER_CHANNEL)


def batch_norm_forward(x, weight, bias, mean=None, var=None):
    """Centre and scale every channel of (N, C, H, W), then give it a learned scale and offset.

    y = γ · x̂ + β    x̂ = (x − μ) / σ    σ = √(var + ε)    γ is `weight`, β is `bias`

    In training μ and var are the batch's own; to evaluate, pass the running ones, each (C,).
    """
    if mean is None:
        mean, var = batch_statistics(x)
    scale = weight / np.sqrt(var + EPS)  # (C,)
    return (x - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]


def batch_norm_backward(dy, x, weight, bias, mean=None, var=None):
    """x reaches y by three paths: itself, the mean of its channel, and the variance.

    dβ = Σ dy    dγ = Σ dy · x̂                                     (sums over n, i, j)
    dx = γ/σ · (dy  −  mean(dy)  −  x̂ · mean(dy · x̂))
                itself   by way of μ   by way of σ

    Running statistics do not depend on x: with them only the first path is left.
    """
    running = mean is not None
    if not running:
        mean, var = batch_statistics(x)
    std = np.sqrt(var + EPS)[:, None, None]
    x_hat = (x - mean[:, None, None]) / std
    dbias = dy.sum(PER_CHANNEL)  # (C,)
    dweight = (dy * x_hat).sum(PER_CHANNEL)  # (C,)
    if running:
        return weight[:, None, None] / std * dy, dweight, dbias
    count = x[:, 0].size  # N · H · W
    by_mean = dbias[:, None, None] / count
    by_std = x_hat * dweight[:, None, None] / count
    dx = weight[:, None, None] / std * (dy - by_mean - by_std)
    return dx, dweight, dbias


# ---- ReLU and dropout --------------------------------------------------------------------------


def relu_forward(x):
    """y = max(x, 0)."""
    return np.maximum(x, 0)


def relu_backward(dy, x):
    """dx = dy where x > 0, else 0. At the kink itself, x = 0, PyTorch too chooses 0."""
    return dy * (x > 0)


def dropout_forward(x, mask):
    """y = x · mask. A mask is 0 where a value is dropped and 1/(1 − p) where it is kept.

    The factor is in the mask, so that the mean of y is that of x, and to evaluate the mask is 1.
    """
    return x * mask


def dropout_backward(dy, x, mask):
    """dx = dy · mask: what did not pass forward does not pass back."""
    return dy * mask


# ---- pooling -----------------------------------------------------------------------------------


def quarters(x):
    """The four values of every 2×2 window in reading order: (N, C, H, W) to (N, C, H', W', 4).

    H' = H // 2 and W' = W // 2: a last odd row or column belongs to no window, as in PyTorch.
    """
    n, c, h, w = *x.shape[:2], x.shape[2] // 2, x.shape[3] // 2
    whole = x[:, :, : 2 * h, : 2 * w].reshape(n, c, h, 2, w, 2)
    return whole.swapaxes(3, 4).reshape(n, c, h, w, 4)


def max_pool_forward(x):
    """The largest value of every 2×2 window: (N, C, H, W) to (N, C, H // 2, W // 2)."""
    return quarters(x).max(axis=-1)


def max_pool_backward(dy, x):
    """All of dy goes to the window's largest value; among equals to the first, as in PyTorch.

    dx = dy where x is its window's winner, else 0
    """
    n, c, h, w = dy.shape
    winner = quarters(x).argmax(axis=-1)  # argmax names the first of equals
    routed = dy[..., None] * (winner[..., None] == np.arange(4))  # (N, C, H', W', 4)
    dx = np.zeros_like(x)
    whole = routed.reshape(n, c, h, w, 2, 2).swapaxes(3, 4)
    dx[:, :, : 2 * h, : 2 * w] = whole.reshape(n, c, 2 * h, 2 * w)
    return dx


def global_average_pool_forward(x, keepdims=True):
    """The mean of every map: (N, C, H, W) to (N, C, 1, 1), or to (N, C)."""
    return x.mean((2, 3), keepdims=keepdims)


def global_average_pool_backward(dy, x, keepdims=True):
    """y = Σ x / (H · W), so every pixel gets the same share: dx = dy / (H · W)."""
    dy = dy.reshape(*x.shape[:2], 1, 1)
    return np.broadcast_to(dy / x[0, 0].size, x.shape)


# ---- two branches become one -------------------------------------------------------------------


def add_forward(x, other):
    """y = x + other, as where a skip connection ends: both (N, C, H, W)."""
    return x + other


def add_backward(dy, x, other):
    """Both terms have the factor 1, so each gets all of dy."""
    return dy, dy


# ---- the head ----------------------------------------------------------------------------------


def flatten_forward(x):
    """(N, C, H, W) to (N, C · H · W)."""
    return x.reshape(len(x), -1)


def flatten_backward(dy, x):
    """The same numbers in the shape they came in."""
    return dy.reshape(x.shape)


def linear_forward(x, weight, bias):
    """y = x · weightᵀ + bias: (N, C), (O, C) and (O,) to (N, O)."""
    return x @ weight.T + bias


def linear_backward(dy, x, weight, bias):
    """y[n,o] = Σ_c x[n,c] · weight[o,c] + bias[o] gives, product by product:

    dx = dy · weight    dweight = dyᵀ · x    dbias = Σ_n dy
    """
    return dy @ weight, dy.T @ x, dy.sum(0)


def log_softmax_forward(logits):
    """log p_k = z_k − log Σ_j exp z_j for each row z of (N, 10).

    Taking the row's maximum off z first changes nothing in the formula, and keeps exp finite.
    """
    z = logits - logits.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def nll_forward(log_probs, labels):
    """The negative log-likelihood, mean over the batch: L = −(1/N) Σ_n log p[n, label[n]]."""
    return -log_probs[np.arange(len(labels)), labels].mean()


def log_softmax_nll_backward(log_probs, labels):
    """From the loss straight to the logits, both steps in one.

    For an image with label t,  L = −log p_t = −z_t + log Σ_j exp z_j, hence
    ∂L/∂z_k = −[k = t] + exp z_k / Σ_j exp z_j = p_k − [k = t]
    so dlogits = (p − y) / N, where y has a one at each label and the batch's mean gives the N.
    """
    dlogits = np.exp(log_probs)
    dlogits[np.arange(len(labels)), labels] -= 1
    return dlogits / len(labels)
