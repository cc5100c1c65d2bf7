"""Write a search as an Optuna study, for `optuna-dashboard`: its history, and which blocks matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ean_core.engine.cli import command, make_parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    parser = make_parser(
        f"{__doc__}\n\nThe search may still be running: given again, the command adds the candidates that are new.",
        "python tools/export_study.py work_dirs/se_cifar100 sqlite:///search.db",
    )
    parser.add_argument("work_dir", type=Path, metavar="WORK_DIR", help="work directory of a search of schemes")
    parser.add_argument("storage", metavar="STORAGE", help="where Optuna keeps studies, e.g. sqlite:///search.db")
    parser.add_argument("--name", help="of the study (default: the name of the work directory)")
    args = parser.parse_args(argv)
    from ean_core.search.loop import LOG  # after --help, which needs none of it
    from ean_core.search.study import export_study
    from ean_core.terminal import print_line, print_next

    study = export_study(args.work_dir / LOG, args.storage, args.name)
    print_line("study", f"{study.name}: {study.trials} trials, {study.added} of them new")
    print_next("optuna-dashboard", args.storage)


if __name__ == "__main__":
    main()
