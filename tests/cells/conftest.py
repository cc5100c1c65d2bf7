"""What the tests of cells share: benchmarks/original_cells.py, the supernet as the authors' code has it."""

from types import ModuleType

import pytest

from ean_testing.runs import load


@pytest.fixture(scope="session")
def original() -> ModuleType:
    return load("benchmarks/original_cells.py")
