"""The page as a process: networks are loaded, limits are said, and it serves until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ean_core.demo.limits import LOOPBACK, Limits
from ean_core.errors import UserError
from ean_core.inference import Predictor, load
from ean_core.inference.predictor import find_device
from ean_core.terminal import print_line

GRACE = 5  # seconds for answers under way when the page is stopped


def serve(
    checkpoints: Sequence[str],
    work_dirs: Sequence[str],
    *,
    host: str = LOOPBACK[0],
    port: int = 7860,
    password: str | None = None,
    device: str | None = None,
    trust: Sequence[str] = (),
) -> None:
    """Load networks and serve the page until a signal ends it.

    Args:
        checkpoints: Files, as a training writes them.
        work_dirs: Folders of searches, or folders that hold such.
        host: The address to listen at; any but this machine's own lets others in.
        port: 0: a free one.
        password: Which a browser asks for.
        device: See :func:`ean_core.inference.load`.
        trust: See there.

    Raises:
        UserError, OSError: The extra ``demo`` is missing, a checkpoint cannot be loaded, there is no such folder, or
            the port is taken.
    """
    uvicorn, build_app = _need()
    missing = next((folder for folder in work_dirs if not Path(folder).is_dir()), None)
    if missing is not None:
        raise FileNotFoundError(f"there is no folder '{missing}': name the work directory of a search")
    if password == "":
        raise UserError("--password is empty: anybody could enter; name one, or leave the option out")
    if not host:
        raise UserError("--host is empty: name an address of this machine, or 0.0.0.0 for all of them")
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port must lie in 0..65535, got {port}")
    networks = load_networks(checkpoints, device, trust)
    local = host in LOOPBACK
    limits = Limits()
    folders, hosts = [Path(folder) for folder in work_dirs], LOOPBACK if local else None
    app = build_app(
        networks, folders, limits=limits, device=find_device(device), password=password, hosts=hosts
    )  # fmt: skip
    logging.getLogger("ean_core.demo").addHandler(logging.StreamHandler())
    # what fails is logged by the page itself, once
    # Its own log_config would close the log files of whatever else runs in this process.
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app, host, port, log_config=None, access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=limits.connections, timeout_graceful_shutdown=GRACE,
    )  # fmt: skip
    with listening(host, port) as bound:
        shown = f"[{host}]" if ":" in host else host
        if not local and password is None:
            print_line("note", "everybody who reaches this address can use the networks and see the searches; "
                               "--password asks them for one")  # fmt: skip
        print_line("page", f"http://{shown}:{bound.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[bound])


def _need() -> tuple[ModuleType, Any]:
    """uvicorn, and the function that builds the page."""
    try:
        import python_multipart  # noqa: F401  # FastAPI reads forms with it
        import uvicorn

        from ean_core.demo.app import build_app
    except ImportError as error:
        if (error.name or "").startswith("ean_core"):
            raise
        raise UserError(f"the page needs further packages: pip install 'ean[demo]' ({error})") from error
    return uvicorn, build_app


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 is a free one.

    Raises:
        UserError: It cannot.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise UserError(f"--host {host} --port {port} cannot be listened at ({reason}): choose others") from error


def load_networks(checkpoints: Sequence[str], device: str | None, trust: Sequence[str]) -> dict[str, Predictor]:
    """The networks of checkpoints, by the ends of their paths, which are longer where two are the same."""
    paths = list(dict.fromkeys(map(Path, checkpoints)))
    length = 2
    while len({path.parts[-length:] for path in paths}) < len(paths):
        length += 1
    names = ["/".join(path.with_suffix("").parts[-length:]) for path in paths]
    names = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths, strict=True)]
    return {name: load(checkpoint=path, device=device, trust=trust) for name, path in zip(names, paths, strict=True)}
