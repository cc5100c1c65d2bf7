"""``config.py`` in a search's folder: its complete config, for what is done beside it and with its result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from ean_core.engine.config import read_config
from ean_core.errors import UserError
from ean_core.files import write_atomic

CONFIG, NOTE = "config.py", "searched"


def note_config(cfg: Config, work_dir: Path, options: Sequence[str]) -> None:
    """Write the complete config of a search that begins, with an entry on where it comes from.

    Args:
        cfg: The config.
        work_dir: The search's folder.
        options: What another command needs besides to find the same data, e.g. ``["--toy"]``.
    """
    note = {"config": str(cfg.filename or ""), "options": list(options)}
    write_atomic(work_dir / CONFIG, Config({**cfg._cfg_dict.to_dict(), NOTE: note}).pretty_text)


def searched_config(work_dir: Path) -> Config:
    """The config that :func:`note_config` has written.

    Raises:
        UserError: There is none.
    """
    path = work_dir / CONFIG
    if not path.is_file():
        raise UserError(
            f"'{path}' is missing, which says how the search was made: give the command of the search again with "
            "--resume, which writes it"
        )
    cfg = read_config(path)
    if not isinstance(cfg.get(NOTE), dict) or not isinstance(cfg.get("search"), dict):
        raise UserError(f"'{path}' is no config that a search has written")
    return cfg
