"""Steps on two ranks, and the model of many: small, by hand, and against what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import hosts, ranks, scaling

PAGE = Path(scaling.__file__).resolve().parents[1] / "docs" / "distributed.md"


def test_messages_take_rounds_and_bytes() -> None:
    """Eight ranks: 3 rounds each way; each sends 7/8 of its megabyte, twice, at 1 GB/s."""
    assert scaling.sent(8, 1e6, 8e9, 1e-3) == pytest.approx(6e-3 + 2 * 7 / 8 * 1e-3)
    assert scaling.sent(2, 1e6, 8e9, 0) == pytest.approx(1e-3)
    assert scaling.sent(9, 0, 8e9, 1e-3) == pytest.approx(8e-3)


def test_a_step_is_computation_and_what_is_seen_of_the_messages() -> None:
    network = {"size": 1e6, "rate": 8e9, "latency": 1e-3}
    assert scaling.predicted(1, compute=12e-3, **network) == 12e-3
    # 12 + 3 (whether to go on) + 6 + 1.75
    assert scaling.predicted(8, compute=12e-3, **network) == pytest.approx(22.75e-3)
    seen = scaling.predicted(8, compute=12e-3, overlap=0.8, **network)
    assert seen == pytest.approx(15e-3 + 0.2 * 7.75e-3)
    # Backward takes 2 ms, and hides no more.
    assert scaling.predicted(8, compute=3e-3, overlap=0.8, **network) == pytest.approx(11.75e-3)


def test_the_model_agrees_with_two_ranks() -> None:
    """Where the messages' time is small, noise is as large: so it is the step that is compared."""
    points = scaling.measured(PAGE.read_text(encoding="utf-8"))
    assert {point.rate for point in points} == {1e9, 1e10} and len(points) >= 6
    for point in points:
        network = {"size": scaling.GRADIENTS, "rate": point.rate, "latency": point.latency}
        step = scaling.predicted(2, compute=point.short - point.latency, **network)
        assert step == pytest.approx(point.late, rel=0.1)


def test_the_page_has_the_models_table() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert scaling.with_table(page) == page
    with pytest.raises(ValueError, match="expected a page with a table"):
        scaling.with_table("nothing")


def test_the_picture_is_of_the_model() -> None:
    pytest.importorskip("matplotlib", reason="draws")
    points = scaling.measured(PAGE.read_text(encoding="utf-8"))
    axes = scaling.picture(points).axes[0]
    curve, compute = axes.lines[0].get_ydata(), scaling.base(points)
    rate, latency = scaling.NETWORKS[0]
    network = {"size": scaling.GRADIENTS, "rate": rate, "latency": latency}
    expected = [100 * compute / scaling.predicted(n, compute=compute, **network) for n in (1, 8)]
    assert [curve[0], curve[3]] == pytest.approx(expected)


def test_two_ranks_compute_what_one_process_does() -> None:
    """The benchmark's own comparison, and its turns."""
    pytest.importorskip("mpi4py", reason="starts ranks")
    try:
        ranks.mpiexec()
    except hosts.Unavailable as error:
        pytest.skip(str(error))
    names = [ranks.ALONE, ranks.OURS, ranks.BY_HAND]
    taken = ranks.launch(names, "deepconvnet", 4, turns=1, seconds=0, agent=None)
    assert set(taken) == set(names) and min(taken.values()) > 0


def test_shares_that_are_hidden_and_ratios() -> None:
    taken = {"a": [4.0, 6.0, 5.0], "b": [2.0, 2.0, 4.0]}
    assert ranks.table(taken, "a").splitlines()[3] == "| b | 2000.00 | 2.00 | 2.00, 3.00, 1.25 |"
    steps = {ranks.SHORT: [10e-3], ranks.AT_THE_END: [14e-3], ranks.EARLY: [11e-3]}
    said = "seen of the messages: 4.00 ms at the end, 1.00 ms early: 75 % hidden"
    assert ranks.hidden(steps) == said


def test_a_rate_is_as_tc_has_it() -> None:
    assert hosts.bytes_per_second("10gbit") == 1.25e9
    assert hosts.bytes_per_second("") == float("inf")
    with pytest.raises(ValueError, match="expected a rate such as 10gbit"):
        hosts.bytes_per_second("fast")


def test_what_two_hosts_lack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(hosts.Unavailable, match="there is no ip"), hosts.two_hosts():
        pass
