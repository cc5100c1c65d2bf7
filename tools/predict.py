"""Predict images, folders and videos with a trained model of any task: pictures and predictions.csv."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ean_core.engine.cli import add_trust, command, make_parser
from ean_core.errors import UserError
from ean_core.inference import load
from ean_core.inference.predict_files import predict_files
from ean_core.inference.region import parse_region


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and predict."""
    parser = make_parser(
        f"{__doc__}\n\nWithout CONFIG the one that travels in the checkpoint is used. What cannot be read is listed\n"
        "at the end, after everything else has been written, and the exit status is then 2.",
        "python tools/predict.py work_dirs/ean_se_voc/best.pth photo.jpg --out predictions",
    )
    parser.usage = "%(prog)s [CONFIG] CHECKPOINT IMAGE|FOLDER|GLOB|VIDEO ... --out DIR [options]"
    parser.add_argument("paths", nargs="+", metavar="[CONFIG] CHECKPOINT SOURCE", help="config (.py), weights, inputs")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the pictures and predictions.csv")
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="images, or tiles of one, at once (default: 1)"
    )
    parser.add_argument("--size", type=int, metavar="N", help="reduce images whose longer side has more than N pixels")
    parser.add_argument("--whole", action="store_true", help="large images in one piece, as far as memory allows")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    parser.add_argument(
        "--fuse",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="fold batch norms first: same results up to rounding, faster (default: yes)",
    )
    parser.add_argument("--masks", action="store_true", help="segmentation: label images too, with the palette")
    parser.add_argument("--polygons", choices=("geojson", "coco"), help="segmentation: outlines for labelling tools")
    parser.add_argument("--region", metavar="'X,Y X,Y X,Y'", help="crowd counting: count in this polygon, too")
    parser.add_argument(
        "--save-density", action="store_true", help="crowd counting: people in each cell, .npy and .png"
    )
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    config = args.paths.pop(0) if args.paths[0].endswith(".py") else None
    if len(args.paths) < 2:
        raise UserError(f"name a checkpoint and at least one image, folder or video: {parser.format_usage().strip()}")
    for name in ("batch", "size"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    checkpoint, *sources = args.paths
    region = None if args.region is None else parse_region(args.region)
    model = load(
        config,
        checkpoint,
        device=args.device,
        fuse=args.fuse,
        trust=args.trust,
        size=args.size,
        whole=args.whole,
        batch=args.batch,
    )
    if region is not None:
        model.task.choose_region(model.cfg, region)
    save = [*["masks"] * args.masks, *filter(None, [args.polygons]), *["density"] * args.save_density]
    failed = predict_files(model, sources, args.out, args.batch, save)
    print(f"predictions {args.out}")
    for line in failed:
        print(f"failed      {line}", file=sys.stderr)
    if failed:
        sys.exit(2)


if __name__ == "__main__":
    main()
