"""Options that several sub-commands of ``fastconv`` share, and the help of others."""

from __future__ import annotations

from typing import Any

from ..backends.algorithms import MATH_MODES
from ..datasets import DATASETS
from ..models import MODELS
from ..training.augment import Augmentation
from .parser import MATH_HELP, threads
from .types import image_size

__all__ = ["AUGMENT_HELP", "MODEL_HELP", "VIEWS_HELP", "add_common", "add_data"]

MODEL_HELP = f"network: {', '.join(MODELS)} (default: deepconvnet)"

AUGMENT_HELP = f"random changes of each training image: {', '.join(Augmentation.names())}"

VIEWS_HELP = (
    "answer on each image as it is and on others, on average: shift=PIXELS (4 more), "
    "rotate=DEGREES (2), scale=SHARE (2), mirror (twice as many), or none"
)


def add_data(parser: Any) -> None:
    """``--data`` and what says how a user's own images are read."""
    add = parser.add_argument
    add(
        "--data",
        metavar="DATA",
        help=f"{', '.join(DATASETS)}, or images of your own: a folder with one for each class, "
        "a .csv of paths and labels, an .npz (default: digits)",
    )
    add("--image-size", type=image_size, metavar="H[xW]", help="bring your images to this size")
    add("--grey", action="store_true", default=None, help="read your images without colour")


def add_common(parser: Any, *, backend: bool) -> None:
    """``--json`` and ``--debug``; with `backend`, also where and how to compute."""
    add = parser.add_argument
    if backend:
        add("--backend", metavar="NAME", help="numpy, numba, cython or another (default: auto)")
        add("--threads", type=threads, metavar="N", help="threads (default: one for each CPU)")
        add("--math", choices=MATH_MODES, help=MATH_HELP)
    add("--json", action="store_true", help="end standard output with one JSON object")
    add("--debug", action="store_true", help="show the traceback of an error")
