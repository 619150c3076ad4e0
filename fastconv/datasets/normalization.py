"""Images with mean 0 and standard deviation 1 in each channel, measured on the training images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, DataNotFound, ShapeError
from ..io.atomic import replace_file
from ..io.records import json_text, read_record

__all__ = ["Normalization"]

CHUNK = 64
"""Images that are copied to float64 at a time."""

CONSTANT = 1e-6
"""A channel in 0..1 that varies less than this is shifted, but not scaled."""


@dataclass(frozen=True)
class Normalization:
    """``(x - mean) / std`` for each channel.

    A network that was trained on normalized images needs images normalized by the same numbers:
    those of its training set, never those of the images at hand.

    Attributes
    ----------
    mean, std : tuple of float
        One number for each channel; each `std` greater than 0.

    Raises
    ------
    ArgumentError
        Different lengths, or numbers that are not finite or not positive.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        finite = all(math.isfinite(number) for number in (*self.mean, *self.std))
        if not self.mean or len(self.mean) != len(self.std) or not finite or min(self.std) <= 0:
            raise ArgumentError(
                "Normalization: expected a finite mean and a std greater than 0 for each channel, "
                f"got mean {self.mean} and std {self.std}"
            )

    @classmethod
    def of(cls, images: NDArray[np.floating]) -> Normalization:
        """Return mean and standard deviation over all pixels of each channel.

        Parameters
        ----------
        images : ndarray
            (N, C, H, W), the training images. Sums are float64. A channel that does not vary
            gets the standard deviation 1.

        Raises
        ------
        ShapeError
            No images, or another number of axes.
        """
        if images.ndim != 4 or images.size == 0:
            raise ShapeError(
                f"Normalization.of: expected images (N, C, H, W), got shape {images.shape}"
            )
        pixels = images.size // images.shape[1]
        starts = range(0, len(images), CHUNK)
        chunks = [images[start : start + CHUNK] for start in starts]
        mean = sum(chunk.sum(axis=(0, 2, 3), dtype=np.float64) for chunk in chunks) / pixels
        squares = sum(
            ((chunk - mean[:, None, None]) ** 2).sum(axis=(0, 2, 3), dtype=np.float64)
            for chunk in chunks
        )
        std = np.sqrt(squares / pixels)
        std[std < CONSTANT] = 1
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def apply(
        self, images: NDArray[np.floating], out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """Return images (..., C, H, W) normalized, in their own dtype.

        Parameters
        ----------
        images : ndarray
        out : ndarray, optional
            Where to write the result, which may be `images` itself.

        Raises
        ------
        ShapeError
            Images of another number of channels.
        """
        mean, std = self._for(images)
        out = np.subtract(images, mean, out=out)
        return np.divide(out, std, out=out)

    def undo(self, images: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return images as they were before normalization, for viewing."""
        mean, std = self._for(images)
        return images * std + mean

    def _for(self, images: NDArray[np.floating]) -> list[NDArray[np.floating]]:
        if images.ndim < 3 or images.shape[-3] != len(self.mean):
            raise ShapeError(
                f"Normalization: expected images (..., {len(self.mean)}, H, W), "
                f"got shape {images.shape}"
            )
        both = (self.mean, self.std)
        return [np.array(numbers, images.dtype)[:, None, None] for numbers in both]

    def save(self, path: str | PathLike[str]) -> None:
        """Write the numbers as JSON, ``{"mean": [...], "std": [...]}``."""
        with replace_file(path) as file:
            file.write((json_text(asdict(self)) + "\n").encode())

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Normalization:
        """Read what `save` wrote.

        Raises
        ------
        DataNotFound, DataCorrupt
            No such file, or other content.
        """
        path = Path(path)
        if not path.is_file():
            raise DataNotFound(f"{path}: no such file")
        return read_record(path.read_bytes(), cls, str(path))
