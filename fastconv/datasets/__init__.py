"""Data sets: loaders like the book's, and the table that the command line uses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .cifar import CIFAR10_NAMES, load_cifar10
from .digits import load_digits
from .finish import DataSplit
from .like_mnist import FASHION_NAMES, KMNIST_NAMES, load_fashion_mnist, load_kmnist
from .mnist import img_dim, init_mnist, load_mnist
from .normalization import Normalization
from .record import ImageSet, Part, some

if TYPE_CHECKING:
    from .user_images import load_images

__all__ = [
    "DATASETS",
    "Dataset",
    "ImageSet",
    "Normalization",
    "Part",
    "init_mnist",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_images",
    "load_kmnist",
    "load_mnist",
]


@dataclass(frozen=True)
class Dataset:
    """A data set as the command line knows it.

    Attributes
    ----------
    load : callable
        ``load(normalize, flatten, one_hot_label)`` -> (x_train, t_train), (x_test, t_test).
    takes_folder : bool
        Whether `load` takes ``data_dir=`` and may download.
    epochs : int
        How long to train by default.
    label_names : tuple of str
        Names of the classes, in the order of their indices.
    image_shape : (C, H, W)
    """

    load: Callable[..., DataSplit]
    takes_folder: bool
    epochs: int
    label_names: tuple[str, ...]
    image_shape: tuple[int, int, int] = img_dim

    def __repr__(self) -> str:
        size, names = " x ".join(map(str, self.image_shape)), self.label_names
        return f"Dataset({size}; {len(names)} classes: {some(names)})"


DIGIT_NAMES = tuple("0123456789")

DATASETS = {
    "digits": Dataset(load_digits, takes_folder=False, epochs=40, label_names=DIGIT_NAMES),
    "mnist": Dataset(load_mnist, takes_folder=True, epochs=20, label_names=DIGIT_NAMES),
    "fashion-mnist": Dataset(load_fashion_mnist, True, epochs=20, label_names=FASHION_NAMES),
    "kmnist": Dataset(load_kmnist, True, epochs=20, label_names=KMNIST_NAMES),
    "cifar10": Dataset(load_cifar10, True, 20, CIFAR10_NAMES, image_shape=(3, 32, 32)),
}
"""Data sets by the name that ``--data`` takes."""


def __getattr__(name: str) -> Any:
    if name == "load_images":  # it imports all that reads pictures, which few need
        from .user_images import load_images

        return load_images
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
