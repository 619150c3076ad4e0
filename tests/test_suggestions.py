"""A name that is close to a known one: the message names that one."""

from __future__ import annotations

import pytest

from fastconv import DeepConvNet, config, selection
from fastconv.cli import main as cli
from fastconv.errors import FastconvError, suggestion
from fastconv.experiment.recipes import find_recipe
from fastconv.models import make_model
from fastconv.network.views import Views
from fastconv.optimizer import make_optimizer
from fastconv.training.augment import Augmentation
from fastconv.training.groups import matching
from fastconv.training.schedules import make_schedule


def test_only_a_close_name_is_suggested():
    assert suggestion("adm", ["sgd", "adam"]) == "; did you mean 'adam'?"
    assert suggestion("ADAM ", ["sgd", "Adam"]) == "; did you mean 'Adam'?"
    assert suggestion("lion", ["sgd", "adam"]) == ""
    assert suggestion(None, []) == ""


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ("train --epoch 3", "--epochs"),
        ("train --learning-rat 3 --lrr=2", None),  # only the first is looked at
        ("train --lrr=2", "--lr"),
        ("evaluate run --algoritms rule", "--algorithms"),
        ("run --backnd numpy script.py", "--backend"),
        ("sumary", "summary"),
        ("train --model lenett", "lenet"),
        ("summary --model ResNet-20", "resnet20"),
        ("train --members lenet,deepconvent", "deepconvnet"),
        ("train --optimizer adm", "adam"),
        ("train --schedule cosin", "cosine"),
        ("train --augment rotat=5", "rotate"),
        ("train --views shft=1", "shift"),
        ("train --data mnits", "mnist"),
        ("train --recipe mnist-boko", "mnist-book"),
        ("train --backend cyton", "cython"),
        ("train --no-normalise", "--no-normalize"),
        ("trian", "train"),
        ("run trian", "train"),
    ],
)
def test_the_command_suggests(command, meant, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(command.split()) == 2
    said = capsys.readouterr().err
    assert ("did you mean" in said) == (meant is not None), said
    assert meant is None or f"; did you mean {meant!r}?" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: make_model("leNet5", (1, 28, 28), 10), "lenet"),
        (lambda: make_optimizer("adma", {}), "adam"),
        (lambda: make_optimizer("Adam", {"bet1": 0.9}), "beta1"),
        (lambda: make_optimizer("SGD", {"weight_dacay": 0.9}), "weight_decay"),
        (lambda: make_schedule("onecycle", 0.1, 5), "one-cycle"),
        (lambda: Augmentation.parse("shif=1"), "shift"),
        (lambda: Views.parse("miror"), "mirror"),
        (lambda: selection.set_backend("numpi"), "numpy"),
        (lambda: config.set_math_mode("fasst"), "fast"),
        (lambda: find_recipe("mnist_best"), "mnist-best"),
        (lambda: matching("freeze", "w1", DeepConvNet(seed=0).params), "W1"),
    ],
)
def test_python_suggests(call, meant):
    with pytest.raises(FastconvError, match=rf"; did you mean '{meant}'\?"):
        call()


def test_settings_of_an_optimizer_are_listed():
    expected = r"unknown setting 'learning_rate'; known: lr, beta1, beta2"
    with pytest.raises(FastconvError, match=expected):
        make_optimizer("Adam", {"learning_rate": 0.1})
