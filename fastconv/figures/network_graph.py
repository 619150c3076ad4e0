"""A network drawn as a graph, from the image at the top to the scores at the bottom.

A box is a layer, or a convolution with the normalisation and activation after it. Branches are
side by side; a shortcut runs beside its body to the circle where the two are added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..geometry import shown_stride
from ..layers import Affine, Convolution
from ..layers.containers import AuxiliaryHead, Shortcut
from ..layers.tree import LayerPath, Tracer
from ..network.network import Network
from ..network.summary import layer_facts
from .style import BLUE, GREEN, GREY, ORANGE, RED, drawing, finished, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["graph"]

WIDTH, LINE, GAP, ASIDE = 3.6, 0.36, 0.45, 0.5
"""Width of a box, height of a line of text, gaps between boxes down and across."""

JOIN = 0.24
"""Radius of the circle where lines join."""

TALLEST = 26.0
"""Height above which the drawing continues in another column."""

INCH = 0.42
"""Inches of one unit of the sizes above."""


@dataclass
class _Box:
    """A layer, and lines of text about it."""

    lines: list[str]
    colour: str

    @property
    def left(self) -> float:
        return WIDTH / 2

    right = left

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 0.2

    def draw(self, axes: Axes, x: float, y: float) -> None:
        from matplotlib.patches import FancyBboxPatch

        corner, style = (x - self.left, y - self.height), "round,pad=0,rounding_size=0.12"
        axes.add_patch(
            FancyBboxPatch(
                corner,
                WIDTH,
                self.height,
                boxstyle=style,
                facecolor=self.colour + "22",
                edgecolor=self.colour,
            )
        )
        for number, line in enumerate(self.lines):
            axes.text(
                x,
                y - 0.1 - LINE * (number + 0.5),
                line,
                ha="center",
                va="center",
                fontsize=7.5 if number == 0 else 6.5,
                color="black" if number == 0 else GREY,
            )


@dataclass
class _Column:
    """Parts one below another."""

    parts: Sequence[Any]

    @property
    def left(self) -> float:
        return max((part.left for part in self.parts), default=0)

    @property
    def right(self) -> float:
        return max((part.right for part in self.parts), default=0)

    @property
    def height(self) -> float:
        return sum(part.height for part in self.parts) + GAP * max(len(self.parts) - 1, 0)

    def draw(self, axes: Axes, x: float, y: float) -> None:
        for number, part in enumerate(self.parts):
            if number:
                _arrow(axes, (x, y), (x, y - GAP))
                y -= GAP
            part.draw(axes, x, y)
            y -= part.height


@dataclass
class _Row:
    """Branches side by side, from where they part to where they join."""

    parts: Sequence[_Column]

    @property
    def left(self) -> float:
        across = sum(part.left + part.right for part in self.parts)
        return (across + ASIDE * (len(self.parts) - 1)) / 2

    right = left

    @property
    def height(self) -> float:
        return max(part.height for part in self.parts) + 2 * GAP + 2 * JOIN

    def draw(self, axes: Axes, x: float, y: float) -> None:
        end = y - self.height + 2 * JOIN
        start = x - self.left
        for part in self.parts:
            own = start + part.left
            _line(axes, (x, y), (own, y))
            if part.parts:
                _arrow(axes, (own, y), (own, y - GAP))
            part.draw(axes, own, y - GAP)
            _line(axes, (own, y - GAP - part.height), (own, end), (x, end))
            start += part.left + part.right + ASIDE
        _join(axes, x, end - JOIN, "c")


@dataclass
class _Beside:
    """A body with its shortcut; an empty column is the identity."""

    body: _Column
    aside: _Column

    @property
    def left(self) -> float:
        return self.body.left

    @property
    def right(self) -> float:
        return self.body.right + ASIDE + self.aside.left + self.aside.right

    @property
    def height(self) -> float:
        return max(self.body.height, self.aside.height) + 2 * GAP + 2 * JOIN

    def draw(self, axes: Axes, x: float, y: float) -> None:
        centre = y - self.height + JOIN
        own = x + self.body.right + ASIDE + self.aside.left
        _arrow(axes, (x, y), (x, y - GAP))
        self.body.draw(axes, x, y - GAP)
        _arrow(axes, (x, y - GAP - self.body.height), (x, centre + JOIN))
        _line(axes, (x, y - GAP / 3), (own, y - GAP / 3), (own, y - GAP))
        self.aside.draw(axes, own, y - GAP)
        _line(axes, (own, y - GAP - self.aside.height), (own, centre))
        _arrow(axes, (own, centre), (x + JOIN, centre))
        _join(axes, x, centre, "+")


@drawing()
def graph(network: Network, input_shape: tuple[int, ...], title: str) -> Figure:
    """Draw the graph of a network's layers.

    Parameters
    ----------
    network : Network
    input_shape : tuple of int
        Shape of one sample; a forward pass of zeros finds the other shapes.
    title : str

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    shapes = {
        fact.name: _shape_text(fact.output_shape) for fact in layer_facts(network, input_shape)
    }
    first = _Box(["input", _shape_text(input_shape)], GREY)
    columns = list(_wrapped([first, *_Parts(network, shapes).through(network, [])]))
    across = sum(column.left + column.right + 2 * ASIDE for column in columns)
    tall = max(column.height for column in columns) + 2
    figure = new_figure(max(across, 6) * INCH, tall * INCH)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, max(across, 6))
    axes.set_ylim(-tall, 0)
    axes.text(ASIDE, -0.6, title, fontsize=11, va="center")
    start = 0.0
    for column in columns:
        column.draw(axes, start + ASIDE + column.left, -1.4)
        start += column.left + column.right + 2 * ASIDE
    return finished(figure)


def _shape_text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _wrapped(parts: Sequence[Any]) -> Iterator[_Column]:
    """The parts in columns of about the same height, none much taller than `TALLEST`."""
    whole = _Column(parts).height
    most = whole / max(1, round(whole / TALLEST))
    column: list[Any] = []
    for part in parts:
        if column and _Column([*column, part]).height > most + GAP:
            yield _Column(column)
            column = []
        column.append(part)
    yield _Column(column)


class _Parts(Tracer[list[Any]]):
    """Layers in a row as parts of the drawing, with texts of their shapes by their names."""

    def __init__(self, network: Network, shapes: dict[str, str]) -> None:
        super().__init__(network)
        self.shapes = shapes

    def layer(self, path: LayerPath, layer: Any, value: list[Any]) -> list[Any]:
        _add_layer(value, layer, self.shapes[self.name(path, layer)])
        return value

    def fork(self, value: list[Any]) -> list[Any]:
        return []

    def join(
        self, path: LayerPath, layer: Any, value: list[Any], branches: list[list[Any]]
    ) -> list[Any]:
        columns = [_Column(parts) for parts in branches]
        if isinstance(layer, Shortcut):
            return [*value, _Beside(*columns, *[_Column([])] * (2 - len(columns)))]
        return [*value, _Row(columns)]

    def head(self, path: LayerPath, layer: AuxiliaryHead, value: list[Any]) -> list[Any]:
        return [*value, _Box(["auxiliary head", "in training"], RED)]


def _add_layer(parts: list[Any], layer: Any, shape: str) -> None:
    kind = type(layer).__name__
    if isinstance(layer, Convolution):
        height, width = layer.W.shape[2:]
        stride = shown_stride(layer.stride)
        moved = f", stride {stride}" if stride != "1" else ""
        parts.append(_Box([f"{height} x {width} convolution{moved}", shape], BLUE))
    elif isinstance(layer, Affine):
        parts.append(_Box(["affine", shape], GREEN))
    elif kind in BELONGS and parts and isinstance(parts[-1], _Box) and parts[-1].colour != ORANGE:
        parts[-1].lines.insert(-1, BELONGS[kind])
    else:
        parts.append(_Box([BELONGS.get(kind, kind), shape], ORANGE))


BELONGS = {
    "BatchNormalization": "batch normalisation",
    "BatchNormalization2d": "batch normalisation",
    "Relu": "ReLU",
    "Dropout": "dropout",
}
"""The text that a layer adds to the box of the layer before it, by class name."""


def _line(axes: Axes, *points: tuple[float, float]) -> None:
    axes.plot(*zip(*points, strict=True), color=GREY, linewidth=0.9, solid_capstyle="round")


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops={**style, "mutation_scale": 7})


def _join(axes: Axes, x: float, y: float, sign: str) -> None:
    from matplotlib.patches import Circle

    axes.add_patch(Circle((x, y), JOIN, facecolor="white", edgecolor=GREY))
    axes.text(x, y, sign, ha="center", va="center", fontsize=8, color=GREY)
