"""Small networks for digits of 28 x 28, made for short runs.

Compared with `DeepConvNet` they save where images are largest and work costs most: before the first
pooling they have few filters and no padding, so that 28 pixels shrink to 24. The two with batch
normalisation learn at ten times Adam's usual rate and need no hidden affine layer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import DTypeLike

from ..geometry import window_geometry
from ..layers import Pooling, Relu
from ..layers.containers import Chain
from ..network import Network
from .build import Builder, image_shape

__all__ = ["digitnet4", "digitnet5", "digitnet6"]

Block = tuple[int, ...]
"""Numbers of filters of the 3x3 convolutions before a 2x2 pooling."""


def _of_blocks(
    name: str, blocks: tuple[Block, ...], pads: tuple[int, ...], hidden: int, norm: bool
) -> Callable[..., Network]:
    """Build the model: a padding for each block; `hidden` units before the last layer, or 0."""
    filters = ", ".join("-".join(map(str, block)) for block in blocks)

    def digitnet(
        num_classes: int = 10,
        in_channels: int = 1,
        *,
        input_size: tuple[int, int] = (28, 28),
        dtype: DTypeLike = "float32",
        backend: str | None = None,
        seed: int | None = None,
        weight_init_std: str | float | None = None,
    ) -> Network:
        build = Builder(name, dtype, seed, weight_init_std)
        channels, height, width = image_shape(name, (in_channels, *input_size))
        features: list[Any] = []
        for number, (block, pad) in enumerate(zip(blocks, pads, strict=True), start=1):
            for count in block:
                image = (1, channels, height, width)
                windows = window_geometry(f"{name} block {number}", image, 3, 3, 1, pad)
                conv = build.conv(channels, count, 3, pad=pad, bias=not norm, fan_in=True)
                features += [conv, build.norm(count), Relu()] if norm else [conv, Relu()]
                channels, height, width = count, windows.oh, windows.ow
            image = (1, channels, height, width)
            windows = window_geometry(f"{name} pooling {number}", image, 2, 2, 2)
            features.append(Pooling(2, 2, stride=2))
            height, width = windows.oh, windows.ow
        units = channels * height * width
        classifier: list[Any] = []
        if hidden:
            classifier += [build.affine(units, hidden), Relu()]
            units = hidden
        classifier.append(build.affine(units, build.count("num_classes", num_classes)))
        layers = {"features": Chain(features), "classifier": Chain(classifier)}
        return Network(layers, build.dtype, backend)

    digitnet.__name__ = digitnet.__qualname__ = name
    digitnet.__doc__ = f"""{filters} filters of 3x3, in blocks, each before a pooling.

    {"Batch normalisation behind each" if norm else "No normalisation"}; \
{f"{hidden} hidden units" if hidden else "one affine layer"} at the end.

    Parameters
    ----------
    num_classes, in_channels : int
    input_size : (H, W)
        The first affine layer depends on it.
    dtype : float32 or float64
    backend : str, optional
        Backend of every layer; None follows the surrounding choice.
    seed : int, optional
        Of the first weights; None draws from NumPy's global generator.
    weight_init_std : str or float, optional
        Of the first weights: 'he', 'xavier' or a standard deviation, for every layer; None: the
        model's own.

    Returns
    -------
    Network
        With the parameters ``features.0.weight`` to ``classifier.*.bias``.

    Raises
    ------
    ShapeError
        Images too small.
    """
    return digitnet


digitnet4 = _of_blocks("digitnet4", ((16, 16), (32, 32)), (0, 0), hidden=100, norm=False)
digitnet5 = _of_blocks("digitnet5", ((16, 32), (48, 64), (96,)), (0, 1, 1), hidden=0, norm=True)
digitnet6 = _of_blocks("digitnet6", ((16, 16), (32, 32), (64, 64)), (0, 1, 1), hidden=0, norm=True)
