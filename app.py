"""Local web page for restoring single images: drop an image, compare before and after with a slider, download.

    python app.py
    python app.py --weights runs/ --port 7860

Offers the weights that come with this project, one for each task, or those in --weights. Requires the packages in
requirements-extra.txt (`make app` installs them). The server listens on 127.0.0.1 only and answers nobody but pages of
its own. Uploads and results lie in a folder that only this user can read; it is removed at the end, or at the next
start if the process was killed.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import functools
import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from data.folders import walk
from inference.folders import converted
from inference.photo_files import SUFFIXES, read_photograph
from inference.photo_writing import check_writable, write_photograph
from inference.restorer import Restorer
from inference.shipped import TASKS, shipped_weights
from models import load_model
from utils.cli import ScriptParser, number_type
from utils.errors import InputError, printable, run_script
from utils.local_server import HOST, listen, private_folder, serve

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # must be set before gradio is imported

WEIGHTS_SUFFIXES = {".pt", ".pth", ".pkl", ".safetensors"}
MAX_UPLOAD = "100mb"
MAX_MEGAPIXELS = 100
PREVIEW = 1600  # longer side of the preview in pixels; the download has full resolution
KEPT_SECONDS = 3600  # uploads and results are deleted from disk after this time


def find_weights(paths: list[Path]) -> dict[str, Path]:
    """Weights files among ``paths`` and in folders of it, keyed by displayed name, sorted (``best`` before ``last``).

    A file in a folder that cannot be loaded, such as a damaged checkpoint, is left out with a note on stderr.

    Raises:
        InputError: no weights were found, or a file in ``paths`` cannot be loaded.
    """
    found = {}
    for path in paths:
        files = [parent / name for parent, _, names in walk(path) for name in names] if path.is_dir() else [path]
        for file in sorted(files):
            if file.suffix not in WEIGHTS_SUFFIXES or not file.is_file():
                continue
            try:
                load_model(file)
                found[str(file)] = file
            except InputError as error:
                if file in paths:
                    raise
                print(f"note: left out: {printable(str(error))}", file=sys.stderr)
    if not found:
        raise InputError(
            f"--weights: no weights ({', '.join(sorted(WEIGHTS_SUFFIXES))}) in {', '.join(map(str, paths))}; "
            "train a network (make demo) or name a weights file"
        )
    return found


def build_page(weights: dict[str, Path]):
    """Build the Gradio page: upload and weights in, before/after slider and file out."""
    import gradio as gr

    @functools.lru_cache(maxsize=1)
    def restorer_of(name: str) -> Restorer:
        return Restorer(weights[name])

    def restore_upload(upload: str | None, name: str, self_ensemble: bool, progress=gr.Progress()):  # noqa: B008
        if upload is None:
            raise gr.Error("Drop an image first.", print_exception=False)
        try:
            photograph = read_photograph(upload, MAX_MEGAPIXELS)
            suffix = Path(upload).suffix
            suffix += converted().get(suffix.lower(), "")
            check_writable(f"{upload}{suffix}", photograph)
            restored = restorer_of(name).restore(
                photograph.colour,
                self_ensemble=self_ensemble,
                progress=lambda done: progress(done, desc="restoring"),
            )
            name = f"restored_{Path(upload).stem[-100:]}{suffix}"
            target = Path(tempfile.mkdtemp(dir=gr.utils.get_upload_folder()), name)
            write_photograph(target, photograph.with_colour(restored))
        except (InputError, OSError, MemoryError) as error:
            problem = printable(str(error).replace(str(upload), Path(upload).name))
            print(f"error: {problem}", file=sys.stderr)
            raise gr.Error(problem, print_exception=False) from None
        return (preview(photograph.colour), preview(restored)), str(target)

    with gr.Blocks(title="IRNeXt", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown("# IRNeXt\nDrop an image, choose weights, restore it. Nothing leaves this machine.")
        with gr.Row():
            upload = gr.File(label="Image", file_types=sorted(SUFFIXES | converted().keys()), type="filepath")
            with gr.Column():
                choice = gr.Dropdown(list(weights), label="Weights", value=next(iter(weights)))
                ensemble = gr.Checkbox(label="Self-ensemble (eight times slower)")
                button = gr.Button("Restore", variant="primary")
        slider = gr.ImageSlider(label="Before | after", type="numpy", max_height=800)
        result = gr.File(label="Result")
        button.click(restore_upload, [upload, choice, ensemble], [slider, result], concurrency_limit=1)
    return page


def preview(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3), uint8 or uint16 -> (h, w, 3) uint8, longer side at most ``PREVIEW``."""
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.ndim == 2:
        image = np.dstack([image] * 3)
    scale = PREVIEW / max(image.shape)
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def main() -> None:
    usage = "python app.py [--weights FILE|DIR ...] [--port N]"
    parser = ScriptParser(usage=usage, description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--weights",
        type=Path,
        existing=True,
        nargs="+",
        help="weights files, or folders to search for them (default: those of this project)",
    )
    parser.add_argument("--port", type=number_type(int, 1, 65535), default=7860, help="serve on http://127.0.0.1:PORT")
    args = parser.parse()
    weights = find_weights(args.weights) if args.weights else {task: shipped_weights(task) for task in TASKS}
    listener = listen(args.port)
    folder = private_folder("irnext-page")
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    try:
        import fastapi
        import gradio as gr
    except ImportError as error:
        shutil.rmtree(folder)
        raise InputError(f"app.py requires {error.name}; pip install -r requirements-extra.txt") from None
    local_fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    blocks = build_page(weights)
    blocks.has_launched = True  # mounting does not set it, and until then gradio takes any file for an upload
    page = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="",
        server_name=HOST,
        server_port=args.port,
        max_file_size=MAX_UPLOAD,
        theme=gr.themes.Default(**local_fonts),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    serve(page, listener, folder)


if __name__ == "__main__":
    run_script(main)
