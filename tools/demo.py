"""A page in the browser: predictions, a look inside, schemes and searches, on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import add_trust, command, make_parser

DESCRIPTION = """Serve a page for the browser: what networks predict of an image or a video, side by side; where they
look and what their attention does; what connection schemes cost; searches, also while they run.

The page listens on this machine alone, asks nobody outside, opens no path that comes from the browser, and stores
nothing. It needs some packages: pip install 'ean[demo]'. Ctrl-C ends it."""


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and serve."""
    parser = make_parser(
        DESCRIPTION,
        "python tools/demo.py work_dirs/ean_se_voc/best.pth work_dirs/org_voc/best.pth --work-dir work_dirs",
    )
    parser.add_argument("checkpoints", nargs="*", metavar="CHECKPOINT", help="trained networks, of any task")
    parser.add_argument(
        "--work-dir", nargs="+", default=[], metavar="DIR", help="work directories of searches, or folders of such"
    )
    parser.add_argument("--host", default="127.0.0.1", help="another address lets others in (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="0: a free one (default: %(default)s)")
    parser.add_argument("--password", help="which the browser asks for, with any user name")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")
    add_trust(parser)
    args = parser.parse_args(argv)
    from ean_core.demo.server import serve  # after --help, which needs none of it

    serve(
        args.checkpoints, args.work_dir, host=args.host, port=args.port, password=args.password, device=args.device,
        trust=args.trust,
    )  # fmt: skip


if __name__ == "__main__":
    main()
