"""The connection scheme: which blocks of a network are plugged into their stage's attention module."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ean_core.errors import UserError, shortened
from ean_core.files import read_json
from ean_core.notebook import scheme_svg
from ean_core.published import PUBLISHED


@dataclass(frozen=True)
class ConnectionScheme:
    """One bit a block, grouped by stage; an immutable, hashable value.

    Written as one character per block and ``-`` between stages, first block first, ``1`` = connected:
    ``"100-1011-010011-011"`` for a ResNet-50.

    Attributes:
        stages: The bits, one tuple of booleans per stage.
    """

    stages: tuple[tuple[bool, ...], ...]

    def __post_init__(self) -> None:
        if not self.stages or not all(self.stages):
            raise UserError("a connection scheme needs at least one stage and one block in every stage")

    @classmethod
    def parse(
        cls,
        text: str | os.PathLike[str] | ConnectionScheme,
        blocks: Sequence[int],
        points: Sequence[str] | None = None,
    ) -> ConnectionScheme:
        """Read a scheme for a network with ``blocks[i]`` blocks in stage ``i``.

        Args:
            text: ``"100-1011-010011-011"``, the same without dashes, ``"full"``, ``"none"``, a published
                name such as ``"paper/cifar100-se-a"``, the path of a ``scheme.json``, or a scheme.
            blocks: The number of blocks of each stage.
            points: The names of the network's points, which those in a ``scheme.json`` have to equal.

        Raises:
            UserError: The text is none of these, or does not fit ``blocks`` or ``points``.
            FileNotFoundError: The text names a ``.json`` file that does not exist.
        """
        blocks = tuple(blocks)
        if isinstance(text, cls):
            return text._fitting(blocks, str(text))
        if isinstance(text, os.PathLike) or (isinstance(text, str) and text.endswith(".json")):
            try:
                return cls.parse(read_scheme_file(Path(text), points=points), blocks)
            except UserError as error:
                raise error if f"'{text}'" in str(error) else UserError(f"'{text}': {error}") from error
        if not isinstance(text, str):
            raise UserError(
                f"a connection scheme must be text such as '1-01-11', got {shortened(text)} "
                "(on a command line, digits alone are read as a number: put dashes between the stages)"
            )
        if text == "full":
            return cls.full(blocks)
        if text == "none":
            return cls.none(blocks)
        if text in PUBLISHED:
            return cls.parse(PUBLISHED[text], blocks)
        if not text or set(text) - set("01-"):
            known = ", ".join(sorted(PUBLISHED))
            raise UserError(
                f"{shortened(text)} is not a connection scheme: expected 0s and 1s for {_shape(blocks)}, 'full', "
                f"'none', a scheme.json file, or one of {known}"
            )
        if "-" in text:
            stages = tuple(tuple(bit == "1" for bit in stage) for stage in text.split("-"))
            if tuple(map(len, stages)) != blocks:
                raise UserError(f"scheme {shortened(text)} does not fit: expected {_shape(blocks)}")
            return cls(stages)
        if len(text) != sum(blocks):
            raise UserError(f"scheme {shortened(text)} has {len(text)} bits: expected {_shape(blocks)}")
        return cls._from_bits([bit == "1" for bit in text], blocks)

    @classmethod
    def full(cls, blocks: Sequence[int]) -> ConnectionScheme:
        """Every block connected (the paper's Share-full)."""
        return cls(tuple((True,) * n for n in blocks))

    @classmethod
    def none(cls, blocks: Sequence[int]) -> ConnectionScheme:
        """No block connected: the plain network."""
        return cls(tuple((False,) * n for n in blocks))

    @classmethod
    def every(cls, blocks: Sequence[int], n: int, offset: int = 0) -> ConnectionScheme:
        """Every ``n``-th block of the whole network, counted from block ``offset`` (heuristic plugging, HSP).

        Raises:
            UserError: ``n`` is not positive, or ``offset`` is not in ``[0, n)``.
        """
        if n < 1 or not 0 <= offset < n:
            raise UserError(f"every n-th block needs n >= 1 and 0 <= offset < n, got n={n}, offset={offset}")
        return cls._from_bits([i % n == offset for i in range(sum(blocks))], blocks)

    @classmethod
    def random(
        cls, blocks: Sequence[int], p: float = 0.5, generator: torch.Generator | None = None
    ) -> ConnectionScheme:
        """Connect every block independently with probability ``p``."""
        if not 0 <= p <= 1:
            raise UserError(f"the probability of a connection must lie in [0, 1], got {p}")
        return cls._from_bits((torch.rand(sum(blocks), generator=generator) < p).tolist(), blocks)

    @classmethod
    def from_codes(cls, codes: Sequence[int], blocks: Sequence[int]) -> ConnectionScheme:
        """Read the authors' form: one integer per stage, its most significant bit the first block.

        Raises:
            UserError: A code does not fit its stage, or there is not one code per stage.
        """
        if len(codes) != len(blocks) or any(not 0 <= c < 1 << n for c, n in zip(codes, blocks, strict=False)):
            raise UserError(f"codes {tuple(codes)} do not fit: expected one code below 2**n for {_shape(blocks)}")
        return cls.parse("-".join(f"{c:0{n}b}" for c, n in zip(codes, blocks, strict=True)), blocks)

    def to_codes(self) -> tuple[int, ...]:
        """The authors' form: one integer per stage, its most significant bit the first block."""
        return tuple(int(stage, 2) for stage in str(self).split("-"))

    @property
    def blocks(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(map(len, self.stages))

    @property
    def bits(self) -> tuple[bool, ...]:
        """All bits, first block of the first stage first."""
        return tuple(self)

    @property
    def density(self) -> float:
        """Fraction of the blocks that are connected."""
        return sum(self.bits) / len(self)

    @property
    def sparsity(self) -> float:
        """Eq. 6 of the paper: ``1 - ||a||_0 / m``, the fraction of the blocks left unconnected."""
        return 1 - self.density

    def __iter__(self) -> Iterator[bool]:
        return (bit for stage in self.stages for bit in stage)

    def __len__(self) -> int:
        return sum(self.blocks)

    def __str__(self) -> str:
        return "-".join("".join("01"[bit] for bit in stage) for stage in self.stages)

    def _repr_html_(self) -> str:
        return f"{scheme_svg(self.stages)}<p><code>{self}</code>, {sum(self)} of {len(self)} blocks connected</p>"

    @classmethod
    def _from_bits(cls, bits: Sequence[bool], blocks: Sequence[int]) -> ConnectionScheme:
        rest = iter(bits)
        return cls(tuple(tuple(next(rest) for _ in range(n)) for n in blocks))

    def _fitting(self, blocks: tuple[int, ...], name: str) -> ConnectionScheme:
        if self.blocks != blocks:
            raise UserError(f"scheme '{name}' does not fit: expected {_shape(blocks)}")
        return self


def _shape(blocks: Sequence[int]) -> str:
    return f"{sum(blocks)} bits, {'-'.join(map(str, blocks))} a stage"


def read_scheme_file(
    path: Path, attention: Mapping[str, Any] | None = None, points: Sequence[str] | None = None
) -> str:
    """The scheme string of a ``scheme.json``.

    Args:
        path: The file.
        attention: The config of the attention that the scheme is for; ``None``: any.
        points: The names of the points that the scheme is for; ``None``: any.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file holds no scheme, or one that was searched with another attention or at other points.
    """
    if not path.is_file():
        raise FileNotFoundError(f"scheme file '{path}' does not exist")
    content = read_json(path)
    if not isinstance(content, dict) or "scheme" not in content:
        raise UserError(f"'{path}' is not a scheme file: it has no entry 'scheme'")
    scheme = content["scheme"]
    if not isinstance(scheme, str) or set(scheme) - set("01-"):
        raise UserError(f"'{path}' is not a scheme file: its 'scheme' entry is {shortened(scheme)}, not 0s and 1s")
    searched = content.get("attention")
    if attention is not None and searched is not None and dict(attention) != searched:
        raise UserError(
            f"the scheme in '{path}' was searched with the attention {searched}, not {dict(attention)}: take a config "
            "with that attention, or give the 0s and 1s themselves"
        )
    searched = content.get("points")
    if points is not None and isinstance(searched, list) and list(points) != searched:
        pairs = enumerate(itertools.zip_longest(searched, points))
        different = [(i, *pair) for i, pair in pairs if pair[0] != pair[1]]
        i, before, now = different[0]
        raise UserError(
            f"the scheme in '{path}' was searched at {len(searched)} points, and this network has {len(points)}: "
            f"{len(different)} differ, first point {i + 1}, which was {_quoted(before)} and is {_quoted(now)}"
        )
    return scheme


def _quoted(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"
