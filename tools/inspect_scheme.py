"""Draw connection schemes or a search log; or measure what each connection of a trained network does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ean_core.engine.cli import add_trust, command, make_parser
from ean_core.errors import UserError

DESCRIPTION = """Draw connection schemes as pictures of the network: its stages, their blocks, the connections.

With --model and --images measure the masks M of the attention modules over a folder of images, as a table,
a CSV file and the blocks' colours: which connections do something?"""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and draw."""
    parser = make_parser(
        DESCRIPTION,
        "python tools/inspect_scheme.py paper/imagenet-sge paper/imagenet-dia\n"
        "         python tools/inspect_scheme.py work_dirs/se_cifar100/search.jsonl\n"
        "         python tools/inspect_scheme.py --model work_dirs/ean_se_voc/best.pth --images FOLDER",
    )
    parser.usage = (
        "%(prog)s SCHEME ... [options]\n       %(prog)s --model [CONFIG] CHECKPOINT --images FOLDER [options]"
    )
    parser.add_argument(
        "schemes", nargs="*", metavar="SCHEME", help="0/1 by stage, full, a published name, scheme.json or search.jsonl"
    )
    parser.add_argument("--blocks", help="blocks of each stage (3-4-6-3), where no scheme tells them")
    parser.add_argument("--top", type=int, default=5, help="how many of a log's best schemes are drawn (default: 5)")
    parser.add_argument(
        "--model",
        nargs="+",
        metavar=("[CONFIG]", "CHECKPOINT"),
        help="a trained network; the checkpoint knows its config",
    )
    parser.add_argument("--images", metavar="FOLDER", help="images that are put through it")
    parser.add_argument("--limit", type=int, default=200, metavar="N", help="the first N images (default: 200)")
    parser.add_argument("--out", type=Path, default=Path("scheme.png"), help="the picture (default: scheme.png)")
    add_trust(parser)
    args = parser.parse_args(argv)
    from ean_core.inspect_scheme import draw_schemes, inspect_files  # after --help, which needs none of it
    from ean_core.terminal import print_line

    if bool(args.schemes) == bool(args.model) or bool(args.model) != bool(args.images):
        raise UserError("name schemes to draw, or a network and images to look at: --model CHECKPOINT --images FOLDER")
    if args.out.suffix.lower() != ".png" or args.top < 0 or args.limit < 1:
        raise UserError(f"--out needs a .png, --top and --limit a number, got {args.out}, {args.top}, {args.limit}")
    if args.model:
        inspect_files(args.model, args.images, args.limit, args.out, args.trust)
    else:
        draw_schemes(args.schemes, args.out, read_blocks(args.blocks), args.top)
    print_line("picture", args.out)


def read_blocks(text: str | None) -> tuple[int, ...] | None:
    """``"3-4-6-3"`` -> (3, 4, 6, 3)."""
    parts = text.split("-") if text else []
    if not all(part.isdigit() and int(part) for part in parts):
        raise UserError(f"--blocks '{text}' is not a number a stage, such as 3-4-6-3")
    return tuple(map(int, parts)) or None


if __name__ == "__main__":
    main()
