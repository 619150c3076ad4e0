"""The math mode bf16: what is rounded, where, and who refuses.

Operands are rounded here by Python's `round` on exact quotients, and multiplied by the loops of
`naive`; by Winograd's algorithm, the transforms are, by its matrices.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastconv
from fastconv import config, info, selection
from fastconv.backends.algorithms import ALGORITHMS, choose
from fastconv.backends.numpy.operands import bfloat16
from fastconv.errors import BackendUnavailable
from fastconv.geometry import window_geometry
from fastconv.models.lenet import lenet
from fastconv.testing import call_kernel, ways
from fastconv.testing.rounding import rounded_transforms

from . import naive, naive_grouped
from .compare import assert_close
from .stand_ins import StandIn
from .took import runs_by

pytestmark = pytest.mark.usefixtures("fine_grained")

WAYS = {"tiles": 2, "vectors": 1}
"""What multiplies in the Cython backend, by its number in pairs.h."""


def nearest(value: float) -> float:
    """The bfloat16 nearest to a finite float32, the even one of two; 0 for what is subnormal."""
    if abs(value) < 2.0**-126:
        return math.copysign(0.0, value)
    unit = 2.0 ** (math.frexp(value)[1] - 8)  # of the last of 8 significant bits
    rounded = round(value / unit) * unit  # to even where it is half way
    return math.copysign(math.inf, value) if abs(rounded) >= 2.0**128 else rounded


def all_nearest(values: np.ndarray) -> np.ndarray:
    return np.vectorize(nearest, otypes=[np.float64])(values.astype(np.float64))


@pytest.fixture(params=["numpy", *WAYS])
def table(request, monkeypatch):
    """A backend in this math mode, on two threads."""
    name = "numpy" if request.param == "numpy" else "cython"
    if not (status := selection.registry().status(name)):
        pytest.skip(status.reason)
    backend = selection.registry().load(name)
    if name == "cython":
        if backend._bfloat16 < WAYS[request.param]:
            pytest.skip(f"no {request.param}: {backend.describe()['bfloat16 products']}")
        monkeypatch.setattr(backend, "_bfloat16", WAYS[request.param])
    fastconv.set_num_threads(2)
    fastconv.set_math_mode("bf16")
    return selection.active(name)


# ---- rounding ---------------------------------------------------------------------------

NUMBERS = (
    *(0.0, -0.0, 1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-23, -1 - 2**-8, math.pi, 1 / 3),
    *(2.0**-126, -(2.0**-126) * (1 - 2**-23), 2.0**-130, 2.0**-149, 1.9999999 * 2.0**-126),
    *(3.3e38, 3.4e38, -3.4028234663852886e38, 255.5, 256.5, 257.0, 259.0),
)


def test_numbers_are_rounded_to_the_nearest_even_bfloat16():
    numbers = np.array(NUMBERS, np.float32)
    expected = all_nearest(numbers)
    got = bfloat16(numbers)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
    np.testing.assert_array_equal(bfloat16(numbers.astype(np.float64)), expected)
    others = np.array([np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(bfloat16(others), others)


def test_kernels_round_as_the_definition_says(table):
    """1x1 convolutions by 1: each output is a rounded pixel."""
    numbers = np.array(NUMBERS, np.float32)
    x = np.broadcast_to(numbers[:, None, None, None], (len(numbers), 40, 3, 5))
    weight = np.eye(40, dtype=np.float32).reshape(40, 40, 1, 1)
    expected = np.where(np.isinf(all_nearest(numbers)), np.nan, all_nearest(numbers))
    g = window_geometry("test", x.shape, 1, 1, 1, 0)
    inputs = {"x": np.ascontiguousarray(x), "weight": weight, "bias": np.zeros(40, np.float32)}
    with np.errstate(invalid="ignore"):
        out = call_kernel(table, "conv2d_forward", **inputs, geometry=g)["out"]
    finite = np.isfinite(expected)  # infinity times 0 is NaN
    for image, number in zip(out[finite], expected[finite], strict=True):
        np.testing.assert_array_equal(image, np.full((40, 3, 5), number))
    assert not np.isfinite(out[~finite]).any()


# ---- against the loops ------------------------------------------------------------------

# (N, C, H, W), filters, window, stride, pad
LAYERS = (
    ((2, 1, 9, 8), 16, (3, 3), 1, 1),
    ((2, 3, 11, 9), 7, (7, 7), 2, 3),
    ((5, 3, 6, 7), 33, (3, 3), 1, 2),
    ((2, 17, 6, 9), 16, (3, 3), 1, 1),
    ((3, 35, 5, 4), 20, (3, 2), 1, 0),
    ((2, 70, 4, 5), 35, (1, 1), 1, 0),
    ((2, 12, 7, 7), 50, (1, 1), 2, 0),
    ((1, 21, 9, 8), 18, (3, 5), 3, 2),
    ((1, 6, 40, 37), 3, (5, 5), 1, 2),
)


@pytest.mark.parametrize(("shape", "filters", "window", "stride", "pad"), LAYERS)
def test_convolutions_multiply_rounded_operands(table, rng, shape, filters, window, stride, pad):
    config.set_conv_algorithm("direct")
    table = selection.active(table.name)
    g = window_geometry("test", shape, *window, stride, pad)
    x, weight, bias, dout = (
        rng.standard_normal(s).astype(np.float32)
        for s in (shape, (filters, g.c, *window), filters, g.output_shape(filters))
    )
    out = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)["out"]
    got = call_kernel(table, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
    rounded = all_nearest(x), all_nearest(weight)
    assert_close(out, naive.conv2d(*rounded, bias, stride, pad), tolerance=1e-6)
    dx, dweight, _ = naive.conv2d_gradients(all_nearest(dout), *rounded, stride, pad)
    assert_close(got["dx"], dx, tolerance=1e-6)
    assert_close(got["dweight"], dweight, tolerance=1e-6)
    assert_close(got["dbias"], dout.sum((0, 2, 3), np.float64), tolerance=1e-6)
    with pytest.raises(AssertionError):  # that is not what float32 gives
        assert_close(out, naive.conv2d(x, weight, bias, stride, pad), tolerance=1e-4)


@pytest.mark.parametrize(("n", "d", "m"), [(1, 5, 3), (9, 33, 17), (100, 70, 40), (40, 1, 50)])
def test_affine_layers_multiply_rounded_operands(table, rng, n, d, m):
    """The smallest go past the short way, which would not round."""
    x, weight, bias, dout = (
        rng.standard_normal(s).astype(np.float32) for s in ((n, d), (d, m), m, (n, m))
    )
    out, context = fastconv.ops.affine_forward(x, weight, bias, backend=table.name)
    dx, dweight, dbias = fastconv.ops.affine_backward(dout, weight, context)
    a, b, c = all_nearest(x), all_nearest(weight), all_nearest(dout)
    assert_close(out, a @ b + bias, tolerance=1e-6)
    assert_close(dx, c @ b.T, tolerance=1e-6)
    assert_close(dweight, a.T @ c, tolerance=1e-6)
    assert_close(dbias, dout.sum(0, np.float64), tolerance=1e-6)


@pytest.mark.parametrize("n", [1, 32, 33])
def test_weights_of_affine_layers_are_read_once_for_few_samples(vectors, n):
    x, weight, dout = (np.ones(s, np.float32) for s in ((n, 40), (40, 24), (n, 24)))
    with ways(vectors) as taken:
        call_kernel(vectors, "affine_backward", dout=dout, x=x, weight=weight)
    expected = "few_rows" if n <= 32 else "many_rows"
    assert {way.how for way in taken if way.part == "affine_input_gradient"} == {expected}


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_grouped_and_dilated_convolutions_multiply_rounded_operands(table, rng, groups):
    g = window_geometry("test", (2, 6, 9, 8), 3, 3, 1, 2, 2)
    x, weight, bias, dout = (
        rng.standard_normal(s).astype(np.float32)
        for s in (g.input_shape, (12, 6 // groups, 3, 3), 12, g.output_shape(12))
    )
    how = {"geometry": g, "groups": groups}
    out = call_kernel(table, "conv2d_grouped_forward", x=x, weight=weight, bias=bias, **how)["out"]
    got = call_kernel(table, "conv2d_grouped_backward", dout=dout, x=x, weight=weight, **how)
    rounded = all_nearest(x), all_nearest(weight)
    sizes = 1, 2, 2, groups
    assert_close(out, naive_grouped.conv2d(*rounded, bias, *sizes), tolerance=1e-6)
    dx, dweight, _ = naive_grouped.conv2d_gradients(all_nearest(dout), *rounded, *sizes)
    assert_close(got["dx"], dx, tolerance=1e-6)
    assert_close(got["dweight"], dweight, tolerance=1e-6)
    assert_close(got["dbias"], dout.sum((0, 2, 3), np.float64), tolerance=1e-6)


def test_float64_is_computed_as_ever(table, rng):
    g = window_geometry("test", (2, 5, 6, 6), 3, 3, 1, 1)
    x, weight, bias = (
        rng.standard_normal(g.input_shape),
        rng.standard_normal((4, 5, 3, 3)),
        np.zeros(4),
    )
    out = call_kernel(table, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)["out"]
    assert_close(out, naive.conv2d(x, weight, bias, 1, 1), tolerance=1e-14)


@pytest.mark.parametrize("programs", ["on", "off"])
def test_a_network_takes_the_steps_of_the_reference(table, rng, programs):
    """With the ReLU, pooling and affine layers between, in a program or call by call."""
    if table.name == "numpy":
        pytest.skip("it is the reference")
    config.set_programs(programs)
    x = rng.random((5, 1, 28, 28), np.float32)
    t = np.arange(5)
    net = lenet(seed=0)
    with fastconv.use_backend("numpy"):
        expected = net.gradient(x, t)
        plain = {name: grad.copy() for name, grad in expected.items()}
    with fastconv.use_backend(table.name):
        for _ in range(4):  # the fourth is a program
            got = net.gradient(x, t)
    for name, grad in plain.items():
        assert_close(got[name], grad, tolerance=1e-3)
    config.set_programs(None)


# ---- Winograd's algorithm, F(2x2, 3x3) ----------------------------------------------------

OF_PATCH = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
OF_FILTER = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
TO_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
OF_GRADIENT = np.array([[1, 0], [1, 1], [1, -1], [0, 1]])
TO_TAPS = np.array([[1, 0.5, 0.5, 0], [0, 0.5, -0.5, 0], [0, 0.5, 0.5, -1]])


def tiles_of(images: np.ndarray, pad: int, rows: int, cols: int, side: int) -> np.ndarray:
    """(N, C, rows, cols, side, side): squares of padded images that begin at every other pixel."""
    n, c, h, w = images.shape
    padded = np.zeros((n, c, 2 * rows + side, 2 * cols + side))
    padded[:, :, pad : pad + h, pad : pad + w] = images
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))
    return windows[:, :, ::2, ::2][:, :, :rows, :cols]


def patches_of(x, pad, height, width):
    """Transforms of the patches that height x width outputs are made of."""
    tiles = tiles_of(x, pad, -(-height // 2), -(-width // 2), 4)
    return OF_PATCH @ tiles @ OF_PATCH.T


def outputs_of(patches, filters, height, width, matrix=TO_OUTPUT):
    products = np.einsum("ncyxab,fcab->nfyxab", patches, filters)
    tiles = (matrix @ products @ matrix.T).transpose(0, 1, 2, 4, 3, 5)
    n, f, rows, _, cols, _ = tiles.shape
    return tiles.reshape(n, f, 2 * rows, 2 * cols)[:, :, :height, :width]


def by_rounded_transforms(x, weight, dout, pad):
    """out without bias, dx and dweight."""
    (_, _, h, w), (_, _, oh, ow) = x.shape, dout.shape
    filters = OF_FILTER @ weight @ OF_FILTER.T
    flipped = OF_FILTER @ weight[:, :, ::-1, ::-1].swapaxes(0, 1) @ OF_FILTER.T
    patches = all_nearest(patches_of(x, pad, oh, ow))
    out = outputs_of(patches, all_nearest(filters), oh, ow)
    turned = all_nearest(patches_of(dout, 2 - pad, h, w))
    dx = outputs_of(turned, all_nearest(flipped), h, w)
    tiles = tiles_of(dout, 0, -(-oh // 2), -(-ow // 2), 2)
    gradients = all_nearest(OF_GRADIENT @ tiles @ OF_GRADIENT.T)
    sums = np.einsum("nfyxab,ncyxab->fcab", gradients, patches)
    return out, dx, TO_TAPS @ sums @ TO_TAPS.T


# Channels that fill no pair, no vector, no block; tiles and pairs of tiles that hang over the edge.
WITH_TILES = (
    ((2, 17, 9, 8), 16, 1),
    ((3, 16, 5, 7), 33, 2),
    ((1, 9, 18, 22), 47, 0),
    ((2, 40, 8, 6), 8, 1),
    ((1, 8, 3, 3), 9, 0),
)


@pytest.fixture
def vectors(table):
    """The backend that multiplies by vectors."""
    if getattr(table, "_bfloat16", 0) != WAYS["vectors"]:
        pytest.skip("another backend, or tiles")
    config.set_conv_algorithm("winograd2")
    return selection.active(table.name)


@pytest.mark.parametrize(("shape", "filters", "pad"), WITH_TILES)
def test_transforms_are_rounded_and_their_products_are_not(vectors, rng, shape, filters, pad):
    """Of numbers whose transforms are exact in float32, so that all round the same values."""
    g = window_geometry("test", shape, 3, 3, 1, pad)
    x, weight, dout = (
        (rng.integers(-2048, 2049, s) / 64).astype(np.float32)
        for s in (shape, (filters, g.c, 3, 3), g.output_shape(filters))
    )
    bias = rng.standard_normal(filters).astype(np.float32)
    with runs_by(vectors, "winograd2", g):
        out = call_kernel(vectors, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)
        got = call_kernel(vectors, "conv2d_backward", dout=dout, x=x, weight=weight, geometry=g)
    expected, dx, dweight = by_rounded_transforms(x, weight, dout, pad)
    # Up to nine frequencies cancel in one output, so that float32 shows more than in direct sums.
    assert_close(out["out"], expected + bias[:, None, None], tolerance=3e-6)
    assert_close(got["dx"], dx, tolerance=3e-6)
    assert_close(got["dweight"], dweight, tolerance=3e-6)
    assert_close(got["dbias"], dout.sum((0, 2, 3), np.float64), tolerance=1e-6)


def test_windows_of_zeros_give_their_bias_by_rounded_transforms(vectors, rng):
    g = window_geometry("test", (2, 16, 11, 10), 3, 3, 1, 1)
    x = np.zeros(g.input_shape, np.float32)
    x[:, :, 3:6, 4:5] = rng.standard_normal((2, 16, 3, 1))
    weight = rng.standard_normal((20, 16, 3, 3)).astype(np.float32)
    bias = rng.standard_normal(20).astype(np.float32)
    out = call_kernel(vectors, "conv2d_forward", x=x, weight=weight, bias=bias, geometry=g)["out"]
    seen = naive.conv2d(np.abs(x), np.ones_like(weight), np.zeros(20), 1, 1) > 0
    empty = np.broadcast_to(bias[:, None, None], out.shape)
    np.testing.assert_array_equal(out[~seen], empty[~seen])
    assert (out[seen] != empty[seen]).all()


@pytest.mark.parametrize("pad", [0, 1, 2])
def test_what_check_backend_allows_is_what_rounding_transforms_may_cost(rng, pad):
    """And not much more: of one channel, some values use much of it."""
    used = {"out": 0.0, "dx": 0.0, "dweight": 0.0}
    for _ in range(10):
        g = window_geometry("test", (1, 1, 7, 8), 3, 3, 1, pad)
        x, weight, dout = (
            rng.standard_normal(s) for s in (g.input_shape, (4, 1, 3, 3), g.output_shape(4))
        )
        given = {"x": x, "weight": weight, "geometry": g}
        allowed = rounded_transforms("conv2d_forward", {**given, "bias": np.ones(4)})
        allowed |= rounded_transforms("conv2d_backward", {**given, "dout": dout})
        got = by_rounded_transforms(x, weight, dout, pad)
        dx, dweight, _ = naive.conv2d_gradients(dout, x, weight, 1, pad)
        wanted = naive.conv2d(x, weight, np.zeros(4), 1, pad), dx, dweight
        for name, rounded, exact in zip(used, got, wanted, strict=True):
            share = np.abs(rounded - exact) / allowed[name]
            assert (share <= 1).all(), name
            used[name] = max(used[name], share.max())
    assert min(used.values()) > 0.1, used


# ---- choice and refusal -----------------------------------------------------------------

LAYER = window_geometry("test", (100, 64, 28, 28), 3, 3, 1, 1)


def chosen(forced: str, by_tiles: bool) -> set[str]:
    algorithms = choose(LAYER, 64, True, "bf16", forced, by_tiles)
    return {algorithms.forward, algorithms.input_gradient, algorithms.weight_gradient}


@pytest.mark.parametrize("forced", ALGORITHMS)
def test_tiles_of_outputs_are_those_of_2_x_2_and_beside_tiles_of_amx_there_are_none(forced):
    tiles = forced in ("auto", "winograd2")
    assert chosen(forced, by_tiles=False) == {"winograd2" if tiles else "direct"}
    assert chosen(forced, by_tiles=True) == {"direct"}


def test_the_backend_knows_what_it_multiplies_by(table):
    if table.name == "numpy":
        pytest.skip("it has one way")
    said = table.conv2d_algorithms(LAYER, 64, True)
    by_vectors = table._bfloat16 == WAYS["vectors"]
    assert said.forward == said.weight_gradient == ("winograd2" if by_vectors else "direct")


def refused(name: str) -> str:
    fastconv.set_math_mode("bf16")
    with pytest.raises(BackendUnavailable) as caught:
        fastconv.ops.affine_forward(
            np.ones((2, 2), np.float32),
            np.ones((2, 2), np.float32),
            np.zeros(2, np.float32),
            backend=name,
        )
    fastconv.set_math_mode("fast")
    selection.active(name)
    return str(caught.value)


def test_numba_refuses_with_a_reason_and_a_remedy():
    if not (status := selection.registry().status("numba")):
        pytest.skip(status.reason)
    assert status.math_modes == ("default", "fast")
    assert "numba: this backend has no math mode bf16. Remedy: " in refused("numba")


def test_a_backend_that_does_not_know_the_mode_refuses(registry):
    registry.register("mine", lambda: StandIn("mine"))
    assert "mine: this backend has no math mode bf16" in refused("mine")


def test_cython_refuses_where_the_cpu_has_no_such_products(monkeypatch):
    if not (status := selection.registry().status("cython")):
        pytest.skip(status.reason)
    backend = selection.registry().load("cython")
    monkeypatch.setattr(backend, "_bfloat16", 0)
    monkeypatch.setattr(backend, "_isa", "avx512")
    said = refused("cython")
    assert "AVX512_BF16" in said or "compiler" in said
    monkeypatch.setattr(backend, "_isa", "avx2")
    assert "cython: no math mode bf16: kernels for avx2 have no products of bfloat16s" in (
        refused("cython")
    )
    assert fastconv.list_backends()["cython"].math_modes == ("default", "fast")
    facts = info.configuration()["backends"]["cython"]
    assert facts["math modes"] == "default, fast"
    assert "avx2" in facts["bfloat16 products"]


def test_the_reference_is_listed_with_all_modes():
    assert fastconv.list_backends()["numpy"].math_modes == ("default", "fast", "bf16")
    assert info.configuration()["backends"]["numpy"]["math modes"] == "default, fast, bf16"
