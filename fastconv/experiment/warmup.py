"""Compile ahead what training and using a network will need."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import DTypeLike

from ..datasets.mnist import img_dim
from ..models import make_model
from ..optimizer import Adam
from ..selection import resolve, use_backend

__all__ = ["warm_up"]


def warm_up(
    model: str = "deepconvnet",
    backend: str | None = None,
    dtype: DTypeLike = "float32",
    batch_size: int = 100,
    image_shape: tuple[int, int, int] = img_dim,
    classes: int = 10,
) -> float:
    """Take one training step and make one prediction on a batch of empty images.

    The Numba backend compiles kernels on their first use, for one dtype, instruction set and
    size of the register tile, and keeps them on disk; other backends have nothing to compile.

    Parameters
    ----------
    model : str
        A name of `fastconv.models.MODELS`.
    backend : str, optional
        By default the one that a call would use now.
    dtype : float32 or float64
    batch_size : int
        Images of the batch: small batches may run by other algorithms than large ones.
    image_shape : (C, H, W)
    classes : int

    Returns
    -------
    float
        The seconds that it took.
    """
    started = time.perf_counter()
    with use_backend(resolve(backend)):
        network = make_model(model, image_shape, classes, dtype=dtype, seed=0)
        images = np.zeros((batch_size, *image_shape), network.dtype)
        labels = np.zeros(batch_size, int)
        Adam().update(network.params, network.gradient(images, labels))
        network.predict(images)
    return time.perf_counter() - started
