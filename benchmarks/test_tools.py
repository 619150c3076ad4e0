"""The suite's own parts: the book's network, the report, the guard's verdicts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest

from fastconv import config
from fastconv.backends.algorithms import Algorithm, ConvAlgorithms
from fastconv.backends.numpy import NumpyBackend
from fastconv.backends.table import KERNELS
from fastconv.io.records import read_record
from fastconv.network.prepared import PreparedNetwork

from . import against_peers, chart, guard, mnist_epochs, peers, runtimes
from .book import BookNet
from .cases import cases, expected, smallest_of_each_kind, winners_may_round
from .check import PEERS_EXACT_TO, assert_same, assert_winners
from .data import batch_of, network_of, new_model_problem, new_problem
from .processes import FOLDER, Child, environment, told_by
from .report import Measurement, read, report, time_text
from .shapes import conv_shapes


def test_book_agrees_with_the_reference_backend() -> None:
    network = network_of("float64", "numpy")
    book = BookNet(network.params)
    x, t = batch_of(3, "float64")
    np.random.seed(5)
    wanted = network.gradient(x, t)
    np.random.seed(5)
    assert_same(book.gradient(x, t), wanted, 1e-12, "the book's code")
    assert_same({"scores": book.predict(x)}, {"scores": network.predict(x)}, 1e-12, "scores")


@pytest.mark.parametrize("name", mnist_epochs.NAMES)
def test_contenders_go_on_with_other_images(name: str) -> None:
    if reason := peers.missing(name):
        pytest.skip(reason)
    contender = peers.make(name, new_problem(5, 1))
    x, t = batch_of(5, "float32")
    contender.take(1 - x, t)
    wanted = network_of("float64", "numpy").predict(1 - x.astype(np.float64))
    dtype = "bfloat16" if peers.CONTENDERS[name].rough else "float32"
    limit = PEERS_EXACT_TO[dtype]
    assert_same({"scores": contender.scores()}, {"scores": wanted}, limit, name)
    contender.step()


@pytest.mark.parametrize("network", ["deepconvnet", "lenet"])
@pytest.mark.parametrize("math", ["", ", math fast"])
def test_prepared_contenders_are_prepared_once(network: str, math: str) -> None:
    """Setting the math mode, which another contender may have changed, would prepare anew."""
    name = f"fastconv cython, prepared{math}"
    if reason := peers.missing(name):
        pytest.skip(reason)
    deep = network == "deepconvnet"
    problem = new_problem(2, 1) if deep else new_model_problem(network, 3, 28, 1)
    before = config.get_math_mode(), config.get_num_threads()
    try:
        contender = peers.make(name, problem)
        assert contender.scores().shape == (2, 10)
        assert isinstance(contender.network, PreparedNetwork)
        assert config.get_math_mode() == ("fast" if math else "default")
        version = config.Process.version
        contender.infer()
        assert config.Process.version == version
        config.set_math_mode("default" if math else "fast")  # as another contender does
        contender.infer()
        assert config.get_math_mode() == ("fast" if math else "default")
    finally:
        config.set_math_mode(before[0])
        config.set_num_threads(before[1])


def test_openvino_computes_in_float32() -> None:
    if reason := peers.missing("OpenVINO"):
        pytest.skip(reason)
    contender = peers.make("OpenVINO", new_problem(1, 1))
    hint = contender.compiled.get_property("INFERENCE_PRECISION_HINT")
    assert hint.to_string() == "f32"
    assert contender.compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_ratios_are_to_the_fastest_base_of_each_launch() -> None:
    seconds = {"One A": [2e-3, 6e-3], "Two": [4e-3, 3e-3], "ours": [1e-3, 2e-3]}
    head, _, *rows = against_peers.table(seconds, "inference", ["One", "Two"]).splitlines()
    assert head == "| inference | ms | One or Two / this | lowest and highest launch |"
    assert rows == [
        "| One A | 4.00 | 0.75 | 0.50 - 1.00 |",
        "| Two | 3.50 | 0.75 | 0.50 - 1.00 |",
        "| ours | 1.50 | 1.75 | 1.50 - 2.00 |",
    ]
    (*_, row) = against_peers.table(seconds, "inference", ["One"]).splitlines()
    assert row == "| ours | 1.50 | 2.50 | 2.00 - 3.00 |"
    (*_, row) = against_peers.table(seconds, "inference", ["nobody"]).splitlines()
    assert row == "| ours | 1.50 | | |"


def test_peers_are_compared_on_any_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := peers.missing("fastconv cython"):
        pytest.skip(reason)
    line = "against_peers --task inference --network lenet --batch 1 --threads 1 --launches 1"
    words = ["--base", "cython, prepared", "--base", "nobody", "--contender", "cython, prepared"]
    monkeypatch.setattr(sys, "argv", [*line.split(), "--turns", "1", *words])
    against_peers.main()
    said = capsys.readouterr()
    for math in ("", ", math fast"):
        assert f"| fastconv cython, prepared{math} | " in said.out
    assert "| inference | ms | cython, prepared or nobody / this |" in said.out
    assert said.err == "no ratios to 'nobody': no contender here is called that\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "--task convolution --network resnet20",
            "expected --network deepconvnet, googlenet, resnet50, vgg16, got resnet20",
        ),
        ("--network vgg11 --image-size 8", "--image-size: expected at least 32 for vgg11, got 8"),
    ],
)
def test_what_peers_cannot_be_compared_on(
    line: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["against_peers", *line.split()])
    with pytest.raises(SystemExit):
        against_peers.main()
    assert message in capsys.readouterr().err


PLACES = np.array([[8.0, 7.9999999, 1.0, -2.0, 0.0], [-3.0, -1e-8, -4.0, -5.0, 0.0]])


@pytest.mark.parametrize("winners", [(0, 4), (1, 4), (0, 1), (1, 1)])
def test_a_winner_may_differ_by_rounding(winners: tuple[int, int]) -> None:
    assert_winners(np.array(winners, np.uint8), PLACES, 2e-5, "pool")


@pytest.mark.parametrize(
    ("winners", "message"),
    [
        ((2, 4), "pool: a winner is 7.00e.00 below its maximum, largest value 8.00e.00"),
        ((4, 4), "8.00e.00 below"),  # "none is above 0", and two are
        ((0, 0), "3.00e.00 below"),  # below 0: none should have won
        ((0, 5), "winner 5 of 5 places"),
        ((0, 4, 4), r"shape \(3,\), expected \(2,\)"),
    ],
)
def test_a_winner_is_not_just_any_place(winners: tuple[int, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_winners(np.array(winners, np.uint8), PLACES, 2e-5, "pool")


class _Rounding:
    """A backend that computes every convolution by one algorithm."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithms = ConvAlgorithms(algorithm, algorithm, "sparse")

    def conv2d_algorithms(self, *shape: Any) -> ConvAlgorithms:
        return self.algorithms


def test_winners_are_exact_where_whole_numbers_stay_exact() -> None:
    pooled = [case for case in cases(full=True) if case.label.endswith("+relu+pool")]
    forward = [case for case in pooled if case.kernel == "conv2d_block_forward"]
    assert len(forward) == 3
    case = forward[-1]
    inputs = case.inputs(np.random.default_rng(0))
    assert case.places is not None
    places, wanted = case.places(inputs), expected(case, inputs)
    # The maximum, or 0; the reference's own winner is the first of the largest.
    np.testing.assert_array_equal(places.max(axis=-1), wanted["out"])
    first = np.where(wanted["out"] > 0, places[..., :4].argmax(axis=-1), 4)
    np.testing.assert_array_equal(wanted["winner"], first)
    for algorithm, rounds in (("direct", 0), ("winograd2", 0), ("winograd2x4", 1)):
        assert winners_may_round(case, _Rounding(algorithm), inputs) == rounds  # type: ignore[arg-type]
    assert not winners_may_round(case, NumpyBackend(), inputs)
    pool = next(case for case in cases(full=True) if case.kernel == "maxpool2d_forward")
    assert not winners_may_round(pool, _Rounding("winograd4"), {})  # type: ignore[arg-type]


def test_every_kernel_runs_at_a_full_size_by_each_algorithm() -> None:
    chosen, full = smallest_of_each_kind(), {str(case) for case in cases(full=True)}
    assert {case.kernel for case in chosen} == set(KERNELS)
    assert {str(case) for case in chosen} <= full
    pooled = [case.kind for case in chosen if case.kernel == "conv2d_block_forward"]
    assert pooled == ["direct, pool False", "winograd2x4, pool False", "winograd2x4, pool True"]


def test_a_wrong_result_is_one_failure(tmp_path: Path) -> None:
    """And no error of the fixture that was not used besides."""
    (tmp_path / "all_wrong.py").write_text(
        "from benchmarks import check\n"
        "def wrong(*_):\n"
        "    raise AssertionError('as wrong as can be')\n"
        "check.assert_same = wrong\n"
    )
    line = "-m pytest -q -n0 -p no:cacheprovider -p all_wrong benchmarks/test_layers.py"
    command_line = [sys.executable, *line.split(), "-k", "test_layer and small and Relu"]
    done = subprocess.run(
        command_line,
        cwd=FOLDER.parent,
        env=environment(PYTHONPATH=f"{tmp_path}{os.pathsep}{FOLDER.parent}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "as wrong as can be" in done.stdout
    assert re.search(r"^\d+ failed(, \d+ (skipped|deselected))* in", done.stdout, re.M), done.stdout


def test_shapes_are_those_of_the_papers() -> None:
    shapes = conv_shapes()
    counts = {
        (network, size): sum(s.network == network and s.size == size for s in shapes)
        for network in ("deepconvnet", "vgg16", "resnet50", "googlenet")
        for size in (1, 3, 5, 7)
    }
    assert counts["deepconvnet", 3] == 6
    assert counts["vgg16", 3] == 9
    assert (counts["resnet50", 1], counts["resnet50", 3], counts["resnet50", 7]) == (15, 7, 1)
    # VGG's thirteen convolutions and classifier, 224 x 224: 15.5 GMAC a image are well known.
    repeats = {(256, 56, 256): 2, (512, 28, 512): 2, (512, 14, 512): 3}
    products = sum(
        repeats.get((s.c, s.side, s.fn), 1) * s.side**2 * s.c * s.fn * 9
        for s in shapes
        if s.network == "vgg16"
    )
    assert products == pytest.approx(15.35e9, rel=0.01)
    assert len({str(case) for case in cases(full=True)}) == len(cases(full=True))


def test_guard_needs_more_than_the_noise() -> None:
    steady = guard.Comparison(head=[1.0, 1.01, 0.99], noise=[1.0, 1.01, 0.99])
    slow = guard.Comparison(head=[1.2, 1.21, 1.19], noise=[1.0, 1.01, 0.99])
    noisy = guard.Comparison(head=[1.2, 1.0, 1.3], noise=[1.0, 1.4, 0.9])
    quick = guard.Comparison(head=[0.5, 0.51, 0.49], noise=[1.0, 1.01, 0.99])
    calm = {str(number): steady for number in range(200)}
    found = guard.verdicts(calm | {"slow": slow, "noisy": noisy, "quick": quick})
    assert found["slow"][2] == "slower"
    assert found["quick"][2] == "faster"
    assert found["noisy"][2] == found["0"][2] == ""


class _Child:
    """In the place of `Child`: times by tree; the second of the same tree is slower."""

    started: ClassVar[list[str]] = []

    def __init__(self, module: str, *, variables: dict[str, str]) -> None:
        self.tree = Path(variables["PYTHONPATH"]).name
        self.slower = 1.25 if self.tree in self.started else 1.0
        self.started.append(self.tree)

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, name: str) -> dict[str, float | None]:
        known = {"base": 2.0, "head": 3.0 if name == "both" else None}[self.tree]
        return {"seconds": known and known * self.slower}


def test_guard_divides_by_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "Child", _Child)
    trees = (Path("base"), Path("head"))
    found = guard.one_launch(trees, [{"name": "both"}, {"name": "base only"}], 1)
    assert found == {"both": (1.5, 1.25)}


def test_guard_times_the_network_and_kernels() -> None:
    known = guard.names()
    assert set(known) == {
        "deepconvnet:inference",
        "deepconvnet:training step",
        *map(str, cases(full=True)),
    }
    common = {"backend": "numpy", "dtype": "float32"}
    with Child("guard_worker", variables=environment(1)) as child:
        for name in (known[0], "affine_forward-100x50->10"):
            assert child.ask(**common, name=name)["seconds"] > 0
        assert child.ask(**common, name="a kernel of another commit") == {"seconds": None}


def test_a_child_that_ends_is_named() -> None:
    with (
        Child("guard_worker", variables=environment(1)) as child,
        pytest.raises(
            RuntimeError, match=r"the process of \{'name': 'nothing else'\} ended, status 1"
        ),
    ):
        child.ask(name="nothing else")


def row(test: str, group: str, seconds: float = 1e-3, **info: Any) -> dict[str, Any]:
    """A row of a results file."""
    common = {"dtype": "float32", "threads": 1}
    stats = {"median": seconds}
    return {"name": f"{test}[1]", "group": group, "stats": stats, "extra_info": common | info}


def kernel(name: str, backend: str, seconds: float, **more: Any) -> dict[str, Any]:
    info = {"operation": name, "shape": "5@8", "backend": backend, "provider": backend} | more
    return row("test_kernel", f"{name} {info['shape']}", seconds, **info)


def report_of(*rows: dict[str, Any]) -> str:
    peaks = {"1": {"float32 GFLOP/s": 9.0, "float64 GFLOP/s": 4.0, "GB/s": 2.0}}
    facts = {"processor": "one", "instruction sets": {"numba": "avx2"}, "peaks": peaks}
    data = {"datetime": "2026-01-01", "fastconv": facts, "benchmarks": rows}
    return report(read_record(json.dumps(data), Measurement, "results.json"))


def test_report_of_the_machine() -> None:
    text = report_of()
    assert "| instruction sets | numba avx2 |" in text
    assert "| measured peaks, threads: 1 | 9 float32 GFLOP/s, 4 float64 GFLOP/s, 2 GB/s |" in text
    assert text.count("## ") == 1  # of nothing else there is a row


def test_report_of_kernels() -> None:
    text = report_of(
        kernel("conv2d_forward", "cython", 1e-3, gflops=3.0, share_of_roofline=0.5),
        kernel("conv2d_forward", "numpy", 4e-3, gflops=0.75, share_of_roofline=0.1),
        kernel("conv2d_forward", "cython", 3e-3, shape="6@9", gflops=1.0, share_of_roofline=0.75),
        kernel("lrn_forward", "cython", 2e-6, provider="numpy", share_of_roofline=0.25),
    )
    assert "| conv2d_forward | float32 | 2 | 4.0x (4.0 - 4.0) |  |" in text
    head = "| shape | dtype | cython | numpy | cython, GFLOP/s | numpy, GFLOP/s "
    head += "| cython against numpy | cython, share of roofline | numpy, share of roofline |"
    assert head in text
    assert "| 5@8 | float32 | 1 ms | 4 ms | 3 | 1 | 4.0x | 50 % | 10 % |" in text
    assert "| 6@9 | float32 | 3 ms |  | 1 |  |  | 75 % |  |" in text
    assert "| 5@8 | float32 | 2 us (by numpy) | 25 % |" in text
    furthest = text.partition("### Furthest from the roofline: cython")[2]
    assert furthest.index("lrn_forward") < furthest.index("conv2d_forward")


def test_report_of_contenders() -> None:
    text = report_of(
        *(
            row(
                "test_peer",
                "inference",
                operation="inference against peers",
                backend=name,
                library=library,
                processes="one process",
                launches=3,
                times_as_long_as={"fastconv cython": ratio},
            )
            for name, library, ratio in (
                ("fastconv cython", {}, 1.0),
                ("Another", {"another": "2.0"}, 2.5),
            )
        )
    )
    assert "### inference, 1 thread\n\nOne process; launches: 3." in text
    assert "| Another 2.0 | 1 ms | 2.50 |" in text


def test_report_of_what_a_process_takes() -> None:
    sizes = {"numpy": 2_000_000, "needed": 3_000_000}
    text = report_of(
        row("test_network", "", operation="step", batch=10, backend="numba", gflops=2.0),
        row("test_layer", "", operation="Relu forward", shape="5x8", backend="numpy"),
        row("test_first_training_step", "", 2.0, backend="JAX jit", cache="cold"),
        row("test_compile", "", backend="numba, cold", kernels={"fast": 0.1, "slow": 0.5}),
        row("test_import", "", 0.25, backend="numpy", installed_bytes=sizes),
        row(
            "test_memory",
            "",
            backend="numba",
            bytes_after_one_step=4_000_000,
            bytes_after_100_steps=5_000_000,
        ),
    )
    for line in (
        "| float32 | 10 | 1 | 1 ms | 2 |",
        "| Relu forward | 5x8 | float32 | 1 | 1 ms |",
        "| JAX jit | cold | 2 s |",
        "| ... slow (numba, cold) | 500 ms |\n| ... fast (numba, cold) | 100 ms |",
        "| numpy | 250 ms | 2.0 | 5 |",
        "| numba | 4 | 5 |",
    ):
        assert line in text


def test_times_have_three_figures_in_a_unit_that_suits_them() -> None:
    texts = {2.5: "2.5 s", 0.9996: "1 s", 0.999: "999 ms", 9.996e-4: "1 ms", 3e-8: "30 ns"}
    assert {seconds: time_text(seconds) for seconds in texts} == texts


def test_report_refuses_another_file(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json: .*datetime"):
        read(path)


def test_a_measurement_is_compared_and_reported(tmp_path: Path) -> None:
    """Twice from the command line: pytest-benchmark and the report read what was written."""
    line = "-m pytest -q -n0 -p no:cacheprovider --benchmark-only --benchmark-json=results.json"
    line += " --benchmark-columns=median --benchmark-save=saved"
    line += f" --rootdir={FOLDER.parent} -c {FOLDER.parent / 'pyproject.toml'}"
    name = f"{FOLDER / 'test_kernels.py'}::test_kernel"
    # As if no other pytest were there: a worker of one measures nothing.
    variables = {name: text for name, text in environment(1).items() if "PYTEST" not in name}
    cases_of_adam = [f"{name}[adam_update-144-float32-{backend}]" for backend in ("numpy", "numba")]
    for more in ([], ["--benchmark-compare=0001"]):
        done = subprocess.run(
            [sys.executable, *line.split(), *more, *cases_of_adam],
            cwd=tmp_path,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "benchmark 'adam_update 144 float32 t1': 4 tests" in done.stdout
    machine_info = json.loads((tmp_path / "results.json").read_text())["machine_info"]
    assert "fastconv" not in machine_info  # whose peaks and commit are others each time
    text = report(read(tmp_path / "results.json"))
    assert re.search(r"\| adam_update \| float32 \| 1 \|  \| [\d.]+x \(.*\) \|", text)
    assert "measured peaks, threads: 1" in text


def test_a_cold_start_waits_for_no_other_library() -> None:
    program = "import sys, benchmarks.cold_start; print('fastconv' in sys.modules)"
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=FOLDER.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_memory_is_the_process_own(tmp_path: Path) -> None:
    problem = tmp_path / "problem"
    peers.save_problem(problem, new_problem(2, 1))

    def measured() -> int:
        return told_by("cold_start", peers.BOOK, str(problem), "1")["first"]

    alone = measured()
    ballast = np.ones(1 << 26)  # 512 MB of the parent's
    assert measured() < alone + ballast.nbytes / 4


def test_a_runtime_is_right_or_wrong_or_refuses(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="writes the model")
    pytest.importorskip("onnxruntime", reason="runs the model")
    network, shape = runtimes.MODELS["average pooling, ceil mode, pad 1"]()
    path = tmp_path / "m.onnx"
    runtimes.export_onnx(network, path, input_shape=shape)
    x = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    np.save(path.with_suffix(".npy"), x)
    wanted = network.predict(x)
    assert runtimes.cell("ONNX Runtime", path, wanted)[0] == "right"
    assert runtimes.verdict("ONNX Runtime", 1.01 * wanted, wanted) == ("wrong", "1e-02")
    assert runtimes.verdict("OpenVINO as it is", 1.01 * wanted, wanted)[0] == "rough"
    assert runtimes.verdict("ONNX Runtime", wanted[..., 1:], wanted)[0] == "wrong"
    path.write_bytes(b"no model")
    word, reason = runtimes.cell("ONNX Runtime", path, wanted)
    assert word == "refused" and "INVALID_PROTOBUF" in reason


def test_the_chart_has_the_figures_of_the_table() -> None:
    page = """
| times as fast as nothing | step, 2 threads | inference, 2 threads |
| --- | ---: | ---: |
| fastconv `numba` & co. | 1.50 (3 ms) | |
| fastconv, by hand | 9.00 | 9.00 |
| others | 3.00 | 0.75 |
"""
    root = ElementTree.fromstring(chart.chart(page))
    words = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    bars = [float(node.get("width", "")) for node in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert words == [
        "DeepConvNet on two threads: times as fast as nothing",
        *("training step", "others", "3.00", "fastconv numba & co.", "1.50"),
        *("inference", "others", "0.75"),
    ]
    assert [round(width / bars[0], 2) for width in bars] == [1, 0.5, 0.25]
    with pytest.raises(ValueError, match="expected a page with a table"):
        chart.chart("no table")


def test_the_chart_of_the_pages_is_that_of_their_table() -> None:
    docs = Path(chart.__file__).resolve().parents[1] / "docs"
    page = (docs / "speed.md").read_text(encoding="utf-8")
    assert (docs / "speed.svg").read_text(encoding="utf-8") == chart.chart(page)
