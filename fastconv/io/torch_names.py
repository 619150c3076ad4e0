"""Names that other libraries give to the arrays of the networks of `fastconv.models`.

The networks have torchvision's names. PyTorch's wrappers add to them, and timm calls the matrices
of VGG otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ..errors import WeightsError

__all__ = ["bare", "by_own_names"]

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names by ``DataParallel``, ``DistributedDataParallel`` and ``AveragedModel``; by
``torch.compile``; by ``FullyShardedDataParallel``; by ``checkpoint_wrapper``. Wrappers can be
nested, and wrap a whole network or parts of it."""

COUNTS = ("n_averaged",)
"""Arrays beside the module's: the number of averaged models of ``AveragedModel``."""

TIMM = {
    "pre_logits.fc1": "classifier.0",
    "pre_logits.fc2": "classifier.3",
    "head.fc": "classifier.6",
}
"""What timm calls VGG's matrices. The first two are convolutions there, of filters as large as the
image, whose numbers lie in the order of the matrix."""


def bare(name: str) -> str:
    """Return `name` without wrappers: ``module._orig_mod.fc.weight`` becomes ``fc.weight``."""
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def by_own_names(state: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
    """Return arrays under the names that a network gives them.

    Parameters
    ----------
    state : mapping of str to array
        Of a module, wrapped or not, of torchvision or timm.
    own : collection of str
        The network's own names, which stay; so do names that are not its own in any form.

    Raises
    ------
    WeightsError
        Two arrays for one name.
    """
    inside = {bare(name): name for name in own}
    found: dict[str, Any] = {}
    for key, value in state.items():
        if key in COUNTS:
            continue
        name = key if key in own else inside.get(bare(key), key)
        layer, _, kind = bare(key).rpartition(".")
        if name not in own and (theirs := f"{TIMM.get(layer)}.{kind}") in inside:
            name = inside[theirs]
            value = np.reshape(value, (len(value), -1)) if np.ndim(value) == 4 else value
        if name in found:
            raise WeightsError(f"two arrays for {name}, one of them {key}")
        found[name] = value
    return found
