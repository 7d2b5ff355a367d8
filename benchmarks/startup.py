"""How long the scripts take to start, compared with importing torch.

    python -m benchmarks.startup
    python -m benchmarks.startup --rounds 15

Each row is a process of its own; rows take turns, so that other load affects all alike, and figures are medians of
the process's CPU time, which depends on it least. ``start`` of a script is all that it imports before its work begins,
``first batch`` of train.py everything up to its first step, on the photographs of the demo. The ratio is to the first
row, a process that imports torch and ends.
"""

from pathlib import Path

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from utils.cli import ScriptParser, number_type
    from utils.errors import or_exit

    parser = ScriptParser(prog="python -m benchmarks.startup", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=number_type(int, 1, 1000), default=5, help="number of timings per row")
    args = or_exit(parser.parse)

import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

from jsonargparse import Namespace

from data.synthetic.demo import write_demo
from evaluation.tables import as_markdown
from utils.errors import run_script

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("train.py", "test.py", "restore.py")
IMPORTS = "import runpy, sys; sys.path.insert(0, '.'); runpy.run_path(sys.argv[1])"
FIRST_BATCH = """
import os, runpy, sys
sys.path.insert(0, ".")
from training.step import TrainingStep
step = TrainingStep.__call__
def first(*arguments, **options):
    step(*arguments, **options)
    os._exit(0)
TrainingStep.__call__ = first
sys.argv = sys.argv[1:]
runpy.run_path("train.py", run_name="__main__")
"""


def main(args: Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "demo")
        write_demo(data)
        train = ["train.py", "--config", "configs/demo.yaml", "--data.root", data, "--output", Path(folder, "run")]
        rows = {
            "import torch": ["-c", "import torch"],
            **{f"{script}: start": ["-c", IMPORTS, script] for script in SCRIPTS},
            "train.py: first batch": ["-c", FIRST_BATCH, *train, "--resume", "auto"],
            **{f"{script} --help": [script, "--help"] for script in SCRIPTS},
        }
        times = {name: [] for name in rows}
        for _ in range(args.rounds):
            for name, command in rows.items():
                times[name].append(seconds_of(command))
    cpu, wall = ({name: median(each[kind] for each in found) for name, found in times.items()} for kind in (0, 1))
    torch = cpu["import torch"]
    table = [[name, f"{cpu[name]:.2f}", f"{wall[name]:.2f}", f"{cpu[name] / torch:.2f}"] for name in rows]
    print(as_markdown(["", "CPU time, s", "elapsed, s", "ratio"], table))


def seconds_of(command: list) -> tuple[float, float]:
    """CPU time and elapsed time of a Python process, in seconds."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    # No pipe: the loader's workers would keep it open for seconds after the process has ended.
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=environment, check=True, **output)
    after, end = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, end - begin


if __name__ == "__main__":
    run_script(main, args)
