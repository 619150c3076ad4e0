"""``fastconv augment``: draw what training with an augmentation would see."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .. import config as process
from .. import figures, selection
from ..datasets import DATASETS
from ..experiment.data import Data
from ..experiment.settings import SETTINGS
from ..training.augment import Augmentation
from .options import add_common, add_setting
from .output import print_json, teller

__all__ = ["add_parser", "run"]

VARIANTS = 6
"""Changed versions of each image."""


def add_parser(commands: Any) -> None:
    """The command and its options."""
    parser = commands.add_parser(
        "augment",
        help="draw images as --augment would change them",
        description="Draw an image of each class, and below it, how an augmentation changes it.",
        epilog=(
            "example:\n  fastconv augment --data mnist --augment rotate=15,elastic=34 samples.png"
        ),
    )
    parser.add_argument("picture", metavar="PICTURE", help="the .png file to write")
    add_setting(parser, "augment", required=True)
    names = {"choices": DATASETS, "metavar": None}
    add_setting(
        parser, "data", **names, default=SETTINGS["data"].new, help="data set (default: digits)"
    )
    add_setting(parser, "data_dir")
    add_setting(parser, "seed", default=0, help="default: 0")
    add_common(parser, backend=True)


def run(options: argparse.Namespace) -> int:
    """Draw the first training image of each class, and changed versions; return the exit status."""
    backend = selection.resolve(options.backend)
    process.set_num_threads(options.threads)
    augmentation = Augmentation.parse(options.augment)
    (x_train, t_train), _ = Data(options.data).split(options.data_dir)
    _, first = np.unique(t_train, return_index=True)
    images = x_train[first]
    rng = np.random.default_rng(options.seed)
    with selection.use_backend(backend):
        changed = augmentation(np.tile(images, (VARIANTS, 1, 1, 1)), rng)
    picture = Path(options.picture)
    rows = np.concatenate([images, changed]).reshape(1 + VARIANTS, *images.shape)
    figures.save(figures.samples(rows, str(augmentation)), picture)
    teller(options)(f"drawn: {picture}")
    if options.json:
        facts = {"picture": str(picture), "augment": str(augmentation), "data": options.data}
        print_json(facts | {"seed": options.seed, "backend": backend})
    return 0
