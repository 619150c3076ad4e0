"""Softmax with cross-entropy as its callers see it: labels of every kind, and soft targets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastconv import ops
from fastconv.errors import ArgumentError, DTypeError, LabelError, ShapeError

from . import naive
from .compare import assert_close

pytestmark = pytest.mark.usefixtures("way")

SCORES = np.array([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0], [0.25, 0.25, -4.0], [9.0, -9.0, 0.0]])
LABELS = [1, 0, 2, 0]
ONE_HOT = np.eye(3)[LABELS]


@pytest.mark.parametrize(
    "t",
    [
        LABELS,
        np.array(LABELS, np.uint8),
        np.array(LABELS, float),
        np.array(LABELS)[:, None],
        ONE_HOT,
        ONE_HOT.astype(bool),
        ONE_HOT.astype(np.int8),
        ONE_HOT.T.copy().T,
    ],
    ids=lambda t: f"{getattr(t, 'dtype', 'list')}{np.shape(t)}",
)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_labels_of_every_kind(backend, dtype, t, smoothing):
    scores = SCORES.astype(dtype)
    loss, context = ops.softmax_cross_entropy_forward(scores, t, backend, smoothing=smoothing)
    y = naive.softmax(scores)
    if smoothing:
        expected = naive.smoothed_cross_entropy(scores, LABELS, smoothing)
    else:
        expected = naive.cross_entropy(y, LABELS)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert context.labels.tolist() == LABELS
    assert context.classes == 3
    assert context.soft is None  # one-hot rows are labels, which the kernel takes
    for dout in (1.0, -2.5):
        gradient = ops.softmax_cross_entropy_backward(context, dout)
        expected = naive.softmax_cross_entropy_gradient(y, LABELS, dout / 4, smoothing)
        assert_close(gradient, expected, dtype=dtype)


def test_the_labels_are_a_copy(backend):
    """The caller's array may change before backward, to values that no kernel could take."""
    t = np.array(LABELS)
    _, context = ops.softmax_cross_entropy_forward(SCORES, t, backend)
    expected = ops.softmax_cross_entropy_backward(context)
    t[:] = 1 << 40
    np.testing.assert_array_equal(ops.softmax_cross_entropy_backward(context), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_soft_targets(backend, dtype, smoothing):
    """As in the book: the loss is that of their largest entries, the gradient pulls towards all."""
    scores = SCORES.astype(dtype)
    t = np.array([[0.1, 0.6, 0.3], [0.5, 0.5, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]], dtype)
    loss, context = ops.softmax_cross_entropy_forward(scores, t, backend, smoothing=smoothing)
    y = naive.softmax(scores)
    if smoothing:
        expected = naive.smoothed_cross_entropy(scores, LABELS, smoothing)
    else:
        expected = naive.cross_entropy(y, LABELS)
    assert loss == pytest.approx(expected, rel=1e-6)
    target = 0.75 * t + 0.25 / 3 if smoothing else t
    for dout in (1.0, 3.0):
        gradient = ops.softmax_cross_entropy_backward(context, dout)
        assert_close(gradient, (y - target) * dout / 4, dtype=dtype)


def test_one_soft_sample(backend, dtype):
    """A single sample's gradient is neither halved nor doubled."""
    t = np.array([[0.5, 0.25, 0.25]])
    _, context = ops.softmax_cross_entropy_forward(SCORES[:1].astype(dtype), t, backend)
    gradient = ops.softmax_cross_entropy_backward(context)
    assert_close(gradient, naive.softmax(SCORES[:1]) - t, dtype=dtype)
    assert gradient.dtype == context.soft.dtype == dtype
    _, context = ops.softmax_cross_entropy_forward(SCORES[:1].astype(dtype), [1], backend)
    expected = naive.softmax(SCORES[:1]) - [[0, 1, 0]]
    assert_close(ops.softmax_cross_entropy_backward(context), expected, dtype=dtype)


def test_backward_runs_where_forward_ran(backend):
    for smoothing in (0.0, 0.1):
        _, context = ops.softmax_cross_entropy_forward(
            SCORES, np.array(LABELS), backend, smoothing=smoothing
        )
        assert context.backend == backend


@pytest.mark.parametrize("t", [np.zeros((4, 2), int), np.zeros((4, 1, 1), int)])
def test_two_columns_are_labels_of_two_classes_alone(t):
    with pytest.raises(LabelError, match=r"labels have shape \(4, .*\), expected \(4,\)"):
        ops.softmax_cross_entropy_forward(SCORES, t)


@pytest.mark.parametrize("t", [[0, 0], [[1], [1]], [[0.5], [7.0]]])
def test_one_class_is_certain(backend, t):
    loss, context = ops.softmax_cross_entropy_forward(np.array([[3.0], [-4.0]]), t, backend)
    assert loss == pytest.approx(-math.log(1 + 1e-7), rel=1e-6)
    np.testing.assert_array_equal(ops.softmax_cross_entropy_backward(context), 0)


@pytest.mark.parametrize("t", [[], np.zeros((0, 3)), np.zeros((0, 1), int), np.array([], "U1")])
def test_no_samples(backend, t):
    loss, context = ops.softmax_cross_entropy_forward(np.zeros((0, 3)), t, backend)
    assert loss == 0.0 and type(loss) is float
    assert ops.softmax_cross_entropy_backward(context).shape == (0, 3)


@pytest.mark.parametrize(
    ("t", "said"),
    [
        ([0, 1, 2], r"labels have shape \(3,\), expected \(4,\) .* \(4, 3\) for one-hot"),
        (ONE_HOT[:3], r"labels have shape \(3, 3\), expected \(4,\)"),
        (np.eye(4), r"labels have shape \(4, 4\), expected \(4,\)"),
        ([[0, 1, 2, 0]], r"labels have shape \(1, 4\), expected \(4,\)"),
        ([0, 1, 2, 3], "labels must be 0 to 2 for 3 classes, got 0 to 3"),
        ([0, 1, -1, 2], "labels must be 0 to 2 for 3 classes, got -1 to 2"),
        ([0, 1, 2, 0.5], "class indices must be whole numbers, got dtype float64"),
        ([True, False, True, True], "class indices must be whole numbers, got dtype bool"),
        (["0", "1", "2", "0"], "class indices must be whole numbers, got dtype <U1"),
        (ONE_HOT.astype("U1"), "one-hot labels must be numbers, got dtype <U1"),
        (ONE_HOT.astype(complex), "one-hot labels must be numbers, got dtype complex128"),
    ],
)
def test_invalid_labels(t, said):
    with pytest.raises(LabelError, match=f"^softmax_cross_entropy: {said}"):
        ops.softmax_cross_entropy_forward(SCORES, t)
    with pytest.raises(LabelError, match=f"^mine: {said}"):
        ops.class_indices("mine", t, (4, 3))


@pytest.mark.parametrize("smoothing", [-0.001, 1, 1.5, math.nan, "0.1", None, [0.1]])
def test_invalid_smoothing(smoothing):
    with pytest.raises(ArgumentError) as caught:
        ops.softmax_cross_entropy_forward(SCORES, LABELS, smoothing=smoothing)
    message = str(caught.value)
    assert message.startswith("softmax_cross_entropy: label_smoothing must be from 0 to below 1")
    assert message.endswith(f"got {smoothing!r}")
    for good in (0, 0.999, np.float32(0.5)):
        ops.expect_smoothing("mine", good)


@pytest.mark.parametrize("shape", [(4,), (4, 0), (4, 3, 1)])
def test_scores_of_another_shape(shape):
    with pytest.raises(ShapeError) as caught:
        ops.softmax_cross_entropy_forward(np.zeros(shape), LABELS)
    assert str(caught.value).endswith(f"M at least 1, got shape {shape}")


def test_scores_that_are_not_numbers():
    with pytest.raises(DTypeError, match=r"^softmax_cross_entropy: .*complex128"):
        ops.softmax_cross_entropy_forward(SCORES.astype(complex), LABELS)


def test_probabilities_that_were_given_another_shape(backend):
    """A layer shows them, so that users may change them."""
    _, context = ops.softmax_cross_entropy_forward(SCORES, LABELS, backend)
    context.probabilities = context.probabilities[:2]
    with pytest.raises(ShapeError, match=r"backward: y.* has shape \(2, 3\), expected \(4, 3\)"):
        ops.softmax_cross_entropy_backward(context)
