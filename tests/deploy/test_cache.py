"""Where the compiled loops are kept: nothing that another user may have put there, or that is damaged, is loaded."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from ean_core.deploy import fuse
from ean_core.deploy.cpu import cache, library
from ean_testing.fresh import start_program
from ean_testing.fused import build, difference, images

SOMEBODY_ELSE = 54321
pytestmark = [
    pytest.mark.skipif(
        torch.backends.cpu.get_cpu_capability() not in library.ARCHITECTURES, reason="no loops for this CPU"
    ),
    pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled() -> Iterator[None]:
    """Without optimisation: where a library lies does not depend on its speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "FLAGS", ["-O0" if flag == "-O3" else flag for flag in library.FLAGS])
        yield


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Let a test, and those after it, load the library anew."""
    library.library.cache_clear()
    yield
    library.library.cache_clear()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    monkeypatch.setattr(library, "print_log", lambda text, *_: lines.append(text))
    return lines


@pytest.fixture(scope="module")
def compiled(_quickly_compiled: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loops, compiled once; tests leave this file as it is."""
    root = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root))
        assert library.library.__wrapped__() is not None
    (made,) = (root / "ean").iterdir()
    return made


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """A library that makes a file when it is loaded, and that file."""
    folder = tmp_path_factory.mktemp("planted")
    trace, source, target = folder / "was-loaded", folder / "planted.cpp", folder / "planted.so"
    source.write_text(
        f'#include <cstdio>\n__attribute__((constructor)) static void run() {{ fclose(fopen("{trace}", "w")); }}\n'
    )
    subprocess.run([os.environ.get("CXX", "g++"), "-shared", "-fPIC", source, "-o", target], check=True)
    return target.read_bytes(), trace


def plant(folder: Path, compiled: Path, planted: tuple[bytes, Path]) -> Path:
    """The planted library under the very name that it would be looked for."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{compiled.stem.rpartition('-')[0]}-{sha256(planted[0]).hexdigest()}.so"
    path.write_bytes(planted[0])
    path.chmod(0o700)
    return path


def test_kept_with_its_digest(compiled: Path) -> None:
    """In its name; so the two are there together or not at all."""
    assert compiled.stem.rpartition("-")[2] == sha256(compiled.read_bytes()).hexdigest()
    assert compiled.stat().st_mode & 0o077 == 0


def test_the_planted_library_would_run(
    compiled: Path, planted: tuple[bytes, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """In one's own folder, where nobody else can plant it. It lacks the loops, which is a line and no exception."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "ean").mkdir(mode=0o700)
    plant(tmp_path / "ean", compiled, planted)
    assert library.library() is None
    assert planted[1].exists()
    planted[1].unlink()
    (line,) = said
    assert "undefined symbol" in line
    net, x = build("cifar29", "SE"), images("cifar29")
    with torch.inference_mode():
        assert difference(fuse(net)(x)[-1], net(x)[-1]) < 1e-5


@pytest.mark.parametrize(
    "opened", ["folder", "group", "above", "link", "sticky folder", pytest.param("owner", marks=needs_root),
               pytest.param("owner above", marks=needs_root)],
)  # fmt: skip
def test_where_others_can_write_nothing_is_loaded(
    opened: str,
    compiled: Path,
    planted: tuple[bytes, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: list[str],
) -> None:
    """Nor is anything left there: the loops are compiled for the process, and a line says why."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    folder = home / ".cache" / "ean"
    folder.mkdir(parents=True, mode=0o700)
    temporary.mkdir(mode=0o700)
    if opened == "link":
        other = tmp_path / "others" / "ean"
        other.mkdir(parents=True)
        other.parent.chmod(0o777)
        folder.rmdir()
        folder.symlink_to(other)
    plant(folder, compiled, planted)
    if opened == "owner":
        os.chown(folder, SOMEBODY_ELSE, -1)
    elif opened == "owner above":
        os.chown(folder.parent, SOMEBODY_ELSE, -1)
    elif opened != "link":
        place = folder.parent if opened == "above" else folder
        place.chmod({"group": 0o770, "sticky folder": 0o1777}.get(opened, 0o777))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = sorted(folder.iterdir())
    assert library.library() is not None
    assert not planted[1].exists()
    assert sorted(folder.iterdir()) == before
    assert list(temporary.iterdir()) == []
    (line,) = said
    assert line.startswith("fuse: every process compiles its own C++ loops: others can write to")
    assert str(folder.resolve()) in line


def test_no_private_folder_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Not even for temporary files: torch's operations serve."""
    tmp_path.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert library.library() is None
    assert len(said) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["ean"]


def test_a_sticky_folder_above(tmp_path: Path) -> None:
    """Like /tmp: others make files of their own in it, and cannot rename ours."""
    (tmp_path / "ean").mkdir(mode=0o700)
    tmp_path.chmod(0o1777)
    assert cache.is_private(tmp_path / "ean")
    tmp_path.chmod(0o777)
    assert not cache.is_private(tmp_path / "ean")


@pytest.mark.parametrize("given", ["", "relative", "./relative", None])
def test_an_empty_or_relative_folder_counts_as_unset(
    given: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    home.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache.cache_folder() == (home / ".cache" / "ean").resolve()
    assert all(path.stat().st_mode & 0o077 == 0 for path in (home / ".cache", home / ".cache" / "ean"))
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("home", ["a file", "relative", "none"])
def test_without_a_home(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    """Where no folder can be made, one line says so and torch's operations serve; the current folder stays empty."""
    here, file = tmp_path / "here", tmp_path / "file"
    here.mkdir()
    file.touch()
    monkeypatch.chdir(here)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", {"a file": str(file), "relative": "relative", "none": ""}[home])
    if home == "none":  # neither a variable nor an entry of the user
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    for _ in range(2):
        assert library.library() is None
    (line,) = said
    assert line.startswith("fuse: without its C++ loops")
    assert home == "none" or "XDG_CACHE_HOME" in line
    assert "\n" not in line
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "damage", ["a byte", "no digest", "a link", "writable", pytest.param("owner", marks=needs_root)]
)
def test_what_is_not_as_it_was_built_is_built_again(
    damage: str, compiled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    folder = tmp_path / "ean"
    folder.mkdir(mode=0o700)
    kept = folder / compiled.name
    shutil.copy2(compiled, kept)
    if damage == "a byte":
        content = bytearray(kept.read_bytes())
        content[len(content) // 2] ^= 1
        kept.write_bytes(content)
    elif damage == "no digest":
        kept.rename(folder / f"{compiled.stem.rpartition('-')[0]}.so")
    elif damage == "a link":
        kept.rename(tmp_path / "elsewhere.so")
        kept.symlink_to(tmp_path / "elsewhere.so")
    elif damage == "writable":
        kept.chmod(0o777)
    elif damage == "owner":
        os.chown(kept, SOMEBODY_ELSE, -1)
    assert cache.find(folder, compiled.stem.rpartition("-")[0]) is None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert library.library() is not None
    assert kept.read_bytes() == compiled.read_bytes()
    found = kept.lstat()
    assert (found.st_uid, found.st_mode) == (os.geteuid(), 0o100700)
    assert said == []


def test_a_library_that_was_cut_off(compiled: Path, tmp_path: Path) -> None:
    """Loading one kills a process, so this one has a process of its own."""
    (tmp_path / "ean").mkdir(mode=0o700)
    kept = tmp_path / "ean" / compiled.name
    kept.write_bytes(compiled.read_bytes()[:5000])
    kept.chmod(0o700)
    process, answer = start_program(
        f"import os; os.environ['XDG_CACHE_HOME'] = {str(tmp_path)!r}\n"
        f"from ean_core.deploy.cpu import library; library.FLAGS[:] = {library.FLAGS}\n"
        "print(library.library() is not None)"
    )
    assert answer.recv().out == "True\n"  # EOFError: it was killed
    process.join()
    assert process.exitcode == 0
    assert kept.read_bytes() == compiled.read_bytes()


@pytest.fixture
def other_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is compiled instead of our loops, into a cache of its own."""
    source = tmp_path / "loops.cpp"
    monkeypatch.setattr(library, "SOURCE", source)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return source


def test_a_library_without_a_loop(other_source: Path, said: list[str]) -> None:
    other_source.write_text('extern "C" void expand() {}\n')
    assert library.library() is None
    (line,) = said
    assert "undefined symbol" in line


def test_several_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each compiles, and each finds a whole library; nothing half-written stays beside it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with ThreadPoolExecutor(3) as pool:
        loops = list(pool.map(lambda _: library.library.__wrapped__(), range(3)))
    assert None not in loops
    (made,) = (tmp_path / "ean").iterdir()
    assert made.suffix == ".so"


def test_a_compiler_that_fails_leaves_nothing(other_source: Path, said: list[str]) -> None:
    other_source.write_text("not C++\n")
    assert library.library() is None
    assert len(said) == 1
    assert list((other_source.parent / "ean").iterdir()) == []
