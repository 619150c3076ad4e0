"""The short way: the kernels' numbers for the arrays that it takes, nothing for others.

Expectations are loops of `tests/naive.py` and NumPy's formulas, as in the book. The counter
`short.calls` tells which way was taken.
"""

from __future__ import annotations

import copy
import sys

import numpy as np
import pytest

import fastconv
from fastconv import ops, selection
from fastconv.backends.short import NumpyShort, Short
from fastconv.errors import FastconvError, LabelError, ShapeError
from fastconv.functions import cross_entropy_error, sigmoid, softmax
from fastconv.layers import Affine, BatchNormalization, Dropout, Relu, Sigmoid, SoftmaxWithLoss
from fastconv.network import Network
from fastconv.optimizer import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop
from fastconv.testing.contract import ContractBroken

from .compare import assert_close

OPTIMIZERS = [SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam]


@pytest.fixture
def short(backend):
    fastconv.set_backend(backend)
    return selection.active().short


@pytest.fixture
def compiled(short, backend):
    """The `short` of the Cython backend, which has every operation."""
    if backend != "cython":
        pytest.skip("this backend leaves most operations to its kernels")
    return short


@pytest.fixture
def long_way(monkeypatch):
    """Makes a block of a test take the long way: `with long_way(): ...`."""

    class Off:
        def __enter__(self):
            self.table = selection.active()
            self.kept = self.table.short
            self.table.short = Short()

        def __exit__(self, *error):
            self.table.short = self.kept

    return Off


def took(short, before, count=1):
    assert short.calls == before + count


# ---- the same numbers -----------------------------------------------------------------

SHAPES = [(1, 1, 1), (3, 50, 10), (1, 7, 5), (3, 784, 50), (9, 20, 33), (100, 50, 10), (8, 17, 16)]


@pytest.mark.parametrize("shape", SHAPES)
def test_affine(compiled, dtype, rng, shape):
    n, d, m = shape
    x, weight, bias = (rng.standard_normal(s).astype(dtype) for s in ((n, d), (d, m), m))
    dout = rng.standard_normal((n, m)).astype(dtype)
    layer, before = Affine(weight, bias), compiled.calls
    out, dx = layer.forward(x), layer.backward(dout)
    took(compiled, before, 2)
    wide = [a.astype(np.float64) for a in (x, weight, bias, dout)]
    assert out.dtype == dx.dtype == layer.dW.dtype == layer.db.dtype == dtype
    assert_close(out, wide[0] @ wide[1] + wide[2])
    assert_close(dx, wide[3] @ wide[1].T)
    assert_close(layer.dW, wide[0].T @ wide[3])
    assert_close(layer.db, wide[3].sum(axis=0))
    assert ops.affine_backward(dout, weight, layer._context, False)[0] is None


def test_affine_of_images(compiled, rng):
    x = rng.standard_normal((2, 3, 4, 5))
    layer, before = Affine(rng.standard_normal((60, 7)), np.zeros(7)), compiled.calls
    out = layer.forward(x)
    dx = layer.backward(np.ones_like(out))
    took(compiled, before, 2)
    assert_close(out, x.reshape(2, 60) @ layer.W)
    assert dx.shape == x.shape and layer.x.shape == (2, 60) and layer.original_x_shape == x.shape


def test_affine_of_narrower_input(compiled, rng):
    """In the book's scripts images are float32 and weights float64: float64 is computed."""
    x = rng.standard_normal((3, 6)).astype(np.float32)
    layer, before = Affine(rng.standard_normal((6, 4)), np.zeros(4)), compiled.calls
    out = layer.forward(x)
    took(compiled, before)
    assert_close(out, x.astype(np.float64) @ layer.W, dtype=np.float64)
    dx = layer.backward(np.ones((3, 4)))
    took(compiled, before, 2)
    assert_close(dx, np.ones((3, 4)) @ layer.W.T, dtype=np.float64)
    Affine(layer.W.astype(np.float32), np.zeros(4, np.float32)).forward(x.astype(np.float64))
    took(compiled, before, 2)  # the other way round: weights are converted, the long way


@pytest.mark.parametrize("shape", [(1,), (3, 50), (2, 3, 4, 5)])
def test_relu(short, dtype, rng, shape):
    x = rng.standard_normal(shape).astype(dtype)
    x = np.where(np.abs(x) < 0.3, dtype.type(0), x).astype(dtype).reshape(shape)
    dout = np.asarray(rng.standard_normal(shape)).astype(dtype)
    kept, layer, before = dout.copy(), Relu(), short.calls
    out, dx = layer.forward(x), layer.backward(dout)
    took(short, before, 2)
    np.testing.assert_array_equal(out, np.where(x > 0, x, 0))
    np.testing.assert_array_equal(dx, np.where(x > 0, dout, 0))
    np.testing.assert_array_equal(layer.mask, x <= 0)
    np.testing.assert_array_equal(dout, kept)  # the book writes into it, this does not
    assert out.dtype == dx.dtype == dtype and not np.shares_memory(out, x)


def test_relu_keeps_nan(short):
    layer, before = Relu(), short.calls
    np.testing.assert_array_equal(
        layer.forward(np.array([np.nan, -np.inf, np.inf, -0.0])), [np.nan, 0, np.inf, 0]
    )
    np.testing.assert_array_equal(layer.backward(np.full(4, np.nan)), [0, 0, np.nan, 0])
    took(short, before, 2)


@pytest.mark.parametrize("size", [1, 7, 150, 5000])
def test_sigmoid(compiled, dtype, rng, size):
    x = (8 * rng.standard_normal(size)).astype(dtype)
    x[0] = -1e4 if size > 1 else 0.5
    layer, before = Sigmoid(), compiled.calls
    out, dx = layer.forward(x), layer.backward(np.full_like(x, 2))
    took(compiled, before, 2)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert_close(out, expected)
    assert_close(dx, 2 * expected * (1 - expected))


def test_sigmoid_of_numbers():
    for x in (-1e4, -3.5, 0.0, 2.0, 1e4, 3, np.float32(1.5)):
        got = sigmoid(x)
        assert np.ndim(got) == 0 and isinstance(got, np.floating)
        expected = 0.0 if x == -1e4 else 1 / (1 + np.exp(-float(x)))
        assert got == pytest.approx(expected, rel=1e-6, abs=0)
    assert np.isnan(sigmoid(float("nan")))


def one_hot(labels, dtype, classes=5):
    return np.eye(classes, dtype=dtype)[labels]


LABELS = [np.array([1, 0, 4, 2], kind) for kind in ("i8", "i4", "u1")]
LABELS += [one_hot([1, 0, 4, 2], kind) for kind in ("f8", "f4", "i8", "u1")]


@pytest.mark.parametrize("t", LABELS, ids=lambda t: f"{t.dtype}-{t.ndim}")
def test_softmax_with_loss(compiled, dtype, rng, t):
    x = (5 * rng.standard_normal((4, 5))).astype(dtype)
    layer, before = SoftmaxWithLoss(), compiled.calls
    loss, dx = layer.forward(x, t), layer.backward(3)
    took(compiled, before, 2)
    wide = x.astype(np.float64)
    y = np.exp(wide - wide.max(axis=1, keepdims=True))
    y /= y.sum(axis=1, keepdims=True)
    labels = np.array([1, 0, 4, 2])
    assert loss == pytest.approx(-np.log(y[np.arange(4), labels] + 1e-7).mean(), rel=1e-6)
    assert_close(layer.y, y)
    assert_close(dx, (y - one_hot(labels, np.float64)) * 3 / 4)
    assert cross_entropy_error(layer.y, t) == pytest.approx(loss, rel=1e-6)
    assert_close(softmax(x), y)
    took(compiled, before, 4)


def test_probabilities_of_one_sample(compiled):
    y, before = softmax(np.array([0.3, 2.9, 4.0])), compiled.calls
    np.testing.assert_allclose(y, [0.01821127, 0.24519181, 0.73659691], atol=1e-8)
    assert cross_entropy_error(y, np.array([0, 0, 1])) == pytest.approx(-np.log(y[2] + 1e-7))
    assert cross_entropy_error(y, np.array(2)) == pytest.approx(-np.log(y[2] + 1e-7))
    took(compiled, before, 2)


@pytest.mark.parametrize("shape", [(1, 3), (4, 50), (30, 300)])
def test_batch_normalisation(compiled, dtype, rng, shape):
    x, dout = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    layer, before = BatchNormalization(gamma, beta), compiled.calls
    out, dx = layer.forward(x), layer.backward(dout)
    took(compiled, before, 2)
    wide, d = x.astype(np.float64), dout.astype(np.float64)
    std = np.sqrt(wide.var(axis=0) + 1e-6)
    xn = (wide - wide.mean(axis=0)) / std
    assert_close(out, gamma * xn + beta)
    assert_close(layer.dgamma, (d * xn).sum(axis=0))
    expected = gamma / std * (d - d.mean(axis=0) - xn * (d * xn).mean(axis=0))
    if shape[0] > 1:
        assert_close(dx, expected)
    assert_close(layer.running_mean, 0.1 * wide.mean(axis=0))


def test_dropout(short, dtype, rng):
    x = rng.standard_normal((20, 30)).astype(dtype)
    layer, before = Dropout(0.3), short.calls
    np.random.seed(5)
    out, dx = layer.forward(x), layer.backward(np.ones_like(x))
    took(short, before, 2)
    np.random.seed(5)
    mask = np.random.rand(20, 30) > 0.3
    np.testing.assert_array_equal(out, np.where(mask, x, 0))
    np.testing.assert_array_equal(dx, mask)
    assert out.dtype == dx.dtype == dtype


def network(rng, dtype):
    shapes = {"W1": (30, 9), "b1": (9,), "W2": (9, 4), "scale": (1,), "none": ()}
    return {k: np.asarray(rng.standard_normal(s)).astype(dtype) for k, s in shapes.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("threads", [1, 2])
def test_optimizers_step_as_the_long_way_does_to_the_bit(
    compiled, long_way, dtype, rng, optimizer, threads
):
    fastconv.set_num_threads(threads)
    params = network(rng, dtype) | {"large": rng.standard_normal((300, 400)).astype(dtype)}
    others, one, other = copy.deepcopy(params), optimizer(0.1), optimizer(0.1)
    for step in range(4):
        grads = {k: rng.standard_normal(p.shape).astype(dtype) for k, p in params.items()}
        grads["b1"][:] = 0 if step else 1e-310  # what is kept becomes subnormal
        one.update(params, grads)
        with long_way():
            other.update(others, grads)
        for key, value in others.items():
            np.testing.assert_array_equal(params[key], value, err_msg=f"{key} after step {step}")
        for name, value in other.state().items():
            np.testing.assert_array_equal(one.state()[name], value, err_msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_plain_step_is_one_call(compiled, rng, optimizer, monkeypatch):
    params, one = network(rng, np.dtype(np.float64)), optimizer(0.1)
    grads = {key: np.ones_like(value) for key, value in params.items()}
    one.update(params, grads)  # makes what is kept
    before = copy.deepcopy(params)
    monkeypatch.setattr(optimizer, "_steps", None)  # where the long way begins
    one.update(params, grads)
    for key, value in before.items():
        assert (params[key] != value).all(), key


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_plain_step_of_a_network_is_one_call(compiled, optimizer, monkeypatch):
    """Its params are a special mapping, which looks up arrays on the layers."""
    layer = Affine(np.ones((3, 2)), np.zeros(2))
    params, one = Network([layer], "float64").params, optimizer(0.1)
    grads = {"W1": np.ones((3, 2)), "b1": np.ones(2)}
    one.update(params, grads)  # makes what is kept
    monkeypatch.setattr(optimizer, "_steps", None)  # where the long way begins
    weight, before = layer.W, layer.W.copy()
    one.update(params, grads)
    assert layer.W is weight and (weight < before).all()


# ---- what it does not take ------------------------------------------------------------

X = np.linspace(-1, 1, 12).reshape(3, 4)
W, B = np.linspace(0, 1, 8).reshape(4, 2), np.ones(2)

REFUSED = {
    "list": X.tolist(),
    "transposed": np.asfortranarray(X),
    "sliced": np.repeat(X, 2, axis=1)[:, ::2],
    "integers": np.arange(12).reshape(3, 4),
    "float16": X.astype(np.float16),
    "longdouble": X.astype(np.longdouble),
    "swapped": X.astype(X.dtype.newbyteorder()),
    "matrix": X.view(type("Units", (np.ndarray,), {})),
    "empty": X[:0],
    "unaligned": np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float64).reshape(3, 4),
    "none": None,
    "text": "x",
    "wrong width": np.ones((3, 5)),
    "one axis": np.ones(5),
}


@pytest.mark.parametrize("x", REFUSED.values(), ids=REFUSED)
def test_other_arrays_go_the_long_way(compiled, x):
    before = compiled.calls
    assert compiled.affine_forward(x, W, B) is None
    assert compiled.affine_backward(x, X, np.ones((4, 4)), True) is None
    assert compiled.masked(x, None) is None and compiled.masked(X, x) is None
    assert compiled.batchnorm_train(X, x, x, 1e-6) is None
    assert compiled.batchnorm_train(x, np.ones(4), B, 1e-6) is None
    assert compiled.softmax_cross_entropy_forward(X, x, 0.0) is None
    assert compiled.softmax_cross_entropy_backward(X, x, 0.0, 1.0) is None
    assert compiled.calls == before


@pytest.mark.parametrize("optimizer", [o.__name__ for o in OPTIMIZERS])
@pytest.mark.parametrize("x", REFUSED.values(), ids=REFUSED)
def test_optimizers_change_nothing_if_anything_does_not_fit(compiled, optimizer, x):
    first, last = np.ones(3), X.copy()
    kept = {"a": np.zeros(3), "b": np.zeros((3, 4))}
    good = {"a": np.ones(3), "b": np.ones((3, 4))}
    name = optimizer.lower()
    numbers = {"sgd": 0, "adagrad": 0, "adam": 3}.get(name, 1) * (0.5,)
    state = {"sgd": 0, "adam": 2}.get(name, 1)

    def step(params, grads, kept):
        return getattr(compiled, name)(params, grads, *state * (kept,), 0.1, *numbers)

    assert not step({"a": first, "b": x}, good, kept)
    if np.shape(x) != X.shape or type(x) is not np.ndarray or x.dtype != X.dtype:
        assert not step({"a": first, "b": last}, {"a": good["a"], "b": x}, kept)
    if state:
        assert not step({"a": first, "b": last}, good, {"a": kept["a"], "b": x})
        assert not step({"a": first, "b": last}, good, {"a": kept["a"]})
        assert not step({"a": first, "b": last}, good, None)
        assert not step({"a": first, "b": last}, good, {"a": kept["a"], "b": last})
    assert not step({"a": first, "b": last}, {"a": good["a"]}, kept)
    assert not step({"a": first, "b": last}, {"a": good["a"], "b": last}, kept)
    frozen = X.copy()
    frozen.flags.writeable = False
    assert not step({"a": first, "b": frozen}, good, kept)
    assert not step([first], good, kept)
    np.testing.assert_array_equal(first, 1)
    np.testing.assert_array_equal(last, X)
    assert not any(value.any() for value in kept.values())


def test_a_step_that_was_refused_is_not_counted():
    adam = Adam()
    with pytest.raises(FastconvError):
        adam.update({"W": np.ones(3)}, {"W": np.ones(4)})
    assert adam.iter == 0


@pytest.mark.parametrize(
    ("t", "why"),
    [
        (np.array([0, 1, 4]), "labels must be 0 to 3"),
        (np.array([0, -1, 2]), "labels must be 0 to 3"),
        (np.array([0, 1]), "labels have shape"),
        (np.array([0.5, 1, 2]), "whole numbers"),
    ],
)
def test_the_long_way_reports_wrong_labels(t, why):
    for call in (SoftmaxWithLoss().forward, cross_entropy_error):
        with pytest.raises(LabelError, match=why):
            call(np.full((3, 4), 0.25), t)


def test_targets_that_are_no_labels_keep_their_meaning(compiled):
    soft = np.full((3, 4), 0.25)
    layer, before = SoftmaxWithLoss(), compiled.calls
    layer.forward(X, soft)
    took(compiled, before, 0)
    np.testing.assert_allclose(layer.backward(), (layer.y - soft) / 3, rtol=1e-12)


def test_what_changed_between_forward_and_backward_is_told():
    layer = Affine(W.copy(), B)
    layer.forward(X)
    layer.W = np.ones((4, 3))
    with pytest.raises(ShapeError, match="weight has shape"):
        layer.backward(np.ones((3, 3)))
    loss = SoftmaxWithLoss()
    loss.forward(X, np.array([0, 1, 2]))
    loss._context.labels[0] = 9
    with pytest.raises(ContractBroken, match="labels from 1 to 9"):  # the check of this suite
        loss.backward()


def test_large_work_goes_to_the_kernels(compiled):
    before = compiled.calls
    Affine(np.ones((784, 100)), np.ones(100)).forward(np.ones((100, 784)))
    Relu().forward(np.ones((200, 200)))
    Sigmoid().forward(np.ones((200, 200)))
    took(compiled, before, 0)


def test_a_dtype_that_was_asked_for_is_computed_in(short):
    ops.arrays.compute_in("float32")
    try:
        before = short.calls
        for layer in (Relu(), Affine(W, B), Sigmoid(), Dropout(0.1)):
            assert layer.forward(X).dtype == np.float32
        took(short, before, 0)
    finally:
        ops.arrays.compute_in(None)


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts of references")
def test_no_references_are_kept(compiled):
    """Only the user refers to the arrays that went in and to the results."""
    x, grads = X.copy(), {"W": np.ones(40_000)}
    params, layer = {"W": np.ones(40_000)}, Affine(W, B)
    counts = [sys.getrefcount(a) for a in (x, W, B, params["W"], grads["W"])]
    for _ in range(50):
        layer.forward(x)
        layer.backward(np.ones((3, 2)))
        softmax(x)
        SoftmaxWithLoss().forward(x, np.array([0, 1, 2]))
        SGD().update(params, grads)
    layer.forget()
    layer.x = None
    assert [sys.getrefcount(a) for a in (x, W, B, params["W"], grads["W"])] == counts


def test_numpys_operations_give_the_kernels_results(rng, long_way):
    """Bit for bit, so that it does not matter which arrays go which way."""
    numpys = NumpyShort()
    x = rng.standard_normal((5, 6))
    out, mask = numpys.relu_forward(x)
    with long_way():
        kernels, context = ops.relu_forward(x, "numba")
    np.testing.assert_array_equal(out, kernels)
    np.testing.assert_array_equal(mask, context.mask)
    np.testing.assert_array_equal(numpys.masked(x, mask), np.where(x > 0, x, 0))
    assert numpys.calls == 2
