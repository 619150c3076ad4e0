"""What a training step takes on many ranks: a model, its table and its picture.

::

    python -m benchmarks.scaling docs/distributed.md docs/scaling.png

The page has what two ranks took (``python benchmarks/ranks.py``), in its table whose first column
is "rate, latency". The model takes from it a step without gradients on the wire, and says what R
ranks need where each of them computes as much. The table is printed, and written where it stands.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Measured", "measured", "picture", "predicted", "sent", "table", "with_table"]

BACKWARD = 2 / 3
"""Of a step: what can hide messages that leave early."""

AGREED = 1
"""Short messages of a step besides: whether to go on."""

GRADIENTS = 4 * 123_552
"""Bytes of DeepConvNet's."""

NETWORKS = [(10e9, 1e-4), (10e9, 1e-3), (1e9, 1e-4), (1e9, 1e-3)]
"""Bits a second, seconds."""

RANKS = (8, 64, 512)

OVERLAP = 0.66
"""Of the messages' time: what two ranks hide at 1 Gbit/s without latency."""


def sent(ranks: int, size: float, rate: float, latency: float) -> float:
    """Seconds in which ranks add up arrays: each halves its part log2 R times, and doubles it.

    Parameters
    ----------
    ranks : int
    size : float
        Bytes of the array of each.
    rate : float
        Bits a second that each sends and receives.
    latency : float
        Seconds that a message takes, however short.
    """
    rounds = math.ceil(math.log2(ranks))
    return 2 * rounds * latency + 2 * (ranks - 1) / ranks * 8 * size / rate


def predicted(
    ranks: int,
    *,
    compute: float,
    size: float,
    rate: float,
    latency: float,
    overlap: float = 0.0,
) -> float:
    """Seconds of a step of data-parallel training.

    Parameters
    ----------
    ranks, size, rate, latency
        As `sent` takes them.
    compute : float
        Seconds of a step that sends nothing.
    overlap : float
        What part of the gradients' time is hidden behind backward: no more than that takes.
    """
    if ranks == 1:
        return compute
    agreed = AGREED * math.ceil(math.log2(ranks)) * latency
    whole = sent(ranks, size, rate, latency)
    return compute + agreed + whole - min(overlap * whole, BACKWARD * compute)


@dataclass(frozen=True)
class Measured:
    """A line of the page's table: two ranks, seconds.

    Attributes
    ----------
    rate : float
        Bits a second.
    latency : float
        Of a short message, as measured.
    short, late, early : float
        A step that sends one number, and with gradients at the end, and early.
    """

    rate: float
    latency: float
    short: float
    late: float
    early: float


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of the table of a Markdown page whose first column is called so."""
    found = re.search(rf"^\| {re.escape(first)} \|.*\n(?:^\|.*\n)+", page, re.MULTILINE)
    if found is None:
        raise ValueError(f"expected a page with a table whose first column is {first!r}, got none")
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in found[0].splitlines()[2:]
    ]


def measured(page: str) -> list[Measured]:
    """What the page says that two ranks took."""
    found = []
    for name, *cells in rows(page, "measured on two ranks"):
        if (rate := re.match(r"(\d+) Gbit/s", name)) is None:
            continue
        latency, short, late, early = (float(cell.split()[0]) / 1e3 for cell in cells[:4])
        found.append(Measured(1e9 * float(rate[1]), latency, short, late, early))
    return found


def base(points: Iterable[Measured]) -> float:
    """A step that sends nothing: the least of them, since latency is in each."""
    return min(point.short - point.latency for point in points)


def table(points: Sequence[Measured]) -> str:
    """What the model says, as Markdown: milliseconds, and what part of a step is computation."""
    compute = base(points)
    step = partial(predicted, compute=compute, size=GRADIENTS)
    head = "".join(f" {ranks} ranks | {OVERLAP:.0%} hidden |".replace("%", " %") for ranks in RANKS)
    lines = [f"| by the model |{head}", "| --- |" + " ---: |" * 2 * len(RANKS)]
    for rate, latency in NETWORKS:
        cells = []
        for ranks in RANKS:
            for overlap in (0.0, OVERLAP):
                taken = step(ranks, rate=rate, latency=latency, overlap=overlap)
                cells.append(f"{1e3 * taken:.1f} ms ({100 * compute / taken:.0f} %)")
        lines.append(f"| {named(rate, latency)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def named(rate: float, latency: float) -> str:
    return f"{rate / 1e9:g} Gbit/s, {1e3 * latency:g} ms"


def with_table(page: str) -> str:
    """The page with the model's table in the place of the one that it has."""
    old = re.search(r"^\| by the model \|.*\n(?:^\|.*\n)+", page, re.MULTILINE)
    if old is None:
        raise ValueError("expected a page with a table whose first column is 'by the model'")
    return page[: old.start()] + table(measured(page)) + page[old.end() :]


def picture(points: Sequence[Measured]) -> Figure:
    """Efficiency by ranks: the model, and what two ranks took."""
    from fastconv.figures.style import BLUE, GREEN, ORANGE, RED, drawing, finished, new_figure

    compute, colours = base(points), (BLUE, GREEN, ORANGE, RED)
    step = partial(predicted, compute=compute, size=GRADIENTS)
    counts = [2**power for power in range(10)]
    with drawing():
        figure = new_figure(7, 4.2)
        axes = figure.subplots()
        for (rate, latency), colour in zip(NETWORKS, colours, strict=True):
            for overlap, style in ((0.0, "-"), (OVERLAP, ":")):
                taken = [
                    step(ranks, rate=rate, latency=latency, overlap=overlap) for ranks in counts
                ]
                label = named(rate, latency) + (f", {100 * overlap:.0f} % hidden" * bool(overlap))
                shares = [100 * compute / each for each in taken]
                axes.plot(counts, shares, style, color=colour, label=label)
        for point in points:
            near = min(NETWORKS, key=lambda each: _distance(each, point))
            share = 100 * (point.short - point.latency) / point.late
            axes.plot(2, share, "o", color=colours[NETWORKS.index(near)])
        axes.plot([], [], "o", color="black", label="measured on two ranks")
        axes.set_xscale("log", base=2)
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.set(xlabel="ranks", ylabel="computing, % of a step", ylim=(0, 102))
        axes.set_title("DeepConvNet, 50 images on each rank", fontsize=11)
        axes.legend(fontsize=7, loc="lower left")
        axes.grid(alpha=0.3)
        return finished(figure)


def _distance(network: tuple[float, float], point: Measured) -> float:
    rate, latency = network
    return abs(math.log(point.rate / rate)) + abs(math.log(max(point.latency, 1e-5) / latency))


def main() -> None:
    """Read the page; write its table and the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description="What a model says of many ranks, from what two took.",
        epilog="example: python -m benchmarks.scaling docs/distributed.md docs/scaling.png",
    )
    parser.add_argument("page", type=Path, help="docs/distributed.md, or a page like it")
    parser.add_argument("picture", type=Path, help="the file to write")
    options = parser.parse_args()
    from fastconv.figures.style import save

    try:
        page = options.page.read_text(encoding="utf-8")
        options.page.write_text(with_table(page), encoding="utf-8")
        save(picture(measured(page)), options.picture)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(table(measured(page)))


if __name__ == "__main__":
    main()
