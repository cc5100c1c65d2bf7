"""Connection schemes printed in the EAN paper (arXiv 2011.14058) and in its authors' repository, by name.

CIFAR names fit a ResNet-164 (18-18-18 blocks), ImageNet names a ResNet-50 (3-4-6-3). The ``authors/`` scheme stands
in a comment of the released code only; the paper does not print it.
"""

from __future__ import annotations

PUBLISHED: dict[str, str] = {
    "paper/cifar100-se-a": "001100100101110101-001100000111001111-101100000111110001",
    "paper/cifar100-se-b": "001100000001010111-011100001000010111-101000100110000000",
    "paper/cifar100-enas-a": "-".join(["001" * 6] * 3),
    "paper/cifar100-enas-b": "100100101100100100-101101100100101101-100100101101100100",
    "paper/cifar100-enas-c": "-".join(["110" * 6] * 3),
    "paper/imagenet-sge": "100-1011-010011-011",
    "paper/imagenet-dia": "110-0011-110010-011",
    "authors/imagenet-se": "010-0010-110011-001",
}
