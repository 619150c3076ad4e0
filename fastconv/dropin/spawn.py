"""The hook in child processes of `multiprocessing`, before they import any user's module.

A forked child has the hook from its parent. A spawned one gets it from the first thing that it
reads from its parent, the preparation data: unpickling this dict calls `again`.
"""

from __future__ import annotations

import atexit
from multiprocessing import spawn
from typing import Any

__all__ = ["follow"]

_original: Any = None


class _Again:
    """Pickles as a call of `again`."""

    def __init__(self, settings: dict[str, Any], home: str | None) -> None:
        self.arguments = settings, home

    def __reduce__(self) -> Any:
        return again, self.arguments


def follow() -> None:
    """Give the hook to children that are spawned from now on, as long as it is installed here."""
    global _original
    if _original is None:
        _original = spawn.get_preparation_data
        spawn.get_preparation_data = _preparation_data


def _preparation_data(name: str) -> dict[str, Any]:
    from .. import dropin

    data = _original(name)
    if dropin._installation is not None:
        if name == "ignore":
            # The fork server asks, in order to import the main module once, before any child
            # has the hook. Without this entry each child imports it, with the hook.
            data.pop("init_main_from_path", None)
            data.pop("init_main_from_name", None)
        else:
            installation = dropin._installation
            data["fastconv"] = _Again(installation.settings, installation.finder.home)
    return data


def again(settings: dict[str, Any], home: str | None) -> None:
    """Install the hook in a child; only the parent prints the line at the end."""
    from .. import dropin

    if not dropin.is_installed():
        dropin.install(**settings)
        dropin.look_also_in(home)
        atexit.unregister(dropin._at_exit)
