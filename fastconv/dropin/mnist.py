"""``dataset.mnist`` for a user's folder: MNIST from that folder, or from fastconv."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..datasets import mnist
from ..datasets.finish import DataSplit
from ..errors import DataCorrupt, DataNotFound

__all__ = ["loader"]


def loader(
    folders: Iterable[str],
    theirs: Callable[..., DataSplit] | None,
    note: Callable[[str], None],
) -> Callable[..., DataSplit]:
    """Make the ``load_mnist`` of one user.

    Parameters
    ----------
    folders : iterable of str
        The user's ``dataset`` folder, or folders.
    theirs : callable, optional
        The ``load_mnist`` of the user's own file.
    note : callable
        Called with where the data came from.
    """

    def load_mnist(
        normalize: bool = True, flatten: bool = True, one_hot_label: bool = False
    ) -> DataSplit:
        """Load MNIST: from the four files in the user's ``dataset`` folder, if they are MNIST's.

        Else by the user's own ``load_mnist``, which may have other data under this name; and if
        that finds none, by `fastconv.datasets.load_mnist`. If the user's own has made its pickle,
        it reads nothing else, and it is called here too.
        """
        stored = None if theirs is None else _stored(theirs)
        for folder in () if stored else folders:
            try:
                data = mnist.load_mnist(normalize, flatten, one_hot_label, data_dir=folder)
            except (DataNotFound, DataCorrupt):
                continue
            note(f"MNIST from {Path(folder).resolve()}")
            return data
        own: dict[str, Any] = {
            "normalize": normalize,
            "flatten": flatten,
            "one_hot_label": one_hot_label,
        }
        reason = ""
        if theirs is not None:
            try:
                data = theirs(**own)
            except OSError as error:
                reason = f": your load_mnist failed with {type(error).__name__}: {error}"
            else:
                lack = "your dataset folder lacks MNIST's four files"
                note(f"data from your load_mnist: {f'it reads {stored}' if stored else lack}")
                return data
        try:
            data = mnist.load_mnist(**own)
        except DataNotFound as error:
            files = ", ".join(f"{file.name}.gz" for file in mnist.FILES)
            place = " or ".join(folders) or "a folder dataset beside your script"
            # The error's remedy, to name another folder, is of no use: this load_mnist takes none.
            error.__notes__ = [f"remedy: put {files} into {place}"]
            raise
        note(f"MNIST from fastconv's cache{reason}")
        return data

    return load_mnist


def _stored(theirs: Callable[..., DataSplit]) -> str | None:
    """The pickle that the book's ``load_mnist`` makes at its first call, if it exists."""
    path = getattr(theirs, "__globals__", {}).get("save_file")
    return path if isinstance(path, str) and Path(path).is_file() else None
