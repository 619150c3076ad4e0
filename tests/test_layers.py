"""The book's layers: results, state, and what they may not do, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

import fastconv
from fastconv import layers
from fastconv.errors import ArgumentError, ShapeError, StateError
from fastconv.layers import (
    Affine,
    BatchNormalization,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    Sigmoid,
    SoftmaxWithLoss,
)

from . import naive
from .awkward import unchanged
from .compare import assert_close

pytestmark = pytest.mark.usefixtures("way")


@pytest.fixture
def draw(rng, dtype):
    """Draws normal numbers of a shape."""
    return lambda *shape: rng.standard_normal(shape).astype(dtype)


# ---- results --------------------------------------------------------------------------


def test_relu(backend, draw, dtype):
    x, dout = draw(3, 4, 5), draw(3, 4, 5)
    layer = Relu(backend=backend)
    expected, positive = naive.relu(x)
    assert_close(layer.forward(x), expected, dtype=dtype, tolerance=0)
    np.testing.assert_array_equal(layer.mask, positive == 0)
    assert_close(layer.backward(dout), dout * positive, dtype=dtype, tolerance=0)


def test_relu_mask_is_that_of_the_last_forward(backend):
    layer = Relu(backend=backend)
    layer.forward(np.array([1.0, -1.0]))
    assert layer.mask.tolist() == [False, True]
    layer.forward(np.array([-1.0, 1.0]))
    assert layer.mask.tolist() == [True, False]


def test_relu_keeps_nan(backend, dtype):
    out = Relu(backend=backend).forward(np.array([np.nan, -np.inf, np.inf, -0.0], dtype))
    np.testing.assert_array_equal(out, [np.nan, 0, np.inf, 0])


def test_sigmoid(draw, dtype):
    x, dout = draw(3, 4), draw(3, 4)
    layer = Sigmoid()
    expected = naive.sigmoid(x)
    out = layer.forward(x)
    assert_close(out, expected, dtype=dtype)
    assert layer.out is out
    assert_close(layer.backward(dout), dout * expected * (1 - expected), dtype=dtype)


@pytest.mark.parametrize("shape", [(5, 12), (5, 3, 2, 2), (5, 3, 4)])
def test_affine(backend, draw, dtype, shape):
    x, weight, bias, dout = draw(*shape), draw(12, 7), draw(7), draw(5, 7)
    rows = x.reshape(5, 12)
    layer = Affine(weight, bias, backend=backend)
    assert_close(layer.forward(x), naive.affine(rows, weight, bias), dtype=dtype)
    np.testing.assert_array_equal(layer.x, rows)
    assert layer.original_x_shape == shape
    dx, dweight, dbias = naive.affine_gradients(dout, rows, weight)
    assert_close(layer.backward(dout), dx.reshape(shape), dtype=dtype)
    assert_close(layer.dW, dweight, dtype=dtype)
    assert_close(layer.db, dbias, dtype=dtype)


def test_softmax_with_loss_takes_indices_and_one_hot(backend, draw, dtype):
    scores, labels = draw(6, 5), np.array([4, 0, 2, 2, 1, 3])
    y = naive.softmax(scores)
    for t in (labels, labels.astype(np.uint8), np.eye(5)[labels], np.eye(5, dtype=int)[labels]):
        layer = SoftmaxWithLoss(backend=backend)
        loss = layer.forward(scores, t)
        assert_close(np.asarray(loss), naive.cross_entropy(y, labels), tolerance=1e-6)
        assert layer.loss == loss
        assert_close(layer.y, y, dtype=dtype)
        np.testing.assert_array_equal(layer.t, t)
        gradient = naive.softmax_cross_entropy_gradient(y, labels, 1 / 6)
        assert_close(layer.backward(), gradient, dtype=dtype)
        assert_close(layer.backward(3), 3 * gradient, dtype=dtype)


def test_softmax_with_loss_of_a_hopeless_score_is_finite(backend, dtype):
    loss = SoftmaxWithLoss(backend=backend).forward(np.array([[1e4, 0]], dtype), np.array([1]))
    assert loss == pytest.approx(-np.log(1e-7), rel=1e-6)


def test_label_smoothing_spreads_a_share_of_each_label(backend, draw, dtype):
    scores, labels = draw(6, 5), np.array([4, 0, 2, 2, 1, 3])
    for t in (labels, np.eye(5)[labels]):
        layer = SoftmaxWithLoss(backend, label_smoothing=0.1)
        expected = naive.smoothed_cross_entropy(scores, labels, 0.1)
        assert_close(np.asarray(layer.forward(scores, t)), expected, tolerance=1e-6)
        gradient = naive.softmax_cross_entropy_gradient(naive.softmax(scores), labels, 1 / 6, 0.1)
        assert_close(layer.backward(), gradient, dtype=dtype)
    soft = np.full((6, 5), 0.2)
    layer.forward(scores, soft)
    assert_close(layer.backward(), (naive.softmax(scores) - 0.2) / 6, dtype=dtype)


def test_the_smoothed_loss_of_a_hopeless_score_is_exact(backend, dtype):
    """The book's 1e-7 would hide the very classes that smoothing acts on."""
    layer = SoftmaxWithLoss(backend, label_smoothing=0.2)
    assert layer.forward(np.array([[1000, 0]], dtype), np.array([0])) == pytest.approx(100)


@pytest.mark.parametrize("smoothing", [-0.1, 1, np.nan, "some"])
def test_smoothing_out_of_range(smoothing):
    message = f"label_smoothing must be from 0 to below 1, got {smoothing!r}"
    with pytest.raises(ArgumentError, match=f"SoftmaxWithLoss: {message}"):
        SoftmaxWithLoss(label_smoothing=smoothing)
    layer = SoftmaxWithLoss()
    layer.label_smoothing = smoothing
    with pytest.raises(ArgumentError, match=f"softmax_cross_entropy: {message}"):
        layer.forward(np.ones((1, 2)), [0])


def test_dropout_draws_the_mask_of_a_seeded_script(draw, dtype):
    x, dout = draw(3, 4, 2), draw(3, 4, 2)
    layer = Dropout(0.3)
    np.random.seed(5)
    out = layer.forward(x)
    after = np.random.rand()
    np.random.seed(5)
    kept = np.random.rand(3, 4, 2) > 0.3
    assert after == np.random.rand()
    assert 0 < kept.sum() < kept.size
    assert_close(out, np.where(kept, x, 0), dtype=dtype, tolerance=0)
    np.testing.assert_array_equal(layer.mask, kept)
    assert_close(layer.backward(dout), np.where(kept, dout, 0), dtype=dtype, tolerance=0)


def test_dropout_in_evaluation_scales_and_draws_nothing(draw, dtype):
    x = draw(3, 4)
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    out = Dropout(0.3).forward(x, train_flg=False)
    assert_close(out, x.astype(float) * 0.7, dtype=dtype)
    assert np.random.rand() == expected


def test_inverted_dropout_scales_in_training_and_not_in_evaluation(draw, dtype):
    x, dout = draw(3, 4, 2), draw(3, 4, 2)
    layer = Dropout(0.3, inverted=True)
    np.random.seed(5)
    out = layer.forward(x)
    np.random.seed(5)
    kept = np.random.rand(3, 4, 2) > 0.3
    assert_close(out, np.where(kept, x, 0).astype(float) / 0.7, dtype=dtype)
    assert_close(layer.backward(dout), np.where(kept, dout, 0).astype(float) / 0.7, dtype=dtype)
    assert_close(layer.forward(x, train_flg=False), x, dtype=dtype, tolerance=0)


@pytest.mark.parametrize("ratio", [-0.1, 1, float("nan")])
def test_inverted_dropout_must_leave_something(ratio):
    with pytest.raises(ArgumentError, match=r"cannot be inverted|must be 0 to 1"):
        Dropout(ratio, inverted=True)


def test_dropout_ratio_is_a_half_by_default():
    assert Dropout().dropout_ratio == 0.5


@pytest.mark.parametrize("shape", [(8, 6), (8, 2, 1, 3)])
def test_batch_normalization(backend, draw, dtype, shape):
    """Statistics are per activation, not per channel, and run from zero."""
    gamma, beta = draw(6), draw(6)
    layer = BatchNormalization(gamma, beta, momentum=0.8, backend=backend)
    running_mean, running_variance = np.zeros(6), np.zeros(6)
    for _ in range(2):
        x, dout = 2 * draw(*shape) + 1, draw(*shape)
        rows = x.reshape(8, 6)
        out, _, mean, variance = naive.batchnorm_train(rows, gamma, beta)
        assert_close(layer.forward(x), out.reshape(shape), dtype=dtype)
        running_mean = 0.8 * running_mean + 0.2 * mean
        running_variance = 0.8 * running_variance + 0.2 * variance
        assert_close(layer.running_mean, running_mean, dtype=dtype)
        assert_close(layer.running_var, running_variance, dtype=dtype)
        dx, dgamma, dbeta = naive.batchnorm_gradients(dout.reshape(8, 6), rows, gamma)
        scale = np.abs(dout).sum()
        assert_close(layer.backward(dout), dx.reshape(shape), dtype=dtype, scale=scale)
        assert_close(layer.dgamma, dgamma, dtype=dtype, scale=scale)
        assert_close(layer.dbeta, dbeta, dtype=dtype, scale=scale)
    out = naive.batchnorm_infer(rows, gamma, beta, running_mean, running_variance)
    before = layer.running_mean
    assert_close(layer.forward(x, train_flg=False), out.reshape(shape), dtype=dtype)
    assert layer.running_mean is before


def test_batch_normalization_starts_from_given_statistics(backend, draw, dtype):
    mean, variance = draw(6), draw(6) ** 2
    with unchanged(mean, variance):
        layer = BatchNormalization(
            np.ones(6, dtype), np.zeros(6, dtype), 0.9, mean, variance, backend=backend
        )
        x = draw(4, 6)
        expected = naive.batchnorm_infer(x, np.ones(6), np.zeros(6), mean, variance)
        assert_close(layer.forward(x, train_flg=False), expected, dtype=dtype)
        layer.forward(x)
    batch_mean = naive.batchnorm_train(x, np.ones(6), np.zeros(6))[2]
    assert_close(layer.running_mean, 0.9 * mean + 0.1 * batch_mean, dtype=dtype)


def test_an_empty_batch_leaves_the_statistics_as_they_were(backend, draw):
    layer = BatchNormalization(draw(3), draw(3), backend=backend)
    layer.forward(draw(4, 3))
    before = layer.running_mean.copy(), layer.running_var.copy()
    layer.forward(draw(0, 3))
    np.testing.assert_array_equal((layer.running_mean, layer.running_var), before)


def test_batch_normalization_of_plain_numbers(backend, draw):
    """The book's larger networks pass arrays, its simplest scripts 1.0 and 0.0."""
    x = draw(5, 3)
    expected = naive.batchnorm_train(x, np.full(3, 2.0), np.full(3, 0.5))[0]
    out = BatchNormalization(2.0, 0.5, backend=backend).forward(x)
    assert_close(out, expected, tolerance=2e-5)


def test_convolution(backend, draw, dtype):
    x, weight, bias = draw(2, 3, 7, 6), draw(4, 3, 3, 2), draw(4)
    layer = Convolution(weight, bias, stride=2, pad=1, backend=backend)
    expected = naive.conv2d(x, weight, bias, 2, 1)
    out = layer.forward(x)
    assert_close(out, expected, dtype=dtype)
    dout = draw(*out.shape)
    dx, dweight, dbias = naive.conv2d_gradients(dout, x, weight, 2, 1)
    assert_close(layer.backward(dout), dx, dtype=dtype)
    assert_close(layer.dW, dweight, dtype=dtype)
    assert_close(layer.db, dbias, dtype=dtype)
    np.testing.assert_array_equal(layer.x, x)


@pytest.mark.parametrize("name", ["Affine", "Convolution"])
def test_without_a_bias_only_the_weight_is_trained(backend, draw, dtype, name):
    """Everything else is as with a bias of zeros."""
    weight, x = (draw(12, 7) if name == "Affine" else draw(7, 3, 2, 2)), draw(2, 3, 2, 2)
    plain = getattr(layers, name)(weight, backend=backend)
    zero = getattr(layers, name)(weight, np.zeros(7, dtype), backend=backend)
    assert (plain.parameter_names, zero.parameter_names) == (("W",), ("W", "b"))
    out = plain.forward(x)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, zero.forward(x))
    np.testing.assert_array_equal(plain.backward(out), zero.backward(out))
    np.testing.assert_array_equal(plain.dW, zero.dW)
    assert plain.db is None


def test_stride_and_pad_are_one_and_zero_by_default(backend, draw):
    x = draw(1, 1, 5, 5)
    assert Convolution(draw(2, 1, 3, 3), draw(2), backend=backend).forward(x).shape == (1, 2, 3, 3)
    assert Pooling(2, 2, backend=backend).forward(x).shape == (1, 1, 4, 4)


def test_pooling(backend, draw, dtype):
    x = draw(2, 3, 7, 6)
    layer = Pooling(3, 2, stride=2, pad=1, backend=backend)
    expected, winner = naive.maxpool2d(x, 3, 2, 2, 1)
    out = layer.forward(x)
    assert_close(out, expected, dtype=dtype, tolerance=0)
    np.testing.assert_array_equal(layer.arg_max, winner.transpose(0, 2, 3, 1).ravel())
    dout = draw(*out.shape)
    dx = naive.maxpool2d_gradient(dout, winner, x.shape, 2, 2, 1)
    assert_close(layer.backward(dout), dx, dtype=dtype)


def test_arg_max_is_that_of_the_last_forward(backend):
    layer = Pooling(1, 2, backend=backend)
    assert layer.arg_max is None
    for images, winner in ([[[[0.0, 1.0]]]], 1), ([[[[1.0, 0.0]]]], 0):
        layer.forward(np.array(images))
        np.testing.assert_array_equal(layer.arg_max, [winner])


def test_pooling_of_ties_takes_the_first(backend, dtype):
    layer = Pooling(2, 2, stride=2, backend=backend)
    layer.forward(np.array([[[[0, 3], [3, 3]]]], dtype))
    np.testing.assert_array_equal(
        layer.backward(np.ones((1, 1, 1, 1), dtype))[0, 0], [[0, 1], [0, 0]]
    )
    layer.forward(np.array([[[[5, 3], [np.nan, np.nan]]]], dtype))
    np.testing.assert_array_equal(
        layer.backward(np.ones((1, 1, 1, 1), dtype))[0, 0], [[0, 0], [1, 0]]
    )
    np.testing.assert_array_equal(layer.arg_max, [2])


def test_padding_never_wins_a_pooling(backend, dtype):
    x = np.full((1, 1, 3, 3), -5, dtype)
    out = Pooling(2, 2, stride=2, pad=1, backend=backend).forward(x)
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), -5))


# ---- what callers may do, and layers may not ------------------------------------------


def make(name, draw, backend):
    """A layer, an input for it, and the arrays that it was given."""
    weights = {
        "Affine": (draw(12, 7), draw(7)),
        "BatchNormalization": (draw(12), draw(12)),
        "BatchNormalization2d": (draw(3), draw(3)),
        "Convolution": (draw(4, 3, 2, 2), draw(4)),
        "LocalResponseNormalization": (3,),
        "Pooling": (2, 2),
        "AveragePooling": (2, 2),
        "AdaptiveAveragePooling": (1, 2),
    }.get(name, ())
    arrays = [array for array in weights if isinstance(array, np.ndarray)]
    return getattr(layers, name)(*weights, backend=backend), draw(5, 3, 2, 2), arrays


NAMES = (
    *("Relu", "Sigmoid", "Affine", "BatchNormalization", "Convolution", "Pooling", "Dropout"),
    *("LeakyRelu", "Elu", "Gelu", "Silu", "Tanh", "LocalResponseNormalization"),
    *("BatchNormalization2d", "AveragePooling", "AdaptiveAveragePooling", "GlobalAveragePooling"),
)


@pytest.mark.parametrize("name", NAMES)
def test_no_layer_writes_into_what_it_is_given(backend, draw, name):
    layer, x, arrays = make(name, draw, backend)
    with unchanged(x, *arrays):
        out = layer.forward(x)
        dout = draw(*out.shape)
        kept = out.copy()
        with unchanged(dout):
            layer.backward(dout)
    np.testing.assert_array_equal(out, kept)


@pytest.mark.parametrize("name", NAMES)
def test_backward_works_twice(backend, draw, name):
    layer, x, _ = make(name, draw, backend)
    dout = draw(*layer.forward(x).shape)
    np.testing.assert_array_equal(layer.backward(dout), layer.backward(dout))


@pytest.mark.parametrize("name", [*NAMES, "SoftmaxWithLoss"])
def test_backward_before_forward_says_so(draw, name):
    layer, x, _ = make(name, draw, "numpy")
    with pytest.raises(StateError, match=rf"{name}: backward was called before"):
        layer.backward(x)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch_works(backend, draw, name):
    layer, x, _ = make(name, draw, backend)
    out = layer.forward(x[:0])
    assert len(out) == 0
    assert layer.backward(out).shape == (0, 3, 2, 2)
    for key in layer.parameter_names if name in ("Affine", "Convolution") else ():
        assert not getattr(layer, "d" + key).any()


@pytest.mark.parametrize(
    "name", ["Affine", "Convolution", "BatchNormalization", "BatchNormalization2d"]
)
@pytest.mark.parametrize("how", ["replaced", "changed in place"])
def test_parameters_may_change_between_any_two_calls(backend, draw, name, how):
    """What load_params does, and what the optimizers do."""

    def change(layer):
        for key in layer.parameter_names:
            if how == "replaced":
                setattr(layer, key, 3 * getattr(layer, key))
            else:
                getattr(layer, key)[...] *= 3

    layer, x, _ = make(name, draw, backend)
    fresh, _, _ = make(name, draw, backend)
    out = np.array(layer.forward(x))
    dout = draw(*out.shape)
    dx = np.array(layer.backward(dout))
    change(layer)
    # The derivative is linear in the parameters: with three times the weights, three times dx.
    assert_close(layer.backward(dout), 3 * dx.astype(float), tolerance=1e-5)
    assert_close(layer.forward(x), 3 * out.astype(float), tolerance=1e-5)
    for key in layer.parameter_names:
        setattr(fresh, key, getattr(layer, key))
    np.testing.assert_array_equal(fresh.forward(x), layer.forward(x))


@pytest.mark.parametrize("name", ["Affine", "Convolution"])
def test_the_input_gradient_may_be_left_out(backend, draw, name):
    layer, x, _ = make(name, draw, backend)
    dout = draw(*layer.forward(x).shape)
    layer.backward(dout)
    gradients = layer.dW, layer.db
    assert layer.backward(dout, input_gradient=False) is None
    np.testing.assert_array_equal(layer.dW, gradients[0])
    np.testing.assert_array_equal(layer.db, gradients[1])


def test_batch_normalization_takes_two_or_four_axes():
    with pytest.raises(ShapeError, match=r"BatchNormalization: .*\(2, 3, 4\)"):
        BatchNormalization(np.ones(12), np.zeros(12)).forward(np.ones((2, 3, 4)))


def test_star_import_gives_what_the_books_scripts_use():
    names: dict = {}
    exec("from fastconv.layers import *", names)
    for name in ("np", "softmax", "cross_entropy_error", "im2col", "col2im", *NAMES):
        assert name in names
    assert names["np"] is np
    assert names["softmax"] is fastconv.functions.softmax
