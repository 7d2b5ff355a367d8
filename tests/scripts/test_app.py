"""The page, in a real browser."""

import contextlib
import io
import json
import math
import re
import shutil
import signal
import socket
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from album import PHOTO, PROFILE
from conftest import assert_refused, command_of, run_script
from PIL import Image

from app import find_weights
from inference import Restorer
from inference.shipped import TASKS
from utils.errors import InputError

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def pages(tmp_path):
    """Starts pages with a common folder for temporary files; returns the process and the address of each."""
    pytest.importorskip("gradio", reason="pip install -r requirements-extra.txt")
    (tmp_path / "temporary").mkdir()
    with contextlib.ExitStack() as stack:

        def start(*options: object) -> tuple[subprocess.Popen, str]:
            """With no options, the weights of the project are offered."""
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = command_of("app.py", "--port", port, *options)
            command["env"] |= {"TMPDIR": str(tmp_path / "temporary")}
            process = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            stack.enter_context(process)
            stack.callback(process.kill)
            for line in process.stdout:
                if "Running on local URL" in line:
                    return process, f"http://127.0.0.1:{port}"
            pytest.fail("the page did not start")

        yield start


@pytest.fixture
def page_address(pages, small_weights):
    """The page's address while it runs."""
    return pages("--weights", small_weights)[1]


def status_of(url: str, data: bytes | None = None, **headers: str) -> int:
    """The status of the answer to a request."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code if error.headers["Access-Control-Allow-Origin"] is None else 0


def upload(address: str) -> None:
    """Upload a file, as the page does."""
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\nprivate\r\n--x--\r\n'
    assert status_of(f"{address}/gradio_api/upload", body, Content_Type="multipart/form-data; boundary=x") == 200


WRONG_CALLS = [
    b'{"data": []}',
    b'{"data": [1, 2, 3]}',
    b'{"data": [null, "no such weights", false]}',
    b'{"data": [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "best.pt", false]}',
    b'{"data": [{"path": "/etc/passwd.png", "meta": {"_type": "gradio.FileData"}}, "best.pt", false]}',
]


@pytest.mark.extra
def test_other_names_and_origins_are_refused_and_wrong_calls_take_one_line_each(pages, small_weights, tmp_path):
    process, address = pages("--weights", small_weights)
    port = address.split(":")[-1]
    for path in ("", "/config", "/gradio_api/info", "/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/theme.css"):
        for headers in ({"Host": f"evil.com:{port}"}, {"Origin": "http://evil.com"}, {"Sec_Fetch_Site": "cross-site"}):
            assert status_of(address + path, **headers) == 403, (path, headers)
    assert status_of(f"http://localhost:{port}/config", Origin=f"http://localhost:{port}") == 200
    assert status_of(f"{address}/gradio_api/file=/etc/passwd") == 403
    Image.fromarray(PHOTO).save(tmp_path / "private.png")
    private = {"path": str(tmp_path / "private.png"), "meta": {"_type": "gradio.FileData"}}
    calls = [*WRONG_CALLS, json.dumps({"data": [private, str(small_weights), False]}).encode()]
    for call in calls:
        url = f"{address}/gradio_api/run/restore_upload"
        assert status_of(url, call, Content_Type="application/json") == 500
    assert status_of(f"{address}/gradio_api/custom_component/%1b[31m/client/a/b") == 400
    process.terminate()
    lines = process.stdout.read().splitlines()
    assert len(lines) == len(calls), lines
    assert all(line.startswith("error: ") for line in lines)


@pytest.mark.extra
def test_uploads_are_private_and_removed_at_the_end_or_at_the_next_start(pages, small_weights, tmp_path):
    temporary = tmp_path / "temporary"
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process, address = pages("--weights", small_weights)
        upload(address)
        (folder,) = temporary.iterdir()  # that of a killed page before it is gone
        files = list(folder.rglob("*"))
        assert [path.read_text() for path in files if path.name == "a.png"] == ["private"]
        assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, *files)} == {0o700, 0o600}
        process.send_signal(number)
        assert process.wait(30) in (-signal.SIGKILL, 75, 130)
        assert folder.exists() == (number == signal.SIGKILL)
    assert list(temporary.iterdir()) == []


@pytest.mark.extra
def test_an_image_is_dropped_compared_and_downloaded(page_address, small_weights, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-extra.txt")
    if BROWSER is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    Image.fromarray(PHOTO).save(tmp_path / "photo.png", icc_profile=PROFILE)
    (tmp_path / "text.png").write_text("not an image")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=FLAGS.split())
        page = browser.new_page()
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_address)
        restore = page.get_by_role("button", name="Restore")
        restore.wait_for()

        page.set_input_files("input[type=file]", tmp_path / "text.png")
        page.get_by_text("text.png").first.wait_for()
        restore.click()
        page.get_by_text("not an image").wait_for()

        page.get_by_role("button", name="Clear").or_(page.get_by_label("Clear")).first.click()
        page.set_input_files("input[type=file]", tmp_path / "photo.png")
        page.get_by_text("photo.png").first.wait_for()
        restore.click()
        link = page.locator('a[download="restored_photo.png"]').first
        link.wait_for(timeout=120_000)
        restored = urllib.request.urlopen(link.get_attribute("href")).read()

        shown = page.locator(".slider-wrap img").last
        before = shown.get_attribute("style") or shown.evaluate("e => getComputedStyle(e).clipPath")
        box = page.locator(".slider-wrap").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2 - 60, middle, steps=5)
        page.mouse.up()
        assert (shown.get_attribute("style") or shown.evaluate("e => getComputedStyle(e).clipPath")) != before
        browser.close()
    assert all(url.startswith((page_address, "data:", "blob:")) for url in asked)
    with Image.open(io.BytesIO(restored)) as image:
        assert image.info["icc_profile"] == PROFILE
        expected = Restorer(small_weights, "cpu").restore(PHOTO).astype(int)
        assert np.abs(np.asarray(image) - expected).max() <= 1


@pytest.mark.extra
def test_the_page_offers_a_network_for_each_task(pages):
    _, address = pages()
    with urllib.request.urlopen(f"{address}/config") as answer:
        components = json.load(answer)["components"]
    (choices,) = [part["props"]["choices"] for part in components if part["type"] == "dropdown"]
    assert [value for _, value in choices] == list(TASKS)


def test_only_weights_that_load_are_offered(small_weights, tmp_path, capsys):
    content = small_weights.read_bytes()
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("last.pt", "best.pt", "last.previous.pt"):
        (folder / name).write_bytes(content)
    checkpoint = torch.load(small_weights, weights_only=True)
    torch.save({"optimizer": torch.zeros(3)}, folder / "optimizer.pt")
    torch.save(checkpoint | {"model": checkpoint["model"] | {"more": torch.zeros(1)}}, folder / "another.pth")
    checkpoint["model"]["heads.2.bias"] += math.nan
    torch.save(checkpoint, folder / "diverged.pt")
    (folder / "last.damaged.pt").write_bytes(content[: len(content) // 2])
    (folder / "text.pkl").write_text("text")
    (folder / "empty.safetensors").touch()
    (folder / "notes.txt").write_text("text")
    assert [Path(name).name for name in find_weights([tmp_path])] == ["best.pt", "last.previous.pt", "last.pt"]
    notes = capsys.readouterr().err.splitlines()
    unusable = ("another.pth", "diverged.pt", "empty.safetensors", "last.damaged.pt", "optimizer.pt", "text.pkl")
    assert len(notes) == len(unusable)
    for note, name in zip(notes, unusable, strict=True):
        assert note.startswith(f"note: left out: {folder / name}: ")
    with pytest.raises(InputError, match=re.escape("last.damaged.pt")):
        find_weights([folder / "best.pt", folder / "last.damaged.pt"])


def test_a_page_without_weights_says_so(tmp_path):
    assert_refused(run_script("app.py", "--weights", tmp_path), "no weights", tmp_path)
