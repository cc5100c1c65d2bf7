"""Check the installation: versions, conflicts, the device, data sets found, and a short self-test."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report; exit with 1 if there is a problem."""
    started = sys.argv[0] if sys.argv[0].startswith("ean ") else "python tools/doctor.py"
    parser = argparse.ArgumentParser(
        description=f"{__doc__} Its output is what a bug report asks for.",
        epilog=f"example: {started} --data-root data",
    )
    parser.add_argument("--data-root", type=Path, default=Path("data"), help="folder of data sets (default: data)")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs"), help="where trainings write")
    parser.add_argument("--no-self-test", action="store_true", help="only look, train nothing")
    args = parser.parse_args(argv)
    report = load_doctor().examine(args.data_root, args.work_dir, not args.no_self_test)
    print(report.text())
    sys.exit(1 if report.problems else 0)


def load_doctor() -> ModuleType:
    """``ean_core/doctor.py`` by its path: importing the package would fail where torch or MMEngine is missing."""
    found = find_spec("ean_core")
    origin = (
        found.origin if found and found.origin else Path(__file__).resolve().parents[1] / "ean_core" / "__init__.py"
    )
    spec = spec_from_file_location("ean_doctor", Path(origin).with_name("doctor.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
