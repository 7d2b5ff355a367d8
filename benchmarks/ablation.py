"""Ask the paper's ablations again at small scale: train each variant with several seeds and score it.

    python -m benchmarks.ablation --data /data/published --output runs/ablation
    python -m benchmarks.ablation --data /data/published --output runs/ablation --jobs 8 --seeds 5

Every variant in ``VARIANTS`` is trained alike, by configs/ablation/TASK.yaml, and scored on images that it has not
seen, each in a folder of its own below OUTPUT. The same command goes on where it stopped: finished trainings are not
run again, and interrupted ones resume. SIGTERM or SIGINT (Ctrl-C) stops after the current steps, with checkpoints and
exit status 75. Writes ablation.json (the scores of every training) and ablation.md (mean and spread over the seeds, and
the difference from the complete network) to OUTPUT.
"""

from utils.signals import STOPPED, StopSignal, end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import ttest_ind

from benchmarks.documents import with_tables
from benchmarks.embedded import ROOT, digest, read_config
from evaluation.tables import as_markdown
from utils.cli import ScriptParser, number_type
from utils.cpus import cpu_count
from utils.errors import InputError, printable, run_script
from utils.files import write_atomically
from utils.output import claimed
from utils.text_files import read_text
from utils.versions import git_commit

COMMAND = "make ablation"  # in the document
TASKS = ("dehazing", "deraining")
COMPLETE = "complete"
VARIANTS: dict[str, list[str]] = {
    COMPLETE: [],
    "no multi-scale module": ["--model.pool_sizes", "[]"],
    "no local attention": ["--model.local_attention", "false"],
    "no frequency modulation": ["--model.frequency_modulation", "false"],
    "pooling size 2": ["--model.pool_sizes", "[2]"],
    "pooling sizes 4, 2": ["--model.pool_sizes", "[4, 2]"],
    "no FFT loss": ["--loss.fft_weight", "0"],
}
SECONDS = 0.2  # between looks at the running trainings


@dataclass(frozen=True)
class Training:
    """A variant trained with a seed, and scored: its folder and the arguments of its configuration."""

    task: str
    variant: str
    seed: int
    folder: Path
    recipe: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.task}, {self.variant}, seed {self.seed}"

    @property
    def result(self) -> Path:
        """What test.py writes at the end."""
        return self.folder / "metrics.json"

    def commands(self) -> list[list[str]]:
        """train.py, then test.py."""
        weights = ["--weights", str(self.folder / "checkpoints" / "best.pt")]
        output = ["--output", str(self.folder)]
        return [
            [sys.executable, str(ROOT / "train.py"), *self.recipe, *output, "--resume", "auto"],
            [sys.executable, str(ROOT / "test.py"), *self.recipe, *output, *weights],
        ]

    def check(self) -> None:
        """Refuse a folder of another configuration.

        Raises:
            InputError: the folder's config.yaml differs in more than where the data are.
        """
        config = self.folder / "config.yaml"
        if config.exists() and digest(read_config(["--config", config])) != digest(read_config(list(self.recipe))):
            raise InputError(f"{self.folder}: trained with another configuration; remove it or choose another --output")


def main() -> int:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m benchmarks.ablation", description=f"{about} {details}")
    parser.add_argument("--data", type=Path, required=True, help="folder of the photographs and the test sets")
    parser.add_argument("--output", type=Path, required=True, help="folder for the trainings and the table")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="tasks to run")
    parser.add_argument(
        "--variants", nargs="+", choices=tuple(VARIANTS), default=list(VARIANTS), help="variants to run"
    )
    parser.add_argument("--seeds", type=number_type(int, 1, 1000), default=3, help="trainings of each variant")
    parser.add_argument("--epochs", type=number_type(int, 2, 10**6), help="overrides the configurations")
    parser.add_argument("--jobs", type=number_type(int, 1, 256), default=1, help="trainings that run at the same time")
    parser.add_argument("--document", type=Path, help="Markdown file in which to replace the tables as well")
    args = parser.parse()
    with claimed(args.output, "ablation.py", [args.output / name for name in ("ablation.json", "ablation.md")]):
        if args.document is not None:
            with_tables(args.document, COMMAND, "")  # refuses a wrong file before the work
        trainings = [
            training_of(args.output, args.data, task, variant, seed, args.epochs)
            for seed in range(args.seeds)  # the first seed of everything first
            for task in args.tasks
            for variant in args.variants
        ]
        for training in trainings:
            training.check()
        status = run_all(trainings, args.jobs)
        runs = [run_of(training) for training in trainings if training.result.exists()]
        if not runs:
            return status
        text = tables(runs)
        write_atomically(args.output / "ablation.json", json.dumps({"runs": runs, "commit": git_commit()}, indent=1))
        write_atomically(args.output / "ablation.md", text)
        if args.document is not None and status == 0:
            write_atomically(args.document, with_tables(args.document, COMMAND, text))
    print(text)
    return status


def training_of(output: Path, data: Path, task: str, variant: str, seed: int, epochs: int | None) -> Training:
    """The training of a variant below ``output``."""
    folder = output / task / re.sub(r"\W+", "-", variant) / f"seed-{seed}"
    recipe = ["--config", str(ROOT / "configs" / "ablation" / f"{task}.yaml"), "--data.root", str(data.resolve())]
    recipe += ["--seed", str(seed), *VARIANTS[variant]]
    recipe += [] if epochs is None else ["--train.epochs", str(epochs)]
    return Training(task, variant, seed, folder, tuple(recipe))


def run_all(trainings: Sequence[Training], jobs: int) -> int:
    """Run what is not finished, ``jobs`` at a time; returns the exit status.

    After a failure, or a signal, no other training starts, and those that run are stopped with a checkpoint.
    """
    waiting = [training for training in trainings if not training.result.exists()]
    total, running, status = len(waiting), [], 0
    environment = {"OMP_NUM_THREADS": str(max(1, cpu_count() // jobs))} | os.environ
    stop = StopSignal()
    while running or (waiting and not status):
        while waiting and len(running) < jobs and not status:
            running.append(Process(waiting.pop(0), environment))
            print(printable(f"{total - len(waiting)} of {total}: {running[-1].training}"))
        time.sleep(SECONDS)
        for process in list(running):
            ended = process.poll()
            if ended is None:
                continue
            running.remove(process)
            if ended and not status:
                status = ended if ended > 0 else 1
                print(printable(f"error: {process.training}: {process.last_line()}"), file=sys.stderr)
        if stop.received and not status:
            status = STOPPED
        if status:
            for process in running:
                process.stop()
    if status == STOPPED:
        print("stopped; the same command continues")
    return status


class Process:
    """The running scripts of a training, one after the other; what they print goes to log.txt in its folder."""

    def __init__(self, training: Training, environment: Mapping[str, str]) -> None:
        self.training, self.environment = training, environment
        self.commands = training.commands()
        self.stopping = False
        training.folder.mkdir(parents=True, exist_ok=True)
        self.log = training.folder / "log.txt"
        self._start()

    def _start(self) -> None:
        with open(self.log, "ab") as log:
            # In a session of its own: Ctrl-C reaches this process only, and a second signal would end train.py at once.
            self.child = subprocess.Popen(
                self.commands.pop(0), stdout=log, stderr=log, env=self.environment, cwd=ROOT, start_new_session=True
            )

    def poll(self) -> int | None:
        """The exit status, or None while the scripts run."""
        status = self.child.poll()
        if status == 0 and self.commands and not self.stopping:
            self._start()
            return None
        return status

    def stop(self) -> None:
        """Send SIGTERM, once."""
        if not self.stopping:
            self.stopping = True
            self.child.terminate()

    def last_line(self) -> str:
        """The last line of the log, which says why a script failed."""
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "") + f" (see {self.log})"


def run_of(training: Training) -> dict:
    """The entry of ablation.json for a finished training.

    Raises:
        InputError: its metrics.json is damaged.
    """
    try:
        metrics = json.loads(read_text(training.result))
        return {
            "task": training.task,
            "variant": training.variant,
            "seed": training.seed,
            "parameters": metrics["parameters"],
            "gmacs_256x256": metrics["gmacs_256x256"],
            "sets": {
                name: {key: scores[key] for key in ("images", "protocol", "input", "restored")}
                for name, scores in metrics["sets"].items()
            },
            "device": metrics["versions"]["device"],
        }
    except (ValueError, LookupError, TypeError):
        raise InputError(f"{training.result}: damaged; remove it to score the training again") from None


def tables(runs: Iterable[Mapping]) -> str:
    """For each task, one row per variant: PSNR over the seeds, and the difference from the complete network."""
    by_task: dict[str, dict[str, list[Mapping]]] = {}
    for run in runs:
        by_task.setdefault(run["task"], {}).setdefault(run["variant"], []).append(run)
    return "\n\n".join(f"**{task}**\n\n{task_table(variants)}" for task, variants in by_task.items()) + "\n"


def task_table(variants: Mapping[str, list[Mapping]]) -> str:
    """The table of a task; the runs of each variant differ in their seeds."""
    some = next(iter(variants.values()))[0]
    sets = list(some["sets"])
    heading = ["network", "seeds", "parameters", "GMACs"]
    heading += [column for name in sets for column in (f"{name}, dB", "difference (95 %)")]
    inputs = [cell for name in sets for cell in (f"{some['sets'][name]['input']['psnr']:.2f}", "")]
    cells = [["input", "", "", "", *inputs]]
    for variant, runs in variants.items():
        row = [variant, str(len(runs)), f"{runs[0]['parameters']:,}", f"{runs[0]['gmacs_256x256']:.2f}"]
        for name in sets:
            scores, reference = (
                [run["sets"][name]["restored"]["psnr"] for run in of_variant]
                for of_variant in (runs, variants.get(COMPLETE, []))
            )
            row += [spread(scores), "" if variant == COMPLETE else difference(scores, reference)]
        cells.append(row)
    return as_markdown(heading, cells)


def spread(scores: Sequence[float]) -> str:
    """Mean ± standard deviation over the seeds."""
    return f"{mean(scores):.2f}" + (f" ± {stdev(scores):.2f}" if len(scores) > 1 else "")


def difference(scores: Sequence[float], reference: Sequence[float]) -> str:
    """Difference of the means, with its 95 % interval by Welch's t-test where both have two seeds or more."""
    if not reference:
        return ""
    value = f"{mean(scores) - mean(reference):+.2f}"
    if min(len(scores), len(reference)) < 2 or not max(stdev(scores), stdev(reference)):
        return value
    interval = ttest_ind(scores, reference, equal_var=False).confidence_interval()
    return f"{value} ({interval.low:+.2f} to {interval.high:+.2f})"


if __name__ == "__main__":
    run_script(main)
