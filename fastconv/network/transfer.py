"""Weights of one network taken over by another that is built in part like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..io.torch_names import without_wrappers
from .network import Network

__all__ = ["TransferReport", "take_weights"]


@dataclass(frozen=True)
class TransferReport:
    """What `take_weights` did.

    Attributes
    ----------
    taken : list of str
        Names whose values the network has now.
    missing : list of str
        Names of the network that the weights do not have; they keep their values.
    resized : dict of str to (tuple, tuple)
        Names that both have, in another shape: the weights' and the network's. The network
        keeps its own.
    unused : list of str
        Names of the weights that the network does not have.
    """

    taken: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The report in a few lines."""
        lines = [f"{len(self.taken)} arrays taken over"]
        if self.resized:
            lines.append(
                "kept from the new network, for their shapes differ: "
                + ", ".join(
                    f"{k} {ours} (weights: {theirs})" for k, (theirs, ours) in self.resized.items()
                )
            )
        if self.missing:
            lines.append(f"not in the weights: {', '.join(self.missing)}")
        if self.unused:
            lines.append(f"not in the network: {', '.join(self.unused)}")
        return "\n".join(lines)


def take_weights(
    network: Network, state: Mapping[str, NDArray[Any]], source: str = "weights"
) -> TransferReport:
    """Give a network, by name, all weights of another that have the same shape in both.

    So a new head, with other classes, stays as it was drawn.

    Parameters
    ----------
    network : Network
    state : mapping of str to array
        What `Network.state` or `fastconv.io.load_params` gives, PyTorch's files included.
    source : str
        Where they are from, for messages.

    Raises
    ------
    WeightsError
        Not one array fits.
    """
    own = network.state()
    state = without_wrappers(state, own)
    report = TransferReport()
    merged = dict(own)
    for key, value in own.items():
        if key not in state:
            report.missing.append(key)
        elif np.shape(state[key]) != value.shape:
            report.resized[key] = np.shape(state[key]), value.shape
        else:
            merged[key] = np.asarray(state[key])
            report.taken.append(key)
    report.unused.extend(
        key for key in state if key not in own and not key.endswith("num_batches_tracked")
    )
    if not report.taken:
        raise WeightsError(f"{source}: nothing in it fits the network: {report}")
    network.set_state(merged, source)
    return report
