"""The kernel table as work to be measured: one module a family, `cases` in each.

Notation: N images, C channels, H x W pixels; FN filters; D features, M units.
"""

from __future__ import annotations

from . import activation, augment, columns, conv, dense, grouped, loss, norm, pool, updates
from .case import Arguments, Call, Case, expected, prepare, winners_may_round

__all__ = [
    "Arguments",
    "Call",
    "Case",
    "cases",
    "expected",
    "prepare",
    "smallest_of_each_kind",
    "winners_may_round",
]

FAMILIES = (columns, conv, grouped, pool, dense, activation, norm, loss, updates, augment)


def cases(full: bool) -> list[Case]:
    """Return every kernel on every shape of the suite, or on a small one of each kind."""
    return [case for family in FAMILIES for case in family.cases(full)]


def smallest_of_each_kind() -> list[Case]:
    """Of the full suite, the least work for each kernel by each algorithm."""
    least: dict[tuple[str, str], Case] = {}
    for case in sorted(cases(full=True), key=lambda case: (case.flops, case.written)):
        least.setdefault((case.kernel, case.kind), case)
    return list(least.values())
