"""What was freed is used again."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, torch
from ean_core.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)  # 100 MB, 24,415 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

for keep in (lambda: None, keep_freed_memory):
    keep()
    faults()
    print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns memory so eagerly")
def test_large_tensors_cost_no_page_faults() -> None:
    """Counted in a process of its own; huge pages make a fault worth 512 pages at most."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 400
    assert after < 100
