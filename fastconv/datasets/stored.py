"""The files of a published data set: from a folder, from the user's cache, else from a mirror."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import config
from ..errors import DataCorrupt, DataNotFound, FallbackWarning
from ..io.atomic import make_folder, replace_file
from ..io.paths import user_path
from .download import Published, fetch

__all__ = ["from_cache", "from_folder"]


def from_folder(op: str, files: Sequence[Published], data_dir: str | Path) -> list[Any]:
    """What the files in a user's folder hold; `op` begins the messages.

    Raises
    ------
    DataNotFound, DataCorrupt
        The folder lacks a file, or one is not what it must be.
    """
    folder = user_path(data_dir)
    if not folder.is_dir():
        raise DataNotFound(f"{op}: the data folder {folder} does not exist")
    _expect_all(op, files, folder)
    return [file.read(folder) for file in files]


def _expect_all(op: str, files: Sequence[Published], folder: Path) -> None:
    missing = [f"{file.name} (or {file.remote})" for file in files if file.find(folder) is None]
    if missing:
        raise DataNotFound(f"{op}: {folder} lacks {', '.join(missing)}")


def from_cache(
    op: str,
    name: str,
    files: Sequence[Published],
    mirrors: Sequence[str],
    download: bool,
    progress: bool | None,
    fetch: Callable[..., tuple[bytes, Any, str]] = fetch,
) -> list[Any]:
    """What the files of the data set `name` hold, those that the cache lacks being downloaded.

    Parameters
    ----------
    op : str
        The loader, for messages.
    mirrors : sequence of str
        Addresses that a file's ``remote`` name is appended to.
    download, progress, fetch
        Whether to download; whether to show a bar; how.

    Raises
    ------
    DataNotFound, DataCorrupt, MissingDependency
        As the loaders say.
    """
    if not download:
        folder = config.cache_dir() / name
        _expect_all(op, files, folder)
        return [file.read(folder) for file in files]
    values = []
    mirrors = list(mirrors)
    problem: OSError | None = None
    for file in files:
        # The cache is ours: a missing or damaged file is downloaded again.
        with suppress(OSError, DataCorrupt):
            values.append(file.read(config.cache_dir() / name))
            continue
        try:
            content, found, mirror = fetch(file, mirrors, progress)
        except DataNotFound as error:
            names = ", ".join(file.remote for file in files)
            error.add_note(
                f"remedy: put {names} into a folder and name it "
                f"(--data-dir FOLDER, or {op}(data_dir=FOLDER))"
            )
            raise
        # A mirror that failed once is asked last for the remaining files.
        mirrors.remove(mirror)
        mirrors.insert(0, mirror)
        try:
            _keep(config.cache_dir() / name, file, content)
        except OSError as error:
            problem = error
        values.append(found)
    if problem is not None:
        warnings.warn(
            f"fastconv: the downloaded {name} cannot be kept ({problem}) and is downloaded again "
            "next time. Set FASTCONV_CACHE_DIR to a folder that can be written.",
            FallbackWarning,
            stacklevel=4,
        )
    return values


def _keep(folder: Path, file: Published, content: bytes) -> None:
    make_folder(folder)
    # An unpacked file of that name would be found first, and it is missing or damaged.
    if (folder / file.name).is_file():
        (folder / file.name).unlink()
    with replace_file(folder / file.remote) as stream:
        stream.write(content)
