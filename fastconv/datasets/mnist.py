"""MNIST: 70,000 handwritten digits of 28x28 pixels (LeCun, Cortes, Burges; CC BY-SA 3.0).

From a folder that the caller names, else the user's cache, else the network.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import config
from ..errors import DataCorrupt, DataNotFound, FallbackWarning
from ..io.atomic import make_folder, replace_file
from ..io.paths import user_path
from .download import fetch
from .finish import DataSplit, finish
from .idx import IdxFile, find_idx, read_idx

__all__ = ["img_dim", "img_size", "init_mnist", "load_mnist", "test_num", "train_num"]

train_num = 60000
test_num = 10000
img_dim = (1, 28, 28)
img_size = 784

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
        folder = user_path(data_dir)
        if not folder.is_dir():
            raise DataNotFound(f"load_mnist: the data folder {folder} does not exist")
        _expect_all(folder)
        arrays = [read_idx(folder, file) for file in FILES]
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


def _expect_all(folder: Path) -> None:
    missing = [file.name for file in FILES if find_idx(folder, file.name) is None]
    if missing:
        raise DataNotFound(
            f"load_mnist: {folder} lacks {', '.join(missing)} "
            "(looked for each with and without .gz)"
        )


def _from_cache(download: bool, progress: bool | None) -> list[NDArray[np.uint8]]:
    if not download:
        folder = config.cache_dir() / "mnist"
        _expect_all(folder)
        return [read_idx(folder, file) for file in FILES]
    arrays = []
    mirrors = list(MIRRORS)
    problem: OSError | None = None
    for file in FILES:
        # The cache is ours: a missing or damaged file is downloaded again.
        with suppress(OSError, DataCorrupt):
            arrays.append(read_idx(config.cache_dir() / "mnist", file))
            continue
        try:
            content, values, mirror = fetch(file, mirrors, progress)
        except DataNotFound as error:
            names = ", ".join(f"{file.name}.gz" for file in FILES)
            error.add_note(
                f"remedy: put {names} into a folder and name it "
                "(--data-dir FOLDER, or load_mnist(data_dir=FOLDER))"
            )
            raise
        # A mirror that failed once is asked last for the remaining files.
        mirrors.remove(mirror)
        mirrors.insert(0, mirror)
        try:
            _keep(file, content)
        except OSError as error:
            problem = error
        arrays.append(values)
    if problem is not None:
        warnings.warn(
            f"fastconv: the downloaded MNIST cannot be kept ({problem}) and is downloaded again "
            "next time. Set FASTCONV_CACHE_DIR to a folder that can be written.",
            FallbackWarning,
            stacklevel=3,
        )
    return arrays


def _keep(file: IdxFile, content: bytes) -> None:
    folder = config.cache_dir() / "mnist"
    make_folder(folder)
    # An unzipped file of that name would be found first, and it is missing or damaged.
    (folder / file.name).unlink(missing_ok=True)
    with replace_file(folder / f"{file.name}.gz") as stream:
        stream.write(content)
