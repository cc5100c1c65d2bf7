"""What the documents show is true: Python blocks run, files and links exist.

The commands themselves are run by tests/run_documents.py, which .ci/run calls; their options are compared with the
tools' help in tests/tools/test_first_screen.py.
"""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ean_testing.documents import Command, commands, documents, files, program, reason_not_run, tool_commands

ROOT = Path(__file__).resolve().parents[1]
TEXTS = documents()
BLOCKS = [
    (name, block)
    for name, text in TEXTS.items()
    if name != "docs/own_task.md"  # files that import each other: tests/engine/test_own_task.py runs them
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
]
COMMANDS = tool_commands(TEXTS)
SHELL = sorted({command for name, text in TEXTS.items() for command in commands(name, text)})


NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def anchors(path: Path) -> set[str]:
    """The names of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("name", "block"), BLOCKS, ids=lambda value: value if value.endswith(".md") else "")
def test_python_blocks_run(name: str, block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, name, "exec"), {"__name__": name})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_as_they_ran(path: Path) -> None:
    """From the first cell to the last, without an error, and without the names of anybody's folders."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert [output["text"] for output in outputs if output.get("name") == "stderr"] == []
    assert re.findall(r"/(?:home|tmp|root|work)/", json.dumps(outputs)) == []
    for cell in cells:
        for link in re.findall(r"\]\((?!https?:)([^)#]*)\)", "".join(cell["source"])):
            assert (path.parent / link).is_file(), link


def test_there_are_blocks_and_commands() -> None:
    assert len(BLOCKS) >= 2
    assert len(NOTEBOOKS) >= 1
    assert len(COMMANDS) >= 8
    assert len(SHELL) >= 20


@pytest.mark.parametrize("name", TEXTS)
def test_linked_files_exist(name: str) -> None:
    for link, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", TEXTS[name]):
        target = (ROOT / name).parent / link if link else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def test_configs_that_are_named_exist() -> None:
    for command in COMMANDS:
        for config in re.findall(r"configs/[\w/]+\.py", command):
            assert (ROOT / config).is_file(), config


@pytest.mark.parametrize("command", SHELL, ids=lambda command: f"{command.document}: {command.text[:70]!r}")
def test_every_command_is_run_or_says_why_not(command: Command) -> None:
    if reason_not_run(command) is None and command.text != "make demo":
        words = shlex.split(program(command.text))
        hint = "tests/run_documents.py cannot run this: teach it, or list it with a reason in tests/documents.py"
        if words[0] == "ean":
            words[:2] = ["python", f"tools/{words[1]}.py"]
        assert words[0] == "python", hint
        assert len(words) > 1, hint
        assert words[1] == "-c" or (ROOT / words[1]).is_file(), f"there is no {words[1]}"


def test_commands_are_found() -> None:
    text = (
        "text `make lint`\n\n    X=1 python tools/a.py b \\\n        --c d   # why\n    one 1-0 line\n\n"
        "```sh\n$ ls\n# comment\n```\n\n```python\n    make = 1\n```\n    make test\n\n"
        "```py\na = 'b'\nc  # d\n```\n"
    )
    shell = ["X=1 python tools/a.py b --c d", "ls", "make test"]
    found = [c.text for c in commands("n", text)]
    assert found[:3] == shell
    assert shlex.split(found[3]) == ["python", "-c", "a = 'b'\nc  # d"]
    assert len(found) == 4
    assert program("X=1 YY=a,b python a") == "python a"


def test_own_modules_take_thirty_lines() -> None:
    written = files(TEXTS["docs/own_modules.md"])
    assert set(written) == {"my_attention.py", "my_config.py", "my_backbone.py", "my_search.py", "my_strategy.py"}
    assert max(len(block.splitlines()) for block in written.values()) <= 30


def test_drawn_masks_become_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [block for name, block in BLOCKS if name == "docs/data_segmentation.md"]
    drawn = np.array([[0, 255, 254], [1, 255, 0]], np.uint8)
    for folder in ("drawn", "mine/SegmentationClass"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(np.stack([drawn] * 3, 2)).save(tmp_path / "drawn" / "a.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/data_segmentation.md", "exec"), {})
    with Image.open("mine/SegmentationClass/a.png") as mask:
        assert mask.mode == "L"
        assert np.asarray(mask).tolist() == [[0, 1, 1], [0, 1, 0]]
