"""``cs231n.fast_layers`` on kernels: the convolution and max pooling of Stanford's assignments.

A forward function and its backward are served together, since one keeps what the other needs.
``conv_forward_fast`` and ``max_pool_forward_fast`` only choose among these, and stay.

Notation: N images, C channels, H x W pixels; F filters of HH x WW.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from .. import ops
from ..backends.table import Layout
from ..ops.arrays import empty_images, in_layout
from ..ops.conv import ConvContext
from ..ops.pool import PoolContext
from .finder import Report
from .stand_in import Declined, expect_arrays, stand_in

__all__ = ["serve"]


def serve(module: ModuleType, marks: Mapping[str, str], report: Report) -> None:
    """Let the functions of ``cs231n.fast_layers`` compute on kernels.

    Parameters
    ----------
    module : module
        As the user's file has made it.
    marks : mapping of str to str
        Fingerprints of what the file defines; empty if the module no longer has it.
    report : Report
        Gets what is served and what is not.
    """
    served: list[str] = []
    for pair in PAIRS:
        forward = next((name for name, mark in marks.items() if mark in pair.forwards), None)
        backward = next((name for name, mark in marks.items() if mark in pair.backwards), None)
        if forward is not None and backward is not None:
            _replace(module, forward, pair.forward, report)
            _replace(module, backward, pair.backward, report)
            served += [forward, backward]
    halves = {mark for pair in PAIRS for mark in pair.forwards | pair.backwards}
    for name, mark in marks.items():
        if name in served or mark in CHOOSERS or not name.startswith(("conv_", "max_pool_")):
            continue
        other = "backward" if "forward" in name else "forward"
        why = f"as its {other} is not" if mark in halves else "which is not"
        report.theirs[f"{module.__name__}.{name}"] = f"your own, {why} the assignment's"
    if served:
        report.served[module.__name__] = sorted(served)


def _replace(module: ModuleType, name: str, ours: Callable[..., Any], report: Report) -> None:
    """Replace the function under all its names: ``conv_forward_fast`` is an alias."""
    original = getattr(module, name)

    def note(reason: str) -> None:
        report.theirs.setdefault(f"{module.__name__}.{name}", f"your code where it gets {reason}")

    function = stand_in(ours, original, note)
    for other, value in vars(module).items():
        if value is original:
            setattr(module, other, function)


# ---- convolution --------------------------------------------------------------------------


def _conv_forward(x: Any, w: Any, b: Any, conv_param: Any) -> tuple[Any, tuple[Any, ...]]:
    expect_arrays(4, x, w)
    stride, pad = conv_param["stride"], conv_param["pad"]
    if type(b) is not np.ndarray or b.size != len(w):
        raise Declined("a bias that is no vector")
    if any((x.shape[axis] + 2 * pad - w.shape[axis]) % stride for axis in (2, 3)):
        raise Declined  # some editions refuse it
    out, context = ops.conv2d_forward(x, w, b.reshape(-1), stride, pad)
    return out, (x, w, b, conv_param, context)


def _conv_backward(dout: Any, cache: tuple[Any, ...]) -> tuple[Any, Any, Any]:
    _, w, _, _, context = cache
    if not isinstance(context, ConvContext):
        raise Declined
    dx, dw, db = ops.conv2d_backward(dout, w, context)
    return dx, dw, db


# ---- max pooling ----------------------------------------------------------------------------


def _pool_forward(x: Any, pool_param: Any) -> tuple[Any, PoolContext]:
    height, width = pool_param["pool_height"], pool_param["pool_width"]
    stride = pool_param["stride"]
    expect_arrays(4, x)
    if (x.shape[2] - height) % stride or (x.shape[3] - width) % stride:
        raise Declined  # it refuses that itself
    return ops.maxpool2d_forward(x, height, width, stride)


def _pool_reshape_forward(x: Any, pool_param: Any) -> tuple[Any, tuple[Any, ...]]:
    sizes = {pool_param[name] for name in ("pool_height", "pool_width", "stride")}
    if len(sizes) > 1 or x.shape[2] % min(sizes) or x.shape[3] % min(sizes):
        raise Declined  # it refuses that itself
    out, context = _pool_forward(x, pool_param)
    return out, (x, context, out)


def _pool_reshape_backward(dout: Any, cache: tuple[Any, ...]) -> Any:
    """Gradient of windows that tile the image: equal maxima of a window share its gradient."""
    x, context, out = cache
    if not isinstance(context, PoolContext):
        raise Declined
    dtype, size, dout = context.dtype, context.geometry.stride, np.asarray(dout)
    layout: Layout = "channels_first" if x.flags.c_contiguous else "channels_last"
    x, out = in_layout(x, dtype, layout), in_layout(out, dtype, layout)
    dx = empty_images(x.shape, dtype, layout)
    count = max(1, IN_CACHE // x[0].nbytes)
    for first in range(0, len(x), count):
        some = slice(first, first + count)
        _share(dout[some], x[some], out[some], size, dx[some])
    return dx


IN_CACHE = 1 << 18
"""Bytes of images that stay in a core's cache while the places of their windows are visited."""


def _share(dout: Any, x: Any, out: Any, size: int, dx: Any) -> None:
    """Fill dx with each window's gradient, shared among the places that hold its maximum."""
    places = [(..., slice(i, None, size), slice(j, None, size)) for i, j in np.ndindex(size, size)]
    winners = [np.equal(x[place], out) for place in places]
    number: Any = np.zeros_like(out, np.uint8 if len(places) < 256 else np.int32)
    for winner in winners:
        number += winner
    share = np.empty_like(out)
    with np.errstate(divide="ignore", invalid="ignore"):
        np.divide(dout, number, out=share)
    if not number.all():  # NaN equals nothing: a window with a NaN gets NaN everywhere
        share[number == 0] = np.nan
        for winner in winners:
            winner |= number == 0
    # As whole numbers, since 0 times a negative gradient, or an infinite one, is not 0.
    bits = np.int32 if out.itemsize == 4 else np.int64
    for place, winner in zip(places, winners, strict=True):
        np.multiply(share.view(bits), winner, out=dx.view(bits)[place])


def _pool_im2col_forward(x: Any, pool_param: Any) -> tuple[Any, tuple[Any, ...]]:
    out, context = _pool_forward(x, pool_param)
    return out, (x, context, None, pool_param)


def _pool_im2col_backward(dout: Any, cache: tuple[Any, ...]) -> Any:
    context = cache[1]
    if not isinstance(context, PoolContext):
        raise Declined
    return ops.maxpool2d_backward(dout, context)


# ---- what they stand in for -------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A forward function and its backward, with the fingerprints of those that they replace.

    Fingerprints are of the releases from 2015 on, under Python 3.
    """

    forward: Callable[..., Any]
    forwards: frozenset[str]
    backward: Callable[..., Any]
    backwards: frozenset[str]


PAIRS = (
    Pair(
        _conv_forward,
        frozenset({"7036b977d1b63f56aa3a", "5d12dfaaa0236ebeca4d"}),
        _conv_backward,
        frozenset({"0d434269d2d433344c2d"}),
    ),
    Pair(
        _conv_forward,
        frozenset({"cb2fedb9af1d52975d0b", "fe67845768c755808632"}),
        _conv_backward,
        frozenset({"60767640fdf1ddf89ee0"}),
    ),
    Pair(
        _pool_reshape_forward,
        frozenset({"e8a7d4784cde6016b67d", "a7f64ed6ad994bdf1c76"}),
        _pool_reshape_backward,
        frozenset({"3f0cbe2246b172ab6d19"}),
    ),
    Pair(
        _pool_im2col_forward,
        frozenset({"0825a1c7991fac1f4c69", "dd7cf1cabda5d5d19b70"}),
        _pool_im2col_backward,
        frozenset({"5e5809aed9a4f39bf081"}),
    ),
)

CHOOSERS = {"aba028c47875f9f94462", "cc17e19c0c5c10762a3c"}
"""Fingerprints of ``max_pool_forward_fast`` and ``max_pool_backward_fast``."""
