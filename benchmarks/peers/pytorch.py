"""PyTorch on the CPU: eager in two memory formats, and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from . import CHECKED, MOMENTUM, PADS, AnyProblem, ConvProblem, ModelProblem, Problem, torch_twins

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


def make(mode: str, problem: AnyProblem) -> Any:
    """Return the contender; `mode` is eager, compile or autocast, then the memory format."""
    torch.set_num_threads(problem.threads)
    execution, memory = mode.split()
    if isinstance(problem, ConvProblem):
        return OneConvolution(memory, problem)
    if isinstance(problem, ModelProblem):
        return Model(execution, memory, problem)
    return PyTorch(execution, memory, problem)


FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def as_asked(network: torch.nn.Module, execution: str) -> Any:
    """The network's forward; under autocast it multiplies bfloat16s, and backward does too."""
    if execution == "compile":
        return torch.compile(network)
    if execution == "eager":
        return network

    def forward(*inputs: Any) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*inputs).float()

    return forward


class PyTorch:
    def __init__(self, execution: str, memory: str, problem: Problem) -> None:
        self.memory = FORMATS[memory]
        self.take(problem.x, problem.t)
        self.network = DeepConvNet(problem.params).to(self.x.dtype, memory_format=self.memory)
        self.masks = [torch.from_numpy(mask) for mask in problem.masks]
        # The faster of its forms for a network of sixteen small arrays.
        self.adam = torch.optim.Adam(self.network.parameters(), lr=0.001, eps=1e-7, fused=True)
        self.forward = as_asked(self.network, execution)

    def take(self, x: np.ndarray, t: np.ndarray) -> None:
        """Go on with other images and labels."""
        self.x = torch.from_numpy(x).to(memory_format=self.memory)
        self.t = torch.from_numpy(t.astype(np.int64))

    @torch.inference_mode()
    def scores(self) -> np.ndarray:
        return self.forward(self.x).numpy()

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
        self.forward(self.x)

    def step(self) -> None:
        self._backward([(torch.rand(mask.shape) > 0.5).to(self.x.dtype) for mask in self.masks])
        self.adam.step()

    def _backward(self, masks: list[torch.Tensor]) -> None:
        self.adam.zero_grad()
        functional.cross_entropy(self.forward(self.x, masks), self.t).backward()


TWINS = {
    "vgg16": lambda: torch_twins.vgg(16, False, 1000, 3, 4096),
    "resnet50": lambda: torch_twins.ResNet(50, 1000, 3),
    "googlenet": lambda: torch_twins.GoogLeNet(1000, 3, heads=False),
}


def take_weights(network: torch.nn.Module, problem: ModelProblem) -> None:
    """Load the problem's weights, all of them by name."""
    state = {key: torch.tensor(value) for key, value in problem.state.items()}
    found = network.load_state_dict(state, strict=False)
    # PyTorch counts batches besides, which nothing here reads.
    missing = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
    if missing or found.unexpected_keys:
        raise RuntimeError(f"{problem.network}: another network's weights: {found}")


class Model:
    """A large network without dropout; a comparison begins from the problem's weights."""

    def __init__(self, execution: str, memory: str, problem: ModelProblem) -> None:
        network = TWINS[problem.network]()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        network.to(getattr(torch, problem.x.dtype.name))
        if problem.state:
            take_weights(network, problem)
        self.network = network.to(memory_format=FORMATS[memory])
        self.x = torch.from_numpy(problem.x).contiguous(memory_format=FORMATS[memory])
        self.t = torch.from_numpy(problem.t)
        self.forward = as_asked(self.network, execution)
        self.sgd = torch.optim.SGD(self.network.parameters(), **MOMENTUM)

    @torch.inference_mode()
    def scores(self) -> np.ndarray:
        self.network.eval()
        return self.forward(self.x[:CHECKED]).numpy()

    def gradients(self) -> dict[str, np.ndarray]:
        self._backward(CHECKED)
        return {
            key: (p.grad.T if p.ndim == 2 else p.grad).numpy()
            for key, p in self.network.named_parameters()
        }

    @torch.inference_mode()
    def infer(self) -> None:
        self.network.eval()
        self.forward(self.x)

    def step(self) -> None:
        self._backward(len(self.x))
        self.sgd.step()

    def _backward(self, images: int) -> None:
        self.network.train()
        self.sgd.zero_grad()
        functional.cross_entropy(self.forward(self.x[:images]), self.t[:images]).backward()


class OneConvolution:
    """The convolution as PyTorch's own layer, forward and backward."""

    def __init__(self, memory: str, problem: ConvProblem) -> None:
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
