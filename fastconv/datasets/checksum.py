"""Checksums of a data set's files, as their publishers state them."""

from __future__ import annotations

import hashlib
import warnings
from typing import IO

from ..errors import DataWarning

__all__ = ["md5_of_file", "warn_of_no_checksum"]


def md5_of_file(file: IO[bytes]) -> str:
    """The MD5 of what is left of a file."""
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def warn_of_no_checksum(source: str, published: str) -> None:
    """Warn that a file's form was checked, but not that it is what was published."""
    warnings.warn(
        f"{source}: its form is right, but that it is what was published cannot be checked: only "
        f"{published} has a published checksum",
        DataWarning,
        stacklevel=2,
    )
