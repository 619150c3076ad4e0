"""GoogLeNet: Inception blocks, wide and cheap (arXiv:1409.4842).

It follows PyTorch's model: with batch normalisation, and 3x3 filters where the paper has 5x5.
Layers and parameters have that model's names, so that weights can be exchanged.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from ..layers import AdaptiveAveragePooling, Dropout, GlobalAveragePooling, Pooling, Relu
from ..layers.containers import AuxiliaryHead, Branches, Chain
from ..network import Network
from .build import Builder

__all__ = ["googlenet"]

# Numbers of filters: 1x1; 1x1 before 3x3, 3x3; the second such pair; 1x1 after the pooling.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
"""Filters of each block (table 1)."""

EPSILON = 1e-3
"""Epsilon of the batch normalisations."""

HEAD_WEIGHT = 0.3
"""Weight of each auxiliary head's loss."""


def googlenet(
    num_classes: int = 1000,
    in_channels: int = 3,
    *,
    aux_logits: bool = False,
    dropout: float = 0.2,
    dtype: DTypeLike = "float32",
    backend: str | None = None,
    seed: int | None = None,
    weight_init_std: str | float | None = None,
) -> Network:
    """GoogLeNet of 22 layers.

    Parameters
    ----------
    num_classes, in_channels : int
        Scores of an image, and its channels. Height and width are free.
    aux_logits : bool
        Add the two auxiliary heads: in training each adds 0.3 times its own loss.
    dropout : float
        Ratio of the (inverted) dropout before the scores.
    dtype : float32 or float64
    backend : str, optional
        Backend of every layer; None follows the surrounding choice.
    seed : int, optional
        Of the initial weights; None draws from NumPy's global generator.
    weight_init_std : str or float, optional
        Of the first weights: 'he', 'xavier' or a standard deviation, for every layer; None: the
        model's own.

    Returns
    -------
    Network
    """
    build = Builder("googlenet", dtype, seed, weight_init_std)
    classes = build.count("num_classes", num_classes)
    channels = build.count("in_channels", in_channels)
    layers: dict[str, Any] = {
        "conv1": unit(build, channels, 64, 7, 2, 3),
        "maxpool1": Pooling(3, 3, stride=2, ceil_mode=True),
        "conv2": unit(build, 64, 64, 1),
        "conv3": unit(build, 64, 192, 3, 1, 1),
        "maxpool2": Pooling(3, 3, stride=2, ceil_mode=True),
    }
    channels = 192
    for name, filters in INCEPTIONS.items():
        if name == "4a":
            layers["maxpool3"] = Pooling(3, 3, stride=2, ceil_mode=True)
        if name == "5a":
            layers["maxpool4"] = Pooling(2, 2, stride=2, ceil_mode=True)
        if aux_logits and name in ("4b", "4e"):
            layers["aux1" if name == "4b" else "aux2"] = head(build, channels, classes)
        layers[f"inception{name}"] = inception(build, channels, filters)
        one, _, three, _, five, pooled = filters
        channels = one + three + five + pooled
    layers["avgpool"] = GlobalAveragePooling()
    layers["dropout"] = Dropout(dropout, inverted=True)
    layers["fc"] = build.affine(channels, classes)
    return Network(layers, build.dtype, backend)


def unit(build: Builder, c: int, filters: int, size: int, stride: int = 1, pad: int = 0) -> Chain:
    """Convolution, batch normalisation, ReLU."""
    return Chain(
        {
            "conv": build.conv(c, filters, size, stride, pad),
            "bn": build.norm(filters, EPSILON),
            "relu": Relu(),
        }
    )


def inception(build: Builder, c: int, filters: tuple[int, ...]) -> Branches:
    """Four branches: 1x1, two pairs of 1x1 and 3x3, and a pooling with 1x1."""
    one, reduce3, three, reduce5, five, pooled = filters
    return Branches(
        {
            "branch1": unit(build, c, one, 1),
            "branch2": Chain([unit(build, c, reduce3, 1), unit(build, reduce3, three, 3, 1, 1)]),
            "branch3": Chain([unit(build, c, reduce5, 1), unit(build, reduce5, five, 3, 1, 1)]),
            "branch4": Chain([Pooling(3, 3, stride=1, pad=1), unit(build, c, pooled, 1)]),
        }
    )


def head(build: Builder, c: int, classes: int) -> AuxiliaryHead:
    """An auxiliary head: scores from the middle of the network."""
    layers = {
        "avgpool": AdaptiveAveragePooling(4, 4),
        "conv": unit(build, c, 128, 1),
        "fc1": build.affine(128 * 4 * 4, 1024),
        "relu": Relu(),
        "dropout": Dropout(0.7, inverted=True),
        "fc2": build.affine(1024, classes),
    }
    return AuxiliaryHead(layers, HEAD_WEIGHT)
