"""Earlier place of `fastconv.training.schedules`, kept for code that imports it from here."""

from .training.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    ExponentialDecay,
    OneCycle,
    Schedule,
    StepDecay,
    Warmup,
    make_schedule,
)

__all__ = [
    "SCHEDULES",
    "Constant",
    "Cosine",
    "ExponentialDecay",
    "OneCycle",
    "Schedule",
    "StepDecay",
    "Warmup",
    "make_schedule",
]
