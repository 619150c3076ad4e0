"""The names that PyTorch's wrappers give to the arrays of the module inside."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from ..errors import WeightsError

__all__ = ["bare", "without_wrappers"]

Value = TypeVar("Value")

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Of ``DataParallel``, ``DistributedDataParallel`` and ``AveragedModel``; of ``torch.compile``; of
``FullyShardedDataParallel``; of ``checkpoint_wrapper``. They stand inside of each other, and around
parts of a network as well as around the whole."""

COUNTS = ("n_averaged",)
"""What is kept beside the module: how many weights are in the average of `AveragedModel`."""


def bare(name: str) -> str:
    """`name` without wrappers: ``module._orig_mod.fc.weight`` becomes ``fc.weight``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def without_wrappers(state: Mapping[str, Value], own: Collection[str]) -> dict[str, Value]:
    """Return arrays under the names of a network, where its wrappers had given them others.

    Parameters
    ----------
    state : mapping of str to array
        Of a module, wrapped or not.
    own : collection of str
        The network's own names; they stay, and so do names that it knows in no form.

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
