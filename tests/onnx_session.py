"""What the tests of ONNX models share: a session, a comparison, layers with weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastconv.layers import Affine, Convolution

TOLERANCE = 1e-5
"""Of the largest output."""


class Session:
    """A model in ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        runtime = pytest.importorskip(
            "onnxruntime", reason="ONNX Runtime is not installed: nothing to compare with"
        )
        self.session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        (out,) = self.session.run(None, {"input": x.astype(np.float32)})
        return out


def assert_same(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def convolution(filters=4, channels=2, size=(3, 3), stride=1, pad=0, seed=0) -> Convolution:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((filters, channels, *size)).astype(np.float32)
    return Convolution(weight, rng.standard_normal(filters).astype(np.float32), stride, pad)


def affine(features: int, units=3, dtype="float32") -> Affine:
    rng = np.random.default_rng(features)
    weight = rng.standard_normal((features, units)).astype(dtype)
    return Affine(weight, rng.standard_normal(units).astype(dtype))
