"""Groups of parameters, chosen by patterns of their names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from numbers import Real

from ..errors import ArgumentError, suggestion

__all__ = ["matching", "rate_factors"]


def matching(op: str, pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that an `fnmatch` pattern matches, at least one.

    Raises
    ------
    ArgumentError
        It matches none; the message begins with `op` and lists the names.
    """
    names = list(names)
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ArgumentError(
            f"{op}: {pattern!r} matches no parameter; there are {', '.join(names)}"
            f"{suggestion(pattern, names)}"
        )
    return found


def rate_factors(op: str, factors: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    """Return the factor on the learning rate of each parameter that a pattern matches.

    Parameters
    ----------
    op : str
        How messages begin.
    factors : mapping of str to float
        Factor by pattern; the first pattern that matches a name decides.
    names : iterable of str
        Of all parameters.

    Raises
    ------
    ArgumentError
        A factor is not a number of at least 0, or a pattern decides nothing.
    """
    names = list(names)
    found: dict[str, float] = {}
    for pattern, factor in factors.items():
        if not isinstance(factor, Real) or not 0 <= factor < math.inf:
            raise ArgumentError(f"{op}: {pattern!r} takes a number of at least 0, got {factor!r}")
        new = [name for name in matching(op, pattern, names) if name not in found]
        if not new:
            raise ArgumentError(
                f"{op}: {pattern!r} decides nothing: patterns before it match the same names; "
                "put the narrower pattern first"
            )
        found |= dict.fromkeys(new, float(factor))
    return found
