"""Photos that an EXIF tag turns, heads clicked in one view or the other: none is lost, each stays on its pixel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from crowd_counting.check import check_crowd
from crowd_counting.dataset import CrowdDataset
from crowd_counting.metric import CrowdMetric

WIDTH, HEIGHT = 64, 40  # as stored
# Where a stored pixel (column, row) lies in the upright view, by orientation, written out.
PLACE: dict[int, Callable[[int, int], tuple[int, int]]] = {
    1: lambda x, y: (x, y),
    2: lambda x, y: (WIDTH - 1 - x, y),
    3: lambda x, y: (WIDTH - 1 - x, HEIGHT - 1 - y),
    4: lambda x, y: (x, HEIGHT - 1 - y),
    5: lambda x, y: (y, x),
    6: lambda x, y: (HEIGHT - 1 - y, x),
    7: lambda x, y: (HEIGHT - 1 - y, WIDTH - 1 - x),
    8: lambda x, y: (y, WIDTH - 1 - x),
}


@pytest.fixture
def photo(tmp_path: Path) -> Callable[[int, str], Path]:
    """``photo(orientation, view)``: white heads on black, an EXIF tag, and points in the middle of their pixels."""

    def make(orientation: int, view: str, suffix: str = ".png") -> Path:
        rng = np.random.default_rng(orientation)
        cells = rng.choice(WIDTH * HEIGHT, 23, replace=False)
        stored = [(int(cell % WIDTH), int(cell // WIDTH)) for cell in cells]
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for x, y in stored:
            pixels[y, x] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        for folder in ("images", "annotations"):
            (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"images/photo{suffix}", exif=exif)
        Image.fromarray(pixels).save(tmp_path / "images/plain.png")
        points = stored if view == "stored" else [PLACE[orientation](x, y) for x, y in stored]
        for name, heads in (("photo", points), ("plain", stored)):
            rows = "".join(f"{x + 0.5},{y + 0.5}\n" for x, y in heads)
            (tmp_path / f"annotations/{name}.csv").write_text(rows)
        for split, name in (("train", f"photo{suffix}"), ("val", "plain.png")):
            (tmp_path / f"{split}.txt").write_text(name)
        return tmp_path

    return make


@pytest.mark.parametrize("view", ["upright", "stored"])
@pytest.mark.parametrize("orientation", PLACE)
def test_no_head_is_lost_and_each_is_on_its_pixel(photo, orientation, view):
    root = photo(orientation, view)
    item = CrowdDataset(root, orientation=view, density=dict(type="fixed", sigma=4))[0]
    columns, rows = item["points"].long().T
    assert len(columns) == 23
    assert (item["inputs"][:, rows, columns] == 255).all()
    assert (item["inputs"] == 255).sum() == 3 * 23
    assert float(item["density"].sum()) == pytest.approx(23, abs=1e-4)
    baseline = {"root": root, "part": None, "out_of_frame": "drop", "orientation": view}
    assert CrowdMetric(baseline=baseline).training_mean() == 23


def test_points_on_whole_pixels(photo):
    """A click at the pixel's own corner stays on that pixel when it is mirrored."""
    root = photo(3, "stored")
    text = (root / "annotations/photo.csv").read_text().replace(".5", "")
    (root / "annotations/photo.csv").write_text(text)
    item = CrowdDataset(root, orientation="stored")[0]
    columns, rows = item["points"].long().T
    assert (item["inputs"][:, rows, columns] == 255).all()


@pytest.mark.parametrize(("view", "words"), [("upright", "people see the picture"), ("stored", "the file has its")])
def test_the_check_says_how_points_are_understood(photo, view, words):
    root = photo(6, view)
    (note,) = check_crowd(root, orientation=view)
    assert note.startswith(f"an EXIF tag turns 1 of 2 images, first '{root}/images/photo.png'; their points are ")
    assert words in note
    assert f"(orientation={view})" in note


@pytest.mark.parametrize(("view", "other"), [("upright", "stored"), ("stored", "upright")])
def test_the_check_finds_points_of_the_other_view(photo, view, other):
    root = photo(6, view)
    with pytest.raises(ValueError, match=rf"points lie outside its 40x64 image, which .* orientation={view}: set that"):
        check_crowd(root, orientation=other)


def test_no_such_view(photo):
    with pytest.raises(ValueError, match="orientation must be upright or stored, got 'sideways'"):
        CrowdDataset(photo(6, "stored"), orientation="sideways")
