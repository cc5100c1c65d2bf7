"""What every command-line tool shares: its parser, and errors that end in one line."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence

from ean_core.engine.memory import keep_freed_memory

Main = Callable[[Sequence[str] | None], None]


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example, with the ``--debug`` flag that :func:`command` looks for."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def command(main: Main) -> Main:
    """Decorate a tool's ``main(argv)``: a user's mistake prints one line and exits with status 2.

    ``ValueError``, ``OSError``, and ``KeyError`` (MMEngine's word for an unknown type) count as such; ``--debug`` lets
    them through. Ctrl-C exits with status 130. The process keeps the memory that it frees (``memory.py``).
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> None:
        keep_freed_memory()
        try:
            main(argv)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except (ValueError, OSError, KeyError) as error:
            if "--debug" in (sys.argv[1:] if argv is None else argv):
                raise
            print(f"error: {explain(error)}", file=sys.stderr)
            sys.exit(2)

    return run


def repeated(args: argparse.Namespace) -> list[str]:
    """The options of a command line that another tool needs to load the same config (see ``add_config_options``)."""
    words = ["--toy"] if args.toy else []
    for name in ("scheme", "data_root", "classes", "work_dir"):
        value = getattr(args, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    pairs = [f"{key}={_word(value)}" for key, value in args.cfg_options.items()]
    return words + (["--cfg-options", *pairs] if pairs else [])


def _word(value: object) -> str:
    """A value as MMEngine's ``DictAction`` reads it."""
    if isinstance(value, list | tuple):
        left, right = "[]" if isinstance(value, list) else "()"
        return f"{left}{','.join(map(_word, value))}{right}"
    return str(value)


def explain(error: BaseException) -> str:
    """The message of an error as one reads it."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'"
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
