"""Learning rate schedules, against their formulas, PyTorch's, and in a Trainer."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from fastconv.errors import ArgumentError
from fastconv.models import DeepConvNet
from fastconv.trainer import Trainer
from fastconv.training import schedules
from fastconv.training.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    ExponentialDecay,
    OneCycle,
    StepDecay,
    Warmup,
    make_schedule,
)


def rates(schedule: schedules.Schedule, *steps: int) -> list[float]:
    return [schedule(step) for step in steps]


def test_rates_by_hand() -> None:
    assert rates(Constant(0.5), 0, 1000) == [0.5, 0.5]
    assert rates(StepDecay(1.0, 10, 0.5), 0, 9, 10, 19, 20) == [1, 1, 0.5, 0.5, 0.25]
    assert rates(ExponentialDecay(1.0, 2, 0.25), 0, 1, 2, 4) == pytest.approx(
        [1, 0.5, 0.25, 0.0625]
    )
    assert rates(Cosine(2.0, 10), 0, 5, 10, 11) == pytest.approx([2, 1, 0, 0])
    assert rates(Cosine(2.0, 10, last=1.0), 0, 5, 10) == pytest.approx([2, 1.5, 1])
    assert rates(Warmup(Constant(1.0), 4), 0, 1, 3, 4, 9) == [0.25, 0.5, 1, 1, 1]
    assert rates(Warmup(Cosine(2.0, 10), 10), 5, 10) == pytest.approx([0.6, 0])


def test_one_cycle_rises_to_its_rate_and_ends_near_nothing() -> None:
    cycle = OneCycle(0.004, 100)
    values = rates(cycle, *range(100))
    assert values[0] == pytest.approx(0.004 / 25)
    assert max(values) == values[29] == pytest.approx(0.004)
    assert values[-1] == pytest.approx(0.004 * 4e-6, rel=1e-6)
    assert all(a < b for a, b in pairwise(values[:30]))
    assert all(a > b for a, b in pairwise(values[29:]))
    assert cycle(500) == values[-1]


def test_the_defaults() -> None:
    """A tenth; 0.95 by step; down to 0; and a cycle's ends as PyTorch's OneCycleLR has them."""
    assert rates(StepDecay(0.5, 3), 2, 3) == pytest.approx([0.5, 0.05])
    assert rates(ExponentialDecay(2.0), 1, 2) == pytest.approx([1.9, 1.805])
    assert rates(Cosine(2.0, 4), 4) == [0]
    # Of 50 steps, the 15th is at the top; the 8th is half way up.
    assert rates(OneCycle(0.25, 50), 0, 7, 14, 49) == pytest.approx([0.01, 0.13, 0.25, 1e-6])
    # Of 20 steps, the 6th is at the top, and the 13th is half way down.
    assert rates(OneCycle(0.25, 20), 5, 12, 19) == pytest.approx([0.25, 0.1250005, 1e-6])


def test_one_cycle_by_hand() -> None:
    """Along half a cosine: at a third of the way a quarter of the height, at half of it half."""
    cycle = OneCycle(8.0, 14, rise=0.5, first=0.5, last=0.25)
    assert rates(cycle, 0, 2, 3, 4, 6) == pytest.approx([4, 5, 6, 7, 8])
    cycle = OneCycle(8.0, 20, rise=0.4, first=0.5, last=0.25)
    assert rates(cycle, 7, 11, 13, 15, 19, 25) == pytest.approx([8, 6.5, 5, 3.5, 2, 2])
    # The first step of two is at the top already.
    assert rates(OneCycle(8.0, 2, rise=0.5), 0, 1) == pytest.approx([8, 8 * 4e-6])


def test_the_named_ones_by_hand() -> None:
    """A tenth after each third of the run; a hundredth at its end; half a cosine; one cycle."""
    assert rates(make_schedule("constant", 3.0, 9), 0, 8) == [3, 3]
    step = rates(make_schedule("step", 1.0, 9), 2, 3, 5, 6, 8)
    assert step == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])
    step = rates(make_schedule("step", 1.0, 10), 3, 4, 7, 8)  # the first thirds have 4 steps
    assert step == pytest.approx([1, 0.1, 0.1, 0.01])
    assert rates(make_schedule("exponential", 1.0, 50), 25, 50) == pytest.approx([0.1, 0.01])
    assert rates(make_schedule("cosine", 1.0, 10), 5, 10) == pytest.approx([0.5, 0])
    assert make_schedule("one-cycle", 0.1, 10) == OneCycle(0.1, 10)


def test_runs_without_steps() -> None:
    """They are as runs of one."""
    for name, after in (("step", 0.1), ("exponential", 0.01), ("cosine", 0.0)):
        assert rates(make_schedule(name, 1.0, 0), 0, 1) == pytest.approx([1, after])
    assert make_schedule("one-cycle", 1.0, 0) == OneCycle(1.0, 1)
    assert make_schedule("one-cycle", 1.0, 0, 0.6) == OneCycle(1.0, 1, rise=0.6)


@pytest.mark.parametrize(
    ("name", "make", "wrong"),
    [
        ("Constant: lr", lambda v: Constant(v), "0"),
        ("StepDecay: lr", lambda v: StepDecay(v, 1), "0"),
        ("StepDecay: every", lambda v: StepDecay(1, v), "0"),
        ("StepDecay: factor", lambda v: StepDecay(1, 1, v), "0"),
        ("ExponentialDecay: lr", lambda v: ExponentialDecay(v), "0"),
        ("ExponentialDecay: every", lambda v: ExponentialDecay(1, v), "0"),
        ("ExponentialDecay: factor", lambda v: ExponentialDecay(1, 1, v), "0"),
        ("Cosine: lr", lambda v: Cosine(v, 1), "0"),
        ("Cosine: steps", lambda v: Cosine(1, v), "0"),
        ("Cosine: last", lambda v: Cosine(1, 1, v), ""),
        ("OneCycle: lr", lambda v: OneCycle(v, 1), "0"),
        ("OneCycle: steps", lambda v: OneCycle(1, v), "0"),
        ("OneCycle: rise", lambda v: OneCycle(1, 1, v), "0 1"),
        ("OneCycle: first", lambda v: OneCycle(1, 1, 0.5, v), "0"),
        ("OneCycle: last", lambda v: OneCycle(1, 1, 0.5, 1, v), ""),
        ("Warmup: steps", lambda v: Warmup(Constant(1), v), "0"),
    ],
)
def test_each_number_has_its_bounds(name: str, make: object, wrong: str) -> None:
    for value in (-1, math.inf, math.nan, *map(int, wrong.split())):
        with pytest.raises(ArgumentError, match=rf"^{name} must .*, got {value}$"):
            make(value)  # type: ignore[operator]
    make(0.5)  # type: ignore[operator]
    if not wrong:
        make(0)  # type: ignore[operator]


def test_what_is_known_is_told() -> None:
    known = "constant, step, exponential, cosine, one-cycle"
    with pytest.raises(ArgumentError, match=f"'spiral'; known: {known}$"):
        make_schedule("spiral", 0.1, 3)
    with pytest.raises(ArgumentError, match=r"^rise=0\.25: .*one-cycle.* got cosine$"):
        make_schedule("cosine", 0.1, 3, 0.25)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("name", SCHEDULES)
def test_short_runs(name: str, steps: int) -> None:
    schedule = make_schedule(name, 0.1, steps)
    values = rates(schedule, *range(steps + 2))
    assert all(math.isfinite(value) and 0 <= value <= 0.1 for value in values)


@pytest.mark.parametrize("name", SCHEDULES)
def test_named_schedules_begin_at_their_rate_or_rise_to_it(name: str) -> None:
    values = rates(make_schedule(name, 0.1, 90), *range(90))
    assert max(values) == pytest.approx(0.1)
    if name != "constant":
        assert values[-1] < 0.03 * 0.1


def test_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    ways = torch.optim.lr_scheduler
    pairs = [
        (StepDecay(0.3, 7, 0.2), lambda o: ways.StepLR(o, 7, 0.2)),
        (ExponentialDecay(0.3, 1, 0.9), lambda o: ways.ExponentialLR(o, 0.9)),
        (Cosine(0.3, 40, 0.01), lambda o: ways.CosineAnnealingLR(o, 40, 0.01)),
        (OneCycle(0.3, 40), lambda o: ways.OneCycleLR(o, 0.3, total_steps=40)),
    ]
    for ours, make in pairs:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
        theirs = make(optimizer)
        for step in range(40):
            assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6), (ours, step)
            optimizer.step()
            if step < 39:
                theirs.step()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0), "Constant: lr must be greater than 0, got 0"),
        (lambda: StepDecay(0.1, 0), "StepDecay: every must be greater than 0, got 0"),
        (lambda: Cosine(0.1, 10, -1), "Cosine: last must not be negative, got -1"),
        (lambda: Cosine(math.nan, 10), "Cosine: lr must be greater than 0, got nan"),
        (lambda: OneCycle(0.1, 10, rise=1), "OneCycle: rise must lie between 0 and 1, got 1"),
        (lambda: Warmup(Constant(1.0), 0), "Warmup: steps must be greater than 0, got 0"),
        (lambda: make_schedule("spiral", 0.1, 3), "unknown learning rate schedule 'spiral'; known"),
        (lambda: make_schedule("one-cycle", 0.1, 3, 1.5), "rise must lie between 0 and 1, got 1.5"),
        (
            lambda: make_schedule("step", 0.1, 3, 0.5),
            "only the one-cycle schedule has it, got step",
        ),
    ],
)
def test_wrong_settings(make: object, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        make()  # type: ignore[operator]
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_a_one_cycle_goes_up_for_as_long_as_it_is_told() -> None:
    assert make_schedule("one-cycle", 0.1, 40, 0.75) == OneCycle(0.1, 40, rise=0.75)
    rates = [make_schedule("one-cycle", 0.1, 40, 0.75)(step) for step in range(40)]
    assert rates.index(max(rates)) == 29  # the 30th of 40 steps


def test_a_trainer_takes_each_step_at_its_rate() -> None:
    rng = np.random.default_rng(0)
    x, t = rng.random((20, 1, 28, 28), np.float32), rng.integers(0, 10, 20)

    class Recorder:
        lr = 0.0

        def __init__(self) -> None:
            self.seen: list[float] = []

        def update(self, params: object, grads: object) -> None:
            self.seen.append(self.lr)

    recorder = Recorder()
    cycle = OneCycle(0.1, 6)
    trainer = Trainer(
        *(DeepConvNet(), x, t, x, t),
        epochs=3,
        mini_batch_size=10,
        optimizer=recorder,
        lr_schedule=cycle,
        verbose=False,
        evaluate_sample_num_per_epoch=10,
    )
    trainer.train()
    assert recorder.seen == [cycle(step) for step in range(6)]
