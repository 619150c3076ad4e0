"""Picture files for the tests of a user's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

Image = pytest.importorskip("PIL.Image", reason="Pillow writes and reads the pictures")


def write(path: Path, pixels: np.ndarray, **options) -> Path:
    """Save an array (H, W) or (H, W, C) in the format of the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_classes(root: Path, counts: dict[str, int], size: tuple[int, ...] = (6, 5, 3)) -> Path:
    """A folder for each class, with so many pictures of different noise."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write(root / name / f"{index:03}.png", noise(1000 * number + index, *size))
    return root


def plain(path) -> bytes:
    """The pixels of a file, to recognise an image of a set."""
    with Image.open(path) as picture:
        return np.asarray(picture).tobytes()


def pixels(part) -> list[bytes]:
    """The pixels of each image of a part, as in `plain`."""
    bytes_ = np.rint(part.images * 255).astype(np.uint8)
    return [image.transpose(1, 2, 0).tobytes() for image in bytes_]
