"""Compiled kernels of the Cython backend, one extension for each instruction set.

``kernels_*.cc`` are the same source, `kernels.pyx`, built with other compiler flags;
``cpu`` says which of them this CPU can run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["BUILT_FROM", "source_digest"]

BUILT_FROM = "_built_from.txt"
"""The file where the build notes the digest of the sources that it compiled; see setup.py."""


def source_digest(folder: Path) -> str | None:
    """Digest of the kernels' sources in this folder; None if it has none, as where installed."""
    found = [path for path in folder.iterdir() if path.suffix in (".pyx", ".pxi", ".h", ".cc")]
    digest = hashlib.sha256()
    for path in sorted(found):
        # Git may write line ends as the system has them.
        text = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.name} {len(text)}\n".encode() + text)
    return digest.hexdigest() if found else None
