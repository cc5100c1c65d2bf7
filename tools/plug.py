"""Show where attention can be plugged into a network, and what it costs there."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import command, make_parser
from ean_core.errors import UserError

DESCRIPTION = """Show where attention can be plugged into a network, and what it costs there.

NETWORK is torchvision:NAME, timm:NAME or a config. The points are the ends of its residual branches; --match names
others by a regular expression, --convolutions takes all that have at least so many channels on both sides.
With --attention the network is timed without it, with all points connected, and with --scheme: Eq. 9."""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = make_parser(
        DESCRIPTION,
        "python tools/plug.py torchvision:resnet50\n"
        "         python tools/plug.py timm:convnext_nano --attention SE --scheme 10-10-10001000-01 --batch 8",
    )
    parser.add_argument("network", metavar="NETWORK")
    parser.add_argument("--match", metavar="REGEX", help="modules whose whole names match, instead of branches")
    parser.add_argument("--convolutions", type=int, metavar="CHANNELS", help="convolutions instead of branches")
    parser.add_argument("--attention", metavar="TYPE", help="SE, CBAM, ECA or another of ours, or module.Class")
    parser.add_argument("--option", nargs="+", default=[], metavar="KEY=VALUE", help="of the attention: reduction=16")
    parser.add_argument("--scheme", help="the points to connect, 0/1 by stage; all by default")
    parser.add_argument("--sharing", default="stage", choices=["stage", "point"], help="one module for each")
    parser.add_argument("--batch", type=int, default=8, help="images at once (default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="side of the images (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="rounds (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    args = parser.parse_args(argv)
    if min(args.batch, args.size, args.repeats) < 1:
        raise UserError("--batch, --size and --repeats must be positive")
    if (args.scheme or args.option) and not args.attention:
        raise UserError("--scheme and --option are of an attention: add --attention SE")
    if args.match and args.convolutions:
        raise UserError("points are chosen by --match or by --convolutions, not by both")
    import yaml

    from ean_core.analysis.plug_cost import read_network, show_cost, show_points  # after --help, which needs none of it

    rule: str | dict = "residual"
    if args.match:
        rule = {"type": "named", "match": args.match}
    elif args.convolutions:
        rule = {"type": "convolutions", "min_channels": args.convolutions}
    network = read_network(args.network)
    points = show_points(network, rule, args.size, args.repeats, args.device)
    if args.attention:
        try:
            options = {key: yaml.safe_load(value) for key, value in (item.split("=") for item in args.option)}
        except ValueError:
            raise UserError(f"--option takes KEY=VALUE, such as reduction=16, got {' '.join(args.option)}") from None
        schemes = {"all points": "full"} | ({args.scheme: args.scheme} if args.scheme else {})
        show_cost(
            network, points, {"type": args.attention, **options}, schemes=schemes, batch=args.batch, size=args.size,
            repeats=args.repeats, sharing=args.sharing, device=args.device,
        )  # fmt: skip


if __name__ == "__main__":
    main()
