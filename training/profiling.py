"""A trace of a few steps, to see where their time goes."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from training.run import Run
from utils.errors import printable
from utils.files import write_atomically

WARM_UP = 5  # steps before the recorded ones: the first ones choose algorithms and allocate


@contextlib.contextmanager
def profiled(run: Run) -> Iterator[Callable[[], None]]:
    """Record ``train.profile`` steps of the main process, and write the trace to OUTPUT/profile.

    Yields:
        To be called after each step.

    Raises:
        OSError: the trace cannot be written.
    """
    steps = run.config.train.profile
    if steps is None or not run.group.is_main:
        yield lambda: None
        return
    first = run.progress["step"] + WARM_UP + 1
    path = run.output / "profile" / f"steps_{first}_to_{first + steps - 1}.pt.trace.json"

    def write(profiler: profile) -> None:
        with tempfile.TemporaryDirectory() as folder:
            profiler.export_chrome_trace(f"{folder}/trace.json")
            write_atomically(path, Path(folder, "trace.json").read_bytes())

    plan = schedule(wait=WARM_UP - 2, warmup=2, active=steps, repeat=1)
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (run.group.device.type == "cuda")
    with profile(activities=activities, schedule=plan, on_trace_ready=write, acc_events=True) as profiler:
        yield profiler.step
    if not path.exists():
        print(
            printable(f"warning: train.profile: no trace, because the run ended before step {first}"), file=sys.stderr
        )
