"""Long float32 sums are added up in parts: as one sum they would lose digits."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import config, selection
from fastconv.ops import conv2d_forward

from . import naive
from .took import runs_by

DEEP = {
    "winograd2": ((1, 256, 12, 12), 3, 1, 3.8e-7),  # in parts 2.8e-7, as one sum 5.0e-7
    "winograd2x4": ((1, 256, 12, 12), 3, 1, 6e-7),  # 4.1e-7, 8.7e-7
    "winograd4": ((1, 256, 12, 12), 3, 1, 1.15e-6),  # 8.6e-7, 1.55e-6
    "direct, stride 2": ((1, 256, 12, 12), 3, 2, 4.5e-7),  # 2.7e-7 at most, 8.1e-7
    "direct, 1x1": ((1, 1024, 8, 8), 1, 1, 3.8e-7),  # 2.5e-7 at most, 5.5e-7
}
"""Input, side of the window, stride, and a bound between the errors with and without parts."""


@pytest.mark.parametrize("case", DEEP)
def test_deep_sums_are_added_up_in_parts(backend, rng, case):
    """The error's root mean square against float64, relative to that of the output."""
    if backend == "numpy":
        pytest.skip("the reference sums as NumPy's BLAS does")
    shape, side, stride, bound = DEEP[case]
    x = rng.standard_normal(shape).astype(np.float32)
    weight = rng.standard_normal((32, shape[1], side, side)).astype(np.float32)
    bias = np.zeros(32, np.float32)
    algorithm = case.split(",")[0]
    config.set_conv_algorithm(algorithm)
    with runs_by(selection.active(backend), algorithm):
        out, _ = conv2d_forward(x, weight, bias, stride, side // 2, backend)
    exact = naive.conv2d(x, weight, bias, stride, side // 2)
    assert np.sqrt(np.mean((out - exact) ** 2) / np.mean(exact**2)) < bound
