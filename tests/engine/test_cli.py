"""How a tool ends, and what a command line makes of a config."""

import argparse
import re
import sys

import pytest
from mmengine.config import Config
from mmengine.registry import Registry

from ean_core.engine.cli import add_config_options, command, config_of, make_parser
from ean_core.errors import UserError, building


def ends_with(error, argv=()):
    @command
    def main(argv=None):
        raise error

    with pytest.raises(SystemExit) as stopped:
        main(list(argv))
    return stopped.value.code


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (UserError("the head is wrong"), "the head is wrong"),
        (OSError("the disk is full"), "the disk is full"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "No such file or directory: 'a.txt'"),
    ],
    ids=["UserError", "OSError", "OSError of the system"],
)
def test_a_mistake_is_one_line(error, message, capsys):
    assert ends_with(error) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {message}\n")


def test_debug_lets_the_error_through(monkeypatch):
    with pytest.raises(ValueError, match="wrong"):
        ends_with(UserError("wrong"), ["--debug"])
    monkeypatch.setattr(sys, "argv", ["tool", "--debug"])

    @command
    def main(argv=None):
        raise UserError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        main()


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), KeyError("layer4"), ValueError("bad shape")], ids=repr)
def test_a_bug_is_no_mistake_of_the_user(error, capsys):
    """Its traceback is shown, and a line that says how to report it."""
    assert ends_with(error) == 1
    *traceback, last = capsys.readouterr().err.splitlines()
    assert traceback[0] == "Traceback (most recent call last):"
    assert f"{type(error).__name__}: {error}" in traceback[-1]
    assert last.startswith("bug: ")
    assert "tools/doctor.py" in last


class Part:
    def __init__(self, width=1):
        self.names = {}
        if width == 0:
            self.names["layer4"]  # a bug


REGISTRY = Registry("part", scope="test")
REGISTRY.register_module(module=Part)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"type": "Prat"}, "model: unknown type 'Prat' (it is not in the registry test::part): check its spelling"),
        ({"type": "Part", "wdith": 3}, "got an unexpected keyword argument 'wdith'"),
    ],
)
def test_wrong_config_entries_are_mistakes(options, message):
    with pytest.raises(UserError, match=re.escape(message)), building("model"):
        REGISTRY.build(options)


def test_a_bug_in_a_constructor_is_none():
    with pytest.raises(KeyError, match="layer4"), building("model"):
        REGISTRY.build({"type": "Part", "width": 0})


def test_interrupt(capsys):
    assert ends_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_help_ends_with_an_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser("Train.", "python tools/train.py x.py").parse_args(["--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.rstrip().endswith("example: python tools/train.py x.py")


@pytest.fixture
def load(config, small_voc):
    """``load(*arguments)``: the config of a command line."""

    def load(*arguments: str) -> Config:
        parser = argparse.ArgumentParser()
        add_config_options(parser)
        for flag in ("--amp", "--pretrained"):
            parser.add_argument(flag, nargs="?", const=True)
        return config_of(parser.parse_args([config, "--data-root", str(small_voc), *arguments]))

    return load


@pytest.mark.parametrize("epochs", [1, 3, 80])
def test_the_schedule_ends_with_the_training(load, epochs):
    cfg = load("--cfg-options", f"train_cfg.max_epochs={epochs}")
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs == epochs


def test_flags_reach_the_config(load, tmp_path):
    weights = tmp_path / "weights.pth"
    weights.touch()
    cfg = load("--scheme", "none", "--amp", "--pretrained", str(weights), "--work-dir", "here")
    assert cfg.model.backbone.scheme == "none"
    assert cfg.model.backbone.init_cfg == {"type": "Pretrained", "checkpoint": str(weights)}
    assert cfg.optim_wrapper.type == "AmpOptimWrapper"
    assert cfg.work_dir == "here"
    assert load().work_dir == "work_dirs/ean_se_voc"
    assert load("--pretrained", "torchvision").model.backbone.init_cfg.checkpoint == "torchvision://resnet50"
