"""Sets in the form of MNIST: 60,000 and 10,000 images of 28x28 in 10 classes.

Fashion-MNIST: Zalando's articles (arXiv:1708.07747, MIT). KMNIST: cursive Japanese characters
(arXiv:1812.01718, CODH, CC BY-SA 4.0). The checksums are those that their publishers and
torchvision state, of the gzipped files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .finish import DataSplit, finish
from .idx import IdxFile
from .mnist import FILES
from .stored import from_cache, from_folder

__all__ = ["load_fashion_mnist", "load_kmnist"]


def _files(*md5: str) -> tuple[IdxFile, ...]:
    """MNIST's files, with other contents."""
    pairs = zip(FILES, md5, strict=True)
    return tuple(IdxFile(file.name, file.shape, digest, packed=True) for file, digest in pairs)


FASHION_FILES = _files(
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
FASHION_MIRRORS = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
FASHION_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

KMNIST_FILES = _files(
    "bdb82020997e1d708af4cf47b453dcf7",
    "e144d726b3acfaa3e44228e80efcd344",
    "5c965bf0a639b31b8f53240b1b52f4d7",
    "7320c461ea6c1c855c0b718fb2a4b134",
)
KMNIST_MIRRORS = (
    "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
    "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
)
KMNIST_NAMES = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


def load_fashion_mnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> DataSplit:
    """Load Fashion-MNIST; parameters, result and errors are those of `load_mnist`.

    An unpacked file in `data_dir` cannot be checked, since no checksum of it is published: a
    `DataWarning` says so.
    """
    form = (normalize, flatten, one_hot_label)
    where = (data_dir, download, progress)
    return _load("fashion-mnist", FASHION_FILES, FASHION_MIRRORS, form, where)


def load_kmnist(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> DataSplit:
    """Load KMNIST; all else is as for `load_fashion_mnist`."""
    form = (normalize, flatten, one_hot_label)
    return _load("kmnist", KMNIST_FILES, KMNIST_MIRRORS, form, (data_dir, download, progress))


def _load(
    name: str,
    files: Sequence[IdxFile],
    mirrors: Sequence[str],
    form: tuple[bool, bool, bool],
    where: tuple[str | Path | None, bool, bool | None],
) -> DataSplit:
    op, (data_dir, download, progress) = f"load_{name.replace('-', '_')}", where
    if data_dir is not None:
        arrays = from_folder(op, files, data_dir)
    else:
        arrays = from_cache(op, name, files, mirrors, download, progress)
    x_train, t_train, x_test, t_test = arrays
    return finish(x_train, t_train, *form), finish(x_test, t_test, *form)
