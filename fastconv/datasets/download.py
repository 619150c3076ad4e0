"""Fetch a file from the first of several mirrors that gives the right content."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

from ..console import is_terminal
from ..errors import DataCorrupt, DataNotFound, MissingDependency

__all__ = ["Published", "fetch"]

TIMEOUT = 30.0
"""Seconds without a byte after which to give up on a mirror."""


class Published(Protocol):
    """A file of a data set: how it is called, found, and read with all checks."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def remote(self) -> str:
        """Its name on a mirror, and in the cache."""

    def find(self, folder: Path) -> Path | None:
        """Where it is in a folder, in any form."""

    def read(self, folder: Path) -> Any:
        """What it holds; `DataNotFound` and `DataCorrupt` if it is not there or not right."""

    def parse(self, content: bytes, source: str) -> Any:
        """What its content holds; a `DataCorrupt` if that is not right."""


def fetch(
    expected: Published, mirrors: Sequence[str], progress: bool | None = None
) -> tuple[bytes, Any, str]:
    """Download a file, trying the mirrors in turn.

    Parameters
    ----------
    expected : Published
    mirrors : sequence of str
        Addresses that the file name is appended to.
    progress : bool, optional
        Show a progress bar on stderr; by default only if that is a terminal.

    Returns
    -------
    content : bytes
        The file as the mirror gave it.
    values : ndarray of uint8
        What it holds, checked.
    mirror : str
        Where it came from.

    Raises
    ------
    DataNotFound
        No mirror gave it; the message has each one's reason.
    MissingDependency
        pooch is not installed.
    """
    try:
        from pooch import HTTPDownloader
    except ImportError:
        raise MissingDependency(
            f"downloading {expected.name} needs pooch: pip install pooch"
        ) from None
    bar = is_terminal(sys.stderr) if progress is None else progress and sys.stderr is not None
    retrieve = HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=TIMEOUT)
    reasons = []
    for mirror in mirrors:
        url = f"{mirror}{expected.remote}"
        buffer = BytesIO()
        try:
            retrieve(url, buffer, None)
            content = buffer.getvalue()
            return content, expected.parse(content, url), mirror
        except DataCorrupt as error:
            reasons.append(str(error))
        except OSError as error:  # the base of everything that requests raises
            reasons.append(f"{url}: {_reason(error)}")
    raise DataNotFound(f"download: no mirror gave {expected.name}: " + "; ".join(reasons))


def _reason(error: Any) -> str:
    """The innermost cause: requests wraps it twice, in several lines of text."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, Exception):
            return f"{type(error).__name__}: {error}"
        error = inner
