"""Exclusive use: one thread at a time may train a network, whose layers keep the state of a step.

A second thread gets an error and does not wait: it would go on with weights that the first has
changed meanwhile, and threads that share a network mostly need one each.
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
"""The thread that holds an object, by the object's id. The thread's use keeps the object alive."""


@contextmanager
def exclusively(op: str, things: Iterable[Any]) -> Iterator[None]:
    """Hold objects for this thread inside a ``with`` block; the thread may hold some already.

    Parameters
    ----------
    op : str
        How messages begin.
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
            taken.append(key)  # first, so that Ctrl-C after this line leaves nothing held
            if _holders.setdefault(key, thread) != thread:  # atomic
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
    """Release what other threads hold: a forked child has none of them."""
    own = threading.get_ident()
    for key, thread in list(_holders.items()):
        if thread != own:
            del _holders[key]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
