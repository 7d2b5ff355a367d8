"""Draw the curves of finished trainings, and collect what they were started with.

    python -m benchmarks.trainings runs/small/dehazing runs/small/deraining --output docs/evidence

Each folder is the OUTPUT of train.py. Writes trainings.png (of each run the loss, and the mean validation PSNR of input
and output) and trainings.jsonl (the lines of every runs.jsonl, with the name of the run) to OUTPUT.
"""

from utils.signals import end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds

import json
from collections.abc import Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.plots import as_png, new_figure, plain
from utils.cli import ScriptParser
from utils.errors import InputError, run_script
from utils.files import write_atomically
from utils.text_files import read_text

LOSS, PSNR = "loss/total", "validation/psnr"
INPUT = ("validation/", "/input_psnr")  # start and end of the tag of each set's input

Curve = list[tuple[int, float]]
"""Points of a curve: step and value."""


def main() -> None:
    about, _, details = __doc__.split("\n\n")
    parser = ScriptParser(prog="python -m benchmarks.trainings", description=f"{about} {details}")
    parser.add_argument("runs", type=Path, nargs="+", help="run folders")
    parser.add_argument("--output", type=Path, required=True, help="folder for the figure and the lines")
    args = parser.parse()
    curves = {run.name: curves_of(run) for run in args.runs}
    lines = [json.dumps({"run": run.name} | record) + "\n" for run in args.runs for record in records_of(run)]
    write_atomically(args.output / "trainings.png", figure_of(curves))
    write_atomically(args.output / "trainings.jsonl", "".join(lines))


def curves_of(run: Path) -> dict[str, Curve]:
    """The scalar curves in a run's event files.

    Raises:
        InputError: there are none of a training that was validated.
    """
    if not any(run.glob("events.out.tfevents.*")):
        raise InputError(f"{run}: no event files in it; pass the --output of a finished train.py")
    events = EventAccumulator(str(run)).Reload()
    curves = {tag: [(point.step, point.value) for point in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    if not {LOSS, PSNR} <= curves.keys():
        raise InputError(f"{run}: no curves of loss and validation in it; pass the --output of a finished train.py")
    return curves


def records_of(run: Path) -> list[dict]:
    """The lines of runs.jsonl, one for each start of train.py.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = run / "runs.jsonl"
    try:
        return [json.loads(line) for line in read_text(path).splitlines()]
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); pass the --output of train.py") from None


def figure_of(curves: Mapping[str, Mapping[str, Curve]]) -> bytes:
    """A PNG file with a column per run: the loss above the validation PSNR, both over the steps."""
    figure = new_figure(2 + 2.2 * len(curves), 4.2)
    axes = figure.subplots(2, len(curves), squeeze=False, sharex="col")
    for (name, of_run), (above, below) in zip(curves.items(), axes.T, strict=True):
        above.plot(*zip(*of_run[LOSS], strict=True), linewidth=0.8)
        above.set(title=plain(name), yscale="log")
        inputs = [points for tag, points in of_run.items() if tag.startswith(INPUT[0]) and tag.endswith(INPUT[1])]
        if inputs:
            mean = sum(points[-1][1] for points in inputs) / len(inputs)
            below.axhline(mean, color="0.6", linewidth=1, linestyle="--", label="input")
        below.plot(*zip(*of_run[PSNR], strict=True), marker="o", markersize=3, label="network")
        below.set_xlabel("step")
        below.locator_params(nbins=4)
    axes[0, 0].set_ylabel("loss")
    axes[1, 0].set_ylabel("validation PSNR, dB")
    axes[1, 0].legend()
    return as_png(figure)


if __name__ == "__main__":
    run_script(main)
