"""The bar that shows how far a long piece of work is."""

from __future__ import annotations

from typing import Any

from .errors import MissingDependency

__all__ = ["ProgressBar"]


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
        Seconds before it appears: what is done sooner needs none.

    Raises
    ------
    MissingDependency
        It is to be shown, but tqdm is not installed.
    """

    def __init__(
        self, total: int, done: int, *, show: bool, unit: str = "step", delay: float = 0
    ) -> None:
        self._bar: Any = None
        if show:
            try:
                from tqdm import tqdm
            except ImportError:
                raise MissingDependency(
                    "a progress bar needs tqdm: pip install 'fastconv[data]'"
                ) from None
            self._bar = tqdm(total=total, initial=done, unit=unit, delay=delay, smoothing=0.1)

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
