"""Names that PyTorch's wrappers give to the arrays of the module that they wrap."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from ..errors import WeightsError

__all__ = ["bare", "without_wrappers"]

Value = TypeVar("Value")

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names by ``DataParallel``, ``DistributedDataParallel`` and ``AveragedModel``; by
``torch.compile``; by ``FullyShardedDataParallel``; by ``checkpoint_wrapper``. Wrappers can be
nested, and wrap a whole network or parts of it."""

COUNTS = ("n_averaged",)
"""Arrays beside the module's: the number of averaged models of ``AveragedModel``."""


def bare(name: str) -> str:
    """Return `name` without wrappers: ``module._orig_mod.fc.weight`` becomes ``fc.weight``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def without_wrappers(state: Mapping[str, Value], own: Collection[str]) -> dict[str, Value]:
    """Return arrays under the names that a network gives them without wrappers.

    Parameters
    ----------
    state : mapping of str to array
        Of a module, wrapped or not.
    own : collection of str
        The network's own names, which stay; so do names that are not its own in any form.

    Raises
    ------
    WeightsError
        Two arrays for one name.
    """
    inside = {bare(name): name for name in own}
    found: dict[str, Value] = {}
    for key, value in state.items():
        if key in COUNTS:
            continue
        name = key if key in own else inside.get(bare(key), key)
        if name in found:
            raise WeightsError(f"two arrays for {name}, one of them {key}")
        found[name] = value
    return found
