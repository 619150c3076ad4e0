"""M3, M5 and M7 (arXiv:2008.10400): convolutions without padding or pooling, for digits.

Each convolution takes a margin off the image, which ends at a few pixels, still in place: the last
layer sees where something is. Filters of 3x3, 5x5 and 7x7 see more or less of it at once, so the
three err on different images. They learn from digits that are turned and moved far, and take
about 15 times the work of `digitnet5`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..geometry import window_geometry
from ..layers import Affine, BatchNormalization, Relu
from ..layers.containers import Chain
from ..network import Network
from .build import Builder, image_shape

__all__ = ["m3", "m5", "m7"]


def _of_filters(size: int, filters: Sequence[int]) -> Callable[..., Network]:
    """Build the model: convolutions of size x size with so many filters, one after the other."""
    name = f"m{size}"

    def model(
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
        for number, count in enumerate(filters, start=1):
            image = (1, channels, height, width)
            windows = window_geometry(f"{name} convolution {number}", image, size, size)
            features += [build.conv(channels, count, size, fan_in=True), build.norm(count), Relu()]
            channels, height, width = count, windows.oh, windows.ow
        classes = build.count("num_classes", num_classes)
        classifier = [
            # Its bias would be a part of the mean, which normalisation takes off.
            Affine(build.affine(channels * height * width, classes).W),
            BatchNormalization(
                build.filled(classes, 1),
                build.filled(classes),
                running_mean=np.zeros(classes, build.dtype),
                running_var=np.ones(classes, build.dtype),
            ),
        ]
        layers = {"features": Chain(features), "classifier": Chain(classifier)}
        return Network(layers, build.dtype, backend)

    model.__name__ = model.__qualname__ = name
    model.__doc__ = f"""{name.upper()} of arXiv:2008.10400: {len(filters)} convolutions of \
{size}x{size}, each normalised.

    {", ".join(map(str, filters))} filters; one affine layer, normalised as well.

    Parameters
    ----------
    num_classes, in_channels : int
    input_size : (H, W)
        The affine layer depends on it.
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
        With the parameters ``features.0.weight`` to ``classifier.1.bias``.

    Raises
    ------
    ShapeError
        Images too small.
    """
    return model


m3 = _of_filters(3, (32, 48, 64, 80, 96, 112, 128, 144, 160, 176))
m5 = _of_filters(5, (32, 64, 96, 128, 160))
m7 = _of_filters(7, (48, 96, 144, 192))
