"""Download, convert or generate a data set into the layout the configs read."""

from collections.abc import Sequence
from pathlib import Path

from ean_core.engine.cli import command, make_parser

CROWDS = ("ucf_qnrf", "ucf_cc_50", "nwpu", "jhu")
DATASETS = ("voc2012", "cifar10", "cifar100", "imagenet", "shanghaitech", *CROWDS, "toy")


def make_ready(dataset: str, root: Path) -> str:
    """Fetch, verify or generate one of ``DATASETS``, importing only what it needs; return what to print."""
    if dataset == "voc2012":
        from segmentation.voc import prepare_voc2012

        return prepare_voc2012(root)
    if dataset == "imagenet":
        from classification.imagenet import prepare_imagenet

        return prepare_imagenet(root)
    if dataset == "shanghaitech":
        from crowd_counting.facts import prepare_shanghaitech

        return prepare_shanghaitech(root)
    if dataset in CROWDS:
        from crowd_counting.layout_facts import prepare_layout

        return prepare_layout(dataset, root)
    if dataset == "toy":
        return toy(root)
    from classification.sources import download_cifar

    return download_cifar(dataset, root)


def toy(root: Path) -> str:
    """Generate every toy set; return lines that say where they lie."""
    from classification.toy_shapes import make_toy
    from crowd_counting.toy_crowds import make_toy_crowd
    from segmentation.toy_scenes import make_toy_voc

    folder = root / "toy"
    made = [make_toy_voc(folder), make_toy(folder, "folder"), make_toy(folder, "cifar100")]
    made += [make_toy_crowd(folder, "A"), make_toy_crowd(folder, "B")]
    return "\n".join(f"toy data: {path}" for path in made)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Prepare one data set."""
    parser = make_parser(
        "Bring a data set into the layout the configs read.", "python tools/prepare_data.py toy --root data"
    )
    parser.add_argument("dataset", choices=DATASETS, help="which data set")
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data folder (default: data)")
    args = parser.parse_args(argv)
    print(make_ready(args.dataset, args.root))


if __name__ == "__main__":
    main()
