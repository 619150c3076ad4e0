"""Files of weights, exchange with ONNX and PyTorch, checkpoints; reading one never runs code."""

from .onnx_model import export_onnx
from .torch_weights import from_torch, to_torch
from .weights import load_params, save_params

__all__ = ["export_onnx", "from_torch", "load_params", "save_params", "to_torch"]
