"""What ``fastconv augment`` does: a picture of what training with an augmentation would see."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import config as process
from .. import selection
from ..experiment.data import load_data
from ..experiment.figures import draw_samples
from ..training.augment import Augmentation
from .output import print_json

__all__ = ["run_augment"]

VARIANTS = 6
"""Changed versions of each image."""


def run_augment(options: argparse.Namespace, say: Callable[[str], None]) -> int:
    """Draw the first training image of each class, and changed versions of it.

    Parameters
    ----------
    options : namespace
        ``picture``, ``augment``, ``data``, ``data_dir``, ``seed``, ``backend``, ``threads``,
        ``json``.
    say : callable
        Told, in one line, what was drawn.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    ArgumentError, DataNotFound, DataCorrupt, MissingDependency
        As `load_data` and the figures say.
    """
    backend = selection.resolve(options.backend)
    process.set_num_threads(options.threads)
    augmentation = Augmentation.parse(options.augment)
    _, ((x_train, t_train), _) = load_data(options.data, options.data_dir)
    _, first = np.unique(t_train, return_index=True)
    images = x_train[first]
    rng = np.random.default_rng(options.seed)
    with selection.use_backend(backend):
        changed = augmentation(np.tile(images, (VARIANTS, 1, 1, 1)), rng)
    picture = Path(options.picture)
    rows = np.concatenate([images, changed]).reshape(1 + VARIANTS, *images.shape)
    draw_samples(picture, rows, str(augmentation))
    say(f"drawn: {picture}")
    if options.json:
        facts = {"picture": str(picture), "augment": str(augmentation), "data": options.data}
        print_json(facts | {"seed": options.seed, "backend": backend})
    return 0
