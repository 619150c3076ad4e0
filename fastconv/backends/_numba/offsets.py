"""Tables of offsets: where a convolution's products find what they multiply.

A table depends on the geometry, not on the weights, and is kept from call to call.

Notation: N images, C channels, H x W pixels; FN filters of FH x FW; OH x OW windows. A
**tap** is one weight of a filter, in the order (fy, fx, c): then neighbours in a table are
neighbours in a channels-last image, which makes the weight gradient 15 % faster.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ...geometry import WindowGeometry
from .launch.memory import keep

__all__ = [
    "FRAME",
    "WINDOWS",
    "Frame",
    "Product",
    "WeightLayout",
    "forward",
    "input_gradient",
    "windows",
]

Table = NDArray[np.int64]


WINDOWS = "images channels height width fh fw stride_y stride_x top left oh ow"
"""Fields of kernels that take a geometry; see `windows`."""


def windows(g: WindowGeometry) -> dict[str, int]:
    """The geometry, as kernels take it."""
    images = {"images": g.n, "channels": g.c, "height": g.h, "width": g.w}
    window = {"fh": g.fh, "fw": g.fw, "stride_y": g.strides[0], "stride_x": g.strides[1]}
    return {
        **images,
        **window,
        "top": g.pads.top,
        "left": g.pads.left,
        "oh": g.oh,
        "ow": g.ow,
    }


@dataclass(frozen=True)
class WeightLayout:
    """How many filters there are, and the steps between filters and within one.

    Within a filter the order is (c, fy, fx).
    """

    filters: int
    filter_step: int
    tap_step: int


@dataclass(frozen=True)
class Frame:
    """An image of `channels`, `height`, `width`, placed at (`top`, `left`) in zeros.

    A negative corner cuts off the image.
    """

    channels: int
    height: int
    width: int
    top: int
    left: int
    frame_height: int
    frame_width: int

    @cached_property
    def size(self) -> int:
        """Elements of the frame; 0 where the image is used in place."""
        frame = (self.top, self.left, self.frame_height, self.frame_width)
        return 0 if frame == (0, 0, self.height, self.width) else self.area * self.channels

    @property
    def area(self) -> int:
        """Pixels of the frame."""
        return self.frame_height * self.frame_width

    @cached_property
    def fields(self) -> dict[str, int]:
        """What kernels take of it."""
        return {name: getattr(self, name) for name in FRAME.split()}


FRAME = " ".join(field.name for field in fields(Frame))
"""Fields of kernels that take a frame."""


@dataclass(frozen=True, eq=False)
class Product:
    """One product: result[row, column] = sum over k of x[at[row] + along[k]] * w[k, column].

    Attributes
    ----------
    frame : Frame
        Where x is.
    rows, terms, columns : int
        Its size. `at`, `along` and `goes` are longer: they fill whole tiles.
    at, along : array
        Where in the frame to find element (row, k).
    goes : array
        Where a row of the result goes.
    weights : array
        Element (k, column) of w is weight[weights[k] + column*column_step].
    """

    frame: Frame
    rows: int
    terms: int
    columns: int
    at: Table
    along: Table
    goes: Table
    weights: Table
    column_step: int

    @property
    def tables(self) -> dict[str, int]:
        """Where the tables are, by name; a recording keeps them."""
        keep(self)
        return self._addresses

    @cached_property
    def _addresses(self) -> dict[str, int]:
        names = "at", "along", "goes", "weights"
        return {name: getattr(self, name).ctypes.data for name in names}


def grid(heights: Table, widths: Table, row_step: int, step: int) -> Table:
    """Offsets of all places (y, x), x fastest, in memory with these steps."""
    return np.add.outer(heights * row_step, widths * step).ravel()


def with_channels(table: Table, channels: int, step: int) -> Table:
    """Each entry of the table, for every channel."""
    return np.add.outer(table, np.arange(channels) * step).ravel()


def filled(table: Table, rows: int) -> Table:
    """The table, its last entry repeated to fill whole tiles."""
    return np.pad(table, (0, -len(table) % rows), mode="edge")


@lru_cache(maxsize=256)
def forward(g: WindowGeometry, layout: WeightLayout, rows: int, pooled: bool = False) -> Product:
    """Output: a row is a pixel of the output, a column a filter.

    With `pooled`, every four rows are a window of 2x2 pixels, and `goes` has one entry for it.
    """
    height, width = g.padded
    step = g.stride * g.c
    if pooled:
        windows = grid(np.arange(g.oh // 2), np.arange(g.ow // 2), 2 * width * step, 2 * step)
        corners = [0, step, width * step, (width + 1) * step]
        at = np.add.outer(filled(windows, rows // 4), corners).ravel()
        count = 4 * len(windows)
        goes = filled(np.arange(len(windows)) * layout.filters, rows // 4)
    else:
        pixels = grid(np.arange(g.oh), np.arange(g.ow), width * step, step)
        at, count = filled(pixels, rows), len(pixels)
        goes = filled(np.arange(count) * layout.filters, rows)
    window = grid(np.arange(g.fh), np.arange(g.fw), width * g.c, g.c)
    places = grid(np.arange(g.fh), np.arange(g.fw), g.fw, 1)
    return Product(
        frame=Frame(g.c, g.h, g.w, *g.pads[:2], height, width),
        rows=count,
        terms=g.window * g.c,
        columns=layout.filters,
        at=at,
        along=filled(with_channels(window, g.c, 1), rows),
        goes=goes,
        weights=with_channels(places, g.c, g.window) * layout.tap_step,
        column_step=layout.filter_step,
    )


@dataclass(frozen=True)
class Phase:
    """Input places along one axis that the same taps of a filter reach.

    Place y is reached by tap f from window v where y + pad = stride*v + f: places whose
    y + pad leave the same remainder see every stride-th tap, as in a convolution of stride
    1 with those taps, last tap first.
    """

    places: Table
    taps: Table
    margin: int  # zeros before the first window
    size: int  # windows and zeros from there on that are read


def phases(size: int, taps: int, stride: int, pad: int) -> list[Phase]:
    """The phases of one axis that hold any place and any tap."""
    found = []
    for remainder in range(min(stride, taps)):
        places = np.arange((remainder - pad) % stride, size, stride)
        if len(places):
            seen = np.arange(remainder, taps, stride)[::-1]
            first_window = (int(places[0]) + pad - remainder) // stride
            margin = len(seen) - 1 - first_window
            found.append(Phase(places, seen, margin, len(places) + len(seen) - 1))
    return found


@lru_cache(maxsize=256)
def input_gradient(g: WindowGeometry, layout: WeightLayout, rows: int) -> tuple[Product, ...]:
    """Input gradient: a row is a pixel of the input, a column a channel.

    One product for each pair of phases; no window reaches the places that are in none.
    """
    filters = layout.filters
    products = []
    for down in phases(g.h, g.fh, g.stride, g.pads.top):
        for across in phases(g.w, g.fw, g.stride, g.pads.left):
            width = across.size
            at = grid(
                np.arange(len(down.places)),
                np.arange(len(across.places)),
                width * filters,
                filters,
            )
            window = grid(
                np.arange(len(down.taps)), np.arange(len(across.taps)), width * filters, filters
            )
            taps = grid(down.taps, across.taps, g.fw, 1)
            products.append(
                Product(
                    frame=Frame(
                        filters, g.oh, g.ow, down.margin, across.margin, down.size, across.size
                    ),
                    rows=len(at),
                    terms=filters * len(window),
                    columns=g.c,
                    at=filled(at, rows),
                    along=with_channels(window, filters, 1),
                    goes=filled(grid(down.places, across.places, g.w * g.c, g.c), rows),
                    weights=with_channels(taps * layout.tap_step, filters, layout.filter_step),
                    column_step=g.window * layout.tap_step,
                )
            )
    return tuple(products)
