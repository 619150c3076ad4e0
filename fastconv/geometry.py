"""Shape arithmetic of convolution and pooling, checked once, kept in frozen records.

Notation: N images, C channels, H height, W width; windows of FH x FW moved by
``stride`` over an image with ``pad`` zeros (convolution) or nothing (pooling) on
each side; OH x OW windows fit. The places of a window are ``dilation`` apart.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from .errors import ArgumentError, ShapeError

__all__ = ["LARGEST", "WindowGeometry", "as_float", "as_int", "window_geometry"]

LARGEST = 2**31 - 1
"""Largest size or step: the product of any two fits in 64 bits, and is finite as a float."""


@dataclass(frozen=True)
class WindowGeometry:
    """Where a window of FH x FW falls on images of (N, C, H, W).

    Attributes
    ----------
    n, c, h, w : int
        Shape of the input.
    fh, fw : int
        Height and width of the window.
    stride, pad : int
        Step between windows and rows/columns added on each side, both axes alike.
    oh, ow : int
        Number of windows down and across: ``(h + 2*pad - span) // stride + 1``, and in ceil
        mode one more where the last would hang over.
    dilation : int
        Step between the places of a window, both axes alike.
    """

    n: int
    c: int
    h: int
    w: int
    fh: int
    fw: int
    stride: int
    pad: int
    oh: int
    ow: int
    dilation: int = 1

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns from a window's first place to its last, these included."""
        return span(self.fh, self.dilation), span(self.fw, self.dilation)

    @property
    def window(self) -> int:
        """Number of positions in one window of one channel."""
        return self.fh * self.fw

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W)."""
        return (self.n, self.c, self.h, self.w)

    @property
    def column_shape(self) -> tuple[int, int]:
        """Shape of the column matrix of im2col: (N*OH*OW, C*FH*FW)."""
        return (self.n * self.oh * self.ow, self.c * self.fh * self.fw)

    def output_shape(self, channels: int) -> tuple[int, int, int, int]:
        """(N, channels, OH, OW)."""
        return (self.n, channels, self.oh, self.ow)


def span(places: int, dilation: int) -> int:
    """Pixels from the first to the last of so many places, these included."""
    return dilation * (places - 1) + 1


def as_int(op: str, name: str, value: Any, minimum: int, maximum: int = LARGEST) -> int:
    """`value` as an int from `minimum` to `maximum`, or an `ArgumentError` that names it."""
    try:
        number = int(operator.index(value))  # index would leave a bool a bool
    except TypeError:
        raise ArgumentError(
            f"{op}: {name} must be a whole number, got {value!r} ({type(value).__name__})"
        ) from None
    if number < minimum:
        raise ArgumentError(f"{op}: {name} must be at least {minimum}, got {_short(number)}")
    if number > maximum:
        raise ArgumentError(f"{op}: {name} must be at most {maximum}, got {_short(number)}")
    return number


def as_float(op: str, name: str, value: Any) -> float:
    """`value` as a float, or an `ArgumentError` that names it."""
    try:
        if not isinstance(value, str | bytes):
            return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ArgumentError(f"{op}: {name} must be a number, got {value!r:.60}")


def _short(number: int) -> str:
    """A number for a message, however long it is."""
    return str(number) if abs(number) < 10**30 else f"one of {number.bit_length()} bits"


def window_geometry(
    op: str,
    input_shape: tuple[int, ...],
    fh: Any,
    fw: Any,
    stride: Any = 1,
    pad: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> WindowGeometry:
    """Check the numbers of a convolution or pooling and return its geometry.

    Parameters
    ----------
    op : str
        Name of the operation, for messages.
    input_shape : tuple of int
        (N, C, H, W).
    fh, fw : int
        Window height and width, at least 1.
    stride : int
        At least 1.
    pad : int
        At least 0.
    dilation : int
        At least 1. None of these may exceed `LARGEST`.
    ceil_mode : bool
        Keep a last window that hangs over the padded image, unless it would begin past the
        image, in its padding (PyTorch's rule).

    Raises
    ------
    ShapeError
        The input is not 4-D, the window is larger than the padded image, or the padding is out
        of all proportion to the image.
    ArgumentError
        A window size, stride, pad or dilation that is not a whole number in its range.
    """
    if len(input_shape) != 4:
        raise ShapeError(
            f"{op}: input must have 4 axes (N, C, H, W), got {len(input_shape)}: "
            f"shape {tuple(input_shape)}"
        )
    numbers: tuple[int, ...] = (fh, fw, stride, pad, dilation)
    if {*map(type, numbers)} != {int}:  # else the cache could answer with that of an equal number
        numbers = _in_range(op, *numbers)
    return _checked(op, tuple(input_shape), *numbers, bool(ceil_mode))


def _in_range(op: str, fh: Any, fw: Any, stride: Any, pad: Any, dilation: Any) -> tuple[int, ...]:
    return (
        as_int(op, "window height", fh, 1),
        as_int(op, "window width", fw, 1),
        as_int(op, "stride", stride, 1),
        as_int(op, "pad", pad, 0),
        as_int(op, "dilation", dilation, 1),
    )


@lru_cache(maxsize=1024)
def _checked(
    op: str,
    shape: tuple[int, int, int, int],
    fh: int,
    fw: int,
    stride: int,
    pad: int,
    dilation: int,
    ceil_mode: bool,
) -> WindowGeometry:
    _in_range(op, fh, fw, stride, pad, dilation)
    n, c, h, w = shape
    if max(shape) > LARGEST:
        raise ShapeError(f"{op}: no axis may be longer than {LARGEST}, got {shape}")
    height, width = span(fh, dilation), span(fw, dilation)
    padded = (h + 2 * pad) * (w + 2 * pad)
    if padded > max(LARGEST, 2 * h * w):
        raise ShapeError(
            f"{op}: a padded image may have {LARGEST} pixels, or twice those of the image; "
            f"got {h} + 2*{pad} = {h + 2 * pad} high, {w} + 2*{pad} = {w + 2 * pad} wide"
        )
    if height > h + 2 * pad or width > w + 2 * pad:
        dilated = f", dilated to {height} x {width}," if dilation > 1 else ""
        raise ShapeError(
            f"{op}: window of {fh} x {fw}{dilated} is larger than the padded image: "
            f"{h} + 2*{pad} = {h + 2 * pad} high, {w} + 2*{pad} = {w + 2 * pad} wide "
            f"(input {shape})"
        )
    oh = _windows(h, height, stride, pad, ceil_mode)
    ow = _windows(w, width, stride, pad, ceil_mode)
    return WindowGeometry(n, c, h, w, fh, fw, stride, pad, oh, ow, dilation)


def _windows(size: int, window: int, stride: int, pad: int, ceil_mode: bool) -> int:
    """How many windows there are along one axis."""
    last, rest = divmod(size + 2 * pad - window, stride)
    overhangs = ceil_mode and rest > 0 and (last + 1) * stride < size + pad
    return last + 1 + overhangs
