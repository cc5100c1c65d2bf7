"""Augmentation moves points with their pixels, loses nobody inside, and repeats with torch's seed."""

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.ImageEnhance import Brightness

from crowd_counting.density import density_map
from crowd_counting.transforms import Augmentation, mirror, resize

WIDTH, HEIGHT = 64, 48


def marked(points, width=WIDTH, height=HEIGHT):
    """A dark image with one bright pixel a point."""
    image = np.zeros((height, width, 3), np.uint8)
    image[points[:, 1].astype(int), points[:, 0].astype(int)] = 255
    return image


@pytest.fixture
def points():
    """Thirty points in pixels of their own, some on borders."""
    rng = np.random.default_rng(0)
    cells = rng.permutation(WIDTH * HEIGHT)[:26]
    inner = np.stack([cells % WIDTH, cells // WIDTH], 1) + rng.uniform(0, 0.99, (26, 2))
    corners = [(0, 0), (WIDTH - 0.001, 0), (0, HEIGHT - 0.001), (WIDTH - 0.001, HEIGHT - 0.001)]
    return np.concatenate([inner, corners]).astype(np.float32)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("crop", [16, (24, 40), (48, 64), None])
def test_points_stay_on_their_pixels(points, crop, flip):
    augment = Augmentation(crop=crop, flip=flip)
    for seed in range(20):
        torch.manual_seed(seed)
        result = augment(marked(points), points)
        assert result.image.shape[:2] == (augment.size or (HEIGHT, WIDTH))
        assert result.factor == 1
        bright = {(int(x), int(y)) for y, x in zip(*np.nonzero(result.image[..., 0]), strict=True)}
        assert {(int(x), int(y)) for x, y in result.points} == bright
        assert len(result.kept) == len(result.points)


@pytest.mark.parametrize("kind", [float, int])
def test_a_mirrored_density_is_the_density_mirrored(points, kind):
    """Also for points at whole numbers, as a click on a pixel gives: they lie in the pixel to their right."""
    points = points.astype(kind).astype(np.float32)
    image, moved = mirror(marked(points), points)
    assert (moved >= 0).all()
    assert (moved[:, 0] < WIDTH).all()
    for stride in (1, 8):
        before = density_map(points, (HEIGHT, WIDTH), stride, 3.0)
        np.testing.assert_allclose(density_map(moved, (HEIGHT, WIDTH), stride, 3.0), before[:, ::-1], atol=1e-7)
    np.testing.assert_array_equal(image[:, ::-1], marked(points))


def test_crops_that_tile_an_image_hold_everybody_once(points):
    """Crops are half-open: over all positions a point is in exactly as many as cover its pixel."""
    augment = Augmentation(crop=(HEIGHT, 1), flip=0)
    torch.manual_seed(0)
    seen = {}
    for _ in range(2000):
        result = augment(marked(points), points)
        seen[tuple(np.flatnonzero(result.image[:, 0, 0]).tolist()), tuple(result.kept.tolist())] = True
    assert sorted(index for _, kept in seen for index in kept) == list(range(len(points)))


def test_every_position_of_a_crop_can_be_drawn():
    """A picture whose brightness tells the column: the first and the last crop occur, all about as often."""
    image = np.repeat(np.arange(10, dtype=np.uint8)[None, :, None], 3, 2)
    augment = Augmentation(crop=(1, 7), flip=0)
    torch.manual_seed(0)
    starts = [int(augment(image, np.zeros((0, 2), np.float32)).image[0, 0, 0]) for _ in range(400)]
    assert set(starts) == {0, 1, 2, 3}
    assert min(np.bincount(starts)) > 70


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_scale(points, factor):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    result = Augmentation(scale=(factor, factor), flip=0)(image, points)
    assert result.image.shape == (HEIGHT * factor, WIDTH * factor, 3)
    assert result.factor == factor
    np.testing.assert_allclose(result.points, points * factor, atol=1e-3)
    assert len(result.kept) == len(points)


def test_scale_with_a_crop_cuts_a_larger_part(points):
    """Halved, a crop of half the image's size is the whole image: everybody is in it."""
    result = Augmentation(crop=(HEIGHT // 2, WIDTH // 2), scale=(0.5, 0.5), flip=0)(marked(points), points)
    assert len(result.points) == len(points)
    np.testing.assert_allclose(result.points, points / 2, atol=1e-3)
    assert (result.points < (WIDTH // 2, HEIGHT // 2)).all()


def test_factors_are_drawn_from_the_whole_range():
    augment = Augmentation(scale=(0.5, 2.0), flip=0)
    torch.manual_seed(0)
    sides = [augment(np.zeros((100, 100, 3), np.uint8), np.zeros((0, 2), np.float32)).factor for _ in range(300)]
    assert 0.5 <= min(sides) < 0.53
    assert 1.9 < max(sides) <= 2.0
    assert 0.93 < np.median(sides) < 1.07


@pytest.mark.parametrize("shape", [(5, 5), (1, 1), (200, 7), (48, 64)])
def test_an_image_smaller_than_the_crop_is_enlarged(shape):
    height, width = shape
    points = np.array([(0, 0), (width - 0.01, height - 0.01)], np.float32)
    for seed in range(10):
        torch.manual_seed(seed)
        result = Augmentation(crop=(96, 128), scale=(0.7, 1.4))(np.full((*shape, 3), 90, np.uint8), points)
        assert result.image.shape == (96, 128, 3)
        assert (result.image == 90).all()
        assert ((result.points >= 0) & (result.points < (128, 96))).all()
        assert result.factor > 1


def test_flip_has_its_probability():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 0] = 255
    augment = Augmentation(flip=0.25)
    torch.manual_seed(0)
    flipped = [augment(image, np.zeros((0, 2), np.float32)).image[0, 0, 0] == 0 for _ in range(1000)]
    assert 0.21 < np.mean(flipped) < 0.29


def test_jitter_changes_colours_and_nothing_else(points):
    image = np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    torch.manual_seed(0)
    draw = torch.rand(7, dtype=torch.float64)
    torch.manual_seed(0)
    result = Augmentation(flip=0, jitter=0.3)(image, points)
    np.testing.assert_array_equal(result.points, points)
    assert (result.image != image).any()
    brighter = np.asarray(Brightness(Image.fromarray(image)).enhance(1 + 0.3 * (2 * float(draw[4]) - 1)))
    assert abs(result.image.mean() - brighter.mean()) < 1.5  # contrast and saturation keep the mean


def test_the_same_seed_gives_the_same(points):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    augment = Augmentation(crop=24, scale=(0.6, 1.6), jitter=0.4)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(image, points))
    np.testing.assert_array_equal(results[0].image, results[1].image)
    np.testing.assert_array_equal(results[0].points, results[1].points)
    assert (results[0].image != results[2].image).any()


def test_the_input_is_left_as_it_is(points):
    image = marked(points)
    copies = image.copy(), points.copy()
    Augmentation(crop=24, scale=(0.6, 1.6), flip=1, jitter=0.4)(image, points)
    Augmentation(flip=1, jitter=0.4)(image, points)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(points, copies[1])


def test_resize_keeps_the_mean():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    assert abs(resize(image, (20, 30)).mean() - image.mean()) < 0.5
    assert resize(image, (40, 60)) is image


@pytest.mark.parametrize(
    "options",
    [{"crop": 0}, {"crop": (4, -1)}, {"scale": (0, 1)}, {"scale": (2, 1)}, {"flip": 1.1}, {"jitter": 1.0}],
)
def test_bad_options(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Augmentation(**options)
