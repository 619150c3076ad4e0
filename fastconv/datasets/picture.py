"""One picture from a file, brought to the form in which a network takes it.

Training images and those of ``fastconv predict`` go through the same function: the side that
is up by the camera's note, white behind what is transparent, grey or colour, and the size of
the network's input: the whole frame is filled and what juts out on two sides is cut off.
"""

from __future__ import annotations

import functools
import hashlib
import stat
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound, MissingDependency

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PictureFacts", "endings", "examine", "quiet_pillow", "read_picture"]

FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX"),
    *("PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
"""Of what Pillow reads, the formats of pictures; its others call programs, or hold other things."""

ORIENTATION = 0x0112
"""EXIF tag; 5 to 8 lie on their side."""


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a file before its pixels are read.

    Attributes
    ----------
    size : (H, W)
        Upright.
    grey : bool
        It has no colour: by the kind of the file, not by its pixels.
    digest : str
        SHA-256 of the file, or ``"-"`` where it cannot even be opened.
    reason : str or None
        Why it cannot be read; `size` and `grey` mean nothing then.
    """

    size: tuple[int, int]
    grey: bool
    digest: str
    reason: str | None = None


def pillow() -> Any:
    """Pillow's module ``Image``, with all its formats loaded.

    Raises
    ------
    MissingDependency
        Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingDependency(
            "reading images needs Pillow: pip install 'fastconv[data]'"
        ) from None
    Image.init()
    return Image


@functools.cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed Pillow knows."""
    return tuple(name for name in FORMATS if name in pillow().OPEN)


@functools.cache
def endings() -> frozenset[str]:
    """Endings of the names of pictures, with their dot, in lower case."""
    known = {*formats(), "MPO"}  # two pictures of a camera: read as the JPEG that it begins with
    return frozenset(
        ending for ending, name in pillow().registered_extensions().items() if name in known
    )


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Let Pillow's warning of a decompression bomb be an error, and drop the others.

    For the thread that starts the others: the choice is the process's.
    """
    image = pillow()
    with warnings.catch_warnings():
        # They speak of damaged notes beside the pixels; damaged pixels raise.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", image.DecompressionBombWarning)
        yield


def examine(path: Path) -> PictureFacts:
    """Look at a file without reading its pixels; never raises for what is wrong with it.

    To be called inside of `quiet_pillow`.
    """
    digest = "-"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            return PictureFacts((0, 0), False, digest, "not a regular file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                return PictureFacts((0, 0), False, digest, "empty file")
            with pillow().open(file, formats=formats()) as opened:
                mode, size = opened.mode, opened.size
                # Of a PNG, the camera's note may follow the pixels: asked where it matters.
                if size[0] != size[1] and opened.getexif().get(ORIENTATION, 1) >= 5:
                    size = _turned(opened)
                return PictureFacts((size[1], size[0]), _is_grey(mode), digest)
    except Exception as error:
        return PictureFacts((0, 0), False, digest, why(error))


def _turned(opened: Image) -> tuple[int, int]:
    """(W, H) of a picture that lies on its side, upright."""
    if opened.format == "TIFF":  # which some releases of Pillow turn when they open it
        from PIL import ImageOps

        return ImageOps.exif_transpose(opened).size
    return opened.size[1], opened.size[0]


def why(error: Exception) -> str:
    """What is wrong with a file, by what Pillow raised: nearly anything, by where the damage is."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case PermissionError():
            return "no permission to read it"
    if type(error).__name__ == "UnidentifiedImageError":
        return "not an image of a kind that is read here"
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}"


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")


def decode(path: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Read a picture in the form (C, H, W), in 0..1; C is 1 or 3.

    Raises whatever Pillow does. To be called inside of `quiet_pillow`.
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    with pillow().open(path, formats=formats()) as opened:
        # A JPEG is read at a half, a quarter, an eighth of its size where that leaves
        # twice what is needed: large photographs are read several times faster.
        opened.draft(None, (2 * max(height, width),) * 2)
        picture = flatten(ImageOps.exif_transpose(opened))
    if channels == 1 and picture.mode == "RGB":
        picture = picture.convert("L")
    if picture.size != (width, height):
        picture = ImageOps.fit(picture, (width, height), Image.Resampling.BILINEAR)
    values = np.asarray(picture, np.float32)
    if picture.mode != "F":
        values = values / np.float32(255)
    if values.ndim == 3:
        return values.transpose(2, 0, 1)
    return np.broadcast_to(values, (channels, height, width))


def flatten(picture: Image) -> Image:
    """Return a picture as L or RGB of 8 bits, or as F of 0..1 where it holds deeper greys.

    What is transparent is laid on white.

    Raises
    ------
    ValueError
        Greys that are not in the range of 16 bits, or, as fractions, in 0..1.
    """
    from PIL import Image

    mode = picture.mode
    if mode == "F" or mode.startswith("I"):
        values = np.asarray(picture, np.float32)
        most = 1 if mode == "F" else 65535
        if not (values.min() >= 0 and values.max() <= most):
            raise ValueError(
                f"grey values {values.min():g} to {values.max():g}, expected 0 to {most}"
            )
        return Image.fromarray(values / np.float32(most))
    if {"A", "a"} & set(picture.getbands()) or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if _is_grey(mode) else "RGB")


def read_picture(
    path: str | Path, shape: Sequence[int], name: str = "read_picture"
) -> NDArray[np.float32]:
    """Read a picture in the form that a network was trained on.

    Parameters
    ----------
    path : path
    shape : (C, H, W)
        1 channel for grey, 3 for colour.
    name : str
        Of the operation, for messages.

    Returns
    -------
    ndarray of float32
        Of `shape`, in 0..1.

    Raises
    ------
    DataNotFound, DataCorrupt
        There is no such file, or it is no picture that can be read.
    MissingDependency
        Pillow is not installed.
    """
    path = Path(path)
    if not path.is_file():
        raise DataNotFound(f"{name}: no such file: {path}")
    channels, height, width = shape
    with quiet_pillow():
        try:
            return decode(path, (channels, height, width))
        except Exception as error:
            raise DataCorrupt(f"{name}: {path}: {why(error)}") from None
