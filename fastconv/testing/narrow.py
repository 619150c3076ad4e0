"""Kernels on images that lie in memory as bfloat16s, compared with themselves on float32."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.calls import BFLOAT16
from ..backends.numpy.operands import bfloat16
from ..backends.table import Backend
from .contract import Freedoms, output_shapes
from .strict import Arguments, call_kernel, guarded, intact, is_array, require

__all__ = ["bits_of", "check_bfloat16_images", "narrow_call", "of_bits"]

Array = NDArray[Any]

UNIT = 2.0**-7
"""The distance of two neighbouring bfloat16s, relative to the smaller one."""


def bits_of(values: Array) -> Array:
    """The bits of float32 numbers rounded to bfloat16."""
    return np.asarray(bfloat16(values).view(np.uint32) >> 16, BFLOAT16)


def of_bits(bits: Array) -> Array:
    """Bfloat16s, given as their bits, as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrow_call(backend: Backend, kernel: str, inputs: Arguments, narrow: Collection[str]) -> Array:
    """The `out` of a kernel whose images of these names are bfloat16s, in guarded memory.

    Raises
    ------
    AssertionError
        The kernel wrote outside of `out`.
    """
    given = dict(inputs)
    out_shape = output_shapes(kernel, inputs)["out"]
    for name in ("x", "residual"):
        if is_array(inputs.get(name)):
            given[name], _ = _laid_out(inputs[name].shape, name in narrow)
            given[name][...] = bits_of(inputs[name]) if name in narrow else inputs[name]
            given[name].flags.writeable = False
    given["out"], memory = _laid_out(out_shape, "out" in narrow)
    getattr(backend, kernel)(**given)
    require(intact(memory), f"{kernel} wrote outside of out")
    return of_bits(given["out"]) if "out" in narrow else np.asarray(given["out"])


def _laid_out(shape: tuple[int, ...], narrow: bool) -> tuple[Array, Array]:
    """Channels-last images between guards, and the memory of both."""
    n, c, h, w = shape
    dense, memory = guarded((n, h, w, c // 2 if narrow else c), np.dtype(np.float32), False)
    return (dense.view(BFLOAT16) if narrow else dense).transpose(0, 3, 1, 2), memory


def check_bfloat16_images(
    backend: Backend, kernel: str, inputs: Arguments, tolerance: float, how: str
) -> int:
    """Compare a kernel on images of bfloat16s, where the backend takes such, with that on float32.

    It is called with each image as bfloat16s, and with all. What it reads is rounded first, so that
    its products have the same operands; what it writes may be the other neighbour.

    Returns
    -------
    int
        How many calls were compared.

    Raises
    ------
    AssertionError
        What it gives is off by more.
    """
    allowed = Freedoms.of(backend).bfloat16_images.get(kernel, ())
    if not allowed or inputs["x"].dtype != np.float32:
        return 0
    inputs = inputs | {"winner": None}
    if kernel == "conv2d_forward":
        del inputs["winner"]
    shapes = output_shapes(kernel, inputs) | {
        name: inputs[name].shape for name in ("x", "residual") if is_array(inputs.get(name))
    }
    able = [name for name in allowed if name in shapes and shapes[name][1] % 2 == 0]
    rounded = {
        name: bfloat16(inputs[name]) for name in ("x", "residual") if is_array(inputs.get(name))
    }
    compared = 0
    each = [(name,) for name in able] + [tuple(able)] * (len(able) > 1)
    for narrow in each:
        given = inputs | {name: rounded[name] for name in narrow if name in rounded}
        wanted = call_kernel(backend, kernel, **given)["out"]
        got = narrow_call(backend, kernel, given, narrow)
        expected = bfloat16(wanted) if "out" in narrow else wanted
        where = f"{kernel} of {inputs['x'].shape}, bfloat16s in {', '.join(narrow)}, {how}"
        plain = np.isfinite(expected)
        same = np.array_equal(plain, np.isfinite(got))
        require(same, f"{where}: other NaN or infinities than of float32")
        got, expected = got[plain], expected[plain]
        room = tolerance * float(np.abs(expected).max(initial=0))
        errors = np.abs(got - expected) - room
        if "out" in narrow:
            errors -= UNIT * np.abs(expected)
        require(
            float(errors.max(initial=0)) <= 0,
            f"{where}: out of shape {wanted.shape} is off by more than a unit of bfloat16",
        )
        compared += 1
    return compared
