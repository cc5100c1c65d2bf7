"""Train any config."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine import train
from ean_core.engine.cli import add_config_options, command, config_of, make_parser, repeated


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = make_parser(__doc__, "python tools/train.py configs/seg/ean_se_voc.py --toy")
    add_config_options(parser)
    parser.add_argument("--pretrained", help="weights of the backbone: a file, or 'torchvision'")
    parser.add_argument(
        "--resume", nargs="?", const="last", metavar="CKPT", help="continue the run in the work directory, or this one"
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (bfloat16 on a CPU)")
    args = parser.parse_args(argv)
    train(config_of(args), resume=args.resume, options=repeated(args))


if __name__ == "__main__":
    main()
