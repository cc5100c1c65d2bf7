"""What the tests of cells share: benchmarks/original_cells.py, the supernet as the authors' code has it."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "original_cells.py"


@pytest.fixture(scope="session")
def original() -> ModuleType:
    spec = spec_from_file_location("original_cells", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
