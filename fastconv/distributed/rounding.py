"""Gradients of 16 bits on the wire, with error feedback.

A number is sent as a bfloat16: the upper half of a float32, 8 significant bits and the same range.
What rounding keeps back stays here and is added to the next step's gradient, so that over the
steps nothing is lost (arXiv:1809.07599 names it error feedback).

A bucket takes two messages. Each rank sends every other one its part of the bucket, rounded; a rank
adds up its own part in float32, in the order of the ranks, and sends that sum to all, rounded, with
an error of its own to feed back. So all ranks have the same bits, whoever added them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, WeightsError
from ..training.ranks import Ranks
from .buckets import Buckets

__all__ = ["Halved", "Unsent", "halves", "whole"]

Array = NDArray[Any]

DROPPED = 16
"""Bits of a float32 that a bfloat16 lacks."""


def _surely_finite(values: Array) -> bool:
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum()))


def halves(values: Array) -> Array:
    """Return float32 numbers rounded to the nearest bfloat16, as 16 bits each; NaN stays NaN."""
    bits = values.view(np.uint32)
    kept = bits >> DROPPED
    kept &= 1  # of two as near, the even one
    kept += (1 << DROPPED - 1) - 1
    kept += bits
    kept >>= DROPPED
    rounded = kept.astype(np.uint16)
    if not _surely_finite(values):
        rounded[np.isnan(values)] = np.array(np.nan, np.float32).view(np.uint32) >> DROPPED
    return rounded


def whole(halves: Array) -> Array:
    """Return the float32 numbers that these are."""
    bits = halves.astype(np.uint32)
    bits <<= DROPPED
    return bits.view(np.float32)


def _round(values: Array) -> Array:
    """Return `halves` of the values, which become what rounding keeps back."""
    rounded = halves(values)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        values -= whole(rounded)
    if not _surely_finite(values):
        values[~np.isfinite(values)] = 0  # what is lost is lost once
    return rounded


class Unsent:
    """What rounding has kept back in a run, of one rank.

    Parameters
    ----------
    params : mapping of str to array
        Whose gradients they are, in the order of the layers.
    rank, size : int
        Which of how many ranks.

    Attributes
    ----------
    buckets : Buckets
    own, sums : float32 arrays
        Kept back of this rank's gradients, and of the sums that it has rounded: its part of each
        bucket, where the others are 0. They lie as in the buckets.
    """

    def __init__(self, params: Mapping[str, Array], rank: int, size: int) -> None:
        for name, value in params.items():
            if value.dtype != np.float32:
                raise ArgumentError(
                    f"Trainer: gradients='bfloat16' rounds those of float32; {name} is of "
                    f"{value.dtype}"
                )
        sizes = {name: value.size for name, value in params.items()}
        self.buckets = Buckets.of(sizes, np.dtype(np.uint16).itemsize, all_of_them=True)
        self.own, self.sums = np.zeros((2, sum(sizes.values())), np.float32)
        self._rank, self._size = rank, size

    def parts(self, begin: int, end: int) -> list[slice]:
        """The parts of a bucket that lies there, by the ranks that add them up."""
        cuts = (begin + (end - begin) * number // self._size for number in range(self._size + 1))
        return [slice(*pair) for pair in pairwise(cuts)]

    def state(self, ranks: Ranks) -> dict[str, Array]:
        """Return it of all ranks, on the first one; all of them call this."""
        own, sums = ranks.stacked(self.own), ranks.stacked(self.sums)
        return {} if own is None or sums is None else {"own": own, "sums": sums.sum(axis=0)}

    def load_state(self, arrays: Mapping[str, Array], source: str) -> None:
        """Take up what `state` returned, here perhaps on another number of ranks.

        Raises
        ------
        WeightsError
            It is not that of such a network.
        """
        own, sums = (arrays.get(name, np.empty(0)) for name in ("own", "sums"))
        if (
            own.ndim != 2
            or own.shape[1:] != self.own.shape
            or sums.shape != self.sums.shape
            or not len(own)
        ):
            raise WeightsError(
                f"{source}: {own.shape} and {sums.shape} numbers kept back of gradients, expected "
                f"those of {self.own.size} parameters"
            )
        if len(own) == self._size:
            self.own[:] = own[self._rank]
        else:
            self.own[:] = 0 if self._rank else own.sum(axis=0)
        self.sums[:] = 0
        for begin, end in pairwise([0, *self.buckets.ends]):
            part = self.parts(begin, end)[self._rank]
            self.sums[part] = sums[part]


class Halved:
    """A bucket on its way in 16 bits.

    Parameters
    ----------
    comms : pair of mpi4py.MPI.Comm
        For the gradients and for the sums, which ranks may come to at different times.
    unsent : Unsent
        With this step's gradients added.
    bucket : slice
        Where the bucket lies.
    sums : array
        Gets the sums, as they lie in the buckets.
    """

    def __init__(self, comms: tuple[Any, Any], unsent: Unsent, bucket: slice, sums: Array) -> None:
        self._comms, self._unsent, self._sums = comms, unsent, sums[bucket]
        parts = unsent.parts(bucket.start, bucket.stop)
        self._part = parts[comms[0].rank]
        lengths = [part.stop - part.start for part in parts]
        begins = [part.start - bucket.start for part in parts]
        size, own = len(parts), lengths[comms[0].rank]
        self._sent = _round(unsent.own[bucket])
        self._taken = np.empty((size, own), np.uint16)
        self._places = lengths, begins
        self._added = False
        self._request = comms[0].Ialltoallv(
            [self._sent, self._places],
            [self._taken, ([own] * size, [own * number for number in range(size)])],
        )

    def Test(self) -> bool:
        """Go on, and return whether the sums are there."""
        if not self._request.Test():
            return False
        if not self._added:
            self._add()
            return self.Test()
        self._sums[:] = whole(self._sent)
        return True

    def Wait(self) -> None:
        """Wait for the sums."""
        self._request.Wait()
        if not self._added:
            self._add()
            self._request.Wait()
        self._sums[:] = whole(self._sent)

    def _add(self) -> None:
        """Add up this rank's part, and send it to all."""
        self._added = True
        sums = self._unsent.sums[self._part]
        for row in self._taken:
            sums += whole(row)
        self._taken = _round(sums)
        self._request = self._comms[1].Iallgatherv(self._taken, [self._sent, self._places])
