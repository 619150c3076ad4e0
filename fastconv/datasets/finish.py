"""The last step of every loader: convert bytes to what the caller asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CLASSES", "DataSplit", "finish"]

CLASSES = 10

DataSplit = tuple[tuple[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], NDArray[Any]]]
"""``(x_train, t_train), (x_test, t_test)``."""


def finish(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    normalize: bool,
    flatten: bool,
    one_hot_label: bool,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Bring images (N, 28, 28) or (N, 3, 32, 32), and labels (N,), to the book's loader's form.

    Returns
    -------
    x : ndarray
        (N, D) if `flatten`, else (N, C, H, W); float32 in [0, 1] if
        `normalize`, else uint8.
    t : ndarray of uint8
        (N,), or (N, 10) if `one_hot_label`.
    """
    n = len(images)
    x: NDArray[Any] = images.reshape(n, -1) if flatten else images
    if x.ndim == 3:
        x = x[:, None]
    # Copies, so that what the caller gets is writable and keeps none of our arrays alive.
    x = x.astype(np.float32) if normalize else x.copy()
    if normalize:
        x /= np.float32(255)
    t = np.eye(CLASSES, dtype=np.uint8)[labels] if one_hot_label else labels.copy()
    return x, t
