"""Rows of a results file, as the report's tables and pictures want them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["KERNEL_ORDER", "Results", "Row", "read_results"]

KERNEL_ORDER = (
    "conv2d_forward",
    "conv2d_backward",
    "maxpool2d_forward",
    "maxpool2d_backward",
    "avgpool2d_forward",
    "avgpool2d_backward",
    "im2col",
    "col2im",
    "affine_forward",
    "affine_backward",
    "relu_forward",
    "relu_backward",
    "batchnorm_train",
    "batchnorm_infer",
    "batchnorm_backward",
    "batchnorm2d_statistics",
    "batchnorm2d_apply",
    "batchnorm2d_backward",
    "softmax_cross_entropy_forward",
    "softmax_cross_entropy_backward",
    "adam_update",
    "warp",
    "smooth",
    "tone",
)


@dataclass(frozen=True)
class Row:
    """One measured row.

    Attributes
    ----------
    test : str
        Name of the test function.
    seconds, low, high : float
        Median, and quartiles, of one run.
    info : dict
        What the suite wrote beside it.
    """

    test: str
    seconds: float
    low: float
    high: float
    info: dict[str, Any]

    @property
    def operation(self) -> str:
        return self.info["operation"]

    @property
    def shape(self) -> str:
        return self.info["shape"]

    @property
    def backend(self) -> str:
        return self.info["backend"]

    @property
    def dtype(self) -> str:
        return self.info["dtype"]

    @property
    def threads(self) -> int:
        return self.info["threads"]


@dataclass(frozen=True)
class Results:
    """A whole run: rows, and the facts of the machine."""

    rows: list[Row]
    machine: dict[str, Any]
    when: str

    def of(self, test: str, **wanted: Any) -> list[Row]:
        """Rows of one test function whose facts have these values."""
        return [
            row
            for row in self.rows
            if row.test == test and all(row.info.get(k) == v for k, v in wanted.items())
        ]


def distinct(values: Iterable[Any]) -> list[Any]:
    """The values in the order of their first appearance."""
    return list(dict.fromkeys(values))


def read_results(path: Path) -> Results:
    """Read what ``pytest benchmarks --benchmark-only --benchmark-json=PATH`` wrote.

    Raises
    ------
    ValueError
        The file was not written by this suite.
    """
    data = json.loads(path.read_text())
    machine = data.get("fastconv")
    if machine is None:
        raise ValueError(f"{path}: not a results file of this suite (it has no 'fastconv')")
    rows = [
        Row(
            test=entry["name"].partition("[")[0],
            seconds=entry["stats"]["median"],
            low=entry["stats"]["q1"],
            high=entry["stats"]["q3"],
            info=entry["extra_info"],
        )
        for entry in data["benchmarks"]
        if "operation" in entry["extra_info"]
    ]
    return Results(rows, machine, data["datetime"])
