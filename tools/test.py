"""Evaluate a checkpoint of any config."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine import evaluate
from ean_core.engine.cli import add_config_options, command, config_of, make_parser


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    parser = make_parser(__doc__, "python tools/test.py configs/seg/ean_se_voc.py work_dirs/ean_se_voc/best.pth")
    add_config_options(parser)
    parser.add_argument("checkpoint")
    parser.add_argument("--tta", action="store_true", help="average over the image and its mirror image")
    parser.add_argument("--fuse", action="store_true", help="fold batch norms first: same results, faster")
    parser.add_argument("--show-dir", help="write a picture of every image into this folder")
    parser.add_argument("--save-density", metavar="DIR", help="crowd counting: people in each cell, as .npy and .png")
    args = parser.parse_args(argv)
    places = {"show_dir": args.show_dir, "density_dir": args.save_density}
    evaluate(config_of(args), args.checkpoint, tta=args.tta, fuse=args.fuse, **places)


if __name__ == "__main__":
    main()
