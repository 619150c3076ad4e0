"""What the families of the Cython backend share: the loaded build, and images as it takes them."""

from __future__ import annotations

from types import ModuleType
from typing import overload

import numpy as np

from ..calls import BFLOAT16
from ..table import Array, Bytes

__all__ = ["TILES", "VECTORS", "CompiledKernels", "by_pixel", "is_narrow", "last"]

VECTORS, TILES = 1, 2
"""What multiplies bfloat16s, as ``_cython/pairs.h`` numbers it."""


class CompiledKernels:
    """Kernels of one build, how many threads they use, and how they multiply."""

    _kernels: ModuleType
    _threads: int
    _math_mode: str
    _bfloat16: int
    """What multiplies bfloat16s here: `TILES`, `VECTORS`, or 0 for nothing."""

    @property
    def _pairs(self) -> int:
        """What float32 products are made by: of pairs of bfloat16s, or 0."""
        return self._bfloat16 if self._math_mode == "bf16" else 0


@overload
def last(images: Array | Bytes) -> Array | Bytes: ...


@overload
def last(images: None) -> None: ...


def last(images: Array | Bytes | None) -> Array | Bytes | None:
    """(N, C, H, W) in channels-last memory as its C-contiguous view (N, H, W, C); None as None.

    Two bfloat16s are a float of the view, as kernels take them: (N, H, W, C / 2).
    """
    if images is None:
        return None
    view = images.transpose(0, 2, 3, 1)
    return view.view(np.float32) if is_narrow(images) else view


def is_narrow(images: Array | Bytes) -> bool:
    """Whether images are of bfloat16s."""
    return images.dtype == BFLOAT16


def by_pixel(images: Array) -> Array:
    """(N, C, H, W) in channels-last memory as (pixels, C)."""
    return images.transpose(0, 2, 3, 1).reshape(-1, images.shape[1])
