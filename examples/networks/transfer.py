"""Transfer: what a network has learnt of five digits helps with the other five.

A network learns the digits 0 to 4. Then 5 to 9 are learnt from few images each, three times: by a
network that takes over the body and trains only the affine layers behind it, by one that takes it
over and trains it on, at a tenth of the learning rate, and by one that starts from nothing. All
take as many steps, on the same images. The curve is accuracy on the test images against the number
of images, with the lowest and the highest of the seeds.

::

    python examples/networks/transfer.py transfer.png
    python examples/networks/transfer.py transfer.png --data mnist --data-dir DIR
    python examples/networks/transfer.py transfer.png --model resnet20
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

import fastconv
from fastconv.datasets import load_digits, load_mnist
from fastconv.models import make_model
from fastconv.trainer import Trainer
from fastconv.network.transfer import take_weights

HEADS = {"deepconvnet": ("W7", "b7", "W8", "b8"), "resnet20": ("linear.weight", "linear.bias")}
"""What each model draws anew for other classes; the rest is its body."""

WAYS = ("from nothing", "taken over, body frozen", "taken over, body at a tenth of the rate")


def of_classes(split, classes):
    """The images of these classes, which are numbered from 0."""
    return [
        (x[np.isin(t, classes)], np.searchsorted(classes, t[np.isin(t, classes)])) for x, t in split
    ]


def train(network, x, t, steps, batch_size, seed, **settings):
    """So many steps; nothing is looked at on the way."""
    settings |= {"optimizer": "Adam", "optimizer_param": {"lr": 0.001}, "verbose": False}
    epochs = steps / max(len(x) / batch_size, 1)
    none = x[:0], t[:0]
    Trainer(network, x, t, *none, epochs, batch_size, seed=seed, **settings).train()


def learn_few(way, teacher, model, few, steps, seed):
    """A network for the other digits, trained on a few of them in one of the `WAYS`."""
    network = make_model(model, (1, 28, 28), 5, seed=seed + 1)
    if way == "from nothing":
        train(network, *few, steps, 50, seed)
        return network
    head = HEADS[model]
    take_weights(network, {key: value for key, value in teacher.items() if key not in head})
    body = [key for key in network.params if key not in head]
    if way == "taken over, body frozen":
        network.freeze(*body)
        train(network, *few, steps, 50, seed)
    else:
        train(network, *few, steps, 50, seed, lr_factors=dict.fromkeys(body, 0.1))
    return network


def draw(path, counts, results, title):
    """Accuracy against images, and the range of the seeds."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for way, found in results.items():
        line = axes.plot(counts, np.mean(found, axis=1), marker="o", label=way)[0]
        low, high = np.min(found, axis=1), np.max(found, axis=1)
        axes.fill_between(counts, low, high, color=line.get_color(), alpha=0.15)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_title(title, fontsize="medium")
    axes.set_xlabel("training images of each digit 5 to 9")
    axes.set_ylabel("test accuracy in %")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="the PNG file to draw")
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data-dir", help="folder of MNIST's files")
    parser.add_argument("--model", choices=tuple(HEADS), default="deepconvnet")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 5, 20, 100])
    parser.add_argument("--steps", type=int, default=200, help="of each small training")
    parser.add_argument("--teacher-steps", type=int, default=600, help="on the digits 0 to 4")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    started = time.perf_counter()
    fastconv.set_num_threads(options.threads)
    if options.data == "mnist":
        split = load_mnist(flatten=False, data_dir=options.data_dir)
    else:
        split = load_digits(flatten=False)
    first, second = of_classes(split, range(5)), of_classes(split, range(5, 10))

    teacher = make_model(options.model, (1, 28, 28), 5, seed=0)
    train(teacher, *first[0], options.teacher_steps, 100, 0)
    known, count = 100 * teacher.accuracy(*first[1]), len(first[0][0])
    print(
        f"digits 0 to 4, {count:,} images, {options.teacher_steps} steps: {known:.2f} %", flush=True
    )

    x, t = second[0]
    results = {way: [] for way in WAYS}
    for images in options.images:
        for way in WAYS:
            found = []
            for seed in range(options.seeds):
                choice = np.random.default_rng(seed).choice
                few = [choice(np.flatnonzero(t == c), images, replace=False) for c in range(5)]
                chosen = np.concatenate(few)
                few = x[chosen], t[chosen]
                network = learn_few(way, teacher.state(), options.model, few, options.steps, seed)
                found.append(100 * network.accuracy(*second[1]))
            results[way].append(found)
            mean, spread = np.mean(found), np.std(found, ddof=1) if len(found) > 1 else np.nan
            line = f"digits 5 to 9, {images:3} images each, {way:40} {mean:5.1f} +- {spread:.1f} %"
            if way != "from nothing":
                # Each seed is the same images in all ways: their differences tell more.
                gain = np.subtract(found, results["from nothing"][-1])
                line += f", gain {gain.mean():+.1f}, in {np.sum(gain > 0)} of {len(gain)} seeds"
            print(line, flush=True)
    title = f"{options.model}, {options.data}, {options.seeds} seeds, {options.steps} steps"
    draw(options.picture, options.images, results, title)
    print(f"{options.picture}: {time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
