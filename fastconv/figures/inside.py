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
FINENESS = 32

BELONG_TO_THE_CONVOLUTION = (BatchNormalization, BatchNormalization2d, Relu, Sigmoid)
"""Layers whose output is shown instead of that of the convolution before them."""


def first_filters(network: Any) -> NDArray[Any] | None:
    """The filters (FN, C, FH, FW) of a network's first convolution; None without convolutions."""
    found = (leaf.W for _, leaf in leaves(network.layers) if isinstance(leaf, Convolution))
    return next(found, None)


@drawing()
def filters(after: NDArray[Any], before: NDArray[Any] | None = None, title: str = "") -> Figure:
    """Draw the filters of a first layer, as in chapter 7 of the book: before and after training.

    Parameters
    ----------
    after, before : ndarray
        (FN, C, FH, FW). Filters of 3 channels are drawn in colour, grey for 0. Of others the
        channels are added up, and drawn from blue, negative, over white, 0, to red, positive.
        What training has changed is drawn below, on a scale of its own.
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
    largest = float(max(np.abs(each).max() for each in (after, before) if each is not None))
    parts = {"after training": (after, largest)}
    if before is not None:
        moved = after - before
        change = float(np.abs(moved).max())
        times = f", drawn {largest / change:.3g} times as strong" if change else ""
        parts = {"before training": (before, largest)} | parts
        parts[f"change{times}"] = moved, change
    height, width = after.shape[2:]
    panel = 0.5 * rows * height / width + 0.3
    figure = new_figure(max(0.5 * columns, 5), len(parts) * panel + 0.6)
    of = f", the first {number} of {len(after)}" if number < len(after) else ""
    figure.suptitle(title + of, fontsize=10, parse_math=False)
    panels = figure.subplots(len(parts), squeeze=False)[:, 0]
    for axes, (name, (weights, scale)) in zip(panels, parts.items(), strict=True):
        axes.set_title(name, fontsize=8, color=GREY, loc="left", pad=3)
        scale = scale or 1.0
        if weights.shape[1] == 3:
            tiles, style = 0.5 + weights.transpose(0, 2, 3, 1) / (2 * scale), {}
        else:
            scale *= weights.shape[1]
            style = {"cmap": "RdBu_r", "vmin": -scale, "vmax": scale}
            tiles = weights.sum(axis=1)
        _tiled(axes, tiles[:number], columns, style)
    return finished(figure)


def _tiled(axes: Any, tiles: NDArray[Any], columns: int, style: dict[str, Any]) -> None:
    """Draw images (K, H, W) or (K, H, W, 3) in rows, from the left, with a border around each."""
    repeats = max(1, FINENESS // tiles.shape[2])  # so that the gaps of small images fit too
    tiles = tiles.repeat(repeats, axis=1).repeat(repeats, axis=2)
    height, width = tiles.shape[1:3]
    gap = max(1, width // 6)
    rows = math.ceil(len(tiles) / columns)
    shape = rows * (height + gap) - gap, columns * (width + gap) - gap
    canvas = np.full((*shape, *tiles.shape[3:]), 1.0 if tiles.ndim == 4 else np.nan)
    axes.set_axis_off()
    axes.set_anchor("W")
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = tile
        axes.add_patch(frame(left - 0.5, top - 0.5, width, height))
    axes.imshow(canvas, interpolation="nearest", **style)


@drawing()
def feature_maps(network: Any, image: NDArray[Any], title: str = "", *, ink: bool = True) -> Figure:
    """Draw what a network's convolutions make of an image, each with the activation after it.

    Parameters
    ----------
    network : Network
    image : ndarray
        (C, H, W), as the network takes it.
    title : str
    ink : bool
        The image's values go from paper to ink; else from black to white.

    Returns
    -------
    Figure
        A row for the image, and one for each convolution, or for 8 of them, the first and the
        last included; in it the maps of the first 16 channels, from white, 0 or less, to the
        row's largest value.

    Raises
    ------
    ArgumentError
        A network without convolutions.
    ShapeError
        An image that it does not take.
    MissingDependency
        Matplotlib is not installed.
    """
    x = np.asarray(image, network.dtype)
    seen = _Maps(network, x)
    seen.through(network, x[None])
    if not seen.found:
        raise ArgumentError("feature_maps: the network has no convolution")
    chosen = np.unique(
        np.linspace(0, len(seen.found) - 1, min(MOST_LAYERS, len(seen.found))).round().astype(int)
    )
    rows = [("image", seen.image), *(seen.found[index] for index in chosen)]
    most = min(MOST_MAPS, max(len(maps) for _, maps in rows))
    figure = new_figure(0.57 * most + 1.6, 0.66 * len(rows) + 0.5)
    figure.suptitle(title, fontsize=10, parse_math=False)
    panels = figure.subplots(len(rows), squeeze=False)[:, 0]
    for axes, (name, maps) in zip(panels, rows, strict=True):
        highest = float(maps.max())
        style = {"cmap": "Greys", "vmin": 0, "vmax": highest if highest > 0 else 1}
        if maps is x and not ink:
            style |= {"cmap": "gray", "vmin": float(maps.min())}
        _tiled(axes, maps[:most], most, style)
        size, maps_of = " x ".join(map(str, maps.shape[1:])), "map" if len(maps) == 1 else "maps"
        axes.text(
            -0.01,
            0.5,
            f"{name}\n{len(maps)} {maps_of} of {size}",
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=7,
            color=GREY,
        )
    return finished(figure)


class _Maps(Tracer[NDArray[Any]]):
    """Runs an image and keeps the output of each convolution."""

    def __init__(self, network: Any, image: NDArray[Any]) -> None:
        super().__init__(network)
        self.image = image
        self.found: list[tuple[str, NDArray[Any]]] = []
        self._last: NDArray[Any] | None = None

    def layer(self, path: LayerPath, layer: Any, value: NDArray[Any]) -> NDArray[Any]:
        out = run_layer(layer, value, False)
        if isinstance(layer, Convolution):
            self.found.append((f"convolution {self.name(path, layer)}", out[0]))
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
