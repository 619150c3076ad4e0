"""Who takes a step's gradients: told of those that are complete, or the lender of their memory.

Gradients are told of as they become complete, while backward still computes the others. On several
processes they can be on their way by then; on those of one machine they lie where all of them can
add them up (`fastconv.distributed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from numpy.typing import NDArray

from ..layers.base import parameter_names
from ..layers.tree import leaves

__all__ = ["Lender", "Listener", "lender", "lent_by", "listener", "tell_of", "told"]

Listener = Callable[[Sequence[tuple[Any, str, NDArray[Any]]]], None]
"""Gets the gradients that are complete now, perhaps none: layer, attribute (``dW``), array."""

Lender = Callable[[int], NDArray[Any] | None]
"""Gives memory of so many bytes, begun at a cache line, if it has any; a program of training steps
keeps that for its gradients as long as it lives, and nobody else writes there meanwhile, but that
gradients may be changed once a step has returned them."""

_listener: ContextVar[Listener | None] = ContextVar("fastconv_ready", default=None)


@contextmanager
def told(listener: Listener) -> Iterator[None]:
    """Inside the block, a backward calls the listener again and again.

    A gradient may be told of before it is on its layer, and is only to be read.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener | None:
    """Return that of the innermost `told`, if there is one."""
    return _listener.get()


_lender: ContextVar[Lender | None] = ContextVar("fastconv_lender", default=None)


@contextmanager
def lent_by(lender: Lender) -> Iterator[None]:
    """Inside the block, programs of training steps that are made have gradients in such memory."""
    token = _lender.set(lender)
    try:
        yield
    finally:
        _lender.reset(token)


def lender() -> Lender | None:
    """Return that of the innermost `lent_by`, if there is one."""
    return _lender.get()


def tell_of(layers: Sequence[Any]) -> None:
    """Say that the gradients of these layers, and of those inside them, are complete."""
    if (tell := _listener.get()) is not None:
        tell(
            [
                (leaf, f"d{name}", gradient)
                for _, leaf in leaves(layers)
                for name in parameter_names(leaf)
                if (gradient := getattr(leaf, f"d{name}", None)) is not None
            ]
        )
