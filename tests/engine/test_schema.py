"""Wrong entries of a config end in one line that names the entry, whichever part of the program reads it."""

import math
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from ean_core.engine import load_config
from ean_core.engine.config import read_class_names, read_config
from ean_core.engine.runner import build_runner
from ean_core.engine.schema import check_entries
from ean_core.errors import UserError, building

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted(path for path in ROOT.glob("configs/*/*.py") if path.parent.name != "_base_")


def refused(entry: str, value: object) -> str:
    """What is said of a config with one wrong entry."""
    cfg = Config.fromfile(ROOT / "configs" / "seg" / "ean_se_voc.py")
    cfg.merge_from_dict({entry: value})
    with pytest.raises(UserError) as error:
        check_entries(cfg)
    return str(error.value).removeprefix(f"'{cfg.filename}': ")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_our_configs_are_right(path):
    check_entries(Config.fromfile(path))


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("task", 3, "task must be text, got 3"),
        ("task", "../seg", "task must be the name of a package, got '../seg'"),
        ("model", 3, "model must be a dict of options, got 3"),
        ("model.backbone", None, "model.backbone must be a dict of options, got None"),
        ("train_cfg", "abc", "train_cfg must be a dict of options, got 'abc'"),
        ("train_cfg.max_epochs", "abc", "train_cfg.max_epochs must be a whole number, got 'abc'"),
        ("train_cfg.max_epochs", 1.5, "train_cfg.max_epochs must be a whole number, got 1.5"),
        ("train_cfg.max_epochs", True, "train_cfg.max_epochs must be a whole number, got True"),
        ("train_cfg.max_epochs", 0, "train_cfg.max_epochs must be at least 1, got 0"),
        ("train_cfg.val_interval", 0, "train_cfg.val_interval must be at least 1, got 0"),
        ("train_dataloader", 3, "train_dataloader must be a dict of options, got 3"),
        ("train_dataloader.batch_size", "8", "train_dataloader.batch_size must be a whole number, got '8'"),
        ("optim_wrapper", 3, "optim_wrapper must be a dict of options, got 3"),
        ("optim_wrapper.optimizer.lr", "abc", "optim_wrapper.optimizer.lr must be a number, got 'abc'"),
        ("optim_wrapper.optimizer.lr", -1, "optim_wrapper.optimizer.lr must be at least 0, got -1"),
        ("param_scheduler", 3, "param_scheduler must be a list or a dict of options, got 3"),
        ("param_scheduler", [3], "param_scheduler.0 must be a dict of options, got 3"),
        ("custom_hooks", 3, "custom_hooks must be a list, got 3"),
        ("custom_hooks", [{}, 3], "custom_hooks.1 must be a dict of options, got 3"),
        ("default_hooks.checkpoint", 3, "default_hooks.checkpoint must be a dict of options, got 3"),
        ("randomness.seed", "abc", "randomness.seed must be a whole number, got 'abc'"),
        ("randomness.seed", 2**32, "randomness.seed must be less than 4294967296, got 4294967296"),
        ("visualizer", 3, "visualizer must be a dict of options, got 3"),
        ("search", 5, "search must be a dict of options, got 5"),
        (
            "log_level",
            "NOPE",
            "log_level must be 'NOTSET', 'DEBUG', 'INFO', 'WARN', 'WARNING', 'ERROR', 'FATAL' or 'CRITICAL' "
            "or a whole number, got 'NOPE'",
        ),
        ("work_dir", 3, "work_dir must be text or an instance of Path, got 3"),
    ],
    ids=str,
)
def test_wrong_values(entry, value, message):
    assert refused(entry, value) == message


@pytest.mark.parametrize(
    "changes",
    [
        {"param_scheduler": dict(type="MultiStepLR", milestones=(2, 4), end=math.inf), "toy": None},
        {"custom_hooks": (dict(type="SyncBuffersHook"),), "val_evaluator": [dict(type="a"), dict(type="b")]},
        {"val_dataloader": None, "val_cfg": None, "val_evaluator": None},
        {"log_level": 20, "default_scope": None, "work_dir": Path("x")},
        {"optim_wrapper": dict(optimizer=dict(type="Adafactor", lr=None)), "train_cfg": dict(max_iters=9, val_begin=0)},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_what_mmengine_understands_passes(changes):
    check_entries(Config(dict(task="own", **changes)))


def test_a_long_value_is_cut():
    assert (
        refused("model", "x" * 5_000_000) == f"model must be a dict of options, got '{'x' * 79}... (5000002 characters)"
    )


@pytest.mark.parametrize("value", ["0" * 5_000_000, "nowhere " + "01" * 1000])
def test_a_long_word_in_any_message_is_cut(value):
    assert len(str(UserError(f"'{value}' is not a connection scheme"))) < 200


@pytest.fixture
def tiny_options(small_voc, tmp_path, run_name):
    """``load_config``'s arguments for a run that could begin."""
    name, value = run_name.split("=")
    options = {
        name: value,
        "model.backbone.depth": 18,
        "head": "fcn",
        "crop_size": 32,
        "train_dataloader.batch_size": 2,
        "model.backbone.scheme": "full",
    }
    options |= {f"{part}_dataloader.num_workers": 0 for part in ("train", "val", "test")}
    return {"data_root": small_voc, "work_dir": tmp_path / "run", "options": options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_size": "abc"}, "crop_size must be a whole number, got 'abc'"),
        ({"inference": "sliding"}, "inference must be 'whole' or 'slide', got 'sliding'"),
        ({"head": []}, "head must be text, got []"),
        ({"val_dataloader": None}, "val_dataloader must be a dict of options, got None"),
        ({"custom_hooks.99.interval": 1}, "--cfg-options custom_hooks.99.interval=1: the config has no such place"),
        ({"model.backbone.depth": "abc"}, "depth abc"),
        ({"model.backbone.out_indices": 3}, "model.backbone: "),
        (
            {"model.backbone.out_indices": [0, 1, 2]},
            "the head takes feature map 3, counted from 0, and the backbone has 3",
        ),
        ({"heads.fcn.decode_head.channels": "abc"}, "heads.fcn.decode_head: "),
        ({"param_scheduler.0.milestones": None}, "param_scheduler.0.milestones must be a list, got None"),
        ({"model.data_preprocessor": None}, "model.data_preprocessor must be a dict of options, got None"),
        ({"train_cfg.max_epochs": None}, "train_cfg.max_epochs must be a whole number, got None"),
        ({"model.type": "Nope"}, "model: unknown type 'Nope'"),
        ({"model.type": 3}, "model: TypeError: "),
    ],
    ids=str,
)
def test_wrong_choices(config, tiny_options, options, message):
    tiny_options["options"] |= options
    with pytest.raises(UserError, match=re.escape(message)):
        build_runner(load_config(config, **tiny_options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim_wrapper.optimizer.type": "Nope"}, "optim_wrapper.optimizer: unknown type 'Nope'"),
        ({"train_cfg.type": "Nope"}, "train_cfg, train_dataloader: unknown type 'Nope'"),
        ({"train_dataloader.sampler.type": "os.getcwd"}, "train_cfg, train_dataloader: "),
        ({"val_evaluator.type": "Nope"}, "val_cfg, val_dataloader, val_evaluator: unknown type 'Nope'"),
        ({"param_scheduler.0.power": "abc"}, "param_scheduler.0.power must be a number"),
        ({"custom_hooks.1.type": "Nope"}, "custom_hooks: unknown type 'Nope'"),
        ({"default_hooks.checkpoint.interval": 0}, "SaveHook: interval must be at least 1 epoch, got 0"),
        ({"default_hooks.checkpoint.rule": "more"}, "SaveHook: rule must be 'greater' or 'less', got 'more'"),
        ({"custom_hooks.2.interval": 0}, "HistoryHook: interval must be at least 1 iteration, got 0"),
        ({"visualizer.type": "Nope"}, "visualizer: unknown type 'Nope'"),
    ],
    ids=str,
)
def test_parts_that_cannot_be_built(config, tiny_options, options, message):
    tiny_options["options"] |= options
    with pytest.raises(UserError, match=re.escape(message)) as error:
        build_runner(load_config(config, **tiny_options)).train()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.py", "1 / 0", "a.py' cannot be read: ZeroDivisionError: division by zero"),
        ("a.py", "raise SystemExit(3)", "a.py' cannot be read: SystemExit: 3"),
        ("a.py", "custom_imports = dict(imports=['nowhere'])", "a.py' cannot be read: ImportError: "),
        ("a.py", b"\x80\x81", "a.py' cannot be read: UnicodeDecodeError: "),
        ("a.yaml", "a: [1", "a.yaml' cannot be read: ParserError: "),
        ("a.json", "[" * 100_000, "a.json' cannot be read: RecursionError: "),
        ("a.txt", "a = 1", "a.txt' cannot be read: OSError: "),
    ],
)
def test_configs_that_cannot_be_read(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_config(path)
    assert "\n" not in str(error.value)


def test_a_config_that_is_its_own_base(tmp_path):
    for name, base in (("a", "b"), ("b", "c"), ("c", "b")):
        (tmp_path / f"{name}.py").write_text(f"_base_ = './{base}.py'\n")
    with pytest.raises(UserError, match=re.escape("b.py -> c.py -> b.py")):
        read_config(tmp_path / "a.py")


def test_class_names_that_are_no_text(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(UserError, match=re.escape(f"'{path}' is not text")):
        read_class_names(path)


def test_whatever_a_constructor_raises_names_the_part():
    message = re.escape("model: ZeroDivisionError: division by zero (--debug shows where)")
    with pytest.raises(UserError, match=message), building("model"):
        1 / 0  # noqa: B018


def test_an_error_without_words_quotes_its_line():
    message = re.escape("model: AssertionError: raise AssertionError (--debug shows where)")
    with pytest.raises(UserError, match=message), building("model"):
        raise AssertionError


def test_a_mistake_that_is_named_already_passes():
    with pytest.raises(UserError, match=r"^depth 19 is unknown$"), building("model"):
        raise UserError("depth 19 is unknown")


def test_schedules_of_iterations_keep_their_end(config, tiny_options):
    tiny_options["options"] |= {"param_scheduler.0.by_epoch": False, "param_scheduler.0.end": 20_000}
    assert load_config(config, **tiny_options).param_scheduler[0].end == 20_000


def test_a_choice_that_meets_a_wrong_entry_names_the_config(config, tiny_options):
    tiny_options["options"] |= {"train_dataloader.dataset.pipeline": None}
    with pytest.raises(UserError, match=r"ean_se_voc\.py', as the task 'segmentation' reads it: TypeError: "):
        load_config(config, **tiny_options)
