"""Every kind of image becomes upright 8-bit RGB; expected values are written out or computed without Pillow."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_core.inference import read_image, to_rgb

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
COLOUR = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> np.ndarray:
    image.save(path, **options)
    return read_image(path)


# What each EXIF orientation says of the stored pixels, written as the array operation that makes them upright.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))  # whole JPEG blocks
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    found = saved(tmp_path / f"a.{suffix}", Image.fromarray(stored), exif=exif, **options)
    expected = UPRIGHT[orientation](stored)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (3 if suffix == "jpg" else 0)


def test_grey(tmp_path: Path) -> None:
    assert np.array_equal(saved(tmp_path / "a.png", Image.fromarray(RAMP)), np.stack([RAMP] * 3, 2))


def test_one_bit(tmp_path: Path) -> None:
    bits = RAMP > 100
    assert np.array_equal(saved(tmp_path / "a.png", Image.fromarray(bits)), np.stack([bits * 255] * 3, 2))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_keeps_its_range(tmp_path: Path, suffix: str) -> None:
    """65535 is white, not the 255 at which a plain conversion clips."""
    values = np.array([[0, 257, 32768, 65535, 1000, 128]], np.uint16)
    found = saved(tmp_path / f"a.{suffix}", Image.fromarray(values))
    assert found.tolist() == [[[v] * 3 for v in (0, 1, 128, 255, 4, 0)]]
    assert np.array_equal(to_rgb(values), found)


def test_rgba_lies_on_white(tmp_path: Path) -> None:
    rgba = np.dstack([COLOUR, np.random.default_rng(1).integers(0, 256, COLOUR.shape[:2], np.uint8)])
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    for found in (saved(tmp_path / "a.png", Image.fromarray(rgba)), to_rgb(rgba)):
        assert np.abs(found - expected).max() <= 1
    assert to_rgb(np.zeros((1, 1, 4), np.uint8)).tolist() == [[[255, 255, 255]]]


def test_grey_with_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(np.dstack([RAMP, np.full_like(RAMP, 0)]), "LA")
    assert (saved(tmp_path / "a.png", image) == 255).all()


def test_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 99, 0])
    expected = [[[10, 20, 30], [200, 0, 0]], [[0, 99, 0], [200, 0, 0]]]
    assert saved(tmp_path / "a.png", image).tolist() == expected
    expected[0][1] = expected[1][1] = [255, 255, 255]
    assert saved(tmp_path / "b.png", image, transparency=1).tolist() == expected


def test_cmyk(tmp_path: Path) -> None:
    """A CMYK JPEG of pure black, white and cyan (Adobe stores these inverted)."""
    inks = np.zeros((8, 24, 4), np.uint8)
    inks[:, :8, 3] = 255
    inks[:, 16:, 0] = 255
    found = saved(tmp_path / "a.jpg", Image.fromarray(inks, "CMYK"), quality=100)
    expected = [[0, 0, 0], [255, 255, 255], [0, 255, 255]]
    assert np.abs(found[4, 4::8].astype(int) - expected).max() <= 3


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_image(tmp_path / "a.gif") == [255, 0, 0]).all()


def test_arrays_are_copied() -> None:
    found = to_rgb(COLOUR)
    assert np.array_equal(found, COLOUR)
    assert not np.shares_memory(found, COLOUR)
    assert np.array_equal(to_rgb(RAMP[..., None]), to_rgb(RAMP))
    assert np.array_equal(to_rgb(Image.fromarray(COLOUR)), COLOUR)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "uint8 .* not float32"),
        (np.zeros((3, 4, 5), np.uint8), r"not \(3, 4, 5\)"),
        (np.zeros(4, np.uint8), r"not \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_rgb(array)


def test_what_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"'.*nowhere.png' does not exist"):
        read_image(tmp_path / "nowhere.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text.png' cannot be read: it is no image, or damaged"):
        read_image(tmp_path / "text.png")
    Image.fromarray(np.kron(COLOUR, np.ones((30, 30, 1), np.uint8))).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"cut.jpg' cannot be read: it is truncated"):
        read_image(tmp_path / "cut.jpg")
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match=r"float.tif' cannot be read: floating-point .* 8 or 16 bits"):
        read_image(tmp_path / "float.tif")


def test_an_image_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"a.png' is too large"):
        read_image(tmp_path / "a.png")
