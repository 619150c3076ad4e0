"""The Trainer that ``common.trainer`` gives: the original's draws, evaluations and lines."""

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
    "addgrad": "AdaGrad",  # older editions have it so
    "momentum": "Momentum",
    "nesterov": "Nesterov",
    "rmsprop": "RMSprop",
    "rmsprpo": "RMSprop",  # and this one
    "sgd": "SGD",
}
"""The optimizers by the keys that a Trainer of the book's reads, in lower case."""


class Trainer(trainer.Trainer):
    """Train as the book's Trainer does, to the draw, so that a seeded script repeats.

    It differs from `fastconv.Trainer` where that one departs from the book on purpose: the loss
    of a step is that of a second forward pass, after the update, and accuracies are taken
    where ``current_iter % iter_per_epoch == 0``, which with a batch size that does not divide
    the training set is seldom. Parameters are those of the book.

    Attributes
    ----------
    optimizers : mapping of str to class
        The names of the user's module, in which the book's Trainer finds its optimizers; those
        of fastconv where that is all there is.
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
            if optimizer in self.optimizers:
                settings = {"lr": 0.01} if optimizer_param is None else optimizer_param
                optimizer = self.optimizers[optimizer](**settings)
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
