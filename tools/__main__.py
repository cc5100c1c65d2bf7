"""The command ``ean``: each tool by its file's name, ``ean train`` for ``tools/train.py``. It imports only that one."""

from __future__ import annotations

import ast
import difflib
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

TOOLS = {file.stem: file for file in sorted(Path(__file__).parent.glob("[!_]*.py"))}


def main() -> None:
    """Run the tool that the command line names, or list them all."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(overview())
    elif name in TOOLS:
        run(name, sys.argv[2:])
    else:
        close = " or ".join(difflib.get_close_matches(name, TOOLS, n=3))
        hint = f"did you mean {close}?" if close else "'ean --help' lists them"
        print(f"error: there is no command '{name}': {hint}", file=sys.stderr)
        sys.exit(2)


def overview() -> str:
    """What ``ean --help`` prints: a line for each tool, the first of its text."""
    width = max(map(len, TOOLS))
    lines = [f"  {name:{width}}  {summary(file)}" for name, file in TOOLS.items()]
    return "\n".join(["usage: ean COMMAND ...", "", *lines, "", "ean COMMAND --help tells more of one."])


def summary(file: Path) -> str:
    """The first line of a file's docstring, read without running the file."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def run(name: str, words: list[str]) -> None:
    """Run a tool with these words."""
    spec = spec_from_file_location(f"ean_tools.{name}", TOOLS[name])
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.argv = [f"ean {name}", *words]  # what its help and its messages call it
    spec.loader.exec_module(module)
    module.main()


if __name__ == "__main__":
    main()
