"""The data of a run, a named set or a user's own images, in one form.

A run keeps the form of its images in its configuration (size, colour, classes, normalization), and
later pictures are brought to the same form.

The modules that read pictures are imported where they are used: a run's settings need none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets import DATASETS, Dataset, Normalization
from ..datasets.finish import DataSplit
from ..datasets.record import ImageFacts, ImageSet, Part, expect_size, printable
from ..errors import ArgumentError, DataCorrupt, suggestion
from ..io.paths import user_path
from ..io.records import Within
from .setting import setting, settings_of

__all__ = ["OWN_EPOCHS", "Data", "ImageOptions", "prepare_picture"]

OWN_EPOCHS = 20
"""Epochs of training on a user's own images, by default."""

MOST_NAMES = 10
"""Most classes whose names a line lists."""

Say = Callable[[str], None]


def _size(text: str) -> tuple[int, int]:
    """``64`` as (64, 64), ``48x64`` as (48, 64)."""
    height, _, width = text.lower().partition("x")
    try:
        size = int(height), int(width or height)
    except ValueError:
        size = (0, 0)
    if min(size) < 1:
        raise ArgumentError(f"must be a height, or HxW, of at least 1, got {text}")
    expect_size("must be of another size", size)
    return size


@dataclass(frozen=True)
class ImageOptions:
    """How to read a user's own images, as far as the user says; see `load_images`.

    Part of the table of settings, `fastconv.experiment.settings.SETTINGS`. A run keeps the result,
    with all else about its images, as its `ImageFacts`.
    """

    image_size: tuple[int, int] | None = setting(
        "bring your images to this size", "H[xW]", parse=_size, written=int | str, belongs_to="data"
    )
    grey: bool | None = setting("read your images without colour", flag=True, belongs_to="data")
    normalize: bool | None = setting(
        "images of your own with mean 0 and deviation 1 by channel (default: do)", belongs_to="data"
    )
    test_share: Within | None = setting("of your images, to test on (0.2)", "X", belongs_to="data")
    strict_data: bool | None = setting(
        "stop at an image that cannot be read", flag=True, in_recipes=False
    )

    def said(self) -> dict[str, Any]:
        """The options that were given, with their values."""
        values = {each.option: getattr(self, name) for name, each in _OPTIONS.items()}
        return {
            option: "x".join(map(str, value)) if isinstance(value, tuple) else value
            for option, value in values.items()
            if value is not None
        }


_OPTIONS = settings_of(ImageOptions)


class Data:
    """The data that ``--data`` names: a data set, or a path of the user's own images.

    Attributes
    ----------
    text : str
    dataset : Dataset or None
        The data set of that name; None for the user's own images.
    name : str
        What to call the data.
    epochs : int
        How long to train on them by default.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.dataset: Dataset | None = DATASETS.get(text)
        self.name = text if self.dataset else printable(Path(text).name)
        self.epochs = self.dataset.epochs if self.dataset else OWN_EPOCHS

    @property
    def own(self) -> bool:
        """Whether these are the user's own images."""
        return self.dataset is None

    @property
    def facts(self) -> ImageFacts:
        """The facts of a data set's images; those of the user's own come from loading them."""
        dataset = self._named()
        return ImageFacts(dataset.image_shape, dataset.label_names, None, None, None)

    def _named(self) -> Dataset:
        if self.dataset is None:
            raise ArgumentError(
                f"unknown data set {self.text!r}; known: {', '.join(DATASETS)}"
                f"{suggestion(self.text, DATASETS)}"
            )
        return self.dataset

    def beside(self, folder: Path) -> str:
        """The text with its path taken from `folder`, so that it means the same anywhere."""
        return str(folder / user_path(self.text)) if self.own else self.text

    def settled(self) -> str:
        """The text as a run keeps it; an `ArgumentError` if there are no such data."""
        place = self.beside(Path.cwd())
        if self.own and not Path(place).exists():
            raise ArgumentError(
                f"--data {self.text}: no such file or folder, and no data set; known data sets: "
                f"{', '.join(DATASETS)}{suggestion(self.text, DATASETS)}"
            )
        return place

    def shape(self, options: ImageOptions, progress: bool) -> tuple[tuple[int, int, int], int]:
        """Shape (C, H, W) of the images and number of classes, without a run."""
        if self.dataset is not None:
            self._expect_none(options)
            return self.dataset.image_shape, len(self.dataset.label_names)
        from ..datasets.user_images import open_images

        size, grey = options.image_size, options.grey
        source = open_images(self.text, size=size, grey=grey, progress=progress)
        return source.shape, len(source.class_names)

    def split(self, data_dir: str | None) -> DataSplit:
        """Load a data set as networks take it: images (N, C, H, W) in [0, 1], labels (N,).

        Raises
        ------
        ArgumentError
            An unknown data set, a folder for a data set that takes none, or no such folder.
        DataNotFound, DataCorrupt, MissingDependency
            As the data set's loader says.
        """
        dataset = self._named()
        if data_dir is None:
            return dataset.load(flatten=False)
        if not dataset.takes_folder:
            raise ArgumentError(
                f"data set {self.name} comes with a package and takes no --data-dir"
            )
        if not user_path(data_dir).is_dir():
            raise ArgumentError(f"the data folder {data_dir} does not exist")
        return dataset.load(flatten=False, data_dir=data_dir)

    def load(
        self,
        options: ImageOptions,
        facts: ImageFacts | None,
        *,
        data_dir: str | None,
        seed: int,
        progress: bool,
        say: Say,
    ) -> tuple[ImageFacts | None, ImageSet]:
        """Load the images to train and test a network on, normalized.

        With the `facts` of a run to resume, the user's own images must be the same as then. Returns
        the images and their facts. `data_dir` is the folder of a data set's files, `seed` splits
        images that have no test part, `progress` shows bars if reading takes more than a few
        seconds, and `say` gets lines about what was loaded and what was left out.

        Raises
        ------
        ArgumentError
            Options that do not apply to the data, or differ from those that started the run.
        DataNotFound, DataCorrupt, MissingDependency
            As the loaders say; or the data are not those of the run to resume.
        """
        if self.dataset is not None:
            self._expect_none(options)
            self._tell_of_folder(say)
            train, test = self.split(data_dir)
            return facts, ImageSet(Part(*train), Part(*test), None, self.dataset.label_names)
        from ..datasets.user_images import load_images

        self._expect_no_folder(data_dir)
        if facts is not None:
            options = _as_before(options, facts)
        images = load_images(
            self.text,
            size=options.image_size,
            grey=options.grey,
            test_share=options.test_share,
            seed=seed,
            strict=bool(options.strict_data),
            progress=progress,
        )
        if facts is None:
            pixels, share = images.train.images, images.test_share
            statistics = None if options.normalize is False else Normalization.of(pixels)
            shape, names = pixels.shape[1:], images.class_names
            facts = ImageFacts(shape, names, statistics, share, images.fingerprint)
        elif facts.fingerprint != images.fingerprint:
            raise DataCorrupt(
                f"{self.text}: not the images that the run to resume was started with: files were "
                "added, removed, renamed or changed"
            )
        self._tell(images, say)
        for part in (images.train, images.test, images.validation):
            if part is not None and facts.normalization is not None:
                facts.normalization.apply(part.images, out=part.images)
        return facts, images

    def load_test(
        self,
        facts: ImageFacts,
        trained_on: Data,
        *,
        data_dir: str | None,
        seed: int,
        strict: bool,
        progress: bool,
        say: Say,
    ) -> ImageSet:
        """Load the images to test a trained network on, prepared as its training images were.

        `facts` describes those, and `trained_on` says where they came from; `strict` stops at an
        image that cannot be read. The other parameters are as in `load`.

        Raises
        ------
        ArgumentError
            Images of another shape, or of classes that the network does not know.
        DataNotFound, DataCorrupt, MissingDependency
            As the loaders say.
        """
        if self.dataset is not None:
            self._tell_of_folder(say)
            names, (_, (x, labels)) = self.dataset.label_names, self.split(data_dir)
            if (x.shape[1:], names) != (facts.shape, facts.class_names):
                raise ArgumentError(
                    f"--data {self.name}: images of {_times(x.shape[1:])} in {len(names)} "
                    f"classes; the network was trained on {_times(facts.shape)} in "
                    f"{len(facts.class_names)} other ones"
                )
            if facts.normalization is not None:
                x = facts.normalization.apply(x)
            return ImageSet(Part(x[:0], labels[:0]), Part(x, labels), None, names)
        from ..datasets.user_images import load_test_images

        self._expect_no_folder(data_dir)
        same = trained_on.own and Path(self.text).resolve() == Path(trained_on.text).resolve()
        images = load_test_images(
            self.text, facts, seed=seed, own_place=same, strict=strict, progress=progress
        )
        self._tell(images, say)
        if facts.normalization is not None:
            facts.normalization.apply(images.test.images, out=images.test.images)
        return images

    def _expect_none(self, options: ImageOptions) -> None:
        if said := options.said():
            others = [option for option in said if option != "--strict-data"]
            raise ArgumentError(
                f"{', '.join(others or said)}: for images of your own; data set {self.name} is "
                "taken as it is"
            )

    def _expect_no_folder(self, data_dir: str | None) -> None:
        if data_dir is not None:
            raise ArgumentError("--data-dir: --data names the place of these images itself")

    def _tell_of_folder(self, say: Say) -> None:
        """Say that a data set is meant where the user's own images may be."""
        if Path(self.text).is_dir():
            say(f"{self.name}: the data set of that name, not the folder, which is ./{self.name}")

    def _tell(self, images: ImageSet, say: Say) -> None:
        """Say what was loaded, what was left out, and what was changed."""
        parts = {"training": images.train, "validation": images.validation, "test": images.test}
        counts = [f"{len(part):,} {name}" for name, part in parts.items() if part]
        names = images.class_names
        listed = f" ({', '.join(names)})" if len(names) <= MOST_NAMES else ""
        say(
            f"{self.name}: {', '.join(counts)} images of {_times(images.test.images.shape[1:])} "
            f"in {len(names)} {'class' if len(names) == 1 else 'classes'}{listed}"
        )
        for note in images.notes:
            say(f"  {note}")
        if images.unreadable:
            from ..datasets.user_images import describe_unreadable

            say(f"  {describe_unreadable(images.unreadable)}")


def _as_before(options: ImageOptions, facts: ImageFacts) -> ImageOptions:
    """The options that a run was started with; an `ArgumentError` if others are given now."""
    height, width = facts.shape[1:]
    grey, normalized = facts.shape[0] == 1, facts.normalization is not None
    before = ImageOptions((height, width), grey, normalized, facts.test_share, options.strict_data)
    for name, value in options.said().items():
        if value != (started := before.said().get(name)):
            raise ArgumentError(
                f"{name} {value}: the run to resume was started with {started}; "
                "leave it out, or start another run"
            )
    return before


def prepare_picture(path: str | bytes, facts: ImageFacts) -> NDArray[np.floating]:
    """Read a picture (C, H, W) by the same steps as the network's training images.

    It is a file's path, or its content. A network of MNIST's kind of images gets one digit, framed
    as MNIST's are.

    Raises
    ------
    DataNotFound, DataCorrupt, MissingDependency
        No such file, not a picture, or Pillow is not installed.
    """
    from ..datasets.image_file import frame_digit, read_image
    from ..datasets.picture import read_picture

    if facts.ink:
        return frame_digit(read_image(path), path if isinstance(path, str) else "the picture")
    picture = read_picture(path, facts.shape)
    return picture if facts.normalization is None else facts.normalization.apply(picture)


def _times(lengths: tuple[int, ...]) -> str:
    return " x ".join(map(str, lengths))
