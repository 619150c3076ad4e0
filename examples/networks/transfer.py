"""Transfer: what a network has learnt of five digits helps with the other five.

A DeepConvNet learns the digits 0 to 4. Then 5 to 9 are learnt from few images each, three times:
by a network that takes over its convolutions and trains only the affine layers, by one that takes
them over and trains everything, and by one that starts from nothing. The curve is accuracy against
the number of images.

::

    python examples/networks/transfer.py transfer.png
    python examples/networks/transfer.py --data mnist --data-dir DIR --images 1 2 5 10 50 curve.png
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure

from fastconv.datasets import load_digits, load_mnist
from fastconv.models import DeepConvNet
from fastconv.trainer import Trainer
from fastconv.transfer import take_weights

WAYS = ("from nothing", "convolutions taken over, frozen", "convolutions taken over")


def of_classes(split, classes):
    """The images of these classes, which are numbered from 0."""
    return [
        (x[np.isin(t, classes)], np.searchsorted(classes, t[np.isin(t, classes)])) for x, t in split
    ]


def train(network, train_set, test_set, epochs, seed):
    """Accuracy on the test set after training."""
    settings = {"optimizer": "Adam", "optimizer_param": {"lr": 0.001}, "mini_batch_size": 50}
    settings |= {"evaluate_sample_num_per_epoch": 0, "evaluate": "end", "verbose": False}
    Trainer(network, *train_set, *test_set, epochs=epochs, seed=seed, **settings).train()
    return network.accuracy(*test_set)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", help="the PNG file to draw")
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data-dir", help="folder of MNIST's files")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50])
    parser.add_argument("--steps", type=int, default=100, help="of each small training")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if options.data == "mnist":
        split = load_mnist(flatten=False, data_dir=options.data_dir)
        epochs = 1
    else:
        split, epochs = load_digits(flatten=False), 15
    first, second = of_classes(split, range(5)), of_classes(split, range(5, 10))

    teacher = DeepConvNet(output_size=5, seed=0)
    accuracy = train(teacher, *first, epochs, 0)
    print(f"digits 0 to 4: {100 * accuracy:.2f} % after {epochs} epochs of {len(first[0][0]):,}")

    results = {way: [] for way in WAYS}
    for images in options.images:
        for way in WAYS:
            found = []
            for seed in range(options.seeds):
                draw = np.random.default_rng(seed)
                x, t = second[0]
                few = [draw.choice(np.flatnonzero(t == c), images, replace=False) for c in range(5)]
                chosen = np.concatenate(few)
                network = DeepConvNet(output_size=5, seed=seed + 1)
                if way != WAYS[0]:
                    take_weights(network, {k: v for k, v in teacher.state().items() if k[1] < "7"})
                if "frozen" in way:
                    network.freeze("W[1-6]")
                epochs = options.steps / max(len(chosen) / 50, 1)
                found.append(train(network, (x[chosen], t[chosen]), second[1], epochs, seed))
            results[way].append(100 * np.array(found))
            mean, spread = results[way][-1].mean(), np.ptp(results[way][-1]) / 2
            print(f"digits 5 to 9, {images:3} images each, {way:32}: {mean:.1f} +- {spread:.1f} %")

    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).add_subplot()
    for way, found in results.items():
        middle, low, high = np.mean(found, axis=1), np.min(found, axis=1), np.max(found, axis=1)
        axes.plot(options.images, middle, marker="o", label=way)
        axes.fill_between(options.images, low, high, alpha=0.15)
    axes.set_xscale("log")
    axes.set_xticks(options.images, [str(count) for count in options.images])
    axes.set_xlabel("training images of each digit 5 to 9")
    axes.set_ylabel("accuracy in %")
    axes.legend(frameon=False)
    figure.savefig(options.picture, dpi=150)


if __name__ == "__main__":
    main()
