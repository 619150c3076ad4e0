"""Ensembles: the mean of the probabilities of several networks on several views of an image.

Networks that start from other weights, or have another architecture, make other mistakes
(Ciresan et al. 2012, arXiv:1202.2745).

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from ..datasets.record import expect_size
from ..errors import ArgumentError, DataCorrupt, FastconvError, WeightsError
from ..functions import softmax
from ..io.arrays import load_arrays, load_metadata, save_arrays, under
from ..io.records import NotNegative, record_of
from ..network import Network, Predictor
from ..network.views import View
from ..ops.arrays import as_array
from . import MODELS, make_empty_model

__all__ = ["Ensemble", "is_ensemble_file"]

KIND = "fastconv ensemble"


class Ensemble(Predictor):
    """Networks that predict together.

    Parameters
    ----------
    members : sequence of Network
        For images of one shape, with the same classes. What `Network.prepare` returns will do.
    views : sequence of View
        Each member predicts on each of these views of an image.
    about : dict, optional
        Plain data (that JSON can hold) to save with it, such as what it was trained on.
    weights : sequence of float, optional
        How much each member counts, at least 0 and not all 0; divided by their sum. None: all
        alike.

    Raises
    ------
    ArgumentError
        No members, or no views; weights that are not one number of at least 0 for each member.
    """

    def __init__(
        self,
        members: Sequence[Predictor],
        views: Sequence[View] = (View(),),
        about: dict[str, Any] | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        if not members or not views:
            raise ArgumentError(
                f"Ensemble: expected at least one member and one view, got {len(members)} "
                f"members and {len(views)} views"
            )
        self.members: list[Any] = list(members)
        self.views = tuple(views)
        self.about = {} if about is None else about
        self.weights = None if weights is None else _shares(weights, len(self.members))

    def by_member(self, x: ArrayLike) -> Iterator[NDArray[Any]]:
        """Yield each member's mean probabilities (N, classes) over the views of x (N, C, H, W)."""
        x = as_array(x)
        seen = [view.of(x) for view in self.views]
        shape = None
        for member in self.members:
            scores = [member.predict(images).astype(np.float64) for images in seen]
            if shape is not None and scores[0].shape != shape:
                raise WeightsError(
                    f"Ensemble: members give scores of shapes {shape} and {scores[0].shape}"
                )
            shape = scores[0].shape
            found: Any = sum(softmax(each) for each in scores) / len(seen)
            yield found

    def probabilities(self, x: ArrayLike) -> NDArray[Any]:
        """Return mean probabilities (N, classes) over members and views of images (N, C, H, W)."""
        return self.joined(self.by_member(x))

    def joined(self, shares: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """Return the weighted mean of one array for each member."""
        if self.weights is None:
            total: Any = sum(shares)
            return total / len(self.members)
        mean: Any = sum(w * share for w, share in zip(self.weights, shares, strict=True))
        return mean

    def predict(self, x: ArrayLike, train_flg: bool = False) -> NDArray[Any]:
        """Return scores (N, classes) like a network's: the logarithm of `probabilities`."""
        return np.log(self.probabilities(x) + np.finfo(np.float64).tiny)

    def predict_proba(self, x: ArrayLike) -> NDArray[Any]:
        """Return `probabilities`, under the name that every predictor has for them."""
        return self.probabilities(x)

    def prepare(
        self,
        input_shape: Sequence[int],
        *,
        copy: bool = True,
        algorithms: Literal["rule", "measured"] = "rule",
    ) -> Ensemble:
        """Return a snapshot that predicts faster; see `fastconv.network.Network.prepare`.

        Parameters
        ----------
        input_shape : tuple of int
            The largest batch first.
        copy : bool
            False: the members must not be used any longer.
        algorithms : {"rule", "measured"}
            What chooses the algorithms of convolutions.
        """
        prepared = [
            member.prepare(input_shape, copy=copy, algorithms=algorithms)
            if isinstance(member, Network)
            else member
            for member in self.members
        ]
        return Ensemble(prepared, self.views, self.about, self.weights)

    def save(self, path: str | PathLike[str]) -> None:
        """Write all members and views to one ``.npz`` file, atomically.

        Raises
        ------
        ArgumentError
            `fastconv.models.make_model` did not make a member, so no file can say how to make
            it again.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for number, member in enumerate(self.members):
            if not isinstance(member, Network) or member.spec is None:
                raise ArgumentError(
                    f"Ensemble.save: member {number} ({type(member).__name__}) was not made by "
                    "fastconv.models.make_model, so a file cannot say how to make it again"
                )
            arrays |= {f"{number}/{key}": value for key, value in member.state().items()}
        save_arrays(
            path,
            arrays,
            {
                "kind": KIND,
                "members": [member.spec for member in self.members],
                "views": [asdict(view) for view in self.views],
                "weights": self.weights,
                "about": self.about,
            },
        )

    @classmethod
    def load(cls, path: str | PathLike[str], backend: str | None = None) -> Ensemble:
        """Read what `save` wrote.

        Raises
        ------
        DataNotFound, DataCorrupt
            No such file, or not one of an ensemble.
        """
        arrays, metadata = load_arrays(path)
        if metadata.get("kind") != KIND:
            raise DataCorrupt(f"{path}: not an ensemble that fastconv has saved")
        source = f"{path}: not an ensemble that fastconv has saved"
        file = record_of(metadata, _File, source)
        known = {field.name for field in fields(View)}
        for view in file.views:
            if unknown := view.keys() - known:  # without it, predictions would differ
                raise DataCorrupt(f"{source}: a view with unknown {', '.join(unknown)}")
        views = [record_of(view, View, source) for view in file.views]
        members = []
        for number, spec in enumerate(file.members):
            model = (spec.name, spec.input_dim, spec.classes)
            member = make_empty_model(str(path), *model, dtype=spec.dtype, backend=backend)
            member.set_state(under(f"{number}/", arrays), f"{path}, member {number}")
            members.append(member)
        try:
            return cls(members, views, file.about, file.weights)
        except ArgumentError as error:
            raise DataCorrupt(f"{source}: {error}") from None


def _shares(weights: Sequence[float], count: int) -> tuple[float, ...]:
    """Weights as shares of 1, one for each of `count` members."""
    found = [float(weight) for weight in weights]
    whole = math.fsum(found)
    if len(found) != count or min(found) < 0 or not 0 < whole < math.inf:
        raise ArgumentError(
            f"Ensemble: weights must be {count} numbers of at least 0, one for each member and "
            f"not all 0, got {found}"
        )
    return tuple(weight / whole for weight in found)


@dataclass(frozen=True)
class _Spec:
    """The arguments of `make_model` for a member."""

    name: str
    input_dim: tuple[int, int, int]
    classes: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    dtype: Literal["float32", "float64"]

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise ArgumentError(f"unknown model {self.name!r}")
        expect_size(self.name, self.input_dim)


@dataclass(frozen=True)
class _File:
    """The metadata of an ensemble's file."""

    members: Annotated[list[_Spec], Meta(min_length=1)]
    views: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    about: dict[str, Any] = field(default_factory=dict)
    weights: list[NotNegative] | None = None


def is_ensemble_file(path: str | PathLike[str]) -> bool:
    """Whether the file at this path is one that `Ensemble.save` wrote."""
    if Path(path).suffix != ".npz" or not Path(path).is_file():
        return False
    try:
        return bool(load_metadata(path).get("kind") == KIND)
    except FastconvError:
        return False
