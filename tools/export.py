"""Write a trained model as ONNX, TorchScript or ExportedProgram, and compare both on the same input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ean_core.engine.cli import add_trust, command, make_parser
from ean_core.errors import UserError
from ean_core.inference import load
from ean_core.inference.export import SUFFIXES, export


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and export."""
    parser = make_parser(
        f"{__doc__}\n\nFails where the outputs differ by more than 1e-4 of the largest one.",
        "python tools/export.py work_dirs/ean_se_voc/best.pth --format onnx --fuse --out ean.onnx",
    )
    parser.usage = "%(prog)s [CONFIG] CHECKPOINT --format FORMAT [options]"
    parser.add_argument("paths", nargs="+", metavar="[CONFIG] CHECKPOINT", help="config (.py), weights")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx", help="default: onnx")
    parser.add_argument("--out", help="the file (default: beside the checkpoint, with the format's ending)")
    parser.add_argument("--size", nargs=2, type=int, metavar=("H", "W"), help="of the input (default: the config's)")
    parser.add_argument("--dynamic", action="store_true", help="any batch size, height and width")
    parser.add_argument("--fuse", action="store_true", help="fold batch norms first: same results, faster")
    add_trust(parser)
    args = parser.parse_intermixed_args(argv)
    config = args.paths.pop(0) if args.paths[0].endswith(".py") else None
    if len(args.paths) != 1:
        raise UserError(f"name one checkpoint: {parser.format_usage().strip()}")
    if args.size and min(args.size) < 1:
        raise UserError(f"--size must be positive, got {args.size[0]} {args.size[1]}")
    path = Path(args.out or Path(args.paths[0]).with_suffix(SUFFIXES[args.format]))
    if path.resolve() == Path(args.paths[0]).resolve():
        raise UserError(f"--out '{path}' is the checkpoint itself: choose another file")
    if path.is_dir():
        example = path / f"model{SUFFIXES[args.format]}"
        raise UserError(f"--out '{path}' is a folder: name a file in it, such as '{example}'")
    model = load(config, args.paths[0], device="cpu", fuse=args.fuse, trust=args.trust)
    report = export(model, args.format, path, tuple(args.size) if args.size else None, args.dynamic)
    print(f"wrote       {report.path} ({report.path.stat().st_size / 1e6:.1f} MB), output {report.output}")
    print(f"difference  {report.difference:.1e} of the largest output")
    before, after = report.torch_ms, report.exported_ms
    print(f"speed       {before:.1f} ms in torch, {after:.1f} ms exported: {before / after:.2f} times as fast")


if __name__ == "__main__":
    main()
