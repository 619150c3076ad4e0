"""Checks, dtypes and memory that every operation shares.

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..backends.table import Array, Layout
from ..errors import ArgumentError, DTypeError, ShapeError, WeightsError
from .memory import array_in, bytes_for, empty
from .recording import constant, moved_to

__all__ = [
    "Context",
    "as_array",
    "bias_vector",
    "common_dtype",
    "compute_in",
    "computing",
    "contiguous",
    "empty_images",
    "expect_names",
    "expect_numbers",
    "expect_shape",
    "in_layout",
    "inverse",
    "is_real",
    "kept_images",
    "memory_order",
    "network_dtype",
    "overlap",
    "updated_arrays",
    "whole_number",
]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)

UPDATES = ("adam",)
"""Operations that change parameters in place, and so compute in the parameters' dtype."""


class Context:
    """What a backward operation needs from forward: a dataclass that is cheap to make.

    Copies and pickles hold its values in order. Those of earlier versions may hold fewer.
    """

    __slots__: tuple[str, ...] = ()

    def __getstate__(self) -> list[Any]:
        return [getattr(self, name) for name in self.__slots__]

    def __setstate__(self, state: list[Any]) -> None:
        for name, value in zip(self.__slots__, state, strict=False):
            setattr(self, name, value)


class computing:
    """The setting that `compute_in` changes."""

    dtype: np.dtype[Any] | None = None


def compute_in(dtype: DTypeLike | None) -> None:
    """Let all operations compute in float32 or float64; None: in the dtype of their arrays."""
    computing.dtype = None if dtype is None else np.dtype(dtype)


def as_array(value: Any) -> np.ndarray:
    """`value` as a plain `numpy.ndarray`, sharing its memory where possible.

    Tensors of other libraries come through ``__array__`` or ``__dlpack__``; if one records
    gradients, only its values are taken, and no gradients flow back to it. Arrays of a derived
    class (`numpy.matrix`, `numpy.memmap`, arrays with units) lose the class: kernels see their
    numbers only, and results are plain arrays.

    Raises
    ------
    ArgumentError
        A masked array with masked values: no kernel leaves values out, and values under a mask
        are not meant to be used.
    """
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ArgumentError(
            f"expected an array of numbers, got a masked array of shape {value.shape} with "
            f"{np.ma.count_masked(value)} values masked; fill it first (a.filled(0))"
        )
    if getattr(value, "requires_grad", False):
        value = value.detach()
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return np.from_dlpack(value)
    return np.asarray(value)


def network_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """`dtype` as float32 or float64, the types that kernels compute in."""
    try:
        resolved = np.dtype(dtype)
    except TypeError:
        resolved = np.dtype(object)
    if resolved not in (np.float32, np.float64):
        raise ArgumentError(f"dtype must be float32 or float64, got {dtype!r}")
    return resolved


def is_real(array: np.ndarray) -> bool:
    """Whether these are real numbers of at most 64 bits, the only ones computed with."""
    return array.dtype.kind in "fiub" and array.dtype.itemsize <= 8


def common_dtype(op: str, *arrays: np.ndarray) -> np.dtype[Any]:
    """The dtype to compute in: `np.result_type`, but float32 for float16, float64 for integers.

    Raises
    ------
    DTypeError
        An array is not of real numbers, or wider than float64.
    """
    for array in arrays:
        if not is_real(array):
            raise DTypeError(
                f"{op}: expected real numbers of at most 64 bits, got an array of dtype "
                f"{array.dtype} and shape {array.shape}"
            )
    if computing.dtype is not None and op not in UPDATES:
        return computing.dtype
    dtype = np.result_type(*arrays)
    if dtype.kind != "f" or dtype.itemsize == 8:
        return FLOAT64
    return FLOAT32


def contiguous(array: np.ndarray, dtype: np.dtype[Any]) -> Array:
    """`array` itself where it is C-contiguous, aligned and of `dtype`, else a copy that is."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    copy = empty(array.shape, dtype)
    moved_to(copy, array)
    return copy


def in_layout(images: np.ndarray, dtype: np.dtype[Any], layout: Layout) -> Array:
    """`images` (N, C, H, W) in this memory layout and dtype, copied only if they are not yet."""
    if layout == "channels_first":
        return contiguous(images, dtype)
    return contiguous(images.transpose(0, 2, 3, 1), dtype).transpose(0, 3, 1, 2)


def kept_images(
    op: str, name: str, images: np.ndarray, shape: tuple[int, ...], layout: Layout
) -> NDArray[Any]:
    """Images that forward kept, in the layout in which it kept them.

    A user may have changed the shape of arrays that a layer shows, and copies of a layer, such
    as a pickle's, may have the same images in another memory order.
    """
    expect_shape(op, f"{name}, as forward kept it,", images, shape)
    return in_layout(images, images.dtype, layout)


def empty_images(shape: tuple[int, int, int, int], dtype: Any, layout: Layout) -> NDArray[Any]:
    """Memory for images of this (N, C, H, W) shape, aligned to a cache line."""
    memory = bytes_for(shape, dtype)
    if layout == "channels_first":
        return array_in(memory, shape, dtype)
    n, c, h, w = shape
    return array_in(memory, (n, h, w, c), dtype).transpose(0, 3, 1, 2)


def memory_order(array: np.ndarray) -> tuple[int, ...]:
    """The axes of `array`, the longest stride first."""
    return tuple(sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis])))


def inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The order that undoes a transposition."""
    return tuple(axes.index(axis) for axis in range(len(axes)))


def expect_shape(op: str, name: str, array: np.ndarray, expected: tuple[int, ...]) -> None:
    """Raise a `ShapeError` unless `array` has this shape."""
    if array.shape != expected:
        raise ShapeError(f"{op}: {name} has shape {array.shape}, expected {expected}")


def bias_vector(op: str, bias: Any, units: int, dtype: np.dtype[Any]) -> np.ndarray:
    """The bias of each unit or filter: zeros for None, and one number stands for all.

    A row (1, units) is accepted, as the book's layers accept it by broadcasting.
    """
    if bias is None:
        return constant(np.zeros(units, dtype))
    if type(bias) in (bool, int, float):
        return constant(np.full(units, bias, dtype))
    bias = as_array(bias)
    if bias.size == 1 and is_real(bias):
        return np.full(units, bias.item(), bias.dtype)
    if bias.shape == (1, units):
        bias = bias[0]
    expect_shape(op, "bias", bias, (units,))
    return bias


def overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the arrays share any number's memory."""
    # The first check is quick, but only compares where each begins and ends.
    return np.may_share_memory(a, b) and np.shares_memory(a, b)


def updated_arrays(
    op: str, param: np.ndarray, grad: np.ndarray, **kept: Any
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Check and return what an optimizer's step changes and reads, so that it cannot fail midway.

    Parameters
    ----------
    param : array
        Changed in place, like the kept arrays.
    grad : array
        Of param's shape, or broadcast to it.
    **kept : array
        What the optimizer keeps for this parameter, by name.

    Returns
    -------
    param, the gradient in param's shape (copied if it shares memory with what changes), and the
    kept arrays, all of class `numpy.ndarray`.

    Raises
    ------
    ShapeError
        Shapes differ.
    DTypeError
        Something is not of real numbers, or an array that changes not of floating-point numbers.
    ArgumentError
        Something that changes is no array, is read-only, or shares memory with another such array.
    """
    changed: list[np.ndarray] = []
    for name, array in (("the parameter", param), *kept.items()):
        if not isinstance(array, np.ndarray):
            raise ArgumentError(f"{op}: {name} must be an array, got {type(array).__name__}")
        if array.shape != param.shape:
            raise ShapeError(
                f"{op}: {name} has shape {array.shape}, expected the parameter's {param.shape}"
            )
        if array.dtype.kind != "f":
            raise DTypeError(
                f"{op}: {name} must be of floating-point numbers, got dtype {array.dtype}"
            )
        if not array.flags.writeable:
            raise ArgumentError(
                f"{op}: {name} is read-only, as in a file that was loaded mapped, and cannot be "
                "updated in place; copy.deepcopy of the network, or of the run, can be trained"
            )
        plain = as_array(array)
        if any(overlap(plain, other) for other in changed):
            raise ArgumentError(f"{op}: {name} shares memory with the parameter or what is kept")
        changed.append(plain)
    common_dtype(op, grad)
    if grad.shape != param.shape:
        try:
            grad = np.broadcast_to(grad, param.shape)
        except ValueError:
            raise ShapeError(
                f"{op}: gradient has shape {grad.shape}, expected {param.shape}"
            ) from None
    if any(overlap(grad, array) for array in changed):
        grad = grad.copy()
    return changed[0], grad, tuple(changed[1:])


def expect_numbers(what: str, array: NDArray[Any]) -> None:
    """Raise a `WeightsError` unless these are real numbers of at most 64 bits."""
    if not is_real(array):
        raise WeightsError(
            f"{what} must be real numbers of at most 64 bits, got dtype {array.dtype}"
        )


def expect_names(what: str, own: Collection[str], given: Collection[str]) -> None:
    """Raise a `WeightsError` unless both have the same names, in any order."""
    if (here := set(own)) != (there := set(given)):
        missing = ", ".join(name for name in own if name not in there) or "none"
        unknown = ", ".join(name for name in given if name not in here) or "none"
        raise WeightsError(f"{what}: missing {missing}; unknown {unknown}")


def whole_number(what: str, value: Any, most: int) -> int:
    """The whole number, 0 to `most`, that a file stores as an array, or a `WeightsError`."""
    array = as_array(value)
    if array.shape != () or array.dtype.kind not in "iu" or not 0 <= int(array) <= most:
        shown = f" {array[()]}" if array.shape == () else f" shape {array.shape}"
        raise WeightsError(
            f"{what} must be a whole number from 0 to {most}, got dtype {array.dtype},{shown}"
        )
    return int(array)
