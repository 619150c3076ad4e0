"""Strides of two numbers, padding by side, and "same": their rules, and where they are seen.

The kernels compute with them in test_kernels, test_blocks, test_grouped, test_pooling, test_exact
and test_torch.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import ops
from fastconv.errors import ArgumentError, ShapeError
from fastconv.geometry import Pads, window_geometry
from fastconv.layers import AveragePooling, Convolution, Pooling, Relu
from fastconv.network import Network
from fastconv.network.fusion import ConvGroup, SingleLayer, fuse
from fastconv.network.summary import layer_facts

from . import naive
from .compare import assert_close


@pytest.mark.parametrize(
    ("size", "window", "stride", "dilation", "before", "after", "count"),
    [
        # tf.nn.conv2d(padding="SAME"); the larger half of an odd number is at the end
        (5, 3, 1, 1, 1, 1, 5),
        (5, 2, 1, 1, 0, 1, 5),
        (5, 4, 1, 1, 1, 2, 5),
        (224, 3, 2, 1, 0, 1, 112),
        (224, 7, 2, 1, 2, 3, 112),
        (7, 3, 2, 1, 1, 1, 4),
        (6, 1, 2, 1, 0, 0, 3),
        (6, 3, 4, 1, 0, 1, 2),
        (7, 2, 3, 1, 0, 1, 3),
        (9, 3, 1, 2, 2, 2, 9),
        (8, 2, 2, 3, 1, 1, 4),
    ],
)
def test_same(size, window, stride, dilation, before, after, count):
    g = window_geometry("test", (1, 1, size, 99), window, 1, stride, "same", dilation)
    assert (g.pads.top, g.pads.bottom, g.oh) == (before, after, count)
    g = window_geometry("test", (1, 1, 99, size), 1, window, stride, "same", dilation)
    assert (g.pads.left, g.pads.right, g.ow) == (before, after, count)


def test_numbers_that_mean_the_same_are_one_geometry():
    shape = (2, 3, 9, 8)
    one = window_geometry("test", shape, 3, 2, 2, 1)
    assert one.pads == Pads(top=1, left=1, bottom=1, right=1)
    assert (one.strides, one.stride, one.pad) == ((2, 2), 2, 1)
    for stride, pad in (((2, 2), 1), (2, (1, 1)), (np.int8(2), ((1, 1), (np.int64(1), 1)))):
        assert window_geometry("test", shape, 3, 2, stride, pad) == one
    g = window_geometry("test", shape, 3, 2, (1, 3), ((0, 2), (1, 0)))
    assert (g.pads, g.padded, g.oh, g.ow) == (Pads(0, 1, 2, 0), (11, 9), 9, 3)
    assert window_geometry("test", shape, 3, 2, 1, (2, 0)).pads == Pads(2, 0, 2, 0)


def test_who_reads_one_number_where_there_are_two_is_refused():
    """So a backend that knows one stride and one pad computes nothing wrong."""
    g = window_geometry("test", (1, 1, 9, 9), 3, 3, (1, 2), ((0, 1), (0, 1)))
    assert not g.one_stride
    with pytest.raises(ArgumentError, match="windows move 1 down and 2 across"):
        _ = g.stride
    with pytest.raises(ArgumentError, match=r"Pads\(top=0, left=0, bottom=1, right=1\)"):
        _ = g.pad


@pytest.mark.parametrize(
    ("stride", "pad", "said"),
    [
        ((1, 0), 0, "stride across must be at least 1, got 0"),
        ((1, 2, 3), 0, r"stride must be a number or \(down, across\), got \(1, 2, 3\)"),
        ([1, 2], 0, r"stride must be a whole number, got \[1, 2\]"),
        ((1.5, 1), 0, "stride down must be a whole number, got 1.5"),
        (1, (0, -1), "pad left must be at least 0, got -1"),
        (1, ((0, 1), (-2, 0)), "pad left must be at least 0, got -2"),
        (1, ((0, "1"), 0), "pad bottom must be a whole number, got '1'"),
        (1, (1, 2, 3, 4), r"pad must be a number, \(down, across\) or"),
        (1, ((1, 2, 3), 0), "pad has two sides on each axis"),
        (1, "valid", "pad must be numbers or 'same', got 'valid'"),
    ],
)
def test_what_is_no_stride_and_no_padding(stride, pad, said):
    with pytest.raises(ArgumentError, match=f"^test: {said}"):
        window_geometry("test", (1, 1, 9, 9), 3, 3, stride, pad)
    with pytest.raises(ArgumentError, match=said):
        Pooling(3, 3, stride, pad).forward(np.zeros((1, 1, 9, 9)))


def test_the_sides_of_a_window_that_is_too_large_are_told():
    with pytest.raises(ShapeError, match=r"1 \+ 3 \+ 0 = 4 high, 4 \+ 2\*1 = 6 wide"):
        window_geometry("test", (1, 1, 3, 4), 5, 2, 1, ((1, 0), (1, 1)))


def test_a_pool_may_be_padded_further_along_its_longer_axis(backend):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 6))
    pool = Pooling(2, 5, 1, (1, 4), backend)
    np.testing.assert_array_equal(pool.forward(x), naive.maxpool2d(x, 2, 5, 1, ((1, 1), (4, 4)))[0])
    for pad in ((2, 0), ((0, 2), (0, 0)), ((0, 0), (0, 5))):
        with pytest.raises(ShapeError, match=r"must be smaller than the window \(2 x 5\)"):
            Pooling(2, 5, 1, pad, backend).forward(x)


def test_only_two_strides_leave_the_plain_kernels():
    """Padding by side is theirs, with all that is fused and all algorithms."""
    weight = np.zeros((4, 3, 3, 3), np.float32)

    def groups(stride, pad):
        row = [Convolution(weight, None, stride, pad, "numba"), Relu("numba")]
        return [type(group) for group in fuse(row, True)]

    assert groups(1, "same") == groups((2, 2), ((0, 1), (0, 1))) == [ConvGroup]
    assert groups((2, 1), 1) == [SingleLayer, SingleLayer]


@pytest.mark.parametrize("weight_gradient", [True, False])
def test_operations_take_two_strides_as_layers_do(backend, weight_gradient):
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((5, 3, 3, 2))
    window = (2, 3), ((0, 1), (2, 0))
    out, context = ops.conv2d_forward(x, weight, None, *window, backend)
    assert_close(out, naive.conv2d(x, weight, np.zeros(5), *window), dtype=x.dtype)
    dout = rng.standard_normal(out.shape)
    got = ops.conv2d_backward(dout, weight, context, weight_gradient=weight_gradient)
    expected = naive.conv2d_gradients(dout, x, weight, *window)
    for ours, theirs in zip(got[: 1 + 2 * weight_gradient], expected, strict=False):
        assert_close(ours, theirs, dtype=x.dtype)
    assert weight_gradient or got[1:] == (None, None)


def test_columns_of_a_layer(backend):
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((2, 3, 6, 7)), rng.standard_normal((4, 3, 2, 3))
    layer = Convolution(weight, None, (2, 1), "same", backend)
    out = layer.forward(x)
    rows = layer.col @ layer.col_W
    assert_close(rows.reshape(2, 3, 7, 4).transpose(0, 3, 1, 2), out, dtype=x.dtype)
    assert (layer.stride, layer.pad) == ((2, 1), "same")


def test_they_are_shown():
    layers = [
        Convolution(np.zeros((4, 2, 3, 3), np.float32), None, (2, 1), "same"),
        Pooling(2, 2, (2, 1)),
        AveragePooling(3, 1, 2, (1, 0)),
    ]
    facts = layer_facts(Network(layers), (2, 64, 64))
    assert [fact.kind for fact in facts] == [
        "Convolution 3x3/2x1",
        "Pooling 2x2/2x1",
        "AveragePooling 3x1/2",
    ]
    # Down: 3, 3 + 1*2, 5 + 2*4; across: 3, 3 + 1*1, 4.
    assert [fact.receptive_field for fact in facts] == [3, 5, 13]
    prepared = Network(layers).prepare((1, 2, 64, 64))
    assert "conv2d 3x3/2x1" in str(prepared.description)
