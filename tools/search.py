"""Search where to plug attention (Algorithm 1), or whole cells with attention (Att-DARTS)."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import add_config_options, command, config_of, make_parser
from ean_core.search.algorithm1 import run_search


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and search."""
    parser = make_parser(__doc__, "python tools/search.py configs/search/se_cifar100.py --toy")
    add_config_options(parser)
    parser.add_argument(
        "--strategy", help="of schemes: policy_gradient, random, hsp, genetic, enas, darts, or your own as module.Class"
    )
    parser.add_argument("--steps", type=int, help="of a search of schemes (default: the config's)")
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16 in a search of cells)")
    parser.add_argument("--engine", help="evaluate candidates on: local, ray or ray://HOST:PORT (docs/cluster.md)")
    parser.add_argument("--resume", action="store_true", help="continue the search in the work directory")
    args = parser.parse_args(argv)
    passed_on = ["--toy"] if args.toy else []
    passed_on += ["--data-root", args.data_root] if args.data_root else []
    run_search(config_of(args), args.strategy, args.steps, args.resume, passed_on, args.engine)


if __name__ == "__main__":
    main()
