"""Pictures of one digit from files, in the frame of MNIST.

MNIST's own recipe: the digit, white on black, is scaled to fit a box of 20x20 and
placed in 28x28 so that its centre of mass is the centre of the picture.
Source: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt
from .picture import (
    Frame,
    given,
    pillow,
    quiet_pillow,
    read_in_frame,
    warn_of_lost_orientation,
    why,
)

__all__ = ["frame_digit", "read_image"]

SIDE = 28
BOX = 20

LARGEST = 2048
"""Most pixels of a picture's longer side: plenty for a digit, and a bound on memory."""

BLANK = 0.06
"""Contrast (0 to 1) below which a picture shows nothing but noise."""

FAINT = 0.1
"""Ink (0 to 1) that does not count as part of the digit when its edges are searched."""


def read_image(path: str | Path | bytes) -> NDArray[np.float32]:
    """Read a picture as grey values.

    Parameters
    ----------
    path : path or bytes
        The file, or its content. Colour becomes grey, transparency white, and a camera's
        orientation is respected. A side longer than `LARGEST` is scaled to it.

    Returns
    -------
    ndarray of float32
        (H, W), 0 black to 1 white.

    Raises
    ------
    DataNotFound
        There is no such file.
    DataCorrupt
        It is no picture of a kind that is read, or is damaged.
    MissingDependency
        Pillow is not installed.
    """
    pillow()
    source, shown = given("read_image", path)
    with quiet_pillow():
        try:
            picture, lost = read_in_frame(source, _at_most, grey=True)
        except Exception as error:
            raise DataCorrupt(f"read_image: {shown}: {why(error)}") from None
    if lost:
        warn_of_lost_orientation(shown)
    values = np.asarray(picture, np.float32)
    return values if picture.mode == "F" else values / np.float32(255)


def _at_most(size: Frame) -> Frame:
    """The size itself, or scaled down so that its longer side is `LARGEST`."""
    scale = min(1.0, LARGEST / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def frame_digit(grey: NDArray[np.float32], name: str = "image") -> NDArray[np.float32]:
    """Turn a picture of one digit into an image like MNIST's.

    The background is the median of the picture's edge; where it is nearer to the
    brightest than to the darkest value, the picture is inverted.

    Parameters
    ----------
    grey : ndarray
        (H, W), dark on light or light on dark.
    name : str
        For messages.

    Returns
    -------
    ndarray of float32
        (1, 28, 28), 0 background to 1 ink.

    Raises
    ------
    DataCorrupt
        The picture is blank.
    """
    from PIL import Image

    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    background, darkest, brightest = np.median(edge), grey.min(), grey.max()
    if brightest - darkest < BLANK:
        raise DataCorrupt(
            f"frame_digit: {name} is blank: grey values {darkest:.2f} to {brightest:.2f}, "
            f"expected a contrast of at least {BLANK}"
        )
    is_light = brightest - background < background - darkest
    ink = np.clip(background - grey if is_light else grey - background, 0, None)
    ink /= ink.max()
    rows, columns = (np.flatnonzero((ink > FAINT).any(axis)) for axis in (1, 0))
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    scale = BOX / max(digit.shape)
    height, width = (max(1, round(length * scale)) for length in digit.shape)
    # Pillow's filter widens as it shrinks, so that thin strokes fade but never vanish.
    small = np.asarray(
        Image.fromarray(digit.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    )
    small = small / small.max()
    top, left = (_offset(small.sum(axis), length) for axis, length in ((1, height), (0, width)))
    frame = np.zeros((1, SIDE, SIDE), np.float32)
    frame[0, top : top + height, left : left + width] = small
    return frame


def _offset(mass: NDArray[np.float32], length: int) -> int:
    """The offset that puts the centre of mass in the middle, as far as all stays inside.

    In MNIST's images it is between 14 and 15, never before the middle: offsets were rounded up.
    """
    centre = float((mass * (np.arange(length) + 0.5)).sum() / mass.sum())
    return min(max(math.ceil(SIDE / 2 - centre), 0), SIDE - length)
