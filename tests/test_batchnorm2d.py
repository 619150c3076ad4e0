"""Batch normalisation per channel: kernels, operations and layer, fused and not, and PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastconv
from fastconv import ops, selection
from fastconv.errors import ShapeError
from fastconv.layers import BatchNormalization2d, Layer
from fastconv.testing import call_kernel

from . import naive_images as naive
from .awkward import MEMORY, in_memory, unchanged
from .compare import assert_close
from .geometries import SEEDS, THREADS, numbers

pytestmark = pytest.mark.usefixtures("fine_grained")

# Rows shorter and longer than a vector and a table, and pixels that leave a row incomplete.
CHANNELS = st.sampled_from([1, 2, 3, 8, 15, 16, 17, 64, 100, 255, 257, 300])
SIDES = st.integers(1, 9)


@st.composite
def image_shapes(draw):
    """(N, C, H, W) with at least one pixel, and few enough for quick loops."""
    c = draw(CHANNELS)
    sides = SIDES if c < 50 else st.integers(1, 3)
    return draw(st.integers(1, 3)), c, draw(sides), draw(sides)


def on_threads(name: str, threads: int):
    """The table, on this number of threads."""
    fastconv.set_num_threads(threads)
    return selection.active(name)


def statistics_of(x, epsilon=1e-5):
    """(mean, inv_std) of each channel."""
    _, mean, variance = naive.batchnorm2d(x, *np.ones((2, x.shape[1])))
    return mean, 1 / np.sqrt(variance + epsilon)


def expected_apply(x, centre, scale, shift, residual, relu):
    """By the definition, pixel by pixel."""
    rows = (naive.rows_of_channels(x) - centre) * scale + shift
    return naive.add_and_rectify(naive.images_of_rows(rows, x.shape), residual, relu)


# ---- kernels --------------------------------------------------------------------------


@given(image_shapes(), SEEDS, THREADS)
def test_statistics(backend, dtype, shape, seed, threads):
    x = 3 * numbers(seed, dtype)(*shape) + 1
    out = call_kernel(on_threads(backend, threads), "batchnorm2d_statistics", x=x)
    _, mean, variance = naive.batchnorm2d(x, *np.ones((2, shape[1])))
    assert_close(out["mean"], mean, dtype=dtype, scale=np.abs(x).max())
    assert_close(out["variance"], variance, dtype=dtype, scale=np.abs(x).max() ** 2)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("outlier", [False, True])
def test_a_large_mean_takes_nothing_from_the_variance(backend, rng, threads, outlier):
    """Nor does a first pixel that is unlike all others."""
    x = (rng.standard_normal((2, 5, 60, 70)) + 3e3).astype(np.float32)
    if outlier:
        x[0, :, 0, 0] = -1e4
    out = call_kernel(on_threads(backend, threads), "batchnorm2d_statistics", x=x)
    exact = x.astype(np.float64).transpose(1, 0, 2, 3).reshape(5, -1)
    np.testing.assert_allclose(out["mean"], exact.mean(axis=1), rtol=1e-7)
    np.testing.assert_allclose(out["variance"], exact.var(axis=1), rtol=1e-6)


def test_equal_values_have_no_variance(table, dtype):
    for value in (0.1, -3e7):
        out = call_kernel(table, "batchnorm2d_statistics", x=np.full((2, 3, 5, 7), value, dtype))
        assert_close(out["mean"], np.full(3, dtype.type(value)), tolerance=np.finfo(dtype).eps)
        assert out["variance"].max() <= (np.finfo(np.float64).eps * value) ** 2


@pytest.mark.parametrize("place", [(0, 1, 0, 0), (1, 1, 4, 6)])
def test_nan_stays_in_its_channel(table, dtype, rng, place):
    x = rng.standard_normal((2, 3, 5, 7)).astype(dtype)
    x[place] = np.nan
    out = call_kernel(table, "batchnorm2d_statistics", x=x)
    assert np.isnan([out["mean"], out["variance"]]).tolist() == [[False, True, False]] * 2


@pytest.mark.parametrize("place", [(0, 1, 0, 0), (1, 1, 4, 6)])
def test_the_mean_of_an_infinity_is_infinite(table, dtype, place):
    x = np.ones((2, 3, 5, 7), dtype)
    x[place] = np.inf
    with np.errstate(invalid="ignore"):
        out = call_kernel(table, "batchnorm2d_statistics", x=x)
    np.testing.assert_array_equal(out["mean"], [1, np.inf, 1])
    np.testing.assert_array_equal(out["variance"], [0, np.nan, 0])


@given(image_shapes(), SEEDS, THREADS, st.booleans(), st.booleans())
def test_apply(backend, dtype, shape, seed, threads, added, relu):
    draw = numbers(seed, dtype)
    x, residual = draw(*shape), draw(*shape) if added else None
    if relu:
        x.flat[0] = np.nan
    vectors = {name: draw(shape[1]) for name in ("centre", "scale", "shift")}
    table = on_threads(backend, threads)
    out = call_kernel(table, "batchnorm2d_apply", x=x, residual=residual, relu=relu, **vectors)
    expected = expected_apply(x, *vectors.values(), residual, relu)
    assert_close(out["out"], expected, dtype=dtype, scale=10)


@given(image_shapes(), SEEDS, THREADS, st.booleans(), st.booleans())
def test_backward(backend, dtype, shape, seed, threads, gated, kept):
    draw = numbers(seed, dtype)
    x, dout, gamma = 3 * draw(*shape) + 1, draw(*shape), draw(shape[1])
    gate = draw(*shape) if gated else None
    mean, inv_std = statistics_of(x)
    inputs = {"dout": dout, "gate": gate, "x": x, "gamma": gamma}
    inputs |= {"mean": mean.astype(dtype), "inv_std": inv_std.astype(dtype)}
    if not kept:
        inputs["dresidual"] = None
    table = on_threads(backend, threads)
    out = call_kernel(table, "batchnorm2d_backward", **inputs)
    dx, dgamma, dbeta, g = naive.batchnorm2d_gradients(dout, x, gamma, gate=gate)
    # With few pixels dx nearly cancels: the error is relative to the terms.
    terms = np.abs(dout).max() * np.abs(x).max() * inv_std.max()
    pixels = x.size // shape[1]
    assert_close(out["dx"], dx, dtype=dtype, scale=np.abs(gamma * inv_std).max() * terms**2)
    assert_close(out["dgamma"], dgamma, dtype=dtype, scale=pixels * terms)
    assert_close(out["dbeta"], dbeta, dtype=dtype, scale=pixels * np.abs(dout).max())
    if kept:
        np.testing.assert_array_equal(out["dresidual"], g)
    alone = call_kernel(table, "batchnorm2d_backward", **inputs | {"dx": None})
    for name in alone:
        np.testing.assert_array_equal(alone[name], out[name])


# ---- operations -----------------------------------------------------------------------


@pytest.mark.parametrize("memory", MEMORY)
def test_any_memory(backend, dtype, rng, memory):
    x, residual, dout = (rng.standard_normal((3, 4, 5, 6)).astype(dtype) for _ in range(3))
    x, residual, dout = (in_memory(memory, array) for array in (x, residual, dout))
    gamma, beta, mean, variance = (
        in_memory(memory, rng.random(4).astype(dtype) + dtype.type(0.5)) for _ in range(4)
    )
    with unchanged(x, residual, dout, gamma, beta, mean, variance):
        out, batch_mean, batch_variance, context = ops.batchnorm2d_train(
            x, gamma, beta, 1e-5, residual, True, backend
        )
        got = ops.batchnorm2d_backward(dout, gamma, context)
        inferred = ops.batchnorm2d_infer(
            x, gamma, beta, mean, variance, 1e-5, residual, True, backend
        )
    for statistics, result in ((None, out), ((mean, variance), inferred)):
        expected, *found = naive.batchnorm2d(x, gamma, beta, statistics=statistics)
        expected = naive.add_and_rectify(expected, residual, True)
        assert_close(result, expected, dtype=dtype)
        if statistics is None:
            assert_close(batch_mean, found[0], dtype=dtype, scale=1)
            assert_close(batch_variance, found[1], dtype=dtype)
    wanted = naive.batchnorm2d_gradients(dout, x, gamma, gate=np.asarray(out))
    for result, gradient in zip(got, wanted, strict=True):
        assert_close(result, gradient, dtype=dtype, scale=10 * np.abs(np.asarray(dout)).max())


@pytest.mark.parametrize("fixed", [False, True])
def test_fused_is_what_one_after_the_other_gives(backend, dtype, rng, fixed):
    """Against addition and ReLU by separate operations, forward and backward."""
    x, residual, dout = (rng.standard_normal((3, 17, 5, 6)).astype(dtype) for _ in range(3))
    gamma, beta, mean, variance = (rng.random(17).astype(dtype) + 1 for _ in range(4))

    def forward(*more):
        if fixed:
            arguments = x, gamma, beta, mean, variance, 1e-5, *more, backend
            return ops.batchnorm2d_fixed(*arguments)
        out, *_, context = ops.batchnorm2d_train(x, gamma, beta, 1e-5, *more, backend)
        return out, context

    normalized, plain = forward(None, False)
    out, relu = ops.relu_forward(normalized + residual, backend)
    fused, context = forward(residual, True)
    assert_close(fused, out, dtype=dtype)
    g = ops.relu_backward(dout, relu)
    assert g.any() and not g.all()
    *expected, nothing = ops.batchnorm2d_backward(g, gamma, plain)
    assert nothing is None
    for got, gradient in zip(
        ops.batchnorm2d_backward(dout, gamma, context), [*expected, g], strict=True
    ):
        assert_close(got, gradient, dtype=dtype, tolerance=10 * np.finfo(dtype).eps * 17)
    without = ops.batchnorm2d_backward(dout, gamma, context, input_gradient=False)
    assert without[0] is None
    np.testing.assert_array_equal(without[3], g)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
def test_the_gradient_through_fixed_statistics(backend, dtype, rng, relu, added):
    """A linear map by channel: dx is gamma/std * dout, of either sign, where a ReLU passes it."""
    x, residual, dout = (rng.standard_normal((3, 5, 4, 6)).astype(dtype) for _ in range(3))
    gamma, beta, mean, variance = (rng.random(5).astype(dtype) + 0.5 for _ in range(4))
    gamma[1] *= -1
    more = (residual if added else None, relu, backend)
    out, context = ops.batchnorm2d_fixed(x, gamma, beta, mean, variance, 1e-3, *more)
    inv_std = 1 / np.sqrt(variance.astype(float) + 1e-3)
    normalized = (x - mean[:, None, None]) * inv_std[:, None, None]
    value = gamma[:, None, None] * normalized + beta[:, None, None] + residual * added
    assert_close(out, np.maximum(value, 0) if relu else value, dtype=dtype)
    g = np.where(np.asarray(out) > 0, dout, 0) if relu else dout
    dx, dgamma, dbeta, dresidual = ops.batchnorm2d_backward(dout, gamma, context)
    assert_close(dx, g * (gamma * inv_std)[:, None, None], dtype=dtype)
    assert_close(dgamma, (g * normalized).sum(axis=(0, 2, 3)), dtype=dtype, scale=50)
    assert_close(dbeta, g.astype(float).sum(axis=(0, 2, 3)), dtype=dtype, scale=50)
    if added:
        np.testing.assert_array_equal(dresidual, g)
    else:
        assert dresidual is None
    without = ops.batchnorm2d_backward(dout, gamma, context, input_gradient=False)
    assert without[0] is None
    np.testing.assert_array_equal(without[1], dgamma)


def test_a_gamma_of_another_shape_at_backward():
    x, ones = np.ones((2, 3, 4, 4)), np.ones(3)
    *_, context = ops.batchnorm2d_train(x, ones, ones, 1e-5)
    with pytest.raises(ShapeError, match=r"batchnorm2d backward: gamma has shape \(2,\), expected"):
        ops.batchnorm2d_backward(x, ones[:2], context)


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 5)])
def test_no_pixels(backend, dtype, shape):
    x, ones = np.ones(shape, dtype), np.ones(3, dtype)
    out, mean, variance, context = ops.batchnorm2d_train(x, ones, ones, 1e-5, x, True, backend)
    assert out.shape == shape and out.dtype == dtype
    dx, dgamma, dbeta, dresidual = ops.batchnorm2d_backward(x, ones, context)
    assert dx.shape == dresidual.shape == shape
    np.testing.assert_array_equal((mean, variance, dgamma, dbeta), np.zeros((4, 3)))
    assert ops.batchnorm2d_infer(x, *[ones] * 4, 1e-5, x, True, backend).shape == shape


def test_one_value_for_each_channel_gives_beta(backend, dtype, rng):
    x, gamma, beta = (rng.standard_normal(shape).astype(dtype) for shape in ((1, 3, 1, 1), 3, 3))
    out, mean, variance, context = ops.batchnorm2d_train(x, gamma, beta, 1e-5, backend=backend)
    np.testing.assert_array_equal(out[0, :, 0, 0], beta)
    np.testing.assert_array_equal(mean, x[0, :, 0, 0])
    np.testing.assert_array_equal(variance, np.zeros(3))
    dx, dgamma, _, _ = ops.batchnorm2d_backward(np.ones_like(x), gamma, context)
    np.testing.assert_array_equal(dx, np.zeros_like(x))
    np.testing.assert_array_equal(dgamma, np.zeros(3))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_bit_for_bit(backend, rng, threads):
    fastconv.set_num_threads(threads)
    x, dout = rng.standard_normal((2, 8, 33, 100, 37)).astype(np.float32)
    ones = np.ones(33, np.float32)

    def results():
        out, mean, variance, context = ops.batchnorm2d_train(x, ones, ones, 1e-5, x, True, backend)
        return out, mean, variance, *ops.batchnorm2d_backward(dout, ones, context)

    for first, second in zip(results(), results(), strict=True):
        np.testing.assert_array_equal(first, second)


# ---- the layer ------------------------------------------------------------------------


def test_running_statistics(backend, dtype, rng):
    """They start at 0 and 1; the variance is the unbiased one."""
    layer = BatchNormalization2d(
        np.ones(3, dtype), np.zeros(3, dtype), momentum=0.8, backend=backend
    )
    np.testing.assert_array_equal((layer.running_mean, layer.running_var), [[0] * 3, [1] * 3])
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(2):
        x = (2 * rng.standard_normal((2, 3, 4, 5)) + 1).astype(dtype)
        layer.forward(x)
        rows = naive.rows_of_channels(x)
        mean = 0.8 * mean + 0.2 * rows.mean(axis=0)
        variance = 0.8 * variance + 0.2 * rows.var(axis=0, ddof=1)
    assert_close(layer.running_mean, mean, dtype=dtype)
    assert_close(layer.running_var, variance, dtype=dtype)
    before = layer.running_mean
    out = layer.forward(x, train_flg=False)
    assert layer.running_mean is before
    expected = naive.batchnorm2d(x, np.ones(3), np.zeros(3), statistics=(mean, variance))[0]
    assert_close(out, expected, dtype=dtype)
    layer.forward(x[:0])
    assert layer.running_mean is before


def test_statistics_that_are_given_are_not_written(backend, dtype, rng):
    mean, variance = rng.random((2, 3)).astype(dtype)
    with unchanged(mean, variance):
        layer = BatchNormalization2d(
            np.ones(3, dtype),
            np.ones(3, dtype),
            running_mean=mean,
            running_var=variance,
            backend=backend,
        )
        held = layer.running_mean
        layer.forward(rng.standard_normal((2, 3, 4, 5)).astype(dtype))
    assert held is mean and layer.running_mean is not mean


def test_one_value_leaves_no_nan_in_the_statistics(backend, dtype):
    layer = BatchNormalization2d(np.ones(3, dtype), np.ones(3, dtype), backend=backend)
    layer.forward(np.full((1, 3, 1, 1), 5, dtype))
    assert_close(layer.running_mean, np.full(3, 0.5), dtype=dtype)
    assert_close(layer.running_var, np.full(3, 0.9), dtype=dtype)


def test_buffers_are_attributes_that_are_not_trained():
    assert Layer.buffer_names == ()
    for layer in (
        fastconv.layers.BatchNormalization(np.ones(3), np.ones(3)),
        BatchNormalization2d(np.ones(3), np.ones(3)),
    ):
        assert layer.buffer_names == ("running_mean", "running_var")
        assert not set(layer.buffer_names) & set(layer.parameter_names)
        layer.forward(np.random.default_rng(0).standard_normal((2, 3, 1, 1)))
        assert all(getattr(layer, name).shape == (3,) for name in layer.buffer_names)


# ---- PyTorch --------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_as_pytorch(backend, dtype, rng, training):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    gamma, beta, mean, variance = (rng.random(5) + 0.5 for _ in range(4))
    theirs = torch.nn.BatchNorm2d(5, momentum=0.2, dtype=torch.float64)
    state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
    theirs.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=False)
    theirs.train(training)
    given = [array.astype(dtype) for array in (gamma, beta, mean, variance)]
    ours = BatchNormalization2d(*given[:2], 0.8, 1e-5, *given[2:], backend)
    for _ in range(2):
        x, dout = rng.standard_normal((2, 3, 5, 4, 6)).astype(dtype)
        leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
        theirs.zero_grad()
        out = theirs(leaf)
        out.backward(torch.tensor(dout, dtype=torch.float64))
        assert_close(ours.forward(x, train_flg=training), out.detach().numpy(), dtype=dtype)
        scale = np.abs(dout).sum() / 5
        assert_close(ours.backward(dout), leaf.grad.numpy(), dtype=dtype)
        assert_close(ours.dgamma, theirs.weight.grad.numpy(), dtype=dtype, scale=scale)
        assert_close(ours.dbeta, theirs.bias.grad.numpy(), dtype=dtype, scale=scale)
    assert_close(ours.running_mean, theirs.running_mean.numpy(), dtype=dtype)
    assert_close(ours.running_var, theirs.running_var.numpy(), dtype=dtype)
