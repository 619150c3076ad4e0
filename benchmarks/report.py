"""A report of a measured run: ``python -m benchmarks.report results.json -o folder``.

The folder gets ``index.html``, a page that needs nothing else and no network, the same
tables in ``report.md``, and the pictures as PNG files.
"""

from __future__ import annotations

import argparse
import base64
import html
import re
from dataclasses import dataclass, field
from pathlib import Path

from fastconv.io.atomic import make_folder, replace_file

from . import report_figures as figures
from . import report_tables as tables
from .results import KERNEL_ORDER, Results, distinct, read_results

__all__ = ["write_report"]

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #202124; background: #fff; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #dadce0; }
img { max-width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; margin: 0.75rem 0; }
th, td { padding: 0.2rem 0.6rem; border-bottom: 1px solid #e8eaed; text-align: left; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: 0.5rem 0; } summary { cursor: pointer; }
p { max-width: 46rem; }
"""


@dataclass
class Section:
    """A heading with paragraphs, tables and pictures under it, in this order.

    A table under a title of its own in `folded` is closed until the reader opens it.
    """

    title: str
    text: str
    tables: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)


def sections(results: Results) -> list[Section]:
    """What the report says, from the rows that there are."""
    found = [_machine(results), _peers(results), _network(results), _kernels(results)]
    found += [_roofline(results), _layers(results), _cold_start(results)]
    return [section for section in found if section is not None]


def _machine(results: Results) -> Section:
    text = (
        "Medians. Machines drift and are shared: a ratio within one table says more than a "
        "time, and differences of a few per cent say nothing. The peaks were measured in this "
        "run: multiply-adds in registers, and a copy between arrays larger than any cache."
    )
    return Section("What was measured on", text, {"": tables.machine_table(results)})


def _peers(results: Results) -> Section | None:
    rows = results.of("test_peer")
    if not rows:
        return None
    ours = distinct(name for row in rows for name in row.info["times_as_long_as"])
    text = (
        "DeepConvNet with the same weights, images and threads, batch 100, float32 (the book's "
        "own way: float64); the results were compared first. Contenders took turns. A training "
        "step is the gradient and Adam's update. A ratio is taken within each launch, and its "
        "median over the launches given; the times are medians over all of them."
    )
    pictures = {f"Against {name}": figures.peer_ratios(results, name) for name in ours}
    return Section("Against other libraries", text, tables.peer_tables(results), pictures)


def _network(results: Results) -> Section | None:
    if not results.of("test_network"):
        return None
    text = "DeepConvNet on each backend. Full lines: all threads; broken lines: one."
    pictures = {"Cost of an image": figures.batch_cost(results)}
    return Section(
        "Batch size and threads", text, pictures=pictures, folded=tables.batch_tables(results)
    )


def _kernels(results: Results) -> Section | None:
    rows = results.of("test_kernel")
    if not rows:
        return None
    text = (
        "Every kernel of the table, called as the layers call it: median over its shapes of the "
        "speed against the reference backend, with the lowest and the highest. DeepConvNet's "
        "shapes at batch 100, those of the larger networks at batch 8 with 224 x 224 images."
    )
    pictures = {}
    for kernel in KERNEL_ORDER:
        here = [
            row
            for row in rows
            if row.operation == kernel
            and row.dtype == "float32"
            and (":" not in row.shape or row.shape.startswith("deepconvnet:"))
        ]
        if here and kernel.startswith(("conv2d", "maxpool2d", "im2col", "col2im")):
            title = f"{kernel}, DeepConvNet, float32"
            pictures[title] = figures.backends_side_by_side(here, title)
    return Section(
        "Kernels, backends side by side",
        text,
        {"": tables.kernel_summary(results)},
        pictures,
        tables.kernel_tables(results),
    )


def _roofline(results: Results) -> Section | None:
    rows = [r for r in results.of("test_kernel") if r.backend != "numpy"]
    if not rows:
        return None
    text = (
        "The black line is what the machine can do at most with each byte moved once from or to "
        "memory. A point above the slope works on data that is in the cache already; one above "
        "the flat part does fewer operations than the direct way that is counted."
    )
    pictures, worst = {}, {}
    for backend in distinct(row.backend for row in rows):
        worst[f"Furthest from it: {backend}"] = tables.furthest_from_roofline(results, backend)
        for dtype in distinct(row.dtype for row in rows):
            picture = figures.roofline(results, backend, dtype)
            if picture:
                pictures[f"Roofline, {backend}, {dtype}"] = picture
    return Section("Roofline", text, worst, pictures)


def _layers(results: Results) -> Section | None:
    if not results.of("test_layer"):
        return None
    text = "The book's layers through their public methods: checks, allocation and kernel."
    return Section("Layers", text, folded={"All layers": tables.layer_table(results)})


def _cold_start(results: Results) -> Section | None:
    found = tables.cold_start_tables(results)
    if not found:
        return None
    text = (
        "New processes. Cold: whatever the library compiles has to be compiled; warm: a process "
        "before has left its compiled code on disk."
    )
    pictures = {}
    if results.of("test_first_training_step"):
        pictures["Start to first step"] = figures.cold_start(results)
    return Section("Cold start, memory, size", text, found, pictures)


def write_report(results: Results, folder: Path) -> None:
    """Write the page, the tables and the pictures into a folder, which is made if need be."""
    make_folder(folder)
    parts = sections(results)
    page, text = [], ["# fastconv, measured"]
    for part in parts:
        page.append(f"<h2>{html.escape(part.title)}</h2><p>{html.escape(part.text)}</p>")
        text += [f"## {part.title}", part.text]
        for title, table in part.tables.items():
            page.append((f"<h3>{html.escape(title)}</h3>" if title else "") + html_table(table))
            text += ([f"### {title}"] if title else []) + [table]
        for title, picture in part.pictures.items():
            name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") + ".png"
            _write(folder / name, picture)
            data = base64.b64encode(picture).decode()
            alt = html.escape(title, quote=True)
            page.append(f'<p><img alt="{alt}" src="data:image/png;base64,{data}"></p>')
            text.append(f"![{title}]({name})")
        for title, table in part.folded.items():
            summary = f"<summary>{html.escape(title)}</summary>"
            page.append(f"<details>{summary}{html_table(table)}</details>")
            text += [f"### {title}", table]
    _write(folder / "report.md", ("\n\n".join(text) + "\n").encode())
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>fastconv, measured</title><style>{STYLE}</style></head><body>"
        f"<h1>fastconv, measured</h1>{''.join(page)}</body></html>"
    )
    _write(folder / "index.html", document.encode())


def html_table(markdown: str) -> str:
    """A table of `report_tables` as HTML."""
    head, rules, *rows = [line[2:-2].split(" | ") for line in markdown.splitlines()]
    kinds = [' class="number"' if rule.endswith(":") else "" for rule in rules]

    def line(tag: str, values: list[str]) -> str:
        return "".join(
            f"<{tag}{kind}>{html.escape(value)}</{tag}>"
            for kind, value in zip(kinds, values, strict=True)
        )

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{line("th", head)}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _write(path: Path, content: bytes) -> None:
    with replace_file(path) as file:
        file.write(content)


def main() -> None:
    """Read the arguments and write the report."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description="Tables and pictures of a measured run.",
        epilog="example: python -m benchmarks.report results.json -o report",
    )
    parser.add_argument("results", type=Path, help="written by --benchmark-json")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write to")
    options = parser.parse_args()
    try:
        results = read_results(options.results)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    write_report(results, options.out)
    print(options.out / "index.html")


if __name__ == "__main__":
    main()
