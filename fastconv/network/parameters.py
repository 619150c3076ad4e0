"""A network's parameters by name: a dict that reads from the layers and writes to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike, NDArray

from ..errors import StateError, WeightsError
from ..ops.arrays import as_array, common_dtype

__all__ = ["Parameters"]

Array = NDArray[Any]


if TYPE_CHECKING:
    _Dict = dict[str, Array]
else:

    class _Dict(MutableMapping, dict):
        """A dict whose methods all use the few that a mapping must define."""


class Parameters(_Dict):
    """The arrays that are trained, by name. The layers hold them; this mapping holds none.

    So a name always means the array that its layer computes with, also after the layer was given
    another array, or was loaded from a file that keeps one array under two names as two. Assigning
    to a name gives the layer that array, or a copy of it in the dtype of the old one. Names cannot
    be added or removed; those of frozen layers are left out.

    It is an instance of dict. Its copies, shallow, deep or pickled, are plain dicts.

    Parameters
    ----------
    owners : mapping of str to (Layer, str)
        Layer and attribute of each parameter.

    Raises
    ------
    WeightsError
        The assigned array has another shape, or the network does not train that name.
    StateError
        On removing a name.
    """

    def __init__(self, owners: Mapping[str, tuple[Any, str]]) -> None:
        self._owners = owners

    def __getitem__(self, key: str) -> Array:
        layer, name = self._owners[key]
        if getattr(layer, "frozen", False):
            raise KeyError(key)
        return getattr(layer, name)

    def __setitem__(self, key: str, value: ArrayLike) -> None:
        if key not in self:
            trained = ", ".join(self) or "nothing"
            raise WeightsError(f"params: the network trains no {key!r}, but {trained}")
        layer, name = self._owners[key]
        own = getattr(layer, name)
        if value is own:  # the end of `params[key] -= step`
            return
        array = as_array(value)
        if array.shape != own.shape:
            raise WeightsError(f"params: {key} has shape {array.shape}, expected {own.shape}")
        common_dtype(f"params: {key}", array)
        setattr(layer, name, array.astype(own.dtype, copy=False))

    def __delitem__(self, key: str) -> None:
        raise StateError(
            f"params: {key!r} cannot be removed: layers keep their parameters; to train some of "
            "them no longer, call network.freeze(...)"
        )

    def __iter__(self) -> Iterator[str]:
        return (k for k, (layer, _) in self._owners.items() if not getattr(layer, "frozen", False))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def __repr__(self) -> str:
        return repr(dict(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())

    def copy(self) -> dict[str, Array]:
        """Return a dict of the same arrays."""
        return dict(self)

    def __or__(self, other: Any) -> Any:
        return dict(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | dict(self)

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self
