"""What stands on the page, from top to bottom."""

from pathlib import Path

import gradio as gr

from inference.page.actions import Actions
from inference.page.tasks import TASKS, thumbnail
from inference.page.work import KEPT_SECONDS, MAX_MEGAPIXELS, Workshop

MAX_UPLOAD = 300  # megabytes per file
HERE = Path(__file__).parent

ABOUT = """# IRNeXt
Restore photographs and videos. Everything happens on this machine; nothing is sent anywhere else.
"""
LIMITS = (
    f"Images of up to {MAX_MEGAPIXELS} megapixels, files of up to {MAX_UPLOAD} MB. Uploads and results are removed "
    f"after {KEPT_SECONDS // 3600} hour, and when the page is stopped."
)


def build_page(weights: dict[str, Path], workshop: Workshop) -> gr.Blocks:
    """Build the page.

    Args:
        weights: the file of each choice; the page offers tasks if the keys are those of ``TASKS``.
        workshop: where uploads are restored.
    """
    offers_tasks = weights.keys() == TASKS.keys()
    with gr.Blocks(title="IRNeXt", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column():
                if offers_tasks:
                    choices = [(f"{task.capitalize()}\n{about.line}", task) for task, about in TASKS.items()]
                    choice = gr.Radio(choices, label="Task", value=choices[0][1], elem_id="tasks")
                else:
                    choice = gr.Dropdown(list(weights), label="Weights", value=next(iter(weights)))
            with gr.Column():
                upload = gr.File(label="Images and videos", file_count="multiple", type="filepath", height=168)
                example = gr.Button("Try the example of this task", size="sm", visible=offers_tasks)
                ensemble = gr.Checkbox(
                    label="Self-ensemble",
                    info="Average over eight flips and rotations: a little better, eight times slower",
                )
                start = gr.Button("Restore", variant="primary")
                stop = gr.Button("Cancel", variant="stop", visible=False)
                status = gr.HTML("", min_height=56, visible=False, elem_id="status")  # where progress is shown
        viewer = gr.HTML(
            [],
            html_template=(HERE / "compare.html").read_text(),
            css_template=(HERE / "compare.css").read_text(),
            js_on_load=(HERE / "compare.js").read_text(),
        )
        files = gr.File(label="Download", file_count="multiple", visible=False, interactive=False)
        archive = gr.DownloadButton("Download all as zip", visible=False)
        gr.Markdown(LIMITS, elem_id="limits")

        actions = Actions(weights, workshop)
        at_once = {"queue": False, "api_visibility": "private"}

        def restore_after(event, **api: str) -> None:
            """Restore the uploads when an event is done."""
            work = event.then(actions.begin, None, [start, stop, status], **at_once).then(
                actions.restore,
                [upload, choice, ensemble],
                [viewer, files, archive],
                concurrency_limit=1,
                concurrency_id="work",
                show_progress_on=status,
                **api,
            )
            for ended in (work.success, work.failure):  # gradio's ``then`` is silent after a failure
                ended(actions.end, None, [start, stop, status], **at_once)

        restore_after(start.click(None), api_name="restore_upload")
        if offers_tasks:
            restore_after(example.click(actions.take_example, choice, upload, **at_once), api_visibility="private")
        stop.click(actions.cancel, None, stop, **at_once)
        page.unload(actions.leave)
    return page


def style(examples: dict[str, Path]) -> str:
    """The page's own CSS, with the example of each task beside it."""
    css = (HERE / "page.css").read_text()
    for number, path in enumerate(examples.values(), 1):
        css += f"#tasks label:nth-of-type({number})::before {{ background-image: url({thumbnail(path)}); }}\n"
    return css
