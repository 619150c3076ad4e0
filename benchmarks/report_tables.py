"""The report's tables, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from .results import KERNEL_ORDER, Results, Row, distinct

__all__ = [
    "batch_tables",
    "cold_start_tables",
    "furthest_from_roofline",
    "kernel_summary",
    "kernel_tables",
    "layer_table",
    "machine_table",
    "peer_tables",
]

MICRO, MILLI = 1e6, 1e3


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]], text_columns: int = 1) -> str:
    """A Markdown table; all columns but the first few are numbers, to the right."""
    rules = ["---"] * text_columns + ["---:"] * (len(head) - text_columns)
    lines = [head, rules, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def time_text(seconds: float) -> str:
    """Seconds to three figures in a unit that suits them."""
    for unit, factor in (("s", 1.0), ("ms", MILLI), ("us", MICRO)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def machine_table(results: Results) -> str:
    """What the figures were measured on and with."""
    facts = dict(results.machine)
    peaks = facts.pop("peaks")
    rows = [
        [name, ", ".join(f"{k} {v}" for k, v in value.items())]
        if isinstance(value, dict)
        else [name, value]
        for name, value in facts.items()
    ]
    for threads, peak in peaks.items():
        text = ", ".join(f"{value:.0f} {unit}" for unit, value in peak.items())
        rows.append([f"measured peaks, threads: {threads}", text])
    rows.append(["measured", results.when])
    return markdown(["", "value"], rows, text_columns=2)


def by_backend(rows: list[Row]) -> dict[str, Row]:
    return {row.backend: row for row in rows}


def _backends(rows: list[Row]) -> list[str]:
    order = ("cython", "numba", "numpy")
    present = distinct(row.backend for row in rows)
    return sorted(present, key=lambda name: order.index(name) if name in order else len(order))


def kernel_tables(results: Results) -> dict[str, str]:
    """By kernel: a table of its shapes with the backends side by side."""
    tables = {}
    everything = results.of("test_kernel")
    for kernel in KERNEL_ORDER:
        rows = [row for row in everything if row.operation == kernel]
        if not rows:
            continue
        backends = _backends(rows)
        counted = any("gflops" in row.info for row in rows)
        head = ["shape", "dtype"]
        head += [f"{name}{', GFLOP/s' if counted else ''}" for name in backends]
        head += [f"{name} against numpy" for name in backends if name != "numpy"]
        head += [f"{name}, share of roofline" for name in backends if name != "numpy"]
        lines = []
        for shape, dtype in distinct((row.shape, row.dtype) for row in rows):
            found = by_backend([r for r in rows if (r.shape, r.dtype) == (shape, dtype)])
            line = [shape, dtype]
            for name in backends:
                line.append(_kernel_cell(found.get(name)))
            fast = [name for name in backends if name != "numpy"]
            for name in fast:
                both = name in found and "numpy" in found
                line.append(f"{found['numpy'].seconds / found[name].seconds:.1f}x" if both else "-")
            for name in fast:
                share = found[name].info.get("share_of_roofline") if name in found else None
                line.append("-" if share is None else f"{100 * share:.0f} %")
            lines.append(line)
        tables[kernel] = markdown(head, lines, text_columns=2)
    return tables


def _kernel_cell(row: Row | None) -> str:
    if row is None:
        return "-"
    rate = f", {row.info['gflops']:.0f}" if "gflops" in row.info else ""
    lent = "" if row.info["provider"] == row.backend else f" (by {row.info['provider']})"
    return f"{time_text(row.seconds)}{rate}{lent}"


def kernel_summary(results: Results) -> str:
    """One line a kernel: median over its shapes of the speed against the reference backend."""
    rows = results.of("test_kernel")
    fast = [name for name in _backends(rows) if name != "numpy"]
    lines = []
    for kernel in KERNEL_ORDER:
        for dtype in ("float32", "float64"):
            here = [r for r in rows if r.operation == kernel and r.dtype == dtype]
            slow = {r.shape: r.seconds for r in here if r.backend == "numpy"}
            line: list[Any] = [kernel, dtype, len(distinct(r.shape for r in here))]
            for name in fast:
                ratios = [
                    slow[r.shape] / r.seconds for r in here if r.backend == name and r.shape in slow
                ]
                line.append(
                    f"{median(ratios):.1f}x ({min(ratios):.1f} - {max(ratios):.1f})"
                    if ratios
                    else "-"
                )
            if here:
                lines.append(line)
    head = ["kernel", "dtype", "shapes", *(f"{name} against numpy" for name in fast)]
    return markdown(head, lines, text_columns=2)


def furthest_from_roofline(results: Results, backend: str, count: int = 10) -> str:
    """The kernels of a backend that leave most of the machine unused."""
    rows = [r for r in results.of("test_kernel", backend=backend) if "share_of_roofline" in r.info]
    rows.sort(key=lambda row: row.info["share_of_roofline"])
    lines = [
        [
            r.operation,
            r.shape,
            r.dtype,
            time_text(r.seconds),
            f"{100 * r.info['share_of_roofline']:.1f} %",
        ]
        for r in rows[:count]
    ]
    return markdown(["kernel", "shape", "dtype", "time", "share of roofline"], lines, 3)


def layer_table(results: Results) -> str:
    """Layers through the public API, and augmentation."""
    rows = [*results.of("test_layer"), *results.of("test_augmentation")]
    backends = _backends(rows)
    keys = distinct((r.operation, r.shape, r.dtype, r.threads) for r in rows)
    lines = []
    for key in keys:
        here = [r for r in rows if (r.operation, r.shape, r.dtype, r.threads) == key]
        found = by_backend(here)
        cells = [time_text(found[name].seconds) if name in found else "-" for name in backends]
        lines.append([*key, *cells])
    return markdown(["layer", "input", "dtype", "threads", *backends], lines, 3)


def batch_tables(results: Results) -> dict[str, str]:
    """By task: DeepConvNet's time against batch, threads and backend."""
    tables = {}
    everything = results.of("test_network")
    for task in distinct(row.operation for row in everything):
        rows = [row for row in everything if row.operation == task]
        backends = _backends(rows)
        lines = []
        for dtype, threads, batch in distinct((r.dtype, r.threads, r.info["batch"]) for r in rows):
            here = [
                r for r in rows if (r.dtype, r.threads, r.info["batch"]) == (dtype, threads, batch)
            ]
            found = by_backend(here)
            cells = [
                f"{time_text(found[n].seconds)}, {found[n].info['gflops']:.0f}"
                if n in found
                else "-"
                for n in backends
            ]
            lines.append([dtype, batch, threads, *cells])
        head = ["dtype", "batch", "threads", *(f"{name}, GFLOP/s" for name in backends)]
        tables[task] = markdown(head, lines, 1)
    return tables


def peer_tables(results: Results) -> dict[str, str]:
    """By task and threads: each contender, and how many times fastconv's time it takes."""
    tables = {}
    everything = results.of("test_peer")
    for operation, threads in distinct((r.operation, r.threads) for r in everything):
        rows = [r for r in everything if (r.operation, r.threads) == (operation, threads)]
        ours = distinct(name for row in rows for name in row.info["times_as_long_as"])
        lines = []
        for row in rows:
            versions = "".join([*row.info["library"].values()][-1:])
            ratios = [f"{row.info['times_as_long_as'][name]:.2f}" for name in ours]
            name = f"{row.backend} {versions}".strip()
            lines.append([name, time_text(row.seconds), *ratios])
        task = operation.removesuffix(" against peers")
        way, launches = rows[0].info["way"], rows[0].info["launches"]
        title = f"{task}, {threads} thread{'s' * (threads > 1)} ({way}; {launches} launches)"
        head = ["", "median time", *(f"times as long as {name}" for name in ours)]
        tables[title] = markdown(head, lines, 1)
    return tables


def cold_start_tables(results: Results) -> dict[str, str]:
    """Cold start, compiling, imports with sizes, memory."""
    tables = {}
    starts = results.of("test_first_training_step")
    if starts:
        lines = [[r.backend, r.info["cache"], time_text(r.seconds)] for r in starts]
        head = ["", "compiled code", "process start to first step"]
        tables["Cold start"] = markdown(head, lines, 2)
    compiles = results.of("test_compile")
    if compiles:
        lines = [[r.backend, time_text(r.seconds)] for r in compiles]
        kernels = compiles[0].info["kernels"]
        slowest = sorted(kernels, key=kernels.get, reverse=True)[:5]
        lines += [[f"... {k} ({compiles[0].backend})", time_text(kernels[k])] for k in slowest]
        tables["First calls of all kernels, beyond the second"] = markdown(["", "time"], lines)
    imports = results.of("test_import")
    if imports:
        lines = []
        for row in imports:
            sizes = row.info["installed_bytes"]
            total = f"{sum(sizes.values()) / 1e6:.0f}" if sizes else "not installed by pip"
            own = f"{sizes[row.backend] / 1e6:.1f}" if sizes else "-"
            lines.append([row.backend, time_text(row.seconds), own, total])
        head = ["package", "import, after NumPy's", "own MB on disk", "with what it requires"]
        tables["Import time and size on disk"] = markdown(head, lines)
    memory = results.of("test_memory")
    if memory:
        lines = [
            [
                r.backend,
                *(
                    f"{r.info[key] / 1e6:.0f}"
                    for key in ("bytes_after_one_step", "bytes_after_100_steps")
                ),
            ]
            for r in memory
        ]
        head = ["", "MB after one step", "MB after 100 steps"]
        tables["Largest memory of the process, batch 100"] = markdown(head, lines)
    return tables
