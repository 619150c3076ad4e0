"""The trained network that comes with fastconv, so that digits can be read without training one.

It is DeepConvNet after ``fastconv train --recipe mnist-book``, its weights rounded to float16.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ABOUT", "WEIGHTS"]

WEIGHTS = Path(__file__).with_name("deepconvnet-mnist.npz")

CORRECT = 9_933
"""Of MNIST's 10,000 test images."""

ABOUT = f"fastconv's own DeepConvNet, which reads {CORRECT / 100:.2f} % of MNIST's test images"
