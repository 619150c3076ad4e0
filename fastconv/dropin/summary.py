"""What the drop-in prints at the end: one line, and on request a table and a trace."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import config, selection
from ..console import html_table, mention
from ..errors import FastconvError
from ..io.atomic import replace_file
from ..io.records import json_text
from .finder import SERVED
from .neighbours import GIVEN, NEIGHBOURS

if TYPE_CHECKING:
    from . import Installation

__all__ = ["Account", "facts", "show"]


def facts(installation: Installation) -> dict[str, Any]:
    """What `fastconv.stats` returns."""
    report = installation.finder.report
    kernels = [asdict(row) | {"gflops": row.gflops} for row in installation.profile.kernels()]
    for row in kernels:
        del row["operations"]
    try:
        backend = selection.get_backend()
    except FastconvError as error:
        backend = f"none ({error})"
    return {
        "served": {name: list(names) for name, names in report.served.items()},
        "theirs": dict(report.theirs),
        "editions": dict(report.editions),
        "data": report.data,
        "backend": backend,
        "threads": config.get_num_threads(),
        "seconds": perf_counter() - installation.started,
        "kernel_seconds": sum(row["seconds"] for row in kernels),
        "short_calls": installation.profile.short_calls(),
        "kernels": kernels,
    }


def show(installation: Installation) -> None:
    """Write the line on standard error, and if asked for, the table before it, and the trace."""
    told = facts(installation)
    if installation.table:
        mention(table(told))
    if installation.trace is not None:
        try:
            write_trace(installation, told, installation.trace)
        except OSError as error:
            mention(f"fastconv: error: the profile was not written: {error}")
    mention(line(told))


def line(told: dict[str, Any]) -> str:
    """One line: what was served, and where it ran; what ran elsewhere, and why."""
    if not told["served"]:
        others = "; ".join(_reasons(told["theirs"]))
        return "fastconv: nothing served: " + (others or f"no import of {', '.join(SERVED)}")
    parts = [f"fastconv: served {_names(told['served'])}"]
    calls, little = sum(row["calls"] for row in told["kernels"]), told["short_calls"]
    if calls:
        where = _distinct(told["kernels"], "backend")
        if told["backend"] not in where:
            where.append(f"({told['backend']} chosen)")
        threads = f"{told['threads']} thread{'s' if told['threads'] > 1 else ''}"
        how = ", ".join([" and ".join(where), *_distinct(told["kernels"], "dtype"), threads])
        parts.append(f"{told['kernel_seconds']:.2f} s in {calls:,} kernel calls ({how})")
    if little:
        parts.append(f"{little:,} operations on little data")
    if calls or little:
        rest = max(0.0, told["seconds"] - told["kernel_seconds"])
        parts.append(f"{rest:.2f} s elsewhere, in Python and NumPy")
    else:
        parts.append("no kernel was called")
    if told["data"]:
        parts.append(told["data"])
    files = {name: None for name, why in told["theirs"].items() if why == "your file"}
    if files:
        parts.append(f"from your files: {_names(files)}")
    parts += _reasons({name: why for name, why in told["theirs"].items() if name not in files})
    return "; ".join(parts)


def _names(modules: dict[str, Any]) -> str:
    """``common.layers, common.util`` as ``common (layers, util)``, others with what is served."""
    groups = []
    usual = (*SERVED, *NEIGHBOURS, *GIVEN)
    others = {name: names for name, names in modules.items() if name not in usual and names}
    for package in sorted({name.partition(".")[0] for name in modules if name not in others}):
        inside = [
            name.partition(".")[2]
            for name in modules
            if name.startswith(f"{package}.") and name not in others
        ]
        if inside:
            groups.append(f"{package} ({', '.join(sorted(inside))})")
    return ", ".join(groups + [f"{name} ({', '.join(names)})" for name, names in others.items()])


def _reasons(theirs: dict[str, str]) -> list[str]:
    """What stays the user's, and why, each reason once."""
    names: dict[str, list[str]] = {}
    for name, why in theirs.items():
        names.setdefault(why, []).append(name)
    return [f"{_of_modules(given)}: {why}" for why, given in names.items()]


def _of_modules(names: list[str]) -> str:
    """``common.layers.Relu, common.layers.Affine`` as ``common.layers (Relu, Affine)``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        groups.setdefault(module, []).append(last)
    return ", ".join(
        f"{module} ({', '.join(inside)})" if len(inside) > 1 else f"{module}.{inside[0]}"
        for module, inside in groups.items()
    )


def _distinct(rows: list[dict[str, Any]], column: str) -> list[str]:
    """Values of a column, the one with the most seconds first."""
    seconds: dict[str, float] = {}
    for row in rows:
        seconds[row[column]] = seconds.get(row[column], 0.0) + row["seconds"]
    return sorted(seconds, key=lambda value: -seconds[value])


COLUMNS = (
    *("layer", "operation", "backend", "dtype", "algorithm"),
    *("calls", "seconds", "share", "GFLOP/s"),
)
NUMBERS_FROM = 5  # columns of words, before this one, are left-aligned


def rows(told: dict[str, Any]) -> list[tuple[str, ...]]:
    """The kernels by layer and operation, and the time spent outside them."""
    whole = told["seconds"]

    def share(seconds: float) -> str:
        return f"{100 * seconds / whole:.1f} %" if whole else "-"  # "-": the clock is too coarse

    kernels: list[tuple[str, ...]] = [
        (
            row["layer"] or "-",
            row["kernel"],
            row["backend"],
            row["dtype"],
            row["algorithm"] or "-",
            f"{row['calls']:,}",
            f"{row['seconds']:.4f}",
            share(row["seconds"]),
            "-" if row["gflops"] is None else f"{row['gflops']:.1f}",
        )
        for row in told["kernels"]
    ]
    rest = max(0.0, whole - told["kernel_seconds"])
    elsewhere = ("elsewhere", "Python, NumPy", *[""] * 4, f"{rest:.4f}", share(rest), "")
    return [*kernels, elsewhere]


def table(told: dict[str, Any]) -> str:
    """`rows` in columns."""
    lines = [COLUMNS, *rows(told)]
    widths = [max(len(row[i]) for row in lines) for i in range(len(COLUMNS))]
    text = []
    for row in lines:
        words = [
            word.ljust(width) if i < NUMBERS_FROM else word.rjust(width)
            for i, (word, width) in enumerate(zip(row, widths, strict=True))
        ]
        text.append("  ".join(words).rstrip())
    return "\n".join(text)


class Account:
    """What was served so far, and where the time went, for people: see `fastconv.report`."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def __repr__(self) -> str:
        return f"{table(self._told)}\n{line(self._told)}"

    def _repr_html_(self) -> str:
        """Its table for a notebook."""
        return html_table(line(self._told), COLUMNS, rows(self._told))


def write_trace(installation: Installation, told: dict[str, Any], path: str) -> None:
    """Write the calls as a trace that browsers' viewers open, with `facts` beside them.

    The Chrome trace-event format: complete events ("X"), times in microseconds. The sums
    are under the key ``fastconv``, which viewers ignore.
    """
    process = os.getpid()
    events = [
        {
            "name": call.kernel,
            "cat": call.backend,
            "ph": "X",
            "ts": (call.start - installation.started) * 1e6,
            "dur": call.seconds * 1e6,
            "pid": process,
            "tid": call.thread,
            "args": {"layer": call.layer},
        }
        for call in installation.profile.calls
    ]
    lost = {"lost_calls": installation.profile.lost_calls}
    content = {"traceEvents": events, "displayTimeUnit": "ms", "fastconv": told | lost}
    with replace_file(Path(path)) as stream:
        stream.write(json_text(content).encode())
