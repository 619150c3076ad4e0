"""Shape arithmetic of convolution and pooling, checked once, kept in frozen records.

Notation: N images, C channels, H height, W width; windows of FH x FW moved by
``stride`` over an image with ``pad`` zeros (convolution) or nothing (pooling)
around it; OH x OW windows fit. The places of a window are ``dilation`` apart.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from .errors import ArgumentError, ShapeError

__all__ = [
    *(
        "LARGEST",
        "NO_PADS",
        "Pad",
        "Pads",
        "Stride",
        "WindowGeometry",
        "as_float",
        "as_int",
        "both_ways",
    ),
    *("shown_pads", "shown_stride", "shown_window", "span", "window_geometry"),
]

LARGEST = 2**31 - 1
"""Largest size or step: the product of any two fits in 64 bits, and is finite as a float."""

Stride = int | tuple[int, int]
"""Rows and columns from window to window: one number for both, or (down, across)."""

Pad = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | Literal["same"]
"""Rows and columns around an image; see `window_geometry`."""


class Pads(NamedTuple):
    """Rows and columns added at each side of an image."""

    top: int
    left: int
    bottom: int
    right: int


NO_PADS = Pads(0, 0, 0, 0)
"""Nothing is added."""


@dataclass(frozen=True)
class WindowGeometry:
    """Where a window of FH x FW falls on images of (N, C, H, W).

    Attributes
    ----------
    n, c, h, w : int
        Shape of the input.
    fh, fw : int
        Height and width of the window.
    strides : tuple of int
        Rows and columns from window to window.
    pads : Pads
        Rows and columns added at each side.
    oh, ow : int
        Number of windows down and across: ``(h + top + bottom - span) // stride + 1``, and in
        ceil mode one more where the last would hang over.
    dilation : int
        Step between the places of a window, both axes alike.
    """

    n: int
    c: int
    h: int
    w: int
    fh: int
    fw: int
    strides: tuple[int, int]
    pads: Pads
    oh: int
    ow: int
    dilation: int = 1

    @property
    def stride(self) -> int:
        """The step between windows where it is the same down and across.

        Raises
        ------
        ArgumentError
            It is not; see `strides`.
        """
        down, across = self.strides
        if down != across:
            raise ArgumentError(
                f"windows move {down} down and {across} across, where one stride was expected"
            )
        return down

    @property
    def pad(self) -> int:
        """The rows and columns on each side where they are as many on all.

        Raises
        ------
        ArgumentError
            They are not; see `pads`.
        """
        if len({*self.pads}) > 1:
            raise ArgumentError(
                f"images are padded by {self.pads}, where the same on all sides was expected"
            )
        return self.pads.top

    @property
    def one_stride(self) -> bool:
        """Whether windows move as far down as across."""
        return self.strides[0] == self.strides[1]

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns from a window's first place to its last, these included."""
        return span(self.fh, self.dilation), span(self.fw, self.dilation)

    @property
    def window(self) -> int:
        """Number of positions in one window of one channel."""
        return self.fh * self.fw

    @property
    def padded(self) -> tuple[int, int]:
        """Height and width of a padded image."""
        top, left, bottom, right = self.pads
        return top + self.h + bottom, left + self.w + right

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


def both_ways(op: str, name: str, value: Any, minimum: int) -> tuple[int, int]:
    """`value`, a whole number or two of them, as (down, across)."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ArgumentError(
                f"{op}: {name} must be a number or (down, across), got {value!r:.80}"
            )
        down, across = value
        return (
            as_int(op, f"{name} down", down, minimum),
            as_int(op, f"{name} across", across, minimum),
        )
    number = as_int(op, name, value, minimum)
    return number, number


def shown_stride(value: Stride) -> str:
    """A stride in short: ``2``, or ``2x1`` where it is two numbers that differ."""
    down, across = both_ways("stride", "stride", value, 1)
    return str(down) if down == across else f"{down}x{across}"


def shown_pads(pads: Pads) -> str:
    """Padding in short: ``1``, or ``0+1x2+0`` where it is not the same on all sides."""
    top, left, bottom, right = pads
    return str(top) if len({*pads}) == 1 else f"{top}+{bottom}x{left}+{right}"


def shown_window(g: WindowGeometry) -> str:
    """The window in words, for messages."""
    stride, pad = shown_stride(g.strides), shown_pads(g.pads)
    return f"window {g.fh} x {g.fw}, stride {stride}, pad {pad}"


def _sides(op: str, pad: Any) -> Pad:
    """`pad` in one form: a number, ((top, bottom), (left, right)), or ``"same"``."""
    if isinstance(pad, str):
        if pad != "same":
            raise ArgumentError(f"{op}: pad must be numbers or 'same', got {pad!r:.60}")
        return "same"
    if not isinstance(pad, tuple):
        return as_int(op, "pad", pad, 0)
    if len(pad) != 2:
        raise ArgumentError(
            f"{op}: pad must be a number, (down, across) or ((top, bottom), (left, right)), "
            f"got {pad!r:.80}"
        )
    sides: list[tuple[int, int]] = []
    names = (("top", "bottom"), ("left", "right"))
    for axis, ends in zip(pad, names, strict=True):
        if isinstance(axis, tuple):
            if len(axis) != 2:
                raise ArgumentError(f"{op}: pad has two sides on each axis, got {pad!r:.80}")
            first, last = axis
        else:
            first = last = axis
        sides.append(
            (as_int(op, f"pad {ends[0]}", first, 0), as_int(op, f"pad {ends[1]}", last, 0))
        )
    return sides[0], sides[1]


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
    stride : int or (int, int)
        Rows and columns from window to window, at least 1.
    pad : int, (int, int), ((int, int), (int, int)) or "same"
        Rows and columns around the image, at least 0: as many on all sides; (rows above and
        below, columns left and right); or ((top, bottom), (left, right)). ``"same"`` pads so that
        there are ceil(H / stride) x ceil(W / stride) windows; of an odd number, the larger half
        is at the bottom and on the right, as in TensorFlow, Keras and ONNX's SAME_UPPER.
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
        A window size, stride, pad or dilation that is not as above.
    """
    if len(input_shape) != 4:
        raise ShapeError(
            f"{op}: input must have 4 axes (N, C, H, W), got {len(input_shape)}: "
            f"shape {tuple(input_shape)}"
        )
    numbers = (fh, fw, stride, pad, dilation)
    if {*map(type, numbers)} != {int}:  # else the cache could answer with that of an equal number
        fh, fw, (down, across), pad, dilation = _in_range(op, *numbers)
        numbers = (fh, fw, down if down == across else (down, across), pad, dilation)
    return _checked(op, tuple(input_shape), *numbers, bool(ceil_mode))


def _in_range(op: str, fh: Any, fw: Any, stride: Any, pad: Any, dilation: Any) -> tuple[Any, ...]:
    """The numbers in one form each, in which equal ones are of one type."""
    return (
        as_int(op, "window height", fh, 1),
        as_int(op, "window width", fw, 1),
        both_ways(op, "stride", stride, 1),
        _sides(op, pad),
        as_int(op, "dilation", dilation, 1),
    )


@lru_cache(maxsize=1024)
def _checked(
    op: str,
    shape: tuple[int, int, int, int],
    fh: int,
    fw: int,
    stride: Stride,
    pad: Pad,
    dilation: int,
    ceil_mode: bool,
) -> WindowGeometry:
    _, _, strides, sides, _ = _in_range(op, fh, fw, stride, pad, dilation)
    n, c, h, w = shape
    if max(shape) > LARGEST:
        raise ShapeError(f"{op}: no axis may be longer than {LARGEST}, got {shape}")
    height, width = span(fh, dilation), span(fw, dilation)
    if sides == "same":
        sides = same_pads(h, height, strides[0]), same_pads(w, width, strides[1])
    elif isinstance(sides, int):
        sides = (sides, sides), (sides, sides)
    (top, bottom), (left, right) = sides
    pads = Pads(top, left, bottom, right)
    down, across = top + h + bottom, left + w + right
    if down * across > max(LARGEST, 2 * h * w):
        raise ShapeError(
            f"{op}: a padded image may have {LARGEST} pixels, or twice those of the image; "
            f"got {_padded(pads, h, w)}"
        )
    if height > down or width > across:
        dilated = f", dilated to {height} x {width}," if dilation > 1 else ""
        raise ShapeError(
            f"{op}: window of {fh} x {fw}{dilated} is larger than the padded image: "
            f"{_padded(pads, h, w)} (input {shape})"
        )
    oh = _windows(h, height, strides[0], top, bottom, ceil_mode)
    ow = _windows(w, width, strides[1], left, right, ceil_mode)
    return WindowGeometry(n, c, h, w, fh, fw, strides, pads, oh, ow, dilation)


def same_pads(size: int, window: int, stride: int) -> tuple[int, int]:
    """Padding at both ends of an axis of which ceil(size / stride) windows are wanted."""
    count = -(-size // stride)
    whole = max((count - 1) * stride + window - size, 0) if size else 0
    return whole // 2, whole - whole // 2


def _padded(pads: Pads, h: int, w: int) -> str:
    """The size of a padded image, for a message."""

    def along(first: int, size: int, last: int, what: str) -> str:
        added = f"{size} + 2*{first}" if first == last else f"{first} + {size} + {last}"
        return f"{added} = {first + size + last} {what}"

    high = along(pads.top, h, pads.bottom, "high")
    return f"{high}, {along(pads.left, w, pads.right, 'wide')}"


def _windows(size: int, window: int, stride: int, before: int, after: int, ceil_mode: bool) -> int:
    """How many windows there are along one axis."""
    last, rest = divmod(before + size + after - window, stride)
    overhangs = ceil_mode and rest > 0 and (last + 1) * stride < size + before
    return last + 1 + overhangs
