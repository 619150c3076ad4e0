"""Views of an image as ONNX operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from .onnx_graph import Graph

__all__ = ["add_view"]


def add_view(graph: Graph, view: Any) -> None:
    """Add the operators of a `fastconv.network.views.View` to the end of a graph.

    Raises
    ------
    ArgumentError
        It moves pixels, and the graph's images have no known size.
    """
    if (view.down, view.right, view.mirrored, view.turned, view.scaled) == (0, 0, False, 0, 1):
        return
    _, height, width = graph.shape
    if isinstance(height, str) or isinstance(width, str):
        raise ArgumentError("export_onnx: views depend on the size of the images: pass input_shape")
    if view.turned or view.scaled != 1:
        _add_warp(graph, view.matrix(height, width), height, width)
        return
    if view.mirrored:
        graph.add("Gather", graph.whole_numbers("mirrored", [*range(width)][::-1]), axis=3)
    down = max(-height, min(view.down, height))
    right = max(-width, min(view.right, width))
    if down or right:
        # What leaves the image is cut off first: ONNX's negative pads are little known.
        limits = {
            "starts": [max(-down, 0), max(-right, 0)],
            "ends": [height - max(down, 0), width - max(right, 0)],
            "axes": [2, 3],
        }
        graph.add("Slice", *(graph.whole_numbers(*each) for each in limits.items()))
        graph.pad([0, 0, max(down, 0), max(right, 0)], [0, 0, max(-down, 0), max(-right, 0)])


def _add_warp(graph: Graph, matrix: np.ndarray, height: int, width: int) -> None:
    """Take each pixel from the place that the matrix (2, 3) gives, as `fastconv.ops.warp` does."""
    rows, columns = np.mgrid[:height, :width]
    places = np.stack([columns, rows, np.ones_like(rows)], axis=-1) @ matrix.T
    # GridSample counts from -1 to 1 between the centres of the outermost pixels.
    places = places * 2 / np.maximum([width - 1, height - 1], 1) - 1
    image = graph.end
    batch = graph.join("Shape", image, start=0, end=1)
    rest = graph.whole_numbers("grid", [height, width, 2])
    sizes = graph.join("Concat", batch, rest, axis=0)
    grid = graph.constant(f"places_{len(graph.nodes)}", places[None])
    grid = graph.join("Expand", grid, sizes)
    graph.join("GridSample", image, grid, align_corners=1)
