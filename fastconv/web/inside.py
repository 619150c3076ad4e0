"""What a network makes of one image: the outputs of its layers, what decided, what is alike."""

from __future__ import annotations

import base64
import copy
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import selection
from ..experiment.data import Data, ImageOptions
from ..layers import Affine
from ..layers.containers import run_layer
from ..layers.tree import flat
from ..network import Network
from .runs import ServedRun

__all__ = ["Neighbours", "covered", "layer_outputs", "picture", "what_decided"]

Array = NDArray[Any]

MOST_MAPS = 32
"""Feature maps of a layer that are shown."""

MOST_SIDE = 64
"""Pixels of a shown feature map's side."""

FINE = 14
"""Places in a row and in a column that are covered of a small image."""

COARSE = 7
"""`FINE` for images whose side is larger than `SMALL`, which take longer."""

SMALL = 64

NEAREST = 8
"""Training images that are shown."""

TRAINING_BYTES = 2**28
"""Bytes of training images that are kept, at most."""

FEATURES_BATCH = 128

FOLLOWED = ("Relu", "Sigmoid", "BatchNormalization", "BatchNormalization2d", "Dropout")
"""Layers that are shown together with the one before."""


def picture(images: NDArray[np.uint8]) -> dict[str, Any]:
    """Images (N, C, H, W) in a form for the page."""
    count, channels, height, width = images.shape
    pixels = base64.b64encode(np.ascontiguousarray(images)).decode()
    return {
        "count": count,
        "channels": channels,
        "height": height,
        "width": width,
        "pixels": pixels,
    }


def layer_outputs(network: Network, image: Array) -> list[dict[str, Any]]:
    """What each layer makes of an image (C, H, W): up to `MOST_MAPS` of its feature maps.

    An activation, a normalization or a dropout is shown with the layer before it. The last
    layer's scores are left out. The brightest value of all of a layer's maps is white.
    """
    rows: list[dict[str, Any]] = []
    numbers: dict[str, int] = {}
    names: list[str] = []
    layers, x = flat(network.layers), image[None]
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        kind = type(layer).__name__
        numbers[kind] = numbers.get(kind, 0) + 1
        names.append(kind if kind in FOLLOWED else f"{kind} {numbers[kind]}")
        x = run_layer(layer, x, False)
        if type(following).__name__ in FOLLOWED:
            continue
        output = x[0, :, 0, 0] if x.shape[2:] == (1, 1) else x[0]
        rows.append({"name": " + ".join(names), "shape": list(output.shape)} | _maps(output))
        names = []
    return rows[:-1]


def _maps(output: Array) -> dict[str, Any]:
    maps = output if output.ndim == 3 else output.reshape(1, 1, -1)
    low, high = min(float(maps.min()), 0.0), float(maps.max())
    step = max(1, math.ceil(max(maps.shape[1:]) / MOST_SIDE)) if output.ndim == 3 else 1
    some = maps[:MOST_MAPS, ::step, ::step]
    bright = (some - low) * (255 / (high - low) if high > low else 0.0)
    return picture(np.rint(bright).astype(np.uint8)[:, None])


def covered(image: Array, background: float) -> tuple[Array, list[tuple[slice, slice]]]:
    """Copies of an image (C, H, W), in each of which one square is covered; and the squares."""
    count = FINE if max(image.shape[1:]) <= SMALL else COARSE
    rows, columns = (_stretches(length, count) for length in image.shape[1:])
    squares = list(product(rows, columns))
    copies = np.repeat(image[None], len(squares), axis=0)
    for one, square in zip(copies, squares, strict=True):
        one[:, *square] = background
    return copies, squares


def _stretches(length: int, count: int) -> list[slice]:
    """Stretches of a side, each two parts of `count` long, the next one part further on."""
    part = max(1.0, length / count)
    starts = range(int(length / part) - 1)
    return [slice(round(part * i), round(part * (i + 2))) for i in starts] or [slice(0, length)]


async def what_decided(
    image: Array,
    label: int,
    background: float,
    probabilities: Callable[[Array], Awaitable[Array]],
    at_once: int,
) -> Array:
    """How much each pixel (H, W) speaks for a class, by occlusion; see `covered`.

    A square's weight is how far the log-odds of the class fall when it is covered; a pixel's is
    the mean over the squares that cover it. M. Zeiler, R. Fergus, arXiv:1311.2901.
    """
    copies, squares = covered(image, background)
    images = np.concatenate([image[None], copies])
    # One batch after the other, so that other requests need not wait for all.
    starts = range(0, len(images), at_once)
    answers = [await probabilities(images[start : start + at_once]) for start in starts]
    odds = _log_odds(np.concatenate(answers), label)
    total, times = np.zeros(image.shape[1:]), np.zeros(image.shape[1:])
    for fall, (rows, columns) in zip(odds[0] - odds[1:], squares, strict=True):
        total[rows, columns] += fall
        times[rows, columns] += 1
    return total / np.maximum(times, 1)


def _log_odds(probabilities: Array, label: int) -> Array:
    tiny = np.finfo(np.float64).tiny
    others = np.delete(probabilities, label, axis=1).sum(1)
    return np.log(probabilities[:, label] + tiny) - np.log(others + tiny)


@dataclass
class Neighbours:
    """Training images whose features are nearest to those of an image.

    Features are the input of the last affine layer: what the network has found in an image before
    it weighs the classes. The first of several networks is asked.

    Attributes
    ----------
    problem : str or None
        Why there are no training images, or not yet.
    pending : bool
        They are still being read.
    """

    run: ServedRun
    problem: str | None = "they are still being read"
    pending: bool = True

    def load(self) -> None:
        """Read the run's training images, and compute their features."""
        run = self.run
        _, images = Data(run.config.data).load(
            ImageOptions(),
            run.config.image_facts,
            data_dir=run.config.data_dir,
            seed=run.config.split_seed,
            progress=False,
            say=lambda text: None,
        )
        part = images.train
        kept = max(1, TRAINING_BYTES // math.prod(run.facts.shape))
        pixels, self._labels = part.images[:kept], part.labels[:kept]
        with selection.use_backend(run.config.backend):
            body = _body(run.network)
            most = max(1, min(FEATURES_BATCH, len(pixels)))
            self._prepared = body.prepare((most, *run.facts.shape))
            parts = [self._features(pixels[i : i + most]) for i in range(0, len(pixels), most)]
        self._known = np.concatenate(parts)
        self._squares = (self._known**2).sum(1)
        self._shown = run.shown(pixels)
        self.problem = None

    def _features(self, images: Array) -> Array:
        return self._prepared.predict(images).reshape(len(images), -1)

    def of(self, image: Array) -> dict[str, Any]:
        """The nearest training images of an image (C, H, W), or why there are none."""
        if self.problem is not None:
            return {"problem": self.problem, "pending": self.pending}
        with selection.use_backend(self.run.config.backend):
            features = self._features(image[None])[0]
        distances = self._squares - 2 * (self._known @ features)
        count = min(NEAREST, len(distances))
        found = np.argpartition(distances, count - 1)[:count]
        found = found[np.argsort(distances[found])]
        names = self.run.facts.class_names
        return {
            "labels": [names[label] for label in self._labels[found]],
            "among": len(self._labels),
        } | picture(self._shown[found])


def _body(network: Network) -> Network:
    """The layers before the last affine layer; all of them if there is none."""
    layers: Sequence[Any] = flat(copy.deepcopy(network.layers))
    last = max((i for i, layer in enumerate(layers) if isinstance(layer, Affine)), default=None)
    return Network(layers[:last], network.dtype, network.backend)
