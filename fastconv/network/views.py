"""Views of an image, on each of which a network predicts (test-time augmentation).

Notation: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ops
from ..errors import ArgumentError, suggestion
from ..geometry import as_int

__all__ = ["View", "Views", "shifted_views"]

NONE = "none"
FARTHEST = 2**31


@dataclass(frozen=True)
class View:
    """A transformation of an image.

    Attributes
    ----------
    down, right : int
        Shift in pixels, filled with zeros.
    mirrored : bool
        Swap left and right, before everything else.
    turned : float
        Rotation in degrees, counter-clockwise about the centre, before the shift.
    scaled : float
        Enlargement about the centre, before the shift.

    Raises
    ------
    ArgumentError
        A number of the wrong type, or out of range.
    """

    down: int = 0
    right: int = 0
    mirrored: bool = False
    turned: float = 0.0
    scaled: float = 1.0

    def __post_init__(self) -> None:
        for name in ("down", "right"):
            pixels = as_int("View", name, getattr(self, name), -FARTHEST)
            if pixels > FARTHEST:
                raise ArgumentError(f"View: {name} must be at most {FARTHEST}, got {pixels}")
        for name, least in (("turned", -math.inf), ("scaled", 0)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not least < value < math.inf:
                limits = "finite" if least else "finite and greater than 0"
                raise ArgumentError(f"View: {name} must be {limits}, got {value!r}")

    def of(self, x: NDArray[Any]) -> NDArray[Any]:
        """Return this view of images (N, C, H, W); one bilinear interpolation turns and scales."""
        if self.turned or self.scaled != 1:
            matrix = self.matrix(*x.shape[2:])
            return ops.warp(x, np.broadcast_to(matrix, (len(x), 2, 3)))
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

    def matrix(self, height: int, width: int) -> NDArray[np.float64]:
        """Return (2, 3), which maps a column and row of the view to a place in the image."""
        angle = math.radians(self.turned)
        back = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        back /= self.scaled
        if self.mirrored:
            back[0] *= -1
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        moved = centre + np.array([self.right, self.down])
        return np.column_stack([back, centre - back @ moved])


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Target and source of a shift along one axis."""
    step = max(-size, min(step, size))
    return slice(max(step, 0), size + min(step, 0)), slice(max(-step, 0), size - max(step, 0))


def shifted_views(pixels: int) -> tuple[View, ...]:
    """The image itself, and moved by so many pixels up, down, left and right."""
    return Views(shift=pixels).views


@dataclass(frozen=True)
class Views:
    """A set of views, as ``--views`` names it: the image itself, and others.

    Attributes
    ----------
    shift : int
        Four more: moved by so many pixels up, down, left and right.
    rotate : float
        Two more: rotated by so many degrees either way.
    scale : float
        Two more: larger and smaller by this share.
    mirror : bool
        Each of them mirrored as well: twice as many.

    Raises
    ------
    ArgumentError
        A number out of range.

    Examples
    --------
    >>> from fastconv.network.views import Views
    >>> len(Views.parse("shift=1,mirror").views)
    10
    """

    shift: int = 0
    rotate: float = 0.0
    scale: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", as_int("views", "shift", self.shift, 0))
        for name, most in (("rotate", 180), ("scale", 1)):
            if not 0 <= getattr(self, name) < most:
                raise ArgumentError(
                    f"views: {name} must be at least 0 and below {most}, "
                    f"got {getattr(self, name):g}"
                )

    @property
    def views(self) -> tuple[View, ...]:
        """All views, the image itself first."""
        found = [View()]
        if self.shift:
            steps = ((-self.shift, 0), (self.shift, 0), (0, -self.shift), (0, self.shift))
            found += [View(down, right) for down, right in steps]
        if self.rotate:
            found += [View(turned=self.rotate), View(turned=-self.rotate)]
        if self.scale:
            found += [View(scaled=1 + self.scale), View(scaled=1 - self.scale)]
        sides = (False, True) if self.mirror else (False,)
        return tuple(
            View(view.down, view.right, mirrored, view.turned, view.scaled)
            for mirrored, view in product(sides, found)
        )

    @classmethod
    def parse(cls, text: str | None) -> Views:
        """Return the views of a text such as ``shift=1,mirror``; ``none`` and None add none.

        Raises
        ------
        ArgumentError
            The text has another form, an unknown or repeated name, or a number out of range.
        """
        if text is None or text.strip() == NONE:
            return cls()
        kinds: dict[str, type] = {"shift": int, "rotate": float, "scale": float}
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, equals, number = (word.strip() for word in part.partition("="))
            if name in given:
                raise ArgumentError(f"views: {name} is given twice")
            if name == "mirror" and not equals:
                given[name] = True
                continue
            if name not in kinds or not equals:
                raise ArgumentError(
                    "views: expected shift=PIXELS, rotate=DEGREES, scale=SHARE or mirror, "
                    f"separated by commas, or none; got {part.strip()!r}"
                    f"{suggestion(name, [*kinds, 'mirror', NONE]) if name not in kinds else ''}"
                )
            try:
                given[name] = kinds[name](number)
            except ValueError:
                kind = "whole number" if kinds[name] is int else "number"
                raise ArgumentError(f"views: {name} must be a {kind}, got {number!r}") from None
        return cls(**given)

    def __str__(self) -> str:
        """The text that `parse` reads."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        parts = [
            name if value is True else f"{name}={value!r}".removesuffix(".0")
            for name, value in given.items()
            if value
        ]
        return ",".join(parts) or NONE
