"""``dezero.functions_conv`` on kernels: the framework of the book's third volume.

The user's module runs as it is. Then the ``forward`` of its functions computes on kernels, if it
and what it calls are dezero's own. ``backward`` stays: it calls these functions, so that gradients
of gradients run on kernels too.

Notation: N images, C channels, H x W pixels; OC filters of KH x KW; OH x OW windows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from .. import ops
from ..geometry import WindowGeometry, window_geometry
from ..ops.arrays import common_dtype, empty_images, in_layout
from ..ops.conv import ConvContext
from ..selection import active
from .finder import Report
from .stand_in import Declined, expect_arrays, stand_in

__all__ = ["serve"]

KNOWN = {
    "Conv2DGradW.__init__": "b48bdbf59d6af006c4b3",
    "Conv2DGradW.forward": "9015968ab7a5a83a7f24",
    "Conv2d.__init__": "fa72434bec47b6e7bdd3",
    "Conv2d.forward": "e508114b58b78f6699a8",
    "Deconv2d.__init__": "a813de2363506af44e40",
    "Deconv2d.forward": "54a112278328796cd145",
    "Pooling.__init__": "630c1580a5ecc729e0e1",
    "Pooling.forward": "b27fcdecfeee01a4fd05",
    "Pooling2DGrad.__init__": "5fb4494d8cdccd6fc1e5",
    "Pooling2DGrad.forward": "f5e9de8e4cf427c681c0",
    "col2im_array": "504b57474342ae4d8add",
    "im2col_array": "364031d358451a7a0d61",
}
"""Fingerprints of dezero's definitions, in 0.0.13 and the last versions of its repository."""


def serve(module: ModuleType, marks: Mapping[str, str], report: Report) -> None:
    """Let the functions of ``dezero.functions_conv`` compute on kernels.

    Parameters
    ----------
    module : module
        As the user's file has made it.
    marks : mapping of str to str
        Fingerprints of what the file defines; empty if the module no longer has it.
    report : Report
        Gets what is served and what is not.
    """
    known = {part for part, mark in KNOWN.items() if marks.get(part) == mark}
    served = []
    for name, (helper, make) in FORWARDS.items():
        parts = helper, f"{name}.__init__", f"{name}.forward"
        if parts[-1] not in marks:
            continue  # an edition that lacks it
        full = f"{module.__name__}.{name}"
        changed = [part for part in parts if part not in known]
        if changed:
            report.theirs[full] = f"your own, as {changed[0]} is not dezero's"
            continue
        kind = getattr(module, name)
        kind.forward = stand_in(make(module), kind.forward, _note(full, report))
        served.append(name)
    for name, make in COLUMNS.items():
        if name in known:
            note = _note(f"{module.__name__}.{name}", report)
            setattr(module, name, stand_in(make(module), getattr(module, name), note))
            served.append(name)
    if served:
        report.served[module.__name__] = served


def _note(full: str, report: Report) -> Callable[[str], None]:
    def note(reason: str) -> None:
        report.theirs.setdefault(full, f"dezero's code where it gets {reason}")

    return note


# ---- convolution ----------------------------------------------------------------------


def _conv2d(module: Any) -> Callable[..., Any]:
    def forward(self: Any, x: Any, W: Any, b: Any) -> Any:
        expect_arrays(4, x, W)
        stride, pad = _one(module, self.stride), _one(module, self.pad)
        if b is not None:
            if type(b) is not np.ndarray or b.shape != W.shape[:1] or b.dtype.kind != "f":
                raise Declined("a bias that is no vector of floats")
            b = b.astype(np.result_type(x, W), copy=False)
        _expect_windows(module, x.shape, W.shape[2:], stride, pad)
        return ops.conv2d_forward(x, W, b, stride, pad)[0]

    return forward


def _deconv2d(module: Any) -> Callable[..., Any]:
    def forward(self: Any, x: Any, W: Any, b: Any) -> Any:
        expect_arrays(4, x, W)
        stride, pad = _one(module, self.stride), _one(module, self.pad)
        filters, channels, kh, kw = W.shape
        n, _, oh, ow = x.shape
        if self.outsize is None:
            h = module.get_deconv_outsize(oh, kh, stride, pad)
            w = module.get_deconv_outsize(ow, kw, stride, pad)
        else:
            h, w = module.pair(self.outsize)
        geometry = _expect_windows(module, (n, channels, h, w), (kh, kw), stride, pad)
        if x.shape != geometry.output_shape(filters):
            raise Declined(f"an output size of {h} x {w}")
        dtype = common_dtype("deconv2d", x, W)
        backend = active()
        unread = empty_images(geometry.input_shape, dtype, backend.layout)
        context = ConvContext(backend.name, geometry, unread, filters)
        y = ops.conv2d_backward(x, W, context, weight_gradient=False)[0]
        if b is not None:
            y += b.reshape(1, -1, 1, 1)
        return y

    return forward


def _conv2d_weight_gradient(module: Any) -> Callable[..., Any]:
    def forward(self: Any, x: Any, gy: Any) -> Any:
        expect_arrays(4, x, gy)
        stride, pad = _one(module, self.stride), _one(module, self.pad)
        geometry = _expect_windows(module, x.shape, self.kernel_size, stride, pad)
        dtype, filters = common_dtype("conv2d backward", x, gy), gy.shape[1]
        unread = np.empty((filters, geometry.c, geometry.fh, geometry.fw), dtype)
        backend = active()
        kept = in_layout(x, dtype, backend.layout)
        context = ConvContext(backend.name, geometry, kept, filters)
        return ops.conv2d_backward(gy, unread, context, input_gradient=False)[1]

    return forward


# ---- pooling ----------------------------------------------------------------------------


def _pooling(module: Any) -> Callable[..., Any]:
    def forward(self: Any, x: Any) -> Any:
        self._fastconv = None
        padded, (kh, kw), stride = _padded(module, self, x)
        y, self._fastconv = ops.maxpool2d_forward(padded, kh, kw, stride)
        self.indexes = self._fastconv.winner
        return y

    return forward


def _pooling_gradient(module: Any) -> Callable[..., Any]:
    def forward(self: Any, gy: Any) -> Any:
        context = getattr(self.mpool2d, "_fastconv", None)
        if context is None:  # dezero's code did the pooling, and why was noted
            raise Declined
        expect_arrays(4, gy)
        padded = ops.maxpool2d_backward(gy, context)
        (ph, pw), (h, w) = module.pair(self.pad), self.input_shape[2:]
        return padded[:, :, ph : ph + h, pw : pw + w]

    return forward


def _padded(module: Any, pooling: Any, x: Any) -> tuple[Any, tuple[int, int], int]:
    """The padded images (here padding takes part in the maxima), and the window and stride."""
    expect_arrays(4, x)
    window, (ph, pw) = module.pair(pooling.kernel_size), module.pair(pooling.pad)
    stride = _one(module, pooling.stride)
    padded = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw))) if ph or pw else x
    _expect_windows(module, padded.shape, window, stride, 0)
    return padded, window, stride


# ---- columns -----------------------------------------------------------------------------


def _im2col(module: Any) -> Callable[..., Any]:
    def im2col_array(
        img: Any, kernel_size: Any, stride: Any, pad: Any, to_matrix: Any = True
    ) -> Any:
        if not to_matrix:
            raise Declined  # columns of six axes, which dezero fills row by row
        expect_arrays(4, img)
        (kh, kw), stride, pad = module.pair(kernel_size), _one(module, stride), _one(module, pad)
        _expect_windows(module, img.shape, (kh, kw), stride, pad)
        return ops.im2col(img, kh, kw, stride, pad)

    return im2col_array


def _col2im(module: Any) -> Callable[..., Any]:
    def col2im_array(
        col: Any, img_shape: Any, kernel_size: Any, stride: Any, pad: Any, to_matrix: Any = True
    ) -> Any:
        if not to_matrix:
            raise Declined
        expect_arrays(2, col)
        (kh, kw), stride, pad = module.pair(kernel_size), _one(module, stride), _one(module, pad)
        _expect_windows(module, img_shape, (kh, kw), stride, pad)
        return ops.col2im(col, img_shape, kh, kw, stride, pad)

    return col2im_array


# ---- what kernels take -----------------------------------------------------------------


def _one(module: Any, number: Any) -> int:
    """A stride or pad that is the same on both axes."""
    down, across = module.pair(number)
    if down != across:
        raise Declined(f"a stride or pad of {number}")
    return int(down)


def _expect_windows(
    module: Any, shape: tuple[int, ...], window: tuple[int, int], stride: int, pad: int
) -> WindowGeometry:
    """The geometry of the windows; the module's own function must count as many."""
    geometry = window_geometry("dezero", shape, window[0], window[1], stride, pad)
    count = module.get_conv_outsize
    oh = count(geometry.h, geometry.fh, stride, pad)
    if (oh, count(geometry.w, geometry.fw, stride, pad)) != (geometry.oh, geometry.ow):
        raise Declined("another number of windows from get_conv_outsize")
    return geometry


FORWARDS: dict[str, tuple[str, Callable[[Any], Callable[..., Any]]]] = {
    "Conv2d": ("im2col_array", _conv2d),
    "Deconv2d": ("col2im_array", _deconv2d),
    "Conv2DGradW": ("im2col_array", _conv2d_weight_gradient),
    "Pooling": ("im2col_array", _pooling),
    "Pooling2DGrad": ("col2im_array", _pooling_gradient),
}
"""Functions, each with the module's other functions that its ``forward`` calls."""

COLUMNS = {"col2im_array": _col2im, "im2col_array": _im2col}
"""Functions that users call directly, or through ``im2col`` and ``col2im``."""
