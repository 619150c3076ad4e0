"""Batch normalisation, over features and per channel, and local response normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .case import Arguments, Case, draw

__all__ = ["cases"]

RESNET50 = ((8, 64, 56, 56), (8, 256, 56, 56), (8, 1024, 14, 14), (8, 2048, 7, 7))
"""(N, C, H, W) of some of ResNet-50's batch normalisations."""


def cases(full: bool) -> Iterator[Case]:
    # Behind a convolution and behind a fully connected layer of DeepConvNet.
    for n, d in ((100, 12544), (100, 50)) if full else ((4, 18),):
        yield from _features(n, d)
    for shape in RESNET50 if full else ((2, 5, 6, 7),):
        yield from _channels(shape)
    yield from _response((8, 96, 55, 55) if full else (2, 9, 4, 4))


def _features(n: int, d: int) -> Iterator[Case]:
    label = f"{n}x{d}"

    def vectors(rng: np.random.Generator, *names: str) -> Arguments:
        return {name: np.abs(draw(rng, d)) + 0.5 for name in names} | {"epsilon": 1e-6}

    def infer(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, d)} | vectors(rng, "gamma", "beta", "mean", "variance")

    def train(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, n, d)} | vectors(rng, "gamma", "beta")

    def backward(rng: np.random.Generator) -> Arguments:
        arrays = {"dout": draw(rng, n, d), "normalized": draw(rng, n, d)}
        return arrays | vectors(rng, "gamma", "variance")

    outputs = {"out": (n, d), "normalized": (n, d), "mean": (d,), "variance": (d,)}
    yield Case("batchnorm_train", label, train, outputs)
    yield Case("batchnorm_infer", label, infer, {"out": (n, d)})
    gradients = {"dx": (n, d), "dgamma": (d,), "dbeta": (d,)}
    yield Case("batchnorm_backward", label, backward, gradients)


def _channels(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    """As between two convolutions: ReLU, nothing added."""
    n, c, h, _ = shape
    label = f"{c}@{h},N={n}"

    def vectors(rng: np.random.Generator, *names: str) -> Arguments:
        return {name: np.abs(draw(rng, c)) + 0.5 for name in names}

    def apply(rng: np.random.Generator) -> Arguments:
        inputs = {"x": draw(rng, *shape), "residual": None, "relu": True}
        return inputs | vectors(rng, "centre", "scale", "shift")

    def backward(rng: np.random.Generator) -> Arguments:
        inputs = {name: draw(rng, *shape) for name in ("dout", "gate", "x")}
        return inputs | vectors(rng, "mean", "inv_std", "gamma")

    outputs = {"mean": (c,), "variance": (c,)}
    yield Case("batchnorm2d_statistics", label, lambda rng: {"x": draw(rng, *shape)}, outputs)
    yield Case("batchnorm2d_apply", label, apply, {"out": shape})
    gradients = {"dx": shape, "dgamma": (c,), "dbeta": (c,), "dresidual": None}
    yield Case("batchnorm2d_backward", label, backward, gradients)


def _response(shape: tuple[int, int, int, int]) -> Iterator[Case]:
    settings: Arguments = {"size": 5, "alpha": 5e-4, "beta": 0.75}
    label = f"{shape[1]}@{shape[2]},5 channels,N={shape[0]}"

    def forward(rng: np.random.Generator) -> Arguments:
        return {"x": draw(rng, *shape), "k": 2.0} | settings

    def backward(rng: np.random.Generator) -> Arguments:
        arrays = {name: draw(rng, *shape) for name in ("dout", "x")}
        return arrays | {"scale": np.abs(draw(rng, *shape)) + 2} | settings

    yield Case("lrn_forward", label, forward, {"out": shape, "scale": shape})
    yield Case("lrn_backward", label, backward, {"dx": shape})
