"""ConvNetClassifier: scikit-learn's own checks, its tools, and what it says of wrong use."""

from __future__ import annotations

import importlib
import sys

import joblib
import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastconv.errors import ArgumentError, LabelError, MissingDependency, ShapeError
from fastconv.layers import Relu
from fastconv.models.build import Builder
from fastconv.network import Network
from fastconv.sklearn import ConvNetClassifier

NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
PIXELS, DIGITS = load_digits(return_X_y=True)
X, X_TEST = PIXELS[:300] / 16, PIXELS[300:500] / 16
Y, Y_TEST = NAMES[DIGITS[:300]], NAMES[DIGITS[300:500]]


class Tiny:
    """Makes a network for images of any size; its name is the same in each process of tests."""

    def __call__(self, image, classes, seed) -> Network:
        build = Builder("tiny", "float32", seed)
        channels, height, width = image
        conv = build.conv(channels, 8, 1, bias=True, fan_in=True)
        hidden = build.affine(8 * height * width, 50)
        return Network([conv, Relu(), hidden, Relu(), build.affine(50, classes)])

    def __repr__(self) -> str:
        return "tiny"

    def __deepcopy__(self, memo) -> Tiny:
        return self


tiny = Tiny()


def classifier(**settings) -> ConvNetClassifier:
    return ConvNetClassifier(
        tiny,
        **{"epochs": 10, "batch_size": 32, "learning_rate": 0.005, "random_state": 0} | settings,
    )


OF_ANY_WIDTH = classifier(image_shape=(1, 1, -1), epochs=20)

NOT_MET = {
    "check_sample_weight_equivalence_on_dense_data": "a sample of weight 2 and the same sample "
    "twice have the same expected loss, but batches are drawn at random, from 2N samples other "
    "ones than from N"
}


@pytest.mark.filterwarnings("ignore:Trainer. all")  # checks of a single label
@parametrize_with_checks([OF_ANY_WIDTH], expected_failed_checks=lambda _: NOT_MET)
def test_it_is_an_estimator(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def fitted() -> ConvNetClassifier:
    return classifier().fit(X, Y)


def test_it_learns_names_of_digits(fitted):
    assert fitted.classes_.tolist() == sorted(NAMES)
    assert (fitted.n_features_in_, fitted.image_shape_) == (64, (1, 8, 8))
    assert fitted.score(X_TEST, Y_TEST) > 0.8
    probabilities = fitted.predict_proba(X_TEST)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    answers = fitted.classes_[probabilities.argmax(axis=1)]
    assert answers.tolist() == fitted.predict(X_TEST).tolist()
    assert [record["epoch"] for record in fitted.history_] == list(range(1, 11))


def test_images_are_rows_in_another_shape(fitted):
    images = X_TEST.reshape(-1, 1, 8, 8)
    np.testing.assert_array_equal(fitted.predict_proba(images), fitted.predict_proba(X_TEST))
    other = classifier().fit(X.reshape(-1, 1, 8, 8).tolist(), Y)
    np.testing.assert_array_equal(other.predict_proba(X_TEST), fitted.predict_proba(X_TEST))
    assert other.n_features_in_ == 64


@pytest.mark.parametrize(
    ("features", "given", "shape"),
    [
        (64, None, (1, 8, 8)),
        (48, None, (3, 4, 4)),
        (1, None, (1, 1, 1)),
        (3, None, (3, 1, 1)),
        (10, (1, 1, -1), (1, 1, 10)),
        (24, (2, -1, 4), (2, 3, 4)),
        (64, (4, 4, 4), (4, 4, 4)),
        (27, (-1, 3, 3), (3, 3, 3)),
    ],
)
def test_the_shape_of_an_image(features, given, shape):
    found = classifier(image_shape=given, epochs=1).fit(np.zeros((4, features)), [0, 1, 0, 1])
    assert found.image_shape_ == shape
    assert found.network_.layers[0].W.shape[1] == shape[0]


@pytest.mark.parametrize(
    ("features", "given", "said"),
    [
        (10, None, "10 features are no square image of 1 or 3 channels; set image_shape="),
        (12, (1, 3, 3), r"image_shape=\(1, 3, 3\) does not fit 12 features"),
        (12, (-1, -1, 3), r"image_shape=\(-1, -1, 3\) does not fit 12"),
        (12, (5, -1, 1), r"image_shape=\(5, -1, 1\) does not fit 12"),
        (12, "8x8", "image_shape must be a whole number, got '8'"),
        (12, (1, 3.5, -1), "image_shape must be a whole number, got 3.5"),
        (12, (3, 4), r"image_shape=\(3, 4\) does not fit 12"),
        (12, (-1, 0, 3), r"image_shape=\(-1, 0, 3\) does not fit 12"),
    ],
)
def test_a_shape_that_does_not_fit(features, given, said):
    with pytest.raises((ShapeError, ArgumentError), match=said):
        classifier(image_shape=given).fit(np.zeros((4, features)), [0, 1, 0, 1])


def test_images_of_another_shape_are_refused(fitted):
    with pytest.raises(ShapeError, match=r"images of \(4, 4, 4\), expected \(1, 8, 8\)"):
        fitted.predict(X.reshape(-1, 4, 4, 4))
    with pytest.raises(ShapeError, match=r"images of \(1, 8, 8\), expected \(4, 4, 4\)"):
        classifier(image_shape=(4, 4, 4)).fit(X.reshape(-1, 1, 8, 8), Y)
    with pytest.raises(ValueError, match=r"X has 16 features, .* is expecting 64"):
        fitted.predict(X[:, :16])
    with pytest.raises(ValueError, match="dim 3"):
        fitted.predict(X.reshape(-1, 8, 8))
    with pytest.raises(NotFittedError):
        classifier().predict(X)


def test_the_models_by_name():
    model = ConvNetClassifier("lenet", image_shape=(1, 16, 16), epochs=1, random_state=0)
    assert type(model.fit(np.zeros((4, 256)), [0, 1, 0, 1]).network_) is Network
    assert model.network_.spec["name"] == "lenet"
    with pytest.raises(ArgumentError, match="unknown model 'lenat'"):
        clone(model).set_params(model="lenat").fit(np.zeros((4, 256)), [0, 1, 0, 1])
    with pytest.raises(ShapeError, match="lenet: images of 8 x 8 are too small"):
        ConvNetClassifier("lenet").fit(X, Y)


# ---- randomness ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "random_state", [None, 7, np.random.RandomState(7)], ids=["none", "seed", "generator"]
)
def test_numpys_global_generator_is_left_alone(random_state):
    np.random.seed(3)
    model = classifier(random_state=random_state, epochs=1, early_stopping=True)
    model.set_params(model="deepconvnet", augment="shift=1").fit(X, Y).predict(X)
    model.partial_fit(X, Y)
    drawn = np.random.random()
    np.random.seed(3)
    assert drawn == np.random.random()


def test_a_random_state_repeats_a_fit(fitted):
    def answers(random_state, seed):
        np.random.seed(seed)
        return classifier(random_state=random_state).fit(X, Y).predict_proba(X_TEST)

    expected = fitted.predict_proba(X_TEST)
    np.testing.assert_array_equal(answers(0, 5), expected)
    np.testing.assert_array_equal(answers(np.random.RandomState(0), 6), expected)
    assert not np.array_equal(answers(1, 5), expected)
    assert not np.array_equal(answers(None, 5), answers(None, 5))


# ---- weights, early stopping, parts ----------------------------------------------------------


def overlapping() -> tuple[np.ndarray, np.ndarray]:
    """90 times "a" and 10 times "b", all alike."""
    return np.ones((100, 4)), np.repeat(["a", "b"], [90, 10])


@pytest.mark.parametrize(
    ("settings", "weights", "share"),
    [
        ({}, None, 0.1),
        ({"class_weight": "balanced"}, None, 0.5),
        ({"class_weight": {"b": 9.0}}, None, 0.5),
        ({}, np.repeat([1.0, 9.0], [90, 10]), 0.5),
        ({"class_weight": {"a": 3.0}}, np.repeat([1.0, 9.0], [90, 10]), 0.25),
    ],
)
def test_weights_move_the_answer(settings, weights, share):
    """Nothing tells the classes apart, so the answer is their share of the weight."""
    x, y = overlapping()
    settings = {"epochs": 300, "batch_size": 100, "schedule": "cosine", **settings}
    model = classifier(**settings).fit(x, y, sample_weight=weights)
    assert model.predict_proba(x[:1])[0, 1] == pytest.approx(share, abs=0.08)


def test_early_stopping_keeps_the_best_epoch():
    model = classifier(
        early_stopping=True, validation_fraction=0.3, n_iter_no_change=2, epochs=60
    ).fit(X, Y)
    found = [
        (record["validation_accuracy"], -record["validation_loss"]) for record in model.history_
    ]
    assert len(found) < 60
    assert found.index(max(found)) == len(found) - 3
    assert "validation_fraction=0.3" in repr(model)


def test_parts_of_the_data_train_the_same_network():
    model = classifier()
    for epoch in range(10):
        for at in range(0, 300, 100):
            model.partial_fit(X[at : at + 100], Y[at : at + 100], classes=NAMES)
        if not epoch:
            network = model.network_
    assert model.network_ is network
    assert model.score(X_TEST, Y_TEST) > 0.8
    assert [record["epoch"] for record in model.history_] == list(range(1, 31))
    steps = model._optimizer.iter
    model.partial_fit(X, Y, sample_weight=np.ones(300))
    assert model._optimizer.iter == steps + 9  # Adam's moments go on
    assert model.fit(X, Y).network_ is not network


def test_a_part_may_lack_classes():
    model = classifier(class_weight={"nine": 2.0}).partial_fit(X[:3], Y[:3], classes=NAMES)
    assert model.predict_proba(X).shape == (300, 10)


@pytest.mark.parametrize(
    ("settings", "arguments", "error", "said"),
    [
        ({}, {}, ArgumentError, "the first call needs classes"),
        ({"class_weight": "balanced"}, {"classes": NAMES}, ArgumentError, "needs all samples"),
        ({}, {"classes": NAMES[:2]}, LabelError, "expected some of the classes"),
        ({"learning_rate": -1.0}, {"classes": NAMES}, ArgumentError, "greater than 0, got -1.0"),
        ({"class_weight": {"ten": 1}}, {"classes": NAMES}, ArgumentError, "has the label 'ten'"),
    ],
)
def test_what_partial_fit_refuses(settings, arguments, error, said):
    with pytest.raises(error, match=said):
        classifier(**settings).partial_fit(X, Y, **arguments)


def test_other_classes_come_too_late(fitted):
    with pytest.raises(ArgumentError, match="those of the first call"):
        clone(fitted).fit(X, Y).partial_fit(X, Y, classes=NAMES[:3])


# ---- scikit-learn's tools --------------------------------------------------------------------


def test_a_search_over_a_pipeline_in_two_processes():
    pipeline = make_pipeline(
        MinMaxScaler(), ConvNetClassifier(epochs=1, batch_size=20, random_state=0)
    )
    rates = {"convnetclassifier__learning_rate": [0.003, 1e-7]}
    search = GridSearchCV(pipeline, rates, n_jobs=2, cv=2).fit(X * 16, Y)
    assert search.best_params_ == {"convnetclassifier__learning_rate": 0.003}
    assert search.predict(X_TEST * 16).shape == (200,)


def test_scores_clones_and_files(fitted, tmp_path):
    scores = cross_val_score(classifier(), X, Y, cv=3)
    assert len(scores) == 3 and scores.mean() > 0.7
    copy = clone(fitted)
    assert not hasattr(copy, "network_") and copy.get_params() == fitted.get_params()
    joblib.dump(fitted, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(X_TEST), fitted.predict_proba(X_TEST))
    again.partial_fit(X, Y)


def test_callbacks_backends_and_the_bar(capfd, backend):
    seen = []

    def note(trainer, record):
        seen.append((record["epoch"], trainer.network.backend))

    pytest.importorskip("tqdm")
    classifier(epochs=2, callbacks=[note], backend=backend, verbose=True).fit(X, Y)
    assert seen == [(1, backend), (2, backend)]
    assert "%" in capfd.readouterr().err


def test_scikit_learn_is_needed_when_it_is_named(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "sklearn":
            monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "fastconv.sklearn")
    said = r"scikit-learn 1\.6 or later, the extra sklearn: pip install scikit-learn$"
    with pytest.raises(MissingDependency, match=said):
        importlib.import_module("fastconv.sklearn")
