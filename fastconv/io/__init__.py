"""Files of weights and checkpoints, exchange with ONNX and PyTorch; reading never runs code."""

from .onnx_model import export_onnx
from .torch_weights import from_torch, to_torch
from .weights import load_params, save_params

__all__ = ["export_onnx", "from_torch", "load_params", "save_params", "to_torch"]
