"""Local web page for restoring images and videos: drop files, compare before and after with a slider, download.

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
    from inference.page.command_line import parse_args
    from utils.errors import or_exit

    args = or_exit(parse_args, __doc__)

import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

from jsonargparse import Namespace

from data.folders import walk
from inference.page.tasks import write_example
from inference.page.work import Workshop
from inference.shipped import TASKS, shipped_weights
from models import load_model
from utils.errors import InputError, printable, run_script
from utils.local_server import HOST, listen, private_folder, serve

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # must be set before gradio is imported

WEIGHTS_SUFFIXES = {".pt", ".pth", ".pkl", ".safetensors"}
TIDY_SECONDS = 300  # between two looks for results that are old enough to be removed


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


def main(args: Namespace) -> None:
    weights = find_weights(args.weights) if args.weights else {task: shipped_weights(task) for task in TASKS}
    listener = listen(args.port)
    folder = private_folder("irnext-page")
    os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(folder)
    try:
        import fastapi
        import gradio as gr

        from inference.page.layout import MAX_UPLOAD, build_page, style
    except ImportError as error:
        shutil.rmtree(folder)
        raise InputError(f"app.py requires {error.name}; pip install -r requirements-extra.txt") from None
    local_fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    workshop = Workshop(folder)
    blocks = build_page(weights, workshop)
    blocks.has_launched = True  # mounting does not set it, and until then gradio takes any file for an upload
    page = gr.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="",
        server_name=HOST,
        server_port=args.port,
        max_file_size=f"{MAX_UPLOAD}mb",
        css=style({} if args.weights else {task: write_example(task, folder) for task in TASKS}),
        theme=gr.themes.Default(**local_fonts),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
    )
    threading.Thread(target=tidy, args=[workshop], daemon=True).start()
    serve(page, listener, folder)


def tidy(workshop: Workshop) -> None:
    """Remove old results for as long as the page is served."""
    while True:
        time.sleep(TIDY_SECONDS)
        workshop.tidy()


if __name__ == "__main__":
    run_script(main, args)
