"""Files of weights, exchange with ONNX, PyTorch and Keras; reading never runs code."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .weights import load_params, save_params

if TYPE_CHECKING:
    from .keras_weights import from_keras
    from .onnx_model import export_onnx
    from .torch_weights import from_torch, to_torch

__all__ = ["export_onnx", "from_keras", "from_torch", "load_params", "save_params", "to_torch"]

_HOMES = {
    "export_onnx": "onnx_model",
    "from_keras": "keras_weights",
    "from_torch": "torch_weights",
    "to_torch": "torch_weights",
}
"""Modules that are imported when they are asked for: every network imports this package."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
