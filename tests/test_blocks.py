"""Convolutions by every algorithm, alone and with the ReLU and pooling of a block.

Expectations come from the loops of `naive`, one operation after another.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import config, selection
from fastconv.backends.algorithms import ALGORITHMS, CONSTANT, choose, forward_by
from fastconv.errors import ArgumentError, DTypeError, ShapeError
from fastconv.geometry import WindowGeometry, window_geometry
from fastconv.ops import conv2d_block_backward, conv2d_block_forward
from fastconv.testing import call_kernel

from . import naive
from .compare import assert_close
from .geometries import (
    CHANNELS,
    SEEDS,
    THREADS,
    geometries,
    moved,
    numbers,
    paddings,
    whole_numbers,
)
from .took import runs_by

pytestmark = pytest.mark.usefixtures("fine_grained")

FORCED = st.sampled_from(ALGORITHMS)


@st.composite
def three_by_three(draw: st.DrawFn) -> WindowGeometry:
    """Geometries for Winograd's algorithms: tiles hang over the image in all ways."""
    pad = draw(paddings(2, 2))
    h, w = (draw(st.integers(max(1, 3 - sum(axis)), 19)) for axis in pad)
    shape = draw(st.integers(0, 3)), draw(CHANNELS), h, w
    return window_geometry("test", shape, 3, 3, 1, pad)


def forced(backend: str, algorithm: str, threads: int):
    fastconv.set_num_threads(threads)
    config.set_conv_algorithm(algorithm)
    return selection.active(backend)


def exact(algorithm: str) -> str:
    """An algorithm that is exact on whole numbers: only the smallest tiles do not round them."""
    return "winograd2" if algorithm in ("winograd2x4", "winograd4") else algorithm


# ---- against the loops ------------------------------------------------------------------


@given(three_by_three(), CHANNELS, SEEDS, THREADS, FORCED)
def test_convolution_by_every_algorithm(backend, dtype, g, filters, seed, threads, algorithm):
    draw = numbers(seed, dtype)
    x, weight, bias = draw(*g.input_shape), draw(filters, g.c, 3, 3), draw(filters)
    dout = draw(*g.output_shape(filters))
    table = forced(backend, algorithm, threads)
    with runs_by(table, algorithm, g):
        out = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)
    assert_close(out["out"], naive.conv2d(x, weight, bias, *moved(g)), dtype=dtype)
    with runs_by(table, algorithm, g):
        out = call_kernel(table, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
    dx, dweight, dbias = naive.conv2d_gradients(dout, x, weight, *moved(g))
    assert_close(out["dx"], dx, dtype=dtype)
    # A sum over few pixels may cancel; its rounding is that of its terms.
    term = np.abs(x).max(initial=0) * np.abs(dout).max(initial=0)
    scale = max(np.abs(dweight).max(initial=0), term) or None
    assert_close(out["dweight"], dweight, dtype=dtype, scale=scale)
    assert_close(out["dbias"], dbias, dtype=dtype, scale=np.abs(dout).max(initial=0) or None)


def block_by_loops(x, weight, bias, g, pool):
    """(out, winner or None) of ReLU, then pooling, of the convolution."""
    out, mask = naive.relu(naive.conv2d(x, weight, bias, *moved(g)))
    if not pool:
        return out, mask
    out, winner = naive.maxpool2d(out, 2, 2, 2, 0)
    return out, np.where(out > 0, winner, 4)


def gradient_by_loops(dout, gate, g, filters, pool):
    """The gradient that reaches the convolution: `dout` through the mask, or to the winners."""
    if not pool:
        return np.where(gate > 0, dout, 0)
    shape = g.output_shape(filters)
    won = np.where(gate == 4, 0, gate)
    return naive.maxpool2d_gradient(np.where(gate == 4, 0, dout), won, shape, 2, 2, 0)


@given(st.one_of(three_by_three(), geometries()), CHANNELS, SEEDS, THREADS, FORCED, st.booleans())
def test_block(backend, dtype, g, filters, seed, threads, algorithm, pool):
    pool = pool and min(g.oh, g.ow) > 1
    # Whole numbers: rounding does not decide which place is the maximum, and there are ties.
    draw = whole_numbers(seed, dtype)
    x, weight, bias = draw(*g.input_shape), draw(filters, g.c, g.fh, g.fw), draw(filters)
    images = {"x": x, "weight": weight, "geometry": g, "pool": pool}
    table = forced(backend, exact(algorithm), threads)
    plain = {"bias": bias, "residual": None, "relu": True}
    kept = {} if pool else {"winner": None}
    with runs_by(table, exact(algorithm), g):
        got = call_kernel(table, "conv2d_block_forward", **images, **plain, **kept)
    out, gate = block_by_loops(x, weight, bias, g, pool)
    np.testing.assert_array_equal(got["out"], out)
    if pool:
        np.testing.assert_array_equal(got["winner"], gate)
    again = call_kernel(table, "conv2d_block_forward", **images, **plain, winner=None)
    np.testing.assert_array_equal(again["out"], out)

    table = forced(backend, algorithm, threads)
    dout = numbers(seed, dtype)(*out.shape)
    given_gate = gate.astype(np.uint8) if pool else out.astype(dtype)
    given = {"dout": dout, "gate": given_gate}
    with runs_by(table, algorithm, g):
        got = call_kernel(table, "conv2d_block_backward", **images, **given)
    inner = gradient_by_loops(dout, gate, g, filters, pool)
    dx, dweight, dbias = naive.conv2d_gradients(inner, x, weight, *moved(g))
    largest = np.abs(dout).max(initial=0)
    # The scale is the largest value, or the largest term if few terms cancel.
    for name, gradient, factor in (("dx", dx, weight), ("dweight", dweight, x)):
        term = largest * np.abs(factor).max(initial=0)
        scale = max(np.abs(gradient).max(initial=0), term) or None
        assert_close(got[name], gradient, dtype=dtype, scale=scale)
    assert_close(got["dbias"], dbias, dtype=dtype, scale=largest or None)


@given(st.one_of(three_by_three(), geometries()), CHANNELS, SEEDS, THREADS, FORCED, st.booleans())
def test_residual(backend, dtype, g, filters, seed, threads, algorithm, relu):
    """`call_kernel` checks that the kernel writes only to its output."""
    draw = numbers(seed, dtype)
    x, weight, bias = draw(*g.input_shape), draw(filters, g.c, g.fh, g.fw), draw(filters)
    residual = draw(*g.output_shape(filters))
    expected = naive.conv2d(x, weight, bias, *moved(g)) + residual
    # Where the sum cancels, its error is relative to its terms.
    scale = max(np.abs(residual).max(initial=0), np.abs(expected - residual).max(initial=0))
    given = {"x": x, "weight": weight, "bias": bias, "residual": residual, "geometry": g}
    table = forced(backend, algorithm, threads)
    with runs_by(table, algorithm, g):
        got = call_kernel(
            table, "conv2d_block_forward", **given, relu=relu, pool=False, winner=None
        )
    wanted = naive.relu(expected)[0] if relu else expected
    assert_close(got["out"], wanted, dtype=dtype, scale=scale or None)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("filters", [1, 15, 16, 17, 33, 80])
def test_residual_of_whole_numbers_is_added_exactly(backend, dtype, rng, algorithm, filters):
    """For tiles of every kind and their edges, in channels, rows and columns; a NaN stays."""
    for g in (
        window_geometry("test", (2, 5, 13, 10), 3, 3, 1, 1),
        window_geometry("test", (1, 5, 13, 10), 1, 1, 1, 0),
        window_geometry("test", (1, 5, 13, 10), 3, 3, 2, 1),
    ):
        x = rng.integers(-2, 3, g.input_shape).astype(dtype)
        weight = rng.integers(-2, 3, (filters, g.c, g.fh, g.fw)).astype(dtype)
        bias = rng.integers(-2, 3, filters).astype(dtype)
        residual = rng.integers(-9, 9, g.output_shape(filters)).astype(dtype)
        residual[0, filters - 1, 2, 1] = np.nan
        table = forced(backend, exact(algorithm), 2)
        images = {"x": x, "weight": weight, "bias": bias, "residual": residual, "geometry": g}
        with runs_by(table, exact(algorithm), g):
            got = call_kernel(
                table, "conv2d_block_forward", **images, relu=True, pool=False, winner=None
            )["out"]
        expected = naive.conv2d(x, weight, bias, *moved(g)) + residual
        np.testing.assert_array_equal(got, np.where(expected <= 0, 0, expected))


def test_sparse_gradient_of_nothing_is_nothing(table, dtype):
    g = window_geometry("test", (2, 16, 8, 8), 3, 3, 1, 1)
    closed = np.full((2, 16, 4, 4), 4, np.uint8)
    x, weight = np.ones(g.input_shape, dtype), np.ones((16, 16, 3, 3), dtype)
    dout = np.full((2, 16, 4, 4), np.nan, dtype)
    got = call_kernel(
        table,
        "conv2d_block_backward",
        dout=dout,
        gate=closed,
        x=x,
        weight=weight,
        geometry=g,
        pool=True,
    )
    for name, gradient in got.items():
        assert not gradient.any(), name


# ---- NaN and infinity -------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd2x4", "winograd4"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_broken_pixel_stays_near_its_windows(backend, dtype, rng, algorithm, value):
    """A tile computes several outputs from shared sums; outputs beyond the tile are unaffected."""
    table = forced(backend, algorithm, 1)
    g = window_geometry("test", (2, 17, 16, 16), 3, 3, 1, 1)
    x = rng.standard_normal(g.input_shape).astype(dtype)
    x[1, 16, 8, 8] = value
    weight, bias = rng.standard_normal((18, 17, 3, 3)).astype(dtype), np.zeros(18, dtype)
    given = {"x": x, "weight": weight, "bias": bias, "geometry": g}
    with runs_by(table, algorithm, g):
        out = call_kernel(table, "conv2d_forward", **given)["out"]
    assert not np.isfinite(out[1, :, 7:10, 7:10]).any()
    out[1, :, 4:12, 4:12] = 0
    assert np.isfinite(out).all()


# ---- precision --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "bound"), [("winograd2", 2e-6), ("winograd2x4", 2e-6), ("winograd4", 1e-5)]
)
def test_float32_error_is_what_the_math_mode_promises(backend, rng, algorithm, bound):
    """Against float64 sums, relative to the largest value, on a layer of DeepConvNet."""
    g = window_geometry("test", (8, 64, 8, 8), 3, 3, 1, 1)
    x = np.maximum(rng.standard_normal(g.input_shape), 0).astype(np.float32)
    weight = (rng.standard_normal((64, 64, 3, 3)) * np.sqrt(2 / 576)).astype(np.float32)
    dout = rng.standard_normal(g.output_shape(64)).astype(np.float32)
    table = forced(backend, algorithm, 2)
    bias = np.zeros(64, np.float32)
    with runs_by(table, algorithm, g):
        out = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)
        got = call_kernel(table, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
    assert_close(out["out"], naive.conv2d(x, weight, bias, 1, 1), tolerance=bound)
    dx, dweight, _ = naive.conv2d_gradients(dout, x, weight, 1, 1)
    assert_close(got["dx"], dx, tolerance=bound)
    assert_close(got["dweight"], dweight, tolerance=bound)


LAYERS = {
    "DeepConvNet, 2": ((100, 16, 28, 28), 16, 3, 1),
    "DeepConvNet, 3": ((100, 16, 14, 14), 32, 3, 1),
    "DeepConvNet, 4": ((100, 32, 16, 16), 32, 3, 1),
    "DeepConvNet, 5": ((100, 32, 8, 8), 64, 3, 1),
    "DeepConvNet, 6": ((100, 64, 8, 8), 64, 3, 1),
    "VGG-16, 6": ((8, 256, 56, 56), 256, 3, 1),
    "ResNet-34, a step": ((8, 256, 14, 14), 512, 3, 2),
    "ResNet-50, 1x1": ((8, 1024, 14, 14), 512, 1, 1),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_default_math_rounds_at_most_twice_as_much_as_pytorch(backend, rng, layer):
    """Largest errors against float64, beside the better of PyTorch's layouts."""
    torch = pytest.importorskip("torch")
    shape, filters, window, stride = LAYERS[layer]
    g = window_geometry("test", shape, window, window, stride, window // 2)
    x = np.maximum(rng.standard_normal(g.input_shape), 0).astype(np.float32)
    weight = rng.standard_normal((filters, g.c, window, window))
    weight = (weight * np.sqrt(2 / weight[0].size)).astype(np.float32)
    dout = rng.standard_normal(g.output_shape(filters)).astype(np.float32)
    table = forced(backend, "auto", 2)
    bias = np.zeros(filters, np.float32)
    ours = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)
    ours |= call_kernel(table, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
    right, *theirs = (
        by_torch(torch, x, weight, dout, g, dtype, layout)
        for dtype, layout in (
            (torch.float64, torch.contiguous_format),
            (torch.float32, torch.contiguous_format),
            (torch.float32, torch.channels_last),
        )
    )
    for name, exact in right.items():
        off = np.abs(ours[name] - exact).max()
        assert off <= 2 * min(np.abs(one[name] - exact).max() for one in theirs), name


def by_torch(torch, x, weight, dout, g, dtype, layout):
    """PyTorch's output of a convolution without bias, and both gradients."""
    x, weight, dout = (
        torch.tensor(a, dtype=dtype).contiguous(memory_format=layout) for a in (x, weight, dout)
    )
    x.requires_grad, weight.requires_grad = True, True
    out = torch.nn.functional.conv2d(x, weight, stride=g.stride, padding=g.pad)
    out.backward(dout)
    return {"out": out.detach().numpy(), "dx": x.grad.numpy(), "dweight": weight.grad.numpy()}


# ---- the choice -------------------------------------------------------------------------


def chosen(shape, filters, window=3, stride=1, pad=1, pooled=False, mode="default", asked="auto"):
    g = window_geometry("test", shape, window, window, stride, pad)
    algorithms = choose(g, filters, pooled, mode, asked)
    return algorithms.forward, algorithms.input_gradient, algorithms.weight_gradient


def test_other_windows_and_strides_are_direct_whatever_is_asked_for():
    for asked in ALGORITHMS:
        assert chosen((100, 32, 14, 14), 32, window=5, pad=2, asked=asked) == ("direct",) * 3
        assert chosen((100, 32, 14, 14), 32, stride=2, asked=asked) == ("direct",) * 3
        assert chosen((100, 32, 14, 14), 32, window=1, pad=0, asked=asked) == ("direct",) * 3


@pytest.mark.parametrize(
    ("shape", "filters", "each_time", "once"),
    [
        ((1, 64, 8, 8), 64, "direct", "winograd2x4"),
        ((1, 64, 6, 6), 96, "direct", "winograd2"),
        ((1, 64, 4, 4), 64, "direct", "direct"),
        ((1, 16, 28, 28), 16, "direct", "winograd2x4"),
        ((1, 16, 24, 24), 16, "direct", "direct"),
        ((1, 32, 14, 14), 32, "winograd2", "winograd2x4"),
        ((1, 256, 14, 14), 256, "winograd2", "winograd2"),
        ((1, 512, 7, 7), 512, "direct", "direct"),
    ],
)
def test_filters_that_are_transformed_once_pay_for_fewer_tiles(shape, filters, each_time, once):
    before = chosen(shape, filters)
    assert before[0] == each_time
    with forward_by(CONSTANT):
        assert chosen(shape, filters) == (once, *before[1:])
        assert chosen(shape, filters, asked="direct")[0] == "direct"


def test_f4_runs_in_the_fast_math_mode_only():
    big = (100, 64, 28, 28)
    assert "winograd4" not in chosen(big, 64)
    assert chosen(big, 64) == ("winograd2x4",) * 3
    assert chosen(big, 64, mode="fast")[0] == "winograd4"
    assert chosen(big, 64, asked="winograd4")[0] == "winograd4"


def test_wide_tiles_run_where_they_save_enough():
    assert chosen((100, 16, 28, 28), 16) == ("winograd2x4",) * 3
    assert chosen((100, 32, 8, 8), 64) == ("winograd2x4",) * 3
    assert chosen((100, 16, 14, 14), 32) == ("winograd2x4",) * 3
    assert chosen((100, 16, 6, 6), 16) == ("winograd2",) * 3
    assert chosen((8, 64, 8, 8), 64) == ("winograd2x4", "winograd2x4", "winograd2")
    assert chosen((7, 64, 8, 8), 64) == ("winograd2",) * 3
    assert chosen((1, 64, 28, 28), 64, asked="winograd2x4") == ("winograd2x4",) * 3


def test_a_pooled_block_has_a_sparse_weight_gradient():
    assert chosen((100, 64, 8, 8), 64, pooled=True)[2] == "sparse"
    assert chosen((100, 64, 8, 8), 64, pooled=True, asked="direct")[2] == "direct"


def test_what_is_forced_runs(environment):
    environment("FASTCONV_CONV_ALGORITHM", "direct")
    assert config.get_conv_algorithm() == "direct"
    config.set_conv_algorithm("winograd4")
    assert config.get_conv_algorithm() == "winograd4"
    config.set_conv_algorithm(None)
    assert config.get_conv_algorithm() == "direct"


def test_math_mode_is_the_process_choice_or_the_environment(environment):
    assert fastconv.get_math_mode() == "default"
    environment("FASTCONV_MATH", "Fast")
    assert fastconv.get_math_mode() == "fast"
    fastconv.set_math_mode("default")
    assert fastconv.get_math_mode() == "default"
    fastconv.set_math_mode(None)
    assert fastconv.get_math_mode() == "fast"


def test_unknown_choices_are_refused(environment):
    with pytest.raises(ArgumentError, match="set_math_mode: mode must be one of default, fast"):
        fastconv.set_math_mode("quick")
    with pytest.raises(ArgumentError, match="set_conv_algorithm: algorithm must be one of auto"):
        config.set_conv_algorithm("fft")
    environment("FASTCONV_MATH", "sloppy")
    with pytest.raises(ArgumentError, match="FASTCONV_MATH must be one of"):
        selection.active("numpy")


# ---- the front door ---------------------------------------------------------------------


def test_block_that_leaves_nothing_to_pool_is_refused(backend):
    with pytest.raises(ShapeError, match="no window of 2 x 2 fits the convolution's output of 1"):
        conv2d_block_forward(
            np.zeros((1, 1, 3, 8)), np.zeros((1, 1, 3, 3)), np.zeros(1), pool=True, backend=backend
        )


def test_residual_goes_with_neither_pool_nor_gradient(backend):
    x, weight, bias = np.zeros((2, 3, 8, 8)), np.zeros((4, 3, 3, 3)), np.ones(4)
    residual = np.ones((2, 4, 8, 8))
    for pool, gradient in ((True, False), (False, True)):
        with pytest.raises(ArgumentError, match=r"residual \(2, 4, 8, 8\), relu=True, pool="):
            conv2d_block_forward(x, weight, bias, 1, 1, pool, backend, gradient, residual)
        with pytest.raises(ArgumentError, match="residual none, relu=False, pool="):
            conv2d_block_forward(x, weight, bias, 1, 1, pool, backend, gradient, relu=False)


def test_residual_is_of_the_output_s_shape_and_real(backend):
    x, weight, bias = np.zeros((2, 3, 8, 8)), np.zeros((4, 3, 3, 3)), np.ones(4)
    with pytest.raises(ShapeError, match=r"residual has shape \(2, 4, 4, 4\), expected \(2, 4, 8"):
        conv2d_block_forward(x, weight, bias, 1, 1, False, backend, False, np.ones((2, 4, 4, 4)))
    with pytest.raises(DTypeError, match="array of dtype complex128"):
        conv2d_block_forward(
            x, weight, bias, 1, 1, False, backend, False, np.ones((2, 4, 8, 8), complex)
        )


def test_residual_decides_about_the_dtype_as_every_array_does(backend):
    x, weight, bias = (np.ones(shape, np.float32) for shape in ((1, 1, 2, 2), (1, 1, 1, 1), (1,)))
    for dtype in (np.float32, np.float64):
        residual = np.full((1, 1, 2, 2), -3, dtype)
        arguments = x, weight, bias, 1, 0, False, backend, False, residual
        assert conv2d_block_forward(*arguments)[0].dtype == dtype
        np.testing.assert_array_equal(conv2d_block_forward(*arguments, relu=False)[0], residual + 2)


def test_backward_of_a_block_checks_its_gradient(backend):
    x, weight, bias = np.zeros((2, 3, 8, 8)), np.zeros((4, 3, 3, 3)), np.zeros(4)
    _, context = conv2d_block_forward(x, weight, bias, 1, 1, True, backend)
    with pytest.raises(ShapeError, match=r"dout has shape \(2, 4, 8, 8\), expected \(2, 4, 4, 4\)"):
        conv2d_block_backward(np.zeros((2, 4, 8, 8)), weight, context)
    dx, _, _ = conv2d_block_backward(np.zeros((2, 4, 4, 4)), weight, context, input_gradient=False)
    assert dx is None


def test_no_context_where_no_gradient_follows(backend):
    x, weight, bias = np.zeros((2, 3, 8, 8)), np.zeros((4, 3, 3, 3)), np.ones(4)
    out, context = conv2d_block_forward(x, weight, bias, 1, 1, True, backend, gradient=False)
    assert context is None
    assert (out == 1).all()
