"""Zeros are zeros: a convolution gives exactly its bias where a window holds only zeros.

Fast algorithms make an output from sums that cancel; their rounding would let half of a background
of zeros pass a ReLU. Loops find the windows of zeros, and what the others give.
"""

from __future__ import annotations

import functools
import itertools
import os
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

import fastconv
from fastconv import config, selection
from fastconv.backends import Registry
from fastconv.backends.algorithms import ALGORITHMS
from fastconv.datasets import load_digits, load_mnist
from fastconv.geometry import WindowGeometry, window_geometry
from fastconv.layers import BatchNormalization2d, Chain, Convolution, Pooling, Relu, Shortcut
from fastconv.models import DeepConvNet
from fastconv.network import Network
from fastconv.network.executor import describe
from fastconv.optimizer import Adam
from fastconv.testing import call_kernel, ways

from . import naive, naive_grouped
from .compare import TOLERANCE, assert_close, in_case
from .geometries import moved
from .stand_ins import put_registry
from .took import runs_by

FORCED = ALGORITHMS[1:]

GEOMETRIES = {
    "whole tiles": ((3, 8, 12, 12), 16, 3, 1, 1),
    "tiles that hang over": ((3, 17, 13, 15), 9, 3, 1, 1),
    "pad 2, several vectors": ((2, 40, 9, 10), 33, 3, 1, 2),
    "no padding, two columns of tiles": ((2, 5, 7, 10), 3, 3, 1, 0),
    "many channels": ((2, 150, 8, 9), 65, 3, 1, 1),
    "padding by side": ((2, 9, 11, 10), 17, 3, 1, ((0, 2), (1, 0))),
}
"""Convolutions that Winograd's algorithms apply to: (N, C, H, W), FN, side, stride, pad."""

DIRECT = {
    "one channel": ((2, 1, 14, 14), 16, 3, 1, 1),
    "sum in parts": ((2, 150, 8, 9), 9, 3, 2, 1),
    "large windows": ((2, 3, 15, 13), 18, 5, 1, 2),
    "1x1": ((2, 20, 9, 7), 17, 1, 1, 0),
    "strides past the window": ((2, 6, 13, 11), 5, 2, 3, 0),
}
"""All other kinds of convolution."""

PICTURES = ("patch", "pixels", "minus zeros", "behind a ReLU", "blank images", "all zeros")


def picture(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Images (N, C, H, W) of float64 with zeros in them."""
    n, c, h, w = shape
    x, values = np.zeros(shape), rng.standard_normal(shape)
    match kind:
        case "patch" | "minus zeros":
            here = slice(None), slice(None), slice(h // 3, 2 * h // 3), slice(w // 3, 2 * w // 3)
            x[here] = values[here]
            if kind == "minus zeros":
                x[x == 0] = np.where(rng.random(np.count_nonzero(x == 0)) < 0.5, -0.0, 0.0)
        case "pixels":  # each in one channel, the last one first
            for i in range(2 * n):
                at = i % n, (c - 1 - 7 * i) % c, rng.integers(h), rng.integers(w)
                x[at] = values[at]
        case "behind a ReLU":  # few channels pass, all in the same places
            x = np.maximum(values, 0) * (rng.random((n, 1, h, w)) < 0.15)
        case "blank images":
            x[: (n + 1) // 2] = values[: (n + 1) // 2]
        case "all zeros":
            pass
    return x


def windows_of_zeros(x: np.ndarray, g: WindowGeometry) -> np.ndarray:
    """(N, 1, OH, OW): where a window holds only zeros (a NaN is not zero)."""
    seen = naive.padded((x != 0).any(axis=1, keepdims=True), moved(g)[1])
    found = np.zeros((g.n, 1, g.oh, g.ow), bool)
    for oy, ox, top, left in naive.each_window(x.shape, g.fh, g.fw, *moved(g)):
        found[..., oy, ox] = ~seen[:, :, top : top + g.fh, left : left + g.fw].any(axis=(2, 3))
    return found


class Case:
    """Arrays of one convolution, what it gives, and where its windows hold only zeros."""

    def __init__(self, name: str, kind: str, dtype: np.dtype) -> None:
        shape, filters, side, stride, pad = (GEOMETRIES | DIRECT)[name]
        self.g = window_geometry("test", shape, side, side, stride, pad)
        rng = np.random.default_rng(7)
        self.x = picture(kind, rng, shape).astype(dtype)
        self.weight = rng.standard_normal((filters, shape[1], side, side)).astype(dtype)
        self.bias = rng.standard_normal(filters).astype(dtype)
        self.bias[::3] = 0
        self.residual = rng.standard_normal(self.g.output_shape(filters)).astype(dtype)
        self.out = naive.conv2d(self.x, self.weight, self.bias, stride, pad)
        self.empty = np.broadcast_to(windows_of_zeros(self.x, self.g), self.out.shape)
        assert self.empty.any()

    @property
    def inputs(self) -> dict[str, object]:
        return {"x": self.x, "weight": self.weight, "bias": self.bias, "geometry": self.g}

    @property
    def given_bias(self) -> np.ndarray:
        """The bias at the place of each output."""
        return np.broadcast_to(self.bias[:, None, None], self.out.shape)


case = functools.cache(Case)


@functools.cache
def registry_of(isa: str) -> Registry:
    """Backends limited to an instruction set, loaded once for thousands of tests."""
    return Registry(max_isa=isa)


@pytest.fixture(params=["numpy", "numba", "cython baseline", "cython avx2", "cython avx512"])
def build(request, monkeypatch):
    """A function of (algorithm, threads) that gives a backend's table, for each build.

    After the test, that algorithm must have run: direct convolution would pass all of this easily.
    It may be missing only if no convolution need be a `plain` one, as among grouped ones.
    """
    name, _, isa = request.param.partition(" ")
    if isa:
        put_registry(monkeypatch, registry_of(isa))
    status = selection.registry().status(name)
    if not status:
        pytest.skip(status.reason)

    held = ExitStack()

    def table(algorithm: str, threads: int = 1, plain: bool = True):
        if name == "numpy" and algorithm not in ("auto", "direct"):
            pytest.skip("the reference has one way to compute a convolution")
        fastconv.set_num_threads(threads)
        config.set_conv_algorithm(algorithm)
        active = selection.active(name)
        if plain:
            held.enter_context(runs_by(active, algorithm))
        return active

    with held:
        yield table


def assert_exact(got: np.ndarray, expected: np.ndarray, empty: np.ndarray) -> None:
    np.testing.assert_array_equal(got[empty], expected.astype(got.dtype)[empty])


# ---- by every algorithm -------------------------------------------------------------------


WAYS = [(name, algorithm) for name in GEOMETRIES for algorithm in FORCED]
WAYS += [(name, "direct") for name in DIRECT]


@contextmanager
def one_of(name, kind, dtype, table, algorithm):
    """One case of a test: a failure names it, and the algorithm must have run for it."""
    with in_case(kind), runs_by(table, algorithm):
        yield case(name, kind, dtype)


@pytest.mark.parametrize(("name", "algorithm"), WAYS)
def test_windows_of_zeros_give_the_bias(build, dtype, name, algorithm):
    for threads in (1, 2):
        table = build(algorithm, threads)
        for kind in PICTURES:
            with one_of(name, kind, dtype, table, algorithm) as c:
                got = call_kernel(table, "conv2d_forward", **c.inputs)["out"]
                assert_exact(got, c.given_bias, c.empty)
                assert_close(got, c.out, dtype=dtype)


@pytest.mark.parametrize(("name", "algorithm"), WAYS)
def test_windows_of_zeros_in_a_fused_block(build, dtype, name, algorithm):
    """With a residual and ReLU; the ReLU decides as in the loops."""
    table = build(algorithm)
    for kind in PICTURES[:4]:
        with one_of(name, kind, dtype, table, algorithm) as c:
            check_a_block(table, c, dtype)


def check_a_block(table, c, dtype):
    shortcut = c.given_bias + c.residual
    for residual, exact, out in (
        (None, c.given_bias, c.out),
        (c.residual, shortcut, c.out + c.residual),
    ):
        scale = max(np.abs(out).max(), np.abs(c.out).max())
        for relu in (False, True):
            got = call_kernel(
                table,
                "conv2d_block_forward",
                **c.inputs,
                residual=residual,
                relu=relu,
                pool=False,
                winner=None,
            )["out"]
            assert_exact(got, np.where(relu & (exact <= 0), 0, exact), c.empty)
            assert_close(got, np.maximum(out, 0) if relu else out, dtype=dtype, scale=scale)
            if relu and residual is None:
                clear = c.empty | (np.abs(out) > TOLERANCE[dtype] * scale)
                np.testing.assert_array_equal((got > 0)[clear], (out > 0)[clear])


@pytest.mark.parametrize(("name", "algorithm"), WAYS)
def test_windows_of_zeros_before_pooling(build, dtype, name, algorithm):
    """The first of several windows of zeros wins, as it does in the loops."""
    table = build(algorithm)
    for kind in PICTURES[:4]:
        with one_of(name, kind, dtype, table, algorithm) as c:
            check_a_pool(table, c, dtype)


def check_a_pool(table, c, dtype):
    got = call_kernel(
        table,
        "conv2d_block_forward",
        **c.inputs,
        residual=None,
        relu=True,
        pool=True,
    )
    best, place = naive.maxpool2d(np.maximum(c.out, 0), 2, 2, 2, 0)
    assert_close(got["out"], best, dtype=dtype, scale=np.abs(c.out).max())
    blank = fourfold(c.empty).all(axis=-1)
    assert_exact(got["out"], np.maximum(c.given_bias, 0)[:, :, ::2, ::2][pooled(c)], blank)
    # A winner is certain if no other value is near, except for windows of zeros, which are exact.
    near = np.abs(fourfold(c.out) - best[..., None]) < 1e-4 * np.abs(c.out).max()
    decided = (near.sum(axis=-1) == 1) | (fourfold(c.empty) | ~near).all(axis=-1)
    expected = np.where(best > 0, place, 4)
    np.testing.assert_array_equal(got["winner"][decided], expected[decided])
    assert decided.mean() > 0.9


def pooled(c: Case) -> tuple[slice, ...]:
    """Selects the first pixel of each complete 2x2 window."""
    return slice(None), slice(None), slice(c.g.oh // 2), slice(c.g.ow // 2)


def fourfold(images: np.ndarray) -> np.ndarray:
    """(N, C, H//2, W//2, 4): the places of each window of 2x2."""
    n, c, h, w = images.shape
    images = images[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2)
    return images.transpose(0, 1, 2, 4, 3, 5).reshape(n, c, h // 2, w // 2, 4)


# ---- NaN and infinity ----------------------------------------------------------------------

BROKEN = (np.nan, np.inf, -np.inf)


@np.errstate(invalid="ignore")  # NumPy warns of it
@pytest.mark.parametrize(("name", "algorithm"), WAYS)
def test_a_broken_pixel_reaches_no_window_of_zeros(build, dtype, name, algorithm):
    c, table = case(name, "pixels", dtype), build(algorithm)
    for value in BROKEN:
        with in_case(value), runs_by(table, algorithm):
            x = np.where(c.x != 0, np.asarray(value, dtype), c.x)
            got = call_kernel(table, "conv2d_forward", **{**c.inputs, "x": x})["out"]
            assert_exact(got, c.given_bias, c.empty)
            assert not np.isfinite(got[~c.empty]).any()


@np.errstate(invalid="ignore")  # NumPy warns of it
@pytest.mark.parametrize(("name", "algorithm"), WAYS)
def test_a_broken_filter_spoils_its_own_channel_everywhere(build, dtype, name, algorithm):
    """0 times NaN or infinity is NaN: a diverged network must show."""
    c, table = case(name, "patch", dtype), build(algorithm)
    taps = 0, c.weight[0].size // 2, c.weight[0].size - 1
    for value, tap in itertools.product(BROKEN, taps):
        with in_case(value, tap), runs_by(table, algorithm):
            weight = c.weight.copy()
            weight[-1].reshape(-1)[tap] = value
            inputs = {**c.inputs, "weight": weight}
            got = call_kernel(table, "conv2d_forward", **inputs)["out"]
            assert not np.isfinite(got[:, -1]).any()
            assert_exact(got[:, :-1], c.given_bias[:, :-1], c.empty[:, :-1])


@pytest.mark.parametrize("algorithm", FORCED)
def test_huge_filters_are_not_broken(build, dtype, algorithm):
    """Sums of them overflow, but zeros times them do not."""
    c = case("whole tiles", "all zeros", dtype)
    weight = np.full_like(c.weight, 0.2 * np.finfo(dtype).max)
    inputs = {**c.inputs, "weight": weight}
    got = call_kernel(build(algorithm), "conv2d_forward", **inputs)["out"]
    np.testing.assert_array_equal(got, c.given_bias)


# ---- groups and dilation --------------------------------------------------------------------

GROUPED = {
    "depthwise": ((2, 20, 9, 11), 20, 3, 1, 1, 1, 20),
    "two groups": ((2, 10, 9, 8), 18, 3, 1, 1, 1, 2),
    "groups that share a vector": ((2, 12, 9, 8), 12, 3, 1, 1, 1, 4),
    "phases": ((2, 5, 15, 16), 9, 3, 1, 2, 2, 1),
}
"""(N, C, H, W), FN, side, stride, pad, dilation, groups."""


@functools.cache
def grouped_case(name: str, kind: str, dtype: np.dtype):
    """(inputs, expected output, where windows hold only zeros)."""
    shape, filters, side, stride, pad, dilation, groups = GROUPED[name]
    rng = np.random.default_rng(7)
    x = picture(kind, rng, shape).astype(dtype)
    weight = rng.standard_normal((filters, shape[1] // groups, side, side)).astype(dtype)
    bias = rng.standard_normal(filters).astype(dtype)
    g = window_geometry("test", shape, side, side, stride, pad, dilation)
    inputs = {"x": x, "weight": weight, "bias": bias, "geometry": g, "groups": groups}
    window = stride, pad, dilation, groups
    seen = naive_grouped.conv2d(x != 0, np.ones(weight.shape), np.zeros(filters), *window)
    assert (seen == 0).any()
    return inputs, naive_grouped.conv2d(x, weight, bias, *window), seen == 0


@pytest.mark.parametrize("algorithm", FORCED)
@pytest.mark.parametrize("name", GROUPED)
def test_groups_see_their_own_zeros(build, dtype, name, algorithm):
    table = build(algorithm, plain=False)
    for kind in ("patch", "pixels", "blank images"):
        with in_case(kind):
            inputs, expected, empty = grouped_case(name, kind, dtype)
            got = call_kernel(table, "conv2d_grouped_forward", **inputs)["out"]
            assert_exact(got, np.broadcast_to(inputs["bias"][:, None, None], got.shape), empty)
            assert_close(got, expected, dtype=dtype)


# ---- layers and networks --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["default", "fast"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_background_gives_no_gradient(build, dtype, algorithm, mode):
    """An image of zeros with one patch in it; expectations come from NumPy alone."""
    table = build(algorithm)
    fastconv.set_math_mode(mode)
    rng = np.random.default_rng(0)
    x = np.zeros((8, 16, 28, 28))
    x[:, :, 9:18, 9:18] = rng.random((8, 16, 9, 9))
    weight, bias = rng.standard_normal((16, 16, 3, 3)).astype(dtype), np.zeros(16, dtype)
    with fastconv.use_backend(table.name):
        conv, relu = Convolution(weight, bias, 1, 1), Relu()
        y = conv.forward(x.astype(dtype))
        assert y.dtype == dtype
        assert np.count_nonzero(y) == 15488
        relu.forward(y)
        conv.backward(relu.backward(np.ones_like(y)))
    assert conv.db[:4].tolist() == [790, 216, 673, 755]
    if algorithm == "auto" and table.name != "numpy":
        chosen = {"default": "winograd2x4", "fast": "winograd4"}[mode]
        with fastconv.use_backend(table.name), ways(table) as taken:
            conv.forward(x.astype(dtype))
        assert [way.how for way in taken] == [chosen]


@pytest.mark.parametrize("algorithm", ["auto", "winograd2x4", "winograd4"])
def test_pooling_gives_the_gradient_of_a_background_to_the_first_place(build, dtype, algorithm):
    """With a bias above 0 all windows of zeros are equal: only their order decides."""
    table = build(algorithm)
    rng = np.random.default_rng(0)
    x = np.zeros((8, 16, 28, 28), dtype)
    x[:, :, 11:18, 11:18] = rng.random((8, 16, 7, 7))
    weight, bias = rng.standard_normal((16, 16, 3, 3)).astype(dtype), np.full(16, 0.5, dtype)
    with fastconv.use_backend(table.name):
        pool = Pooling(2, 2, 2)
        pool.forward(Convolution(weight, bias, 1, 1).forward(x))
        dx = pool.backward(np.ones((8, 16, 14, 14), dtype))
    g = window_geometry("test", x.shape, 3, 3, 1, 1)
    blank = np.broadcast_to(windows_of_zeros(x, g), dx.shape)
    blank = fourfold(blank).all(axis=-1)
    assert blank.mean() > 0.5
    assert (fourfold(dx)[blank] == [1, 0, 0, 0]).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_normalisation_and_a_shortcut_folded_in(build, dtype, rng, algorithm):
    """In evaluation one kernel does all of it; its output in the background is one number."""
    table = build(algorithm)
    weight = rng.standard_normal((16, 16, 3, 3)).astype(dtype)
    norm = BatchNormalization2d(*rng.standard_normal((2, 16)).astype(dtype))
    norm.running_mean = rng.standard_normal(16).astype(dtype)
    norm.running_var = rng.uniform(0.5, 2, 16).astype(dtype)
    body = Chain({"conv": Convolution(weight, None, 1, 1), "norm": norm})
    x = picture("patch", rng, (8, 16, 22, 22)).astype(dtype)
    blank = windows_of_zeros(x, window_geometry("test", x.shape, 3, 3, 1, 1))[:, 0]
    expected = norm.beta - norm.running_mean * norm.gamma / np.sqrt(norm.running_var + norm.epsilon)
    for layers in (body.layers, {"sum": Shortcut([body])}):
        network = Network({**layers, "relu": Relu()}, dtype, table.name)
        assert len(describe(network.layers, x.shape, dtype, False)) == 1
        out = network.predict(x).transpose(0, 2, 3, 1)[blank]
        assert (out == out[0]).all()
        assert_close(out[0], np.maximum(expected, 0), dtype=dtype)


@pytest.fixture(scope="module")
def digits():
    """Twenty images (20, 1, 28, 28) of float64, and their labels."""
    folder = os.environ.get("FASTCONV_TEST_MNIST")
    if folder:
        (x, t), _ = load_mnist(flatten=False, data_dir=folder)
    else:
        pytest.importorskip("sklearn.datasets", reason="scikit-learn holds the digits")
        (x, t), _ = load_digits(flatten=False)
    return x[:20].astype(np.float64), t[:20]


def three_steps(x, t):
    """(losses, gradients of the first step, parameters after the third) of the book's network."""
    np.random.seed(0)
    network, optimizer, losses = DeepConvNet(dtype=np.float64), Adam(), []
    first = None
    for _ in range(3):
        gradients = network.gradient(x, t)
        losses.append(network.last_layer.loss)
        first = first or {key: gradient.copy() for key, gradient in gradients.items()}
        optimizer.update(network.params, gradients)
    return losses, first, {key: network.params[key].copy() for key in network.params}


@pytest.fixture(scope="module")
def by_the_reference(digits):
    with fastconv.use_backend("numpy"):
        return three_steps(*digits)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("algorithm", ["auto", "winograd2x4", "winograd4"])
@pytest.mark.parametrize("backend", ["numba", "cython"], indirect=True)
def test_digits_train_as_by_the_reference(backend, digits, by_the_reference, algorithm, threads):
    """At first all biases are 0, so that any noise in the background would show."""
    losses, gradients, parameters = by_the_reference
    fastconv.set_num_threads(threads)
    config.set_conv_algorithm(algorithm)
    with fastconv.use_backend(backend), runs_by(selection.active(backend), algorithm):
        got = three_steps(*digits)
    np.testing.assert_allclose(got[0], losses, rtol=1e-9)
    for name, expected in gradients.items():
        assert_close(got[1][name], expected, tolerance=1e-9)
    for name, expected in parameters.items():
        np.testing.assert_allclose(got[2][name], expected, atol=1e-9, rtol=0)
