"""Measure what attention costs: increment of the inference time (Eq. 9), parameters, MACs and memory."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import command, make_parser
from ean_core.errors import UserError

FAMILY = [f"configs/cls/resnet164_{variant}_cifar100.py" for variant in ("org", "orgfull_se", "share_se", "ean_se")]


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = make_parser(
        f"{__doc__}\n\nAll networks run in one process, in turn. Increments are medians of the ratios, round by\n"
        "round, to the first network without attention.",
        "python tools/benchmark.py --list configs/seg/{org,share_se,ean_se}_voc.py --batch 1 --size 473 --fuse",
    )
    parser.add_argument(
        "--list", nargs="+", default=FAMILY, metavar="CONFIG", help="configs (default: ResNet-164 with SE, four ways)"
    )
    parser.add_argument("--out", default="work_dirs/benchmark", help="of the .json and .png (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=50, help="images at once (default: %(default)s)")
    parser.add_argument("--size", type=int, help="side of the images (default: 32 for CIFAR's networks, else 224)")
    parser.add_argument("--repeats", type=int, default=20, help="rounds (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--channels-last", action="store_true", help="memory format of weights and images")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--fuse", action="store_true", help="ean_core.deploy.fuse first")
    parser.add_argument("--accuracy", nargs="+", default=[], metavar="CONFIG=PERCENT", help="for the picture's y axis")
    args = parser.parse_args(argv)
    from ean_core.analysis.benchmark import benchmark  # after --help, which needs none of it
    from ean_core.figures import save_figure
    from ean_core.figures.cost_bubbles import cost_bubbles
    from ean_core.terminal import print_line

    try:
        accuracies = {name: float(value) for name, value in (item.split("=") for item in args.accuracy)}
    except ValueError:
        raise UserError("--accuracy takes the stem of a config's name and a number: share_se_voc=73.03") from None
    rows, title = benchmark(
        args.list, args.out, args.batch, args.size, args.repeats, args.device, args.dtype, args.channels_last,
        args.compile, args.fuse, accuracies,
    )  # fmt: skip
    save_figure(cost_bubbles(rows, title), f"{args.out}.png")
    print_line("picture", f"{args.out}.png")


if __name__ == "__main__":
    main()
