"""The strict caller: hands a kernel what the contract allows, and nothing kinder."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.table import CHANNELS_FIRST, Backend
from .contract import FILTERS, IN_PLACE, Arguments, output_dtype, output_shapes

__all__ = [
    *("Arguments", "call_kernel", "guarded", "intact", "is_array", "lay_out", "require"),
]

Array = NDArray[Any]
GUARD = 61
"""Elements of poison around each array; odd, so that no array starts on a vector boundary."""


def require(condition: bool, message: str) -> None:
    """Raise an AssertionError unless `condition` holds, also under ``python -O``."""
    if not condition:
        raise AssertionError(message)


def call_kernel(backend: Backend, kernel: str, **inputs: Any) -> dict[str, Any]:
    """Call one kernel with memory that forgives nothing, and return its outputs by name.

    Inputs are read-only, in the backend's layout, on odd addresses, between guards of NaN.
    Outputs start as garbage between guards.

    Parameters
    ----------
    backend : Backend
    kernel : str
        A name of `fastconv.backends.table.KERNELS`.
    **inputs
        The kernel's inputs by name. ``None`` for an output (dx, winner, dresidual) leaves it out;
        for the dx of avgpool2d_backward, pass its shape, which no other input determines.

    Returns
    -------
    dict of str to array
        The outputs; ``loss`` is the kernel's return value, if it has one.

    Raises
    ------
    AssertionError
        The kernel wrote into an input, or outside an output.
    """
    given, outputs, memories = lay_out(backend, kernel, inputs)
    result = getattr(backend, kernel)(**(given | outputs))
    for name, value in inputs.items():
        if is_array(value) and name not in outputs:
            same = given[name].tobytes() == value.tobytes()
            require(same, f"{kernel} wrote into its input {name}")
    for name, memory in memories:
        require(intact(memory), f"{kernel} wrote outside of {name}")
    return outputs if result is None else {**outputs, "loss": result}


def lay_out(
    backend: Backend, kernel: str, inputs: Arguments
) -> tuple[Arguments, Arguments, list[tuple[str, Array]]]:
    """The arguments of a call, in memory that forgives nothing.

    Returns
    -------
    given, outputs : dict
        All arguments of the kernel, and its outputs; what is updated in place is in both.
    memories : list of (str, array)
        The memory around each array, by name; `intact` checks that its guards are unchanged.
    """
    last = backend.layout == "channels_last" and kernel not in CHANNELS_FIRST
    dtype = next(a.dtype for a in inputs.values() if is_array(a) and a.dtype.kind == "f")
    given: Arguments = {}
    memories: list[tuple[str, Array]] = []
    written = IN_PLACE if kernel == "adam_update" else ()
    for name, value in inputs.items():
        if not is_array(value):
            given[name] = value
            continue
        given[name], memory = guarded(value.shape, value.dtype, last and name not in FILTERS)
        given[name][...] = value
        given[name].flags.writeable = name in written
        memories.append((name, memory))
    outputs: Arguments = {name: given[name] for name in written}
    for name, shape in output_shapes(kernel, inputs).items():
        if inputs.get(name, shape) is None:
            continue
        own_dtype = output_dtype(kernel, name, inputs, dtype)
        outputs[name], memory = guarded(shape, own_dtype, last and name not in FILTERS)
        memories.append((name, memory))
    return given, outputs, memories


def intact(memory: Array) -> bool:
    """Whether nothing was written beside the array that lies in it."""
    return (memory[:GUARD].tobytes(), memory[-GUARD:].tobytes()) == (_guard(memory.dtype),) * 2


def is_array(value: Any) -> bool:
    """Whether an argument is an array, not a number or a geometry."""
    return isinstance(value, np.ndarray)


def _poison(size: int, dtype: np.dtype[Any]) -> Array:
    return np.full(size, np.nan if dtype.kind == "f" else 0x5A, dtype)


@cache
def _guard(dtype: np.dtype[Any]) -> bytes:
    """The values on either side of an array."""
    return _poison(GUARD, dtype).tobytes()


def guarded(
    shape: tuple[int, ...], dtype: np.dtype[Any], channels_last: bool
) -> tuple[Array, Array]:
    """(array, the memory around it), both filled with poison; images are in the given layout."""
    size = math.prod(shape)
    memory = _poison(2 * GUARD + size, dtype)
    array = memory[GUARD : GUARD + size]
    if len(shape) == 4 and channels_last:
        n, c, h, w = shape
        return array.reshape(n, h, w, c).transpose(0, 3, 1, 2), memory
    return array.reshape(shape), memory
