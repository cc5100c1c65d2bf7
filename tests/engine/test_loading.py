"""Checkpoints whose content is no model's and no run's: one line each, and nothing in them runs."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset

from ean_core.engine import EANRunner
from ean_core.engine.loading import load_model
from ean_core.errors import UserError


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(2, 3), nn.BatchNorm1d(3)

    def forward(self, *inputs: torch.Tensor, mode: str = "loss") -> dict[str, torch.Tensor]:
        return {"loss": self.norm(self.first(torch.stack(inputs))).square().mean()}


class Data(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> torch.Tensor:
        return torch.tensor([float(i), 1.0])


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> EANRunner:
    """A runner with the checkpoint ``last.pth`` of its own training of one epoch in its work directory."""
    folder = tmp_path_factory.mktemp("work")
    runner = EANRunner(
        model=Net(),
        work_dir=str(folder),
        train_dataloader={"dataset": Data(), "sampler": {"type": "DefaultSampler"}, "batch_size": 2},
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "Adam", "lr": 0.01}},
        default_hooks={"checkpoint": None},
        experiment_name="test_loading",
    )
    runner.train()
    runner.save_checkpoint(str(folder), "last.pth")
    return runner


@pytest.fixture(scope="module")
def content(runner: EANRunner) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(Path(runner.work_dir, "last.pth"), weights_only=False)


def first(value: Any) -> dict[str, Any]:
    return Net().state_dict() | {"first.weight": value}


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch about quantized and sparse tensors
    QUANTIZED = torch.quantize_per_tensor(torch.ones(3, 2), 1.0, 0, torch.qint8)
    NESTED = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
STATES: dict[str, tuple[Any, str]] = {
    "none": (None, "holds no state dict"),
    "number": (7, "holds no state dict"),
    "list": ([torch.ones(3)], "holds no state dict"),
    "numbers": ({1: torch.ones(3)}, "holds no state dict"),
    "values": (first(3), "'first.weight' is of the type int instead of Tensor"),
    "integers": (first(torch.ones(3, 2, dtype=torch.int64)), "'first.weight' has the type int64 instead of float32"),
    "sparse": (first(torch.ones(3, 2).to_sparse()), "'first.weight' is a tensor of the layout sparse_coo"),
    "complex": (first(torch.ones(3, 2, dtype=torch.complex64)), "'first.weight' is a tensor of the type complex64"),
    "meta": (first(torch.ones(3, 2, device="meta")), "'first.weight' is a tensor without values"),
    "quantized": (first(QUANTIZED), "'first.weight' is a tensor of the type qint8"),
    "nested": (first(NESTED), "'first.weight' is a tensor of the layout nested"),
    "odd name": (Net().state_dict() | {"a\n\x1b[2J": torch.ones(1)}, r"'a\n\x1b[2J' is not in the model"),
}


@pytest.mark.parametrize("kind", STATES)
def test_weights_that_no_model_takes(kind: str) -> None:
    state, words = STATES[kind]
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(UserError) as error:
        load_model(model, {"state_dict": state}, "x.pth")
    assert "checkpoint 'x.pth' " in str(error.value)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_other_widths_of_the_same_kind_are_taken() -> None:
    """Weights saved in half precision, or as views of larger tensors."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in Net().state_dict().items()}
    state["first.weight"] = torch.arange(20).half().as_strided((3, 2), (5, 2))
    model = Net()
    load_model(model, {"state_dict": state}, "x.pth")
    assert model.first.weight.tolist() == [[0, 2], [5, 7], [10, 12]]


def changed(content: dict[str, Any], change: Any) -> dict[str, Any]:
    content = copy.deepcopy(content)
    change(content)
    return content


def moments(content: dict[str, Any], value: Any) -> None:
    content["optimizer"]["state"][0]["exp_avg"] = value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("meta"), "it has no 'meta'"),
        (lambda c: c.update(meta=None), "it has no 'epoch'"),
        (lambda c: c.update(meta=[1]), "it has no 'epoch'"),
        (lambda c: c["meta"].pop("epoch"), "it has no 'epoch'"),
        (lambda c: c["meta"].update(epoch="3"), "its epoch is no number"),
        (lambda c: c["meta"].update(iter=-1), "its iter is no number"),
        (lambda c: c["meta"].update(seed="x"), ""),
        (lambda c: c.pop("message_hub"), "it has no 'message_hub'"),
        (lambda c: c.update(message_hub=3), ""),
        (lambda c: c["message_hub"]["resumed_keys"].update(max_iters=1e30), "its notes on what is resumed are no yes"),
        (lambda c: c.update(optimizer=None), ""),
        (lambda c: c.update(optimizer={}), ""),
        (lambda c: c["optimizer"]["param_groups"].append({"params": []}), "different number of parameter groups"),
        (lambda c: c["optimizer"]["param_groups"][0]["params"].pop(), "size of optimizer's group"),
        (lambda c: moments(c, torch.ones(5)), "the optimizer's 'exp_avg' of 'first.weight' does not fit it"),
        (lambda c: moments(c, torch.ones(())), "the optimizer's 'exp_avg' of 'first.weight' does not fit it"),
        (lambda c: moments(c, 3), "the optimizer's 'exp_avg' of 'first.weight' does not fit it"),
        (lambda c: moments(c, torch.ones(3, 2).to_sparse()), "the optimizer's 'exp_avg' of 'first.weight'"),
    ],
)
def test_runs_that_cannot_go_on(
    runner: EANRunner, content: dict[str, Any], tmp_path: Path, change: Any, words: str
) -> None:
    torch.save(changed(content, change), tmp_path / "x.pth")
    with pytest.raises(UserError) as error:
        runner.resume(str(tmp_path / "x.pth"))
    line = str(error.value)
    assert line.startswith(f"checkpoint '{tmp_path / 'x.pth'}' cannot be resumed: ")
    assert words in line
    assert line.endswith("; start anew, or load its weights alone with --pretrained")
    assert "\n" not in line


def test_a_run_goes_on(runner: EANRunner) -> None:
    runner.resume(str(Path(runner.work_dir, "last.pth")))
    assert (runner.epoch, runner.iter) == (2, 2)  # saved behind the training: the next is the third


def test_what_a_checkpoint_notes_as_its_config_is_not_run(
    runner: EANRunner, content: dict[str, Any], tmp_path: Path
) -> None:
    """MMEngine's resume executes ``meta["config"]``, as it was called in its early days."""
    code = f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n"
    torch.save(changed(content, lambda c: c["meta"].update(config=code)), tmp_path / "x.pth")
    runner.resume(str(tmp_path / "x.pth"))
    assert not (tmp_path / "ran").exists()
