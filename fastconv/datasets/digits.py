"""1,797 handwritten digits that need no network: scikit-learn's copy of a UCI test set.

Each image was a bitmap of 32x32, counted in blocks of 4x4: 8x8 values of 0..16.
Here each is enlarged to 20x20 and centred in MNIST's frame of 28x28, so that the
book's networks take it unchanged.
Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingDependency
from .finish import DataSplit, finish

__all__ = ["load_digits"]

SIDE = 28
BOX = 20
LEVELS = 16
TEST_EVERY = 5


def load_digits(
    normalize: bool = True, flatten: bool = True, one_hot_label: bool = False
) -> DataSplit:
    """Load scikit-learn's digits in the form of `load_mnist`.

    The split is the same each time and stratified: in the order of the classes, and
    within a class in the order of the data set, every fifth image is for testing.

    Parameters
    ----------
    normalize : bool
        Pixels as float32 in [0, 1] instead of uint8 in 0..255.
    flatten : bool
        Images as (N, 784) instead of (N, 1, 28, 28).
    one_hot_label : bool
        Labels as (N, 10) instead of (N,).

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        1,437 and 360 images with their labels (uint8).

    Raises
    ------
    MissingDependency
        scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits as bundled
    except ImportError:
        raise MissingDependency(
            "load_digits needs scikit-learn: pip install scikit-learn"
        ) from None
    small = bundled()
    labels = small.target.astype(np.uint8)
    images = _enlarge(small.images)
    is_test = np.zeros(len(labels), bool)
    is_test[np.argsort(labels, kind="stable")[::TEST_EVERY]] = True
    options = (normalize, flatten, one_hot_label)
    train = finish(images[~is_test], labels[~is_test], *options)
    return train, finish(images[is_test], labels[is_test], *options)


def _enlarge(small: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Images (N, 8, 8) of 0..16 as (N, 28, 28) of 0..255: bilinear, centred, black border."""
    weights = _bilinear(small.shape[1], BOX)
    box = weights @ small @ weights.T
    images = np.zeros((len(small), SIDE, SIDE), np.uint8)
    margin = (SIDE - BOX) // 2
    inside = slice(margin, margin + BOX)
    images[:, inside, inside] = np.rint(box * (255 / LEVELS))
    return images


def _bilinear(old: int, new: int) -> NDArray[np.float64]:
    """Matrix (new, old) that interpolates between pixel centres; edges repeat outwards."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)))
