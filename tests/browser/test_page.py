"""The page in a real browser: every tab, with the mouse and with the keyboard, wide and on a phone."""

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from ean_testing.web import LIMITS, encoded, film, networks, picture, searched, serving

IMAGE = {"name": "a.png", "mimeType": "image/png", "buffer": encoded(picture(80, 120))}
DROP = """([area, data]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const files = new DataTransfer();
    files.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
    area.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: files }));
}"""


def only(page: Any, *networks: str) -> None:
    """Choose these networks."""
    for box in page.locator("[name=network]").all():
        box.set_checked(box.get_attribute("value") in networks)


def test_every_tab_by_keyboard(visit: Any) -> None:
    visit.go("/")
    page = visit.page
    for name, path in (
        ("Look inside", "/inside"),
        ("Schemes", "/schemes"),
        ("Searches", "/searches"),
        ("Predict", "/"),
    ):
        for _ in range(8):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent.trim()") == name:
                break
        page.keyboard.press("Enter")
        page.wait_for_url(visit.home + path)
        assert page.locator("h1").inner_text() == name
        assert page.locator("nav [aria-current=page]").inner_text() == name
        visit.check()


def test_predict(visit: Any) -> None:
    visit.go("/")
    page = visit.page
    page.set_input_files("#file", IMAGE)
    page.wait_for_selector(".card")
    assert page.locator(".card").count() == 3
    visit.check()

    masks = page.locator(".card", has_text="seg").first
    slider = masks.locator("[data-opacity]")
    slider.focus()
    before = float(masks.locator(".layer").evaluate("(layer) => getComputedStyle(layer).opacity"))
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    after = float(masks.locator(".layer").evaluate("(layer) => getComputedStyle(layer).opacity"))
    assert (round(before, 2), round(after, 2)) == (0.6, 0.7)

    with page.expect_download() as download:
        masks.get_by_text("labels.png").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_a_video_is_played(visit: Any, tmp_path: Path) -> None:
    visit.go("/")
    page = visit.page
    only(page, "seg")
    data = film(tmp_path / "a.mp4", 3, (96, 64))
    page.set_input_files("#file", {"name": "a.mp4", "mimeType": "video/mp4", "buffer": data})
    video = page.locator(".card video")
    video.wait_for()
    video.evaluate("(video) => video.play()")
    page.wait_for_function("() => document.querySelector('.card video').currentTime > 0")
    shown, said = video.evaluate("(v) => [[v.videoWidth, v.videoHeight], [v.width, v.height]]")
    assert shown == [side // 2 * 2 for side in said]
    assert video.evaluate("(video) => video.duration") == pytest.approx(0.3, abs=0.02)


def test_the_count_in_a_rectangle(visit: Any) -> None:
    visit.go("/")
    page = visit.page
    only(page, "crowd")
    page.set_input_files("#file", IMAGE)
    output = page.locator(".card output")
    page.fill(".card [name=right]", "60")
    output.locator("strong").wait_for()
    left = float(output.locator("strong").inner_text())
    page.fill(".card [name=left]", "60")
    page.fill(".card [name=right]", "120")
    page.wait_for_function(
        "(before) => document.querySelector('output strong').textContent !== before", arg=f"{left:.2f}"
    )
    right = float(output.locator("strong").inner_text())
    count = float(page.locator(".answer").inner_text().split()[0])
    assert abs(left + right - count) < 0.07

    view = page.locator(".view")
    view.scroll_into_view_if_needed()
    area = view.bounding_box()
    page.mouse.move(area["x"] + 0.25 * area["width"], area["y"] + 0.5 * area["height"])
    page.mouse.down()
    page.mouse.move(area["x"] + 0.75 * area["width"], area["y"] + 0.9 * area["height"], steps=3)
    page.mouse.up()
    given = [float(page.input_value(f".card [name={name}]")) for name in ("left", "top", "right", "bottom")]
    assert all(abs(a - b) <= 1 for a, b in zip(given, (30, 40, 90, 72), strict=True))
    box = page.locator(".box").bounding_box()
    assert abs(box["width"] - 0.5 * area["width"]) < 6
    page.wait_for_load_state("networkidle")
    assert re.fullmatch(r"[\d.]+ people inside", output.inner_text())


def test_dropped_and_taken_with_the_camera(visit: Any) -> None:
    visit.go("/")
    page = visit.page
    only(page, "cls")
    area = page.locator(".drop")
    page.evaluate(DROP, [area.element_handle(), base64.b64encode(IMAGE["buffer"]).decode()])
    page.wait_for_selector(".card")
    first = page.locator(".card").get_attribute("data-word")
    page.click("text=Use the camera")
    page.click("text=Take the picture")
    page.wait_for_function("(first) => document.querySelector('.card').dataset.word !== first", arg=first)


def test_what_cannot_be_read_is_said(visit: Any) -> None:
    visit.go("/")
    page = visit.page
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no image"})
    page.get_by_text("This is no image that can be read here").wait_for()
    assert len(visit.complaints) == 1  # the browser notes the status of the answer
    visit.complaints.clear()
    page.set_input_files("#file", {**IMAGE, "buffer": bytes(LIMITS.upload_bytes + 1)})
    page.get_by_text("The file has 2 MiB, more than 1: choose a smaller one.").wait_for()
    page.set_input_files("#file", IMAGE)
    page.wait_for_selector(".card")


def test_look_inside(visit: Any) -> None:
    visit.go("/inside")
    page = visit.page
    only(page, "cls")
    page.fill("[name=target]", "owl")
    page.select_option("[name=stage]", "2")
    page.set_input_files("#file", IMAGE)
    page.wait_for_selector("#answers img")
    assert page.locator("#answers img").count() == 2
    page.click("summary")
    assert page.locator("#answers tbody tr").count() == 2
    visit.check()


def test_schemes(visit: Any) -> None:
    visit.go("/schemes")
    page = visit.page
    page.wait_for_selector("text=Measured on this machine")
    assert page.locator("code.scheme").inner_text() == "1-0-1"
    page.focus("[name=block][value='1']")
    page.keyboard.press("Space")
    page.locator("code.scheme", has_text="1-1-1").wait_for()
    page.click("text=none >> nth=0")
    page.locator("code.scheme", has_text="0-0-0").wait_for()
    page.wait_for_selector("text=Measured on this machine")
    page.select_option("[name=network]", "seg")
    page.wait_for_url("**/schemes?network=seg")
    page.locator("code.scheme", has_text="10-01-11-10").wait_for()
    page.wait_for_selector("text=Measured on this machine")


def test_a_search_while_it_runs(visit: Any, work_dirs: Path) -> None:
    log = work_dirs / "first" / "search.jsonl"
    whole = log.read_text()
    lines = whole.splitlines(keepends=True)
    try:
        log.write_text("".join(lines[:5]))
        visit.go("/searches")
        page = visit.page
        page.get_by_text("5 candidates").wait_for()
        page.wait_for_selector("#comparison img")
        log.write_text("".join(lines[:12]))
        page.get_by_text("12 candidates").wait_for()
        visit.check()
        page.locator("#search table a").first.click()
        page.wait_for_url("**/schemes?**")
    finally:
        log.write_text(whole)


def test_a_rectangle_beyond_the_picture(visit: Any) -> None:
    """What is typed is counted, not what was typed before it; an empty field is told."""
    visit.go("/")
    page = visit.page
    only(page, "crowd")
    page.set_input_files("#file", IMAGE)
    form = page.locator(".card form.rectangle")
    form.locator("[name=right]").fill("60")
    page.wait_for_function("() => document.querySelector('.rectangle output').textContent.includes('inside')")
    half = form.locator("output").inner_text()
    form.locator("[name=right]").fill("9999")
    page.wait_for_function(
        "(half) => document.querySelector('.rectangle output').textContent.trim() !== half", arg=half
    )
    view, box = (page.locator(f".card {name}").bounding_box() for name in (".view", ".box"))
    assert box["x"] + box["width"] <= view["x"] + view["width"] + 1
    form.locator("[name=right]").fill("")
    page.wait_for_selector(".rectangle output .error")
    assert "right" in form.locator("output").inner_text()
    visit.complaints.clear()  # the browser notes the answer 422


def test_long_names(browser: Any, tmp_path: Path) -> None:
    """No name makes a page wider than the window of a phone."""
    names = ["a_very_long_name_" * 12, "short"]
    for name in names:
        searched(tmp_path / name)
    (tmp_path / "networks").mkdir()
    found = networks(tmp_path / "networks")
    with serving(dict(zip(names, [found["seg"], found["crowd"]], strict=True)), [tmp_path]) as web:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        for path in ("/", "/inside", "/schemes", "/searches"):
            page.goto(f"http://127.0.0.1:{web.port}{path}", wait_until="load")
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
        page.close()
