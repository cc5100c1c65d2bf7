"""Files on a disk that is full, and JSON that is damaged."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from ean_core.checkpoint import write_checkpoint
from ean_core.errors import UserError
from ean_core.files import (
    append_json_line,
    append_line,
    build_once,
    naming,
    read_json,
    read_json_lines,
    remove_temporary,
    replacing,
    write_atomic,
)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can become larger: the error is another one than that of a full disk, and so is nothing else."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written(tmp_path):
    path = tmp_path / "file.pth"
    path.write_text("old")
    for write in (
        lambda: write_atomic(path, bytes(5000)),
        lambda: write_checkpoint({"a": torch.zeros(5000)}, path),  # where torch raises a RuntimeError
    ):
        with full_disk(1000), pytest.raises(OSError) as error:
            write()
        assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_other_errors_stay_what_they_are(tmp_path):
    def write() -> None:
        with replacing(tmp_path / "file") as part:
            part.write_text("half")
            raise RuntimeError("wrong shape")

    with pytest.raises(RuntimeError, match="shape"):
        write()
    for error in (OSError("without a number"), FileNotFoundError(2, "No such file", "other")):
        with pytest.raises(OSError) as raised, naming(tmp_path):
            raise error
        assert raised.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_line_that_cannot_be_written(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_json_line(path, {"a": 1})
    whole = path.read_bytes()
    with full_disk(len(whole) + 100), pytest.raises(OSError) as error:
        append_line(path, "x" * 500 + "\n")
    assert (error.value.errno, error.value.filename) == (errno.EFBIG, str(path))
    assert path.read_bytes() == whole
    append_json_line(path, {"a": 2})
    assert read_json_lines(path) == [{"a": 1}, {"a": 2}]


def test_data_that_cannot_be_written(tmp_path):
    with full_disk(1000), pytest.raises(OSError) as error:
        build_once(tmp_path / "set", lambda folder: (folder / "a").write_bytes(bytes(5000)))
    assert error.value.filename == str(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_ends_at_once_removes_what_is_temporary(tmp_path):
    with replacing(tmp_path / "file") as part:
        part.write_text("half")
        remove_temporary()
        assert list(tmp_path.iterdir()) == []


DEEP = "[" * 100_000
DAMAGED = {
    "not JSON": ("{", "'{}' is not a JSON file: .* in line 1"),
    "deep": (DEEP, "'{}' cannot be read: its JSON is nested too deeply"),
    "bytes": (b"\xff\xfe", "'{}' is not a JSON file: it is no text in UTF-8"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_json(tmp_path, kind):
    content, message = DAMAGED[kind]
    path = tmp_path / "file.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message.format(path)):
        read_json(path)


def test_missing_json(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"'{tmp_path / 'no.json'}' does not exist"):
        read_json(tmp_path / "no.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n3\n', "line 2 of '{}' is not a JSON object"),
        ("[]\n", "line 1 of '{}' is not a JSON object"),
        ('{"a": 1}\n{"a"\n{"a": 2}\n', "line 2 of '{}' is not JSON"),
        (f"{DEEP}\n", "line 1 of '{}' is not JSON, or nested too deeply"),
        (b"\xff\xfe\n", "'{}' is not a file of JSON lines: it is no text in UTF-8"),
    ],
)
def test_damaged_lines(tmp_path, text, message):
    path = Path(tmp_path, "lines.jsonl")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message.format(path)):
        read_json_lines(path)
