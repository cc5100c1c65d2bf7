"""CIFAR's augmentation of a whole batch at once, on the images' device: random crops, flips and cutout."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def draw_augmentation(n: int, padding: int, flip: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Random numbers of ``n`` images, from torch's CPU generator: the same on every device.

    Returns:
        The upper left corners of the crops in the padded images, int64 (n, 2) in ``0..2 * padding``, and which images
        are flipped, Boolean (n,), each with probability ``flip``.
    """
    return torch.randint(0, 2 * padding + 1, (n, 2)), torch.rand(n) < flip


def crop_and_flip(images: torch.Tensor, corners: torch.Tensor, flips: torch.Tensor, padding: int) -> torch.Tensor:
    """Pad with black, crop to the old size at ``corners``, and mirror the images in ``flips``.

    Equal to torchvision's ``RandomCrop(size, padding)`` and ``RandomHorizontalFlip`` image by image.

    Args:
        images: (N, H, W, 3), of any type.
        corners: Row and column of each crop in the padded image, (N, 2).
        flips: Boolean, (N,).
        padding: Pixels on each side.

    Returns:
        (N, 3, H, W), of the same type.
    """
    n, height, width, _ = images.shape
    if padding:
        corners = corners.to(images.device)
        padded = F.pad(images, (0, 0, padding, padding, padding, padding))
        windows = padded.unfold(1, height, 1).unfold(2, width, 1)  # (N, 2p + 1, 2p + 1, 3, H, W), a view
        crops = windows[torch.arange(n, device=images.device), corners[:, 0], corners[:, 1]]
    else:
        crops = images.permute(0, 3, 1, 2)
    return torch.where(flips.to(images.device)[:, None, None, None], crops.flip(3), crops)


def cut_out(images: torch.Tensor, centres: torch.Tensor, side: int) -> torch.Tensor:
    """Put a square of each image to 0, which is the mean colour of normalised ones (DeVries and Taylor, 2017).

    Args:
        images: (N, C, H, W).
        centres: Row and column of each square's centre, int64 (N, 2); squares may reach over the border.
        side: Of the squares, an even number: rows ``centre - side / 2`` to ``centre + side / 2 - 1``.
    """
    rows, columns = (
        (torch.arange(size, device=images.device) - centre[:, None]).add_(side // 2)
        for size, centre in zip(images.shape[2:], centres.to(images.device).unbind(1), strict=True)
    )
    inside_rows, inside_columns = ((x >= 0) & (x < side) for x in (rows, columns))
    inside = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    return images.masked_fill(inside, 0)
