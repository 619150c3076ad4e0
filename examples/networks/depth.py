"""Depth with and without shortcuts: ResNet-110 beside its plain twin, on real digits.

The paper's point (arXiv:1512.03385, figure 6): 110 layers train where shortcuts let the gradient
through, and hardly move where they do not. Both start from the same weights, see the same
batches of 1,437 handwritten digits at 32 x 32, and are drawn into one picture.

::

    python examples/networks/depth.py depth.png
    python examples/networks/depth.py --depth 56 --steps 100 --batch 64 depth56.png
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

from fastconv.datasets import load_digits
from fastconv.models import MODELS
from fastconv.optimizer import Momentum
from fastconv.progress import ProgressBar


def losses(network, images, labels, options, name):
    """Loss of each step."""
    optimizer = Momentum(lr=options.lr)
    draw = np.random.default_rng(options.seed)
    found = []
    print(name)
    with ProgressBar(options.steps, 0, show=True) as bar:
        for _ in range(options.steps):
            started = time.perf_counter()
            batch = draw.choice(len(images), options.batch)
            optimizer.update(network.params, network.gradient(images[batch], labels[batch]))
            found.append(network.last_layer.loss)
            bar.advance(options.batch / (time.perf_counter() - started), found[-1])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="the PNG file to draw")
    parser.add_argument("--depth", type=int, choices=(20, 56, 110), default=110)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    (images, labels), _ = load_digits(flatten=False)
    images = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)])
    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).add_subplot()
    for shortcuts in (True, False):
        name = f"{options.depth} layers {'with' if shortcuts else 'without'} shortcuts"
        model = MODELS[f"resnet{options.depth}"]
        network = model(10, 1, shortcuts=shortcuts, seed=options.seed)
        curve = losses(network, images, labels, options, name)
        tenth = max(1, options.steps // 10)
        first, last = np.mean(curve[:tenth]), np.mean(curve[-tenth:])
        print(f"  loss: {first:.3f} in the first tenth, {last:.3f} in the last")
        (line,) = axes.plot(curve, alpha=0.3, linewidth=0.8)
        smooth = np.convolve(curve, np.ones(tenth) / tenth, "valid")
        axes.plot(np.arange(len(smooth)) + tenth / 2, smooth, color=line.get_color(), label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("training loss")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    figure.savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
