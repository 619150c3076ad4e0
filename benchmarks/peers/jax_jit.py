"""JAX on the CPU: everything under jit, channels last.

JAX takes as many threads as the process may use processors; whoever starts the process
sees to that.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import PADS, Problem

__all__ = ["make"]

IMAGE = (64, 4, 4)
"""(C, H, W) in front of the first fully connected layer."""


def make(mode: str, problem: Problem) -> Any:
    """Return the contender; it has no modes."""
    return JaxJit(problem)


def to_channels_last(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Filters as (FH, FW, C, FN), and the rows of W7 in the order of H, W, C."""
    found = {k: v.transpose(2, 3, 1, 0) if v.ndim == 4 else v for k, v in params.items()}
    hidden = params["W7"].reshape(*IMAGE, -1).transpose(1, 2, 0, 3)
    return found | {"W7": hidden.reshape(params["W7"].shape)}


def from_channels_last(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The way back, for gradients."""
    found = {k: v.transpose(3, 2, 0, 1) if v.ndim == 4 else v for k, v in arrays.items()}
    c, h, w = IMAGE
    hidden = arrays["W7"].reshape(h, w, c, -1).transpose(2, 0, 1, 3)
    return found | {"W7": hidden.reshape(arrays["W7"].shape)}


def network(p: Any, x: Any, mask_1: Any, mask_2: Any) -> Any:
    """Scores of images (N, H, W, C)."""
    for number, pad in enumerate(PADS, start=1):
        x = jax.lax.conv_general_dilated(
            x,
            p[f"W{number}"],
            window_strides=(1, 1),
            padding=[(pad, pad)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = jax.nn.relu(x + p[f"b{number}"])
        if number % 2 == 0:
            window = (1, 2, 2, 1)
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, window, "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ p["W7"] + p["b7"]) * mask_1
    return (x @ p["W8"] + p["b8"]) * mask_2


def loss(p: Any, x: Any, t: Any, mask_1: Any, mask_2: Any) -> Any:
    log = jax.nn.log_softmax(network(p, x, mask_1, mask_2))
    return -jnp.take_along_axis(log, t[:, None], axis=1).mean()


def adam_step(p: Any, m: Any, v: Any, count: Any, x: Any, t: Any, *masks: Any) -> Any:
    """(p, m, v, count) after one step of Adam."""
    gradients = jax.grad(loss)(p, x, t, *masks)
    count = count + 1
    rate = 0.001 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    m = {key: m[key] + 0.1 * (gradients[key] - m[key]) for key in p}
    v = {key: v[key] + 0.001 * (gradients[key] ** 2 - v[key]) for key in p}
    p = {key: p[key] - rate * m[key] / (jnp.sqrt(v[key]) + 1e-7) for key in p}
    return p, m, v, count


class JaxJit:
    def __init__(self, problem: Problem) -> None:
        self.masks = problem.masks
        self.x = jax.device_put(problem.x.transpose(0, 2, 3, 1))
        self.t = jax.device_put(problem.t)
        self.params = jax.device_put(to_channels_last(problem.params))
        zeros = jax.tree.map(jnp.zeros_like, self.params)
        self.state = (self.params, zeros, jax.tree.map(jnp.copy, zeros), jnp.float32(0))
        self.evaluate = jax.jit(lambda p, x: network(p, x, 0.5, 0.5))
        self.gradient = jax.jit(jax.grad(loss))
        self.advance = jax.jit(adam_step)

    def scores(self) -> np.ndarray:
        return np.asarray(self.evaluate(self.params, self.x))

    def gradients(self) -> dict[str, np.ndarray]:
        found = self.gradient(self.params, self.x, self.t, *self.masks)
        return from_channels_last({key: np.asarray(value) for key, value in found.items()})

    def infer(self) -> None:
        self.evaluate(self.params, self.x).block_until_ready()

    def step(self) -> None:
        masks = [(np.random.rand(*mask.shape) > 0.5).astype(np.float32) for mask in self.masks]
        self.state = self.advance(*self.state, self.x, self.t, *masks)
        jax.block_until_ready(self.state)
