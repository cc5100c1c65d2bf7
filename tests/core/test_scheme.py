"""Connection schemes: every way to write one, every mistake, and the numbers of the published ones."""

import json
import pickle
from dataclasses import FrozenInstanceError
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest
import torch

from ean_core import ConnectionScheme
from ean_core.published import PUBLISHED
from ean_core.scheme import read_scheme_file

R50 = (3, 4, 6, 3)
R164 = (18, 18, 18)
TEXT = "100-1011-010011-011"
STAGES = (
    (True, False, False),
    (True, False, True, True),
    (False, True, False, False, True, True),
    (False, True, True),
)

# name: (blocks, connected blocks)
CONNECTED = {
    "paper/cifar100-se-a": (R164, 27),
    "paper/cifar100-se-b": (R164, 20),
    "paper/cifar100-enas-a": (R164, 18),
    "paper/cifar100-enas-b": (R164, 25),
    "paper/cifar100-enas-c": (R164, 36),
    "paper/imagenet-sge": (R50, 9),
    "paper/imagenet-dia": (R50, 9),
    "authors/imagenet-se": (R50, 7),
}
CODES = {
    "paper/imagenet-sge": (4, 11, 19, 3),
    "paper/imagenet-dia": (6, 3, 50, 3),
    "authors/imagenet-se": (2, 2, 51, 1),
}


@pytest.mark.parametrize(
    "text", [TEXT, TEXT.replace("-", ""), "paper/imagenet-sge", ConnectionScheme(STAGES)], ids=lambda t: str(type(t))
)
def test_every_form_is_read(text: str | ConnectionScheme) -> None:
    scheme = ConnectionScheme.parse(text, R50)
    assert scheme.stages == STAGES
    assert str(scheme) == TEXT


def test_full_and_none_are_words() -> None:
    assert str(ConnectionScheme.parse("full", R50)) == "111-1111-111111-111"
    assert str(ConnectionScheme.parse("none", R50)) == "000-0000-000000-000"
    assert ConnectionScheme.full(R50) == ConnectionScheme.parse("full", R50)
    assert ConnectionScheme.none(R50) == ConnectionScheme.parse("none", R50)


def test_blocks_may_be_a_list() -> None:
    assert ConnectionScheme.parse(TEXT, list(R50)).stages == STAGES


def test_scheme_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "scheme.json"
    path.write_text(json.dumps({"scheme": TEXT, "seed": 0}))
    assert ConnectionScheme.parse(str(path), R50).stages == STAGES
    assert read_scheme_file(path) == TEXT


@pytest.mark.parametrize(
    "text",
    [
        "100-1011-010011-01",  # a bit too few in the last stage
        "100-1011-010011-0110",
        "1001-011-010011-011",  # the right length, other stages
        "100-1011-010011",
        "100-1011-010011-011-",
        "-100-1011-010011-011",
        "100--1011-010011-011",
        "100101101001101",
        "10010110100110110",
        "100-1021-010011-011",
        "",
        "-",
        "FULL",
        " 100-1011-010011-011",
        "paper/unknown",
        "paper/cifar100-se-a",  # a published scheme of another network
        ConnectionScheme.full(R164),
    ],
    ids=str,
)
def test_misfits_name_the_expected_blocks(text: str | ConnectionScheme) -> None:
    with pytest.raises(ValueError, match=r"expected .*16 bits, 3-4-6-3 a stage"):
        ConnectionScheme.parse(text, R50)


def test_unknown_text_lists_the_published_names() -> None:
    with pytest.raises(ValueError) as error:
        ConnectionScheme.parse("paper/unknown", R50)
    assert all(name in str(error.value) for name in PUBLISHED)


@pytest.mark.parametrize("value", [101, 1.0, None, True, b"101", ["1", "0"]], ids=repr)
def test_what_is_not_text_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="put dashes between the stages"):
        ConnectionScheme.parse(value, (3,))


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "scheme.json"
    with pytest.raises(FileNotFoundError, match=r"scheme\.json' does not exist"):
        ConnectionScheme.parse(str(path), R50)
    path.mkdir()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ConnectionScheme.parse(str(path), R50)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'"100"', b"7", b'{"scheme": 101}', b'{"scheme": null}', b'{"scheme": "full"}', b"\xff"],
)
def test_malformed_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.json' is not a (scheme|JSON) file"):
        ConnectionScheme.parse(str(path), R50)


@pytest.mark.parametrize("scheme", ["", "101", "1-01"])
def test_file_of_another_network_names_the_expected_blocks(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "scheme.json"
    path.write_text(json.dumps({"scheme": scheme}))
    with pytest.raises(ValueError, match=r"expected .*16 bits, 3-4-6-3 a stage"):
        ConnectionScheme.parse(str(path), R50)


@pytest.mark.parametrize("stages", [(), ((),), ((True,), ())])
def test_empty_stages_are_refused(stages: tuple[tuple[bool, ...], ...]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        ConnectionScheme(stages)


def test_it_is_an_immutable_value() -> None:
    scheme, same = ConnectionScheme(STAGES), ConnectionScheme.parse(TEXT, R50)
    other = ConnectionScheme.parse(TEXT.replace("-", ""), (16,))  # the same bits in one stage
    assert scheme == same
    assert hash(scheme) == hash(same)
    assert scheme != other
    assert len({scheme, same, other}) == 2
    assert pickle.loads(pickle.dumps(scheme)) == scheme
    with pytest.raises(FrozenInstanceError):
        scheme.stages = ()  # type: ignore[misc]


def test_it_is_a_sequence_of_bits() -> None:
    scheme = ConnectionScheme(STAGES)
    assert list(scheme) == list(scheme.bits) == [c == "1" for c in TEXT.replace("-", "")]
    assert len(scheme) == 16
    assert scheme.blocks == R50


@pytest.mark.parametrize(("text", "density"), [("full", 1), ("none", 0), (TEXT, 9 / 16), ("1" + "0" * 15, 1 / 16)])
def test_density_and_sparsity(text: str, density: float) -> None:
    scheme = ConnectionScheme.parse(text, R50)
    assert scheme.density == density
    assert scheme.sparsity == 1 - density  # Eq. 6: 1 - ||a||_0 / m


@pytest.mark.parametrize(
    ("n", "offset", "expected"),
    [
        (1, 0, "111-1111-111111-111"),
        (2, 0, "101-0101-010101-010"),
        (2, 1, "010-1010-101010-101"),
        (4, 1, "010-0010-001000-100"),
        (100, 15, "000-0000-000000-001"),
        (100, 99, "000-0000-000000-000"),
    ],
)
def test_every_nth_block_counts_across_stages(n: int, offset: int, expected: str) -> None:
    scheme = ConnectionScheme.every(R50, n, offset)
    assert str(scheme) == expected
    pattern = cycle([i == offset for i in range(n)])
    assert scheme.bits == tuple(islice(pattern, 16))


@pytest.mark.parametrize(("n", "offset"), [(0, 0), (-1, 0), (2, 2), (2, -1)])
def test_every_refuses_impossible_steps(n: int, offset: int) -> None:
    with pytest.raises(ValueError, match=f"n={n}, offset={offset}"):
        ConnectionScheme.every(R50, n, offset)


def test_random_is_determined_by_its_generator() -> None:
    def draw(seed: int) -> list[ConnectionScheme]:
        generator = torch.Generator().manual_seed(seed)
        return [ConnectionScheme.random(R164, generator=generator) for _ in range(3)]

    before = torch.get_rng_state()
    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert len(set(draw(0))) == 3
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_random_blocks_are_independent_bernoulli(p: float) -> None:
    # Means of m draws (of a bit, and of a product of two neighbouring bits) lie within 5 standard errors.
    m = 20_000
    bits = torch.tensor(ConnectionScheme.random((m,), p, torch.Generator().manual_seed(0)).bits, dtype=torch.float64)
    for mean, frequency in ((p, bits.mean()), (p * p, (bits[::2] * bits[1::2]).mean())):
        draws = m if mean == p else m // 2
        assert abs(float(frequency) - mean) < 5 * (mean * (1 - mean) / draws) ** 0.5


def test_random_limits() -> None:
    assert ConnectionScheme.random(R164, 0) == ConnectionScheme.none(R164)
    assert ConnectionScheme.random(R164, 1) == ConnectionScheme.full(R164)


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_random_refuses_what_is_no_probability(p: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        ConnectionScheme.random(R50, p)


@pytest.mark.parametrize("name", CODES)
def test_codes_are_those_of_the_authors(name: str) -> None:
    scheme = ConnectionScheme.parse(name, R50)
    assert scheme.to_codes() == CODES[name]
    assert ConnectionScheme.from_codes(CODES[name], R50) == scheme


def test_codes_round_trip() -> None:
    schemes = [ConnectionScheme.random(R164, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    for scheme in [*schemes, ConnectionScheme.none(R164), ConnectionScheme.full(R164)]:
        assert ConnectionScheme.from_codes(scheme.to_codes(), R164) == scheme


@pytest.mark.parametrize("codes", [(8, 0, 0, 0), (0, 0, 0, -1), (0, 0, 0), (0, 0, 0, 0, 0)])
def test_codes_that_do_not_fit_name_the_expected_blocks(codes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="16 bits, 3-4-6-3 a stage"):
        ConnectionScheme.from_codes(codes, R50)


def test_every_published_scheme_is_counted_below() -> None:
    assert set(PUBLISHED) == set(CONNECTED)


@pytest.mark.parametrize("name", CONNECTED)
def test_published_schemes_have_the_printed_number_of_connections(name: str) -> None:
    blocks, connected = CONNECTED[name]
    scheme = ConnectionScheme.parse(name, blocks)
    assert sum(scheme) == connected
    assert scheme.density == connected / sum(blocks)


def test_a_path_object_reads_the_scheme_file(tmp_path: Path) -> None:
    path = tmp_path / "scheme.json"
    path.write_text('{"scheme": "10-0-111"}')
    assert str(ConnectionScheme.parse(path, (2, 1, 3))) == "10-0-111"


def test_a_scheme_file_of_another_attention_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scheme.json"
    path.write_text('{"scheme": "10-0", "attention": {"type": "SE", "reduction": 16}}')
    assert read_scheme_file(path) == read_scheme_file(path, {"reduction": 16, "type": "SE"}) == "10-0"
    for other in ({"type": "SE", "reduction": 8}, {"type": "SGE", "groups": 64}):
        with pytest.raises(ValueError, match=r"scheme.json' was searched with the attention .*'SE'.*take a config"):
            read_scheme_file(path, other)
