"""What tests do in processes of their own, which import it by its name."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from torch import distributed, nn
from torch.nn.functional import cross_entropy

from classification.classifier import ImageClassifier
from ean_core import EANCifarResNet
from ean_core.search.supernet import SupernetHook

SE = {"type": "SE", "reduction": 4}


def make_scenes(root: Path, barrier: Any, queue: Any) -> None:
    """Make toy scenes at the same moment as another process."""
    from segmentation.toy_scenes import make_toy_voc

    barrier.wait()
    queue.put(str(make_toy_voc(root, train=8, val=2, size=48)))


class Net(BaseModel):
    """A backbone and a linear head; it notes the schemes of its forward passes."""

    def __init__(self, scheme: str = "full") -> None:
        super().__init__()
        self.backbone = EANCifarResNet(8, block="basic", attention=SE, scheme=scheme)
        self.fc = nn.Linear(64, 2)
        self.seen: list[str] = []

    def forward(self, x: torch.Tensor, y: torch.Tensor, mode: str = "tensor") -> Any:
        self.seen.append(f"{mode} {self.backbone.scheme}")
        logits = self.fc(self.backbone(x)[-1].mean((2, 3)))
        return {"loss": cross_entropy(logits, y)} if mode == "loss" else [logits]


class Run:
    """What the hook asks of a runner."""

    def __init__(self, model: nn.Module, seed: int) -> None:
        self.model, self.seed, self.iter = model, seed, 0


def train_a_supernet(rank: int, folder: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = Net()
    strict = Run(MMDistributedDataParallel(net, device_ids=None, broadcast_buffers=False), 5)
    with pytest.raises(ValueError, match="find_unused_parameters = True"):
        SupernetHook().before_train(strict)
    model = MMDistributedDataParallel(net, device_ids=None, broadcast_buffers=False, find_unused_parameters=True)
    runner, hook = Run(model, seed=5 + rank), SupernetHook()  # as with diff_rank_seed=True
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    hook.before_train(runner)
    torch.manual_seed(rank)
    for runner.iter in range(8):
        hook.before_train_iter(runner, runner.iter)
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8), torch.tensor([0, 1]), mode="loss")["loss"].backward()
        optimizer.step()
    torch.save((net.seen, [p.detach() for p in net.parameters()]), f"{folder}/{rank}.pth")
    distributed.destroy_process_group()


def shared_attention(kind: str) -> tuple[ImageClassifier, torch.Tensor, torch.Tensor]:
    """A classifier with one module a stage and frozen batch statistics, and a batch of eight; always the same."""
    torch.manual_seed(0)
    options = {"block": "basic", "attention": {"type": kind, "reduction": 4}, "scheme": "11-10-11"}
    net = ImageClassifier({"type": "EANCifarResNet", "depth": 14, **options}, num_classes=3).train()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net, torch.randn(8, 3, 16, 16), torch.arange(8) % 3


def half_the_batch(rank: int, folder: str) -> None:
    """Leave the gradients that this process of two has after its half of the batch."""
    os.environ.update(RANK=str(rank), WORLD_SIZE="2")
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    gradients = {}
    for kind in ("SE", "DIA"):
        net, images, labels = shared_attention(kind)
        model = MMDistributedDataParallel(net, device_ids=None, broadcast_buffers=False)
        half = slice(4 * rank, 4 * rank + 4)
        model(images[half], labels[half], mode="loss")["loss"].backward()
        gradients[kind] = {name: parameter.grad for name, parameter in net.named_parameters()}
    torch.save(gradients, f"{folder}/{rank}.pth")
    distributed.destroy_process_group()
