"""What happens on the page when its user acts."""

import functools
import html
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import gradio as gr

from inference.page.tasks import write_example
from inference.page.work import Result, Workshop, in_own_words, write_zip
from inference.restorer import Restorer
from utils.errors import InputError, printable
from utils.files import sha256_of

PLAYED = {".mp4", ".m4v", ".mov", ".mkv"}  # suffixes of videos that some browser plays


class Actions:
    """The functions that the page calls.

    Args:
        weights: the file of each choice.
        workshop: where uploads are restored.
    """

    def __init__(self, weights: dict[str, Path], workshop: Workshop) -> None:
        self.weights, self.workshop = weights, workshop
        self.stops: dict[str | None, threading.Event] = {}  # one for each tab of the browser
        self.restorer_of = functools.lru_cache(maxsize=1)(lambda name: Restorer(weights[name]))

    def begin(self, request: gr.Request):
        """Called before ``restore``, even if that has to wait for another tab; shows how to cancel it."""
        self.stops[request.session_hash] = threading.Event()
        return gr.Button(visible=False), gr.Button("Cancel", visible=True, interactive=True), gr.HTML(visible=True)

    def restore(
        self,
        uploads: list[str] | None,
        name: str,
        self_ensemble: bool,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008
    ):
        """Restore the uploads; returns what the viewer shows, the list of files and the zip."""
        if not uploads:
            raise gr.Error("Drop an image or a video first.", print_exception=False)
        stop = self.stops.get(request.session_hash) or threading.Event()

        def report(done: float, text: str) -> None:
            progress(done, desc=text)

        try:
            restorer = self.restorer_of(name)
            outcome = self.workshop.restore(list(map(Path, uploads)), restorer, self_ensemble, report, stop)
            archive = write_zip(outcome.results) if len(outcome.results) > 1 else None
        except (InputError, OSError, MemoryError) as error:
            raise _told(in_own_words(error, name, self.workshop.folder)) from None
        if outcome.failures and not outcome.results:
            raise _told(*outcome.failures)
        for line in outcome.failures:
            print(f"error: {line}", file=sys.stderr)
            gr.Warning(html.escape(line), duration=None)
        if outcome.stopped:
            gr.Info(f"Cancelled: {len(outcome.results)} of {len(uploads)} restored.")
        used = [weights_text(self.weights[name]), *["self-ensemble"] * bool(self_ensemble)]
        return (
            views_of(outcome.results, [*used, f"on {str(restorer.device).upper()}"]),
            gr.File([str(result.path) for result in outcome.results] or None, visible=bool(outcome.results)),
            gr.DownloadButton(value=None if archive is None else str(archive), visible=archive is not None),
        )

    def end(self):
        """Called after ``restore``, whether it has failed or not."""
        return gr.Button(visible=True), gr.Button(visible=False), gr.HTML(visible=False)

    def cancel(self, request: gr.Request):
        self.leave(request)
        return gr.Button("Cancelling …", interactive=False)

    def leave(self, request: gr.Request) -> None:
        """Nobody waits for the results of a tab that was closed."""
        if request.session_hash in self.stops:
            self.stops[request.session_hash].set()

    def take_example(self, task: str) -> list[str]:
        return [str(write_example(task, self.workshop.folder))]


def _told(*lines: str) -> gr.Error:
    """An error that the page shows until it is closed, also reported on stderr."""
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    return gr.Error("<br>".join(map(html.escape, lines)), duration=None, print_exception=False)


def weights_text(path: Path) -> str:
    """Which weights these are, for people and for sure."""
    return f"{printable(path.name)} (SHA-256 {sha256_of(path)[:8]})"


def views_of(results: Sequence[Result], used: list[str]) -> list[dict[str, str | None]]:
    """What compare.js shows of each result; ``used`` names weights and options."""
    return [
        {
            "name": result.name,
            "before": url_of(result.before),
            "after": url_of(result.after),
            "video": url_of(result.path) if result.is_video and result.path.suffix.lower() in PLAYED else None,
            "details": " · ".join([result.name, *result.details[:2], *used, *result.details[2:]]),
        }
        for result in results
    ]


def url_of(path: Path) -> str:
    """Where the page serves a file of its folder."""
    return f"/gradio_api/file={quote(str(path).replace(os.sep, '/'))}"
