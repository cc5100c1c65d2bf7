"""Importing MMSegmentation without the lines and warnings that it prints."""

from __future__ import annotations

import contextlib
import io
import warnings


def import_mmseg() -> None:
    """Import and register MMSegmentation's models, data sets and metrics, and our transforms, which it builds."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from mmseg.utils import register_all_modules

        register_all_modules(init_default_scope=False)
        import segmentation.transforms  # noqa: F401
