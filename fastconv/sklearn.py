"""Networks as scikit-learn's estimators, for its pipelines, searches and scores.

It needs scikit-learn, the extra ``sklearn``.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import ArgumentError, DataWarning, LabelError, MissingDependency, ShapeError
from .functions import softmax
from .geometry import as_int
from .models import make_model
from .optimizer import make_optimizer
from .trainer import Record, Trainer
from .training.augment import Augmentation
from .training.batches import Augment
from .training.callbacks import Callback
from .training.schedules import make_schedule

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise MissingDependency(
        "fastconv.sklearn needs scikit-learn 1.6 or later, the extra sklearn: "
        "pip install scikit-learn"
    ) from None

__all__ = ["ConvNetClassifier"]

Shape = tuple[int, int, int]

PREDICTED = 256
"""Images that are predicted at a time."""


class ConvNetClassifier(ClassifierMixin, BaseEstimator):
    """A convolutional network that classifies images.

    Samples X are images (N, C, H, W), or rows (N, C*H*W) in that order. They should be scaled to
    about 0..1, or standardised, as for any network.

    Parameters
    ----------
    model : str or callable
        One of `fastconv.models.MODELS`; or a function ``model((C, H, W), classes, seed=...)``
        that returns a `Network`.
    image_shape : (C, H, W), optional
        Of the images that are rows; one of the three may be -1, and follows from the others. By
        default, square images of 1 or 3 channels.
    epochs, batch_size : int
        Batches are drawn with replacement, and are at most as large as the training set.
    optimizer : str
        As the Trainer's.
    learning_rate : float, optional
        The highest; by default the optimizer's own.
    schedule : str
        How it goes over the run: one of `fastconv.training.schedules.SCHEDULES`.
    augment : str or callable, optional
        Random changes of the training images, such as ``"rotate=10,shift=2"``; or as the Trainer's.
    label_smoothing : float
    class_weight : 'balanced' or dict, optional
        Weights by label, 1 where there is none.
    early_stopping : bool
        Set `validation_fraction` of the samples apart, and end after `n_iter_no_change` epochs
        that are no better on them, with the weights of the best epoch.
    validation_fraction : float
    n_iter_no_change : int
    callbacks : iterable of callables, optional
        As the Trainer's.
    backend : str, optional
        None follows the surrounding choice.
    random_state : int or RandomState, optional
        Of weights, batches, masks and splits. None is another one at each fit. NumPy's global
        generator is not used.
    verbose : bool
        Show a progress bar on standard error.

    Attributes
    ----------
    classes_ : array (classes,)
    network_ : Network
    image_shape_ : (C, H, W)
    n_features_in_ : int
        C*H*W.
    feature_names_in_ : array of str
        If X had names of columns.
    history_ : list of dict
        A record for each epoch, as `Trainer.history`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastconv.sklearn import ConvNetClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> classifier = ConvNetClassifier(epochs=2, random_state=0).fit(X / 16, y)
    >>> classifier.image_shape_
    (1, 8, 8)
    >>> classifier.predict_proba(X[:3] / 16).shape
    (3, 10)
    """

    classes_: NDArray[Any]
    network_: Any
    history_: list[Record]
    image_shape_: Shape

    def __init__(
        self,
        model: str | Callable[..., Any] = "deepconvnet",
        *,
        image_shape: tuple[int, int, int] | None = None,
        epochs: int = 20,
        batch_size: int = 100,
        optimizer: str = "adam",
        learning_rate: float | None = None,
        schedule: str = "constant",
        augment: str | Augment | None = None,
        label_smoothing: float = 0.0,
        class_weight: str | Mapping[Any, float] | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        callbacks: Iterable[Callback] | None = None,
        backend: str | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.augment = augment
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.callbacks = callbacks
        self.backend = backend
        self.random_state = random_state
        self.verbose = verbose

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> ConvNetClassifier:
        """Train a new network.

        Parameters
        ----------
        X : array (N, C*H*W) or (N, C, H, W)
        y : array (N,)
            Labels: numbers, texts or bools.
        sample_weight : array (N,), optional
        """
        images, shape, labels = self._labelled(X, y, first=True)
        self._begin(shape, np.unique(labels))
        epochs = as_int("fit", "epochs", self.epochs, 1)
        self._train(images, labels, sample_weight, epochs, whole=True)
        return self

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> ConvNetClassifier:
        """Train for one epoch on these samples, from the weights as they are.

        The optimizer goes on too; the learning rate is constant, and nothing is set apart.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array, optional
            All labels that will come; the first call needs them.
        """
        first = not hasattr(self, "network_")
        if self.class_weight == "balanced":
            raise ArgumentError(
                "partial_fit: class_weight='balanced' needs all samples; give weights by label"
            )
        if first and classes is None:
            raise ArgumentError("partial_fit: the first call needs classes, all that will come")
        images, shape, labels = self._labelled(X, y, first=first)
        if first:
            self._begin(shape, np.unique(np.asarray(classes)))
        elif classes is not None and not np.array_equal(self.classes_, np.unique(classes)):
            raise ArgumentError(
                f"partial_fit: classes {np.unique(classes)}, expected {self.classes_}, those of "
                "the first call"
            )
        self._train(images, labels, sample_weight, 1, whole=False)
        return self

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label (N,) of each sample."""
        answers = self.predict_proba(X).argmax(axis=1)
        return self.classes_[answers]

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating[Any]]:
        """Return the probabilities (N, classes), in the order of ``classes_``."""
        check_is_fitted(self, "network_")
        rows, given = self._rows(X)
        rows = validate_data(self, rows, reset=False, dtype=np.float32)
        if given not in (None, self.image_shape_):
            raise ShapeError(f"images of {given}, expected {self.image_shape_} as in fit")
        images = rows.reshape(-1, *self.image_shape_)
        parts = [images[at : at + PREDICTED] for at in range(0, len(images), PREDICTED)]
        scores = np.concatenate([self.network_.predict(part) for part in parts])
        return softmax(scores.astype(np.float64))

    # ---- samples ---------------------------------------------------------------------------

    def _labelled(
        self, X: ArrayLike, y: ArrayLike, *, first: bool
    ) -> tuple[NDArray[Any], Shape, NDArray[Any]]:
        """Images, their shape, and labels, checked; `first` sets what later ones must be like."""
        rows, given = self._rows(X)
        rows, labels = validate_data(self, rows, y, reset=first, dtype=np.float32)
        check_classification_targets(labels)
        shape = self._shape(given, rows.shape[1]) if first else self.image_shape_
        if given not in (None, shape):
            raise ShapeError(f"images of {given}, expected {shape}")
        return rows.reshape(-1, *shape), shape, labels

    def _rows(self, X: Any) -> tuple[Any, Shape | None]:
        """Samples as rows, and the shape of those that are images."""
        if isinstance(X, list | tuple):
            X = np.asarray(X)
        if getattr(X, "ndim", 2) != 4:
            return X, None
        shape = tuple(X.shape[1:])
        return np.reshape(X, (len(X), math.prod(shape))), shape

    def _shape(self, given: Shape | None, features: int) -> Shape:
        """The shape (C, H, W) of images of so many features."""
        if self.image_shape is not None:
            return _filled_in(self.image_shape, features)
        if given is not None:
            return given
        for channels in (1, 3):
            side = math.isqrt(features // channels)
            if features == channels * side * side:
                return channels, side, side
        raise ShapeError(
            f"{features} features are no square image of 1 or 3 channels; set image_shape=(C, H, "
            "W), such as (1, 1, -1) for a row of pixels, or give X as images (N, C, H, W)"
        )

    # ---- training --------------------------------------------------------------------------

    def _begin(self, shape: Shape, classes: NDArray[Any]) -> None:
        """Make the network and all that later calls go on with."""
        # check_random_state would take NumPy's global generator for None.
        own = np.random.RandomState() if self.random_state is None else self.random_state
        random = check_random_state(own)
        seed = random.randint(2**31 - 1)
        if callable(self.model):
            network = self.model(shape, len(classes), seed=seed)
        else:
            network = make_model(self.model, shape, len(classes), seed=seed)
        if self.backend is not None:
            network.backend = self.backend
        settings = {} if self.learning_rate is None else {"lr": self.learning_rate}
        self._optimizer = make_optimizer(self.optimizer, settings)
        self._random = random
        self.image_shape_, self.classes_, self.network_ = shape, classes, network
        self.history_ = []

    def _train(
        self,
        images: NDArray[Any],
        y: NDArray[Any],
        sample_weight: ArrayLike | None,
        epochs: int,
        *,
        whole: bool,
    ) -> None:
        """Run a Trainer; `whole` is a run of its own, with schedule and early stopping."""
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise LabelError(f"labels {unknown}, expected some of the classes {self.classes_}")
        labels = np.searchsorted(self.classes_, y)
        if sample_weight is not None:
            sample_weight = np.asarray(sample_weight)
        augment = self.augment
        stops = whole and self.early_stopping
        with warnings.catch_warnings():
            if not whole:  # a part need not have samples of all classes
                warnings.simplefilter("ignore", DataWarning)
            trainer = Trainer(
                self.network_,
                images,
                labels,
                images[:0],
                labels[:0],
                epochs,
                min(as_int("fit", "batch_size", self.batch_size, 1), len(labels)),
                self._optimizer,
                evaluate_sample_num_per_epoch=0,
                verbose=False,
                seed=self._random.randint(2**31 - 1),
                augment=Augmentation.parse(augment) if isinstance(augment, str) else augment,
                evaluate="end",
                callbacks=self.callbacks or (),
                progress=self.verbose,
                label_smoothing=self.label_smoothing,
                validation=self.validation_fraction if stops else None,
                early_stopping=self.n_iter_no_change if stops else None,
                class_weight=self._class_weight(),
                sample_weight=sample_weight,
            )
        schedule = self.schedule if whole else "constant"
        trainer.lr_schedule = make_schedule(schedule, self._optimizer.lr, trainer.max_iter)
        trainer.train()
        before = len(self.history_)
        self.history_ += [
            record | {"epoch": before + record["epoch"]} for record in trainer.history
        ]

    def _class_weight(self) -> Any:
        """The weights of classes in the Trainer's form, in the order of ``classes_``."""
        given = self.class_weight
        if not isinstance(given, Mapping):
            return given
        if unknown := [label for label in given if label not in self.classes_.tolist()]:
            raise ArgumentError(
                f"class_weight has the label {unknown[0]!r}, expected some of {self.classes_}"
            )
        return [given.get(label, 1.0) for label in self.classes_.tolist()]


def _filled_in(shape: tuple[int, ...], features: int) -> Shape:
    """A shape (C, H, W) of so many features, in which -1 stands for what is left of them."""
    sizes = [as_int("ConvNetClassifier", "image_shape", size, -1) for size in shape]
    if len(sizes) == 3 and sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = features // max(1, -math.prod(sizes))
    if len(sizes) != 3 or min(sizes) < 1 or math.prod(sizes) != features:
        raise ShapeError(
            f"image_shape={tuple(shape)} does not fit {features} features: expected (C, H, W) of "
            "that product, of which one may be -1"
        )
    return sizes[0], sizes[1], sizes[2]
