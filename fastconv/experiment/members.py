"""What each member of an ensemble adds: its errors, the others' without it, and fitted weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError

__all__ = ["MemberResult", "Members", "fitted_weights", "interval"]

CONFIDENCE = 0.95
"""Of the intervals beside accuracies."""

STILL = 1e-9
"""Change of all weights in a round below which they are found."""

MOST_ROUNDS = 20_000


def interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share, of which `correct` out of `total` were seen.

    What so many images can tell of the accuracy on all images of their kind: E. B. Wilson,
    "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927).
    """
    if not total:
        return 0.0, 1.0
    share, z = correct / total, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z * z / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    whole = 1 + z * z / total
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


@dataclass(frozen=True)
class MemberResult:
    """What one of several members adds.

    Attributes
    ----------
    errors : int
        Images that it misreads by itself.
    accuracy : float
    interval : (float, float)
        Of that: `interval`.
    errors_without : int
        Images that the others misread together.
    """

    errors: int
    accuracy: float
    interval: tuple[float, float]
    errors_without: int


@dataclass(frozen=True)
class Members:
    """How members answered, each by itself.

    Attributes
    ----------
    answers : ndarray of int
        (M, N): the class that each of M members finds likeliest for each of N images.
    without : ndarray of int
        (M, N): what the others answer together, without that member; -1 if they do not count.
    products : ndarray of float
        (M, M): sums, over images and classes, of the products of two members' probabilities.
    hits : ndarray of float
        (M,): sums over images of the probability that each gives the true class.
    """

    answers: NDArray[np.integer]
    without: NDArray[np.integer]
    products: NDArray[np.floating]
    hits: NDArray[np.floating]

    @classmethod
    def of(
        cls,
        shares: Sequence[NDArray[Any]],
        labels: NDArray[np.integer],
        weights: Sequence[float] | None = None,
    ) -> Members:
        """From probabilities (N, K) by each member, the true classes (N,), and weights."""
        counts = [1.0] * len(shares) if weights is None else list(weights)
        answers = np.stack([share.argmax(axis=1) for share in shares])
        without = np.full(answers.shape, -1)
        for member in range(len(shares)):
            others = [
                weight * share
                for number, (weight, share) in enumerate(zip(counts, shares, strict=True))
                if number != member and weight > 0
            ]
            if others:
                without[member] = sum(others[1:], others[0]).argmax(axis=1)
        rows = np.arange(len(labels))
        hits = np.array([share[rows, labels].sum() for share in shares], np.float64)
        flat = np.stack([np.ravel(share) for share in shares])
        return cls(answers, without, flat @ flat.T, hits)

    @classmethod
    def joined(cls, parts: Sequence[Members]) -> Members:
        """One record of batches of images, in their order."""
        answers, without = (
            np.concatenate([getattr(part, name) for part in parts], 1)
            for name in ("answers", "without")
        )
        products, hits = (
            np.sum([getattr(part, name) for part in parts], 0) for name in ("products", "hits")
        )
        return cls(answers, without, products, hits)

    def misreaders(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """How many members misread each image, (N,): where all do, no choice of one helps."""
        return np.asarray((self.answers != labels).sum(axis=0))

    def results(self, labels: NDArray[np.integer]) -> list[MemberResult]:
        """What each member adds."""
        total = len(labels)
        return [
            MemberResult(wrong, 1 - wrong / total, interval(total - wrong, total), left)
            for wrong, left in zip(
                (self.answers != labels).sum(axis=1).tolist(),
                (self.without != labels).sum(axis=1).tolist(),
                strict=True,
            )
        ]


def fitted_weights(members: Members) -> NDArray[np.float64]:
    """The weights of members whose sum comes closest to the true classes, in squares.

    They come from images that no member has learned from. Weights are at least 0, and their sum is
    free until it is divided out: so members that are all less sure than they could be, as after
    label smoothing, are not outdone by the surest (L. Breiman, "Stacked Regressions", 1996).

    Parameters
    ----------
    members : Members

    Returns
    -------
    ndarray of float64
        (M,): at least 0, with sum 1.

    Raises
    ------
    ShapeError
        No images.
    """
    if not members.answers.size:
        raise ShapeError("fitted_weights: there are no images to fit weights to")
    products, hits = members.products, members.hits
    weights = np.full(len(hits), 1 / len(hits))
    for _ in range(MOST_ROUNDS):
        before = weights.copy()
        for m in range(len(hits)):  # the best weight of this one, beside the others
            rest = products[m] @ weights - products[m, m] * weights[m]
            weights[m] = max(0.0, (hits[m] - rest) / products[m, m])
        if np.abs(weights - before).max() < STILL:
            break
    found: NDArray[np.float64] = weights / weights.sum()
    return found
