"""A few inputs of every property; the campaign tries thousands."""

from pathlib import Path

import pytest

from knocks.properties import PROPERTIES, QUICK, with_data


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(name: str, small_voc: Path, tmp_path: Path) -> None:
    (tmp_path / "voc").symlink_to(small_voc)
    with_data(tmp_path)
    QUICK(PROPERTIES[name])()
