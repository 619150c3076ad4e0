"""The chart of speed: ``python -m benchmarks.chart docs/speed.md docs/speed.svg``.

It has the figures of the page's first table, so that picture and page cannot differ. Its letters
are of a grey that can be read on white and on black, since the page around it may be either.
"""

from __future__ import annotations

import argparse
import re
from html import escape
from pathlib import Path

__all__ = ["chart", "table_of"]

TASKS = {"step, 2 threads": "training step", "inference, 2 threads": "inference"}
"""Columns of the table, and what they are called here."""

SHORTER = {", math mode fast": ", fast math", ", channels_last": ""}
LEFT_OUT = re.compile("by hand|NCHW|numba, math")

WIDTH, NAMES, LINE = 520, 215, 30  # of the picture, of the names, of a bar with what is around it
OURS, OTHERS, TEXT = "#3b82c4", "#9aa0a6", "#727a83"


def table_of(page: str) -> list[list[str]]:
    """The cells of the first table of a Markdown page, without the line of rules."""
    lines = re.search(r"(?:^\|.*\n)+", page, re.MULTILINE)
    if lines is None:
        raise ValueError("expected a page with a table, got none")
    rows = [line.strip("|").split("|") for line in lines[0].splitlines()]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows[:1] + rows[2:]]


def chart(page: str) -> str:
    """Draw bars for the page's first table, as SVG."""
    head, *rows = table_of(page)
    measure, *columns = head
    found = {
        title: {
            name: float(cells[columns.index(column)].split()[0])
            for name, *cells in rows
            if cells[columns.index(column)] and not LEFT_OUT.search(name)
        }
        for column, title in TASKS.items()
    }
    longest = max(value for bars in found.values() for value in bars.values())
    parts, y = [_text(0, 18, f"DeepConvNet on two threads: {measure}", size=13)], 18
    for title, bars in found.items():
        parts.append(_text(0, y := y + LINE, title, weight="bold"))
        for name, value in sorted(bars.items(), key=lambda bar: -bar[1]):
            width = value / longest * (WIDTH - NAMES - 50)
            colour = OURS if name.startswith("fastconv") else OTHERS
            for words, fewer in SHORTER.items():
                name = name.replace(words, fewer)
            parts.append(_text(0, y + LINE, name))
            parts.append(
                f'<rect x="{NAMES}" y="{y + 14}" width="{width:.1f}" height="21" fill="{colour}"/>'
            )
            parts.append(_text(NAMES + width + 8, y := y + LINE, f"{value:.2f}"))
        y += 12
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
        f'height="{y}" font-family="system-ui, sans-serif" fill="{TEXT}">\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, words: str, size: int = 15, weight: str = "normal") -> str:
    place = f'x="{x:g}" y="{y}" font-size="{size}" font-weight="{weight}"'
    return f"<text {place}>{escape(words)}</text>"


def main() -> None:
    """Read the arguments, write the chart."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chart",
        description="A chart of the first table of a page, as SVG.",
        epilog="example: python -m benchmarks.chart docs/speed.md docs/speed.svg",
    )
    parser.add_argument("page", type=Path, help="docs/speed.md, or a page like it")
    parser.add_argument("picture", type=Path, help="the file to write")
    options = parser.parse_args()
    try:
        options.picture.write_text(chart(options.page.read_text(encoding="utf-8")), "utf-8")
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
