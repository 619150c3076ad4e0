"""One picture from a file, in the form that a network takes.

Training images and those of ``fastconv predict`` go through the same function. It turns the picture
upright by the camera's orientation, puts white behind transparency, converts to grey or colour, and
scales to fill the network's input, cutting off what juts out on two sides.
"""

from __future__ import annotations

import functools
import hashlib
import io
import math
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import DamageWarning, DataCorrupt, DataNotFound, MissingDependency

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "Frame",
    "PictureFacts",
    "decode",
    "endings",
    "examine",
    "given",
    "pillow",
    "quiet_pillow",
    "read_in_frame",
    "read_picture",
    "warn_of_lost_orientation",
    "why",
]

FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX"),
    *("PNG", "PPM", "QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
"""The picture formats among those that Pillow reads; others call programs, or are no pictures."""

ORIENTATION = 0x0112
"""EXIF tag; 1 is upright."""

LYING = (5, 6, 7, 8)
"""Orientations of pictures that are on their side."""

ROOM = 2**30
"""Bytes for all pictures that are being decoded, by all threads together."""

DECODED = {"AVIF": 12, "JPEG2000": 20, "TIFF": 8, "WEBP": 16}
"""Measured bytes per pixel while decoding the formats that need more than their pixels."""

DECODED_ELSE = 6
COEFFICIENTS = 6
"""Bytes per pixel of the coefficients that a progressive JPEG keeps, at its full size."""

STRIP = 2**20
"""Pixels of a picture that are converted to L or RGB at a time."""

Frame = tuple[int, int]
"""(W, H), as Pillow has it."""


@dataclass(frozen=True)
class PictureFacts:
    """What is known of a file before its pixels are read.

    Attributes
    ----------
    size : (H, W)
        Upright.
    grey : bool
        Without colour, by the file's format, not by its pixels.
    digest : str
        SHA-256 of the file, or ``"-"`` if it cannot even be opened.
    reason : str or None
        Why it cannot be read; `size` and `grey` then mean nothing.
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
        raise MissingDependency("reading images needs Pillow: pip install pillow") from None
    Image.init()
    return Image


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats of `FORMATS` that the installed Pillow knows."""
    return tuple(name for name in FORMATS if name in pillow().OPEN)


@functools.cache
def endings() -> frozenset[str]:
    """File name endings of pictures, with the dot, in lower case."""
    known = {*formats(), "MPO"}  # a camera's two pictures: the first is read as a JPEG
    return frozenset(
        ending for ending, name in pillow().registered_extensions().items() if name in known
    )


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Turn Pillow's warning of a decompression bomb into an error, and drop its other warnings.

    To be entered by the thread that starts others, since it changes the whole process.
    """
    image = pillow()
    with warnings.catch_warnings():
        # They are about damaged metadata; damaged pixels raise.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", image.DecompressionBombWarning)
        yield


def examine(path: Path) -> PictureFacts:
    """Look at a file without reading its pixels; never raises for what is wrong with it.

    To be called inside `quiet_pillow`.
    """
    digest = "-"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
            return PictureFacts((0, 0), False, digest, "not a regular file")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if file.tell() == 0:
                return PictureFacts((0, 0), False, digest, "empty file")
            with _open(file) as opened:
                _expect_room(opened)
                mode, size = opened.mode, opened.size
                # A PNG's orientation may follow the pixels: read it only where it matters.
                if size[0] != size[1]:
                    size = _upright_size(opened)
                return PictureFacts((size[1], size[0]), _is_grey(mode), digest)
    except Exception as error:
        return PictureFacts((0, 0), False, digest, why(error))


def _upright_size(opened: Image) -> Frame:
    if opened.format == "TIFF":  # some releases of Pillow turn the size on opening
        tags = opened.tag_v2  # type: ignore[attr-defined]
        width, height, orientation = tags[256], tags[257], tags.get(ORIENTATION, 1)
    else:
        if opened.format == "PNG" and "exif" not in opened.info:
            with _decoding(opened):
                opened.load()  # makes Pillow read what follows the pixels
        (width, height), (orientation, _) = opened.size, _orientation(opened)
    return (height, width) if orientation in LYING else (width, height)


def why(error: Exception) -> str:
    """What is wrong with a file, from Pillow's error, which may be of nearly any type."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case PermissionError():
            return "no permission to read it"
    kind, text = type(error).__name__, " ".join(str(error).split())
    if kind == "UnidentifiedImageError":
        return "not an image of a kind that is read here"
    if kind.startswith("DecompressionBomb") and len(numbers := re.findall(r"\d+", text)) == 2:
        pixels, most = map(int, numbers)
        most //= 2 if kind.endswith("Error") else 1  # errors come at twice the warning's limit
        return f"too large: {pixels:,} pixels, at most {most:,} are read; scale it down first"
    is_plain = isinstance(error, OSError | DataCorrupt) and text
    return text if is_plain else f"{kind}: {text}"


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")


def decode(path: Path | bytes, shape: tuple[int, int, int]) -> tuple[NDArray[np.float32], bool]:
    """Read a picture in the form (C, H, W), in 0..1; C is 1 or 3.

    Also says whether the camera's orientation is damaged; then the picture is not turned.

    Raises whatever Pillow does. To be called inside `quiet_pillow`.
    """
    channels, height, width = shape
    picture, lost = read_in_frame(path, lambda size: (width, height), channels == 1)
    values = np.asarray(picture, np.float32)
    if picture.mode != "F":
        values = values / np.float32(255)
    if values.ndim == 3:
        return values.transpose(2, 0, 1), lost
    return np.broadcast_to(values, (channels, height, width)), lost


def given(op: str, picture: str | Path | bytes) -> tuple[Path | bytes, str]:
    """A picture's path, or its content, with what messages call it.

    Raises
    ------
    DataNotFound
        There is no such file.
    """
    if isinstance(picture, bytes):
        return picture, "the picture"
    path = Path(picture)
    if not path.is_file():
        raise DataNotFound(f"{op}: no such file: {path}")
    return path, str(path)


def read_in_frame(
    picture: Path | bytes, frame: Callable[[Frame], Frame], grey: bool
) -> tuple[Image, bool]:
    """Read a picture, upright, as L, RGB or F of 0..1; and say whether its orientation was lost.

    Memory is bounded: `ROOM` for decoded pixels, of all threads together, and a few strips of
    `STRIP` pixels for each thread. Nothing of the picture's full size is copied.

    Parameters
    ----------
    picture : path or bytes
        The file, or its content.
    frame : callable
        Maps the picture's size to the frame that it is scaled to fill; what juts out on two
        sides is cut off.
    grey : bool
        Without colour.
    """
    content = io.BytesIO(picture) if isinstance(picture, bytes) else picture.open("rb")
    with content as file, _open(file) as opened:
        full = opened.size
        # A JPEG is read at a half, a quarter or an eighth of its size if that leaves twice
        # what is needed: large photographs are read several times faster.
        opened.draft(None, (2 * max(frame(opened.size)),) * 2)
        with _decoding(opened, full):
            opened.load()
            orientation, lost = _orientation(opened)
            lies = orientation in LYING
            width, height = frame(opened.size[::-1] if lies else opened.size)
            framed = _fill(opened, (height, width) if lies else (width, height), grey)
    if orientation > 1:
        from PIL.Image import Transpose

        framed = framed.transpose(
            (
                Transpose.FLIP_LEFT_RIGHT,
                Transpose.ROTATE_180,
                Transpose.FLIP_TOP_BOTTOM,
                Transpose.TRANSPOSE,
                Transpose.ROTATE_270,
                Transpose.TRANSVERSE,
                Transpose.ROTATE_90,
            )[orientation - 2]
        )
    return framed, lost


def _open(file: BinaryIO) -> Image:
    """Pillow's picture of a file; a PNG may have damaged metadata."""
    try:
        return pillow().open(file, formats=formats())
    except Exception:  # Pillow raises whatever the damage leads to
        bare = _bare_png(file)
        if bare is None:
            raise
        return pillow().open(bare, formats=formats())


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def _bare_png(file: BinaryIO) -> BinaryIO | None:
    """A PNG without texts, profiles and times: damage in these keeps Pillow from opening it.

    None for other files. Specification: https://www.w3.org/TR/png-3/#5Chunk-layout
    """
    if (length := file.seek(0, io.SEEK_END)) > ROOM:
        return None
    file.seek(0)
    if file.read(8) != PNG_SIGNATURE:
        return None
    file.seek(0)
    content = memoryview(file.read())
    bare, at = io.BytesIO(PNG_SIGNATURE), 8
    bare.seek(8)
    while at + 8 <= length:
        size, kind = struct.unpack_from(">I4s", content, at)
        chunk = content[at : at + 12 + size]
        is_critical, check = not kind[0] & 0x20, zlib.crc32(chunk[4:-4]).to_bytes(4, "big")
        if is_critical or (kind == b"tRNS" and check == chunk[-4:]):
            bare.write(chunk)
        elif kind == b"eXIf":  # its reader checks for damage
            bare.write(bytes(chunk[:-4]) + check)
        at += len(chunk)
    bare.seek(0)
    return bare


def _orientation(opened: Image) -> tuple[int, bool]:
    """1 to 8, from EXIF or XMP, else 1; and whether it is 1 because of damage.

    EXIF is read here first, since Pillow gives up if any of its entries is damaged.
    """
    orientation, lost = None, False
    try:
        orientation = _orientation_in(opened.info.get("exif", b"").removeprefix(b"Exif\0\0"))
    except (struct.error, KeyError):
        lost = True
    if orientation is None:
        try:
            orientation = opened.getexif().get(ORIENTATION)
        except Exception:  # likewise
            lost = True
    if isinstance(orientation, int) and 1 <= orientation <= 8:
        return orientation, False
    return 1, lost


def _orientation_in(exif: bytes) -> int | None:
    """The tag's value in the first directory of EXIF, which is a TIFF without pixels."""
    if not exif:
        return None
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, _ = struct.unpack_from(f"{order}HHI", exif, place)
        if tag == ORIENTATION:
            letter = {1: "B", 4: "I"}.get(kind, "H")
            return int(struct.unpack_from(order + letter, exif, place + 8)[0])
    return None


class _Room:
    """Memory for decoding: a thread that needs more than is left waits until another is done."""

    def __init__(self) -> None:
        self.taken = 0
        self.changed = threading.Condition()

    @contextmanager
    def take(self, count: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: self.taken + count <= ROOM)
            self.taken += count
        try:
            yield
        finally:
            with self.changed:
                self.taken -= count
                self.changed.notify_all()


_room = _Room()


@contextmanager
def _decoding(opened: Image, full: Frame | None = None) -> Iterator[None]:
    """Hold the memory that decoding a picture takes; `full` is its size before `draft`."""
    with _room.take(_expect_room(opened, full)):
        yield


def _expect_room(opened: Image, full: Frame | None = None) -> int:
    """Bytes that decoding a picture takes; `DataCorrupt` if that is more than `ROOM`."""
    count = DECODED.get(opened.format or "", DECODED_ELSE) * math.prod(opened.size)
    if opened.format == "JPEG" and "progressive" in opened.info:
        count += COEFFICIENTS * math.prod(full or opened.size)
    if count > ROOM:
        width, height = opened.size
        raise DataCorrupt(
            f"too large: {width:,} x {height:,} pixels of {opened.format} take "
            f"{count / 2**20:,.0f} MiB to decode, at most {ROOM / 2**20:,.0f} are taken; "
            "scale it down first"
        )
    return count


def _fill(picture: Image, frame: Frame, grey: bool) -> Image:
    """Scale a picture to fill a frame, and cut off what juts out on two sides.

    Strips of rows are converted one after another to L, RGB or F, and to the frame's width; then
    all together to its height. Pillow's own resize takes the same two steps, with equal results.
    """
    from PIL import Image

    width, height = frame
    # The middle of the picture, in the frame's proportions.
    breadth = min(picture.width, picture.height * width / height)
    length = min(picture.height, picture.width * height / width)
    left, right, columns = _range(picture.width, breadth, width)
    top, bottom, rows = _range(picture.height, length, height)
    strips = []
    step = max(1, STRIP // len(columns))
    for start in range(rows.start, rows.stop, step):
        stop = min(start + step, rows.stop)
        strip = flatten(picture.crop((columns.start, start, columns.stop, stop)))
        if grey and strip.mode == "RGB":
            strip = strip.convert("L")
        box = (left, 0, right, stop - start)
        strips.append(strip.resize((width, stop - start), Image.Resampling.BILINEAR, box))
    tall = Image.new(strips[0].mode, (width, len(rows)))
    for number, strip in enumerate(strips):
        tall.paste(strip, (0, number * step))
    return tall.resize(frame, Image.Resampling.BILINEAR, (0, top, width, bottom))


def _range(whole: int, kept: float, target: int) -> tuple[float, float, range]:
    """Begin and end of the middle of a side, and the range of pixels that scaling it reads."""
    start = (whole - kept) / 2
    reach = max(1.0, kept / target) + 1
    first = max(0, math.floor(start - reach))
    last = min(whole, math.ceil(start + kept + reach))
    return start - first, min(start + kept, last) - first, range(first, last)


def flatten(picture: Image) -> Image:
    """Return a picture as L or RGB of 8 bits, or as F of 0..1 where it holds deeper greys.

    Transparent pixels are laid on white.

    Raises
    ------
    ValueError
        Greys outside the range of 16 bits, or fractions outside 0..1.
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
    path: str | Path | bytes, shape: Sequence[int], name: str = "read_picture"
) -> NDArray[np.float32]:
    """Read a picture in the form that a network was trained on.

    Parameters
    ----------
    path : path or bytes
        The file, or its content.
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
    picture, shown = given(name, path)
    channels, height, width = shape
    with quiet_pillow():
        try:
            values, lost = decode(picture, (channels, height, width))
        except Exception as error:
            raise DataCorrupt(f"{name}: {shown}: {why(error)}") from None
    if lost:
        warn_of_lost_orientation(shown)
    return values


def warn_of_lost_orientation(path: str | Path) -> None:
    """Warn that a picture is not turned upright."""
    warnings.warn(
        f"{path}: its EXIF is damaged, so its orientation is unknown: not turned upright",
        DamageWarning,
        stacklevel=3,
    )
