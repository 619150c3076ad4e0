"""Pictures of what a network has learned: filters, and what they make of an image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, ShapeError
from ..layers import (
    BatchNormalization,
    BatchNormalization2d,
    Convolution,
    Relu,
    Sigmoid,
)
from ..layers.containers import Shortcut, run_layer
from ..layers.tree import LayerPath, Tracer, leaves
from ..ops import concatenate
from .style import GREY, drawing, finished, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["feature_maps", "filters", "first_filters"]

MOST_FILTERS, FILTER_COLUMNS = 64, 16
MOST_LAYERS, MOST_MAPS = 8, 16

BELONG_TO_THE_CONVOLUTION = (BatchNormalization, BatchNormalization2d, Relu, Sigmoid)
"""Layers whose output is shown instead of that of the convolution before them."""


def first_filters(network: Any) -> NDArray[Any] | None:
    """The filters (FN, C, FH, FW) of a network's first convolution; None without convolutions."""
    found = (leaf.W for _, leaf in leaves(network.layers) if isinstance(leaf, Convolution))
    return next(found, None)


@drawing()
def filters(after: NDArray[Any], before: NDArray[Any] | None = None, title: str = "") -> Figure:
    """Draw the filters of a first layer, as in chapter 7 of the book; before training on top.

    Parameters
    ----------
    after, before : ndarray
        (FN, C, FH, FW). Filters of 3 channels are drawn in colour, grey for 0. Of others each
        channel is added up and drawn from blue, negative, over white to red, positive.
    title : str

    Raises
    ------
    ShapeError
        Not filters, or of two different layers.
    MissingDependency
        Matplotlib is not installed.
    """
    for weights in (after, before):
        if weights is not None and (weights.ndim != 4 or weights.shape != after.shape):
            raise ShapeError(
                f"filters: expected (FN, C, FH, FW), before as after, got {after.shape} after and "
                f"{weights.shape} before"
            )
    number = min(len(after), MOST_FILTERS)
    columns = min(number, FILTER_COLUMNS)
    rows = math.ceil(number / columns)
    parts = {"after training": after}
    if before is not None:
        parts = {"before training": before} | parts
    height, width = after.shape[2:]
    figure = new_figure(
        0.5 * columns + 0.6, len(parts) * (0.5 * rows * height / width + 0.35) + 0.6
    )
    of = f", the first {number} of {len(after)}" if number < len(after) else ""
    figure.suptitle(title + of, fontsize=11, parse_math=False)
    for axes, (name, weights) in zip(
        figure.subplots(len(parts), squeeze=False)[:, 0], parts.items(), strict=True
    ):
        axes.set_title(name, fontsize=9, color=GREY)
        scale = float(np.abs(weights).max()) or 1.0
        if weights.shape[1] == 3:
            tiles, style = 0.5 + weights.transpose(0, 2, 3, 1) / (2 * scale), {}
        else:
            tiles = weights.sum(axis=1)
            scale = float(np.abs(tiles).max()) or 1.0
            style = {"cmap": "RdBu_r", "vmin": -scale, "vmax": scale}
        _tiled(axes, tiles[:number], columns, style)
    return finished(figure)


def _tiled(axes: Any, tiles: NDArray[Any], columns: int, style: dict[str, Any]) -> None:
    """Draw images (K, H, W) or (K, H, W, 3) in rows, with a border around each."""
    height, width = tiles.shape[1:3]
    gap = max(1, width // 5)
    rows = math.ceil(len(tiles) / columns)
    shape = rows * (height + gap) - gap, columns * (width + gap) - gap
    canvas = np.full((*shape, *tiles.shape[3:]), 1.0 if tiles.ndim == 4 else np.nan)
    axes.set_axis_off()
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = tile
        axes.add_patch(frame(left - 0.5, top - 0.5, width, height))
    axes.imshow(canvas, interpolation="nearest", **style)


@drawing()
def feature_maps(network: Any, image: NDArray[Any], title: str = "") -> Figure:
    """Draw what a network's convolutions make of an image, each with the activation after it.

    Parameters
    ----------
    network : Network
    image : ndarray
        (C, H, W), as the network takes it.
    title : str

    Returns
    -------
    Figure
        A row for each convolution, or for 8 of them, the first and the last included; in it
        the maps of the first 16 channels, from white, 0 or less, to the row's largest value.

    Raises
    ------
    ArgumentError
        A network without convolutions.
    ShapeError
        An image that it does not take.
    MissingDependency
        Matplotlib is not installed.
    """
    seen = _Maps(network)
    seen.through(network, np.asarray(image, network.dtype)[None])
    if not seen.found:
        raise ArgumentError("feature_maps: the network has no convolution")
    chosen = np.unique(
        np.linspace(0, len(seen.found) - 1, min(MOST_LAYERS, len(seen.found))).round().astype(int)
    )
    most = min(MOST_MAPS, max(len(maps) for _, maps in seen.found))
    figure = new_figure(0.62 * most + 1.6, 0.66 * len(chosen) + 0.6)
    figure.suptitle(title, fontsize=11, parse_math=False)
    panels = figure.subplots(len(chosen), squeeze=False)[:, 0]
    for axes, index in zip(panels, chosen, strict=True):
        name, maps = seen.found[index]
        shown = maps[:most]
        blank = np.full((most - len(shown), *maps.shape[1:]), np.nan)
        highest = float(maps.max())
        style = {"cmap": "Greys", "vmin": 0, "vmax": highest if highest > 0 else 1}
        _tiled(axes, np.concatenate([shown, blank])[:most], most, style)
        size = " x ".join(map(str, maps.shape[1:]))
        axes.text(
            -0.01,
            0.5,
            f"{name}\n{len(maps)} maps of {size}",
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=7,
            color=GREY,
        )
    return finished(figure)


class _Maps(Tracer[NDArray[Any]]):
    """Runs an image and keeps the output of each convolution."""

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.found: list[tuple[str, NDArray[Any]]] = []
        self._last: NDArray[Any] | None = None

    def layer(self, path: LayerPath, layer: Any, value: NDArray[Any]) -> NDArray[Any]:
        out = run_layer(layer, value, False)
        if isinstance(layer, Convolution):
            self.found.append((self.name(path, layer), out[0]))
            self._last = out
        elif isinstance(layer, BELONG_TO_THE_CONVOLUTION) and value is self._last:
            self.found[-1] = self.found[-1][0], out[0]
            self._last = out
        return out

    def join(
        self, path: LayerPath, layer: Any, value: Any, branches: list[NDArray[Any]]
    ) -> NDArray[Any]:
        if isinstance(layer, Shortcut):
            return branches[0] + (branches[1] if len(branches) > 1 else value)
        return concatenate(branches)
