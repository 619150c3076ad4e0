"""ResNet: shortcuts around pairs and triples of convolutions (arXiv:1512.03385).

Layers and parameters have the names of PyTorch's models, ``conv1.weight`` to ``fc.bias``, so that
weights can be exchanged. As there, the 3x3 convolution of a bottleneck has the stride; in the paper
the first 1x1 has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike

from ..layers import GlobalAveragePooling, Pooling, Relu, Subsampling
from ..layers.containers import Chain, Shortcut
from ..network import Network
from .build import Builder

__all__ = [
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
]

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks in each of the four stages (table 1)."""

FILTERS = (64, 128, 256, 512)
EXPANSION = 4
"""Output channels of a bottleneck for each channel of its 3x3 convolution."""

SMALL_FILTERS = (16, 32, 64)
"""Filters of the three stages for images of 32 x 32 (section 4.2)."""


def basic_block(build: Builder, c: int, filters: int, stride: int) -> dict[str, Any]:
    """Two 3x3 convolutions, from `c` channels to `filters`."""
    return {
        "conv1": build.conv(c, filters, 3, stride, 1),
        "bn1": build.norm(filters),
        "relu1": Relu(),
        "conv2": build.conv(filters, filters, 3, 1, 1),
        "bn2": build.norm(filters),
    }


def bottleneck(build: Builder, c: int, filters: int, stride: int) -> dict[str, Any]:
    """1x1, 3x3 and 1x1 convolutions, from `c` channels to ``EXPANSION * filters``."""
    wide = EXPANSION * filters
    return {
        "conv1": build.conv(c, filters, 1),
        "bn1": build.norm(filters),
        "relu1": Relu(),
        "conv2": build.conv(filters, filters, 3, stride, 1),
        "bn2": build.norm(filters),
        "relu2": Relu(),
        "conv3": build.conv(filters, wide, 1),
        "bn3": build.norm(wide),
    }


def residual(body: dict[str, Any], projection: Chain | Subsampling | None) -> Chain:
    """A body with its shortcut, and the ReLU after the sum."""
    around: dict[str, Any] = {"": Chain(body)}
    if projection is not None:
        around["downsample"] = projection
    return Chain({"": Shortcut(around), "relu": Relu()})


def _of_depth(depth: int) -> Callable[..., Network]:
    """Build the model for large images with this many layers."""
    deep = depth >= 50
    block, expansion = (bottleneck, EXPANSION) if deep else (basic_block, 1)

    def resnet(
        num_classes: int = 1000,
        in_channels: int = 3,
        *,
        dtype: DTypeLike = "float32",
        backend: str | None = None,
        seed: int | None = None,
        weight_init_std: str | float | None = None,
    ) -> Network:
        build = Builder(f"resnet{depth}", dtype, seed, weight_init_std)
        channels = FILTERS[0]
        layers: dict[str, Any] = {
            "conv1": build.conv(build.count("in_channels", in_channels), channels, 7, 2, 3),
            "bn1": build.norm(channels),
            "relu": Relu(),
            "maxpool": Pooling(3, 3, stride=2, pad=1),
        }
        for stage, (blocks, filters) in enumerate(zip(BLOCKS[depth], FILTERS, strict=True)):
            rows = []
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                wide = expansion * filters
                projection = None
                if stride != 1 or channels != wide:
                    projection = Chain([build.conv(channels, wide, 1, stride), build.norm(wide)])
                rows.append(residual(block(build, channels, filters, stride), projection))
                channels = wide
            layers[f"layer{stage + 1}"] = Chain(rows)
        layers["avgpool"] = GlobalAveragePooling()
        layers["fc"] = build.affine(channels, build.count("num_classes", num_classes))
        return Network(layers, build.dtype, backend)

    resnet.__name__ = resnet.__qualname__ = f"resnet{depth}"
    resnet.__doc__ = f"""ResNet of {depth} layers (arXiv:1512.03385), for images of 224 x 224.

    Parameters
    ----------
    num_classes, in_channels : int
        Scores of each image, and its channels. Height and width are free.
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
    return resnet


def _small_of_depth(depth: int) -> Callable[..., Network]:
    """Build the model for small images with this many layers: 6n + 2."""

    def resnet(
        num_classes: int = 10,
        in_channels: int = 3,
        *,
        shortcuts: bool = True,
        dtype: DTypeLike = "float32",
        backend: str | None = None,
        seed: int | None = None,
        weight_init_std: str | float | None = None,
    ) -> Network:
        build = Builder(f"resnet{depth}", dtype, seed, weight_init_std)
        channels = SMALL_FILTERS[0]
        layers: dict[str, Any] = {
            "conv1": build.conv(build.count("in_channels", in_channels), channels, 3, 1, 1),
            "bn1": build.norm(channels),
            "relu": Relu(),
        }
        for stage, filters in enumerate(SMALL_FILTERS):
            rows = []
            for number in range((depth - 2) // 6):
                stride = 2 if stage > 0 and number == 0 else 1
                body = basic_block(build, channels, filters, stride)
                if shortcuts:
                    projection = None if stride == 1 else Subsampling(2, filters - channels)
                    rows.append(residual(body, projection))
                else:
                    rows.append(Chain({**body, "relu": Relu()}))
                channels = filters
            layers[f"layer{stage + 1}"] = Chain(rows)
        layers["avgpool"] = GlobalAveragePooling()
        layers["linear"] = build.affine(channels, build.count("num_classes", num_classes))
        return Network(layers, build.dtype, backend)

    resnet.__name__ = resnet.__qualname__ = f"resnet{depth}"
    resnet.__doc__ = f"""ResNet of {depth} layers for small images (arXiv:1512.03385, section 4.2).

    Where a stage halves the image, the shortcut takes every second pixel and pads channels
    with zeros (option A): it has no parameters.

    Parameters
    ----------
    num_classes, in_channels : int
        Scores of each image, and its channels. Height and width are free.
    shortcuts : bool
        False leaves them out: the plain network that the paper compares with.
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
    return resnet


resnet18, resnet34, resnet50, resnet101, resnet152 = (_of_depth(depth) for depth in BLOCKS)
resnet20, resnet56, resnet110 = (_small_of_depth(depth) for depth in (20, 56, 110))
