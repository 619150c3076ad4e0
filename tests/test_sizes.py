"""Whole numbers that are far too large: an error comes before a kernel multiplies them."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import DeepConvNet, ops
from fastconv.errors import ArgumentError, FastconvError, OutOfMemory, ShapeError
from fastconv.geometry import LARGEST, window_geometry
from fastconv.layers import (
    AdaptiveAveragePooling,
    AveragePooling,
    Convolution,
    Dropout,
    LocalResponseNormalization,
    Pooling,
    Subsampling,
)
from fastconv.models import make_model
from fastconv.network.views import View
from fastconv.training.augment import Augmentation
from fastconv.util import conv_output_size

BEYOND = [2**31, 2**32, 2**53, 2**61, 2**62, 2**62 + 1, 2**63, 2**64, 10**300, -1, -(2**64)]
NO_NUMBERS = [2.0, "2", None, np.float32(2), [2]]


def x(c=3):
    return np.arange(2 * c * 36, dtype=np.float32).reshape(2, c, 6, 6) / 100


def conv(value, name):
    options = {"stride": 1, "pad": 0, "dilation": 1, "groups": 1} | {name: value}
    return Convolution(np.ones((3, 3, 2, 2), "f4"), None, **options)


CALLS = {
    "conv stride": lambda v: conv(v, "stride").forward(x()),
    "conv pad": lambda v: conv(v, "pad").forward(x()),
    "conv dilation": lambda v: conv(v, "dilation").forward(x()),
    "conv groups": lambda v: conv(v, "groups").forward(x()),
    "block stride": lambda v: ops.conv2d_block_forward(x(), np.ones((3, 3, 2, 2)), None, v),
    "max window": lambda v: Pooling(v, 2).forward(x()),
    "max stride": lambda v: Pooling(2, 2, v).forward(x()),
    "max pad": lambda v: Pooling(2, 2, 1, v).forward(x()),
    "average window": lambda v: AveragePooling(2, v).forward(x()),
    "average stride": lambda v: AveragePooling(2, 2, v).forward(x()),
    "adaptive": lambda v: AdaptiveAveragePooling(v, 1).forward(x()),
    "lrn": lambda v: LocalResponseNormalization(v).forward(x()),
    "im2col window": lambda v: ops.im2col(x(), v, 1),
    "im2col stride": lambda v: ops.im2col(x(), 2, 2, v),
    "im2col pad": lambda v: ops.im2col(x(), 2, 2, 1, v),
    "col2im images": lambda v: ops.col2im(np.ones((1, 1)), (v, 1, 1, 1), 1, 1),
    "col2im height": lambda v: ops.col2im(np.ones((1, 1)), (1, 1, v, 1), 1, 1, LARGEST),
    "subsampling stride": lambda v: Subsampling(v, 0).forward(x()),
    "subsampling channels": lambda v: Subsampling(1, v).forward(x()),
    "threads": lambda v: fastconv.set_num_threads(v) if v is not None else _fails(),
    "filters": lambda v: DeepConvNet(
        conv_param_1={"filter_num": v, "filter_size": 3, "pad": 1, "stride": 1}
    ),
    "hidden": lambda v: DeepConvNet(hidden_size=v),
    "classes": lambda v: make_model("lenet", (1, 28, 28), v),
    "batch size": lambda v: DeepConvNet(seed=0).accuracy(np.zeros((0, 1, 28, 28)), [], v),
    "cutout": lambda v: Augmentation(cutout=v),
    "crop": lambda v: Augmentation(crop=v),
}


def _fails():
    raise ArgumentError("None is a choice here")


@pytest.mark.parametrize("value", [*BEYOND, *NO_NUMBERS], ids=str)
@pytest.mark.parametrize("call", CALLS)
def test_far_too_large_numbers_are_errors(call, value):
    with pytest.raises((ArgumentError, ShapeError)) as caught:
        CALLS[call](value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [np.int64(2), np.uint8(2), np.array(2), 2])
def test_whole_numbers_of_numpy_are_numbers(backend, value):
    got = Pooling(value, value, value, backend=backend).forward(x())
    np.testing.assert_array_equal(got, Pooling(2, 2, 2, backend="numpy").forward(x()))
    g = window_geometry("test", (1, 1, 6, 6), value, value, value)
    assert {type(number) for number in (g.fh, g.fw, g.stride)} == {int}
    assert type(window_geometry("test", (1, 1, 6, 6), True, 1, True).stride) is int


def test_a_stride_as_large_as_may_be_leaves_one_window(backend):
    weight = np.ones((2, 3, 2, 2), np.float32)
    got = Convolution(weight, None, LARGEST, backend=backend).forward(x())
    corner = x()[:, :, :2, :2].sum((1, 2, 3)).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(got, np.tile(corner, (1, 2, 1, 1)), rtol=1e-6)
    got = Pooling(2, 2, LARGEST, backend=backend).forward(x())
    np.testing.assert_array_equal(got, x()[:, :, 1:2, 1:2])


@pytest.mark.parametrize(
    "call",
    [
        lambda b: Convolution(np.ones((1, 3, 1, 1)), None, 1, 2**30, backend=b).forward(x()),
        lambda b: Convolution(np.ones((1, 3, 1, 1)), None, 2**30, 2**30, backend=b).forward(x()),
        lambda b: Convolution(np.ones((1, 3, 1, 1)), None, 1, 10**8, backend=b).forward(x()[:0]),
        lambda b: ops.im2col(x(), 2, 2, 2**30, 2**30, backend=b),
        lambda b: Pooling(2**20, 2**20, 1, 2**19, backend=b).forward(x()),
        lambda b: AdaptiveAveragePooling(LARGEST, LARGEST, backend=b).forward(x()),
        lambda b: ops.col2im(np.ones((1, 1)), (1, 1, 2**30, 2**30), 1, 1, LARGEST, backend=b),
        lambda b: Subsampling(1, LARGEST - 1, backend=b).forward(
            np.broadcast_to(0.0, (9, 1, 99, 99))
        ),
        lambda b: make_model("lenet", (1, 28, 28), LARGEST),
        lambda b: DeepConvNet(hidden_size=LARGEST),
    ],
)
def test_impossible_outputs_are_errors(backend, call):
    """The error names their shape; it is not NumPy's or a kernel's complaint about memory."""
    with pytest.raises((ShapeError, OutOfMemory)):
        call(backend)
    assert issubclass(OutOfMemory, FastconvError) and issubclass(OutOfMemory, MemoryError)


@pytest.mark.parametrize("size", [1, 2, 5, 6, 7, 11, 13, 1000, 2**24 + 1, LARGEST])
def test_a_window_of_lrn_that_is_larger_than_the_channels(backend, size):
    """The sum is over the existing channels; only the divisor depends on the size."""
    channels = x(6).astype(np.float64)
    alpha, beta, k = 3.0 * size, 0.75, 2.0
    out, context = ops.lrn_forward(channels, size, alpha, beta, k, backend)
    squares = np.zeros_like(channels)
    for c in range(6):
        low, high = max(0, c - size // 2), min(6, c + (size - 1) // 2 + 1)
        squares[:, c] = (channels[:, low:high] ** 2).sum(axis=1)
    np.testing.assert_allclose(out, channels * (k + 3.0 * squares) ** -beta, rtol=1e-12)
    assert context.size <= 12


def test_geometries_of_floats_do_not_stay_in_the_cache():
    """A caller's shapes are turned into whole numbers before they are cached."""
    shape = (1.0, 1.0, 7.0, 7.0)
    with pytest.raises(ArgumentError, match="must be a whole number"):
        ops.col2im(np.ones((36, 4)), shape, 2, 2)
    g = window_geometry("col2im", (1, 1, 7, 7), 2, 2)
    assert all(type(number) is int for number in g.input_shape)


@pytest.mark.parametrize("arguments", [(10**400, 1, 3), (5, 3, 0), (10**400, 1)])
def test_conv_output_size_has_a_message(arguments):
    with pytest.raises(ArgumentError, match="conv_output_size: the output has no size"):
        conv_output_size(*arguments)


@pytest.mark.parametrize("ratio", [-0.1, 1.5, 50, np.nan, 10**400, "0.5", None])
def test_invalid_ratios_of_dropout(ratio):
    with pytest.raises(ArgumentError, match="dropout_ratio must be"):
        Dropout(ratio)


@pytest.mark.parametrize("name", ["alpha", "beta", "k"])
@pytest.mark.parametrize("value", ["1", None, 10**400, [1, 2]])
def test_invalid_numbers_of_lrn(name, value):
    with pytest.raises(ArgumentError, match=f"lrn: {name} must be a number"):
        LocalResponseNormalization(**{name: value}).forward(x())


def test_taps_that_reach_beyond_the_image_cost_nothing(backend):
    taps = np.linspace(1, 2, 2**20 + 1)
    got = ops.smooth(x().astype(float), taps, backend)
    expected = ops.smooth(x().astype(float), taps[2**19 - 5 : 2**19 + 6], backend)
    np.testing.assert_array_equal(got, expected)


def test_views_of_any_distance():
    np.testing.assert_array_equal(View(down=LARGEST).of(x()), 0)
    with pytest.raises(ArgumentError, match="down must be at most"):
        View(down=2**31)
