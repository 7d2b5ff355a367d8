"""The folder of a run: whether it holds one, what must not be replaced, and the record of how it was started."""

import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from utils.checkpoint_files import kept_checkpoints
from utils.config import Config
from utils.errors import InputError, printable
from utils.files import write_atomically
from utils.versions import git_commit, versions


def is_started(output: Path) -> bool:
    """Whether ``output`` contains a checkpoint to resume from."""
    return bool(kept_checkpoints(output / "checkpoints" / "last.pt"))


def files_of(output: Path) -> list[Path]:
    """The files that every run writes to ``output``, besides those with random names."""
    return [output / name for name in ("config.yaml", "runs.jsonl", "checkpoints/last.pt", "checkpoints/best.pt")]


def check_output(output: Path, resume: bool) -> None:
    """Refuse to replace what an earlier run has left in ``output``.

    Raises:
        InputError: without ``resume``, ``output`` contains a checkpoint.
    """
    checkpoints = output / "checkpoints"
    if is_started(output) and not resume:
        raise InputError(
            f"{output}: already contains a run; pass --resume auto to continue it, or choose another --output"
        )
    if (checkpoints / "best.pt").exists() and not resume:
        raise InputError(
            f"{checkpoints / 'best.pt'}: already exists, without a last.pt to continue from; choose another --output "
            f"(--init-from {checkpoints / 'best.pt'} starts from these weights), or pass --resume auto to start a run "
            "here, which renames it"
        )


def set_aside_best(output: Path) -> None:
    """Rename the best.pt of an earlier run whose last.pt is gone, so that a new run does not replace it."""
    best = output / "checkpoints" / "best.pt"
    if best.exists():
        kept = best.with_name(f"best.before_{datetime.now(UTC):%Y%m%d_%H%M%S}.pt")
        os.replace(best, kept)
        print(f"note: {printable(f'{best}: of an earlier run; kept as {kept.name}')}", file=sys.stderr)


def record(output: Path, config: Config, step: int, changes: Sequence[str] = ()) -> None:
    """Write the resolved configuration to config.yaml and append this start of the run, at ``step``, to runs.jsonl.

    If there are changes, the previous configuration is kept as config.until_step_N.yaml.
    """
    current, starts = output / "config.yaml", output / "runs.jsonl"
    if changes and current.exists():
        write_atomically(output / f"config.until_step_{step}.yaml", current.read_bytes())
    write_atomically(current, config.to_yaml())
    start = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "step": step,
        "changes": list(changes),
        "command": sys.argv,
        "git_commit": git_commit(),
        **versions(),
    }
    before = starts.read_bytes() if starts.exists() else b""
    write_atomically(starts, before + f"{json.dumps(start)}\n".encode())
