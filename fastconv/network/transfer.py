"""Transfer of weights between networks of which only a part is alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import WeightsError
from ..io.torch_names import by_own_names
from .network import Network

__all__ = ["TransferReport", "take_weights"]


@dataclass(frozen=True)
class TransferReport:
    """What `take_weights` did.

    Attributes
    ----------
    taken : list of str
        Names whose values were taken over.
    missing : list of str
        Names that only the network has; they keep their values.
    resized : dict of str to (tuple, tuple)
        Names with different shapes: that of the weights, and that of the network, which keeps
        its own values.
    unused : list of str
        Names that only the weights have.
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
    """Give a network all weights of another whose names and shapes are the same in both.

    A new head, with other classes, keeps its initial weights.

    Parameters
    ----------
    network : Network
    state : mapping of str to array
        What `Network.state` or `fastconv.io.load_params` returns, also from PyTorch's files.
    source : str
        Where the weights are from, for messages.

    Raises
    ------
    WeightsError
        No array fits.
    """
    own = network.state()
    state = by_own_names(state, own)
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
