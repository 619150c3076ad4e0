"""Backends for tests, which compute by the reference and watch the calls.

Also pictures for tests that are not about pictures.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

import numpy as np
import pytest

from fastconv import selection, testing
from fastconv.backends import Registry
from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import KERNELS
from fastconv.io.atomic import replace_file
from fastconv.testing.contract import Freedoms, check_call, outputs


class StandIn:
    """A backend that notes each call, and fails if a call breaks the caller's contract."""

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
            given = signature.bind(*arguments, **named).arguments
            check_call(kernel, self.layout, given, Freedoms.of(self))
            return function(*arguments, **named)

        return call


class Liar(StandIn):
    """Fills outputs with 7, whatever the input: any other number has bypassed the table."""

    def _watched(self, kernel: str, function: Any) -> Any:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(kernel)
            given = signature.bind(*arguments, **named).arguments
            for name in outputs(kernel):
                if isinstance(given.get(name), np.ndarray):
                    # Places stay places in a window.
                    given[name][...] = 7 if given[name].dtype.kind == "f" else 0
            return 7.0 if kernel == "softmax_cross_entropy_forward" else None

        return call


def fresh_registry(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Registry:
    """Replace the process's registry by a new one, without what other tests have added."""
    fresh = Registry(**options)
    put_registry(monkeypatch, fresh)
    return fresh


def put_registry(monkeypatch: pytest.MonkeyPatch, registry: Registry) -> None:
    """Let this registry be the process's own."""
    monkeypatch.setattr(selection, "registry", lambda: registry)
    monkeypatch.setattr(selection, "_told", {})
    selection.auto_choice.cache_clear()


def add(registry: Registry, *names: str, **options: Any) -> list[StandIn]:
    """Register stand-ins under these names."""
    made = [StandIn(name, **options) for name in names]
    for backend in made:
        registry.register(backend.name, functools.partial(lambda made: made, backend))
    return made


def only_cases_of(kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `check_backend` check only this kernel, to save the time of the others."""
    every = testing.cases

    def some(reference: NumpyBackend, dtype: Any) -> Any:
        return (case for case in every(reference, dtype) if case[0] == kernel)

    monkeypatch.setattr(testing, "cases", some)


def save_no_pixels(figure: Any, path: Any) -> str:
    """`figures.save` without pixels, which take longer than a small training run."""
    with replace_file(path) as file:
        file.write(b"\x89PNG\r\n\x1a\n")
    return ""
