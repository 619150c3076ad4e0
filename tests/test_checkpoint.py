"""Checkpoints: a run that is continued ends at the weights of the one that never stopped."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import Trainer
from fastconv.errors import DataCorrupt, DataNotFound, StateError, WeightsError
from fastconv.io.arrays import load_arrays, save_arrays
from fastconv.training.averaging import EMA, SWA

from .test_averaging import normalised
from .test_network import tiny
from .test_trainer import Watched, trainer

EPOCHS, STEPS = 3, 3 * 10 // 4


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    return rng.random((10, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 10)


def start(data, network, name="Adam", seed=1, epochs=EPOCHS, **options) -> Trainer:
    options = {"optimizer_param": {"lr": 0.01}, "verbose": False, **options}
    return Trainer(network, *data, *data, epochs, 4, name, seed=seed, **options)


def facts(trainer: Trainer) -> dict:
    """Everything that two runs must agree on; not the seconds."""
    timeless = [
        {key: value for key, value in record.items() if "second" not in key}
        for record in trainer.history
    ]
    names = ("train_loss_list", "train_acc_list", "test_acc_list", "current_iter", "current_epoch")
    return {"history": timeless, **{name: getattr(trainer, name) for name in names}}


@pytest.mark.parametrize("name", ["SGD", "Momentum", "Adam"])
@pytest.mark.parametrize("evaluate", ["start", "end"])
@pytest.mark.parametrize("done", [0, 1, 2, 5, STEPS])
def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(
    backend, dtype, data, tmp_path, name, evaluate, done
):
    """At the start, in the middle of an epoch, between two, and at the end."""
    whole = start(data, tiny(dtype=dtype, seed=0, backend=backend), name, evaluate=evaluate)
    assert whole.max_iter == STEPS
    whole.train()

    first = start(data, tiny(dtype=dtype, seed=0, backend=backend), name, evaluate=evaluate)
    for _ in range(done):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint.npz")

    # Another network, and another seed: all that matters is in the file.
    network = tiny(dtype=dtype, seed=9, backend=backend)
    second = start(data, network, name, seed=2, evaluate=evaluate)
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    assert second.current_iter == done
    second.train()
    assert facts(second) == facts(whole)
    for key, value in whole.network.params.items():
        np.testing.assert_array_equal(network.params[key], value)


def test_saving_does_not_disturb_the_run(data, tmp_path):
    whole, saving = start(data, tiny(seed=0)), start(data, tiny(seed=0))
    whole.train()
    for step in range(STEPS):
        saving.save_checkpoint(tmp_path / f"{step}.npz")
        saving.train_step()
    assert facts(saving) == facts(whole)
    np.testing.assert_array_equal(saving.network.params["W1"], whole.network.params["W1"])


def test_a_continued_run_may_go_on_for_longer(data, tmp_path):
    whole = start(data, tiny(seed=0), epochs=EPOCHS + 2)
    whole.train()
    first = start(data, tiny(seed=0))
    first.train()
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    second = start(data, tiny(seed=0), epochs=EPOCHS + 2)
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    second.train()
    assert facts(second) == facts(whole)
    np.testing.assert_array_equal(second.network.params["W8"], whole.network.params["W8"])


def test_layers_use_the_parameters_that_were_loaded(data, tmp_path):
    first = start(data, tiny(seed=0))
    first.train()
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    network = tiny(seed=5)
    start(data, network).load_checkpoint(tmp_path / "checkpoint.npz")
    np.testing.assert_array_equal(network.predict(data[0]), first.network.predict(data[0]))


def test_only_a_seeded_run_can_be_continued_exactly(data, tmp_path):
    run = start(data, tiny(seed=0), seed=None)
    for call in (run.save_checkpoint, run.load_checkpoint):
        with pytest.raises(StateError, match="only a Trainer with a seed"):
            call(tmp_path / "checkpoint.npz")
    assert not list(tmp_path.iterdir())


def test_an_optimizer_without_state_is_told(data, tmp_path):
    class Foreign:
        lr = 0.1

        def update(self, params, grads):
            pass

    with pytest.raises(StateError, match=r"Foreign has no state\(\) to save"):
        start(data, tiny(seed=0), Foreign()).save_checkpoint(tmp_path / "checkpoint.npz")


def test_checkpoints_of_other_runs_are_refused(data, tmp_path):
    path = tmp_path / "checkpoint.npz"
    start(data, tiny(seed=0)).save_checkpoint(path)
    with pytest.raises(WeightsError, match="a checkpoint of Adam, expected Momentum"):
        start(data, tiny(seed=0), "Momentum").load_checkpoint(path)
    arrays, metadata = load_arrays(path)
    arrays["params/W8"] = np.ones((2, 2), np.float32)
    save_arrays(path, arrays, metadata)
    with pytest.raises(WeightsError, match=r"W8 has shape \(2, 2\), expected \(6, 3\)"):
        start(data, tiny(seed=0)).load_checkpoint(path)


def test_files_that_are_no_checkpoints(data, tmp_path):
    run = start(data, tiny(seed=0))
    with pytest.raises(DataNotFound, match=r"absent\.npz: no such file"):
        run.load_checkpoint(tmp_path / "absent.npz")
    run.network.save_params(tmp_path / "weights.npz")
    with pytest.raises(WeightsError, match=r"weights\.npz: not a checkpoint"):
        run.load_checkpoint(tmp_path / "weights.npz")
    run.save_checkpoint(tmp_path / "short.npz")
    (tmp_path / "short.npz").write_bytes((tmp_path / "short.npz").read_bytes()[:-200])
    with pytest.raises(DataCorrupt, match=r"short\.npz"):
        run.load_checkpoint(tmp_path / "short.npz")


# ---- with what regularises a run ------------------------------------------------------

REGULARISED = {
    "AdamW": {"name": "AdamW", "optimizer_param": {"lr": 0.01, "weight_decay": 0.5}},
    "momentum with decay": {
        "name": "Momentum",
        "optimizer_param": {"lr": 0.01, "weight_decay": 0.1},
    },
    "smoothing": {"label_smoothing": 0.2},
    "clipping": {"clip_norm": 0.5},
    "factors": {"lr_factors": {"W[1-3]": 0, "*8": 2.0}},
    "EMA": {"averaging": EMA(0.7)},
    "SWA": {"averaging": SWA(2)},
    "validation": {"validation": 0.3, "early_stopping": 2},
    "all": {
        "name": "AdamW",
        "label_smoothing": 0.1,
        "clip_norm": 1.0,
        "averaging": EMA(0.7),
        "validation": 0.3,
        "early_stopping": 2,
        "lr_factors": {"b*": 2.0},
    },
}


def regularised(data, name, seed=0, **options) -> Trainer:
    network = tiny(dtype="float64", seed=seed)
    return start(data, network, evaluate="end", epochs=5, **(REGULARISED[name] | options))


@pytest.mark.parametrize("done", [0, 1, 4, 6])
@pytest.mark.parametrize("name", REGULARISED)
def test_a_regularised_run_continues_bit_for_bit(data, tmp_path, name, done):
    whole = regularised(data, name)
    whole.train()
    first = regularised(data, name)
    for _ in range(min(done, whole.current_iter)):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    second = regularised(data, name, seed=9)
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    second.train()
    assert facts(second) == facts(whole)
    for key, value in whole.network.params.items():
        np.testing.assert_array_equal(second.network.params[key], value)
    # What was saved at the end has what was trained, beside what the run ended with.
    whole.save_checkpoint(tmp_path / "end.npz")
    third = regularised(data, name, seed=9)
    third.load_checkpoint(tmp_path / "end.npz")
    third.train()
    np.testing.assert_array_equal(third.network.params["W8"], whole.network.params["W8"])
    for run in (third, whole):
        run.train_step()
    np.testing.assert_array_equal(third.network.params["W8"], whole.network.params["W8"])


def test_any_network_with_params_can_be_continued(tmp_path):
    def run() -> Trainer:
        return trainer(Watched(), epochs=2, seed=1, optimizer="Adam", averaging=EMA(0.5))

    whole, first, second = run(), run(), run()
    whole.train()
    for _ in range(3):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    second.train()
    np.testing.assert_array_equal(second.network.params["W"], whole.network.params["W"])


def test_running_statistics_are_in_the_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    x, t = 3 * rng.standard_normal((20, 2)) + 1, rng.integers(0, 3, 20)

    def run() -> Trainer:
        return Trainer(normalised(), x, t, x, t, 4, 5, verbose=False, seed=1, averaging=EMA(0.5))

    whole, first, second = run(), run(), run()
    whole.train()
    for _ in range(7):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    second.train()
    np.testing.assert_array_equal(second.network.predict(x), whole.network.predict(x))
    arrays, metadata = load_arrays(tmp_path / "checkpoint.npz")
    arrays["statistics/1/running_mean"] = np.ones(3)
    save_arrays(tmp_path / "other.npz", arrays, metadata)
    with pytest.raises(WeightsError, match=r"statistics/1/running_mean has shape \(3,\), expected"):
        second.load_checkpoint(tmp_path / "other.npz")
    arrays["statistics/0/running_mean"] = arrays.pop("statistics/1/running_mean")
    save_arrays(tmp_path / "other.npz", arrays, metadata)
    with pytest.raises(WeightsError, match=r"architecture: .*unknown statistics/0/running_mean"):
        second.load_checkpoint(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("saved", "loaded", "message"),
    [
        ("EMA", "clipping", "of a run with averaging, but this one is without"),
        ("clipping", "validation", "of a run without validation, but this one is with"),
        ("EMA", "SWA", "average of the weights is not one by SWA"),
        ("validation", ("validation", {"seed": 2}), "samples are not those of this run"),
        ("validation", ("validation", {"validation": 0.5}), "samples are not those of this run"),
    ],
)
def test_checkpoints_of_runs_with_other_parts_change_nothing(
    data, tmp_path, saved, loaded, message
):
    run = regularised(data, saved)
    run.train()
    run.save_checkpoint(tmp_path / "checkpoint.npz")
    name, options = loaded if isinstance(loaded, tuple) else (loaded, {})
    seed = options.pop("seed", 1)
    network = tiny(dtype="float64", seed=9)
    other = start(data, network, seed=seed, **(REGULARISED[name] | options))
    before = {key: value.copy() for key, value in network.params.items()}
    with pytest.raises(WeightsError, match=message):
        other.load_checkpoint(tmp_path / "checkpoint.npz")
    for key, value in before.items():
        np.testing.assert_array_equal(network.params[key], value)
    assert other.current_iter == 0
