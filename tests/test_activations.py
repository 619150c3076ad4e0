"""Activations of one formula, and local response normalisation."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import ops, selection
from fastconv.errors import ArgumentError, DTypeError, ShapeError, StateError
from fastconv.layers import Elu, Gelu, LeakyRelu, LocalResponseNormalization, Silu, Tanh
from fastconv.testing import call_kernel

from . import naive_activations as naive
from .awkward import MEMORY, in_memory, unchanged
from .compare import assert_close

pytestmark = pytest.mark.usefixtures("fine_grained")

LAYERS = {
    "leaky_relu": (lambda b: LeakyRelu(0.2, b), 0.2, "LeakyReLU", (0.2,)),
    "elu": (lambda b: Elu(1.5, b), 1.5, "ELU", (1.5,)),
    "gelu": (lambda b: Gelu(b), 0.0, "GELU", ()),
    "silu": (lambda b: Silu(b), 0.0, "SiLU", ()),
    "tanh": (lambda b: Tanh(b), 0.0, "Tanh", ()),
}
"""By kind: the layer, its slope, PyTorch's module and its arguments."""

KINDS = sorted(LAYERS)


def values(dtype):
    """Far from 0 and close to it, where formulas lose digits; 0 itself."""
    near = np.logspace(-9, 1.5, 40)
    return np.concatenate([-near[::-1], [0.0, -0.0], near]).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threads", [1, 2])
def test_kernels(backend, dtype, kind, threads):
    fastconv.set_num_threads(threads)
    table = selection.active(backend)
    x = np.tile(values(dtype), 900 if threads > 1 else 1)
    dout = np.linspace(-1, 1, x.size).astype(dtype)
    slope = LAYERS[kind][1]
    few = values(dtype).size
    given = {"x": x, "kind": kind, "slope": slope}
    out = call_kernel(table, "activation_forward", **given)["out"]
    # Each value by itself: near 0 too all digits count.
    expected = np.tile(naive.activation(kind, x[:few], slope), x.size // few)
    scale = np.maximum(np.abs(expected), 1e-30)
    tolerance = 4e-6 if dtype == np.float32 else 1e-14
    errors = np.abs(out - expected) / scale
    assert errors[np.abs(expected) > 1e-5].max() < tolerance
    assert_close(out, expected, dtype=dtype)
    dx = call_kernel(table, "activation_backward", dout=dout, **given)["dx"]
    derivative = np.tile(naive.activation_gradient(kind, 1.0, x[:few], slope), x.size // few)
    assert_close(dx, dout * derivative, dtype=dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_extremes(backend, dtype, kind):
    """Values where exp overflows; a NaN stays NaN; an infinity is never a wrong number."""
    large = 1e30
    layer = LAYERS[kind][0](backend)
    out = layer.forward(np.array([-large, large, -750.0, 750.0, np.nan, np.inf], dtype))
    low = {"leaky_relu": [-0.2 * large, -150.0], "elu": [-1.5, -1.5], "tanh": [-1, -1]}
    first, third = low.get(kind, [0, 0])
    top = [1, 1, 1] if kind == "tanh" else [large, 750, np.inf]
    expected = np.array([first, top[0], third, top[1], np.nan, top[2]])
    np.testing.assert_allclose(out, expected.astype(dtype), rtol=1e-6, atol=1e-30)
    dx = layer.backward(np.ones(6))
    slope = {"leaky_relu": 0.2}.get(kind, 0)
    rise = 0 if kind == "tanh" else 1
    np.testing.assert_allclose(dx[:4], [slope, rise, slope, rise], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("kind", KINDS)
def test_pytorch_agrees(backend, dtype, kind):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    make, _, name, settings = LAYERS[kind]
    x, dout = values(dtype), values(dtype)[::-1].copy()
    tensor = torch.from_numpy(x).requires_grad_()
    expected = getattr(torch.nn, name)(*settings)(tensor)
    expected.backward(torch.from_numpy(dout))
    layer = make(backend)
    assert_close(layer.forward(x), expected.detach().numpy(), dtype=dtype)
    assert_close(layer.backward(dout), tensor.grad.numpy(), dtype=dtype)


@pytest.mark.parametrize("memory", MEMORY)
def test_any_memory_will_do(backend, rng, memory):
    x, dout = (in_memory(memory, rng.standard_normal((2, 3, 4, 5))) for _ in range(2))
    layer = Tanh(backend)
    with unchanged(x, dout):
        assert_close(layer.forward(x), np.tanh(x))
        assert_close(layer.backward(dout), dout / np.cosh(x) ** 2, tolerance=1e-12)


def test_shapes_and_dtypes(backend):
    assert Silu(backend).forward(np.array(1.0)).shape == ()
    assert Silu(backend).forward(np.ones((0, 3))).shape == (0, 3)
    assert Silu(backend).forward(np.ones(3, np.float16)).dtype == np.float32
    assert Silu(backend).forward(np.arange(3)).dtype == np.float64


@pytest.mark.parametrize("kind", KINDS)
def test_bad_calls(kind):
    layer = LAYERS[kind][0](None)
    with pytest.raises(StateError, match=f"{type(layer).__name__}: backward was called before"):
        layer.backward(np.ones(3))
    with pytest.raises(DTypeError, match=f"{kind}: expected real numbers"):
        layer.forward(np.ones(3, complex))
    layer.forward(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=rf"{kind} backward: dout has shape \(3, 2\), expected"):
        layer.backward(np.ones((3, 2)))


# ---- local response normalisation -----------------------------------------------------

RESPONSES = {
    "AlexNet": ((2, 19, 3, 4), 5, 5e-4, 0.75, 2.0),
    "strong": ((2, 33, 2, 3), 5, 2.0, 0.75, 1.0),
    "even size, other power": ((3, 16, 2, 2), 4, 1.0, 0.6, 0.5),
    "wider than the channels": ((1, 3, 3, 1), 9, 1.0, 1.0, 1.0),
    "one channel": ((2, 1, 2, 2), 1, 1.0, 0.75, 1.0),
    "no image": ((0, 4, 2, 2), 3, 1.0, 0.75, 1.0),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", RESPONSES)
def test_local_response(backend, dtype, rng, name, threads):
    shape, size, alpha, beta, k = RESPONSES[name]
    if threads > 1:
        fastconv.set_num_threads(2)
        shape = (shape[0], shape[1], 20, 60)
    x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    settings = {"size": size, "alpha": alpha, "beta": beta}
    table = selection.active(backend)
    got = call_kernel(table, "lrn_forward", x=x, k=k, **settings)
    assert_close(got["out"], naive.lrn(x, size, alpha, beta, k), dtype=dtype)
    given = {"dout": dout, "x": x, "scale": got["scale"]}
    dx = call_kernel(table, "lrn_backward", **given, **settings)["dx"]
    assert_close(dx, naive.lrn_gradient(dout, x, size, alpha, beta, k), dtype=dtype)


@pytest.mark.parametrize("name", sorted(set(RESPONSES) - {"no image"}))
def test_pytorch_agrees_on_local_response(backend, dtype, rng, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    shape, *settings = RESPONSES[name]
    x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    tensor = torch.from_numpy(x).requires_grad_()
    expected = torch.nn.LocalResponseNorm(*settings)(tensor)
    expected.backward(torch.from_numpy(dout))
    layer = LocalResponseNormalization(*settings, backend=backend)
    assert_close(layer.forward(x), expected.detach().numpy(), dtype=dtype)
    assert_close(layer.backward(dout), tensor.grad.numpy(), dtype=dtype)


@pytest.mark.parametrize(
    ("x", "settings", "error", "message"),
    [
        ((2, 3), {}, ShapeError, r"input must be \(N, C, H, W\) .*, got shape \(2, 3\)"),
        ((2, 0, 3, 3), {}, ShapeError, ".* with C at least 1, got"),
        ((1, 3, 2, 2), {"size": 0}, ArgumentError, "size must be at least 1, got 0"),
        ((1, 3, 2, 2), {"alpha": -1.0}, ArgumentError, "alpha must be at least 0, got -1"),
        ((1, 3, 2, 2), {"k": 0.0}, ArgumentError, "k must be above 0, got 0"),
    ],
)
def test_bad_local_responses(x, settings, error, message):
    with pytest.raises(error, match=f"lrn: {message}"):
        LocalResponseNormalization(**settings).forward(np.ones(x))


def test_bad_gradients_of_local_response():
    out, context = ops.lrn_forward(np.ones((1, 3, 2, 2)), 3, 1.0, 0.75, 1.0)
    with pytest.raises(ShapeError, match=r"lrn backward: dout has shape \(1, 3\), expected"):
        ops.lrn_backward(out[:, :, 0, 0], context)


# ---- the front door -------------------------------------------------------------------


def test_without_a_slope_nothing_passes_below_zero(backend):
    x = np.array([[-2.0, 3.0], [0.0, -1e-9]])
    for kind, low in (("leaky_relu", 0.0), ("elu", 0.0)):
        out, context = ops.activation_forward(x, kind, backend=backend)
        np.testing.assert_array_equal(out, np.maximum(x, low))
        dx = ops.activation_backward(np.full((2, 2), 2.0), context)
        np.testing.assert_array_equal(dx, [[0, 2], [0, 0]])


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_axes_keep_their_order_in_memory(backend, dtype, rng, axes):
    """Images in a convolution's layout stay in it; nothing is copied in between."""
    x = rng.standard_normal((3, 4, 5)).astype(dtype).transpose(axes)
    dout = rng.standard_normal(x.shape)
    out, context = ops.activation_forward(x, "tanh", backend=backend)
    dx = ops.activation_backward(dout, context)
    assert context.backend == backend
    for got, expected in ((out, np.tanh(x)), (dx, dout / np.cosh(x) ** 2)):
        assert_close(got, expected, dtype=dtype, tolerance=1e-12 if dtype == np.float64 else None)
        assert got.dtype == dtype and got.strides == x.strides


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 0, 3), (2, 3, 4)])
def test_sigmoid_by_itself(backend, dtype, rng, shape):
    x, dout = np.asarray(rng.standard_normal((2, *shape)) * 4).astype(dtype)
    out = ops.sigmoid_forward(x, backend)
    expected = 1 / (1 + np.exp(-x.astype(float)))
    assert_close(np.asarray(out), expected, dtype=dtype)
    assert out.shape == shape and out.dtype == dtype
    dx = ops.sigmoid_backward(dout, out, backend)
    assert_close(np.asarray(dx), dout * expected * (1 - expected), dtype=dtype)
    assert dx.shape == shape


def test_what_sigmoid_refuses():
    out = ops.sigmoid_forward(np.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"sigmoid backward: dout has shape \(3,\), .* \(2, 3\)"):
        ops.sigmoid_backward(np.ones(3), out)
    with pytest.raises(DTypeError, match=r"sigmoid backward: .* complex128"):
        ops.sigmoid_backward(np.ones((2, 3), complex), out)
    with pytest.raises(DTypeError, match=r"sigmoid: .* complex128"):
        ops.sigmoid_forward(np.ones((2, 3), complex))
    _, context = ops.activation_forward(np.ones((2, 3)), "silu")
    with pytest.raises(DTypeError, match=r"silu backward: .* complex128"):
        ops.activation_backward(np.ones((2, 3), complex), context)


@pytest.mark.parametrize("memory", MEMORY)
def test_local_response_in_any_memory(backend, dtype, rng, memory):
    x, dout = (in_memory(memory, rng.standard_normal((2, 7, 4, 3)).astype(dtype)) for _ in range(2))
    with unchanged(x, dout):
        out, context = ops.lrn_forward(x, 3, 1.0, 0.75, 2.0, backend)
        dx = ops.lrn_backward(dout, context)
    assert_close(out, naive.lrn(x, 3, 1.0, 0.75, 2.0), dtype=dtype)
    assert_close(dx, naive.lrn_gradient(dout, x, 3, 1.0, 0.75, 2.0), dtype=dtype)
    assert out.dtype == dx.dtype == dtype
    assert context.backend == backend


def test_the_bounds_of_local_response(backend):
    """With alpha 0 only k normalises; a negative power multiplies."""
    x = np.array([3.0, 4.0]).reshape(1, 2, 1, 1)
    out, _ = ops.lrn_forward(x, 1, 0, 0.5, 4, backend)
    np.testing.assert_allclose(out.ravel(), [1.5, 2.0], rtol=1e-15)
    out, _ = ops.lrn_forward(x, 3, 6.0, -1.0, 1e-3, backend)
    np.testing.assert_allclose(out.ravel(), [3 * 50.001, 4 * 50.001], rtol=1e-14)
    _, context = ops.lrn_forward(x, 3, 6.0, 0.5, 1.0, backend)
    with pytest.raises(DTypeError, match=r"lrn backward: .* complex128"):
        ops.lrn_backward(np.ones(x.shape, complex), context)
    with pytest.raises(DTypeError, match=r"lrn: .* complex128"):
        ops.lrn_forward(x.astype(complex), 3, 6.0, 0.5, 1.0, backend)
    for name in ("alpha", "k"):
        with pytest.raises(ArgumentError, match=f"^lrn: {name} must be .*, got nan"):
            LocalResponseNormalization(**{name: np.nan}).forward(x)
