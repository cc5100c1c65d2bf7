"""The shell commands that the documents show, and which of them are not run, and why."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("ean", "python", "make", "pip", "torchrun", ".", ".ci/run", ".venv/bin/python", ".venv/bin/ruff", "pre-commit")

# What tests/run_documents.py leaves out: the beginning of a command, after "VARIABLE=value", and the reason.
NOT_RUN = {
    r"make (test|lint|docs|help|clean|PYTHON=)": "what runs these tests, or changes the environment they run in",
    r"make knocks|python tests/knocks/": "takes minutes, and breaks things",
    r"\. \.venv/bin/activate": "changes the user's shell only",
    r"pip install": ".ci/run installs the package and its wheel",
    r"python -m (pip|build|twine) ?": "a release; .ci/others builds and checks the package",
    r"torchrun": "two processes are tested in tests/engine/test_distributed.py",
    r"python tools/prepare_data\.py (voc2012|cifar10|cifar100)": "downloads; tested with archives made by the tests",
    r"python benchmarks/": "measures for minutes",
    r"python tools/verify\.py .*--budget": "takes days",
    r"optuna-dashboard": "a package of its own, which serves pages until it is stopped",
    r"python tools/demo\.py": "serves a page until it is stopped; tested in tests/demo, tests/browser and tests/tools",
    r"python tools/benchmark\.py": "measures for minutes; tested in tests/tools and tests/analysis",
}


SHELLS = ("bash", "sh", "shell", "console")


class Command(NamedTuple):
    """A command on one line, and the document that shows it."""

    document: str
    text: str


def documents() -> dict[str, str]:
    """Texts by path, in the order in which the index shows them."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = [ROOT / "docs" / link for link in re.findall(r"\]\((\w+\.md)\)", index)]
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *named, *sorted((ROOT / "docs").glob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths if path.is_file()}


def commands(document: str, text: str) -> list[Command]:
    """The commands of a document, in order.

    In indented blocks the lines that begin with one of ``WORDS``, in shell blocks all; a backslash at a line's end
    continues it, and a comment after two spaces is dropped. A Python block marked ``py`` counts as ``python -c``: it
    needs files of commands before it (those marked ``python`` need none: tests/test_docs.py runs them).
    """
    found: list[str] = []
    fence, block = None, []  # the mark of the fenced block that we are in, its lines
    for line in re.sub(r" *\\\n *", " ", text).splitlines():
        if line.startswith("```"):
            if fence == "py":
                found.append(f"python -c {shlex.quote(chr(10).join(block))}")
            fence, block = (line.removeprefix("```").strip(), []) if fence is None else (None, [])
        elif fence is not None:
            block.append(line)
            if fence in SHELLS and line.strip() and not line.startswith("#"):
                found.append(without_comment(line.removeprefix("$ ")))
        elif line.startswith("    ") and program(line.strip()).split(" ")[0] in WORDS:
            found.append(without_comment(line))
    return [Command(document, line) for line in found]


def tool_commands(texts: dict[str, str]) -> list[str]:
    """Whatever begins with a tool's path, in sentences too, to its line's end."""
    calls = r"(tools/\w+\.py[^\n#`|]*(?:\\\n[^\n#`]*)*)"
    return sorted({command for text in texts.values() for command in re.findall(calls, text)})


def without_comment(line: str) -> str:
    """A shell line without the comment at its end."""
    return re.sub(r"\s{2,}#.*", "", line.strip()).strip()


def program(text: str) -> str:
    """A command without the variables set before it."""
    return re.sub(r"^(\w+=\S* +)+", "", text)


def files(text: str) -> dict[str, str]:
    """Python blocks that the text before them names a file for: "here `my_config.py`:" or "in `mine/b.py`, ...:"."""
    blocks = re.findall(r"(?:here|[Ii]n) `([\w/]+\.py)`[^\n`]*:\n\n```python\n(.*?)```", text, re.DOTALL)
    return dict(blocks)


def reason_not_run(command: Command) -> str | None:
    """Why a command is left out, or ``None``."""
    return next((why for start, why in NOT_RUN.items() if re.match(start, program(command.text))), None)
