"""What the families of the Cython backend share: the loaded build, and images as it takes them."""

from __future__ import annotations

from types import ModuleType
from typing import overload

from ..table import Array, Bytes

__all__ = ["CompiledKernels", "by_pixel", "last"]


class CompiledKernels:
    """Kernels of one build, and how many threads they use."""

    _kernels: ModuleType
    _threads: int


@overload
def last(images: Array | Bytes) -> Array | Bytes: ...


@overload
def last(images: None) -> None: ...


def last(images: Array | Bytes | None) -> Array | Bytes | None:
    """(N, C, H, W) in channels-last memory as its C-contiguous view (N, H, W, C); None as None."""
    return None if images is None else images.transpose(0, 2, 3, 1)


def by_pixel(images: Array) -> Array:
    """(N, C, H, W) in channels-last memory as (pixels, C)."""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])
