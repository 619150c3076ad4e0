"""Data augmentation: small random changes of every image of a batch.

Rotation, shift, scale, shear, flips, crops and elastic deformation of an image combine into one map
from its new pixels to places in the old one, so each image is interpolated once (`ops.warp`).
Contrast, brightness and cutout are one more pass (`ops.tone`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import ops
from ..backends.table import Array
from ..errors import ArgumentError, ShapeError, suggestion
from ..geometry import as_int
from ..ops.arrays import as_array, common_dtype

__all__ = ["Augmentation"]

Numbers = NDArray[np.float64]

LIMITS: dict[str, tuple[float, float]] = {
    "flip_horizontal": (0, 1),
    "flip_vertical": (0, 1),
    "scale": (0, 0.9),
    "shear": (0, 80),
    "rotate": (0, 180),
    "shift": (0, math.inf),
    "elastic": (0, math.inf),
    "elastic_sigma": (0.1, 100),
    "contrast": (0, 1),
    "brightness": (0, math.inf),
    "fill": (-math.inf, math.inf),
}
"""Least and largest value of the settings that are not whole numbers."""

WHOLE = ("crop", "cutout")

MOVES = (
    "flip_horizontal",
    "flip_vertical",
    "scale",
    "shear",
    "rotate",
    "shift",
    "crop",
    "elastic",
)
"""Settings that move pixels."""

TONES = ("contrast", "brightness", "cutout")
"""Settings that change pixels' values."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of images; each image of a batch gets its own.

    ``augmentation(x, rng)``, with images x (N, C, H, W) and a `numpy.random.Generator`, returns a
    batch of the same shape and does not write to x. A change is off unless it gets a number.
    Changes happen in the order below.

    Parameters
    ----------
    flip_horizontal, flip_vertical : float
        Probability of a mirror image, left to right, top to bottom.
    scale : float
        Enlarge by a factor in [1 - scale, 1 + scale], about the centre.
    shear : float
        Degrees: rows slide sideways by an angle in [-shear, shear].
    rotate : float
        Degrees: rotate about the centre by an angle in [-rotate, rotate].
    shift : float
        Pixels: move by a distance in [-shift, shift], down and across.
    crop : int
        Pixels: pad by so many on each side, and cut out a window of the original size.
    elastic : float
        Strength alpha of an elastic deformation: a displacement of each pixel in [-1, 1],
        down and across, smoothed by a Gaussian and multiplied by alpha (P. Simard, D.
        Steinkraus, J. Platt, "Best Practices for Convolutional Neural Networks", ICDAR 2003;
        for digits of 28 x 28, alpha 34 and sigma 4).
    elastic_sigma : float
        Standard deviation of that Gaussian in pixels. It sums to 1, and ends at 3 sigma.
    contrast : float
        Multiply by a factor in [1 - contrast, 1 + contrast], about the image's mean.
    brightness : float
        Add a number in [-brightness, brightness].
    cutout : int
        Side in pixels of a square that is filled, whose centre may be any pixel (T. DeVries,
        G. Taylor, arXiv:1708.04552).
    fill : float
        Value outside the image, and in that square.

    Raises
    ------
    ArgumentError
        A number is out of its range.

    Notes
    -----
    Numbers are drawn uniformly. All changes up to ``elastic`` are one bilinear interpolation;
    flips and crops by themselves copy pixels bit for bit. Values are not clipped. The
    displacements of ``elastic`` are not turned or scaled with the image.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import Augmentation
    >>> augmentation = Augmentation(rotate=10, shift=2)
    >>> augmentation(np.ones((100, 1, 28, 28), np.float32), np.random.default_rng(0)).shape
    (100, 1, 28, 28)
    """

    flip_horizontal: float = 0
    flip_vertical: float = 0
    scale: float = 0
    shear: float = 0
    rotate: float = 0
    shift: float = 0
    crop: int = 0
    elastic: float = 0
    elastic_sigma: float = 4
    contrast: float = 0
    brightness: float = 0
    cutout: int = 0
    fill: float = 0

    def __post_init__(self) -> None:
        # Plain numbers, whatever type was given, so that `parse` reads what `str` writes.
        for name in WHOLE:
            object.__setattr__(self, name, as_int("augment", name, getattr(self, name), 0))
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            try:
                fits = least <= float(value) <= most and math.isfinite(value)
            except (TypeError, ValueError, OverflowError):
                fits = False
            if not fits:
                limits = f"between {least:g} and {most:g}"
                if most == math.inf:
                    limits = "finite" if least == -math.inf else f"finite and at least {least:g}"
                raise ArgumentError(f"augment: {name} must be a number {limits}, got {value!r}")
            object.__setattr__(self, name, float(value))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the settings."""
        return tuple(field.name for field in fields(cls))

    @classmethod
    def parse(cls, text: str) -> Augmentation:
        """Return the augmentation of a text such as ``rotate=10,shift=2``.

        Raises
        ------
        ArgumentError
            The text has another form, an unknown or repeated name, or a number out of range.
        """
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, number = (word.strip() for word in part.partition("="))
            if not equals:
                raise ArgumentError(
                    f"augment: expected name=number, separated by commas, got {part.strip()!r}"
                )
            if name not in cls.names():
                known = ", ".join(cls.names())
                near = suggestion(name, cls.names())
                raise ArgumentError(f"augment: unknown {name!r}; known: {known}{near}")
            if name in given:
                raise ArgumentError(f"augment: {name} is given twice")
            try:
                given[name] = int(number) if name in WHOLE else float(number)
            except ValueError:
                kind = "whole number" if name in WHOLE else "number"
                raise ArgumentError(f"augment: {name} must be a {kind}, got {number!r}") from None
        return cls(**given)

    def __str__(self) -> str:
        """The text that `parse` reads; empty if all settings have their defaults."""
        return ",".join(
            f"{field.name}={getattr(self, field.name)!r}".removesuffix(".0")
            for field in fields(self)
            if getattr(self, field.name) != field.default
        )

    def __call__(self, x: ArrayLike, rng: np.random.Generator) -> Array:
        """Return a batch of changed images.

        Parameters
        ----------
        x : array (N, C, H, W)
        rng : numpy.random.Generator
            The only source of randomness. The order of its draws depends on these settings and
            on the shape and dtype of x alone.

        Returns
        -------
        array (N, C, H, W)
            float32 or float64 like x. It is x itself if nothing is switched on.

        Raises
        ------
        ShapeError, DTypeError
            x does not hold images of real numbers.
        """
        x = as_array(x)
        if x.ndim != 4 or 0 in x.shape[1:]:
            raise ShapeError(
                "augment: input must be images (N, C, H, W) with at least one channel and pixel, "
                f"got shape {x.shape}"
            )
        x = x.astype(common_dtype("augment", x), copy=False)
        n, _, h, w = x.shape
        if any(getattr(self, name) for name in MOVES):
            matrix = self._matrix(n, h, w, rng)
            x = ops.warp(x, matrix, self._field(x, rng), self.fill)
        if any(getattr(self, name) for name in TONES):
            gain = 1 + _symmetric(rng, self.contrast, n)
            mean = x.mean(axis=(1, 2, 3)) if self.contrast else 0.0
            offset = mean * (1 - gain) + _symmetric(rng, self.brightness, n)
            x = ops.tone(x, gain, offset, self._boxes(x, rng), self.fill)
        return x

    def _matrix(self, n: int, h: int, w: int, rng: np.random.Generator) -> Numbers:
        """(N, 2, 3): maps a column and row of the output to a place in the image."""
        mirror_x = np.where(rng.random(n) < self.flip_horizontal, -1.0, 1.0)
        mirror_y = np.where(rng.random(n) < self.flip_vertical, -1.0, 1.0)
        factor = 1 + _symmetric(rng, self.scale, n)
        slide = np.tan(np.radians(_symmetric(rng, self.shear, n)))
        angle = np.radians(_symmetric(rng, self.rotate, n))
        moved = np.stack([_symmetric(rng, self.shift, n) for _ in range(2)])
        if self.crop:
            moved = moved + rng.integers(-self.crop, self.crop, (2, n), endpoint=True)
        # The inverse of mirror image, scale, shear and rotation: rotation is undone first.
        cos, sin = np.cos(angle), np.sin(angle)
        matrix = np.empty((n, 2, 3))
        matrix[:, 0, 0] = (cos - slide * sin) * mirror_x / factor
        matrix[:, 0, 1] = (sin + slide * cos) * mirror_x / factor
        matrix[:, 1, 0] = -sin * mirror_y / factor
        matrix[:, 1, 1] = cos * mirror_y / factor
        # All about the centre, which shift and crop have moved.
        centre = np.array([[(w - 1) / 2], [(h - 1) / 2]])
        across, down = centre + moved
        for row in range(2):
            turned = matrix[:, row, 0] * across + matrix[:, row, 1] * down
            matrix[:, row, 2] = centre[row] - turned
        return matrix

    def _field(self, x: Array, rng: np.random.Generator) -> Array | None:
        """Displacements (N, 2, H, W), or None without `elastic`."""
        if not self.elastic:
            return None
        n, _, h, w = x.shape
        field = rng.random((n, 2, h, w), x.dtype)
        field -= 0.5
        field *= 2 * self.elastic
        radius = math.ceil(3 * self.elastic_sigma)
        taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.elastic_sigma) ** 2)
        return ops.smooth(field, taps / taps.sum())

    def _boxes(self, x: Array, rng: np.random.Generator) -> NDArray[np.int64]:
        """(N, 4): squares about random pixels, cut off at the border; empty without `cutout`."""
        boxes = np.zeros((len(x), 4), np.int64)
        if self.cutout:
            for axis, size in enumerate(x.shape[2:]):
                first = rng.integers(0, size, len(x)) - self.cutout // 2
                boxes[:, axis] = np.maximum(first, 0)
                boxes[:, 2 + axis] = np.minimum(first + self.cutout, size)
        return boxes


def _symmetric(rng: np.random.Generator, most: float, n: int) -> Numbers:
    """n numbers in [-most, most]; zeros without a draw if most is 0."""
    return rng.uniform(-most, most, n) if most else np.zeros(n)
