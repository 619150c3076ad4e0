"""A trained run as the server uses it: what a request holds becomes images, these probabilities."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from .. import selection
from ..datasets.strokes import frame_strokes
from ..errors import ArgumentError, DTypeError, ShapeError
from ..experiment.data import prepare_picture
from ..experiment.settings import RunConfig
from ..io.records import read_record
from ..models.ensemble import Ensemble

__all__ = ["MOST_IMAGES", "ServedRun"]

Array = NDArray[Any]

MOST_BATCH = 32
"""Images of the largest batch; the program of each size of batch is prepared once."""

BATCH_NUMBERS = 2**18
"""Numbers in the images of a batch, at most: with large images, smaller batches are as fast."""

MOST_IMAGES = 64
"""Images in one request."""

REQUEST = "the request"

SMALL = 2**20
"""Bytes of JSON that are read beside others; larger ones take many times their size meanwhile."""

_one_at_a_time = threading.Lock()
"""For pictures, too: Pillow's warnings are a setting of the process."""


@dataclass(frozen=True)
class _Drawing:
    """What the page sends: the places (x, y) that the pen went through, stroke by stroke."""

    strokes: Annotated[list[list[tuple[float, float]]], Meta(max_length=1000)]


class ServedRun:
    """A trained network, prepared to answer.

    Parameters
    ----------
    name : str
        As the user named it.
    config : RunConfig
    ensemble : Ensemble
        Its networks, with their views.
    knows_data : bool
        Whether `config` says what it was trained on: a file of weights does not.
    algorithms : {"rule", "measured"}
        As for `fastconv.network.Network.prepare`.
    """

    def __init__(
        self,
        name: str,
        config: RunConfig,
        ensemble: Ensemble,
        knows_data: bool,
        algorithms: Literal["rule", "measured"] = "rule",
    ) -> None:
        self.name, self.config, self.knows_data = name, config, knows_data
        self.facts = config.facts
        self.network = ensemble.members[0]
        self.members = len(ensemble.members)
        self.views = len(ensemble.views)
        fitting = max(1, BATCH_NUMBERS // math.prod(self.facts.shape))
        self.most = min(MOST_BATCH, 1 << (fitting.bit_length() - 1))
        with selection.use_backend(config.backend):
            self._prepared = ensemble.prepare((self.most, *self.facts.shape), algorithms=algorithms)
        size = 1
        while size < self.most:  # the largest is ready
            self.probabilities(np.zeros((size, *self.facts.shape), config.dtype))
            size *= 2

    @property
    def draws(self) -> bool:
        """Whether it reads digits, which can be drawn; else it takes pictures of the user's own."""
        return self.facts.ink

    def probabilities(self, images: Array) -> Array:
        """Return the probabilities (N, classes) of images (N, C, H, W)."""
        with selection.use_backend(self.config.backend):
            return self._prepared.probabilities(images)

    def about(self) -> dict[str, Any]:
        """Plain facts for the page and for other programs."""
        return {
            "name": self.name,
            "model": self.config.model,
            "members": self.members,
            "views": self.views,
            "data": self.config.data if self.knows_data else None,
            "classes": list(self.facts.class_names),
            "shape": list(self.facts.shape),
            "draws": self.draws,
            "computed": self.config.where,
        }

    def images(self, body: bytes, is_json: bool) -> Array:
        """The images (N, C, H, W) in a request's body.

        A picture's content; or, in JSON, ``{"strokes": [[[x, y], ...], ...]}``, one image
        (C, H, W), (H, W) if it is grey, or several (N, C, H, W), of numbers from 0 to 1.

        Raises
        ------
        DataCorrupt
            Something else.
        ShapeError, DTypeError, ArgumentError
            Images or strokes that this network does not take.
        MissingDependency
            A picture, and Pillow is not installed.
        """
        if is_json and len(body) <= SMALL:
            return self._of_json(body)
        with _one_at_a_time:
            return self._of_json(body) if is_json else prepare_picture(body, self.facts)[None]

    def _of_json(self, body: bytes) -> Array:
        kind: Any = _Drawing | list[Any]
        value = read_record(body, kind, REQUEST)
        if isinstance(value, _Drawing):
            if not self.draws:
                raise ArgumentError(f"{REQUEST}: {self.name} takes pictures, not strokes")
            return frame_strokes([np.reshape(each, (-1, 2)) for each in value.strokes])[None]
        return self._of_array(value)

    def _of_array(self, value: list[Any]) -> Array:
        shape = self.facts.shape
        expected = f"images of {' x '.join(map(str, shape))}, one or up to {MOST_IMAGES} in a list"
        try:
            array = np.array(value)
        except ValueError:
            raise ShapeError(f"{REQUEST}: lists of several lengths, expected {expected}") from None
        if array.dtype.kind not in "fiu":
            raise DTypeError(f"{REQUEST}: not an array of numbers, expected {expected}")
        images = array.reshape((1,) * (4 - array.ndim) + array.shape)
        if images.shape[1:] != shape or not 1 <= len(images) <= MOST_IMAGES:
            raise ShapeError(f"{REQUEST}: an array of {array.shape}, expected {expected}")
        if not ((images >= 0) & (images <= 1)).all():
            raise ArgumentError(
                f"{REQUEST}: numbers from {images.min():g} to {images.max():g}, expected 0 to 1"
            )
        images = images.astype(self.config.dtype)
        if self.facts.normalization is not None:
            images = self.facts.normalization.apply(images)
        return images

    def shown(self, images: Array) -> NDArray[np.uint8]:
        """Images (N, C, H, W) as they were before normalization, in bytes."""
        if self.facts.normalization is not None:
            images = self.facts.normalization.undo(images)
        return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
