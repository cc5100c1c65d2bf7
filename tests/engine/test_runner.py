"""What the runner loads and what it refuses; mixed precision on a CPU."""

import pickle
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from torch import nn

from ean_core.engine import CPUAmpOptimWrapper, EANRunner
from ean_core.engine.loading import load_model


class Net(BaseModel):
    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, width), nn.Linear(width, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(inputs))


class Foreign:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return EANRunner(Net(), str(tmp_path_factory.mktemp("work")), experiment_name="test_runner")


def save(path: Path, state: dict, **more: object) -> str:
    torch.save({"state_dict": state, **more}, path)
    return str(path)


def test_loads_what_fits(runner, tmp_path):
    state = Net().state_dict()
    runner.load_checkpoint(save(tmp_path / "net.pth", state))
    assert all(torch.equal(value, state[key]) for key, value in runner.model.state_dict().items())


def test_refuses_to_run_code(runner, tmp_path):
    state = Net().state_dict()
    path = save(tmp_path / "net.pth", state, meta=Foreign(tmp_path / "ran"))
    with pytest.raises(ValueError, match="can run code") as refused:
        runner.load_checkpoint(path)
    assert str(tmp_path / "net.pth") in str(refused.value)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Foreign(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()  # it would have


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None], ids=["empty", "text", "cut"])
def test_refuses_what_is_no_checkpoint(runner, tmp_path, content):
    path = Path(save(tmp_path / "net.pth", Net().state_dict()))
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(ValueError, match=r"net\.pth' cannot be read: it is truncated"):
        runner.load_checkpoint(str(path))


def test_missing_file(runner, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"net\.pth' does not exist"):
        runner.load_checkpoint(str(tmp_path / "net.pth"))


def without(key: str) -> dict:
    return {k: v for k, v in Net().state_dict().items() if k != key}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (without("first.bias"), "'first.bias' is missing;"),
        (without("first.bias") | {"bias": torch.zeros(3)}, "'first.bias' is missing (and 1 more);"),
        (Net().state_dict() | {"third.bias": torch.zeros(2)}, "'third.bias' is not in the model;"),
        (Net(4).state_dict(), "'first.weight' has shape (4, 2) instead of (3, 2) (and 2 more);"),
    ],
    ids=["missing", "renamed", "left over", "shape"],
)
def test_names_the_first_that_does_not_fit(state, message):
    model = Net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError) as refused:
        load_model(model, {"state_dict": state}, "net.pth")
    assert str(refused.value).startswith(f"checkpoint 'net.pth' does not fit the model: {message}")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_terminal_shows_errors_only(runner, capsys):
    runner.logger.info("for the file")
    runner.logger.warning("for the file too")
    assert capsys.readouterr() == ("", "")
    logs = list(Path(runner.log_dir).glob("*.log"))
    assert len(logs) == 1
    assert "for the file too" in logs[0].read_text()


def test_mixed_precision_on_a_cpu():
    model = Net()
    wrapper = CPUAmpOptimWrapper(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    with wrapper.optim_context(model):
        out = model(torch.ones(4, 2))
    assert out.dtype == torch.bfloat16
    wrapper.update_params(out.float().sum())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model(torch.ones(4, 2)).dtype == torch.float32
