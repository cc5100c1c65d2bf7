"""A running page with a small random network of each task and two searches."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra demo is not installed")

from ean_core.inference import Predictor
from ean_testing.web import Web, networks, searched, serving


@pytest.fixture(scope="session")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    return networks(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def work_dirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work_dirs")
    searched(folder / "first")
    searched(folder / "second", strategy="genetic")
    return folder


@pytest.fixture(scope="session")
def web(predictors: dict[str, Predictor], work_dirs: Path) -> Iterator[Web]:
    with serving(predictors, [work_dirs]) as found:
        yield found
