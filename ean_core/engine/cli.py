"""What every command-line tool shares: its parser, the options of configs, and errors that end in one line."""

from __future__ import annotations

import argparse
import functools
import io
import os
import re
import shlex
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.config import Config, DictAction

from ean_core.engine.config import load_config
from ean_core.errors import UserError, shortened
from ean_core.memory import keep_freed_memory
from ean_core.stopping import PATIENCE, Interrupted, asked, by_slurm, handling_signals, launched_rank
from ean_core.terminal import tool

Main = Callable[[Sequence[str] | None], None]
BUG = "bug: this is no mistake of yours. Please report it with the lines above and what '{doctor}' prints"

UNIMPORTANT = (r"Setting \w+_NUM_THREADS environment variable", "`broadcast_buffers` is deprecated")
"""Warnings of libraries about what is meant so, in a run of several processes."""


def make_parser(description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends with an example, with the ``--debug`` flag that :func:`command` looks for.

    Args:
        description: What the tool does.
        example: ``"python tools/train.py ..."``, which is shown as ``ean train ...`` where the command ``ean`` runs.
    """
    if sys.argv[0].startswith("ean "):
        example = re.sub(r"python tools/(\w+)\.py", r"ean \1", example)
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust``, for tools that read the config inside a checkpoint (:func:`ean_core.inference.load`)."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="module.Class",
        help="a type that the config in the checkpoint may import and build; repeat the option for more",
    )


def add_config_options(parser: argparse.ArgumentParser, *, stored: bool = False) -> None:
    """Add the arguments that every tool on a config understands; :func:`config_of` reads them.

    Args:
        parser: The parser.
        stored: The config may be left out, because a checkpoint has one; parse with ``parse_intermixed_args`` then.
    """
    words = "config file, e.g. configs/seg/ean_se_voc.py, or a name: ean_se_voc"
    words += " (default: the one in the checkpoint)" if stored else ""
    parser.add_argument("config", nargs="?" if stored else None, help=words)
    parser.add_argument("--toy", action="store_true", help="small generated data and a schedule of about a minute")
    parser.add_argument("--scheme", help="0/1 by stage (1-01-11), full, none, a published name, or a scheme.json")
    parser.add_argument("--genotype", help="of a network of cells: att-darts, darts-v2, its text, or a genotype.json")
    parser.add_argument("--data-root", help="folder of your own data in the task's layout")
    parser.add_argument("--classes", help="text file with the class names, one a line")
    parser.add_argument("--work-dir", help="where everything is written (default: work_dirs/CONFIG)")
    launchers = ["none", "pytorch", "slurm"]
    parser.add_argument("--launcher", choices=launchers, default="none", help="pytorch: under torchrun; slurm: srun")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, default={}, metavar="KEY=VALUE", help="change config entries"
    )


class ConfigOptions(DictAction):
    """MMEngine's reading of ``KEY=VALUE``, with a message for what it cannot read."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Add the options to the dict in the namespace."""
        for text in values:
            name, found, _ = text.partition("=")
            if not found or not all(name.split(".")):
                raise UserError(f"--cfg-options takes KEY=VALUE, such as train_cfg.max_epochs=3, got {shortened(text)}")
            try:
                super().__call__(parser, namespace, [text], option_string)
            except (AssertionError, RecursionError) as error:
                raise UserError(f"--cfg-options: the brackets in {shortened(text)} do not match") from error


def config_of(args: argparse.Namespace, config: Config | None = None) -> Config:
    """The complete config of a command line (:func:`~ean_core.engine.load_config`), or of one that is at hand."""
    names = ("toy", "scheme", "genotype", "data_root", "classes", "work_dir", "launcher", "pretrained", "amp")
    choices = {name: getattr(args, name) for name in names if hasattr(args, name)}
    return load_config(config or args.config, options=args.cfg_options, **choices)


def command(main: Main) -> Main:
    """Decorate a tool's ``main(argv)``: a user's mistake prints one line and exits with status 2.

    A mistake is a :class:`~ean_core.errors.UserError` or an ``OSError``; ``--debug`` lets it through. Anything else is
    a bug: its traceback is printed, then a line that says how to report it, and the status is 1. Ctrl-C exits with
    status 130 and SIGTERM with 143, with a line that says how to go on. The process keeps the memory that it frees
    (``memory.py``).

    Where torchrun has started several processes the first one speaks. Another one does only if it is still alive
    shortly after its error: then the first one did not make the same.
    """

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> None:
        keep_freed_memory()
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A pipe would get nothing before some thousand characters; file names may have bytes that are no text.
            sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        with handling_signals(), warnings.catch_warnings():
            for text in UNIMPORTANT:
                warnings.filterwarnings("ignore", text)
            try:
                main(argv)
                leave_processes()
                if asked():  # it came behind the last step, or Python forgot what its handler raised
                    print("interrupted when everything was done: there is nothing to go on with", file=sys.stderr)
                    sys.exit(128 + asked())
            except KeyboardInterrupt as stop:
                known = stop if isinstance(stop, Interrupted) else Interrupted()
                if not launched_rank():
                    print(interrupted(known, *_typed(main, argv)), file=sys.stderr)
                sys.exit(128 + known.number)
            except (UserError, OSError) as error:
                if "--debug" in (sys.argv[1:] if argv is None else argv):
                    raise
                _let_the_first_speak()
                print(f"error{_rank()}: {explain(error)}", file=sys.stderr)
                sys.exit(2)
            except Exception:
                _let_the_first_speak()
                traceback.print_exc()
                print(f"{BUG.format(doctor=tool('doctor'))}{_rank()}", file=sys.stderr)
                sys.exit(1)

    return run


def interrupted(stop: Interrupted, program: Sequence[str], words: Sequence[str]) -> str:
    """Where a command was interrupted, and the command to go on with."""
    text = f"interrupted in {stop.where}" if stop.where else "interrupted"
    if not stop.saved:
        return f"{text}: start again with '{shlex.join([*program, *words])}'"
    option, begun = stop.option, stop.instead
    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if word not in (option, f"{option}={begun}") and not (before == option and word == begun):
            kept.append(word)
    return f"{text}: go on with '{shlex.join([*program, *kept, *filter(None, [option])])}'"


def _typed(main: Main, argv: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """The program and the words of the command line."""
    if argv is not None:
        return ["python", main.__code__.co_filename], list(argv)  # called by another program
    processes = os.environ.get("LOCAL_WORLD_SIZE")
    program = sys.argv[0].split() if sys.argv[0].startswith("ean ") else ["python", sys.argv[0]]
    start: list[str] = []
    if by_slurm() and "SLURM_NTASKS" in os.environ:
        start = ["srun", f"--ntasks={os.environ['SLURM_NTASKS']}"]
    elif processes:
        start = ["torchrun", f"--nproc_per_node={processes}"]
        program = ["-m", "ean_tools", *program[1:]] if program[0] == "ean" else program[1:]
    return [*start, *program], sys.argv[1:]


def leave_processes() -> None:
    """End the connection to the other processes of a run, of which torch warns where it is left."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _let_the_first_speak() -> None:
    if launched_rank():
        time.sleep(PATIENCE)  # torchrun ends this process meanwhile if the first one has ended


def _rank() -> str:
    rank = launched_rank()
    return f" (rank {rank})" if rank else ""


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
        return error.strerror if error.filename is None else f"{error.strerror}: '{error.filename}'"
    return str(error)
