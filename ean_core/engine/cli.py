"""What every command-line tool shares: its parser, the options of configs, and errors that end in one line."""

from __future__ import annotations

import argparse
import functools
import sys
import traceback
from collections.abc import Callable, Sequence

from mmengine.config import Config, DictAction

from ean_core.engine.config import load_config
from ean_core.errors import UserError
from ean_core.memory import keep_freed_memory

Main = Callable[[Sequence[str] | None], None]
BUG = "bug: this is no mistake of yours. Please report it with the lines above and what 'python tools/doctor.py' prints"


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example, with the ``--debug`` flag that :func:`command` looks for."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every tool on a config understands; :func:`config_of` reads them."""
    parser.add_argument("config", help="config file, e.g. configs/seg/ean_se_voc.py")
    parser.add_argument("--toy", action="store_true", help="small generated data and a schedule of about a minute")
    parser.add_argument("--scheme", help="0/1 by stage (1-01-11), full, none, a published name, or a scheme.json")
    parser.add_argument("--genotype", help="of a network of cells: att-darts, darts-v2, its text, or a genotype.json")
    parser.add_argument("--data-root", help="folder of your own data in the task's layout")
    parser.add_argument("--classes", help="text file with the class names, one a line")
    parser.add_argument("--work-dir", help="where everything is written (default: work_dirs/CONFIG)")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE", help="change any config entry"
    )


def config_of(args: argparse.Namespace) -> Config:
    """The complete config of a command line (:func:`~ean_core.engine.load_config`)."""
    names = ("toy", "scheme", "genotype", "data_root", "classes", "work_dir", "launcher", "pretrained", "amp")
    choices = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return load_config(args.config, options=args.cfg_options, **choices)


def command(main: Main) -> Main:
    """Decorate a tool's ``main(argv)``: a user's mistake prints one line and exits with status 2.

    A mistake is a :class:`~ean_core.errors.UserError` or an ``OSError``; ``--debug`` lets it through. Anything else is
    a bug: its traceback is printed, then a line that says how to report it, and the status is 1. Ctrl-C exits with
    status 130. The process keeps the memory that it frees (``memory.py``).
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> None:
        keep_freed_memory()
        try:
            main(argv)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except (UserError, OSError) as error:
            if "--debug" in (sys.argv[1:] if argv is None else argv):
                raise
            print(f"error: {explain(error)}", file=sys.stderr)
            sys.exit(2)
        except Exception:
            traceback.print_exc()
            print(BUG, file=sys.stderr)
            sys.exit(1)

    return run


def repeated(args: argparse.Namespace) -> list[str]:
    """The options of a command line that another tool needs to load the same config."""
    words = ["--toy"] if args.toy else []
    for name in ("scheme", "genotype", "data_root", "classes", "work_dir"):
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
    return str(error)
