"""The report's pictures, as PNG bytes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .results import Results, Row, distinct

__all__ = ["backends_side_by_side", "batch_cost", "cold_start", "peer_ratios", "roofline"]

COLOURS = {"cython": "#1f5fa8", "numba": "#d9730d", "numpy": "#8a8f94"}
OTHERS = "#5f6368"
MARKERS = {"conv2d": "o", "im2col": "s", "col2im": "s", "maxpool2d": "^", "affine": "D"}
DPI = 110


def _colour(name: str) -> str:
    return COLOURS.get(name.removeprefix("fastconv "), OTHERS)


def _png(figure: Figure) -> bytes:
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=DPI)
    return memory.getvalue()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained")


def _logarithmic(axes: Axes, which: str) -> None:
    """A logarithmic axis whose ticks read 1, 2, 5, 10 and not powers."""
    getattr(axes, f"set_{which}scale")("log")
    axis = getattr(axes, f"{which}axis")
    low, high = getattr(axes, f"get_{which}lim")()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e3 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count > 1)}"


def backends_side_by_side(rows: list[Row], title: str) -> bytes:
    """A line a shape with a dot for each backend; the scale is logarithmic."""
    shapes = distinct(row.shape for row in rows)
    figure = _figure(9, 1.4 + 0.34 * len(shapes))
    axes = figure.subplots()
    for name, colour in COLOURS.items():
        here = [row for row in rows if row.backend == name]
        if not here:
            continue
        times = [1e3 * row.seconds for row in here]
        places = [shapes.index(row.shape) for row in here]
        axes.scatter(times, places, color=colour, label=name, s=40, zorder=3)
    axes.set_yticks(range(len(shapes)), [shape.partition(":")[2] or shape for shape in shapes])
    axes.invert_yaxis()
    axes.margins(y=0.12)
    _logarithmic(axes, "x")
    axes.grid(axis="both", alpha=0.3)
    axes.set_xlabel("milliseconds, logarithmic: further left is faster")
    axes.set_title(title)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return _png(figure)


def peer_ratios(results: Results, ours: str) -> bytes:
    """The time of each contender as a multiple of ours: bars to the right of 1 are slower."""
    rows = [r for r in results.of("test_peer") if ours in r.info["times_as_long_as"]]
    groups = distinct((r.operation, r.threads) for r in rows)
    lines = (len(groups) + 1) // 2
    figure = _figure(10, 0.8 + 2.6 * lines)
    panels = np.ravel(figure.subplots(lines, min(2, len(groups)), squeeze=False))
    for axes in panels[len(groups) :]:
        axes.set_axis_off()
    for axes, (operation, threads) in zip(panels, groups, strict=False):
        here = [r for r in rows if (r.operation, r.threads) == (operation, threads)]
        here.sort(key=lambda row: row.info["times_as_long_as"][ours])
        values = np.array([row.info["times_as_long_as"][ours] for row in here])
        names = [row.backend for row in here]
        # On a logarithmic scale a length means something from 1 on only.
        axes.barh(names, values - 1, left=1, color=[_colour(name) for name in names])
        for place, value in enumerate(values):
            right = value >= 1
            axes.annotate(
                f"{value:.2f}",
                (value, place),
                (4 if right else -4, 0),
                textcoords="offset points",
                ha="left" if right else "right",
                va="center",
                fontsize=8,
            )
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xlim(min(0.5, values.min() / 1.5), max(2, values.max() * 1.8))
        axes.invert_yaxis()
        _logarithmic(axes, "x")
        axes.tick_params(labelsize=8)
        task = operation.removesuffix(" against peers")
        axes.set_title(f"{task}, {_threads(threads)}", fontsize=10)
    figure.supxlabel(f"time as a multiple of {ours}, logarithmic: above 1 is slower", fontsize=9)
    return _png(figure)


def roofline(results: Results, backend: str, dtype: str) -> bytes | None:
    """Each kernel that has operations to count, under what the machine can do."""
    rows = [
        row
        for row in results.of("test_kernel", backend=backend, dtype=dtype)
        if "gflops" in row.info and "bytes" in row.info
    ]
    if not rows:
        return None
    threads = rows[0].threads
    peak = results.machine["peaks"][str(threads)]
    flops, bandwidth = peak[f"{dtype} GFLOP/s"], peak["GB/s"]
    figure = _figure(9, 5.5)
    axes = figure.subplots()
    intensity = np.array([_intensity(row) for row in rows])
    reach = np.geomspace(min(intensity.min(), flops / bandwidth) / 2, 2 * intensity.max(), 200)
    axes.plot(reach, np.minimum(flops, bandwidth * reach), color="black", linewidth=1.2)
    axes.text(reach[-1], flops * 1.06, f"{flops:.0f} GFLOP/s, measured", ha="right", fontsize=8)
    axes.annotate(
        f"{bandwidth:.0f} GB/s, measured",
        (reach[0], bandwidth * reach[0]),
        (10, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(_kind(row), []).append(row)
    for number, (kind, members) in enumerate(kinds.items()):
        axes.scatter(
            [_intensity(row) for row in members],
            [row.info["gflops"] for row in members],
            s=26,
            alpha=0.8,
            color=f"C{number % 10}",
            marker=MARKERS.get(kind.partition("_")[0], "o"),
            label=kind,
        )
    rates = [row.info["gflops"] for row in rows]
    axes.set_ylim(min(rates) / 2, 2 * max(flops, *rates))
    _logarithmic(axes, "x")
    _logarithmic(axes, "y")
    axes.set_xlabel("operations a byte (each input read once, each output written once)")
    axes.set_ylabel("GFLOP/s, counted as direct")
    axes.set_title(f"{backend}, {dtype}, {_threads(threads)}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=7)
    return _png(figure)


def _intensity(row: Row) -> float:
    return row.info["gflops"] * 1e9 * row.seconds / row.info["bytes"]


def _kind(row: Row) -> str:
    """The kernel, and for a convolution its window: what a colour stands for."""
    window = row.shape.rpartition(",")[2] if row.operation.startswith("conv2d") else ""
    return f"{row.operation} {window}".strip()


def batch_cost(results: Results) -> bytes:
    """Time of one image against the batch that it comes in, task by task."""
    rows = results.of("test_network", dtype="float32")
    tasks = distinct(row.operation for row in rows)
    figure = _figure(10, 1 + 3 * ((len(tasks) + 1) // 2))
    panels = np.ravel(figure.subplots((len(tasks) + 1) // 2, min(2, len(tasks)), squeeze=False))
    for axes in panels[len(tasks) :]:
        axes.set_axis_off()
    for axes, task in zip(panels, tasks, strict=False):
        here = [row for row in rows if row.operation == task]
        for name, threads in distinct((row.backend, row.threads) for row in here):
            points: list[Any] = sorted(
                (row.info["batch"], 1e6 * row.seconds / row.info["batch"])
                for row in here
                if (row.backend, row.threads) == (name, threads)
            )
            axes.plot(
                *zip(*points, strict=True),
                marker="o",
                color=_colour(name),
                linestyle="--" if threads == 1 else "-",
                label=f"{name}, {_threads(threads)}",
            )
        _logarithmic(axes, "x")
        _logarithmic(axes, "y")
        axes.set_xlabel("batch")
        axes.set_ylabel("microseconds an image")
        axes.set_title(task, fontsize=10)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7)
    return _png(figure)


def cold_start(results: Results) -> bytes:
    """Bars of the seconds from process start to the first step."""
    rows = sorted(results.of("test_first_training_step"), key=lambda row: row.seconds)
    figure = _figure(9, 1 + 0.4 * len(rows))
    axes = figure.subplots()
    names = [row.backend for row in rows]
    colours = [_colour(name.partition(",")[0]) for name in names]
    bars = axes.barh(names, [row.seconds for row in rows], color=colours)
    axes.bar_label(bars, fmt="%.2f s", padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("seconds from process start to the first training step, batch 100")
    return _png(figure)
