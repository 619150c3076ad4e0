"""What one thread at a time may do: train a network, whose layers keep the state of a step.

A second thread is not made to wait. It would go on with weights that the first has changed in
between, and most who share a network among threads want one for each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import StateError

__all__ = ["exclusively"]

_holders: dict[int, int] = {}
"""The thread that holds an object, by the object's id. It is alive, since that thread uses it."""


@contextmanager
def exclusively(op: str, things: Iterable[Any]) -> Iterator[None]:
    """Hold objects for this thread inside a ``with`` block; it may hold them already.

    Parameters
    ----------
    op : str
        What messages begin with.
    things : iterable of object
        Layers of a network, an optimizer.

    Raises
    ------
    StateError
        Another thread holds one of them.
    """
    thread = threading.get_ident()
    taken: list[int] = []
    try:
        for thing in things:
            key = id(thing)
            if _holders.get(key) == thread:
                continue
            taken.append(key)  # before it is held, so that Ctrl-C in between leaves nothing held
            if _holders.setdefault(key, thread) != thread:  # one step, whatever threads do
                raise StateError(
                    f"{op}: another thread is training this {type(thing).__name__}; give each "
                    "thread a network of its own by copy.deepcopy(network), and an optimizer "
                    "likewise (predict may run in any number of threads)"
                )
        yield
    finally:
        for key in taken:
            if _holders.get(key) == thread:
                del _holders[key]


def _after_fork() -> None:
    """A child has one thread: what the others held, nobody holds there."""
    own = threading.get_ident()
    for key, thread in list(_holders.items()):
        if thread != own:
            del _holders[key]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
