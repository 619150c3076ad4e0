"""CIFAR-10: 60,000 colour images of 32x32 in 10 classes (A. Krizhevsky, 2009).

From the binary version, which takes no pickle: each record is a byte, the class, and 3,072 bytes,
the rows of the red, the green and the blue channel. The checksum is that of the set's own page.
Source: https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import tarfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..errors import DataCorrupt, DataNotFound
from .checksum import md5_of_file, warn_of_no_checksum
from .finish import CLASSES, DataSplit, finish
from .stored import from_cache, from_folder

__all__ = ["load_cifar10"]

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32
BATCHES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")

Batches = list[NDArray[np.uint8]]
"""The records of the five training batches and of the test batch, (N, 3073)."""


@dataclass(frozen=True)
class _Archive:
    """The archive of the batches, or its folder.

    Attributes
    ----------
    records : int
        In each batch.
    md5 : str
        Of the archive.
    """

    records: int
    md5: str
    name: str = "cifar-10-batches-bin"
    remote: str = "cifar-10-binary.tar.gz"

    def find(self, folder: Path) -> Path | None:
        """The archive; else the folder with the batches, which may be `folder` itself."""
        if (folder / self.remote).is_file():
            return folder / self.remote
        places = (folder / self.name, folder)
        return next((place for place in places if (place / BATCHES[-1]).is_file()), None)

    def read(self, folder: Path) -> Batches:
        """Read the batches, checked as far as their form allows."""
        place = self.find(folder)
        if place is None:
            raise DataNotFound(f"{folder}: neither {self.remote} nor {self.name} is in this folder")
        if place.is_file():
            with place.open("rb") as file:
                return self._unpacked(file, str(place))
        found = []
        for name in BATCHES:
            if not (place / name).is_file():
                raise DataNotFound(f"{place}: lacks {name}")
            with (place / name).open("rb") as file:
                found.append(self._records(file, str(place / name)))
        warn_of_no_checksum(str(place), self.remote)
        return found

    def parse(self, content: bytes, source: str) -> Batches:
        """Read the batches of an archive."""
        return self._unpacked(BytesIO(content), source)

    def _unpacked(self, file: IO[bytes], source: str) -> Batches:
        if (md5 := md5_of_file(file)) != self.md5:
            raise DataCorrupt(f"{source}: not {self.remote}: MD5 {md5}, expected {self.md5}")
        file.seek(0)
        try:
            with tarfile.open(fileobj=file, mode="r:gz") as archive:
                members = {Path(member.name).name: member for member in archive}
                streams = [archive.extractfile(members[name]) for name in BATCHES]
                return [self._records(stream, source) for stream in streams if stream]
        except (KeyError, EOFError, OSError, tarfile.TarError, zlib.error) as error:
            raise DataCorrupt(f"{source}: truncated or damaged archive: {error}") from None

    def _records(self, file: IO[bytes], source: str) -> NDArray[np.uint8]:
        size = self.records * RECORD
        content = file.read(size + 1)
        if len(content) != size:
            got = "more" if len(content) > size else f"{len(content)}"
            raise DataCorrupt(f"{source}: a batch has {got} bytes, expected {size}")
        records = np.frombuffer(content, np.uint8).reshape(self.records, RECORD)
        if records[:, 0].max() >= CLASSES:
            raise DataCorrupt(
                f"{source}: a batch has the class {records[:, 0].max()}, expected 0 to "
                f"{CLASSES - 1}"
            )
        return records


ARCHIVE = _Archive(10_000, "c32a1d4ab5d03f1284b67883e8d87530")

MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")

CIFAR10_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load_cifar10(
    normalize: bool = True,
    flatten: bool = True,
    one_hot_label: bool = False,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: bool | None = None,
) -> DataSplit:
    """Load CIFAR-10 in the form of `load_mnist`: images (N, 3072) or (N, 3, 32, 32).

    Parameters
    ----------
    normalize, flatten, one_hot_label, download, progress
        As for `load_mnist`.
    data_dir : path, optional
        Folder with ``cifar-10-binary.tar.gz``, or with its unpacked batches; these have no
        published checksum, and a `DataWarning` says so.

    Returns
    -------
    (x_train, t_train), (x_test, t_test)
        50,000 and 10,000 images with their labels (uint8).

    Raises
    ------
    DataNotFound, DataCorrupt, MissingDependency
        As for `load_mnist`.
    """
    if data_dir is not None:
        (batches,) = from_folder("load_cifar10", [ARCHIVE], data_dir)
    else:
        (batches,) = from_cache("load_cifar10", "cifar10", [ARCHIVE], MIRRORS, download, progress)
    parts = np.concatenate(batches[:-1]), batches[-1]
    train, test = (
        finish(part[:, 1:].reshape(-1, *SHAPE), part[:, 0], normalize, flatten, one_hot_label)
        for part in parts
    )
    return train, test
