"""Small crowds on disk, in ShanghaiTech's layout and in that of one's own data."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowd_counting.toy_crowds import encode_mat, make_toy_crowd

Build = Callable[..., Path]
MINI = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "shanghaitech_mini"


@pytest.fixture(scope="session")
def toy_crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten training images of part B of 96x128, of which one is for validation, and four test images; leave as it is."""
    return make_toy_crowd(tmp_path_factory.mktemp("data"), train=10, test=4, size=(96, 128))


@pytest.fixture(scope="session")
def mini() -> Path:
    """Real images of both parts."""
    if not MINI.is_dir():
        pytest.skip("the real test data are not beside this checkout")
    return MINI.resolve()


@pytest.fixture
def image() -> Callable[..., Path]:
    """``image(path, width=40, height=30, mode="RGB", **save_options)`` writes noise."""

    def write(path: Path, width: int = 40, height: int = 30, mode: str = "RGB", **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(path, **options)
        return path

    return write


@pytest.fixture
def part(tmp_path: Path, image: Callable[..., Path]) -> Build:
    """``part(train=(1, 2), test=(1,), ...)``: a part with the given image numbers, each with the points (N, 2)."""

    def build(
        train: tuple[int, ...] = (1, 2, 3),
        test: tuple[int, ...] = (1,),
        name: str = "part_B_final",
        truth: str = "ground_truth",
        points: tuple[tuple[float, float], ...] = ((5.5, 6.5), (20, 10)),
        **options,
    ) -> Path:
        for split, numbers in (("train", train), ("test", test)):
            data = tmp_path / name / f"{split}_data"
            (data / truth).mkdir(parents=True)
            for number in numbers:
                image(data / "images" / f"IMG_{number}.jpg", **options)
                (data / truth / f"GT_IMG_{number}.mat").write_bytes(encode_mat(np.reshape(points, (-1, 2))))
        return tmp_path

    return build


@pytest.fixture
def own(tmp_path: Path, image: Callable[..., Path]) -> Path:
    """Ten images of one's own, 0.jpg to 9.jpg of 40x30, with as many people as their number, as .csv."""
    (tmp_path / "annotations").mkdir()
    for number in range(10):
        image(tmp_path / "images" / f"{number}.jpg")
        rows = [f"{index},{index + 0.5}\n" for index in range(number)]
        (tmp_path / "annotations" / f"{number}.csv").write_text("".join(rows))
    return tmp_path
