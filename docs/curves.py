"""Draw docs/curves.png: what TensorBoard shows of a training.

    python docs/curves.py --logdir runs --output docs/curves.png

Needs the Chromium of Debian (apt-get install chromium) and requirements-extra.txt.
"""

import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))  # as for the scripts there

from utils.cli import ScriptParser
from utils.errors import InputError, run_script
from utils.files import write_atomically

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTH = 1400  # pixels
# A page of TensorBoard, the curves to show, and the rows of pixels to keep.
PAGES = [
    ("custom_scalars", "", (0, 420)),
    ("timeseries", "epoch/(loss_total|images|waiting)|made_worse|/hard ", (64, 1380)),
]


def main() -> None:
    parser = ScriptParser(description="Draw what TensorBoard shows of a training.")
    parser.add_argument("--logdir", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--output", type=Path, default=Path("docs/curves.png"), help="image to write")
    args = parser.parse()
    if BROWSER is None:
        raise InputError("there is no chromium: apt-get install chromium")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(args.logdir), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))
            parts = photographed(address)
        finally:
            server.terminate()
    sheet = Image.new("RGB", (WIDTH, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    content = io.BytesIO()
    sheet.quantize(96).save(content, "PNG", optimize=True)
    write_atomically(args.output, content.getvalue())


def photographed(address: str) -> list[Image.Image]:
    """Screenshots of ``PAGES``."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 1400})
        # Without the list of runs
        page.add_init_script("localStorage.setItem('_tb_global_settings', JSON.stringify({sideBarWidthInPercent: 0}))")
        parts = []
        for name, curves, (top, bottom) in PAGES:
            page.goto("about:blank")  # a change of the part after # alone would not load the page
            page.goto(f"{address}?{urlencode({'tagFilter': curves, 'smoothing': 0})}#{name}")
            page.wait_for_load_state("networkidle")
            page.get_by_text("Ignore outliers in chart scaling").click()
            for close in page.get_by_role("button", name="Close").all():  # the settings
                close.click()
            page.wait_for_timeout(5000)  # charts draw themselves slowly
            screen = Image.open(io.BytesIO(page.screenshot()))
            parts.append(screen.convert("RGB").crop((0, top, WIDTH, bottom)))
        browser.close()
    return parts


if __name__ == "__main__":
    run_script(main)
