"""How a tool ends, and what a command line makes of a config."""

import argparse
import contextlib
import re
import signal
import sys
import time

import pytest
from mmengine.config import Config
from mmengine.registry import Registry

from ean_core.engine.cli import add_config_options, command, config_of, interrupted, make_parser
from ean_core.errors import UserError, building
from ean_core.stopping import Interrupted


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
    assert "what 'ean doctor' prints" in last


class Part:
    def __init__(self, width=1):
        self.width = width


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


@pytest.mark.parametrize(
    ("started", "variables", "shown"),
    [
        ("tools/train.py", {}, "python tools/train.py"),
        ("tools/train.py", {"LOCAL_WORLD_SIZE": "2"}, "torchrun --nproc_per_node=2 tools/train.py"),
        ("ean train", {}, "ean train"),
        ("ean train", {"LOCAL_WORLD_SIZE": "2"}, "torchrun --nproc_per_node=2 -m ean_tools train"),
    ],
)
def test_the_command_to_repeat_is_the_one_that_was_given(started, variables, shown, monkeypatch, capsys):
    @command
    def main(argv=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", [started, "c.py"])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err == f"interrupted: start again with '{shown} c.py'\n"


def test_interrupt(capsys):
    assert ends_with(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith("interrupted: start again with 'python ")


@pytest.mark.parametrize(
    ("words", "noted", "said"),
    [
        ("c.py", {}, "interrupted: start again with 'python t.py c.py'"),
        ("c.py", {"where": "epoch 2", "saved": False}, "interrupted in epoch 2: start again with 'python t.py c.py'"),
        ("c.py", {"where": "epoch 2"}, "interrupted in epoch 2: go on with 'python t.py c.py --resume'"),
        ("c.py --resume --toy", {"where": "it"}, "interrupted in it: go on with 'python t.py c.py --toy --resume'"),
        ("c.py --resume a.pth", {"instead": "a.pth"}, "interrupted: go on with 'python t.py c.py --resume'"),
        ("c.py --resume=a.pth", {"instead": "a.pth"}, "interrupted: go on with 'python t.py c.py --resume'"),
        ("c.py --classes a.pth --resume a.pth", {"instead": "a.pth"},
         "interrupted: go on with 'python t.py c.py --classes a.pth --resume'"),
        ("c.py --toy", {"option": ""}, "interrupted: go on with 'python t.py c.py --toy'"),
    ],
)  # fmt: skip
def test_how_to_go_on(words, noted, said):
    stop = Interrupted()
    if noted:
        vars(stop).update({"where": "", "saved": True, "option": "--resume", "instead": ""} | noted)
    assert interrupted(stop, ["python", "t.py"], words.split()) == said


def test_a_signal_that_was_forgotten_ends_the_command(capsys):
    @command
    def main(argv=None):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 143
    assert capsys.readouterr().err == "interrupted when everything was done: there is nothing to go on with\n"


@pytest.mark.parametrize("error", [UserError("wrong"), ZeroDivisionError("x")], ids=repr)
def test_another_process_than_the_first_names_itself(error, capsys, monkeypatch):
    """It waits, because torchrun ends it where the first one has made the same mistake."""
    waited = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(time, "sleep", waited.append)
    ends_with(error)
    assert waited
    assert "(rank 1)" in capsys.readouterr().err.splitlines()[-1]


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


@pytest.mark.parametrize("text", ["abc", "=3", "a..b=3", ".a=3"])
def test_options_without_a_name_or_a_value(load, text):
    with pytest.raises(
        UserError, match=re.escape(f"--cfg-options takes KEY=VALUE, such as train_cfg.max_epochs=3, got '{text}'")
    ):
        load("--cfg-options", "train_cfg.max_epochs=3", text)


@pytest.mark.parametrize("text", ["a=[1,2", "a=(1,2,[3)"])
def test_options_with_brackets_that_do_not_match(load, text):
    with pytest.raises(UserError, match=re.escape(f"--cfg-options: the brackets in '{text}' do not match")):
        load("--cfg-options", text)


def test_options_in_several_places_add_up(load):
    cfg = load("--cfg-options", "a.b=1", "c=[1,2]", "--cfg-options", "a.d=x=y")
    assert (cfg.a, cfg.c) == ({"b": 1, "d": "x=y"}, [1, 2])
