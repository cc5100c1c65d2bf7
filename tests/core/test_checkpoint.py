"""Damaged and hostile checkpoint files: each is refused in one line, or read as it was written."""

import io
import pickle
import resource
import struct
import sys
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from ean_core.checkpoint import epoch_of, meta_of, read_checkpoint, weights_digest, weights_of
from ean_core.errors import UserError

CONTENT = {"meta": {"epoch": 3, "iter": 9}, "state_dict": {"a": torch.arange(40.0), "b": torch.ones(3, 2).half()}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    torch.save(CONTENT, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def refusal(path: Path) -> str:
    """The one line that refuses a file."""
    with pytest.raises(UserError) as error:
        read_checkpoint(path)
    line = str(error.value)
    assert str(path) in line
    assert "\n" not in line
    return line


def refused_or_equal(path: Path) -> bool:
    """Whether a file is refused; if it is not, it holds what was written."""
    found: dict[str, Any] = {}
    try:
        found = read_checkpoint(path)
    except UserError as error:
        line = str(error)
    if not found:
        return "\n" not in line
    assert found["meta"] == CONTENT["meta"]
    assert list(found["state_dict"]) == ["a", "b"]
    for key, value in CONTENT["state_dict"].items():
        assert torch.equal(found["state_dict"][key], value)
        assert found["state_dict"][key].dtype == value.dtype
    return False


def repack(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Write the zip archive anew with changed entries, checksums included."""
    data = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(path, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry)))


def test_every_flipped_bit_of_the_weights_is_found(path: Path) -> None:
    whole = path.read_bytes()
    start = whole.index(CONTENT["state_dict"]["a"].numpy().tobytes())
    for place in range(start, start + 160, 7):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        assert "x.pth' is damaged: the bytes of its entry 'x/data/0' do not fit their checksum; copy" in refusal(path)


def test_other_damage_is_found_or_harmless(path: Path) -> None:
    """Every byte of the directory and of the headers, and some of everything else."""
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        headers = [entry.header_offset for entry in archive.infolist()]
        end = archive.start_dir
    rng = np.random.default_rng(0)
    places = {*range(end, len(whole)), *(h + i for h in headers for i in range(30)), *rng.integers(end, size=200)}
    refused = 0
    for place in sorted(map(int, places)):
        data = bytearray(whole)
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(data)
        refused += refused_or_equal(path)
    assert refused > len(places) / 3


@pytest.mark.parametrize("legacy", [False, True])
def test_cut_off_anywhere(path: Path, legacy: bool) -> None:
    torch.save(CONTENT, path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for stop in range(0, len(whole), 97):
        path.write_bytes(whole[:stop])
        refusal(path)


def test_a_zip_bomb_is_not_inflated(path: Path) -> None:
    repack(path, lambda name, data: bytes(1 << 26) if name.endswith("data/0") else data, zipfile.ZIP_DEFLATED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "is compressed, which torch's are not" in refusal(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * (1 if sys.platform == "darwin" else 1024) < 1 << 25


def test_entries_that_share_bytes(path: Path) -> None:
    """Ten entries of 4 MB over the same bytes of the file."""
    data, names = bytes(1 << 22), [f"x/data/{i}".encode() for i in range(10)]
    crc, at = zlib.crc32(data), 0
    local, directory = b"", b""
    for name in names:
        local += struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, crc, len(data), len(data), len(name), 0) + name
    for name in names:
        directory += struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, crc, len(data), len(data), len(name), 0, 0, 0, 0, 0, at
        )
        directory += name
        at += 30 + len(name)
    body = local + data
    path.write_bytes(body + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 10, 10, len(directory), len(body), 0))
    assert "claims more bytes than there are" in refusal(path)


@pytest.mark.parametrize("zip64", [False, True])
def test_a_directory_of_millions_of_entries_is_not_read(path: Path, zip64: bool) -> None:
    start, length = 4, 20 << 20
    end = b"PK\6\6" + bytes(36) + struct.pack("<QQ", length, start) + b"PK\6\7" + bytes(16) if zip64 else b""
    with path.open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(start + length)
        file.seek(0, 2)
        file.write(end + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 9, 9, length, start, 0))
    assert "the directory of its zip archive takes 20 MB" in refusal(path)


@pytest.mark.parametrize("number", [b"M\0\1", b"K\1", b"J\xff\xff\xff\x7f", b"\x8a\5\0\0\0\0\2"], ids=bytes.hex)
@pytest.mark.parametrize("legacy", [False, True])
def test_storages_that_claim_another_size(path: Path, number: bytes, legacy: bool) -> None:
    """The pickle claims another number of values than the file holds.

    A legacy file notes the number a second time beside the values, and a storage grows to what its tensors take.
    """
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=not legacy)
    fewer = number in (b"M\0\1", b"K\1")

    def change(data: bytes) -> bytes:
        place = data.index(b"M\xe8\3")
        return data[:place] + number + data[place + 3 :]

    if legacy:
        path.write_bytes(change(path.read_bytes()))
    else:
        repack(path, lambda name, data: change(data) if name.endswith("data.pkl") else data)
    if legacy and fewer:
        assert torch.equal(read_checkpoint(path)["a"], torch.ones(1000))
    else:
        assert "cannot be read" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("size", [(1 << 40,), (1 << 33, 1 << 33), (5000,)], ids=str)
def test_views_that_are_larger_than_the_file(path: Path, size: tuple[int, ...], legacy: bool) -> None:
    """One stored number can claim any shape with strides of 0."""
    small = torch.ones(1).as_strided((2,) * len(size), (0,) * len(size))

    def change(data: bytes) -> bytes:
        shape = pickle.dumps(size, 2)[2:-1].split(b"q")[0]
        marks = {1: b"K\2\x85", 2: b"K\2K\2\x86"}[len(size)]
        assert marks in data
        return data.replace(marks, shape, 1)

    torch.save({"a": small}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        path.write_bytes(change(path.read_bytes()))
    else:
        repack(path, lambda name, data: change(data) if name.endswith("data.pkl") else data)
    assert "is not loaded: its tensors would take" in (line := refusal(path)) or "cannot be read" in line


@pytest.mark.parametrize("legacy", [False, True])
def test_deep_nesting(path: Path, legacy: bool) -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    torch.save({"a": deep}, path, _use_new_zipfile_serialization=not legacy)
    assert "is not loaded: its dicts and lists lie in each other more than 100 deep" in refusal(path)
    data = b"\x80\2}X\1\0\0\0a" + b"]" * 100_000 + b"a" * 99_999 + b"s."  # deeper than Python recurses
    torch.save({}, path)
    repack(path, lambda name, old: data if name.endswith("data.pkl") else old)
    assert "100 deep" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("tuples", [b"\x85" * 3_000_000, b"q\1h\1\x86" * 60], ids=["deep", "wide"])
def test_tuples_that_cannot_be_hashed(path: Path, legacy: bool, tuples: bytes) -> None:
    """As keys: the one ends the process, as Python's recursion does; the other has 2^60 items."""
    data = b"\x80\2}K\1" + tuples + b"K\1s."
    torch.save({}, path, _use_new_zipfile_serialization=not legacy)
    if legacy:
        path.write_bytes(path.read_bytes().replace(pickle.dumps({}, 2), data, 1))
    else:
        repack(path, lambda name, old: data if name.endswith("data.pkl") else old)
    assert "damaged: its tuples lie in each other more than 100 deep, or hold too much" in refusal(path)


def test_values_that_hold_themselves(path: Path) -> None:
    ring: list[Any] = []
    ring.append(ring)
    torch.save({"a": ring}, path)
    found = read_checkpoint(path)["a"]
    assert found[0] is found


def test_shared_memory_is_no_growth(path: Path) -> None:
    weight = torch.ones(1000)
    torch.save({f"a{i}": weight for i in range(100)} | {"half": weight[:500], "meta": (weight, [weight])}, path)
    assert len(read_checkpoint(path)) == 102


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch about quantized and sparse tensors
    QUANTIZED, ROWS = torch.quantize_per_tensor(torch.ones(3), 1.0, 0, torch.qint8), torch.eye(3).to_sparse_csr()
ODD = {
    "sparse": (torch.eye(3).to_sparse(), "the layout sparse_coo"),
    "rows": (ROWS, "the layout sparse_csr"),
    "complex": (torch.ones(3, dtype=torch.complex64), "the type complex64"),
    "meta": (torch.ones(3, device="meta"), "without values"),
    "quantized": (QUANTIZED, "the type qint8"),
}


@pytest.mark.parametrize("kind", ODD)
def test_weights_are_dense_and_real(kind: str, path: Path) -> None:
    tensor, words = ODD[kind]
    torch.save({"state_dict": {"fine": torch.ones(2), "odd": tensor}}, path)
    with pytest.raises(UserError, match=rf"x\.pth' holds no usable weights: 'odd' is a tensor .*{words}") as error:
        weights_of(read_checkpoint(path), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("state", [None, 3, [1], {1: torch.ones(1)}, torch.ones(2)], ids=str)
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_have_names(state: Any, key: str) -> None:
    with pytest.raises(UserError, match=r"'x\.pth' holds no state dict: its weights are no table of names and tensors"):
        weights_of({key: state}, "x.pth")


def test_where_the_weights_lie() -> None:
    state = OrderedDict(a=torch.ones(1), counter=3)
    assert weights_of({"state_dict": state}) == weights_of({"model": state}) == weights_of(state) == dict(state)


@pytest.mark.parametrize("meta", [None, 3, "text", [], torch.ones(2)], ids=str)
def test_notes_of_another_kind_are_none(meta: Any) -> None:
    assert meta_of({"meta": meta}) == meta_of({}) == {}


@pytest.mark.parametrize("meta", [None, {}, {"epoch": "3", "iter": 1}, {"epoch": -1, "iter": 1}, {"epoch": 1}], ids=str)
def test_epochs_of_another_kind(meta: Any) -> None:
    with pytest.raises(UserError, match=r"'x\.pth' cannot be resumed: it does not say after which epoch"):
        epoch_of({"meta": meta}, "x.pth")
    assert epoch_of(CONTENT, "x.pth") == 3


def test_the_digest_is_of_the_weights_and_not_of_the_file(tmp_path: Path) -> None:
    state = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones(()), "plain": [1, {"x": 2}], "none": torch.ones(0)}
    expected = weights_digest(state)
    torch.save({"meta": {"time": 1}, "state_dict": state}, tmp_path / "one.pth")
    torch.save(dict(reversed(state.items())), tmp_path / "two.pth", _use_new_zipfile_serialization=False)
    assert all(weights_digest(weights_of(read_checkpoint(tmp_path / f"{n}.pth"))) == expected for n in ("one", "two"))
    assert len(expected) == 16
    others = [
        state | {"b": torch.arange(6.0).view(3, 2)},
        state | {"b": torch.arange(6).view(2, 3)},
        state | {"a": torch.ones(1)},
        state | {"plain": [1, {"x": 3}]},
        {key: value for key, value in state.items() if key != "none"},
        {("c" if key == "a" else key): value for key, value in state.items()},
    ]
    digests = {weights_digest(other) for other in others}
    assert len(digests) == len(others)
    assert expected not in digests
    assert weights_digest({"a": state["b"].T}) == weights_digest({"a": state["b"].T.contiguous()})


class Pickled:
    """Something that a pickle rebuilds by a function, its arguments and a state of one's choice."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts


def array_of(kind: Any, data: Any, shape: Any = (2,)) -> Pickled:
    return Pickled(np.ndarray(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, shape, kind, False, data))


def kind_of(code: str, *changed: tuple[int, Any]) -> Pickled:
    state = list(np.dtype(code).__reduce__()[2])
    for place, value in changed:
        state[place] = value
    return Pickled(np.dtype, (code, False, True), tuple(state))


@pytest.mark.parametrize(
    "value",
    [
        array_of(kind_of("U1", (5, 1 << 20)), bytes(8)),  # elements of 1 MB in 8 bytes
        array_of(kind_of("U1", (5, -8)), bytes(8)),
        array_of(kind_of("f8", (7, 63)), bytes(16)),  # flags of objects: 8 bytes become a pointer
        array_of(kind_of("U2", (3, ("a",)), (4, {"a": (np.dtype("i8"), 0)})), bytes(16)),
        array_of(Pickled(np.dtype, ("O",)), [1, 2]),
        array_of(Pickled(np.dtype, ([("a", "O")],)), bytes(16)),
        array_of(kind_of("f8"), bytes(8)),  # fewer bytes than its shape
        array_of(kind_of("f8"), bytes(16), (-2,)),
        array_of(kind_of("f8"), [1.0, 2.0]),
        Pickled(np.float64(0).__reduce__()[0], (kind_of("f8"), bytes(4))),
    ],
)
def test_numpys_own_unpickling_is_not_trusted(tmp_path: Path, value: Any) -> None:
    torch.save({"state_dict": {}, "value": value}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"x\.pth' cannot be read"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=">f8").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        np.array(True),
        np.array(["a", "bcd"]),
        np.float32(0.1),
        np.str_("x"),
    ],
    ids=repr,
)
def test_numpys_values_are_read(tmp_path: Path, value: Any) -> None:
    history = HistoryBuffer([1.0, 3.0], [1, 2])
    torch.save({"state_dict": {}, "value": ({"a": [value]}, history, value.dtype)}, tmp_path / "x.pth")
    content, read, kind = read_checkpoint(tmp_path / "x.pth")["value"]
    found = content["a"][0]
    assert type(found) is type(value)
    assert (found.dtype, kind) == (value.dtype, value.dtype)
    assert np.array_equal(found, value)
    assert found.flags.f_contiguous == value.flags.f_contiguous
    assert read.mean() == history.mean() == pytest.approx(4 / 3)
    assert type(read.data[0]) is np.ndarray


def test_a_torchscript_file_is_called_one(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "x.pt")
    with pytest.raises(UserError, match=r"x\.pt' is not loaded: it is a TorchScript archive, and not a state dict"):
        read_checkpoint(tmp_path / "x.pt")
