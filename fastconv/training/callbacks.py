"""Callbacks of a Trainer: what they are, and logs that are ready for use."""

from __future__ import annotations

import csv
import io
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from ..io.atomic import replace_file

__all__ = ["CSVLog", "Callback", "ScalarWriter", "TensorBoardLog"]


class Callback(Protocol):
    """What a Trainer calls at the end of each epoch: a function, or an object with `__call__`."""

    def __call__(self, trainer: Any, record: dict[str, Any], /) -> Any:
        """Look at the epoch's `record`, as `Trainer.history` describes it.

        The network has the weights that are being trained. A callback may call ``trainer.stop()``,
        change ``trainer.optimizer.lr`` or add to `record` what JSON can hold, which then is in the
        history and in checkpoints. What it returns is ignored, and its errors end the run.
        """


class ScalarWriter(Protocol):
    """The part of a ``SummaryWriter`` that is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> Any:
        """Write a number of a step."""

    def flush(self) -> Any:
        """Write what is waiting."""


class CSVLog:
    """Keeps the history in a CSV file: a line for each epoch, one for the names.

    The file is written anew after each epoch, so it is whole at any time, and fits a run that
    goes on from a checkpoint. What was not evaluated is empty. Of several ranks, the first writes.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)

    def __call__(self, trainer: Any, record: dict[str, Any]) -> None:
        """Write the file."""
        if not trainer.ranks.first:
            return
        text = io.StringIO(newline="")
        names = dict.fromkeys(name for record in trainer.history for name in record)
        table = csv.DictWriter(text, list(names), lineterminator="\n")
        table.writeheader()
        table.writerows(trainer.history)
        with replace_file(self.path) as stream:
            stream.write(text.getvalue().encode())


class TensorBoardLog:
    """Gives each epoch's numbers to TensorBoard's own writer, which the user opens and closes.

    The tags are ``loss/train``, ``loss/validation``, ``accuracy/train``, ``accuracy/validation``,
    ``accuracy/test``, ``learning_rate``, ``gradient_norm`` and so on; the step is the epoch. Of
    several ranks, the first writes.

    Parameters
    ----------
    writer : object
        A ``SummaryWriter`` of ``torch.utils.tensorboard`` or ``tensorboardX``, or anything with
        ``add_scalar(tag, value, step)`` and ``flush()``.
    """

    def __init__(self, writer: ScalarWriter) -> None:
        self.writer = writer

    def __call__(self, trainer: Any, record: dict[str, Any]) -> None:
        """Write the numbers of the epoch."""
        if not trainer.ranks.first:
            return
        for name, value in record.items():
            if name not in ("epoch", "iteration") and isinstance(value, int | float):
                self.writer.add_scalar(_tag(name), value, record["epoch"])
        self.writer.flush()


def _tag(name: str) -> str:
    """``validation_loss`` as ``loss/validation``: TensorBoard groups by what comes first."""
    part, _, what = name.partition("_")
    return f"{what}/{part}" if part in ("train", "validation", "test") else name
