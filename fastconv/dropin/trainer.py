"""The Trainer of ``common.trainer``: with the original's draws, evaluations and lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from .. import trainer
from ..optimizer import *  # noqa: F403
from ..optimizer import __all__ as _optimizer_names

__all__ = ["Trainer", *_optimizer_names]

CLASSES = {
    "adagrad": "AdaGrad",
    "adam": "Adam",
    "addgrad": "AdaGrad",  # spelled so in older editions
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "rmsprop": "RMSprop",
    "rmsprpo": "RMSprop",  # likewise
    "sgd": "SGD",
}
"""The optimizers by the keys that the book's Trainer accepts, in lower case."""


class Trainer(trainer.Trainer):
    """Train exactly as the book's Trainer does, draw by draw, so that a seeded script repeats.

    It differs from `fastconv.Trainer` where that departs from the book on purpose: a step's loss
    comes from a second forward pass, after the update, and accuracies are measured when
    ``current_iter % iter_per_epoch == 0``, which is seldom if the batch size does not divide the
    training set. Parameters are the book's.

    Attributes
    ----------
    optimizers : mapping of str to class
        The names of the user's module, where the book's Trainer finds its optimizers; fastconv's
        if there is no such module.
    """

    optimizers: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        network: Any,
        x_train: ArrayLike,
        t_train: ArrayLike,
        x_test: ArrayLike,
        t_test: ArrayLike,
        epochs: float = 20,
        mini_batch_size: int = 100,
        optimizer: Any = "SGD",
        optimizer_param: dict[str, Any] | None = None,
        evaluate_sample_num_per_epoch: int | None = None,
        verbose: bool = True,
    ) -> None:
        if isinstance(optimizer, str) and optimizer.lower() in CLASSES:
            optimizer = CLASSES[optimizer.lower()]
            optimizer_param = {"lr": 0.01} if optimizer_param is None else optimizer_param
            if optimizer in self.optimizers:
                optimizer = self.optimizers[optimizer](**optimizer_param)
        super().__init__(
            network,
            x_train,
            t_train,
            x_test,
            t_test,
            epochs,
            mini_batch_size,
            optimizer,
            optimizer_param,
            evaluate_sample_num_per_epoch,
            verbose,
            reference_loss=True,
        )

    def train_step(self) -> None:
        """Draw a batch, take its gradient, update, take the loss; evaluate at some steps."""
        chosen = np.random.choice(self.train_size, self.batch_size)
        x_batch, t_batch = self.x_train[chosen], self.t_train[chosen]
        self._update(self.network.gradient(x_batch, t_batch))
        loss = self.network.loss(x_batch, t_batch)
        self.train_loss_list.append(loss)
        if self.verbose:
            print("train loss:" + str(loss))
        if self.current_iter % self.iter_per_epoch == 0:
            self.current_epoch += 1
            self._evaluate(self.evaluate_sample_num_per_epoch)
        self.current_iter += 1
