"""How far a convolution by rounded transforms may be off, in the math mode ``bf16``.

F(2x2, 3x3) multiplies transforms U of the filters and V of patches of the images, and combines sums
of their products to outputs. A product of two rounded factors is off by at most `OF_PRODUCTS` of
its size, and so an output by that share of the sizes of all products that it is made of. The
weight gradient is the same with transforms of the incoming gradient in U's place.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..geometry import WindowGeometry
from .strict import Arguments

__all__ = ["rounded_transforms"]

Array = NDArray[Any]

ROUNDING = 2.0**-8
"""The largest relative error of one rounding to bfloat16."""

OF_PRODUCTS = (1 + ROUNDING) ** 2 - 1
"""The largest relative error of a product of two rounded factors."""

OF_PATCH = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float)
OF_FILTER = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2
OF_GRADIENT = np.array([[1, 0], [1, 1], [1, -1], [0, 1]], float)
TO_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float)
TO_TAPS = np.array([[2, 1, 1, 0], [0, 1, -1, 0], [0, 1, 1, -2]]) / 2
"""The matrices of F(2x2, 3x3) (arXiv:1509.09308), and of its weight gradient."""


def rounded_transforms(kernel: str, inputs: Arguments) -> dict[str, Array]:
    """How far each value of `out`, or of `dx` and `dweight`, may be off.

    Parameters
    ----------
    kernel : str
        A convolution, alone or fused.
    inputs : dict
        Its arguments in float64; 3x3 filters with stride 1.
    """
    g: WindowGeometry = inputs["geometry"]
    x, weight, (top, left) = inputs["x"], inputs["weight"], g.pads[:2]
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        patches = _sizes(OF_PATCH, _tiles(x, (top, left), g.oh, g.ow, 4))
        if "bias" in inputs:  # neither a residual nor a ReLU adds to an error
            out = _outputs(patches, weight, g.oh, g.ow)
            return {"out": _largest_of_four(out) if inputs.get("pool") else out}
        dout = _gated(inputs, g)
        gradients = _sizes(OF_GRADIENT, _tiles(dout, (0, 0), g.oh, g.ow, 2))
        sums = np.einsum("nfyxab,ncyxab->fcab", gradients, patches)
        flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
        patches = _sizes(OF_PATCH, _tiles(dout, (2 - top, 2 - left), g.h, g.w, 4))
        return {
            "dx": _outputs(patches, flipped, g.h, g.w),
            "dweight": OF_PRODUCTS * _sizes(np.abs(TO_TAPS), sums),
        }


def _sizes(matrix: Array, tiles: Array) -> Array:
    return np.abs(matrix @ tiles @ matrix.T)


def _tiles(images: Array, zeros: tuple[int, int], height: int, width: int, side: int) -> Array:
    """(N, C, Y, X, side, side): what the tiles of height x width outputs read."""
    n, c, h, w = images.shape
    rows, cols = -(-height // 2), -(-width // 2)
    top, left = zeros
    padded = np.zeros((n, c, max(2 * rows + side, h + top), max(2 * cols + side, w + left)))
    padded[:, :, top : top + h, left : left + w] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    return windows[:, :, : 2 * rows : 2, : 2 * cols : 2]


def _outputs(patches: Array, weight: Array, height: int, width: int) -> Array:
    """(N, FN, height, width) from sizes of transformed patches and filters."""
    products = np.einsum("ncyxab,fcab->nfyxab", patches, _sizes(OF_FILTER, weight))
    tiles = _sizes(np.abs(TO_OUTPUT), products).transpose(0, 1, 2, 4, 3, 5)
    n, f, rows, _, cols, _ = tiles.shape
    return OF_PRODUCTS * tiles.reshape(n, f, 2 * rows, 2 * cols)[:, :, :height, :width]


def _largest_of_four(images: Array) -> Array:
    n, f, h, w = images.shape
    windows = images[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, f, h // 2, 2, w // 2, 2)
    return np.asarray(windows.max(axis=(3, 5)))


def _gated(inputs: Arguments, g: WindowGeometry) -> Array:
    """The incoming gradient of the convolution itself."""
    dout, gate = inputs["dout"], inputs.get("gate")
    if gate is None:
        return np.asarray(dout)
    if not inputs["pool"]:
        return np.where(gate > 0, dout, 0)
    n, f, h, w = dout.shape
    images = np.zeros((n, f, g.oh, g.ow))
    for place in range(4):
        part = np.where(gate == place, dout, 0)
        images[:, :, place // 2 : 2 * h : 2, place % 2 : 2 * w : 2] = part
    return images
