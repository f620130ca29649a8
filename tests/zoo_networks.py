"""Small networks, one for each habit in which students write them, and what is at work in each.

`ZOO` has, by the habit's name, what makes the network and four letters: n where batch normalisation
is at work, d for dropout, a for the average of whole maps, f for a fully connected layer. All but one
end in log-probabilities of ten classes.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn


class Written(nn.Module):
    """A network with these layers, and `function(network, x)` as its forward pass."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.function(self, x)


def chain(*layers):
    """Layers one after another, with log-softmax at the end."""
    return nn.Sequential(*layers, nn.LogSoftmax(dim=1))


def body(*layers, size=5):
    """A convolution with stride to `size`×`size` maps of four channels, then `layers`."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=28 // size, bias=False), *layers)


def headed(average, size=5, **layers):
    """A network whose maps `average(network, x)` makes (N, 4) of."""
    fc = nn.Linear(4, 10)
    return Written(
        lambda net, x: F.log_softmax(net.fc(net.average(net, net.body(x))), dim=1),
        **{"body": body(nn.ReLU(), nn.BatchNorm2d(4), size=size), "average": average, "fc": fc},
        **layers,
    )


def ended(end):
    """A network of ten maps, which `end` turns into log-probabilities."""
    return Written(lambda net, x: end(net.conv(x)), conv=nn.Conv2d(1, 10, 7, stride=5))


def activated(activation):
    """Two convolutions with an activation between them, ten maps and their average."""
    return chain(
        *(nn.Conv2d(1, 4, 3, stride=3, bias=False), activation, nn.Conv2d(4, 10, 3, bias=False)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    )


def normed(norm, channels=4):
    """A norm between a convolution and the average."""
    return chain(
        *(nn.Conv2d(1, channels, 5, stride=5), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(channels, 10)),
    )


def dropped(drop):
    """A network that drops by `drop(x, training)`."""
    return Written(
        lambda net, x: F.log_softmax(net.fc(drop(net.conv(x).flatten(1), net.training)), dim=1),
        conv=nn.Conv2d(1, 2, 9, stride=9), fc=nn.Linear(18, 10),
    )  # fmt: skip


class GhostBatchNorm(nn.BatchNorm2d):
    """Batch norm of two halves of the batch, each by itself: the halves become channels."""

    def __init__(self, channels):
        super().__init__(channels)
        self.register_buffer("running_mean", torch.zeros(2 * channels))
        self.register_buffer("running_var", torch.ones(2 * channels))

    def forward(self, x):
        n, c, h, w = x.shape
        if not self.training:
            running = self.running_mean[:c], self.running_var[:c]
            return F.batch_norm(x, *running, self.weight, self.bias, False)
        learned = self.weight.repeat(2), self.bias.repeat(2)
        halves = x.view(-1, 2 * c, h, w)
        running = self.running_mean, self.running_var
        return F.batch_norm(halves, *running, *learned, True, self.momentum).view(n, c, h, w)


class LayerNormByHand(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x):
        centred = x - x.mean((1, 2, 3), keepdim=True)
        return self.scale * centred / (centred.pow(2).mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()


class SqueezeExcite(nn.Module):
    def __init__(self, channels=4):
        super().__init__()
        self.down, self.up = nn.Linear(channels, 2), nn.Linear(2, channels)

    def forward(self, x):
        weights = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return weights[:, :, None, None] * x


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, bias=False)

    def forward(self, x):
        return F.relu(x + self.conv(x), inplace=True)


class Blocks(nn.Module):
    """The course's own kind: blocks of convolution, ReLU, batch norm and dropout, no bias."""

    def __init__(self, dropout=0.05):
        super().__init__()

        def block(i, o, **options):
            conv = nn.Conv2d(i, o, (3, 3), bias=False, **options)
            return nn.Sequential(conv, nn.ReLU(), nn.BatchNorm2d(o), nn.Dropout(dropout))

        self.convblock1, self.convblock2 = block(1, 4, padding=0), block(4, 6, padding=0)
        self.convblock3 = nn.Sequential(nn.Conv2d(6, 4, (1, 1), padding=0, bias=False))
        self.pool1 = nn.MaxPool2d(2, 2)
        self.convblock4, self.convblock5 = block(4, 6), block(6, 6, padding=1)
        self.gap = nn.Sequential(nn.AvgPool2d(kernel_size=10))
        self.convblock8 = nn.Sequential(nn.Conv2d(6, 10, (1, 1), padding=0, bias=False))

    def forward(self, x):
        x = self.pool1(self.convblock3(self.convblock2(self.convblock1(x))))
        x = self.convblock8(self.gap(self.convblock5(self.convblock4(x))))
        return F.log_softmax(x.view(-1, 10), dim=-1)


class Reused(nn.Module):
    """One ReLU, one pool, one dropout and one convolution, each used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Conv2d(1, 4, 3, stride=2), nn.Conv2d(4, 4, 3, bias=False)
        self.relu, self.pool, self.drop = nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.1)
        self.fc = nn.Linear(4, 10)

    def forward(self, x):
        x = self.pool(self.relu(self.first(x)))
        x = self.drop(self.relu(self.again(x)))
        x = self.drop(self.relu(self.again(x)))
        return F.log_softmax(self.fc(torch.flatten(self.pool(x), 1)), dim=1)


class Listed(nn.Module):
    """Layers in a list and a dictionary, and a word that is printed."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, 4, 5, 3), nn.Conv2d(4, 4, 3, 2)])
        self.norms = nn.ModuleDict({"bn": nn.BatchNorm2d(4)})
        self.fc = nn.Linear(36, 10)

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(self.norms["bn"](conv(x)))
        print("shape", x.shape)
        return F.log_softmax(self.fc(x.view(x.shape[0], -1)), dim=1)


def weighted(net, x):
    return (x * net.weights).sum((2, 3))


def linear_mean(net, x):
    return net.mean(x.flatten(2)).squeeze(2)


def mean_layer():
    layer = nn.Linear(25, 1, bias=False)
    nn.init.constant_(layer.weight, 1 / 25)
    return layer


def shuffled(net, x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w).mean((2, 3))


def attended(net, x):
    tokens = net.conv(x).flatten(2).transpose(1, 2)
    return F.log_softmax(net.fc(net.attention(tokens, tokens, tokens)[0][:, 0]), dim=1)


@torch.jit.script
def scripted_mish(x):
    return x * torch.tanh(F.softplus(x))


ZOO = {
    # The course's architecture
    "blocks of conv, ReLU, norm, dropout": (Blocks, "nda"),
    "everything": (lambda: headed(lambda net, x: net.drop(x.mean((2, 3))), drop=nn.Dropout(0.1)), "ndaf"),
    "reused layers": (Reused, "df"),
    "layers in lists, prints": (Listed, "nf"),
    "in place": (lambda: chain(nn.Conv2d(1, 4, 5, 4), nn.ReLU(True), nn.BatchNorm2d(4), nn.ReLU(True),
        nn.Dropout(0.1), nn.Flatten(), nn.Linear(144, 10)), "ndf"),
    "perceptron": (lambda: chain(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10)), "f"),
    "batch norm of features": (lambda: chain(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8),
        nn.ReLU(), nn.Linear(8, 10)), "nf"),
    "lazy": (lambda: chain(nn.LazyConv2d(4, 5, 4), nn.LazyBatchNorm2d(), nn.Flatten(),
        nn.LazyLinear(10)), "nf"),
    "data parallel": (lambda: nn.DataParallel(Reused()), "df"),
    # Averages of whole maps
    "AvgPool2d": (lambda: headed(lambda net, x: net.gap(x).view(-1, 4), gap=nn.AvgPool2d(6)), "naf"),
    "AdaptiveAvgPool2d((1, 1))": (lambda: headed(lambda net, x: net.gap(x).flatten(1),
        gap=nn.AdaptiveAvgPool2d((1, 1))), "naf"),
    "adaptive, squeezed": (lambda: headed(lambda net, x: F.adaptive_avg_pool2d(x, 1).squeeze()), "naf"),
    "squeezed twice": (lambda: headed(lambda net, x:
        F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)), "naf"),
    "of the map's size": (lambda: headed(lambda net, x: F.avg_pool2d(x, x.size()[2:]).flatten(1)), "naf"),
    "kernel by keyword": (lambda: headed(lambda net, x:
        F.avg_pool2d(input=x, kernel_size=x.shape[-1])[:, :, 0, 0]), "naf"),
    "mean([2, 3])": (lambda: headed(lambda net, x: x.mean([2, 3])), "naf"),
    "torch.mean": (lambda: headed(lambda net, x: torch.mean(x, dim=(-1, -2))), "naf"),
    "two means": (lambda: headed(lambda net, x: x.mean(3).mean(2)), "naf"),
    "two means, kept": (lambda: headed(lambda net, x:
        x.mean(2, keepdim=True).mean(3, keepdim=True).flatten(1)), "naf"),
    "flattened": (lambda: headed(lambda net, x: x.flatten(2).mean(2)), "naf"),
    "view and mean": (lambda: headed(lambda net, x: x.view(x.size(0), x.size(1), -1).mean(dim=2)), "naf"),
    "sum over n": (lambda: headed(lambda net, x: x.sum((2, 3)) / (x.shape[2] * x.shape[3])), "naf"),
    "sum times 1/n": (lambda: headed(lambda net, x: x.flatten(2).sum(-1) * (1 / 36)), "naf"),
    "einsum": (lambda: headed(lambda net, x: torch.einsum("nchw->nc", x) / 36), "naf"),
    "channels last": (lambda: headed(lambda net, x: x.permute(0, 2, 3, 1).mean((1, 2))), "naf"),
    "two poolings": (lambda: headed(lambda net, x: F.avg_pool2d(F.avg_pool2d(x, 2), 3).flatten(1)), "naf"),
    "overwritten": (lambda: headed(lambda net, x: x.sum((2, 3)).div_(36)), "naf"),
    "ten maps": (lambda: ended(lambda x: F.log_softmax(F.avg_pool2d(x, 5).view(-1, 10), dim=-1)), "a"),
    "before dead ReLUs": (lambda: headed(lambda net, x: F.relu(x - 100).mean((2, 3))), "naf"),
    "channels shuffled": (lambda: headed(shuffled), "naf"),
    # What is no average of whole maps
    "5×5 of 6×6": (lambda: headed(lambda net, x: F.avg_pool2d(x, 5).flatten(1)), "nf"),
    "maximum": (lambda: headed(lambda net, x: F.adaptive_max_pool2d(x, 1).flatten(1)), "nf"),
    "maximum of the map's size": (lambda: headed(lambda net, x: F.max_pool2d(x, 6).flatten(1)), "nf"),
    "learned weights": (lambda: headed(weighted, weights=nn.Parameter(torch.full((6, 6), 1 / 36))), "nf"),
    "linear that averages": (lambda: headed(lambda net, x: linear_mean(net, x[:, :, 1:, 1:]),
        mean=mean_layer()), "nf"),
    "one activation": (lambda: headed(lambda net, x: x[:, :, 2, 2]), "nf"),
    "sum without n": (lambda: headed(lambda net, x: x.sum((2, 3))), "nf"),
    "nearly n": (lambda: headed(lambda net, x: x.sum((2, 3)) / 35), "nf"),
    "of 1×1 maps": (lambda: chain(nn.Conv2d(1, 4, 28), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 10)), "f"),
    "constant maps": (lambda: headed(lambda net, x: x[:, :, :1, :1].expand(-1, -1, 4, 4)[:, :, 3, 3]), "nf"),
    "convolution to 1×1": (lambda: ended(lambda x: F.log_softmax(F.max_pool2d(x, 5).view(-1, 10), 1)), ""),
    "an average that nothing needs": (lambda: headed(lambda net, x:
        (x.mean((2, 3)), x.amax((2, 3)))[1] if False else x[:, :, 1, 1]), "nf"),
    # Dropout
    "F.dropout": (lambda: dropped(lambda x, t: F.dropout(x, 0.1, t)), "df"),
    "F.dropout, by keyword": (lambda: dropped(lambda x, t: F.dropout(x, training=t)), "df"),
    "of channels": (lambda: chain(nn.Conv2d(1, 4, 5, 4), nn.Dropout2d(0.2), nn.Flatten(),
        nn.Linear(144, 10)), "df"),
    "of nothing": (lambda: chain(nn.Dropout(0.0), nn.Flatten(), nn.Linear(784, 10)), "f"),
    "p is self.training": (lambda: dropped(lambda x, t: F.dropout(x, t)), "f"),
    # Norms
    "ghost": (lambda: normed(GhostBatchNorm(4)), "naf"),
    "not affine": (lambda: normed(nn.BatchNorm2d(4, affine=False)), "naf"),
    "without statistics": (lambda: normed(nn.BatchNorm2d(4, track_running_stats=False)), "naf"),
    "group": (lambda: normed(nn.GroupNorm(2, 4)), "af"),
    "layer": (lambda: normed(nn.LayerNorm([4, 5, 5])), "af"),
    "layer, as one group": (lambda: normed(nn.GroupNorm(1, 4)), "af"),
    "instance": (lambda: normed(nn.InstanceNorm2d(4, affine=True)), "af"),
    "layer, by hand": (lambda: normed(LayerNormByHand()), "af"),
    "another eps": (lambda: normed(nn.BatchNorm2d(4, eps=1e-3)), "naf"),
    # Convolutions and paths
    "squeeze and excitation": (lambda: normed(SqueezeExcite()), "af"),
    "residual": (lambda: normed(Residual()), "af"),
    "depthwise": (lambda: normed(nn.Conv2d(4, 4, 3, padding=1, groups=4)), "af"),
    "dilated": (lambda: normed(nn.Conv2d(4, 4, 2, dilation=3)), "af"),
    "1×3 and 3×1": (lambda: normed(nn.Sequential(nn.Conv2d(4, 4, (1, 3)), nn.Conv2d(4, 4, (3, 1)))), "af"),
    "same, of an even kernel": (lambda: normed(nn.Conv2d(4, 4, 4, padding="same")), "af"),
    "reflected": (lambda: normed(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), "af"),
    "padded by a layer": (lambda: normed(nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(4, 4, 3))), "af"),
    "overlapping pools": (lambda: normed(nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1))), "af"),
    "pool that looks beyond the map": (lambda: normed(nn.MaxPool2d(2, ceil_mode=True)), "af"),
    "adaptive, not to one": (lambda: normed(nn.AdaptiveAvgPool2d(3)), "af"),
    "concatenation": (lambda: normed(Written(lambda net, x: torch.cat([x[:, :2], net.c(x)], 1),
        c=nn.Conv2d(4, 2, 1))), "af"),
    "halves of the channels": (lambda: normed(Written(lambda net, x:
        torch.cat([half.relu() for half in x.chunk(2, 1)][::-1], 1))), "af"),
    "maxout": (lambda: normed(Written(lambda net, x: torch.max(x, net.c(x)), c=nn.Conv2d(4, 4, 1))), "af"),
    "smaller of two paths": (lambda: normed(Written(lambda net, x: torch.minimum(x, net.c(x)),
        c=nn.Conv2d(4, 4, 1))), "af"),
    "attention": (lambda: Written(attended, conv=nn.Conv2d(1, 4, 7, 7), fc=nn.Linear(4, 10),
        attention=nn.MultiheadAttention(4, 2, batch_first=True)), "f"),
    "logits": (lambda: ended(lambda x: x.mean((2, 3))), "a"),
    "frozen": (lambda: normed(nn.Conv2d(4, 4, 1).requires_grad_(False)), "af"),
    # Activations and ends
    **{f"activation {type(layer).__name__}": (lambda layer=layer: activated(copy.deepcopy(layer)), "a") for layer in (
        nn.LeakyReLU(0.1), nn.PReLU(), nn.PReLU(4), nn.ELU(), nn.SELU(), nn.CELU(2.0), nn.GELU(),
        nn.GELU("tanh"), nn.SiLU(), nn.Mish(), nn.Sigmoid(), nn.Tanh(), nn.ReLU6(), nn.Hardswish(),
        nn.Softplus(), nn.Hardtanh())},
    "log of softmax": (lambda: ended(lambda x: x.mean((2, 3)).softmax(1).log()), "a"),
    "log-softmax of maps": (lambda: ended(lambda x: x.mean((2, 3), True).log_softmax(1).view(-1, 10)), "a"),
    "log-softmax, then squeezed": (lambda: ended(lambda x:
        F.log_softmax(F.adaptive_avg_pool2d(x, 1), dim=1).squeeze()), "a"),
    "pixels from −1 to 1": (lambda: chain(Written(lambda net, x: (x - 0.5) / 0.5), nn.Flatten(),
        nn.Linear(784, 10)), "f"),
}  # fmt: skip
UNKNOWN = {  # where a layer has no derivative by hand: its line has these words
    "scripted activation": (lambda: activated(Written(lambda net, x: scripted_mish(x))), "a", "A scripted function"),
    "weight norm": (lambda: normed(torch.nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))),
        "af", "lacks weight_norm"),
    "pixels unshuffled": (lambda: chain(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3, 2), nn.Flatten(),
        nn.Linear(144, 10)), "f", "lacks pixel_unshuffle"),
    "hard sigmoid": (lambda: activated(nn.Hardsigmoid()), "a", "lacks hardsigmoid_forward"),
}  # fmt: skip
