"""Requests that wait are answered together: one prediction for up to a batch of images."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batcher"]

Array = NDArray[Any]


class Batcher:
    """Predicts in a thread of its own, while more images come in.

    Nothing is delayed for it: an image that comes alone is predicted alone, and those that come
    meanwhile are the next batch. It is to be used from one event loop.

    Parameters
    ----------
    predict : callable
        Images (N, C, H, W) to probabilities (N, classes).
    most : int
        Images of the largest batch, a power of two.
    note : callable
        Is called with the number of images of each batch.
    """

    def __init__(
        self, predict: Callable[[Array], Array], most: int, note: Callable[[int], None]
    ) -> None:
        self.predict = predict
        self.most = most
        self.note = note
        self._waiting: deque[tuple[Array, asyncio.Future[Array]]] = deque()
        self._thread = ThreadPoolExecutor(1, "fastconv-predict")
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, images: Array) -> Array:
        """Return the probabilities (N, classes) of images (N, C, H, W)."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in images]
        self._waiting.extend(zip(images, futures, strict=True))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._work())
        return np.stack(await asyncio.gather(*futures))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            count = min(len(self._waiting), self.most)
            images, futures = zip(*(self._waiting.popleft() for _ in range(count)), strict=True)
            self.note(count)
            try:
                answers = await loop.run_in_executor(self._thread, self._padded, images)
            except Exception as error:
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
                continue
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():  # its request may have been given up
                    future.set_result(answer)

    def _padded(self, images: tuple[Array, ...]) -> Array:
        """Predict with zeros up to the next power of two: few sizes of batches are prepared."""
        count = len(images)
        batch = np.zeros((1 << (count - 1).bit_length(), *images[0].shape), images[0].dtype)
        for place, image in zip(batch, images, strict=False):
            place[...] = image
        return self.predict(batch)[:count]

    def close(self) -> None:
        """End the thread, after the batch that it predicts."""
        self._thread.shutdown()
