"""The data of a run, a named set or images of a user's own, in one form.

A run keeps in its configuration what its images are, and pictures that come later go through
the same: size, colour, classes, normalization.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import DATASETS, Dataset, Normalization, load_images
from ..datasets.finish import DataSplit
from ..datasets.image_file import frame_digit, read_image
from ..datasets.picture import read_picture
from ..datasets.record import ImageFacts, ImageSet, Part, printable
from ..datasets.user_images import describe_unreadable, load_test_images, open_images
from ..errors import ArgumentError, DataCorrupt
from ..io.paths import user_path
from .folder import RunConfig

__all__ = [
    "ImageOptions",
    "data_name",
    "describe_data",
    "find",
    "image_facts",
    "load_data",
    "load_for_test",
    "load_for_training",
    "prepare_picture",
]

MOST_NAMES = 10
"""Classes of which a line lists the names."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class ImageOptions:
    """How a user's own images are to be taken, as far as somebody says; see `load_images`.

    Attributes
    ----------
    size : (H, W) or None
    grey : bool or None
    normalize : bool or None
        Bring channels to mean 0 and standard deviation 1; None: do.
    test_share : float or None
    strict : bool
    """

    size: tuple[int, int] | None = None
    grey: bool | None = None
    normalize: bool | None = None
    test_share: float | None = None
    strict: bool = False


def find(kind: str, name: str, table: dict[str, Any]) -> Any:
    """``table[name]``, or an `ArgumentError` that says which names there are."""
    if name not in table:
        raise ArgumentError(f"unknown {kind} {name!r}; known: {', '.join(table)}")
    return table[name]


def data_name(data: str) -> str:
    """What to call a run's data: the name of a set, or that of a user's folder or file."""
    return data if data in DATASETS else printable(Path(data).name)


def load_data(name: str, data_dir: str | None) -> tuple[Dataset, DataSplit]:
    """Load a named data set as networks take it: images (N, C, H, W) in [0, 1], labels (N,).

    Raises
    ------
    ArgumentError
        An unknown data set, a folder for one that has no use for it, or no such folder.
    DataNotFound, DataCorrupt, MissingDependency
        As the data set's loader says.
    """
    dataset: Dataset = find("data set", name, DATASETS)
    if data_dir is None:
        return dataset, dataset.load(flatten=False)
    if not dataset.takes_folder:
        raise ArgumentError(f"data set {name} comes with a package and takes no --data-dir")
    if not user_path(data_dir).is_dir():
        raise ArgumentError(f"the data folder {data_dir} does not exist")
    return dataset, dataset.load(flatten=False, data_dir=data_dir)


def image_facts(config: RunConfig) -> ImageFacts:
    """What the images of a run are; of a named set, what its entry in the table says."""
    if config.image_facts is not None:
        return config.image_facts
    dataset: Dataset = find("data set", config.data, DATASETS)
    return ImageFacts(dataset.image_shape, dataset.label_names, None, None, None)


def describe_data(
    data: str, options: ImageOptions, progress: bool
) -> tuple[tuple[int, int, int], int]:
    """Shape of the images and number of classes of data that no run has been made on yet."""
    if data in DATASETS:
        _expect_none(options, data)
        return DATASETS[data].image_shape, len(DATASETS[data].label_names)
    source = open_images(data, size=options.size, grey=options.grey, progress=progress)
    return source.shape, len(source.class_names)


def load_for_training(
    config: RunConfig, options: ImageOptions, *, progress: bool, say: Say
) -> tuple[RunConfig, ImageSet]:
    """Load the data of a run, normalized; return its configuration with what they are.

    Parameters
    ----------
    config : RunConfig
        Of a run to resume, with its images' facts: the data must be the same then.
    options : ImageOptions
    progress : bool
        Show bars on standard error where reading takes more than a few seconds.
    say : callable
        Told, in one line each, what was loaded and what was left out.

    Raises
    ------
    ArgumentError
        Options that the data have no use for, or others than the run was started with.
    DataNotFound, DataCorrupt, MissingDependency
        As the loaders say; or the data are not those of the run to resume.
    """
    if config.data in DATASETS:
        _expect_none(options, config.data)
        dataset, (train, test) = load_data(config.data, config.data_dir)
        return config, ImageSet(Part(*train), Part(*test), None, dataset.label_names)
    if config.data_dir is not None:
        raise ArgumentError("--data-dir: --data names the place of these images itself")
    facts = config.image_facts
    if facts is not None:
        _expect_same(options, facts)
        size = facts.shape[1:]
        options = dataclasses.replace(
            options, size=size, grey=facts.shape[0] == 1, test_share=facts.test_share
        )
    images = load_images(
        config.data,
        size=options.size,
        grey=options.grey,
        test_share=options.test_share,
        seed=config.split_seed,
        strict=options.strict,
        progress=progress,
    )
    if facts is None:
        pixels = images.train.images
        statistics = None if options.normalize is False else Normalization.of(pixels)
        facts = ImageFacts(
            pixels.shape[1:], images.class_names, statistics, images.test_share, images.fingerprint
        )
    elif facts.fingerprint != images.fingerprint:
        raise DataCorrupt(
            f"{config.data}: not the images that the run to resume was started with: files were "
            "added, removed, renamed or changed"
        )
    _tell(config.data, images, say)
    for part in (images.train, images.test, images.validation):
        if part is not None and facts.normalization is not None:
            facts.normalization.apply(part.images, out=part.images)
    return dataclasses.replace(config, image_facts=facts), images


def load_for_test(
    config: RunConfig,
    data: str,
    data_dir: str | None,
    *,
    strict: bool,
    progress: bool,
    say: Say,
) -> ImageSet:
    """Load what a trained network is to be tested on, prepared as its training images were.

    Parameters
    ----------
    config : RunConfig
        Of its training.
    data, data_dir : str
        What to test it on: the run's own data, or others with the same classes.
    strict, progress, say
        As in `load_for_training`.

    Raises
    ------
    ArgumentError
        Images of another shape, or of classes that the network does not know.
    DataNotFound, DataCorrupt, MissingDependency
        As the loaders say.
    """
    facts = image_facts(config)
    if data in DATASETS:
        dataset, (_, (x, labels)) = load_data(data, data_dir)
        if (x.shape[1:], dataset.label_names) != (facts.shape, facts.class_names):
            raise ArgumentError(
                f"--data {data}: images of {_times(x.shape[1:])} in {len(dataset.label_names)} "
                f"classes; the network was trained on {_times(facts.shape)} in "
                f"{len(facts.class_names)} other ones"
            )
        if facts.normalization is not None:
            x = facts.normalization.apply(x)
        return ImageSet(Part(x[:0], labels[:0]), Part(x, labels), None, dataset.label_names)
    if data_dir is not None:
        raise ArgumentError("--data-dir: --data names the place of these images itself")
    own_place = config.data not in DATASETS and Path(data).resolve() == Path(config.data).resolve()
    images = load_test_images(
        data, facts, seed=config.split_seed, own_place=own_place, strict=strict, progress=progress
    )
    _tell(data, images, say)
    if facts.normalization is not None:
        facts.normalization.apply(images.test.images, out=images.test.images)
    return images


def prepare_picture(path: str, facts: ImageFacts) -> NDArray[np.floating]:
    """Read a picture (C, H, W) as the network's training images were: by the same steps.

    A network of a named set of digits gets one digit, framed as MNIST's are.

    Raises
    ------
    DataNotFound, DataCorrupt, MissingDependency
        No such file, not a picture, or Pillow is not installed.
    """
    if facts.fingerprint is None:
        return frame_digit(read_image(path), path)
    picture = read_picture(path, facts.shape)
    return picture if facts.normalization is None else facts.normalization.apply(picture)


def _tell(data: str, images: ImageSet, say: Say) -> None:
    """Say what was loaded, what was left out, and what was not taken as it is."""
    parts = {"training": images.train, "validation": images.validation, "test": images.test}
    counts = [f"{len(part):,} {name}" for name, part in parts.items() if part]
    names = images.class_names
    listed = f" ({', '.join(names)})" if len(names) <= MOST_NAMES else ""
    say(
        f"{data_name(data)}: {', '.join(counts)} images of {_times(images.test.images.shape[1:])} "
        f"in {len(names)} classes{listed}"
    )
    for note in images.notes:
        say(f"  {note}")
    if images.unreadable:
        say(f"  {describe_unreadable(images.unreadable)}")


def _times(lengths: tuple[int, ...]) -> str:
    return " x ".join(map(str, lengths))


def _expect_none(options: ImageOptions, data: str) -> None:
    given = [name for name, value in _spelled(options).items() if value is not None]
    if given or options.strict:
        raise ArgumentError(
            f"{', '.join(given) or '--strict-data'}: for images of your own; data set {data} is "
            "taken as it is"
        )


def _expect_same(options: ImageOptions, facts: ImageFacts) -> None:
    started = ImageOptions(
        facts.shape[1:], facts.shape[0] == 1, facts.normalization is not None, facts.test_share
    )
    before = _spelled(started)
    for name, value in _spelled(options).items():
        if value is not None and value != before[name]:
            raise ArgumentError(
                f"{name} {value}: the run to resume was started with {before[name]}; "
                "leave it out, or start another run"
            )


def _spelled(options: ImageOptions) -> dict[str, Any]:
    return {
        "--image-size": None if options.size is None else "x".join(map(str, options.size)),
        "--grey": options.grey,
        "--normalize": options.normalize,
        "--test-share": options.test_share,
    }
