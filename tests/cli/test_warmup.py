"""``fastconv warmup``: what it leaves nothing to compile for."""

from __future__ import annotations

import json

import numpy as np
import pytest

import fastconv
from fastconv import selection
from fastconv.optimizer import Adam


def test_warmup_says_what_is_ready(fastconv_command):
    status, out, err = fastconv_command(
        "warmup", "--backend", "numpy", "--batch-size", "2", "--json"
    )
    assert status == 0
    assert err.startswith("deepconvnet is ready: numpy, float32, batch 2; ")
    facts = json.loads(out)
    assert facts.pop("seconds") > 0
    assert facts == {"backend": "numpy", "model": "deepconvnet", "dtype": "float32"}


def test_after_warmup_nothing_is_compiled(fastconv_command, monkeypatch):
    if not (status := selection.registry().status("numba")):
        pytest.skip(status.reason)
    from fastconv.backends._numba.launch.build import Builder

    status, _, _ = fastconv_command("warmup", "--backend", "numba", "--batch-size", "20")
    assert status == 0

    def build(builder, factory, constants, parallel):
        raise AssertionError(f"{factory.__name__}{constants} is compiled only now")

    monkeypatch.setattr(Builder, "_build", build)
    network = fastconv.DeepConvNet(backend="numba")
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((20, 1, 28, 28)).astype("float32"), rng.integers(0, 10, 20)
    with fastconv.use_backend("numba"):
        Adam().update(network.params, network.gradient(x, t))
    network.predict(x)


def test_warmup_refuses_what_it_does_not_know(fastconv_command):
    status, _, err = fastconv_command("warmup", "--backend", "nimba")
    assert status == 2
    assert "unknown backend 'nimba'" in err
    status, _, err = fastconv_command("warmup", "--batch-size", "0")
    assert status == 2
    assert "must be at least 1, got 0" in err
