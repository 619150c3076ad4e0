"""Pictures of a run's results: training curves, mistakes, confusion matrix; and of augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, drawing, finished, frame, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["confusion", "curves", "mistakes", "samples"]

MOST_TILES = 60
FEWEST_COLUMNS, MOST_COLUMNS = 7, 10  # fewer leave no space for the title
LONGEST_NAME = 14
MOST_COUNTS = 40  # classes of a confusion matrix whose cells still hold a number


@drawing()
def curves(
    step_losses: Sequence[float],
    history: Sequence[dict[str, Any]],
    title: str,
    kept: int | None = None,
) -> Figure:
    """Draw loss and accuracy against epochs.

    Parameters
    ----------
    step_losses : sequence of float
        Loss of each step.
    history : sequence of dict
        One dict for each finished epoch, as in `fastconv.trainer.Trainer.history`.
    title : str
    kept : int, optional
        The epoch whose weights the run ended with, if it was chosen by validation.

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    figure = new_figure(10, 4.2)
    loss, accuracy = figure.subplots(1, 2)
    figure.suptitle(title, fontsize=13, parse_math=False)  # the name of a user's folder
    epochs = [record["epoch"] for record in history]
    steps_per_epoch = history[-1]["iteration"] / epochs[-1] if history else 1
    where = (np.arange(len(step_losses)) + 1) / steps_per_epoch
    loss.plot(where, step_losses, color=BLUE, alpha=0.25, linewidth=0.7, label="each step")
    # An epoch's mean is drawn at the middle of the epoch.
    middles = [epoch - 0.5 for epoch in epochs]
    means = [record["train_loss"] for record in history]
    loss.plot(middles, means, color=BLUE, linewidth=2, marker=_marker(epochs), label="epoch mean")
    validated = [(r["epoch"], r["validation_loss"]) for r in history if _has(r, "validation_loss")]
    if validated:
        line = {"color": PURPLE, "linewidth": 2, "marker": _marker(epochs)}
        loss.plot(*zip(*validated, strict=True), label="validation images", **line)
    _mark_kept(loss, kept)
    _finish_panel(loss, "Loss" if validated else "Training loss", epochs)
    loss.set_ylim(bottom=0)

    for key, name, colour in (
        ("train_accuracy", "training images", ORANGE),
        ("validation_accuracy", "validation images", PURPLE),
        ("test_accuracy", "test images", GREEN),
    ):
        points = [(r["epoch"], 100 * r[key]) for r in history if _has(r, key)]
        if points:
            label = f"{name} (last: {points[-1][1]:.2f} %)"
            accuracy.plot(
                *zip(*points, strict=True),
                color=colour,
                linewidth=2,
                marker=_marker(epochs),
                label=label,
            )
    _mark_kept(accuracy, kept)
    _finish_panel(accuracy, "Accuracy in %", epochs)
    return finished(figure)


def _has(record: dict[str, Any], key: str) -> bool:
    """Whether an epoch's record has the number; runs from before there was validation lack some."""
    return record.get(key) is not None and math.isfinite(record[key])


def _mark_kept(axes: Axes, kept: int | None) -> None:
    if kept is not None:
        axes.axvline(kept, color=GREY, linestyle="--", linewidth=1, label=f"kept: epoch {kept}")


def _marker(epochs: Sequence[int]) -> str:
    """Points if they are few enough to tell apart, otherwise only a line."""
    return "o" if len(epochs) <= 12 else ""


def _finish_panel(axes: Axes, title: str, epochs: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_title(title, fontsize=11, loc="left", color=GREY)
    axes.set_xlabel("Epoch")
    axes.set_xlim(0, epochs[-1] * 1.02 if epochs else 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(color="#e3e5e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="best", fontsize=9)


@drawing()
def mistakes(
    images: NDArray[Any],
    labels: NDArray[np.integer],
    answers: NDArray[np.integer],
    label_names: Sequence[str],
    *,
    names: Sequence[str] | None = None,
    ink: bool = True,
    restore: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
) -> Figure:
    """Draw the images that were answered wrongly, as in chapter 8 of the book.

    Parameters
    ----------
    images : ndarray
        (N, C, H, W), the whole test set: grey, or colour in 3 channels.
    labels, answers : ndarray of int
        (N,), the true class of each image and the network's answer.
    label_names : sequence of str
        By class.
    names : sequence of str, optional
        Of each image, such as its file's path; the last part is written below the image.
    ink : bool
        Grey goes from 0, paper, to 1, ink; else from black to white.
    restore : callable, optional
        Brings images back to 0..1.

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    wrong = np.flatnonzero(labels != answers)
    shown = wrong[:MOST_TILES]
    total = len(labels)
    if len(wrong) == 0:
        title = f"No mistakes: all {total:,} test images are read correctly"
    else:
        title = f"{len(wrong):,} of {total:,} test images misread"
        if len(shown) < len(wrong):
            title += f", the first {len(shown)} shown"
    columns = min(MOST_COLUMNS, max(FEWEST_COLUMNS, math.ceil(math.sqrt(1.6 * len(shown)))))
    rows = math.ceil(len(shown) / columns)
    channels, height, width = images.shape[1:]
    gap = max(2, width // 7)
    below = max(gap, height // 5) if names is not None else gap
    size = max(1, rows * (height + below) - gap), columns * (width + gap) - gap
    colour = channels == 3
    canvas = np.full((*size, 3), 1.0) if colour else np.full(size, np.nan)
    tiles = images[shown] if restore is None else restore(images[shown])
    corners = [
        ((i // columns) * (height + below), (i % columns) * (width + gap))
        for i in range(len(shown))
    ]
    for (top, left), tile in zip(corners, tiles, strict=True):
        # Rounding may take restored images out of 0..1, which Matplotlib would warn of.
        pixels = np.clip(tile, 0, 1).transpose(1, 2, 0) if colour else tile[0]
        canvas[top : top + height, left : left + width] = pixels

    figure = new_figure(0.85 * columns, 0.85 * rows * (height + below) / (width + gap) + 0.8)
    figure.suptitle(title, fontsize=12)
    if len(shown):
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.set_title(
            "true label top left, the network's answer bottom right", fontsize=9, color=GREY
        )
        # Ink is drawn lighter, so that labels in the corners can be read; photographs are not.
        greys: dict[str, Any] = {"cmap": "Greys", "vmin": 0, "vmax": 1.25}
        greys = greys if ink else {"cmap": "gray", "vmin": 0, "vmax": 1}
        axes.imshow(canvas, interpolation="nearest", **greys)
        used = np.concatenate([labels[shown], answers[shown]])
        corner = _corner_style(max(len(_short(label_names[label])) for label in used))
        for (top, left), index in zip(corners, shown, strict=True):
            axes.add_patch(frame(left - 0.5, top - 0.5, width, height))
            axes.text(
                left + 0.4,
                top + 0.2,
                _short(label_names[labels[index]]),
                color=GREEN,
                va="top",
                **corner,
            )
            axes.text(
                left + width - 1.4,
                top + height - 0.8,
                _short(label_names[answers[index]]),
                color=RED,
                va="bottom",
                ha="right",
                **corner,
            )
            if names is not None:
                axes.text(
                    left + width / 2 - 0.5,
                    top + height,
                    _short(PurePosixPath(names[index]).name, 20),
                    color=GREY,
                    ha="center",
                    va="top",
                    fontsize=5,
                    parse_math=False,
                )
    return finished(figure)


def _short(name: str, most: int = LONGEST_NAME) -> str:
    """A name that fits across an image."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _corner_style(longest: int) -> dict[str, Any]:
    """Bold with a white rim, to be readable on a stroke in the corner."""
    from matplotlib.patheffects import withStroke

    rim = withStroke(linewidth=2.5, foreground="white")
    size = min(10, max(5, 70 / longest))
    # Names of classes are the user's: a dollar sign in them must not begin a formula.
    return {"fontsize": size, "fontweight": "bold", "path_effects": [rim], "parse_math": False}


@drawing()
def confusion(confusion: NDArray[np.integer], label_names: Sequence[str]) -> Figure:
    """Draw how often each class was taken for which.

    Parameters
    ----------
    confusion : ndarray of int
        (K, K): images of the true class (row) that were given the answer (column).
    label_names : sequence of str
        By class.

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    classes = len(label_names)
    side = min(max(6.4, 0.45 * classes), 18)
    figure = new_figure(side, side)
    axes = figure.add_subplot()
    right, total = int(np.trace(confusion)), int(confusion.sum())
    share = f" ({100 * right / total:.2f} %)" if total else ""
    axes.set_title(f"{right:,} of {total:,} test images read correctly{share}", pad=12)
    # The diagonal would drown the mistakes, so that only mistakes are coloured.
    mistakes = confusion.astype(float)
    np.fill_diagonal(mistakes, np.nan)
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(8.0, 1.6 * np.nanmax(mistakes, initial=0)))
    axes.set_facecolor("#eaf3ec")
    for row, column in np.ndindex(*confusion.shape) if classes <= MOST_COUNTS else ():
        count = int(confusion[row, column])
        if row == column:
            axes.text(column, row, f"{count}", color=GREEN, fontweight="bold", **_CELL)
        elif count:
            axes.text(column, row, f"{count}", color="black", **_CELL)
    names = [_short(name) for name in label_names]
    upright = max(map(len, names)) > 3
    axes.set_xticks(range(classes), names, rotation=90 if upright else 0, parse_math=False)
    axes.set_yticks(range(classes), names, parse_math=False)
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("true label")
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#d5d8dc", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    return finished(figure)


@drawing()
def samples(rows: NDArray[Any], title: str) -> Figure:
    """Draw images, and below each image its changed versions.

    Parameters
    ----------
    rows : ndarray
        (R, K, C, H, W): K images, then R - 1 rows of their changed versions; grey from 0, paper,
        to 1, ink, or colour in 3 channels.
    title : str

    Raises
    ------
    MissingDependency
        Matplotlib is not installed.
    """
    count, columns, channels, height, width = rows.shape
    gap = max(2, width // 7)
    shape = count * (height + gap) + gap, columns * (width + gap) - gap
    canvas = np.ones((*shape, 3)) if channels == 3 else np.zeros(shape)
    tops = [row * (height + gap) + gap * (row > 0) for row in range(count)]  # the first apart
    for row, column in np.ndindex(count, columns):
        top, left = tops[row], column * (width + gap)
        tile = np.clip(rows[row, column], 0, 1).transpose(1, 2, 0)
        canvas[top : top + height, left : left + width] = tile if channels == 3 else tile[..., 0]
    figure = new_figure(0.7 * columns + 0.8, 0.7 * shape[0] / (width + gap) + 0.5)
    figure.suptitle(title, fontsize=10)
    axes = figure.add_subplot()
    axes.imshow(canvas, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([top + height / 2 for top in tops[:2]], ["image", "changed"][:count])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(count, columns):
        axes.add_patch(frame(column * (width + gap) - 0.5, tops[row] - 0.5, width, height))
    return finished(figure)


_CELL: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
