"""Which ways a backend's calls took, as it counted them itself: proof of what ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..backends.algorithms import ConvAlgorithms
from ..backends.table import FAMILIES, Backend, Way
from .strict import Arguments, is_array, require

__all__ = ["require_said", "says_algorithms", "says_ways", "ways"]

CONVOLUTIONS = FAMILIES["conv2d"] + FAMILIES["conv2d_block"]
"""Kernels whose algorithms a backend may give beforehand."""

GRADIENTS = {"input_gradient": "dx", "weight_gradient": "dweight"}


@contextmanager
def ways(backend: Backend) -> Iterator[Counter[Way]]:
    """Count the ways that calls of this Python thread take inside a ``with``.

    Parameters
    ----------
    backend : Backend
        With a method ``ways_taken``; see `fastconv.backends.table`.

    Yields
    ------
    Counter of Way
        Empty until the end of the ``with``; then how often each way was taken.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import ops, selection
    >>> from fastconv.testing import ways
    >>> x, weight = np.ones((1, 1, 5, 5)), np.ones((1, 1, 3, 3))
    >>> with ways(selection.active("numba")) as taken:
    ...     out, context = ops.conv2d_forward(x, weight, None, backend="numba")
    >>> [(way.part, way.how) for way in taken]
    [('forward', 'direct')]
    """
    who = getattr(backend, "name", f"{backend!r}, expected a loaded backend")
    require(says_ways(backend), f"{who}: has no method ways_taken, so none can be asked")
    count: Callable[[], dict[Way, int]] = backend.ways_taken  # type: ignore[attr-defined]
    before, taken = Counter(count()), Counter[Way]()
    try:
        yield taken
    finally:
        taken.update(Counter(count()) - before)


def says_ways(backend: Backend) -> bool:
    """Whether the backend counts which ways its kernels take."""
    return callable(getattr(backend, "ways_taken", None))


def says_algorithms(backend: Backend, kernel: str) -> bool:
    """Whether the backend itself computes this convolution, and gives and counts its ways."""
    provider = getattr(backend, "providers", {}).get(kernel, backend.name)
    own = kernel in CONVOLUTIONS and provider == backend.name
    return own and says_ways(backend) and hasattr(backend, "conv2d_algorithms")


def require_said(
    backend: Backend, kernel: str, inputs: Arguments, results: Arguments, taken: Counter[Way]
) -> None:
    """Raise an AssertionError if a convolution took another way than the backend gives.

    Parameters
    ----------
    kernel : str
        One for which `says_algorithms` is true.
    inputs, results : dict
        Arrays by name.
    taken : Counter of Way
        What `ways` gave for this call alone.
    """
    say: Callable[..., ConvAlgorithms] = backend.conv2d_algorithms  # type: ignore[attr-defined]
    said = say(inputs["geometry"], len(inputs["weight"]), bool(inputs.get("pool")))
    empty = any(is_array(array) and not array.size for array in (inputs | results).values())
    for part in ("forward", "input_gradient", "weight_gradient"):
        found = {way.algorithm for way in taken if way.part == part}
        wanted = {getattr(said, part)} if GRADIENTS.get(part, "out") in results else set()
        require(
            found == wanted or (empty and not found),
            f"{kernel}: {part} took {sorted(found)}, where {backend.name} says {sorted(wanted)} "
            f"({inputs['geometry']})",
        )
