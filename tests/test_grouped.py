"""Convolutions with groups and dilation: kernels, operations, the layer, and networks of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastconv
from fastconv import ops, selection
from fastconv.errors import ArgumentError, ShapeError
from fastconv.geometry import window_geometry
from fastconv.layers import Affine, Convolution, Relu
from fastconv.network import Network
from fastconv.network.executor import describe
from fastconv.network.fusion import fuse
from fastconv.testing import call_kernel

from . import naive_grouped as naive
from .compare import assert_close
from .geometries import SEEDS, THREADS, moved, numbers, paddings, whole_numbers

pytestmark = pytest.mark.usefixtures("fine_grained")

# Channels and filters of a group, and the number of groups.
GROUPS = st.sampled_from(
    [(1, 1, 1), (1, 1, 7), (1, 1, 33), (1, 2, 5), (3, 2, 1), (4, 4, 8), (5, 3, 3), (8, 17, 2)]
)


@st.composite
def problems(draw: st.DrawFn):
    """(geometry, filters, groups): dilated, or in groups, or both; pads beyond the window."""
    c, fn, groups = draw(GROUPS)
    fh, fw, dilation = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    down, pad = draw(st.integers(1, 3)), draw(paddings(4, 4))
    stride = down, draw(st.one_of(st.just(down), st.integers(1, 3)))
    span_h, span_w = dilation * (fh - 1) + 1, dilation * (fw - 1) + 1
    h = draw(st.integers(max(1, span_h - sum(pad[0])), span_h + 4))
    w = draw(st.integers(max(1, span_w - sum(pad[1])), span_w + 9))
    shape = (draw(st.integers(0, 2)), c * groups, h, w)
    return window_geometry("test", shape, fh, fw, stride, pad, dilation), fn * groups, groups


def drawn(draw, g, filters, groups):
    """x, weight, bias and dout."""
    weight = draw(filters, g.c // groups, g.fh, g.fw)
    return draw(*g.input_shape), weight, draw(filters), draw(*g.output_shape(filters))


def numbers_of(g, groups):
    return *moved(g), g.dilation, groups


@settings(max_examples=40)
@given(problems(), SEEDS, THREADS)
def test_forward(backend, dtype, problem, seed, threads):
    g, filters, groups = problem
    x, weight, bias, _ = drawn(numbers(seed, dtype), g, filters, groups)
    fastconv.set_num_threads(threads)
    given_ = {"x": x, "weight": weight, "bias": bias, "geometry": g, "groups": groups}
    out = call_kernel(selection.active(backend), "conv2d_grouped_forward", **given_)["out"]
    assert_close(out, naive.conv2d(x, weight, bias, *numbers_of(g, groups)), dtype=dtype)


@settings(max_examples=40)
@given(problems(), SEEDS, THREADS, st.booleans())
def test_backward(backend, dtype, problem, seed, threads, input_gradient):
    g, filters, groups = problem
    x, weight, _, dout = drawn(numbers(seed, dtype), g, filters, groups)
    fastconv.set_num_threads(threads)
    given_ = {"dout": dout, "x": x, "weight": weight, "geometry": g, "groups": groups}
    if not input_gradient:
        given_["dx"] = None
    got = call_kernel(selection.active(backend), "conv2d_grouped_backward", **given_)
    dx, dweight, dbias = naive.conv2d_gradients(dout, x, weight, *numbers_of(g, groups))
    assert ("dx" in got) == input_gradient
    # With few terms of both signs a sum may be small; its error is relative to its terms.
    if input_gradient:
        assert_close(got["dx"], dx, dtype=dtype, scale=np.abs(dout).sum())
    assert_close(got["dweight"], dweight, dtype=dtype, scale=np.abs(dout).sum())
    assert_close(got["dbias"], dbias, dtype=dtype, scale=np.abs(dout).sum())


@settings(max_examples=25)
@given(problems(), SEEDS)
def test_whole_numbers_are_exact(backend, dtype, problem, seed):
    g, filters, groups = problem
    x, weight, bias, dout = drawn(whole_numbers(seed, dtype), g, filters, groups)
    settings_ = numbers_of(g, groups)
    out, context = ops.conv2d_grouped_forward(x, weight, bias, *settings_, backend)
    np.testing.assert_array_equal(out, naive.conv2d(x, weight, bias, *settings_))
    got = ops.conv2d_grouped_backward(dout, weight, context)
    expected = naive.conv2d_gradients(dout, x, weight, *settings_)
    for result, exact in zip(got, expected, strict=True):
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, exact)


def test_without_groups_and_dilation_it_is_the_plain_convolution(backend, dtype):
    draw = numbers(0, dtype)
    x, weight, bias = draw(2, 5, 7, 6), draw(9, 5, 3, 3), draw(9)
    out, context = ops.conv2d_grouped_forward(x, weight, bias, 2, 1, backend=backend)
    plain, plain_context = ops.conv2d_forward(x, weight, bias, 2, 1, backend)
    assert_close(out, plain, dtype=dtype)
    got = ops.conv2d_grouped_backward(plain, weight, context)
    for result, expected in zip(
        got, ops.conv2d_backward(plain, weight, plain_context), strict=True
    ):
        assert_close(result, expected, dtype=dtype)


# Shapes from real networks: (C, FN, H, W), window, stride, pad, dilation, groups.
NETWORKS = {
    "MobileNet": ((32, 32, 14, 13), 3, 1, 1, 1, 32),
    "MobileNet, stride 2": ((48, 48, 13, 14), 3, 2, 1, 1, 48),
    "EfficientNet": ((20, 20, 9, 9), 5, 2, 2, 1, 20),
    "ResNeXt": ((128, 128, 9, 8), 3, 1, 1, 1, 32),
    "ResNeXt, stride 2": ((64, 64, 8, 8), 3, 2, 1, 1, 4),
    "AlexNet": ((16, 24, 9, 9), 5, 1, 2, 1, 2),
    "DeepLab": ((24, 16, 11, 12), 3, 1, 4, 4, 1),
    "dilated and strided": ((24, 16, 11, 12), 3, 2, 2, 2, 1),
    "dilated and depthwise": ((19, 19, 11, 12), 3, 1, 2, 2, 19),
    "a multiplier of 2": ((12, 24, 7, 7), 3, 1, 1, 1, 12),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_pytorch_agrees(backend, dtype, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    (c, fn, h, w), size, stride, pad, dilation, groups = NETWORKS[name]
    draw = numbers(3, dtype)
    x, weight, bias = draw(2, c, h, w), draw(fn, c // groups, size, size), draw(fn)
    tensors = [torch.from_numpy(array).requires_grad_() for array in (x, weight, bias)]
    expected = torch.nn.functional.conv2d(*tensors, stride, pad, dilation, groups)
    layer = Convolution(weight, bias, stride, pad, backend, dilation=dilation, groups=groups)
    out = layer.forward(x)
    assert_close(out, expected.detach().numpy(), dtype=dtype)
    dout = draw(*out.shape)
    expected.backward(torch.from_numpy(dout))
    for got, tensor in zip((layer.backward(dout), layer.dW, layer.db), tensors, strict=True):
        assert_close(got, tensor.grad.numpy(), dtype=dtype)


@pytest.mark.parametrize("groups", [1, 4])
def test_a_network_trains_with_it(backend, groups):
    """It runs layer by layer, is never fused, and `describe` names no algorithm for it."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.standard_normal(shape).astype(np.float32) / 4

    layers = [
        Convolution(weights(8, 1, 3, 3), np.zeros(8, np.float32), pad=1),
        Relu(),
        Convolution(weights(8, 8 // groups, 3, 3), None, 1, 2, dilation=2, groups=groups),
        Relu(),
        Affine(weights(8 * 36, 3)),
    ]
    network = Network(layers, backend=backend)
    assert list(network.params) == ["W1", "b1", "W2", "W3"]
    fused = [len(group.layers) > 1 for group in fuse(layers, train_flg=True)]
    assert fused[-3:] == [False] * 3
    facts = describe(layers, (2, 1, 6, 6), np.float32)
    assert facts[-3].algorithms is None and facts[-3].output_shape == (2, 8, 6, 6)
    x, t = rng.random((6, 1, 6, 6)), np.arange(6) % 3
    before = network.loss(x, t)
    for _ in range(5):
        for key, gradient in network.gradient(x, t).items():
            network.params[key] -= 0.05 * gradient
    assert network.loss(x, t) < 0.9 * before


def test_a_nan_reaches_every_output_that_it_is_in(backend, dtype):
    x = np.ones((1, 8, 7, 7), dtype)
    x[0, 5, 3, 3] = np.nan
    for groups, dilation in ((8, 1), (2, 1), (1, 2)):
        layer = Convolution(
            np.ones((8, 8 // groups, 3, 3), dtype),
            backend=backend,
            dilation=dilation,
            groups=groups,
        )
        expected = naive.conv2d(x, layer.W, np.zeros(8), 1, 0, dilation, groups)
        assert not np.isfinite(layer.forward(x)[np.isnan(expected)]).any()


@pytest.mark.parametrize(
    ("weight", "options", "error", "message"),
    [
        ((4, 3, 3, 3), {"groups": 2}, ShapeError, "weight expects 3 in each of 2 groups"),
        ((3, 2, 3, 3), {"groups": 2}, ShapeError, "3 filters do not fall into 2 groups"),
        ((4, 4, 3, 3), {"groups": 0}, ArgumentError, "groups must be at least 1, got 0"),
        ((4, 4, 3, 3), {"groups": 2.0}, ArgumentError, "groups must be a whole number"),
        ((4, 4, 3, 3), {"dilation": 0}, ArgumentError, "dilation must be at least 1, got 0"),
        ((4, 4, 3, 3), {"dilation": "2"}, ArgumentError, "dilation must be a whole number"),
        (
            (4, 4, 3, 3),
            {"dilation": 3},
            ShapeError,
            "window of 3 x 3, dilated to 7 x 7, is larger than the padded image: 6",
        ),
    ],
)
def test_bad_calls(weight, options, error, message):
    with pytest.raises(error, match=f"conv2d: .*{message}"):
        Convolution(np.ones(weight), np.zeros(len(weight)), **options).forward(
            np.ones((1, 4, 6, 6))
        )


def test_bad_gradients(backend):
    layer = Convolution(np.ones((4, 1, 3, 3)), backend=backend, groups=4)
    layer.forward(np.ones((2, 4, 6, 5)))
    with pytest.raises(ShapeError, match=r"dout has shape \(2, 4, 6, 5\), expected \(2, 4, 4, 3\)"):
        layer.backward(np.ones((2, 4, 6, 5)))
    layer.W = np.ones((4, 4, 3, 3))
    with pytest.raises(ShapeError, match=r"weight has shape .*, expected \(4, 1, 3, 3\)"):
        layer.backward(np.ones((2, 4, 4, 3)))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("window", [(1, 1, 1), (2, 1, 1), (1, 2, 2)], ids=str)
@pytest.mark.parametrize("sizes", [(12, 12, 4), (12, 8, 4), (9, 15, 3), (10, 20, 5), (6, 6, 6)])
def test_what_is_not_finite_stays_in_its_group(backend, dtype, sizes, window, value):
    """And in its image: in the output, and in the gradients of the input and the weights."""
    (c, filters, groups), (stride, pad, dilation) = sizes, window
    own, mine = slice(c // groups, None), slice(filters // groups, None)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, c, 5, 6)).astype(dtype)
    weight = rng.standard_normal((filters, c // groups, 3, 3)).astype(dtype)
    arguments = (np.zeros(filters, dtype), stride, pad, dilation, groups)
    x[0, 0, 2, 3] = value
    out, context = ops.conv2d_grouped_forward(x, weight, *arguments, backend)
    expected = np.isfinite(naive.conv2d(x, weight, *arguments))
    np.testing.assert_array_equal(np.isfinite(out), expected)
    assert expected[0, mine].all() and not expected[0].all()
    dout = rng.standard_normal(out.shape).astype(dtype)
    _, dweight, dbias = ops.conv2d_grouped_backward(dout, weight, context)
    assert np.isfinite(dweight[mine]).all() and np.isfinite(dbias).all()
    assert np.isfinite(dweight[:, 1:]).all() and not np.isfinite(dweight).all()

    x[0, 0, 2, 3] = 1
    dout[0, 0, 0, 0] = value
    _, context = ops.conv2d_grouped_forward(x, weight, *arguments, backend)
    dx, dweight, dbias = ops.conv2d_grouped_backward(dout, weight, context)
    assert np.isfinite(dx[1]).all() and np.isfinite(dx[0, own]).all()
    assert not np.isfinite(dx[0]).all()
    assert np.isfinite(dweight[1:]).all() and np.isfinite(dbias[1:]).all()


def test_groups_of_finite_numbers_whose_sum_is_not(backend):
    """Numbers near float32's largest, whose infinite sum must not be taken for NaN."""
    x = np.full((1, 8, 5, 5), 2e38, np.float32)
    weight = np.full((8, 2, 1, 1), 0.25, np.float32)
    out, _ = ops.conv2d_grouped_forward(x, weight, None, 1, 0, 1, 4, backend)
    np.testing.assert_allclose(out, np.full(out.shape, 1e38), rtol=1e-6)
