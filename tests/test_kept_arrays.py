"""Arrays that forward kept for backward: layers show them, and a changed shape is an error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fastconv import ops
from fastconv.errors import ShapeError

IMAGES, FILTERS = np.random.default_rng(0).standard_normal((2, 3, 4, 4)), np.ones((3, 3, 3, 3))
THREE = np.ones(3)


def convolution(context, out):
    return ops.conv2d_backward(out, FILTERS, context)


def grouped(context, out):
    return ops.conv2d_grouped_backward(out, FILTERS, context)


def block(context, out):
    return ops.conv2d_block_backward(out, FILTERS, context)


def normalisation(context, out):
    return ops.batchnorm2d_backward(out, THREE, context)


def lrn(context, out):
    return ops.lrn_backward(out, context)


def pool(context, out):
    return ops.maxpool2d_backward(out, context)


def affine(context, out):
    return ops.affine_backward(out, np.ones((48, 3)), context)


CASES = [
    ("conv2d", "x", "x", convolution, lambda b: ops.conv2d_forward(IMAGES, FILTERS, None, 1, 0, b)),
    (
        "conv2d",
        "x",
        "x",
        grouped,
        lambda b: ops.conv2d_grouped_forward(IMAGES, FILTERS, None, backend=b),
    ),
    *(
        (
            "conv2d",
            field,
            name,
            block,
            lambda b, p=p: ops.conv2d_block_forward(IMAGES, FILTERS, None, 1, 1, p, b),
        )
        for field, name in (("x", "x"), ("gate", "the gate"))
        for p in (False, True)
    ),
    *(
        (
            "batchnorm2d",
            field,
            name,
            normalisation,
            lambda b: ops.batchnorm2d_train(IMAGES, THREE, THREE, 1e-5, None, True, b)[::3],
        )
        for field, name in (("x", "x"), ("gate", "the output"))
    ),
    *(
        ("lrn", field, field, lrn, lambda b: ops.lrn_forward(IMAGES, 3, 1.0, 0.75, 1.0, b))
        for field in ("x", "scale")
    ),
    ("maxpool2d", "winner", "winner", pool, lambda b: ops.maxpool2d_forward(IMAGES, 2, 2, 2, 0, b)),
    ("affine", "x", "x", affine, lambda b: ops.affine_forward(IMAGES, np.ones((48, 3)), None, b)),
]


@pytest.mark.parametrize(("op", "field", "name", "backward", "forward"), CASES)
def test_a_kept_array_of_another_shape_is_named(backend, op, field, name, backward, forward):
    out, context = forward(backend)
    kept = getattr(context, field)
    changed = dataclasses.replace(context, **{field: kept[:1]})
    told = rf"^{op} backward: {name}, as forward kept it, has shape \(1, .*\), expected \(2, .*\)$"
    with pytest.raises(ShapeError, match=told):
        backward(changed, out)


@pytest.mark.parametrize(("op", "field", "name", "backward", "forward"), CASES)
def test_a_kept_array_in_other_memory_is_as_good(backend, op, field, name, backward, forward):
    """As in a pickle's copies."""
    out, context = forward(backend)
    changed = dataclasses.replace(context, **{field: np.asfortranarray(getattr(context, field))})
    expected = backward(context, out)
    got = backward(changed, out)
    if isinstance(expected, np.ndarray):
        expected, got = (expected,), (got,)
    for one, other in zip(got, expected, strict=True):
        if other is not None:
            np.testing.assert_array_equal(one, other)
