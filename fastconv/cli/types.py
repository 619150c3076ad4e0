"""Types of the values that options of the ``fastconv`` command take."""

from __future__ import annotations

import argparse
import math
from typing import Any, TypeVar

from ..datasets.record import expect_size
from ..errors import ArgumentError
from ..experiment.folder import MOST_MEMBERS
from ..models import MODELS
from ..network.views import Views
from ..training.augment import Augmentation

__all__ = [
    *("augmentation", "image_shape", "image_size", "members", "number", "rate", "share", "views"),
]


Shape = TypeVar("Shape", bound=tuple[int, ...])


def number(least: float, below: float, *, least_too: bool) -> Any:
    """The type of numbers in these limits."""

    def number(text: str) -> float:
        """A number in the limits."""
        value = float(text)
        if not (least < value < below or (least_too and value == least)):
            lower = f"at least {least:g}" if least_too else f"greater than {least:g}"
            upper = "" if below == math.inf else f" and below {below:g}"
            raise argparse.ArgumentTypeError(f"must be {lower}{upper}, got {text}")
        return value

    return number


rate = number(0, math.inf, least_too=False)


def share(text: str) -> float:
    """A number between 0 and 1, neither of them."""
    number = float(text)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must be between 0 and 1, got {text}")
    return number


share.__name__ = "number"


def image_size(text: str) -> tuple[int, int]:
    """``64`` as (64, 64), ``48x64`` as (48, 64)."""
    height, _, width = text.lower().partition("x")
    try:
        size = int(height), int(width or height)
    except ValueError:
        size = (0, 0)
    if min(size) < 1:
        raise argparse.ArgumentTypeError(f"must be a height, or HxW, of at least 1, got {text}")
    return _sensible(size)


def image_shape(text: str) -> tuple[int, int, int]:
    """``3x224x224`` as (3, 224, 224)."""
    try:
        channels, height, width = (int(part) for part in text.lower().split("x"))
    except ValueError:
        channels = height = width = 0
    if min(channels, height, width) < 1:
        raise argparse.ArgumentTypeError(f"must be CxHxW, such as 3x224x224, got {text}")
    return _sensible((channels, height, width))


def _sensible(shape: Shape) -> Shape:
    """The lengths of an image that there can be."""
    try:
        expect_size("must be of another size", shape)
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return shape


def augmentation(text: str) -> str:
    """What `Augmentation.parse` takes, in its canonical form."""
    try:
        return str(Augmentation.parse(text))
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("augment: ")) from None


def views(text: str) -> str:
    """What `Views.parse` takes, in its canonical form."""
    try:
        return str(Views.parse(text))
    except ArgumentError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("views: ")) from None


def members(text: str) -> int | tuple[str, ...]:
    """``5`` as 5, ``deepconvnet,lenet`` as the models' names."""
    try:
        names, count = tuple[str, ...](), int(text)
    except ValueError:
        names = tuple(name.strip() for name in text.split(","))
        count = len(names)
        if unknown := [name for name in names if name not in MODELS]:
            raise argparse.ArgumentTypeError(
                f"must be a whole number or names of models, got {unknown[0]!r}; known: "
                f"{', '.join(MODELS)}"
            ) from None
    if not 2 <= count <= MOST_MEMBERS:
        limits = "at least 2" if count < 2 else f"at most {MOST_MEMBERS}"
        raise argparse.ArgumentTypeError(f"must be {limits}, got {count}")
    return names or count
