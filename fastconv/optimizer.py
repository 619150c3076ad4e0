"""The book's optimizers (its chapter 6): ``update(params, grads)``, in place, key by key.

``lr`` and the other settings are plain attributes and may change between updates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import ops
from .errors import ArgumentError, WeightsError
from .selection import settled

__all__ = ["OPTIMIZERS", "SGD", "AdaGrad", "Adam", "Momentum", "Nesterov", "RMSprop"]

Arrays = dict[str, NDArray[Any]]


class _Optimizer:
    """What the optimizers share: arrays kept from step to step, one per parameter."""

    kept: tuple[str, ...] = ()

    def __init__(self) -> None:
        for name in self.kept:
            setattr(self, name, None)

    def _start(self, params: Arrays) -> None:
        """Make the kept arrays, zeros, when the first update shows the parameters."""
        for name in self.kept:
            if getattr(self, name) is None:
                setattr(self, name, {key: _zeros_like(value) for key, value in params.items()})

    def state(self) -> Arrays:
        """Return what is kept between steps as arrays, for a checkpoint."""
        arrays = {}
        for name in self.kept:
            for key, value in (getattr(self, name) or {}).items():
                arrays[f"{name}/{key}"] = value
        if hasattr(self, "iter"):
            arrays["iter"] = np.array(self.iter)
        return arrays

    def load_state(self, arrays: Arrays) -> None:
        """Take back what `state` returned.

        Raises
        ------
        WeightsError
            The arrays are those of another optimizer.
        """
        groups: dict[str, Arrays] = {}
        for path, value in arrays.items():
            name, _, key = path.partition("/")
            if path == "iter" and hasattr(self, "iter"):
                self.iter = int(value)
            elif name in self.kept and key:
                groups.setdefault(name, {})[key] = value.copy()
            else:
                raise WeightsError(f"{type(self).__name__}: cannot take the state {path!r}")
        for name in self.kept:
            setattr(self, name, groups.get(name))


def _zeros_like(param: ArrayLike) -> NDArray[Any]:
    # Moments of float16 parameters would vanish in float16.
    param = np.asarray(param)
    return np.zeros(param.shape, np.result_type(param.dtype, np.float32))


class SGD(_Optimizer):
    """Stochastic gradient descent: p -= lr*g."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        for key in params:
            params[key] -= self.lr * grads[key]


class Momentum(_Optimizer):
    """Momentum: v = momentum*v - lr*g; p += v."""

    kept = ("v",)
    v: Arrays

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.lr = lr
        self.momentum = momentum

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        self._start(params)
        for key in params:
            v = self.v[key]
            v *= self.momentum
            v -= self.lr * grads[key]
            params[key] += v


class Nesterov(_Optimizer):
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

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        self._start(params)
        for key in params:
            v = self.v[key]
            step = self.lr * grads[key]
            params[key] += self.momentum * self.momentum * v - (1 + self.momentum) * step
            v *= self.momentum
            v -= step


class AdaGrad(_Optimizer):
    """AdaGrad: h += g*g; p -= lr*g / (sqrt(h) + 1e-7)."""

    kept = ("h",)
    h: Arrays

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.lr = lr

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        self._start(params)
        for key in params:
            h = self.h[key]
            h += grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(h) + 1e-7)


class RMSprop(_Optimizer):
    """RMSprop: h = decay_rate*h + (1 - decay_rate)*g*g; p -= lr*g / (sqrt(h) + 1e-7)."""

    kept = ("h",)
    h: Arrays

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        super().__init__()
        self.lr = lr
        self.decay_rate = decay_rate

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        self._start(params)
        for key in params:
            h = self.h[key]
            h *= self.decay_rate
            h += (1 - self.decay_rate) * grads[key] * grads[key]
            params[key] -= self.lr * grads[key] / (np.sqrt(h) + 1e-7)


class Adam(_Optimizer):
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

    def update(self, params: Arrays, grads: Arrays) -> None:
        """Take one step on every parameter, in place."""
        self._start(params)
        self.iter += 1
        correction = np.sqrt(1.0 - self.beta2**self.iter) / (1.0 - self.beta1**self.iter)
        lr_t = float(self.lr * correction)
        with settled():
            for key, param in params.items():
                # The book also minimises functions of plain numbers, kept in a dict like these.
                array = param if isinstance(param, np.ndarray) else np.array(param, float)
                ops.adam_update(
                    array, grads[key], self.m[key], self.v[key], lr_t, self.beta1, self.beta2, 1e-7
                )
                if array is not param:
                    params[key] = array[()]


OPTIMIZERS: dict[str, type[_Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adagrad": AdaGrad,
    "rmsprop": RMSprop,
    "adam": Adam,
}
"""The optimizers by the names that a Trainer takes, in lower case."""


def make_optimizer(name: str, settings: dict[str, Any]) -> Any:
    """Return the optimizer of this name, in any case, with its settings.

    Raises
    ------
    ArgumentError
        The name, or a setting, is not known.
    """
    known = ", ".join(OPTIMIZERS)
    if not isinstance(name, str) or name.lower() not in OPTIMIZERS:
        raise ArgumentError(f"unknown optimizer {name!r}; known: {known}")
    try:
        return OPTIMIZERS[name.lower()](**settings)
    except TypeError as error:
        raise ArgumentError(f"optimizer {name!r}: {error}") from error
