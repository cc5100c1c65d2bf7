"""What a run ran with."""

from __future__ import annotations

import platform
from typing import Any

import torch

from ean_core.doctor import installed_versions


def environment() -> dict[str, Any]:
    """Versions and device, as written to ``environment.json``."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "packages": installed_versions(),
    }
