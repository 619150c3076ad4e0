"""How close a result must be to its expectation, and which of several cases is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-12}
"""Largest error, relative to the largest value of the expectation."""


@contextmanager
def in_case(*case: Any) -> Iterator[None]:
    """Name the case in the failure of a test that loops over many; a test for each takes long."""
    try:
        yield
    except BaseException as failure:
        failure.add_note(f"case: {', '.join(map(str, case))}")
        raise


def assert_close(actual, expected, *, dtype=None, tolerance=None, scale=None) -> None:
    """Assert the same shape, the same places of NaN and infinities, all else within the tolerance.

    Parameters
    ----------
    actual, expected : arrays
    dtype : dtype, optional
        The dtype that `actual` must have.
    tolerance : float, optional
        By default that of `actual`'s dtype.
    scale : float, optional
        What the error is relative to: by default the largest finite value of `expected`. To be
        given if larger terms cancel in the expectation.
    """
    actual, expected = np.asarray(actual), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    if dtype is not None:
        assert actual.dtype == dtype
    if tolerance is None:
        tolerance = TOLERANCE[actual.dtype]
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), "NaN in other places")
    infinite = np.isinf(expected)
    np.testing.assert_array_equal(
        np.where(np.isinf(actual), actual, 0), np.where(infinite, expected, 0)
    )
    finite = np.isfinite(expected)
    if not finite.any():
        return
    if scale is None:
        scale = np.abs(expected[finite]).max()
    error = np.abs(actual[finite].astype(np.float64) - expected[finite]).max()
    assert error <= tolerance * scale, f"off by {error:.2e}, largest value {scale:.2e}"
