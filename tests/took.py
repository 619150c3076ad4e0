"""Checks that the fast backends run the algorithms and threads that a test asks for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastconv.backends.shared import work
from fastconv.backends.table import Backend
from fastconv.geometry import WindowGeometry
from fastconv.testing import ways

__all__ = ["fine_grain", "guarded_scratch", "runs_by"]

CONVOLUTION = ("forward", "input_gradient", "weight_gradient")


@contextmanager
def runs_by(table: Backend, algorithm: str, g: WindowGeometry | None = None) -> Iterator[None]:
    """Fail if this thread's convolutions in the ``with`` block do not run by this algorithm.

    The reference has only one way and is not checked; ``auto`` leaves the choice to the backend.

    Parameters
    ----------
    table : Backend
    algorithm : str
        What was asked for.
    g : WindowGeometry, optional
        The geometry of all these convolutions, each of which must run by the algorithm, or
        directly if it does not apply. Without it, at least one of them must.
    """
    if table.name == "numpy":
        yield
        return
    with ways(table) as taken:
        yield
    found = [(way.part, way.algorithm) for way in taken if way.part in CONVOLUTION]
    assert found or (g is not None and g.n == 0), "no convolution ran"
    if algorithm == "auto":
        return
    if g is None:
        assert algorithm in {how for _, how in found}, found
        return
    for part, how in found:
        applies = (g.fh, g.fw, g.strides) == (3, 3, (1, 1))
        applies = applies and (max(g.pads[:2]) <= 2 or part == "weight_gradient")
        assert how == (algorithm if applies else "direct"), (part, how)


def _compiled() -> list[Any]:
    """The builds of the Cython kernels that are loaded."""
    names = [f"fastconv.backends._cython.kernels_{isa}" for isa in work.ISA_LEVELS]
    return [sys.modules[name] for name in names if name in sys.modules]


def _set_grain(values: int) -> None:
    work.GRAIN = values
    for module in _compiled():
        module.set_grain(values)


@contextmanager
def guarded_scratch() -> Iterator[None]:
    """Fail if a kernel of Cython's writes beyond the memory that it works in."""
    modules = _compiled()
    for module in modules:
        module.guard_scratch(True)
    try:
        yield
        assert not sum(module.scratch_overruns() for module in modules), "written beyond scratch"
    finally:
        for module in modules:
            module.guard_scratch(False)


@contextmanager
def fine_grain(values: int = 1) -> Iterator[None]:
    """Let the fast backends use several threads, if allowed, even for the least work.

    Otherwise they would run the small work of tests on one thread, and faults between threads
    would not show.

    Parameters
    ----------
    values : int
        Work that is worth a thread.
    """
    kept = work.GRAIN
    _set_grain(values)
    try:
        yield
    finally:
        _set_grain(kept)
