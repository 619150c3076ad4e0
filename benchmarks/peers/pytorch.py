"""PyTorch on the CPU: eager in two memory formats, and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from . import PADS, ConvProblem, Problem

__all__ = ["make"]


class DeepConvNet(torch.nn.Module):
    """The book's network; its dropout does not rescale what is kept."""

    def __init__(self, params: dict[str, np.ndarray]) -> None:
        super().__init__()
        self.convolutions = torch.nn.ModuleList()
        for number, pad in enumerate(PADS, start=1):
            filters, channels, size, _ = params[f"W{number}"].shape
            self.convolutions.append(torch.nn.Conv2d(channels, filters, size, padding=pad))
        self.hidden = torch.nn.Linear(*params["W7"].shape)
        self.output = torch.nn.Linear(*params["W8"].shape)
        with torch.no_grad():
            for number, layer in enumerate(self.weighted(), start=1):
                weight = params[f"W{number}"]
                layer.weight.copy_(torch.from_numpy(weight.T if weight.ndim == 2 else weight))
                layer.bias.copy_(torch.from_numpy(params[f"b{number}"]))

    def weighted(self) -> list[Any]:
        return [*self.convolutions, self.hidden, self.output]

    def forward(self, x: torch.Tensor, masks: Any = None) -> torch.Tensor:
        for number, convolution in enumerate(self.convolutions):
            x = functional.relu(convolution(x))
            if number % 2:
                x = functional.max_pool2d(x, 2)
        x = functional.relu(self.hidden(x.flatten(1)))
        x = x * 0.5 if masks is None else x * masks[0]
        x = self.output(x)
        return x * 0.5 if masks is None else x * masks[1]


def make(mode: str, problem: Problem) -> Any:
    """Return the contender; `mode` is eager or compile, then the memory format."""
    torch.set_num_threads(problem.threads)
    kind = OneConvolution if isinstance(problem, ConvProblem) else PyTorch
    return kind(*mode.split(), problem)


FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class PyTorch:
    def __init__(self, way: str, memory: str, problem: Problem) -> None:
        self.memory = FORMATS[memory]
        self.take(problem.x, problem.t)
        self.network = DeepConvNet(problem.params).to(self.x.dtype, memory_format=self.memory)
        self.masks = [torch.from_numpy(mask) for mask in problem.masks]
        # The faster of its forms for a network of sixteen small arrays.
        self.adam = torch.optim.Adam(self.network.parameters(), lr=0.001, eps=1e-7, fused=True)
        self.run = torch.compile(self.network) if way == "compile" else self.network

    def take(self, x: np.ndarray, t: np.ndarray) -> None:
        """Go on with other images and labels."""
        self.x = torch.from_numpy(x).to(memory_format=self.memory)
        self.t = torch.from_numpy(t.astype(np.int64))

    @torch.inference_mode()
    def scores(self) -> np.ndarray:
        return self.run(self.x).numpy()

    def gradients(self) -> dict[str, np.ndarray]:
        self._backward(self.masks)
        found = {}
        for number, layer in enumerate(self.network.weighted(), start=1):
            weight = layer.weight.grad.numpy().copy()
            found[f"W{number}"] = weight.T if weight.ndim == 2 else weight
            found[f"b{number}"] = layer.bias.grad.numpy().copy()
        return found

    @torch.inference_mode()
    def infer(self) -> None:
        self.run(self.x)

    def step(self) -> None:
        self._backward([(torch.rand(mask.shape) > 0.5).to(self.x.dtype) for mask in self.masks])
        self.adam.step()

    def _backward(self, masks: list[torch.Tensor]) -> None:
        self.adam.zero_grad()
        functional.cross_entropy(self.run(self.x, masks), self.t).backward()


class OneConvolution:
    """The convolution as PyTorch's own layer, forward and backward."""

    def __init__(self, way: str, memory: str, problem: ConvProblem) -> None:
        p = problem
        filters, channels, size, _ = p.weight.shape
        layer = torch.nn.Conv2d(channels, filters, size, stride=p.stride, padding=p.pad)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(p.weight))
            layer.bias.copy_(torch.from_numpy(p.bias))
        self.layer = layer.to(memory_format=FORMATS[memory])
        self.x = torch.from_numpy(p.x).to(memory_format=FORMATS[memory])
        self.x.requires_grad_(p.input_gradient)
        self.dout = torch.from_numpy(p.dout).to(memory_format=FORMATS[memory])
        self.out: Any = None

    def gradients(self) -> dict[str, np.ndarray]:
        self.step()
        found = {"out": self.out.detach(), "dweight": self.layer.weight.grad}
        found |= {"dbias": self.layer.bias.grad}
        if self.x.grad is not None:
            found["dx"] = self.x.grad
        return {name: tensor.numpy() for name, tensor in found.items()}

    def step(self) -> None:
        self.layer.zero_grad()
        self.x.grad = None
        self.out = self.layer(self.x)
        self.out.backward(self.dout)
