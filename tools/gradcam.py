"""Grad-CAM of one image under several trained models, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ean_core.engine.cli import add_trust, command, make_parser
from ean_core.errors import UserError

DESCRIPTION = """Draw where models look: Grad-CAM of one image, several models side by side, with the target's score.

The target is the logit of a class; for segmentation its sum over the pixels of the class; for crowd counting the
count. It is explained by the output of a stage of the backbone. Needs the package grad-cam: pip install 'ean[vis]'."""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and draw."""
    parser = make_parser(
        DESCRIPTION,
        "python tools/gradcam.py photo.jpg --model work_dirs/org_voc/best.pth --model work_dirs/ean_se_voc/best.pth",
    )
    parser.usage = "%(prog)s IMAGE --model [CONFIG] CHECKPOINT [--model [CONFIG] CHECKPOINT ...] [options]"
    parser.add_argument("image", metavar="IMAGE", help="the image file, before the models")
    parser.add_argument(
        "--model",
        nargs="+",
        action="append",
        required=True,
        metavar=("[CONFIG]", "CHECKPOINT"),
        help="a trained model, whose checkpoint knows its config; repeat the option for more models",
    )
    parser.add_argument("--target", help="class name or number (default: what the first model predicts)")
    parser.add_argument("--stage", type=int, help="of the backbone, from 1 (default: its last)")
    parser.add_argument("--out", type=Path, default=Path("gradcam.png"), help="the picture (default: gradcam.png)")
    add_trust(parser)
    args = parser.parse_args(argv)
    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out '{args.out}' is no .png")
    from ean_core.analysis.gradcam import explain_files  # after --help, which needs none of it
    from ean_core.figures import save_figure
    from ean_core.figures.heat_maps import HeatMap, heat_maps

    found = explain_files(args.model, args.image, args.target, args.stage, args.trust)
    maps = [HeatMap(f"{one.name}\n{one.answer}", one.seen, one.heat, one.region) for one in found]
    save_figure(heat_maps(maps, found[0].target), args.out, tight=True)
    for one in found:
        print(f"{one.name}: {'' if one.ask is None else f'{one.ask}, '}{one.answer}")
    print(f"picture {args.out}")


if __name__ == "__main__":
    main()
