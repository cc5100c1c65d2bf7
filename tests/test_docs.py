"""What the documents show is true: Python blocks run, files and links exist, commands name options that there are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
BLOCKS = [
    (name, block) for name, text in TEXTS.items() for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
COMMANDS = sorted({
    command for text in TEXTS.values() for command in re.findall(r"(tools/\w+\.py[^\n#`|]*(?:\\\n[^\n#`]*)*)", text)
})  # fmt: skip


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=lambda value: value if value.endswith(".md") else "")
def test_python_blocks_run(name: str, block: str) -> None:
    exec(compile(block, name, "exec"), {})


def test_there_are_blocks_and_commands() -> None:
    assert len(BLOCKS) >= 2
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("name", TEXTS)
def test_linked_files_exist(name: str) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", TEXTS[name]):
        assert ((ROOT / name).parent / link).exists(), link


def test_configs_that_are_named_exist() -> None:
    for command in COMMANDS:
        for config in re.findall(r"configs/[\w/]+\.py", command):
            assert (ROOT / config).is_file(), config


@pytest.mark.parametrize("tool", sorted({command.split()[0] for command in COMMANDS}))
def test_options_that_are_named_exist(tool: str) -> None:
    shown = subprocess.run(
        [sys.executable, tool, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    used = {option for c in COMMANDS if c.split()[0] == tool for option in re.findall(r"(?<= )--[a-z-]+", c)}
    assert {option for option in used if option not in shown} == set()
    assert len(shown.splitlines()) <= 50  # fits a screen
