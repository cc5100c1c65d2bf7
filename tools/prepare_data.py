"""Download, convert or generate a data set into the layout the configs read."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from classification.imagenet import prepare_imagenet
from classification.sources import download_cifar
from classification.toy import make_toy
from crowd_counting.prepare import prepare_shanghaitech
from crowd_counting.toy import make_toy_crowd
from ean_core.engine.cli import command, make_parser
from segmentation.toy import make_toy_voc
from segmentation.voc import prepare_voc2012


def toy(root: Path) -> str:
    """Generate every toy set; return lines that say where they lie."""
    folder = root / "toy"
    made = [make_toy_voc(folder), make_toy(folder, "folder"), make_toy(folder, "cifar100")]
    made += [make_toy_crowd(folder, "A"), make_toy_crowd(folder, "B")]
    return "\n".join(f"toy data: {path}" for path in made)


# name on the command line -> function of the data folder that returns what to print
DATASETS: dict[str, Callable[[Path], str]] = {
    "voc2012": prepare_voc2012,
    "cifar10": partial(download_cifar, "cifar10"),
    "cifar100": partial(download_cifar, "cifar100"),
    "imagenet": prepare_imagenet,
    "shanghaitech": prepare_shanghaitech,
    "toy": toy,
}


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Prepare one data set."""
    parser = make_parser(
        "Bring a data set into the layout the configs read.", "python tools/prepare_data.py toy --root data"
    )
    parser.add_argument("dataset", choices=DATASETS, help="which data set")
    parser.add_argument("--root", type=Path, default=Path("data"), help="the data folder (default: data)")
    args = parser.parse_args(argv)
    print(DATASETS[args.dataset](args.root))


if __name__ == "__main__":
    main()
