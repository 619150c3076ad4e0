"""What a network has learned, its parameters and running statistics: read, checked, written back.

The arrays have names: ``params/W1``, ``statistics/3/running_mean``. 3 is the layer's place, or its
name if the network has its layers in a dict, as the book's have.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..layers.base import buffer_names
from ..layers.tree import walk
from ..ops.arrays import expect_names, expect_numbers

__all__ = [
    "PREFIXES",
    "Arrays",
    "all_finite",
    "checksum",
    "exchanged",
    "expect_fitting",
    "learned",
    "parameters",
    "put",
]

Arrays = dict[str, NDArray[Any]]

PREFIXES = ("params/", "statistics/")
"""Beginnings of the names."""


def learned(network: Any) -> Arrays:
    """Return the arrays themselves, not copies, without statistics that do not exist yet."""
    arrays = {f"params/{key}": value for key, value in parameters(network).items()}
    for name, (layer, attribute) in _statistics(network).items():
        if (value := getattr(layer, attribute)) is not None:
            arrays[name] = value
    return arrays


def all_finite(arrays: Mapping[str, NDArray[Any]]) -> bool:
    """Whether no array has a NaN or an infinity."""
    return all(np.isfinite(value).all() for value in arrays.values())


def checksum(*arrays: NDArray[Any]) -> int:
    """Return the CRC-32 of the arrays' numbers; all NaN are the same one."""
    crc = 0
    for array in arrays:
        if array.dtype.kind == "f" and np.isnan(array).any():
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        crc = zlib.crc32(np.ascontiguousarray(array), crc)
    return crc


def put(network: Any, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Copy what `learned` returned into the network, in the network's dtypes."""
    places, own = _statistics(network), parameters(network)
    for name, value in arrays.items():
        if name in places:
            _set(places[name], value)
        else:
            own[name.removeprefix("params/")][...] = value


def expect_fitting(network: Any, arrays: Mapping[str, NDArray[Any]], source: str) -> None:
    """Raise a `WeightsError` unless `put` can copy these arrays of a file into the network.

    The file may lack statistics, as older ones do.
    """
    own, places = learned(network), _statistics(network)
    needed, given = ([name for name in names if name not in places] for names in (own, arrays))
    expect_names(f"{source}: weights of another architecture", needed, given)
    for name, value in arrays.items():
        expect_numbers(f"{source}: {name}", value)
        shape = np.shape(own[name]) if name in own else np.shape(places[name][0].gamma) or None
        if shape is not None and value.shape != shape:
            raise WeightsError(f"{source}: {name} has shape {value.shape}, expected {shape}")


@contextmanager
def exchanged(network: Any, arrays: Mapping[str, NDArray[Any]] | None) -> Iterator[None]:
    """Inside the block the network has `arrays`, then its own again; None changes nothing.

    This is for evaluation: training in the block would be lost.
    """
    if arrays is None:
        yield
        return
    before = {name: value.copy() for name, value in learned(network).items()}
    put(network, arrays)
    try:
        yield
    finally:
        put(network, before)


def parameters(network: Any) -> Arrays:
    """Return all parameters, frozen ones included."""
    return network.params | getattr(network, "frozen_params", {})


def _statistics(network: Any) -> dict[str, tuple[Any, str]]:
    """Return layer and attribute of each running statistic, by its name."""
    return {
        "/".join(("statistics", *path, attribute)): (layer, attribute)
        for path, layer in walk(network)
        for attribute in buffer_names(layer)
    }


def _set(place: tuple[Any, str], value: NDArray[Any]) -> None:
    """Set a new array, as layers do: others may hold the old one."""
    layer, attribute = place
    own = getattr(layer, attribute)
    setattr(layer, attribute, np.array(value, None if own is None else own.dtype))
