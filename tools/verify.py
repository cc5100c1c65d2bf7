"""Verify a search: train what it found, and networks beside it, with several seeds; compare them.

WORK_DIR is the folder of a finished search. Of a scheme the others are the plain network, Share-full, Org-full, and
random schemes of the same density; of a genotype the same without attention, and random genotypes. The same command,
given again, goes on with what is not done.
"""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import ConfigOptions, command, make_parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and verify."""
    parser = make_parser(__doc__ or "", "python tools/verify.py work_dirs/se_cifar100 --budget 12h")
    parser.add_argument("work_dir", metavar="WORK_DIR")
    parser.add_argument("--random", type=int, metavar="N", help="random schemes (default: 5; 2 for a toy)")
    parser.add_argument("--seeds", type=int, metavar="K", help="of every network (default: 3; 2 for a toy)")
    parser.add_argument("--budget", metavar="TIME", help="choose N and K for this time, e.g. 2h or 90m")
    parser.add_argument(
        "--schemes", nargs="+", default=[], metavar="SCHEME", help="more schemes, e.g. of other searches"
    )
    parser.add_argument("--constant", type=float, metavar="MASK", help="a control: the scheme with this as its mask")
    parser.add_argument("--log", nargs="+", default=[], metavar="FILE", help="more search.jsonl of the same supernet")
    parser.add_argument("--engine", default="local", help="where the trainings run: local, or ray (default: local)")
    parser.add_argument("--config", help="train by this config, also of another task (default: search.retrain)")
    parser.add_argument("--toy", action="store_true", help="by the config's toy entries (as the search, by default)")
    parser.add_argument("--data-root", help="folder of the data (default: the search's)")
    parser.add_argument("--classes", help="text file with the class names, one a line")
    parser.add_argument(
        "--cfg-options", nargs="+", action=ConfigOptions, default={}, metavar="KEY=VALUE", help="change the trainings"
    )
    args = parser.parse_args(argv)
    from ean_core.verification.plan import read_duration
    from ean_core.verification.verify import verify  # after --help, which needs none of it

    verify(
        args.work_dir,
        config=args.config,
        random=args.random,
        seeds=args.seeds,
        budget=None if args.budget is None else read_duration(args.budget),
        schemes=args.schemes,
        constant=args.constant,
        logs=args.log,
        engine=args.engine,
        toy=args.toy,
        data_root=args.data_root,
        classes=args.classes,
        options=args.cfg_options,
    )


if __name__ == "__main__":
    main()
