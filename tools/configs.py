"""List the configs that come with the package, by the names that every command takes."""

from __future__ import annotations

from collections.abc import Sequence

from ean_core.engine.cli import command, make_parser
from ean_core.engine.shipped import CONFIGS, config_names


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print the names, then where the files lie."""
    make_parser(
        f"{__doc__}\n\nThe part behind the folder is enough where it is the name of one config only.",
        "python tools/configs.py",
    ).parse_args(argv)
    for name in config_names():
        print(name)
    print(f"files: {CONFIGS}")


if __name__ == "__main__":
    main()
