"""Batches that are changed on the way: the same ahead of the step or in it, and on resuming."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastconv
from fastconv import Augmentation, Trainer, config
from fastconv.errors import ShapeError, WeightsError
from fastconv.training.batches import Batches

from .test_checkpoint import facts
from .test_network import tiny

STEPS = 7
AUGMENTATION = Augmentation(rotate=20, shift=2, elastic=5, contrast=0.2, cutout=2)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    return rng.random((10, 1, 8, 8)).astype(np.float32), rng.integers(0, 3, 10)


def start(data, network=None, **options) -> Trainer:
    network = network or tiny(seed=0)
    options = {"verbose": False, "seed": 1, "augment": AUGMENTATION, **options}
    return Trainer(network, *data, *data, 3, 4, "Adam", **options)


@pytest.fixture(autouse=True, params=["ahead", "in the step"])
def free_cpus(request, monkeypatch) -> bool:
    """Whether there is a CPU for the thread that makes batches ahead."""
    free = request.param == "ahead"
    monkeypatch.setattr("fastconv.training.batches.count_cpus", lambda: 99 if free else 1)
    return free


def threads_of_batches() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("fastconv-batches")]


def assert_same_run(one: Trainer, other: Trainer) -> None:
    assert facts(one) == facts(other)
    for key, value in one.network.params.items():
        np.testing.assert_array_equal(other.network.params[key], value)


class Watched:
    """An augmentation that writes down where and with what it is called."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.calls: list[tuple[str, str, int, float]] = []
        self.fail_at = fail_at

    def __call__(self, x, rng):
        if len(self.calls) == self.fail_at:
            self.fail_at = None
            raise ZeroDivisionError("no such step")
        thread = threading.current_thread().name.rstrip("_0")
        self.calls.append(
            (thread, fastconv.get_backend(), config.threads_here(), float(rng.random()))
        )
        return AUGMENTATION(x, rng)


# ---- ahead of the step, or in it -----------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_train_and_single_steps_give_the_same_bit_for_bit(backend, dtype, data, threads):
    """`train` makes the batches ahead; `train_step` by itself makes its own."""
    fastconv.set_num_threads(threads)
    runs = [
        start(data, tiny(dtype=dtype, seed=0, backend=backend), backend=backend) for _ in range(2)
    ]
    runs[0].train()
    for _ in range(STEPS):
        runs[1].train_step()
    assert runs[0].current_iter == STEPS
    assert_same_run(*runs)


def test_batches_are_made_in_a_thread_on_the_backend_of_the_run(backend, data, free_cpus):
    fastconv.set_num_threads(3)
    watched = Watched()
    start(data, tiny(seed=0, backend=backend), backend=backend, augment=watched).train()
    own = threading.current_thread().name
    later = ("fastconv-batches", backend, 1) if free_cpus else (own, backend, 3)
    where = [(own, backend, 3)] + [later] * (STEPS - 1)
    assert [call[:3] for call in watched.calls] == where
    assert len({call[3] for call in watched.calls}) == STEPS
    assert not threads_of_batches()


def test_samples_and_labels_stay_together(data):
    """With an augmentation that changes nothing, a batch is a choice from the data."""
    x, t = data
    batches = Batches(x, t, 50, lambda x, rng: x, 0)
    with batches.ahead(4):
        taken = [batches.take(step) for step in range(4)]
    for x_batch, t_batch in taken:
        found = [int(np.flatnonzero((x == image).all(axis=(1, 2, 3)))[0]) for image in x_batch]
        np.testing.assert_array_equal(t[found], t_batch)
        assert len(set(found)) > 5
    assert not np.array_equal(taken[0][0], taken[1][0])


def test_steps_may_be_taken_in_any_order(data):
    batches = Batches(*data, 4, AUGMENTATION, 0)
    alone = [batches.take(step)[0].tobytes() for step in range(6)]
    with batches.ahead(6):
        for step in (0, 1, 4, 2, 3, 3, 5, 0):
            assert batches.take(step)[0].tobytes() == alone[step]


def test_without_a_seed_numpys_global_generator_decides(data):
    def weights(seed):
        np.random.seed(seed)
        run = start(data, seed=None)
        run.train()
        return run.network.params["W1"]

    np.testing.assert_array_equal(weights(5), weights(5))
    assert not np.array_equal(weights(5), weights(6))


def test_evaluation_sees_the_images_as_they_are(data):
    run = start(data, augment=lambda x, rng: 0 * x)
    run.train()
    assert run.train_acc_list[-1] == run.network.accuracy(*data)


# ---- the thread ends ------------------------------------------------------------------------


@pytest.mark.parametrize("fail_at", [0, 1, 3])
def test_what_an_augmentation_raises_is_raised_by_its_step(data, fail_at):
    """And the run goes on from there, to the end that it would have had."""
    whole = start(data, augment=Watched())
    whole.train()
    run = start(data, augment=Watched(fail_at))
    with pytest.raises(ZeroDivisionError, match="no such step"):
        run.train()
    assert run.current_iter == fail_at
    assert not threads_of_batches()
    run.train()
    assert_same_run(whole, run)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_no_thread_is_left_when_a_step_is_broken_off(data, error):
    run = start(data)

    def interrupt(step):
        if step == 2:
            raise error
        return 0.01

    run.lr_schedule = interrupt
    with pytest.raises(error):
        run.train()
    assert not threads_of_batches()
    run.lr_schedule = lambda step: 0.01
    run.train()
    whole = start(data, lr_schedule=lambda step: 0.01)
    whole.train()
    assert_same_run(whole, run)


def test_stop_and_go_on(data):
    whole, run = start(data), start(data)
    whole.train()
    run.callbacks = [lambda trainer, record: trainer.stop()]
    while run.current_iter < STEPS:
        run.train()
        assert not threads_of_batches()
    assert_same_run(whole, run)


def test_images_that_are_flat_are_told(data):
    x, t = data
    with pytest.raises(ShapeError, match=r"augment: input must be images .* \(4, 64\)"):
        start((x.reshape(10, 64), t)).train()


# ---- checkpoints ----------------------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 4, STEPS])
def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(backend, data, tmp_path, done):
    whole = start(data, tiny(seed=0, backend=backend))
    whole.train()
    first = start(data, tiny(seed=0, backend=backend))
    for _ in range(done):
        first.train_step()
    first.save_checkpoint(tmp_path / "checkpoint.npz")
    second = start(data, tiny(seed=9, backend=backend), seed=2)
    second.load_checkpoint(tmp_path / "checkpoint.npz")
    second.train()
    assert_same_run(whole, second)


def test_a_checkpoint_of_a_run_that_changes_its_samples_is_for_such_a_run(data, tmp_path):
    path = tmp_path / "checkpoint.npz"
    changed, plain = start(data), start(data, augment=None)
    changed.save_checkpoint(path)
    with pytest.raises(
        WeightsError, match=r"npz: a checkpoint of a run with augmentation, expected one without"
    ):
        plain.load_checkpoint(path)
    plain.save_checkpoint(path)
    with pytest.raises(
        WeightsError, match=r"npz: a checkpoint of a run without augmentation, expected one with it"
    ):
        changed.load_checkpoint(path)
