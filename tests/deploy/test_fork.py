"""A fused network in a process that was forked off after the parent has used several threads."""

import os
import shutil
from multiprocessing.pool import Pool

import pytest
import torch

from ean_core.deploy.cpu.library import ARCHITECTURES
from ean_testing.fresh import run_program

PROGRAM = """
import os, signal, time
import torch
from ean_core import EANCifarResNet
from ean_core.deploy import fuse
from ean_core.deploy.cpu import operators

def result(pid, seconds=40):
    "A child's exit code; one that hangs is killed."
    for _ in range(seconds * 20):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"

torch.set_num_threads(2)
torch.set_grad_enabled(False)
net = fuse(EANCifarResNet(29, attention={"type": "SE", "reduction": 16}).eval())
x = torch.randn(8, 3, 32, 32)
u, bias = torch.randn(3, 20, 20, 16).permute(0, 3, 1, 2), torch.randn(64)
weight = torch.randn(16, 64).t()[:, :, None, None]

def loop():
    return operators.project(u, weight, bias)

def network():
    return net(x)[-1]

for run in (loop, network):
    expected = run()
    pid = os.fork()
    if not pid:
        os._exit(0 if torch.allclose(run(), expected, atol=1e-5, rtol=1e-5) else 1)
    print(run.__name__, result(pid))
    assert torch.equal(run(), expected) and torch.get_num_threads() == 2
"""


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() not in ARCHITECTURES, reason="no loops for this CPU")
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler")
def test_a_forked_child_answers(fresh: Pool) -> None:
    """OpenMP's threads stay with the parent, and the child's first team would wait for them for ever."""
    ran = fresh.apply_async(run_program, (PROGRAM,)).get(timeout=200)
    assert ran.out.split("\n")[:-1] == ["loop 0", "network 0"], ran.err
