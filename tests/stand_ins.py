"""Backends for tests: they compute by the reference, and watch what they are called with."""

from __future__ import annotations

import functools
import inspect
import itertools
from typing import Any

import numpy as np
import pytest

from fastconv import selection
from fastconv.backends import Registry
from fastconv.backends.base import CHANNELS_FIRST, KERNELS
from fastconv.backends.numpy_backend import NumpyBackend

WRITTEN = {
    "out",
    "winner",
    "mask",
    "normalized",
    "mean",
    "variance",
    "scale",
    "probabilities",
    "dscores",
    "col",
    "dx",
    "dweight",
    "dbias",
    "dgamma",
    "dbeta",
    "dresidual",
}
READ = {
    "relu_backward": {"mask"},
    "maxpool2d_backward": {"winner"},
    "batchnorm_infer": {"mean", "variance"},
    "batchnorm_backward": {"normalized", "variance"},
    "batchnorm2d_apply": {"scale"},
    "batchnorm2d_backward": {"mean"},
    "lrn_backward": {"scale"},
    "softmax_cross_entropy_backward": {"probabilities"},
    "col2im": {"col"},
}
"""Names that are outputs elsewhere, but inputs here."""


class StandIn:
    """A backend that notes each call, and fails where a call breaks the caller's contract."""

    def __init__(
        self,
        name: str,
        layout: str = "channels_first",
        kernels: tuple[str, ...] = KERNELS,
    ) -> None:
        self.name = name
        self.layout = layout
        self.calls: list[str] = []
        self.threads: list[int] = []
        reference = NumpyBackend()
        for kernel in kernels:
            setattr(self, kernel, self._watched(kernel, getattr(reference, kernel)))

    def configure(self, *, threads: int, math_mode: str, algorithm: str) -> None:
        self.threads.append(threads)

    def describe(self) -> dict[str, str]:
        return {"made of": "the reference"}

    def _watched(self, kernel: str, function: Any) -> Any:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(kernel)
            self.check(kernel, signature.bind(*arguments, **named).arguments)
            return function(*arguments, **named)

        return call

    def check(self, kernel: str, arguments: dict[str, Any]) -> None:
        """The caller's side of the contract: dtypes, memory, outputs that overlap nothing."""
        arrays = {name: a for name, a in arguments.items() if isinstance(a, np.ndarray)}
        floats = {a.dtype for a in arrays.values() if a.dtype.kind == "f"}
        assert floats in ({np.dtype("float32")}, {np.dtype("float64")}), f"{kernel}: {floats}"
        for name, array in arrays.items():
            where = f"{kernel}: {name} {array.dtype} {array.shape} {array.strides}"
            if array.dtype.kind != "f":
                pooled = kernel.startswith("maxpool2d")
                window = arguments["geometry"].window if pooled else 0
                kinds = dict.fromkeys(("labels", "boxes", "rows", "cols"), np.int64)
                expected = (kinds | {"mask": np.uint8}).get(name)
                expected = expected or (np.uint8 if window <= 256 else np.int32)
                assert array.dtype == expected, where
            assert array.dtype.isnative and array.flags.aligned, where
            images = array.ndim == 4 and "weight" not in name
            if images and kernel not in CHANNELS_FIRST and self.layout == "channels_last":
                array = array.transpose(0, 2, 3, 1)
            assert array.flags.c_contiguous, where
        if kernel == "adam_update":
            written = {"param", "m", "v"}
        else:
            written = (WRITTEN | ({"x"} if kernel == "col2im" else set())) - READ.get(kernel, set())
        for name, other in itertools.permutations(arrays, 2):
            if name in written:
                assert arrays[name].flags.writeable, f"{kernel}: {name} is read-only"
                overlap = np.may_share_memory(arrays[name], arrays[other])
                assert not overlap, f"{kernel}: {name} overlaps {other}"


class Liar(StandIn):
    """Fills every output with 7, whatever the input: what is not 7 went past the table."""

    def _watched(self, kernel: str, function: Any) -> Any:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(kernel)
            given = signature.bind(*arguments, **named).arguments
            outputs = {"param"} if kernel == "adam_update" else WRITTEN | {"x"}
            inputs = (
                READ.get(kernel, set()) if kernel == "col2im" else READ.get(kernel, set()) | {"x"}
            )
            for name in outputs - inputs:
                if isinstance(given.get(name), np.ndarray):
                    given[name][...] = 7
            return 7.0 if kernel == "softmax_cross_entropy_forward" else None

        return call


def fresh_registry(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Registry:
    """A registry in place of the process's own, which knows nothing yet of what tests add."""
    fresh = Registry(**options)
    monkeypatch.setattr(selection, "registry", lambda: fresh)
    monkeypatch.setattr(selection, "_told", {})
    selection.auto_choice.cache_clear()
    return fresh


def add(registry: Registry, *names: str, **options: Any) -> list[StandIn]:
    """Register stand-ins under these names."""
    made = [StandIn(name, **options) for name in names]
    for backend in made:
        registry.register(backend.name, functools.partial(lambda made: made, backend))
    return made
