"""What an exported ONNX model says about its images, and models that say so, ready to predict."""

from __future__ import annotations

from dataclasses import asdict
from os import PathLike

from .._version import __version__
from ..datasets.record import ImageFacts
from ..errors import DataCorrupt
from ..io.onnx_runtime import OnnxModel
from ..io.records import json_text, read_record, record_of

__all__ = ["as_metadata", "read_exported"]

VERSION = "fastconv"
"""The key of the version; the others are the fields of `ImageFacts`, with JSON for values."""


def as_metadata(facts: ImageFacts) -> dict[str, str]:
    """Return what a model has to say about its images, as the metadata of an ONNX file."""
    described = {name: json_text(value) for name, value in asdict(facts).items()}
    return {VERSION: __version__} | described


def read_exported(path: str | PathLike[str], threads: int) -> tuple[ImageFacts, OnnxModel]:
    """Read an ONNX model with what `as_metadata` wrote.

    Raises
    ------
    DataNotFound, DataCorrupt, MissingDependency
        No such file, not one of a model with a description of its images, or ONNX Runtime is not
        installed.
    """
    model = OnnxModel(path, threads)
    if VERSION not in model.metadata:
        raise DataCorrupt(
            f"{path}: does not say what its images and classes are: expected a model that "
            "fastconv export has written, of a run or an ensemble"
        )
    described = {key: text for key, text in model.metadata.items() if key != VERSION}
    source = f"{path}: its metadata"
    values = {key: read_record(text, object, source) for key, text in described.items()}
    facts = record_of(values, ImageFacts, source)
    if model.classes != len(facts.class_names):
        raise DataCorrupt(
            f"{source}: {len(facts.class_names)} names of classes, but the model has "
            f"{model.classes}"
        )
    return facts, model
