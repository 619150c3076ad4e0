"""Ready-made networks, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numpy.typing import DTypeLike

from ..errors import ArgumentError, DataCorrupt, ShapeError, suggestion
from ..network import Network
from .build import image_shape, without_weights
from .deep_convnet import DeepConvNet
from .digitnet import digitnet4, digitnet5, digitnet6
from .googlenet import googlenet
from .lenet import lenet
from .resnet import (
    resnet18,
    resnet20,
    resnet34,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet152,
)
from .unpadded import m3, m5, m7
from .vgg import vgg11, vgg13, vgg16, vgg19

__all__ = [
    "MODELS",
    "DeepConvNet",
    "default_image",
    "digitnet4",
    "digitnet5",
    "digitnet6",
    "googlenet",
    "lenet",
    "m3",
    "m5",
    "m7",
    "make_empty_model",
    "make_model",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
]

_VGG = {"vgg11": vgg11, "vgg13": vgg13, "vgg16": vgg16, "vgg19": vgg19}

MODELS: dict[str, Callable[..., Network]] = {
    "deepconvnet": DeepConvNet,
    "lenet": lenet,
    "digitnet4": digitnet4,
    "digitnet5": digitnet5,
    "digitnet6": digitnet6,
    "m3": m3,
    "m5": m5,
    "m7": m7,
    **_VGG,
    **{f"{name}_bn": partial(model, batch_norm=True) for name, model in _VGG.items()},
    "googlenet": googlenet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "resnet50": resnet50,
    "resnet101": resnet101,
    "resnet152": resnet152,
    "resnet20": resnet20,
    "resnet56": resnet56,
    "resnet110": resnet110,
}
"""The models by their names on the command line."""

_OF_ONE_SIZE = ("lenet", "digitnet4", "digitnet5", "digitnet6", "m3", "m5", "m7")
"""Models that take the images' size, since their affine layers depend on it."""

LEAST_SIDE = {
    "deepconvnet": 4,
    "lenet": 12,
    "digitnet4": 16,
    "digitnet5": 12,
    "digitnet6": 12,
    "m3": 21,
    "m5": 21,
    "m7": 25,
    **{name: 32 for name in MODELS if name.startswith("vgg")},
    "googlenet": 31,
}
"""Least height and width of an image in pixels; 1 for the other models."""


def default_image(name: str) -> tuple[int, int, int]:
    """Default (C, H, W): a digit, or a photograph for models that need larger images."""
    return (1, 28, 28) if LEAST_SIDE.get(name, 1) <= 28 else (3, 224, 224)


def make_model(
    name: str,
    input_dim: tuple[int, int, int],
    classes: int,
    *,
    dtype: DTypeLike = "float32",
    backend: str | None = None,
    seed: int | None = None,
    weight_init_std: str | float | None = None,
) -> Network:
    """Make a model for images of one shape.

    Parameters
    ----------
    name : str
        One of `MODELS`.
    input_dim : (C, H, W)
    classes : int
    dtype, backend, seed, weight_init_std
        As each model takes them.

    Raises
    ------
    ArgumentError, ShapeError
        An unknown model, or images too small for it.
    """
    if name not in MODELS:
        raise ArgumentError(
            f"unknown model {name!r}; known: {', '.join(MODELS)}{suggestion(name, MODELS)}"
        )
    channels, height, width = image_shape(name, input_dim)
    least = LEAST_SIDE.get(name, 1)
    if min(height, width) < least:
        raise ShapeError(
            f"{name}: images of {height} x {width} are too small, expected at least {least} x "
            f"{least}"
        )
    options: dict[str, Any] = {"dtype": dtype, "backend": backend, "seed": seed}
    options["weight_init_std"] = weight_init_std
    network: Network
    if name == "deepconvnet":
        network = DeepConvNet((channels, height, width), output_size=classes, **options)
    elif name in _OF_ONE_SIZE:
        network = MODELS[name](classes, channels, input_size=(height, width), **options)
    else:
        network = MODELS[name](classes, channels, **options)
    network.spec = {
        "name": name,
        "input_dim": [channels, height, width],
        "classes": classes,
        "dtype": network.dtype.name,
    }
    return network


def make_empty_model(source: str, *model: Any, **options: Any) -> Network:
    """Make a model without weights; `Network.set_state` must then set those of a file.

    Parameters
    ----------
    source : str
        Name of the file, for messages.
    *model, **options
        As for `make_model`.

    Raises
    ------
    ArgumentError, ShapeError
        As for `make_model`.
    DataCorrupt
        The network is too large for any memory.
    """
    try:
        with without_weights():
            return make_model(*model, **options, seed=0)
    except MemoryError as error:
        raise DataCorrupt(f"{source}: describes a network that is too large: {error}") from None
