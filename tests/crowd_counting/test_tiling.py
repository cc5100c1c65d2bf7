"""Tiles: where they lie, and that together they say what the whole image says."""

import math

import pytest
import torch
from torch import nn

from crowd_counting.counter import CrowdCounter
from crowd_counting.tiling import check_tiling, spans, tiled
from ean_testing.references import randomize

PREPROCESSOR = {
    "type": "crowd_counting.preprocess.CrowdPreprocessor", "mean": [120, 110, 100], "std": [60, 58, 56], "multiple": 8,
}  # fmt: skip


def block_sums(images: torch.Tensor) -> torch.Tensor:
    """A "network" that looks at nothing but its own cell of 8x8 pixels, whole or cut off by the border."""
    padded = nn.functional.pad(images, (0, -images.shape[-1] % 8, 0, -images.shape[-2] % 8))
    return nn.functional.avg_pool2d(padded.sum(1, keepdim=True), 8) * 64


@pytest.mark.parametrize("length", [*range(1, 300, 7), 1024, 8000])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 0), (32, 16), (32, 24), (64, 8), (1024, 192)])
def test_tiles_cover_a_side(length: int, tile: int, overlap: int) -> None:
    found = spans(length, tile, overlap, 8)
    ends = [start + size for start, size in found]
    assert found[0][0] == 0
    assert ends[-1] == length
    assert all(start % 8 == 0 and 0 < size <= tile for start, size in found)
    assert all(end - start >= overlap for (start, _), end in zip(found[1:], ends, strict=False))
    assert len(found) == max(1, math.ceil((length - overlap) / (tile - overlap)))  # the fewest that can cover it
    # No more pixels than the side and its overlaps, but for the steps of 8 in which tiles begin and end.
    assert sum(size for _, size in found) <= length + (len(found) - 1) * overlap + 8 * len(found)


@pytest.mark.parametrize("size", [(70, 130), (32, 33), (41, 8), (5, 200), (64, 64)])
@pytest.mark.parametrize(("tile", "overlap"), [(32, 0), (32, 16), (64, 32)])
def test_a_network_without_context_is_exact(size: tuple[int, int], tile: int, overlap: int) -> None:
    images = torch.rand(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    calls = []

    def function(x: torch.Tensor) -> torch.Tensor:
        calls.append(tuple(x.shape[-2:]))
        return block_sums(x)

    found = tiled(function, images, tile, overlap, 8)
    torch.testing.assert_close(found, block_sums(images), rtol=1e-12, atol=0)
    assert max(max(shape) for shape in calls) <= tile


def test_tiles_that_meet_are_averaged_and_edges_left_out() -> None:
    """Each tile answers with its own number; by hand: margins of half the overlap, in whole cells, at inner edges."""
    numbers = iter([1.0, 3.0])

    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 1, x.shape[-2] // 8, x.shape[-1] // 8), next(numbers))

    found = tiled(function, torch.zeros(1, 3, 8, 200), tile=128, overlap=56, stride=8)
    # two tiles of 128 px, cells 0-15 and 9-24; 28 px, three cells, are left out at the inner edges: they meet in 12
    assert found[0, 0, 0].tolist() == [1.0] * 12 + [2.0] + [3.0] * 12


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_batches_of_tiles(batch: int) -> None:
    """Tiles of one size go together; the map is the same, and every batch is told."""
    images = torch.rand(2, 3, 100, 150, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sizes, told = [], []

    def function(x: torch.Tensor) -> torch.Tensor:
        sizes.append(len(x) // len(images))
        return block_sums(x)

    found = tiled(function, images, 32, 16, 8, batch=batch, done=lambda tiles, total: told.append((tiles, total)))
    torch.testing.assert_close(found, block_sums(images), rtol=1e-12, atol=0)
    assert max(sizes) <= batch
    assert batch == 1 or max(sizes) > 1
    assert [tiles for tiles, _ in told] == [sum(sizes[: i + 1]) for i in range(len(sizes))]
    assert {total for _, total in told} == {sum(sizes)}


def counter(attention: str | None, head: dict) -> CrowdCounter:
    backbone = {
        "type": "ean_core.EANResNet", "depth": 18, "num_stages": 3, "out_indices": (2,), "strides": (1, 2, 1, 1),
        "attention": {"type": attention} if attention else None,
    }  # fmt: skip
    model = CrowdCounter(
        backbone,
        head={"type": "crowd_counting.head.CSRNetHead", **head},
        loss={"type": "crowd_counting.losses.DensityLoss"},
        data_preprocessor=PREPROCESSOR,
    )
    randomize(model, 0)
    return model.eval()


@torch.inference_mode()
def test_equal_to_the_whole_image_within_the_receptive_field() -> None:
    """A plain ResNet-18 sees 81 pixels around: 5 in the stem, 4 x 4, 4 + 3 x 8 and 4 x 8 in its stages.

    96 pixels left out at inner edges (half of 192) are exact, 48 (of 96) are not, and global pooling never is.
    """
    image = torch.randint(0, 256, (1, 3, 200, 600), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain = counter(None, {"channels": (16,), "kernel_size": 1, "dilation": 1})
    whole = plain.predict(image)
    scale = float(whole.abs().max())

    def error(model: CrowdCounter, reference: torch.Tensor, overlap: int) -> float:
        return float((model.predict(image, {"tile": 320, "overlap": overlap}) - reference).abs().max()) / scale

    assert error(plain, whole, 192) < 1e-5
    assert error(plain, whole, 96) > 1e-4
    attentive = counter("SE", {"channels": (16,), "kernel_size": 1, "dilation": 1})
    assert error(attentive, attentive.predict(image), 192) > 1e-4


@pytest.mark.parametrize(
    ("tile", "overlap", "multiple"), [(30, 8, 8), (32, 32, 8), (32, 12, 8), (32, -8, 8), (8, 0, 16)]
)
def test_mistakes(tile: int, overlap: int, multiple: int) -> None:
    with pytest.raises(ValueError, match=f"multiples of {multiple} pixels"):
        check_tiling(tile, overlap, multiple)
