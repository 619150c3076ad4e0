"""The book's optimizers (its chapter 6) and AdamW: ``update(params, grads)``, in place, key by key.

``lr`` and the other settings are plain attributes and may change between updates. Weight decay is
for weights, not for biases and scales: by default, for parameters of two or more axes.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import ops
from .backends.short import Short
from .errors import ArgumentError, suggestion
from .training.optimizer_base import Arrays, Optimizer, Step

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Nesterov", "RMSprop"]

PIECE = 1 << 15
"""Values updated at a time, so few that they stay in the cache during one update."""


def _pieces(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield views of arrays of one shape, `PIECE` values at a time where their memory allows it."""
    first = arrays[0]
    if first.size <= PIECE or not all(array.flags.c_contiguous for array in arrays):
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, first.size, PIECE):
        yield tuple(array[start : start + PIECE] for array in flat)


def _drop_subnormals(kept: NDArray[Any]) -> None:
    """Set values below the smallest normal number to 0, in place.

    A weight of a dead unit gets no gradient. The average of its earlier gradients decays until it
    is subnormal, then stays, since it rounds to itself; CPUs compute tens of times slower with it.
    """
    np.copyto(kept, 0, where=np.abs(kept) < np.finfo(kept.dtype).smallest_normal)


class SGD(Optimizer):
    """Stochastic gradient descent: p -= lr*g.

    Parameters
    ----------
    lr : float
    weight_decay : float
        L2: weight_decay*p is added to g.
    decayed : sequence of str, optional
        Patterns (`fnmatch`) of the parameters that decay; None: those of two or more axes.
    """

    def __init__(
        self,
        lr: float = 0.01,
        weight_decay: float = 0.0,
        decayed: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self._set_decay(weight_decay, decayed)

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        return short.sgd(params, grads, self.lr)

    def _take(self, step: Step) -> None:
        for param, grad in _pieces(step.param, step.grad):
            param -= step.lr * self._slope(param, grad, step.decays)


class Momentum(Optimizer):
    """Momentum: v = momentum*v - lr*g; p += v.

    Parameters
    ----------
    lr, momentum : float
    weight_decay : float
        L2: weight_decay*p is added to g.
    decayed : sequence of str, optional
        Patterns (`fnmatch`) of the parameters that decay; None: those of two or more axes.
    """

    kept = ("v",)
    v: Arrays

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        decayed: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum
        self._set_decay(weight_decay, decayed)

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        return short.momentum(params, grads, self.v, self.lr, self.momentum)

    def _take(self, step: Step) -> None:
        for param, grad, v in _pieces(step.param, step.grad, *step.kept):
            v *= self.momentum
            v -= step.lr * self._slope(param, grad, step.decays)
            _drop_subnormals(v)
            param += v


class Nesterov(Optimizer):
    """Nesterov's accelerated gradient (arXiv:1212.0901).

    p += momentum^2 * v - (1 + momentum)*lr*g with the old v; then
    v = momentum*v - lr*g.
    """

    kept = ("v",)
    v: Arrays

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        return short.nesterov(params, grads, self.v, self.lr, self.momentum)

    def _take(self, step: Step) -> None:
        (v,) = step.kept
        down = step.lr * step.grad
        param = step.param
        param += self.momentum * self.momentum * v - (1 + self.momentum) * down
        v *= self.momentum
        v -= down
        _drop_subnormals(v)


class AdaGrad(Optimizer):
    """AdaGrad: h += g*g; p -= lr*g / (sqrt(h) + 1e-7)."""

    kept = ("h",)
    h: Arrays

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        return short.adagrad(params, grads, self.h, self.lr)

    def _take(self, step: Step) -> None:
        (h,) = step.kept
        param = step.param
        h += step.grad * step.grad
        param -= step.lr * step.grad / (np.sqrt(h) + 1e-7)


class RMSprop(Optimizer):
    """RMSprop: h = decay_rate*h + (1 - decay_rate)*g*g; p -= lr*g / (sqrt(h) + 1e-7)."""

    kept = ("h",)
    h: Arrays

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        super().__init__()
        self.lr = lr
        self.decay_rate = decay_rate

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        return short.rmsprop(params, grads, self.h, self.lr, self.decay_rate)

    def _take(self, step: Step) -> None:
        (h,) = step.kept
        param = step.param
        h *= self.decay_rate
        h += (1 - self.decay_rate) * step.grad * step.grad
        _drop_subnormals(h)
        param -= step.lr * step.grad / (np.sqrt(h) + 1e-7)


class Adam(Optimizer):
    """Adam (arXiv:1412.6980), in the book's form, on the active backend.

    lr_t = lr*sqrt(1 - beta2^t)/(1 - beta1^t); m += (1 - beta1)*(g - m);
    v += (1 - beta2)*(g*g - v); p -= lr_t*m / (sqrt(v) + 1e-7).
    """

    kept = ("m", "v")
    m: Arrays
    v: Arrays

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        super().__init__()
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.iter = 0

    def _count(self) -> None:
        self.iter += 1
        beta1, beta2 = self.beta1**self.iter, self.beta2**self.iter
        self._numbers = np.sqrt(1.0 - beta2) / (1.0 - beta1), self._epsilon()

    def _take_short(self, short: Short, params: Arrays, grads: Arrays) -> bool:
        self._count()
        correction, epsilon = self._numbers
        numbers = float(self.lr * correction), self.beta1, self.beta2, epsilon
        taken = short.adam(params, grads, self.m, self.v, *numbers)
        if not taken:
            self.iter -= 1
        return taken

    def _take(self, step: Step) -> None:
        correction, epsilon = self._numbers
        lr = float(step.lr * correction)
        m, v = step.kept
        beta1, beta2 = self.beta1, self.beta2
        ops.checked_adam_update(step.param, step.grad, m, v, lr, beta1, beta2, epsilon)

    def _epsilon(self) -> float:
        """What is added to sqrt(v), where v has no bias correction."""
        return 1e-7


class AdamW(Adam):
    """Adam with decoupled weight decay (arXiv:1711.05101), by PyTorch's formulas.

    ``p *= 1 - lr*weight_decay``; then, with m and v as in `Adam`,
    ``p -= lr * m/(1 - beta1^t) / (sqrt(v/(1 - beta2^t)) + eps)``.

    Parameters
    ----------
    lr, beta1, beta2 : float
    weight_decay : float
    eps : float
        Added to the root of the bias-corrected v; in the book's `Adam` v has no correction.
    decayed : sequence of str, optional
        Patterns (`fnmatch`) of the parameters that decay; None: those of two or more axes.

    Raises
    ------
    ArgumentError
        A number is out of range; in `update`, a pattern matches no parameter.
    """

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        weight_decay: float = 0.01,
        eps: float = 1e-8,
        decayed: Sequence[str] | None = None,
    ) -> None:
        super().__init__(lr, beta1, beta2)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ArgumentError(f"AdamW: {name} must be at least 0 and below 1, got {beta}")
        if not 0 < eps < math.inf:
            raise ArgumentError(f"AdamW: eps must be greater than 0, got {eps}")
        self.eps = eps
        self._set_decay(weight_decay, decayed)

    def _take(self, step: Step) -> None:
        if step.decays:
            param = step.param
            param *= 1.0 - step.lr * self.weight_decay
        super()._take(step)

    def _epsilon(self) -> float:
        return self.eps * math.sqrt(1.0 - self.beta2**self.iter)


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}
"""The optimizers by a Trainer's names for them, in lower case."""


def make_optimizer(name: str, settings: dict[str, Any]) -> Any:
    """Return the optimizer of this name, in upper or lower case, with its settings.

    Raises
    ------
    ArgumentError
        The name or a setting is unknown.
    """
    if not isinstance(name, str) or name.lower() not in OPTIMIZERS:
        raise ArgumentError(
            f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}"
            f"{suggestion(name, OPTIMIZERS)}"
        )
    make = OPTIMIZERS[name.lower()]
    own = inspect.signature(make).parameters
    for key in settings:
        if key not in own:
            raise ArgumentError(
                f"optimizer {name!r}: unknown setting {key!r}; known: {', '.join(own)}"
                f"{suggestion(key, own)}"
            )
    try:
        return make(**settings)
    except TypeError as error:
        raise ArgumentError(f"optimizer {name!r}: {error}") from error
