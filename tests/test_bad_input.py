"""Bad calls: the type of the error, and a message with the operation and the numbers.

What only one class refuses is in that class's tests. Here is what every operation
refuses, and that each error can be caught as the built-in type that it also is.
"""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

from fastconv import errors, ops
from fastconv.errors import ArgumentError, DTypeError, FastconvError, LabelError, ShapeError
from fastconv.geometry import window_geometry
from fastconv.layers import (
    AdaptiveAveragePooling,
    Affine,
    AveragePooling,
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Dropout,
    Pooling,
    Relu,
    SoftmaxWithLoss,
)
from fastconv.optimizer import Adam
from fastconv.util import col2im, im2col

IMAGES = np.ones((8, 3, 32, 32))
FILTERS = np.ones((32, 3, 3, 3))


def conv(x=IMAGES, weight=FILTERS, bias=None, stride=1, pad=0):
    bias = np.zeros(len(weight)) if bias is None else bias
    return Convolution(weight, bias, stride, pad).forward(x)


def backward(layer, x, dout_shape):
    layer.forward(x)
    return layer.backward(np.ones(dout_shape))


def loss(scores, t):
    return SoftmaxWithLoss().forward(np.asarray(scores), t)


def norm(x=(4, 3), gamma=3, beta=3, **options):
    layer = BatchNormalization(np.ones(gamma), np.zeros(beta), **options)
    return layer.forward(np.ones(x), train_flg=not options)


def norm2d(x=(4, 3, 2, 2), gamma=3, beta=3, **options):
    return BatchNormalization2d(np.ones(gamma), np.zeros(beta), **options).forward(np.ones(x))


SHAPES = {
    "channels": (
        lambda: conv(weight=np.ones((32, 16, 3, 3))),
        "conv2d: input has 3 channels, weight expects 16 "
        "(input (8, 3, 32, 32), weight (32, 16, 3, 3))",
    ),
    "three axes": (
        lambda: conv(np.ones((3, 32, 32))),
        "conv2d: input must have 4 axes (N, C, H, W), got 3: shape (3, 32, 32)",
    ),
    "filters of two axes": (
        lambda: conv(weight=np.ones((32, 27))),
        "conv2d: weight must be (FN, C, FH, FW) with no axis empty, got shape (32, 27)",
    ),
    "no filters": (
        lambda: conv(weight=np.ones((0, 3, 3, 3))),
        "conv2d: weight must be (FN, C, FH, FW) with no axis empty, got shape (0, 3, 3, 3)",
    ),
    "bias": (
        lambda: conv(bias=np.zeros(31)),
        "conv2d: bias has shape (31,), expected (32,)",
    ),
    "filter larger than the image": (
        lambda: conv(np.ones((1, 3, 2, 5)), pad=0),
        "conv2d: window of 3 x 3 is larger than the padded image: "
        "2 + 2*0 = 2 high, 5 + 2*0 = 5 wide (input (1, 3, 2, 5))",
    ),
    "filter larger than the padded image": (
        lambda: conv(np.ones((1, 3, 9, 4)), np.ones((1, 3, 7, 7)), pad=1),
        "9 + 2*1 = 11 high, 4 + 2*1 = 6 wide (input (1, 3, 9, 4))",
    ),
    "conv dout": (
        lambda: backward(Convolution(FILTERS, np.zeros(32)), IMAGES, (8, 32, 32, 32)),
        "conv2d backward: dout has shape (8, 32, 32, 32), expected (8, 32, 30, 30)",
    ),
    "pooling window": (
        lambda: Pooling(3, 3).forward(np.ones((1, 1, 2, 2))),
        "maxpool2d: window of 3 x 3 is larger than the padded image",
    ),
    "pooling of padding alone": (
        lambda: Pooling(2, 2, pad=2).forward(IMAGES),
        "maxpool2d: pad 2 must be smaller than the window (2 x 2)",
    ),
    "pooling of no channels": (
        lambda: Pooling(2, 2).forward(np.ones((1, 0, 4, 4))),
        "maxpool2d: input has no channels (input (1, 0, 4, 4))",
    ),
    "pooling dout": (
        lambda: backward(Pooling(2, 2, 2), np.ones((1, 1, 4, 4)), (1, 1, 4, 4)),
        "maxpool2d backward: dout has shape (1, 1, 4, 4), expected (1, 1, 2, 2)",
    ),
    "average pooling window": (
        lambda: AveragePooling(3, 3).forward(np.ones((1, 1, 2, 2))),
        "avgpool2d: window of 3 x 3 is larger than the padded image",
    ),
    "average pooling of padding alone": (
        lambda: AveragePooling(2, 2, pad=2).forward(IMAGES),
        "avgpool2d: pad 2 must be smaller than the window (2 x 2)",
    ),
    "average pooling dout": (
        lambda: backward(AveragePooling(2, 2, 2), np.ones((1, 1, 4, 4)), (1, 1, 4, 4)),
        "avgpool2d backward: dout has shape (1, 1, 4, 4), expected (1, 1, 2, 2)",
    ),
    "adaptive pooling of nothing": (
        lambda: AdaptiveAveragePooling(2, 2).forward(np.ones((1, 3, 0, 4))),
        "adaptive_avgpool2d: input must be (N, C, H, W) with no axis but N empty, "
        "got shape (1, 3, 0, 4)",
    ),
    "im2col axes": (
        lambda: im2col(np.ones((3, 4)), 2, 2),
        "im2col: input must have 4 axes (N, C, H, W), got 2: shape (3, 4)",
    ),
    "im2col window": (
        lambda: im2col(np.ones((1, 1, 4, 4)), 5, 2),
        "im2col: window of 5 x 2 is larger than the padded image",
    ),
    "col2im matrix": (
        lambda: col2im(np.ones((9, 5)), (1, 1, 4, 4), 2, 2),
        "col2im: col has shape (9, 5), expected (9, 4)",
    ),
    "features": (
        lambda: Affine(np.ones((12, 4)), np.zeros(4)).forward(np.ones((5, 3, 5))),
        "affine: input has 15 features, weight expects 12 (input (5, 3, 5), weight (12, 4))",
    ),
    "affine of one axis": (
        lambda: Affine(np.ones((12, 4)), np.zeros(4)).forward(np.ones(12)),
        "affine: input must be (N, ...) with at least 2 axes, got shape (12,)",
    ),
    "affine weight": (
        lambda: Affine(np.ones(12), np.zeros(4)).forward(np.ones((5, 12))),
        "affine: weight must be (D, M) with no axis empty, got (12,)",
    ),
    "affine bias": (
        lambda: Affine(np.ones((12, 4)), np.zeros(3)).forward(np.ones((5, 12))),
        "affine: bias has shape (3,), expected (4,)",
    ),
    "affine dout": (
        lambda: backward(Affine(np.ones((12, 4)), np.zeros(4)), np.ones((5, 12)), (5, 3)),
        "affine backward: dout has shape (5, 3), expected (5, 4)",
    ),
    "relu dout": (
        lambda: backward(Relu(), np.ones((2, 3)), (3, 2)),
        "relu backward: dout has shape (3, 2), expected (2, 3)",
    ),
    "gamma": (
        lambda: norm(gamma=4),
        "batchnorm: gamma has shape (4,), expected (3,) for input (4, 3)",
    ),
    "beta": (
        lambda: norm(beta=2),
        "batchnorm: beta has shape (2,), expected (3,) for input (4, 3)",
    ),
    "running statistics": (
        lambda: norm(running_mean=np.zeros(5), running_var=np.ones(3)),
        "batchnorm: mean has shape (5,), expected (3,) for input (4, 3)",
    ),
    "batchnorm axes": (
        lambda: norm(x=(4, 3, 2)),
        "BatchNormalization: expected (N, D) or (N, C, H, W), got shape (4, 3, 2)",
    ),
    "batchnorm dout": (
        lambda: backward(BatchNormalization(np.ones(3), np.zeros(3)), np.ones((4, 3)), (3, 4)),
        "batchnorm backward: dout has shape (3, 4), expected (4, 3)",
    ),
    "batchnorm2d axes": (
        lambda: norm2d(x=(4, 3)),
        "batchnorm2d: input must be (N, C, H, W) with C at least 1, got shape (4, 3)",
    ),
    "batchnorm2d gamma": (
        lambda: norm2d(gamma=4),
        "batchnorm2d: gamma has shape (4,), expected (3,) for input (4, 3, 2, 2)",
    ),
    "batchnorm2d running statistics": (
        lambda: BatchNormalization2d(np.ones(3), np.ones(3), running_var=np.ones(2)).forward(
            np.ones((4, 3, 2, 2)), train_flg=False
        ),
        "batchnorm2d: variance has shape (2,), expected (3,) for input (4, 3, 2, 2)",
    ),
    "batchnorm2d residual": (
        lambda: ops.batchnorm2d_train(
            np.ones((4, 3, 2, 2)), np.ones(3), np.ones(3), 1e-5, np.ones((4, 3, 2, 1))
        ),
        "batchnorm2d: residual has shape (4, 3, 2, 1), expected (4, 3, 2, 2)",
    ),
    "batchnorm2d dout": (
        lambda: backward(
            BatchNormalization2d(np.ones(3), np.ones(3)), np.ones((4, 3, 2, 2)), (4, 3, 4)
        ),
        "batchnorm2d backward: dout has shape (4, 3, 4), expected (4, 3, 2, 2)",
    ),
    "scores": (
        lambda: loss(np.ones((2, 3, 4)), [0, 1]),
        "softmax_cross_entropy: scores must be (N, M) with M at least 1, got shape (2, 3, 4)",
    ),
    "adam's gradient": (
        lambda: Adam().update({"W": np.ones((2, 3))}, {"W": np.ones((3, 2))}),
        "Adam: 'W': gradient has shape (3, 2), expected (2, 3)",
    ),
}

ARGUMENTS = {
    "stride 0": (lambda: conv(stride=0), "conv2d: stride must be at least 1, got 0"),
    "stride 1.5": (
        lambda: conv(stride=1.5),
        "conv2d: stride must be a whole number, got 1.5 (float)",
    ),
    "negative pad": (lambda: conv(pad=-1), "conv2d: pad must be at least 0, got -1"),
    "pad None": (lambda: conv(pad=None), "conv2d: pad must be a whole number, got None"),
    "pool stride": (
        lambda: Pooling(2, 2, 0).forward(IMAGES),
        "maxpool2d: stride must be at least 1, got 0",
    ),
    "pool height": (
        lambda: Pooling(0, 2).forward(IMAGES),
        "maxpool2d: window height must be at least 1, got 0",
    ),
    "adaptive pooling to no rows": (
        lambda: AdaptiveAveragePooling(0, 1).forward(IMAGES),
        "adaptive_avgpool2d: output height must be at least 1, got 0",
    ),
    "adaptive pooling to no columns": (
        lambda: AdaptiveAveragePooling(1, 0).forward(IMAGES),
        "adaptive_avgpool2d: output width must be at least 1, got 0",
    ),
    "im2col width": (
        lambda: im2col(IMAGES, 2, "2"),
        "im2col: window width must be a whole number, got '2' (str)",
    ),
    "col2im stride": (
        lambda: col2im(np.ones((9, 4)), (1, 1, 4, 4), 2, 2, stride=-1),
        "col2im: stride must be at least 1, got -1",
    ),
}

LABELS = {
    "too large": (
        lambda: loss(np.ones((2, 10)), [3, 10]),
        "softmax_cross_entropy: labels must be 0 to 9 for 10 classes, got 3 to 10",
    ),
    "negative": (
        lambda: loss(np.ones((2, 10)), [3, -1]),
        "softmax_cross_entropy: labels must be 0 to 9 for 10 classes, got -1 to 3",
    ),
    "too few": (
        lambda: loss(np.ones((3, 10)), [3, 1]),
        "labels have shape (2,), expected (3,) for class indices or (3, 10) for one-hot",
    ),
    "one-hot of the wrong width": (
        lambda: loss(np.ones((2, 10)), np.eye(9)[:2]),
        "labels have shape (2, 9), expected (2,) for class indices or (2, 10) for one-hot",
    ),
    "fractions": (
        lambda: loss(np.ones((2, 10)), [0.5, 1.0]),
        "softmax_cross_entropy: class indices must be whole numbers, got dtype float64",
    ),
    "words": (
        lambda: loss(np.ones((2, 10)), ["one", "two"]),
        "softmax_cross_entropy: class indices must be whole numbers, got dtype <U3",
    ),
    "objects, one-hot": (
        lambda: loss(np.ones((2, 3)), np.eye(3, dtype=object)[:2]),
        "softmax_cross_entropy: one-hot labels must be numbers, got dtype object",
    ),
}


@pytest.mark.parametrize(
    ("error", "builtin", "call", "message"),
    [
        pytest.param(error, builtin, *case, id=f"{error.__name__}: {name}")
        for error, builtin, table in [
            (ShapeError, ValueError, SHAPES),
            (ArgumentError, ValueError, ARGUMENTS),
            (LabelError, ValueError, LABELS),
        ]
        for name, case in table.items()
    ],
)
def test_the_message_has_operation_got_and_expected(error, builtin, call, message):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert isinstance(caught.value, builtin)
    assert message in str(caught.value)


OPERATIONS = {
    "conv2d": lambda x: conv(x.reshape(1, 1, 2, 2), np.ones((1, 1, 1, 1))),
    "maxpool2d": lambda x: Pooling(2, 2).forward(x.reshape(1, 1, 2, 2)),
    "avgpool2d": lambda x: AveragePooling(2, 2).forward(x.reshape(1, 1, 2, 2)),
    "adaptive_avgpool2d": lambda x: AdaptiveAveragePooling(1, 1).forward(x.reshape(1, 1, 2, 2)),
    "im2col": lambda x: im2col(x.reshape(1, 1, 2, 2), 2, 2),
    "col2im": lambda x: col2im(x.reshape(1, 4), (1, 1, 2, 2), 2, 2),
    "affine": lambda x: Affine(np.ones((4, 1)), np.zeros(1)).forward(x.reshape(1, 4)),
    "relu": lambda x: Relu().forward(x),
    "dropout": lambda x: Dropout().forward(x),
    "batchnorm": lambda x: BatchNormalization(np.ones(2), np.zeros(2)).forward(x.reshape(2, 2)),
    "batchnorm2d": lambda x: BatchNormalization2d(np.ones(2), np.zeros(2)).forward(
        x.reshape(1, 2, 2, 1)
    ),
    "softmax_cross_entropy": lambda x: loss(x.reshape(2, 2), [0, 1]),
    "Adam: 'W'": lambda x: Adam().update({"W": np.ones(4)}, {"W": x}),
    "warp": lambda x: ops.warp(x.reshape(1, 1, 2, 2), np.eye(2, 3)[None]),
    "smooth": lambda x: ops.smooth(x.reshape(1, 1, 2, 2), [1]),
    "tone": lambda x: ops.tone(x.reshape(1, 1, 2, 2), [1], [0], [[0, 0, 0, 0]]),
    "conv2d backward": lambda x: gradient(
        Convolution(np.ones((1, 1, 1, 1)), np.zeros(1)), x.reshape(1, 1, 2, 2)
    ),
    "maxpool2d backward": lambda x: gradient(Pooling(1, 1), x.reshape(1, 1, 2, 2)),
    "avgpool2d backward": lambda x: gradient(AveragePooling(1, 1), x.reshape(1, 1, 2, 2)),
    "affine backward": lambda x: gradient(Affine(np.ones((4, 4)), np.zeros(4)), x.reshape(1, 4)),
    "relu backward": lambda x: gradient(Relu(), x),
    "batchnorm backward": lambda x: gradient(
        BatchNormalization(np.ones(2), np.zeros(2)), x.reshape(2, 2)
    ),
    "batchnorm2d backward": lambda x: gradient(
        BatchNormalization2d(np.ones(2), np.zeros(2)), x.reshape(1, 2, 2, 1)
    ),
}


def gradient(layer, dout):
    layer.forward(np.ones(dout.shape))
    layer.backward(dout)


@pytest.mark.parametrize("kind", ["object", "complex128", "U3", "datetime64[s]", "longdouble"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_arrays_that_no_kernel_can_compute_with(name, kind):
    x = np.zeros(4, kind)
    if x.dtype.kind == "f" and x.dtype.itemsize == 8:
        pytest.skip("long double is float64 here")
    with pytest.raises(DTypeError, match=f"^{name}: expected real numbers") as caught:
        OPERATIONS[name](x)
    assert str(x.dtype) in str(caught.value)
    assert isinstance(caught.value, TypeError)


def test_a_failed_call_leaves_the_layer_as_it_was():
    layer = Convolution(np.ones((1, 1, 2, 2)), np.zeros(1))
    out = layer.forward(np.ones((1, 1, 3, 3)))
    with pytest.raises(ShapeError):
        layer.forward(np.ones((1, 2, 3, 3)))
    assert layer.backward(out).shape == (1, 1, 3, 3)


def test_a_filter_that_was_replaced_by_another_shape_is_told_at_backward():
    layer = Convolution(np.ones((2, 1, 2, 2)), np.zeros(2))
    out = layer.forward(np.ones((1, 1, 3, 3)))
    layer.W = np.ones((2, 1, 3, 3))
    with pytest.raises(
        ShapeError, match=r"weight has shape \(2, 1, 3, 3\), expected \(2, 1, 2, 2\)"
    ):
        layer.backward(out)


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ShapeError, ValueError),
        (errors.DTypeError, TypeError),
        (errors.ArgumentError, ValueError),
        (errors.LabelError, ValueError),
        (errors.StateError, RuntimeError),
        (errors.UnknownBackend, ValueError),
        (errors.BackendUnavailable, ImportError),
        (errors.MissingDependency, ImportError),
        (errors.DataNotFound, FileNotFoundError),
        (errors.DataCorrupt, ValueError),
        (errors.WeightsError, ValueError),
        (errors.UnsafePickle, pickle.UnpicklingError),
    ],
)
def test_every_error_is_also_the_builtin_that_a_caller_would_catch(error, builtin):
    assert issubclass(error, FastconvError) and issubclass(error, builtin)
    assert str(error("op: got this")) == "op: got this"


def test_every_error_is_listed():
    own = {name: value for name, value in vars(errors).items() if inspect.isclass(value)}
    defined = {name for name, value in own.items() if value.__module__ == errors.__name__}
    assert set(errors.__all__) == defined | {"suggestion"}


def test_the_front_door_has_one_entry_for_each_kernel():
    from fastconv.backends.table import KERNELS

    inside = {"batchnorm2d_statistics", "batchnorm2d_apply"}  # of batchnorm2d_train, in this order
    assert set(KERNELS) - inside <= set(ops.__all__)


@pytest.mark.parametrize("place", range(5))
def test_numbers_that_equal_a_good_one_are_checked_too(place):
    """Geometries are cached by their numbers, and 1 == 1.0 == True."""
    good = [1, 1, 1, 1, 1]
    known = window_geometry("op", (1, 1, 5, 5), *good)
    for same in (True, np.int8(1)):
        assert window_geometry("op", (1, 1, 5, 5), *good[:place], same, *good[place + 1 :]) is known
    with pytest.raises(ArgumentError, match=r"must be a whole number, got 1\.0"):
        window_geometry("op", (1, 1, 5, 5), *good[:place], 1.0, *good[place + 1 :])
