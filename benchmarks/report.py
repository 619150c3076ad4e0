"""Tables of a measurement: ``python -m benchmarks.report results.json > report.md``.

pytest-benchmark's own tables show the times of each group and their ratios. These show what the
suite writes beside a time, in Markdown: backends side by side, ratios of contenders that took
turns, shares of what the machine can do, memory and sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from fastconv.io.records import read_record

from .machine import BACKENDS

__all__ = ["Measurement", "read", "report"]


@dataclass(frozen=True)
class Stats:
    """Of the rounds of a row, in seconds."""

    median: float


@dataclass(frozen=True)
class Row:
    """One benchmark of a results file; ``row[key]`` is what the suite wrote beside its time."""

    name: str
    group: str
    stats: Stats
    extra_info: dict[str, Any]

    @property
    def seconds(self) -> float:
        return self.stats.median

    def __getitem__(self, key: str) -> Any:
        return self.extra_info[key]


@dataclass(frozen=True)
class Measurement:
    """A results file: rows, and `machine.facts`."""

    datetime: str
    fastconv: dict[str, Any]
    benchmarks: list[Row]

    def of(self, *tests: str) -> list[Row]:
        """Rows of these test functions."""
        return [row for row in self.benchmarks if row.name.partition("[")[0] in tests]


def read(path: Path) -> Measurement:
    """Read what ``pytest benchmarks --benchmark-only --benchmark-json=PATH`` wrote.

    Raises
    ------
    DataCorrupt
        The file was not written by this suite.
    """
    return read_record(path.read_bytes(), Measurement, str(path))


def report(measurement: Measurement) -> str:
    """Return the whole report, of what there are rows for."""
    sections = (_machine, _peers, _network, _kernels, _layers, _cold_start)
    parts = [part for section in sections for part in section(measurement)]
    return "\n\n".join(["# fastconv, measured", *parts])


# ---- tables -----------------------------------------------------------------------


def table(head: Sequence[str], lines: Iterable[Sequence[Any]], text_columns: int = 1) -> str:
    """A Markdown table; all columns but the first few are numbers, to the right."""
    rules = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, rules, *lines))


def side_by_side(
    rows: list[Row], keys: Sequence[str], measures: dict[str, Callable[[Row], str]]
) -> str:
    """A table with a line for each value of the keys, a column for each measure and backend.

    A column without a value is left out.
    """
    found: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), {})[row["backend"]] = row
    columns = {}
    for label, text in measures.items():
        for backend in BACKENDS:
            cells = [text(line[backend]) if backend in line else "" for line in found.values()]
            if any(cells):
                columns[backend + label] = cells
    lines = [[*values, *cells] for values, *cells in zip(found, *columns.values(), strict=True)]
    return table([*keys, *columns], lines, text_columns=len(keys))


def time_text(seconds: float) -> str:
    """Seconds to three figures in a unit that suits them."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 0.9995:  # which three figures show as 1
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _time(row: Row) -> str:
    return time_text(row.seconds)


def _rate(row: Row) -> str:
    return f"{row['gflops']:.0f}" if "gflops" in row.extra_info else ""


def _roofline(row: Row) -> str:
    share = row.extra_info.get("share_of_roofline")
    return "" if share is None else f"{100 * share:.0f} %"


def _by(rows: list[Row], *keys: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values of some keys, in the order of their first appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return groups


# ---- sections: a heading, a paragraph, tables -------------------------------------


def _machine(measurement: Measurement) -> list[str]:
    facts = dict(measurement.fastconv)
    peaks = facts.pop("peaks")
    lines = [
        [
            name,
            ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value,
        ]
        for name, value in facts.items()
    ]
    for threads, peak in peaks.items():
        text = ", ".join(f"{value:.0f} {unit}" for unit, value in peak.items())
        lines.append([f"measured peaks, threads: {threads}", text])
    lines.append(["measured", measurement.datetime])
    return [
        "## What was measured on",
        "Medians. Machines drift and are shared: a ratio within one table says more than a time, "
        "and differences of a few per cent say nothing. The peaks were measured at the same time: "
        "multiply-adds in registers, and a copy between arrays larger than any cache.",
        table(["", "value"], lines, text_columns=2),
    ]


def _peers(measurement: Measurement) -> list[str]:
    parts = [
        "## Against other libraries",
        "DeepConvNet with the same weights, images and threads, batch 100, float32 (the book's own "
        "code: float64); the results were compared first. Contenders took turns. A training step "
        "is the gradient and Adam's update. A ratio is taken within each launch, and its median "
        "over the launches given; the times are medians over all of them.",
    ]
    for (operation, threads), rows in _by(
        measurement.of("test_peer"), "operation", "threads"
    ).items():
        ours = list(dict.fromkeys(name for row in rows for name in row["times_as_long_as"]))
        lines = []
        for row in rows:
            version = " ".join([row["backend"], *[*row["library"].values()][-1:]])
            ratios = [f"{row['times_as_long_as'][name]:.2f}" for name in ours]
            lines.append([version, _time(row), *ratios])
        task, first = operation.removesuffix(" against peers"), rows[0]
        parts.append(f"### {task}, {threads} thread{'s' * (threads > 1)}")
        parts.append(f"{first['processes'].capitalize()}; launches: {first['launches']}.")
        parts.append(table(["", "time", *(f"times as long as {name}" for name in ours)], lines))
    return parts if len(parts) > 2 else []


def _network(measurement: Measurement) -> list[str]:
    parts = []
    for (task,), rows in _by(measurement.of("test_network"), "operation").items():
        measures = {"": _time, ", GFLOP/s": _rate}
        parts += [f"### {task}", side_by_side(rows, ("dtype", "batch", "threads"), measures)]
    return ["## DeepConvNet by batch and threads", *parts] if parts else []


def _kernels(measurement: Measurement) -> list[str]:
    rows = measurement.of("test_kernel")
    if not rows:
        return []
    reference = {row.group: row.seconds for row in rows if row["backend"] == "numpy"}

    def time_and_provider(row: Row) -> str:
        return _time(row) + f" (by {row['provider']})" * (row["provider"] != row["backend"])

    def speed(row: Row) -> float | None:
        """Times the reference backend's."""
        if row["backend"] == "numpy" or row.group not in reference:
            return None
        return reference[row.group] / row.seconds

    def speed_text(row: Row) -> str:
        factor = speed(row)
        return "" if factor is None else f"{factor:.1f}x"

    summary, parts = [], []
    fast = [name for name in BACKENDS if name != "numpy"]
    for (kernel, dtype), group in _by(rows, "operation", "dtype").items():
        line = [kernel, dtype, len({row["shape"] for row in group})]
        for name in fast:
            factors = [factor for row in group if row["backend"] == name if (factor := speed(row))]
            line.append(
                f"{median(factors):.1f}x ({min(factors):.1f} - {max(factors):.1f})"
                if factors
                else ""
            )
        summary.append(line)
    for backend in fast:
        measured = [
            row
            for row in rows
            if row["backend"] == backend and "share_of_roofline" in row.extra_info
        ]
        measured.sort(key=lambda row: row["share_of_roofline"])
        lines = [
            [row["operation"], row["shape"], row["dtype"], _time(row), _roofline(row)]
            for row in measured[:10]
        ]
        if lines:
            head = ["kernel", "shape", "dtype", "time", "share of roofline"]
            parts += [f"### Furthest from the roofline: {backend}", table(head, lines, 3)]
    measures = {
        "": time_and_provider,
        ", GFLOP/s": _rate,
        " against numpy": speed_text,
        ", share of roofline": _roofline,
    }
    for (kernel,), group in _by(rows, "operation").items():
        parts += [f"### {kernel}", side_by_side(group, ("shape", "dtype"), measures)]
    head = ["kernel", "dtype", "shapes", *(f"{name} against numpy" for name in fast)]
    return [
        "## Kernels",
        "Every kernel of the table, called as the layers call it: median over its shapes of the "
        "speed against the reference backend, with the lowest and the highest. DeepConvNet's "
        "shapes at batch 100, those of the larger networks at batch 8 with 224 x 224 images.",
        table(head, summary, text_columns=2),
        *parts,
    ]


def _layers(measurement: Measurement) -> list[str]:
    rows = measurement.of("test_layer", "test_augmentation")
    if not rows:
        return []
    return [
        "## Layers",
        "The book's layers, and augmentation, through their public methods: checks, allocation and "
        "kernel.",
        side_by_side(rows, ("operation", "shape", "dtype", "threads"), {"": _time}),
    ]


def _cold_start(measurement: Measurement) -> list[str]:
    parts = []
    if starts := measurement.of("test_first_training_step"):
        lines = [[row["backend"], row["cache"], _time(row)] for row in starts]
        head = ["", "compiled code", "process start to first step"]
        parts += ["### Cold start", table(head, lines, 2)]
    if compiles := measurement.of("test_compile"):
        lines = [[row["backend"], _time(row)] for row in compiles]
        kernels = compiles[0]["kernels"]
        for kernel in sorted(kernels, key=kernels.get, reverse=True)[:5]:
            lines.append([f"... {kernel} ({compiles[0]['backend']})", time_text(kernels[kernel])])
        parts += ["### First calls of all kernels, beyond the second", table(["", "time"], lines)]
    if imports := measurement.of("test_import"):
        lines = []
        for row in imports:
            sizes = row["installed_bytes"]
            own = f"{sizes[row['backend']] / 1e6:.1f}" if sizes else ""
            total = f"{sum(sizes.values()) / 1e6:.0f}" if sizes else "not installed by pip"
            lines.append([row["backend"], _time(row), own, total])
        head = ["package", "import, after NumPy's", "own MB on disk", "with what it requires"]
        parts += ["### Import time and size on disk", table(head, lines)]
    if memory := measurement.of("test_memory"):
        keys = ("bytes_after_one_step", "bytes_after_100_steps")
        lines = [[row["backend"], *(f"{row[key] / 1e6:.0f}" for key in keys)] for row in memory]
        head = ["", "MB after one step", "MB after 100 steps"]
        parts += ["### Largest memory of the process, batch 100", table(head, lines)]
    if not parts:
        return []
    text = (
        "New processes. Cold: whatever the library compiles has to be compiled; warm: a process "
        "before has left its compiled code on disk."
    )
    return ["## Cold start, memory, size", text, *parts]


def main() -> None:
    """Read the arguments, print the report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description="Tables of a measurement, in Markdown.",
        epilog="example: python -m benchmarks.report results.json > report.md",
    )
    parser.add_argument("results", type=Path, help="written by --benchmark-json")
    options = parser.parse_args()
    try:
        measurement = read(options.results)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(report(measurement))


if __name__ == "__main__":
    main()
