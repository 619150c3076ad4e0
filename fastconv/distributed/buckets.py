"""How gradients are cut into buckets, each of which is a message.

They lie one after the other in the order in which backward completes them, about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Buckets"]

LEAST = 1 << 17
"""Bytes of a bucket, at least: a smaller message costs more time than it saves."""

MOST_BUCKETS = 16


@dataclass(frozen=True)
class Buckets:
    """How gradients are cut.

    Attributes
    ----------
    sizes : dict of str to int
        Of all gradients, in the order of the layers.
    places : dict of str to slice
        Where each gradient lies that is in a bucket.
    owners : dict of str to int
        In which bucket.
    ends : list of int
        Where each bucket ends.
    """

    sizes: Mapping[str, int]
    places: Mapping[str, slice]
    owners: Mapping[str, int]
    ends: Sequence[int]

    @staticmethod
    def of(sizes: Mapping[str, int], itemsize: int, *, all_of_them: bool = False) -> Buckets:
        """Cut gradients of these sizes, in the order of the layers; a bucket has whole ones.

        The last ones are in no bucket, unless `all_of_them` shall be.
        """
        least = max(LEAST // itemsize, sum(sizes.values()) // MOST_BUCKETS)
        places, owners, ends = dict[str, slice](), dict[str, int](), list[int]()
        begin = end = 0
        for name, size in reversed(list(sizes.items())):
            places[name] = slice(end, end + size)
            owners[name] = len(ends)
            end += size
            if end - begin >= least:
                begin = end
                ends.append(end)
        if all_of_them and end > begin:
            ends.append(end)
        if not all_of_them and ends and end == ends[-1]:  # nothing is left to compute meanwhile
            ends.pop()
        whole = {name for name, bucket in owners.items() if bucket < len(ends)}
        return Buckets(
            sizes,
            {name: place for name, place in places.items() if name in whole},
            {name: bucket for name, bucket in owners.items() if name in whole},
            ends,
        )
