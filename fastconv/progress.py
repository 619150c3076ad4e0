"""The bar that shows how far a long task has come."""

from __future__ import annotations

import importlib.util
import sys
from contextlib import suppress
from typing import Any

from .console import is_terminal
from .errors import MissingDependency

__all__ = ["ProgressBar", "shows_progress"]


def shows_progress() -> bool:
    """Whether to draw bars: for a person at a terminal, if tqdm is installed."""
    return is_terminal(sys.stderr) and importlib.util.find_spec("tqdm") is not None


class _Terminal:
    """Standard error, for tqdm: if it is gone, the work goes on without a bar."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        """Lines that go to the stream itself clear the bar first: tqdm compares."""
        return self._stream is getattr(other, "_stream", other)

    __hash__ = None  # type: ignore[assignment]


class ProgressBar:
    """A bar on standard error, or nothing at all.

    Parameters
    ----------
    total, done : int
        Steps of the whole work, and those that an earlier part of it took.
    show : bool
    unit : str
        What to call a step.
    delay : float
        Seconds before it appears; shorter tasks need none.

    Raises
    ------
    MissingDependency
        It is to be shown, but tqdm is not installed.
    """

    def __init__(
        self, total: int, done: int, *, show: bool, unit: str = "step", delay: float = 0
    ) -> None:
        self._bar: Any = None
        if show and sys.stderr is not None:
            try:
                from tqdm.auto import tqdm  # a widget in a notebook that has ipywidgets
            except ImportError:
                raise MissingDependency("a progress bar needs tqdm: pip install tqdm") from None
            where = _Terminal(sys.stderr)
            settings = {"unit": unit, "delay": delay, "smoothing": 0.1, "file": where}
            self._bar = tqdm(total=total, initial=done, **settings)

    def advance(self, images_per_second: float, loss: float) -> None:
        """One more step of a training is done."""
        if self._bar is not None:
            text = f"{images_per_second:,.0f} images/s, loss {loss:.3f}"
            self._bar.set_postfix_str(text, refresh=False)
        self.tick()

    def tick(self) -> None:
        """One more step is done."""
        if self._bar is not None:
            self._bar.update(1)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
