"""Pictures of a search: its trials by what was drawn, and how the best ones learned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .style import BLUE, GREY, ORANGE, drawing, finished, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["search", "search_curves"]

MOST_CURVES = 20
COLUMNS = 5
DECADES = 10
"""From this ratio of the largest to the smallest number on, an axis is logarithmic."""


@drawing()
def search(trials: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Figure:
    """Draw each trial at the settings that were drawn for it, with its accuracy as colour.

    Parameters
    ----------
    trials : sequence of dict
        As `fastconv.experiment.search.Trial` has them; those without accuracy are crosses.
    names : sequence of str
        The settings: the first two are the axes. Of one alone, the accuracy is the other axis.

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    figure = new_figure(6.4, 4.8)
    axes = figure.subplots()
    ended = [trial for trial in trials if trial["accuracy"] is not None]
    failed = [trial for trial in trials if trial["accuracy"] is None]
    accuracies = [100 * trial["accuracy"] for trial in ended]
    x, y = names[0], names[1] if len(names) > 1 else None
    below = min(accuracies, default=0.0)
    place = _scale(axes, "x", x, trials), (None if y is None else _scale(axes, "y", y, trials))

    def where(some: Sequence[Mapping[str, Any]], heights: Sequence[float]) -> tuple[Any, Any]:
        across = [place[0](trial["settings"][x]) for trial in some]
        if place[1] is None:
            return across, heights
        return across, [place[1](trial["settings"][y]) for trial in some]

    if failed:
        axes.scatter(
            *where(failed, [below] * len(failed)), marker="x", color=GREY, label="no result"
        )
    points = axes.scatter(
        *where(ended, accuracies), c=accuracies, cmap="viridis", s=48, edgecolor="white"
    )
    if ended:
        best = ended[:1]
        ring: dict[str, Any] = {
            "s": 140,
            "facecolor": "none",
            "edgecolor": ORANGE,
            "linewidth": 1.8,
        }
        axes.scatter(*where(best, accuracies[:1]), label=f"best: {accuracies[0]:.2f} %", **ring)
    if y is None:
        axes.set_ylabel("Validation accuracy in %")
    else:
        figure.colorbar(points, ax=axes, label="Validation accuracy in %")
    axes.set_title(f"{len(trials)} trials", fontsize=11, loc="left", color=GREY)
    axes.grid(color="#e3e5e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    return finished(figure)


def _scale(axes: Axes, which: str, name: str, trials: Sequence[Mapping[str, Any]]) -> Any:
    """Name and scale an axis; return what tells the place of a value on it."""
    axis = getattr(axes, f"{which}axis")
    getattr(axes, f"set_{which}label")(name.replace("_", " "))
    values = [trial["settings"][name] for trial in trials]
    if all(isinstance(value, int | float) for value in values):
        if min(values) > 0 and max(values) >= DECADES * min(values):
            getattr(axes, f"set_{which}scale")("log")
        return float
    known = sorted({str(value) for value in values})
    axis.set_ticks(range(len(known)), known)
    return lambda value: known.index(str(value))


@drawing()
def search_curves(trials: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against epochs for the best trials, the first `MOST_CURVES`.

    Parameters
    ----------
    trials : sequence of dict
        As for `search`, the best first.

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    from matplotlib.ticker import MaxNLocator

    shown = [trial for trial in trials if trial["accuracy"] is not None][:MOST_CURVES]
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = new_figure(2.2 * columns + 0.4, 1.9 * rows + 0.5)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, trial in zip(grid, shown, strict=False):
        for curve, colour, line, label in (
            (trial["curve"], BLUE, "-", "validation"),
            (trial["training"], ORANGE, "--", "training"),
        ):
            points = [math.nan if value is None else 100 * value for value in curve]
            marker = "." if len(points) <= 12 else ""
            axes.plot(
                range(1, len(points) + 1), points, line, color=colour, marker=marker, label=label
            )
        axes.set_title(f"{trial['number']}: {100 * trial['accuracy']:.2f} %", fontsize=9)
        axes.set_ylim(0, 101)
        axes.grid(color="#e3e5e8", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    grid[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0].legend(frameon=False, fontsize=7)
    figure.supxlabel("Epoch", fontsize=10)
    figure.supylabel("Accuracy in %", fontsize=10)
    return finished(figure)
