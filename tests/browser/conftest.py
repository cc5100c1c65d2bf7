"""A browser, and a page in it whose requests and complaints are noted."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ean_testing.web import Web, networks, searched, serving

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
WINDOWS = {"light, wide": ("light", 1200), "dark, a phone": ("dark", 390)}


class Visit(NamedTuple):
    """A page of a browser.

    Attributes:
        page: Playwright's.
        home: The address of the page under test.
        complaints: What the browser wrote to its console as an error, and errors of scripts; a test that expects some
            takes them out.
    """

    page: Any
    home: str
    complaints: list[str]

    def go(self, path: str) -> None:
        """Open an address."""
        self.page.goto(self.home + path)

    def check(self) -> None:
        """That all pictures are there, and nothing is wider than the window."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function("() => [...document.images].every((image) => image.complete)")
        assert self.page.evaluate("[...document.images].filter((image) => !image.naturalWidth).map((i) => i.src)") == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; the tests of this folder are skipped where it, or Playwright, is not there."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'ean[test-browser]'")
    if CHROMIUM is None:
        pytest.skip("no browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def work_dirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work_dirs")
    searched(folder / "first")
    searched(folder / "second", strategy="genetic")
    return folder


@pytest.fixture(scope="session")
def web(browser: Any, tmp_path_factory: pytest.TempPathFactory, work_dirs: Path) -> Iterator[Web]:
    pytest.importorskip("fastapi", reason="the extra demo is not installed")
    with serving(networks(tmp_path_factory.mktemp("checkpoints")), [work_dirs]) as found:
        yield found


@pytest.fixture(params=WINDOWS.values(), ids=WINDOWS)
def visit(request: pytest.FixtureRequest, browser: Any, web: Web) -> Iterator[Visit]:
    """A new window; in the end nothing was asked of another host, and the console is empty."""
    colours, width = request.param
    context = browser.new_context(
        color_scheme=colours, viewport={"width": width, "height": 800}, permissions=["camera"]
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    home, asked = f"http://127.0.0.1:{web.port}", []
    found = Visit(page, home, [])
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("console", lambda said: found.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    yield found
    found.check()
    assert [address for address in asked if not address.startswith((f"{home}/", f"blob:{home}/"))] == []
    assert found.complaints == []
    context.close()
