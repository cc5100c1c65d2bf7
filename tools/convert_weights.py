"""Convert ResNet weights of torchvision, MM libraries, MoCo, DINO, timm or the EAN authors to ours."""

from collections.abc import Sequence

from ean_core import EANResNet
from ean_core.backbones.resnet import detect_depth
from ean_core.backbones.weights import IMAGENET_ATTENTION, convert_state_dict, detect_attention, dropped, load_backbone
from ean_core.checkpoint import read_checkpoint, write_checkpoint
from ean_core.engine.cli import command, make_parser
from ean_core.errors import UserError
from ean_core.scheme import ConnectionScheme

ATTENTION = {"none": None} | {config["type"].lower(): config for config in IMAGENET_ATTENTION.values()}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Convert one file."""
    parser = make_parser(
        "Convert ImageNet weights of any known format to the names of an EANResNet, for\n"
        "init_cfg=dict(type='Pretrained', checkpoint=DST). Biases of convolutions move into the batch norms.",
        "python tools/convert_weights.py resnet50_se.pth ean_se.pth",
    )
    parser.add_argument("src", metavar="SRC", help="the file to read")
    parser.add_argument("dst", metavar="DST", help="the file to write, replaced in one step")
    parser.add_argument("--depth", type=int, help="of the ResNet: 18, 34, 50, 101 or 152 (default: the file's, or 50)")
    parser.add_argument("--attention", choices=ATTENTION, help="default: that of the file; none leaves it out")
    parser.add_argument("--sharing", choices=("stage", "block"), default="stage", help="default: stage")
    parser.add_argument(
        "--scheme", default="full", help="stages or blocks it leaves out get no attention (default: full)"
    )
    parser.add_argument("--prefix", help="what stands before the names of the network, where a file holds several")
    parser.add_argument("--drop", action="store_true", help="leave out trained modules that the network lacks")
    args = parser.parse_args(argv)

    source = read_checkpoint(args.src)
    attention = ATTENTION[args.attention] if args.attention else detect_attention(source, args.prefix)
    depth = args.depth or detect_depth(convert_state_dict(source, args.prefix)) or 50
    backbone = EANResNet(depth=depth, attention=attention, sharing=args.sharing, scheme=args.scheme)
    report = load_backbone(backbone, source, args.prefix)
    lost = dropped(report, ConnectionScheme.parse(args.scheme, backbone.blocks))
    if lost and not args.drop and args.attention != "none":
        raise UserError(
            f"'{args.src}' holds {len(lost)} tensors of the stages that the network lacks, first '{lost[0]}': leave "
            "--attention and --sharing as the file has them, or leave these tensors out with --drop"
        )
    # Attention that the source lacks is left out: it would be random numbers, not pretrained weights.
    state = {key: value for key, value in backbone.state_dict().items() if key not in report.missing}
    write_checkpoint({"state_dict": state}, args.dst)
    print(f"attention {attention['type'] if attention else 'none'}: {report}")
    print(f"wrote {args.dst}")


if __name__ == "__main__":
    main()
