"""Several networks, and several views of an image, asked at once: their probabilities are averaged.

Networks that start from other weights, or are built in another way, make other mistakes
(Ciresan et al. 2012, arXiv:1202.2745).

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ArgumentError, DataCorrupt, WeightsError
from .functions import softmax
from .io.arrays import load_arrays, save_arrays
from .models import make_model
from .network import Network, Predictor
from .ops.arrays import as_array

__all__ = ["Ensemble", "View", "shifted_views"]

KIND = "fastconv ensemble"


@dataclass(frozen=True)
class View:
    """An image seen in another way.

    Attributes
    ----------
    down, right : int
        Pixels that it is moved by; zeros come in.
    mirrored : bool
        Left and right changed, before it is moved.
    """

    down: int = 0
    right: int = 0
    mirrored: bool = False

    def of(self, x: NDArray[Any]) -> NDArray[Any]:
        """Images (N, C, H, W), seen so."""
        if self.mirrored:
            x = x[..., ::-1]
        if not (self.down or self.right):
            return x
        out = np.zeros(x.shape, x.dtype)
        height, width = x.shape[2:]
        to_y, from_y = _overlap(self.down, height)
        to_x, from_x = _overlap(self.right, width)
        out[:, :, to_y, to_x] = x[:, :, from_y, from_x]
        return out


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Where pixels come to lie, and where they come from, along one axis."""
    step = max(-size, min(step, size))
    return slice(max(step, 0), size + min(step, 0)), slice(max(-step, 0), size - max(step, 0))


def shifted_views(pixels: int) -> tuple[View, ...]:
    """The image as it is, and moved by so many pixels up, down, left and right."""
    if pixels == 0:
        return (View(),)
    moves = ((0, 0), (-pixels, 0), (pixels, 0), (0, -pixels), (0, pixels))
    return tuple(View(down, right) for down, right in moves)


class Ensemble(Predictor):
    """Networks that answer together.

    Parameters
    ----------
    members : sequence of Network
        For images of one shape, with the same classes.
    views : sequence of View
        Each member sees each image in each of these ways.

    Raises
    ------
    ArgumentError
        No members, or no views.
    """

    def __init__(self, members: Sequence[Network], views: Sequence[View] = (View(),)) -> None:
        if not members or not views:
            raise ArgumentError(
                f"Ensemble: expected at least one member and one view, got {len(members)} "
                f"members and {len(views)} views"
            )
        self.members = list(members)
        self.views = tuple(views)

    def probabilities(self, x: ArrayLike) -> NDArray[Any]:
        """Mean over members and views of the probabilities (N, classes) of images (N, C, H, W)."""
        x = as_array(x)
        total: Any = 0
        for view in self.views:
            seen = view.of(x)
            for member in self.members:
                scores = member.predict(seen)
                if np.ndim(total) and scores.shape != total.shape:
                    raise WeightsError(
                        f"Ensemble: members give scores of shapes {total.shape} and {scores.shape}"
                    )
                total = total + softmax(scores.astype(np.float64))
        return total / (len(self.members) * len(self.views))

    def predict(self, x: ArrayLike, train_flg: bool = False) -> NDArray[Any]:
        """Return the logarithm of `probabilities`: scores (N, classes) as a network's are."""
        return np.log(self.probabilities(x) + np.finfo(np.float64).tiny)

    def save(self, path: str | PathLike[str]) -> None:
        """Write all members and views to one ``.npz`` file, atomically.

        Raises
        ------
        ArgumentError
            A member that `fastconv.models.make_model` has not made: no file could say how
            to make it again.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for number, member in enumerate(self.members):
            if member.spec is None:
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
        try:
            views = [View(**view) for view in metadata["views"]]
            members = []
            for number, spec in enumerate(metadata["members"]):
                member = make_model(**spec, backend=backend, seed=0)
                start = f"{number}/"
                state = {
                    key.removeprefix(start): value
                    for key, value in arrays.items()
                    if key.startswith(start)
                }
                member.set_state(state, f"{path}, member {number}")
                members.append(member)
        except (KeyError, TypeError) as error:
            raise DataCorrupt(
                f"{path}: not an ensemble that fastconv has saved ({error})"
            ) from error
        return cls(members, views)
