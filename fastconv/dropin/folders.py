"""Which folders of the path are the user's own, not Python's or those of installed packages."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Folders"]

INSTALLED = {"site-packages", "dist-packages"}


class Folders:
    """Tells the user's folders from others; looks at each once."""

    def __init__(self) -> None:
        paths = sysconfig.get_paths()
        of_python = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
        self._others = [Path(path).resolve() for path in of_python]
        self._known: dict[str, bool] = {}

    def own(self, entries: Iterable[str]) -> list[str]:
        """The entries of a path that are the user's folders."""
        return [entry for entry in entries if self._is_own(entry)]

    def _is_own(self, entry: str) -> bool:
        if not isinstance(entry, str):
            return False
        if not Path(entry).is_absolute():  # it depends on the working directory
            return self._look(entry)
        if entry not in self._known:
            self._known[entry] = self._look(entry)
        return self._known[entry]

    def _look(self, entry: str) -> bool:
        folder = Path(entry).resolve()
        inside = INSTALLED.intersection(folder.parts)
        return not inside and not any(folder.is_relative_to(other) for other in self._others)
