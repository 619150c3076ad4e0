"""Layers that hold layers, as a tree: a network's layers are listed and followed here.

A holder is a network, a container, or anything else with ``layers`` in a list or a dict, as the
book's networks have them; or such a list or dict itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from .containers import AuxiliaryHead, Branches, Chain, Container, Shortcut

__all__ = ["LayerPath", "Tracer", "children", "flat", "leaves", "runs_as", "walk"]

T = TypeVar("T")

LayerPath = tuple[str, ...]
"""Names from the holder down to a layer; those in a list are numbers from 0."""


def children(holder: Any) -> dict[str, Any]:
    """The layers directly in a holder, by name; empty for a layer without others."""
    layers = getattr(holder, "layers", holder)
    if isinstance(layers, Mapping):
        return {str(name): layer for name, layer in layers.items()}
    if isinstance(layers, Sequence) and not isinstance(layers, str):
        return {str(i): layer for i, layer in enumerate(layers)}
    return {}


def walk(holder: Any, opened: type = object) -> list[tuple[LayerPath, Any]]:
    """Every layer below a holder with its path, in the order they run, holders before their layers.

    Of the layers that hold others, only those of the class `opened` are opened.
    """
    found: list[tuple[LayerPath, Any]] = []
    for name, layer in children(holder).items():
        found.append(((name,), layer))
        if isinstance(layer, opened):
            found += [((name, *path), inner) for path, inner in walk(layer, opened)]
    return found


def leaves(holder: Any) -> list[tuple[str, Any]]:
    """Every layer that is not a `Container`, in the order they run, by dotted name.

    A layer of another class is a leaf, even if it has ``layers``.
    """
    return [
        (".".join(filter(None, path)), layer)
        for path, layer in walk(holder, Container)
        if not isinstance(layer, Container)
    ]


def flat(layers: Iterable[Any]) -> list[Any]:
    """Layers in a row, with those of a chain in the chain's place.

    A class derived from `Chain`, or a chain whose ``forward`` was replaced, may compute something
    else and stays.
    """
    row: list[Any] = []
    for layer in layers:
        if type(layer) is Chain and "forward" not in vars(layer):
            row += flat(layer.layers.values())
        else:
            row.append(layer)
    return row


class Tracer(ABC, Generic[T]):
    """Follows a value through layers in the order they run, as `Network.predict` does an array.

    A subclass says what each layer makes of the value, and how the values of several branches
    become one. A container whose ``forward`` is not fastconv's counts as one layer. A network
    with ``named_layers`` gives the layers their names; else their paths do.
    """

    def __init__(self, network: Any) -> None:
        named = network.named_layers() if hasattr(network, "named_layers") else ()
        self._names = {id(layer): name for name, layer in named}

    def name(self, path: LayerPath, layer: Any) -> str:
        """Name of a layer in the network."""
        return self._names.get(id(layer), ".".join(filter(None, path)))

    @abstractmethod
    def layer(self, path: LayerPath, layer: Any, value: T) -> T:
        """Return what a layer makes of the value."""

    @abstractmethod
    def join(self, path: LayerPath, layer: Any, value: T, branches: list[T]) -> T:
        """Return what `Branches` or a `Shortcut` makes of its input and its children's values."""

    def fork(self, value: T) -> T:
        """Return what each child of `Branches` or of a `Shortcut` starts from."""
        return value

    def head(self, path: LayerPath, layer: AuxiliaryHead, value: T) -> T:
        """Return the value that goes on to the layers after an auxiliary head."""
        return value

    def through(self, holder: Any, value: T, path: LayerPath = ()) -> T:
        """Follow the value through a holder's layers, one after the other."""
        for name, layer in children(holder).items():
            value = self._follow((*path, name), layer, value)
        return value

    def _follow(self, path: LayerPath, layer: Any, value: T) -> T:
        if runs_as(layer, Chain):
            return self.through(layer, value, path)
        if runs_as(layer, AuxiliaryHead):
            return self.head(path, layer, value)
        if runs_as(layer, Branches) or runs_as(layer, Shortcut):
            branches = [
                self._follow((*path, name), child, self.fork(value))
                for name, child in children(layer).items()
            ]
            return self.join(path, layer, value, branches)
        return self.layer(path, layer, value)


def runs_as(layer: Any, kind: type[Any]) -> bool:
    """Whether a layer is of this class, with the ``forward`` of this class."""
    forward = getattr(layer, "forward", None)
    return isinstance(layer, kind) and getattr(forward, "__func__", None) is kind.forward
