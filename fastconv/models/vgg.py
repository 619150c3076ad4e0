"""VGG: small filters, one after the other (arXiv:1409.1556).

Layers and parameters have the names of PyTorch's models, ``features.0.weight`` to
``classifier.6.bias``, so that weights can be exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike

from ..layers import AdaptiveAveragePooling, Dropout, Pooling, Relu
from ..layers.containers import Chain
from ..network import Network
from .build import Builder

__all__ = ["vgg11", "vgg13", "vgg16", "vgg19"]

BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions before each of the five poolings (table 1: A, B, D, E)."""

FILTERS = (64, 128, 256, 512, 512)
HIDDEN = 4096
GRID = 7
"""Side of the image before the affine layers; averaging brings any input to it."""


def _of_depth(depth: int) -> Callable[..., Network]:
    """Build the model with this many layers that have weights."""

    def vgg(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        batch_norm: bool = False,
        dropout: float = 0.5,
        dtype: DTypeLike = "float32",
        backend: str | None = None,
        seed: int | None = None,
        weight_init_std: str | float | None = None,
    ) -> Network:
        build = Builder(f"vgg{depth}", dtype, seed, weight_init_std)
        channels = build.count("in_channels", in_channels)
        features: list[Any] = []
        for convolutions, filters in zip(BLOCKS[depth], FILTERS, strict=True):
            for _ in range(convolutions):
                features.append(build.conv(channels, filters, 3, pad=1, bias=True))
                features += [build.norm(filters), Relu()] if batch_norm else [Relu()]
                channels = filters
            features.append(Pooling(2, 2, stride=2))
        classifier: list[Any] = []
        for inputs in (channels * GRID * GRID, HIDDEN):
            classifier += [build.affine(inputs, HIDDEN, 0.01), Relu()]
            classifier.append(Dropout(dropout, inverted=True))
        classifier.append(build.affine(HIDDEN, build.count("num_classes", num_classes), 0.01))
        layers = {
            "features": Chain(features),
            "avgpool": AdaptiveAveragePooling(GRID, GRID),
            "classifier": Chain(classifier),
        }
        return Network(layers, build.dtype, backend)

    vgg.__name__ = vgg.__qualname__ = f"vgg{depth}"
    vgg.__doc__ = f"""VGG of {depth} layers with weights (arXiv:1409.1556).

    Parameters
    ----------
    num_classes, in_channels : int
        Scores of each image, and its channels. Height and width are free, from 32 on.
    batch_norm : bool
        Normalise between each convolution and its ReLU.
    dropout : float
        Ratio of the (inverted) dropout after the two hidden affine layers.
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
    return vgg


vgg11, vgg13, vgg16, vgg19 = (_of_depth(depth) for depth in BLOCKS)
