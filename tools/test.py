"""Evaluate a checkpoint of any task."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine import evaluate
from ean_core.engine.cli import add_config_options, add_trust, command, config_of, make_parser
from ean_core.inference.stored_test import stored_test


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    parser = make_parser(
        f"{__doc__}\n\nWithout CONFIG the one that travels in the checkpoint is used, and test.json lies beside it.",
        "python tools/test.py work_dirs/ean_se_voc/best.pth --data-root data/VOCdevkit/VOC2012",
    )
    add_config_options(parser, stored=True)
    parser.add_argument("checkpoint")
    parser.add_argument("--tta", action="store_true", help="average over the image and its mirror image")
    parser.add_argument("--fuse", action="store_true", help="fold batch norms first: same results, faster")
    parser.add_argument("--show-dir", help="write a picture of every image into this folder")
    parser.add_argument("--save-density", metavar="DIR", help="crowd counting: people in each cell, as .npy and .png")
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    stored = stored_test(args.checkpoint, args.trust) if args.config is None else None
    places = {"show_dir": args.show_dir, "density_dir": args.save_density}
    evaluate(config_of(args, stored), args.checkpoint, tta=args.tta, fuse=args.fuse, **places)


if __name__ == "__main__":
    main()
