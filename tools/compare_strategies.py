"""Compare search strategies on one supernet at an equal number of evaluations, over several seeds."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import add_config_options, command, config_of, make_parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and compare."""
    parser = make_parser(__doc__, "python tools/compare_strategies.py configs/search/se_cifar100.py --toy --exhaustive")
    add_config_options(parser)
    parser.add_argument("--strategies", nargs="+", default=[], metavar="NAME", help="default: all")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each strategy (default: 5)")
    parser.add_argument("--evaluations", type=int, default=96, help="different schemes a run (default: 96)")
    parser.add_argument("--steps", type=int, help="end a run that keeps meeting known schemes (default: 4x the need)")
    parser.add_argument("--exhaustive", action="store_true", help="evaluate all schemes first, and rank the picks")
    args = parser.parse_args(argv)
    from ean_core.verification.compare import compare  # after --help, which needs none of it

    compare(config_of(args), args.strategies, args.seeds, args.evaluations, args.steps, args.exhaustive)


if __name__ == "__main__":
    main()
