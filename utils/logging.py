"""What a run leaves behind besides its weights."""

import contextlib
import json
import platform
import subprocess
import sys
import threading
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from utils.config import Config
from utils.files import write_whole

LIBRARIES = ("torch", "torchvision", "numpy", "opencv-python-headless", "pytorch-msssim", "warmup-scheduler")


def versions() -> dict[str, str]:
    """Python's, the libraries' and the device's; a library that is there under another package's name is left out."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):  # opencv-python in place of the headless one, for example
            found[name] = version(name)
    return found | {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}


def git_commit() -> str | None:
    """The checkout's commit, ``-dirty`` appended where tracked files differ from it; None outside git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--abbrev=40", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def record_run(output: Path, config: Config) -> None:
    """Store the resolved configuration as ``config.yaml`` and append this start of the run to ``runs.jsonl``."""
    output.mkdir(parents=True, exist_ok=True)
    write_whole(output / "config.yaml", config.to_yaml())
    start = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "git_commit": git_commit(),
        **versions(),
    }
    with open(output / "runs.jsonl", "a") as file:
        file.write(json.dumps(start) + "\n")


def open_curves(output: Path, step: int) -> SummaryWriter:
    """TensorBoard's file for a run that goes on with ``step``; what an earlier start wrote of later steps is hidden.

    Where the file cannot be written, the next curve that is added, or the end, raises the OSError.
    """

    def unwritten(args: threading.ExceptHookArgs) -> None:
        if isinstance(args.exc_value, OSError):
            # The writer's thread has kept it to be raised in the main thread, which says it once, with a name.
            args.exc_value.filename = str(output)
        else:
            threading.__excepthook__(args)

    threading.excepthook = unwritten
    return SummaryWriter(output, purge_step=step)


def add_scalars(curves: SummaryWriter, values: dict[str, float], step: int) -> None:
    """Add one point to each of the curves."""
    for name, value in values.items():
        curves.add_scalar(name, value, step)


def strip(*pictures: Tensor) -> Tensor:
    """Pictures (1, 3, H, W) in [0, 1] side by side: (3, H, W * n), clamped."""
    return torch.cat(pictures, dim=-1)[0].clamp(0, 1)
