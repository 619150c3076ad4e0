"""The options of ``fastconv train``."""

from __future__ import annotations

import argparse
import math
from typing import Any

from ..datasets import DATASETS
from ..experiment.folder import LARGEST_SEED
from ..models import MODELS
from ..optimizer import OPTIMIZERS
from ..training.schedules import SCHEDULES
from .options_common import AUGMENT_HELP, MODEL_HELP, VIEWS_HELP, add_common, add_data
from .parser import whole
from .types import augmentation, members, number, rate, share, views

__all__ = ["add_train", "add_train_options"]


def add_train(commands: Any) -> None:
    """The sub-command ``fastconv train``."""
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Train a network and keep the run in a folder. Ctrl-C saves before it ends.",
        epilog=(
            "examples:\n"
            "  fastconv train\n"
            "  fastconv train --data mnist --epochs 20 --seed 0 --out runs/mnist\n"
            "  fastconv train --recipe mnist-book --seed 1     # see fastconv recipes\n"
            "  fastconv train --members 5 --views shift=1      # an ensemble\n"
            "  fastconv train --epochs 20 --lr 0.004 --schedule one-cycle\n"
            "  fastconv train --data photos --image-size 64   # a folder for each class\n"
            "  fastconv train --optimizer adamw --weight-decay 0.05 --ema 0.999\n"
            "  fastconv train --epochs 50 --validation 0.1 --patience 5\n"
            "  fastconv train --augment rotate=10,shift=2,scale=0.1\n"
            "  fastconv train --init weights.npz --freeze 'W[1-6]'   # convolutions as they are\n"
            "  fastconv train --resume runs/mnist --epochs 30"
        ),
    )
    add_train_options(train)


def add_train_options(train: Any) -> None:
    """The options of ``fastconv train``; those that are not given are None."""
    epochs = ", ".join(f"{name} {dataset.epochs}" for name, dataset in DATASETS.items())
    epochs += ", your own 20"
    add = train.add_argument
    add(
        "--recipe",
        metavar="RECIPE",
        help="settings of a name that fastconv recipes lists, or of "
        "a .toml file; options given beside it come first",
    )
    add("--model", choices=MODELS, metavar="NAME", help=MODEL_HELP)
    add_data(train)
    add("--data-dir", metavar="FOLDER", help="folder of the data set's files (mnist)")
    add(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="images of your own with mean 0 and deviation 1 by channel (default: do)",
    )
    add("--test-share", type=share, metavar="X", help="of your images, to test on (0.2)")
    add("--strict-data", action="store_true", help="stop at an image that cannot be read")
    add("--epochs", type=whole(1), metavar="N", help=f"epochs (default: {epochs})")
    add("--batch-size", type=whole(1), metavar="N", help="images per step (default: 100)")
    add("--optimizer", type=str.lower, choices=OPTIMIZERS, help="default: adam")
    add("--lr", type=rate, metavar="X", help="learning rate (default: the optimizer's own)")
    add(
        "--schedule",
        choices=SCHEDULES,
        help="how the learning rate goes over the run (default: constant)",
    )
    add("--rise", type=share, metavar="X", help="part of one-cycle that goes up (default: 0.3)")
    add("--augment", type=augmentation, metavar="NAME=NUMBER,...", help=AUGMENT_HELP)
    _add_regularisation(train)
    add("--init", metavar="WEIGHTS", help="start from a file's weights, where name and shape agree")
    add("--freeze", metavar="PATTERN,...", help="train no more what these match: W1, features.*")
    add(
        "--members",
        type=members,
        metavar="K",
        help="train K networks, of seeds that follow each other, and let them answer together; "
        "or their models, with commas between them",
    )
    add("--views", type=views, metavar="NAME=NUMBER,...", help=VIEWS_HELP)
    add("--dtype", choices=("float32", "float64"), help="default: float32")
    add(
        "--seed",
        type=whole(0, LARGEST_SEED),
        metavar="N",
        help="repeat the run of this seed (default: drawn, and kept in the run's config.json)",
    )
    add("--out", metavar="FOLDER", help="run folder (default: runs/MODEL-DATA-DATE-TIME)")
    add("--resume", metavar="RUN", help="continue the run in this folder")
    add_common(train, backend=True)


def _add_regularisation(train: Any) -> None:
    """Options that keep a network from learning its training images by heart."""
    add, share = train.add_argument, number(0, 1, least_too=False)
    not_negative = number(0, math.inf, least_too=True)
    add(
        "--weight-decay",
        type=not_negative,
        metavar="X",
        help="shrink the weights: sgd, momentum, adamw (default: the optimizer's own)",
    )
    add(
        "--label-smoothing",
        type=number(0, 1, least_too=True),
        metavar="X",
        help="spread this share of each label over all classes (default: 0)",
    )
    add("--clip-norm", type=rate, metavar="X", help="limit the norm of each step's gradients")
    averages = train.add_mutually_exclusive_group()
    averages.add_argument(
        "--ema",
        type=share,
        metavar="DECAY",
        help="test and keep a moving average of the weights, such as 0.999",
    )
    averages.add_argument(
        "--swa",
        type=whole(1),
        metavar="EPOCH",
        help="test and keep the mean of the weights at the ends of epochs, from this one on",
    )
    add(
        "--validation",
        type=share,
        metavar="SHARE",
        help="set this share of the training images apart, and watch the run on them",
    )
    add(
        "--patience",
        type=whole(1),
        metavar="N",
        help="end after N epochs that validation finds no better; keep the best epoch's weights",
    )
