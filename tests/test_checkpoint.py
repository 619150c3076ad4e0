"""Checkpoints: a run that is continued ends at the weights of the one that never stopped."""

from __future__ import annotations

import numpy as np
import pytest

from fastconv import Trainer
from fastconv.errors import DataCorrupt, DataNotFound, StateError, WeightsError
from fastconv.io.arrays import load_arrays, save_arrays

from .test_network import tiny

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
