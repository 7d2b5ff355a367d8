"""The weights that come with this project: a small network for each task, see weights/README.md."""

from pathlib import Path

from utils.errors import InputError, shortened

TASKS = ("dehazing", "deblurring", "defocus", "deraining", "desnowing")
FOLDER = Path(__file__).resolve().parent.parent / "weights"


def shipped_weights(task: str) -> Path:
    """The weights file of a task.

    Raises:
        InputError: the task is unknown, or its file is missing from the project's folder.
    """
    if task not in TASKS:
        raise InputError(f"--task: expected one of {', '.join(TASKS)}, not {shortened(task)!r}")
    path = FOLDER / f"{task}.safetensors"
    if not path.is_file():
        raise InputError(
            f"{path}: missing, although it is part of the project; run git checkout -- weights in {FOLDER.parent}, "
            "or pass weights of your own"
        )
    return path


def weights_file(weights: str | Path) -> Path:
    """The file that ``weights`` means: a path, or the name of a task, unless there is a file of that name.

    Raises:
        InputError: see ``shipped_weights``.
    """
    path = Path(weights)
    return shipped_weights(str(path)) if str(path) in TASKS and not path.is_file() else path
