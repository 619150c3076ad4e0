"""The reference's grouped convolution: one convolution for each group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ...geometry import WindowGeometry
from ..table import Array, Backend

__all__ = ["GroupedKernels"]


def each_group(
    geometry: WindowGeometry, filters: int, groups: int
) -> Iterator[tuple[slice, slice, WindowGeometry]]:
    """Channels and filters of each group, and the geometry of its convolution."""
    channels, filters = geometry.c // groups, filters // groups
    alone = replace(geometry, c=channels)
    for g in range(groups):
        yield (
            slice(g * channels, (g + 1) * channels),
            slice(g * filters, (g + 1) * filters),
            alone,
        )


class GroupedKernels:
    """Grouped and dilated kernels by `conv2d_forward` and `conv2d_backward`, which dilate too."""

    def conv2d_grouped_forward(
        self: Backend,
        x: Array,
        weight: Array,
        bias: Array,
        geometry: WindowGeometry,
        groups: int,
        out: Array,
    ) -> None:
        """See `table.Backend`."""
        for channels, filters, alone in each_group(geometry, len(weight), groups):
            self.conv2d_forward(
                x[:, channels], weight[filters], bias[filters], alone, out[:, filters]
            )

    def conv2d_grouped_backward(
        self: Backend,
        dout: Array,
        x: Array,
        weight: Array,
        geometry: WindowGeometry,
        groups: int,
        dx: Array | None,
        dweight: Array,
        dbias: Array,
    ) -> None:
        """See `table.Backend`."""
        for channels, filters, alone in each_group(geometry, len(weight), groups):
            self.conv2d_backward(
                dout[:, filters],
                x[:, channels],
                weight[filters],
                alone,
                None if dx is None else dx[:, channels],
                dweight[filters],
                dbias[filters],
            )
