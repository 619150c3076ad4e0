"""MNIST: 70,000 handwritten digits of 28x28 pixels (LeCun, Cortes, Burges; CC BY-SA 3.0).

From a folder that the caller names, else the user's cache, else the network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .download import fetch
from .finish import DataSplit, finish
from .idx import IdxFile
from .stored import from_cache, from_folder

__all__ = ["img_dim", "img_size", "init_mnist", "load_mnist", "test_num", "train_num"]

train_num = 60000
"""Training images."""

test_num = 10000
"""Test images."""

img_dim = (1, 28, 28)
"""Channels, height and width."""

img_size = 784
"""Pixels of an image."""

FILES = (
    IdxFile("train-images-idx3-ubyte", (train_num, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
    IdxFile("train-labels-idx1-ubyte", (train_num,), "a25bea736e30d166cdddb491f175f624"),
    IdxFile("t10k-images-idx3-ubyte", (test_num, 28, 28), "2646ac647ad5339dbf082846283269ea"),
    IdxFile("t10k-labels-idx1-ubyte", (test_num,), "27ae3e4e09519cfbb04c329615203637"),
)

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def load_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> DataSplit:
    """Load MNIST.

    Parameters
    ----------
    normalize : bool
        Pixels as float32 in [0, 1] instead of uint8 in 0..255.
    flatten : bool
        Images as (N, 784) instead of (N, 1, 28, 28).
    one_hot_label : bool
        Labels as (N, 10) instead of (N,).
    data_dir : path, optional
        Folder of the four IDX files, each gzipped or not, under their own names or those that
        unpacking programs write (``train-images.idx3-ubyte``). Then nothing is downloaded.
    download : bool
        Download what the user's cache lacks.
    progress : bool, optional
        Show a bar while downloading; by default only if stderr is a terminal.

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        60,000 and 10,000 images with their labels (uint8).

    Raises
    ------
    DataNotFound
        Files are missing, or no mirror gave them.
    DataCorrupt
        A file is truncated, of another format, or is not MNIST's (MD5 of its content).
    MissingDependency
        Something must be downloaded and pooch is not installed.
    """
    if data_dir is not None:
        arrays = from_folder("load_mnist", FILES, data_dir)
    else:
        arrays = _from_cache(download, progress)
    x_train, t_train, x_test, t_test = arrays
    options = (normalize, flatten, one_hot_label)
    return finish(x_train, t_train, *options), finish(x_test, t_test, *options)


def init_mnist(*, download: bool = True, progress: bool | None = None) -> None:
    """Download MNIST into the user's cache, so that `load_mnist` needs no network.

    Parameters and errors are those of `load_mnist`.
    """
    _from_cache(download, progress)


def _from_cache(download: bool, progress: bool | None) -> list[Any]:
    return from_cache("load_mnist", "mnist", FILES, MIRRORS, download, progress, fetch)
