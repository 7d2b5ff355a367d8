"""The page in headless Chromium: what a user does with it, on a screen and on a phone."""

import contextlib
import io
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from album import CHELSEA, PHOTO, PROFILE, save_image
from clips import pan, write_clip
from conftest import run_script
from page_server import started_page
from PIL import Image

from inference.page.tasks import TASKS
from inference.shipped import shipped_weights

pytestmark = pytest.mark.extra
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
LARGE = np.tile(CHELSEA, (3, 3, 1))  # takes seconds
SECONDS = 120_000  # milliseconds to wait for a result


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A page that offers the tasks, and a browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-extra.txt")
    if BROWSER is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    with contextlib.ExitStack() as stack:
        process, address = started_page(stack, tmp_path_factory.mktemp("temporary"))
        driver = stack.enter_context(playwright.sync_playwright())
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS.split())
        stack.callback(browser.close)
        yield SimpleNamespace(process=process, address=address, browser=browser)


@contextlib.contextmanager
def opened(server: SimpleNamespace, **options: object) -> Iterator:
    """The page in a new window; it must ask for nothing from elsewhere, and its script must not fail."""
    context = server.browser.new_context(**options)
    page = context.new_page()
    asked, faults = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto(server.address)
    page.get_by_role("button", name="Restore").wait_for()
    yield page
    context.close()
    assert faults == []
    assert all(url.startswith((server.address, "data:", "blob:")) for url in asked)


def drop(page, *files: Path) -> None:
    page.set_input_files("input[type=file]", files)
    page.get_by_text(files[-1].suffix).first.wait_for()
    page.get_by_text(re.compile("Uploading")).wait_for(state="detached")


def restore(page, *names: str) -> list[bytes]:
    """Press the button; returns the results."""
    page.get_by_role("button", name="Restore").click()
    return [downloaded(page, f"restored_{name}") for name in names]


def downloaded(page, name: str) -> bytes:
    link = page.locator(f'a[download="{name}"]').first
    link.wait_for(timeout=SECONDS)
    return fetched(link.get_attribute("href"))


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def restored_by_script(folder: Path, *arguments: object) -> Path:
    result = run_script("restore.py", *arguments, "--output", folder)
    assert result.returncode == 0, result.stderr
    return folder


def clip_of(page) -> str:
    return page.get_by_alt_text("After").evaluate("image => image.style.clipPath")


def test_an_image_is_dropped_compared_and_downloaded(server, tmp_path):
    photo = save_image(tmp_path / "photo.jpg", CHELSEA, icc_profile=PROFILE, quality=95)
    with opened(server) as page:
        page.get_by_label("Deraining").check()
        drop(page, photo)
        (content,) = restore(page, "photo.jpg")
        script = restored_by_script(tmp_path / "out", "--task", "deraining", "--input", photo)
        assert content == (script / "photo.jpg").read_bytes()

        views = []
        for name in ("Before", "After"):  # PNG at the image's own resolution
            view = page.get_by_alt_text(name)
            view.evaluate("image => image.decode()")
            size = view.evaluate("image => [image.naturalWidth, image.naturalHeight]")
            assert size == [CHELSEA.shape[1], CHELSEA.shape[0]]
            with Image.open(io.BytesIO(fetched(server.address + view.get_attribute("src")))) as image:
                assert (image.format, image.info["icc_profile"]) == ("PNG", PROFILE)
                views.append(np.asarray(image))
        np.testing.assert_array_equal(views[0], np.asarray(Image.open(photo)))
        assert np.abs(views[1].astype(int) - np.asarray(Image.open(io.BytesIO(content)))).mean() < 2

        about = page.locator(".details").inner_text()
        assert "photo.jpg · 451 × 300 · " in about
        assert re.search(r" · deraining\.safetensors \(SHA-256 [0-9a-f]{8}\) · on CPU$", about)

        page.mouse.wheel(0, 10_000)
        before, box = clip_of(page), page.locator(".frame").bounding_box()
        centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*centre)
        page.mouse.down()
        page.mouse.move(centre[0] - 60, centre[1], steps=5)
        page.mouse.up()
        pixels = [float(re.search(r"([\d.]+)px\)$", clip)[1]) for clip in (before, clip_of(page))]
        assert pixels[0] - pixels[1] == pytest.approx(60, abs=2)
        page.get_by_role("slider", name="Before and after").press("ArrowRight")
        assert float(re.search(r"([\d.]+)px\)$", clip_of(page))[1]) > pixels[1]

        page.get_by_role("button", name="1:1").click()
        assert page.get_by_alt_text("After").bounding_box()["width"] == pytest.approx(CHELSEA.shape[1])
        for _ in range(8):
            page.get_by_role("button", name="Zoom in").click()
        assert page.locator(".scale").inner_text() == "800 %"
        assert page.locator(".frame").evaluate("frame => frame.scrollWidth") == 8 * CHELSEA.shape[1]
        assert page.locator(".frame").bounding_box()["width"] <= 1100
        page.get_by_role("button", name="Fit").click()
        assert page.locator(".frame").evaluate("frame => frame.scrollWidth <= frame.clientWidth")


def test_several_files_are_restored_chosen_and_downloaded_as_zip(server, tmp_path):
    photo = save_image(tmp_path / "photo.png", PHOTO)
    deep = tmp_path / "deep.tif"
    cv2.imwrite(str(deep), PHOTO.astype(np.uint16) * 257)
    clip = write_clip(tmp_path / "clip.mp4", pan(4), sound=True)
    broken = tmp_path / "<i>broken.png"
    broken.write_text("not an image")
    with opened(server) as page:
        drop(page, photo, broken, deep, clip)
        contents = restore(page, "photo.png", "deep.tif", "clip.mp4")
        script = restored_by_script(tmp_path / "out", "--task", "dehazing", "--input", photo, deep, clip)
        assert contents == [(script / name).read_bytes() for name in ("photo.png", "deep.tif", "clip.mp4")]
        page.get_by_text("broken.png: not an image").wait_for()
        assert page.locator("i").count() == 0

        with page.expect_download() as download:
            page.get_by_role("button", name="Download all as zip").or_(page.get_by_text("Download all as zip")).click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert [archive.read(f"restored_{name}") for name in ("photo.png", "deep.tif", "clip.mp4")] == contents

        choice = page.get_by_label("Result to show")
        assert choice.locator("option").all_inner_texts() == ["photo.png", "deep.tif", "clip.mp4"]
        choice.select_option("clip.mp4")
        assert "clip.mp4 · 96 × 64" in page.locator(".details").inner_text()
        page.wait_for_function("document.querySelector('video').readyState >= 2")
        choice.select_option("photo.png")
        assert not page.locator("video").is_visible()


def test_a_broken_file_is_told_in_the_page_s_own_words_and_stays_until_it_is_read(server, tmp_path):
    (tmp_path / "holiday.png").write_text("not an image")
    with opened(server) as page:
        page.get_by_role("button", name="Restore").click()
        page.get_by_text("Drop an image or a video first.").wait_for()
        drop(page, tmp_path / "holiday.png")
        restore(page)
        message = page.get_by_text("holiday.png: not an image")
        message.wait_for()
        assert "/" not in message.inner_text()
        page.get_by_role("button", name="Restore").wait_for()  # again, in place of the one to cancel


def test_work_is_cancelled_and_the_page_goes_on(server, tmp_path):
    large, small = save_image(tmp_path / "large.png", LARGE), save_image(tmp_path / "small.png", PHOTO)
    with opened(server) as page:
        page.get_by_label("Self-ensemble").check()
        drop(page, small, large)
        page.get_by_role("button", name="Restore").click()
        page.get_by_text(re.compile(r"large\.png \(2 of 2\), about .* left")).wait_for(timeout=SECONDS)
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Cancelled: 1 of 2 restored.").wait_for(timeout=20_000)
        downloaded(page, "restored_small.png")
        assert page.locator('a[download="restored_large.png"]').count() == 0
        page.get_by_label("Self-ensemble").uncheck()
        page.get_by_label("Defocus").check()
        page.get_by_role("button", name="Restore").click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Restore").wait_for(timeout=SECONDS)


def test_closing_the_page_ends_its_work(server, tmp_path):
    large = save_image(tmp_path / "large.png", LARGE)
    with opened(server) as page:
        page.get_by_label("Self-ensemble").check()
        drop(page, large)
        page.get_by_role("button", name="Restore").click()
        page.get_by_text("large.png, about").wait_for(timeout=SECONDS)
    with opened(server) as page:  # one works at a time
        drop(page, save_image(tmp_path / "small.png", PHOTO))
        page.get_by_role("button", name="Restore").click()
        link = page.locator('a[download="restored_small.png"]').first
        link.wait_for(timeout=15_000)


def test_on_a_phone_each_task_restores_its_example_without_scrolling_sideways(server, tmp_path):
    with opened(server, **PHONE) as page:
        for task, about in TASKS.items():
            line = page.get_by_text(about.line)
            assert line.is_visible()
            thumbnail = page.get_by_label(task.capitalize()).evaluate(
                "input => getComputedStyle(input.closest('label'), '::before').backgroundImage"
            )
            assert thumbnail.startswith('url("data:image/jpeg')
        page.get_by_label("Desnowing").check()
        page.get_by_role("button", name="Try the example").tap()
        content = downloaded(page, "restored_desnowing_example.png")
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        for part in page.locator("button:visible, select:visible, .stage, .details").all():
            box = part.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        assert page.locator(".frame").evaluate("frame => getComputedStyle(frame).touchAction") == "pan-y pinch-zoom"
        example = tmp_path / "example.png"
        example.write_bytes(fetched(server.address + page.get_by_alt_text("Before").get_attribute("src")))
    weights = shipped_weights("desnowing")
    script = restored_by_script(tmp_path / "out", "--weights", weights, "--input", example)
    np.testing.assert_array_equal(
        cv2.imread(str(script / "example.png")), cv2.imdecode(np.frombuffer(content, np.uint8), 1)
    )
