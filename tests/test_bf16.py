"""The math mode bf16: what is rounded, where, and who refuses.

Operands are rounded here by Python's `round` on exact quotients, and multiplied by the loops of
`naive`.
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
from fastconv.testing import call_kernel

from . import naive, naive_grouped
from .compare import assert_close
from .stand_ins import StandIn

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


# ---- choice and refusal -----------------------------------------------------------------


@pytest.mark.parametrize("forced", ALGORITHMS)
def test_all_convolutions_are_direct(forced):
    g = window_geometry("test", (100, 64, 28, 28), 3, 3, 1, 1)
    chosen = choose(g, 64, True, "bf16", forced)
    assert {chosen.forward, chosen.input_gradient, chosen.weight_gradient} == {"direct"}


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
