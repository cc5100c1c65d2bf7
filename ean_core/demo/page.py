"""What all addresses of the page share: the networks, the searches, the queue, the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, select_autoescape
from mmengine.config import Config
from starlette.responses import HTMLResponse, Response

from ean_core.demo.kept import Kept
from ean_core.demo.limits import Limits
from ean_core.demo.queue import Queue
from ean_core.demo.schemes import Lab
from ean_core.demo.searches import Searches
from ean_core.errors import UserError
from ean_core.inference import Predictor
from ean_core.search.made_with import CONFIG, searched_config

TABS = {"/": "Predict", "/inside": "Look inside", "/schemes": "Schemes", "/searches": "Searches"}


class Page:
    """The state of a running page.

    Args:
        networks: Loaded checkpoints, by the name that the page shows.
        work_dirs: Folders with searches.
        limits: The page's.
        device: Where schemes are timed.
    """

    def __init__(
        self, networks: Mapping[str, Predictor], work_dirs: Sequence[Path], limits: Limits, device: torch.device
    ) -> None:
        self.networks, self.limits, self.device = dict(networks), limits, device
        self.queue, self.kept, self.searches = Queue(limits), Kept(limits), Searches(work_dirs)
        self._labs: dict[str, tuple[int, Lab]] = {}
        self._templates = Environment(
            loader=PackageLoader("ean_core.demo", "pages"),
            autoescape=select_autoescape(),
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(tabs=TABS, limits=limits)

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """A template as an answer."""
        return HTMLResponse(self._templates.get_template(template).render(**values), status)

    def chosen(self, names: Sequence[str]) -> dict[str, Predictor]:
        """The networks of these names, those that there are.

        Raises:
            UserError: There is none.
        """
        found = {name: self.networks[name] for name in dict.fromkeys(names) if name in self.networks}
        if not found:
            raise UserError("Choose a network." if self.networks else "This page was started without a checkpoint.")
        return found

    def offered(self) -> dict[str, tuple[Config, Path | None]]:
        """The networks whose blocks can be switched: of checkpoints, and of searches that have a trained supernet."""
        found: dict[str, tuple[Config, Path | None]] = {}
        for name, predictor in self.networks.items():
            if (predictor.cfg.model.get("backbone") or {}).get("attention") is not None:
                found[name] = (predictor.cfg, None)
        for name, path in self.searches.find().items():
            try:
                cfg = searched_config(path)
            except (UserError, OSError):  # its supernet is not trained yet
                continue
            if cfg.search.get("type", "schemes") == "schemes":
                found[f"search {name}"] = (cfg, path)
        return found

    def lab(self, name: str) -> Lab:
        """The network of a name; it is made once.

        Raises:
            UserError: There is none, or it has no blocks to connect.
        """
        known = self.offered()
        if name not in known:
            raise UserError("There is no network of that name whose blocks can be connected.")
        cfg, path = known[name]
        made = (path / CONFIG).stat().st_mtime_ns if path is not None else 0
        if name not in self._labs or self._labs[name][0] != made:  # a search of that name may be another one by now
            self._labs[name] = (made, Lab(cfg, path, self.device))
        return self._labs[name][1]
