"""Restored videos in a browser: Chromium plays them to the end and shows the frames."""

import base64
import shutil

import numpy as np
import pytest
from clips import SIZE, Decoded, pan, write_clip
from conftest import run_script

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")

# Plays a video given as data, and returns its size, its duration and the mean colour of its last frame.
PLAY = """
async (source) => {
    const video = document.createElement("video");
    video.muted = true;
    const ended = new Promise((resolve, reject) => {
        video.onended = resolve;
        video.onerror = () => reject(video.error.message);
    });
    video.src = source;
    await video.play();
    await ended;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const values = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const sums = [0, 0, 0];
    values.forEach((value, index) => { if (index % 4 < 3) sums[index % 4] += value; });
    return [canvas.height, canvas.width, video.duration, ...sums.map((sum) => sum / canvas.width / canvas.height)];
}
"""

SOURCES = {
    "plain.mp4": {"sound": True},
    "bt601.mp4": {"matrix": 6, "primaries": 6, "transfer": 6},
    "full.mp4": {"colour_range": 2},
    "odd.mkv": {"codec": "ffv1", "size": (45, 63)},
    "deep.mp4": {"codec": "libx265", "pixel_format": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    "turned.mov": {"rotation": 90},
}


@pytest.mark.extra
@pytest.mark.skipif(BROWSER is None, reason="there is no chromium: apt-get install chromium")
def test_chromium_plays_restored_videos(identity_weights, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install -r requirements-extra.txt")
    for name, arguments in SOURCES.items():
        arguments = dict(arguments)
        write_clip(tmp_path / "in" / name, pan(8, arguments.pop("size", SIZE)), **arguments)
    folders = ("--input", tmp_path / "in", "--output", tmp_path / "out")
    assert run_script("restore.py", "--weights", identity_weights, *folders).returncode == 0
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        for name in SOURCES:
            path, source = tmp_path / "out" / name, Decoded(tmp_path / "in" / name)
            content = base64.b64encode(path.read_bytes()).decode()
            kind = "x-matroska" if path.suffix == ".mkv" else "mp4"
            height, width, duration, *colour = page.evaluate(PLAY, f"data:video/{kind};base64,{content}")
            size = source.traits["size"]
            assert (height, width) == (size[::-1] if name == "turned.mov" else size), name
            assert duration == pytest.approx(8 / 25, abs=0.03), name
            np.testing.assert_allclose(colour, source.images[-1].mean((0, 1)), atol=3, err_msg=name)
        browser.close()
