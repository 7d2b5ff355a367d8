"""Train a restoration network.

    python -m data.check --config configs/dehazing_its.yaml --data.root DIR
    python train.py --config configs/dehazing_its.yaml --data.root DIR --output run --plan
    python train.py --config configs/dehazing_its.yaml --data.root DIR --output run --resume auto
    python test.py --config configs/dehazing_its.yaml --data.root DIR --weights run/checkpoints/best.pt --output results

configs/ has a file for each task and data set, whose keys can be overridden on the command line. --resume auto goes on
with the run in OUTPUT where it stopped, or starts it. OUTPUT receives config.yaml, checkpoints/last.pt,
checkpoints/best.pt (highest mean PSNR, or SSIM, over the validation sets, which are the test sets unless the
configuration names others) and TensorBoard curves. SIGTERM or SIGINT (Ctrl-C) stops the run after the current step,
with a checkpoint and exit status 75; a second one stops it at once.

Several GPUs: torchrun --nproc_per_node 8 train.py --config ... --resume auto; train.batch_size is the sum over GPUs,
and over the micro-batches of train.accumulate.
"""

from utils.signals import STOPPED, StopSignal, end_on_signals

if __name__ == "__main__":
    end_on_signals()  # before the imports below, which take seconds
    from training.command_line import parse_args
    from utils.errors import or_exit

    args = or_exit(parse_args, __doc__)

import math
import sys
import time
from typing import NoReturn

from jsonargparse import Namespace
from tqdm import tqdm

from training.folder import check_output, files_of, is_started, record, set_aside_best
from training.loaders import Loaders, build_loaders
from training.plan import plan
from training.profiling import profiled
from training.run import Run
from training.sinks import check_sinks
from training.step import Update
from training.validation import validate
from training.watch import Meter, TimedLoader, record_broken
from utils.cli import config_of
from utils.config import Config
from utils.distributed import Group, join_group, leave_group, progress_bar
from utils.errors import InputError, printable, run_script
from utils.output import claimed
from utils.precision import use_deterministic_algorithms

SAVE_SECONDS = 15 * 60  # between checkpoints within an epoch: a killed process loses at most this much work


def main(args: Namespace) -> int:
    config = config_of(args)
    if config.train.deterministic:
        use_deterministic_algorithms()
    check_sinks(config.train.sinks)
    group = join_group()
    check_batch(config, group)
    if args.plan:
        plan(config, args.output, group, args.init_from)
        return 0
    with group.by_main(claimed(args.output, "train.py", files_of(args.output))):
        finished = start(args, config, group)
    leave_group()
    return 0 if finished else STOPPED


def check_batch(config: Config, group: Group) -> None:
    """Check that each process has an image for each of its micro-batches.

    Raises:
        InputError: the batch is too small.
    """
    smallest, accumulate = min(stage.batch_size for stage in config.stages()), config.train.accumulate
    key = "train.batch_size" if smallest == config.train.batch_size else "a batch_size of train.progressive"
    if smallest < group.size:
        raise InputError(f"{key}: {smallest} is less than one image for each of the {group.size} processes")
    if smallest < group.size * accumulate:
        raise InputError(
            f"train.accumulate: {accumulate} micro-batches in each of the {group.size} processes need a "
            f"train.batch_size, the whole batch, of at least {group.size * accumulate}, not {smallest}"
        )


def start(args: Namespace, config: Config, group: Group) -> bool:
    """Start the run in OUTPUT, or continue it; returns False if a signal stopped it."""
    started = is_started(args.output)
    check_output(args.output, resume=args.resume == "auto")
    loaders = build_loaders(config, group)
    run = Run(config, args.output, group, loaders.sampler, args.init_from)
    with group.main_first():  # resuming renames damaged checkpoints
        changes = run.resume(loaders.fingerprints) if started else []
    run.progress.update(loaders.fingerprints)
    if group.is_main:
        if started:
            position = f"epoch {run.progress['epoch']}, step {run.progress['batch']}"
            print(printable(f"resuming {args.output} at {position}"))
        else:
            set_aside_best(args.output)
        for change in changes:
            print(printable(f"from step {run.progress['step'] + 1} on: {change}"))
        record(args.output, config, run.progress["step"], changes)

    with run.open_curves():
        finished = train(run, loaders, config, group)
    if finished and run.progress["best_psnr"] == -math.inf:
        group.refuse(
            f"{args.output}: no best.pt: none of the epochs up to {run.progress['epoch'] - 1} was validated; raise "
            f"train.epochs, which is {config.train.epochs}"
        )
    if group.is_main:
        ssim = f"SSIM {run.progress['best_score']:.4f}, its " * (config.train.best_by == "ssim")
        end = f"best validation {ssim}PSNR {run.progress['best_psnr']:.2f} dB, weights in {run.best}"
        stopped = f"stopped; pass --resume auto to continue {args.output} at the same step"
        print(printable(f"done: {end}" if finished else stopped))
    return finished


def train(run: Run, loaders: Loaders, config: Config, group: Group) -> bool:
    """Train ``run`` to its last epoch; returns False if a signal stopped it, after saving a checkpoint."""
    progress, sampler, epochs = run.progress, loaders.sampler, config.train.epochs
    stop, last_saved = StopSignal(), time.monotonic()
    bar = progress_bar(group, total=run.total_steps(), initial=progress["step"], unit="step", smoothing=0.05)
    batches = TimedLoader(loaders.training)
    meter = run.meter = Meter(group, config.train.max_skipped, batches, progress["so_far"])
    with bar, profiled(run) as count_profiled:
        while progress["epoch"] <= epochs:
            epoch = progress["epoch"]
            if progress["batch"] == 0:
                run.scheduler.step()
            sampler.set_position(epoch, progress["samples"])
            if run.awaits_validation() and not score(run, loaders, meter, stop):  # at the start, or after a kill
                return False
            run.start_training()
            bar.set_description(f"epoch {epoch}/{epochs}")

            for batch in batches:
                if group.any(bool(batch["broken"])):
                    problem = record_broken(batch, progress["broken"], config.data.max_broken, group)
                    if problem is not None:
                        give_up(run, group, problem)
                update = run.update(batch)
                count_profiled()
                bar.update()
                problem = meter.add(update, batch)
                if problem is not None:
                    give_up(run, group, problem)
                log(update, batch, run, bar)

                stopping = group.any(stop.received)
                if stopping or time.monotonic() - last_saved > SAVE_SECONDS:
                    run.save_last()
                    last_saved = time.monotonic()
                if stopping:
                    return False
                if run.awaits_validation() and not run.is_trained():
                    if not score(run, loaders, meter, stop):
                        return False
                    run.start_training()

            problem = meter.end_epoch()
            if problem is not None:
                give_up(run, group, problem)
            if run.awaits_validation() and not score(run, loaders, meter, stop):
                return False
            progress.update(epoch=epoch + 1, batch=0, samples=0)
            run.save_last()
            last_saved = time.monotonic()
    return True


def score(run: Run, loaders: Loaders, meter: Meter, stop: StopSignal) -> bool:
    """Validate, and keep the best; returns False if a signal stopped it, after which the run resumes with it."""
    progress, train = run.progress, run.config.train
    run.save_last()  # a run that is killed during validation resumes at the validation
    with meter.paused():
        scores = validate(run, loaders.validation, stop)
    if scores is None:
        return False
    run.save_if_best(scores)
    if run.group.is_main:
        done = f"epoch {progress['epoch']}/{train.epochs}" + f", step {progress['step']}" * (not run.is_trained())
        psnr, ssim = f"PSNR {scores['psnr']:.2f} dB", f"SSIM {scores['ssim']:.4f}"
        best = f"{progress['best_psnr']:.2f} dB" if train.best_by == "psnr" else f"SSIM {progress['best_score']:.4f}"
        text = f"{done}: {psnr}{f', {ssim}' * (train.best_by == 'ssim')}, best {best}"
        tqdm.write(text, file=sys.stdout)
    return True


def give_up(run: Run, group: Group, problem: str) -> NoReturn:
    """End the run because of a problem that the user can fix, after saving a checkpoint to resume from."""
    run.save_last()
    group.refuse(problem)


def log(update: Update, batch: dict, run: Run, bar: tqdm) -> None:
    """Write the points of the curves that belong to this step; the loop waits for the device only for them."""
    step = run.progress["step"]
    if step == 1:
        log_first(update, batch, run)
    if step % run.config.train.log_every == 0:
        log_interval(run, bar)
    if run.is_trained():  # before any checkpoint of this step
        values = run.meter.take_epoch()
        if run.curves is not None:
            run.curves.scalars(values, step)


def log_first(update: Update, batch: dict, run: Run) -> None:
    """Show the first batch, and write its loss, unless ``log_interval`` does so."""
    if run.curves is not None:
        run.curves.first_batch(batch, step=1)
        if run.config.train.log_every > 1 and update.finite:
            losses = {f"loss/{term}": value.item() for term, value in update.loss.computed().items()}
            run.curves.scalars(losses, step=1)


def log_interval(run: Run, bar: tqdm) -> None:
    """Write the means over the last ``train.log_every`` steps."""
    step = run.progress["step"]
    values = run.meter.take() | {"train/lr": run.scheduler.get_last_lr()[0]}
    if run.curves is not None:
        run.curves.scalars(values, step)
        if skipped := values["train/skipped_steps"]:
            warning = f"warning: skipped {skipped} of the {run.config.train.log_every} steps up to step {step}"
            tqdm.write(f"{warning}: loss or gradient not finite", file=sys.stderr)
    bar.set_postfix(loss=f"{values.get('loss/total', math.nan):.4f}", lr=f"{values['train/lr']:.2e}")


if __name__ == "__main__":
    run_script(main, args)
