"""Convolution, pooling and smoothed loss against PyTorch, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from fastconv.layers import Convolution, Pooling, SoftmaxWithLoss

from .compare import assert_close
from .geometries import FEW_CHANNELS, SEEDS, geometries, moved, numbers

torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")


def leaf(array: np.ndarray):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def padded(images, g, value: float = 0.0):
    """Images with the padding around them."""
    top, left, bottom, right = g.pads
    return torch.nn.functional.pad(images, (left, right, top, bottom), value=value)


@given(geometries(FEW_CHANNELS, one_stride=False), FEW_CHANNELS, SEEDS)
def test_convolution(backend, dtype, g, filters, seed):
    draw = numbers(seed, dtype)
    x, weight, bias = draw(*g.input_shape), draw(filters, g.c, g.fh, g.fw), draw(filters)
    dout = draw(*g.output_shape(filters))
    theirs = [leaf(array) for array in (x, weight, bias)]
    out = torch.nn.functional.conv2d(padded(theirs[0], g), *theirs[1:], stride=g.strides)
    out.backward(torch.tensor(dout, dtype=torch.float64))
    ours = Convolution(weight, bias, *moved(g), backend)
    assert_close(ours.forward(x), out.detach().numpy(), dtype=dtype)
    assert_close(ours.backward(dout), theirs[0].grad.numpy(), dtype=dtype)
    assert_close(ours.dW, theirs[1].grad.numpy(), dtype=dtype)
    scale = np.abs(dout).max(initial=0) or None
    assert_close(ours.db, theirs[2].grad.numpy(), dtype=dtype, scale=scale)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")  # it copies
@pytest.mark.parametrize("side", [(3, 3), (2, 5), (4, 1)])
@pytest.mark.parametrize("dilation", [1, 2])
def test_same(backend, side, dilation):
    draw = numbers(0, np.dtype(np.float64))
    x, weight = draw(2, 3, 9, 8), draw(5, 3, *side)
    theirs = torch.nn.functional.conv2d(
        torch.tensor(x), torch.tensor(weight), padding="same", dilation=dilation
    )
    ours = Convolution(weight, None, 1, "same", backend, dilation=dilation)
    assert_close(ours.forward(x), theirs.numpy(), dtype=x.dtype)


@given(geometries(FEW_CHANNELS, pooling=True), SEEDS)
def test_pooling(backend, dtype, g, seed):
    if g.n == 0:
        return  # PyTorch pools no empty batch
    draw = numbers(seed, dtype)
    x, dout = draw(*g.input_shape), draw(*g.output_shape(g.c))
    theirs = leaf(x)
    out = torch.nn.functional.max_pool2d(padded(theirs, g, -np.inf), (g.fh, g.fw), g.strides)
    out.backward(torch.tensor(dout, dtype=torch.float64))
    ours = Pooling(g.fh, g.fw, *moved(g), backend)
    assert_close(ours.forward(x), out.detach().numpy(), dtype=dtype, tolerance=0)
    assert_close(ours.backward(dout), theirs.grad.numpy(), dtype=dtype)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("smoothing", [0.05, 0.5])
def test_label_smoothing(backend, dtype, rng, smoothing, one_hot):
    scores, t = (20 * rng.standard_normal((9, 7))).astype(dtype), rng.integers(0, 7, 9)
    theirs = leaf(scores)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(theirs, torch.tensor(t))
    loss.backward()
    layer = SoftmaxWithLoss(backend, label_smoothing=smoothing)
    got = np.asarray(layer.forward(scores, np.eye(7)[t] if one_hot else t), dtype)
    assert_close(got, loss.detach().numpy(), dtype=dtype)
    assert_close(layer.backward(), theirs.grad.numpy(), dtype=dtype)
