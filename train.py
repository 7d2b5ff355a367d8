"""Train a restoration network.

    python train.py --config configs/dehazing_its.yaml --data.root /data/reside-indoor --output runs/its
    python train.py --config configs/dehazing_its.yaml --data.root /data/reside-indoor --output runs/its --resume auto

With --resume auto a run goes on wherever it stopped, or starts. Every key of the YAML file can be given on the command
line. OUTPUT gets config.yaml, checkpoints/last.pt, checkpoints/best.pt (the best mean PSNR over the validation sets,
which are the test sets unless the configuration has others) and curves for TensorBoard. SIGTERM and SIGINT (Ctrl-C)
end the run after the step at hand, with a checkpoint and exit status 75; a second one ends it at once.

Several GPUs: torchrun --nproc_per_node 8 train.py --config ... --resume auto; train.batch_size is that of all together.
"""

import math
import sys
import time
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Literal

import torch
from jsonargparse import Namespace
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm
from warmup_scheduler import GradualWarmupScheduler

from data.datasets import evaluation_loader, train_loader
from data.sampler import EpochSampler
from data.sets import pairs_of_set, pairs_of_sets
from data.survey import check_pairs, still_broken
from losses import MultiScaleLoss
from models import build_model
from utils.checkpoint import kept_checkpoints, load_weights, resume_training, save_checkpoint, training_state
from utils.compiling import compiled
from utils.config import Config, ScriptParser, config_of
from utils.distributed import Group, join_group, leave_group, progress_bar
from utils.errors import InputError, run_script
from utils.health import Steps, note_broken
from utils.logging import add_scalars, open_curves, record_run
from utils.precision import arithmetic, supported
from utils.signals import STOPPED, StopSignal
from utils.validation import validate
from utils.waiting import TimedWaiting

SAVE_SECONDS = 15 * 60  # between checkpoints within an epoch: what a killed process loses at most


def parse_args() -> Namespace:
    about, _, details, _ = __doc__.split("\n\n")
    usage = "python train.py --config FILE --output DIR [--section.key VALUE ...]"
    parser = ScriptParser(usage=usage, description=f"{about} {details}")
    parser.add_config()
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--resume",
        type=Literal["auto", "never"],
        default="never",
        help="auto: go on with the run in OUTPUT where it stopped, or start it; never: refuse an OUTPUT with a run",
    )
    parser.add_argument("--init-from", type=Path, help="start from these weights, with a fresh optimizer and schedule")
    return parser.parse()


def main() -> int:
    args = parse_args()
    config = config_of(args)
    last, best = (args.output / "checkpoints" / name for name in ("last.pt", "best.pt"))
    started = bool(kept_checkpoints(last))
    if args.resume == "never" and started:
        raise InputError(
            f"{args.output}: there is a run already: --resume auto goes on with it, or name another --output"
        )
    group = join_group()
    device = group.device
    precision = supported(config.train.precision, device)
    if config.train.batch_size < group.size:
        raise InputError(f"train.batch_size: {config.train.batch_size} pictures are too few for {group.size} processes")

    loader, sampler, validation_loaders = build_data(config, group)
    batches = TimedWaiting(loader)

    torch.manual_seed(config.seed)
    model = build_from_config(config).to(device)
    if group.size > 1 and config.train.sync_batch_norm:
        from utils.synced_batch_norm import synchronise_batch_norm  # slow to import

        synchronise_batch_norm(model)
    if args.init_from is not None:
        load_weights(model, args.init_from)
    ema = None
    if config.train.ema_decay is not None:
        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.train.ema_decay))
    evaluated = model if ema is None else ema.module
    criterion = MultiScaleLoss(config.loss.fft_weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.train.lr, fused=True)
    cosine = CosineAnnealingLR(optimizer, config.train.epochs - config.train.warmup_epochs, config.train.min_lr)
    scheduler = GradualWarmupScheduler(optimizer, 1, config.train.warmup_epochs, cosine)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    stateful = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    if ema is not None:
        stateful["ema"] = ema
    about = {"task": config.task, "model_config": asdict(config.model)}
    # Where the run stands: ``batch`` steps of ``epoch`` are done, ``best_psnr`` is the best validation so far, and
    # ``broken`` has the training pictures that others have taken the place of.
    progress = {"epoch": 1, "batch": 0, "best_psnr": float("-inf"), "broken": {}}
    with group.main_first():  # it mends a damaged checkpoint
        if started:
            progress = resume_training(last, stateful, progress)
            progress["broken"] = still_broken(progress["broken"])
            if group.is_main:
                print(f"resuming {args.output} at epoch {progress['epoch']}, step {progress['batch']}")
        if group.is_main:
            record_run(args.output, config)
    trained = model if group.size == 1 else DistributedDataParallel(model)
    torch.backends.cudnn.benchmark = True  # the crops have one size, for which the fastest convolutions are looked up
    compiling = device.type == "cuda" if config.train.compile is None else config.train.compile
    network = compiled(trained) if compiling else trained

    def save_last() -> None:
        if group.is_main:
            save_checkpoint(last, about | training_state(stateful, progress), config.train.keep_checkpoints)

    stop = StopSignal()
    stopped = f"stopped; --resume auto goes on with {args.output} at the same step"
    last_saved = time.monotonic()
    step = (progress["epoch"] - 1) * sampler.batches + progress["batch"]
    curves = None
    if group.is_main:
        curves = open_curves(args.output, step + 1)
        curves.add_text("config", f"```\n{config.to_yaml()}```")
    bar = progress_bar(group, total=config.train.epochs * sampler.batches, initial=step, unit="step", smoothing=0.05)
    steps, window_start, window_pictures = Steps(group, config.train.max_skipped), time.perf_counter(), 0

    while progress["epoch"] <= config.train.epochs:
        epoch = progress["epoch"]
        if progress["batch"] == 0:
            scheduler.step()
        sampler.set_position(epoch, progress["batch"])
        trained.train()
        bar.set_description(f"epoch {epoch}/{config.train.epochs}")

        for batch in batches:
            if group.any(bool(batch["broken"])):
                problem = note_broken(batch, progress["broken"], config.data.max_broken, group)
                if problem is not None:
                    save_last()
                    group.refuse(problem)
            input = batch["input"].to(device, non_blocking=True)
            target = batch["target"].to(device, non_blocking=True)
            with arithmetic(precision, device):
                outputs = network(input)
            loss = criterion(outputs, target)

            optimizer.zero_grad()
            weight = sampler.weight(progress["batch"])
            scaler.scale(loss.total * weight).backward()
            scaler.unscale_(optimizer)
            grad_norm = nn.utils.clip_grad_norm_(model.parameters(), config.train.clip_norm)
            finite = steps.is_finite(loss, grad_norm)
            if not scaler.is_enabled():  # which tells the optimizer by itself
                optimizer.grad_scale, optimizer.found_inf = None, (~finite).float()  # the step is then left out
            scaler.step(optimizer)
            scaler.update()
            if ema is not None:
                ema.update_parameters(model)

            progress["batch"] += 1
            step += 1
            bar.update()
            steps.add(loss, grad_norm, finite, weight, batch["name"])
            window_pictures += len(input)
            if step % config.train.log_every == 0:
                values, skipped = steps.take()
                seconds = time.perf_counter() - window_start
                values["train/lr"] = scheduler.get_last_lr()[0]
                values["train/pictures_per_second"] = window_pictures * group.size / seconds
                values["train/waiting_for_data"] = batches.take() / seconds
                if group.is_main:
                    add_scalars(curves, values, step)
                    if skipped:
                        tqdm.write(
                            f"warning: up to step {step}, {skipped} of {config.train.log_every} were skipped: "
                            "loss or gradient was not finite",
                            file=sys.stderr,
                        )
                bar.set_postfix(loss=f"{values.get('loss/total', math.nan):.4f}", lr=f"{values['train/lr']:.2e}")
                window_start, window_pictures = time.perf_counter(), 0

            stopping = group.any(stop.received)
            if stopping or time.monotonic() - last_saved > SAVE_SECONDS:
                save_last()
                last_saved = time.monotonic()
            if stopping:
                close(bar, curves, stopped)
                return STOPPED

        if epoch % config.train.validate_every == 0 or epoch == config.train.epochs:
            # The epoch is safe before the validation starts; after it the checkpoint is written again.
            save_last()
            validation_start = time.perf_counter()
            psnr = validate(evaluated, validation_loaders, config, group, curves, step, stop)
            if psnr is None:
                close(bar, curves, stopped)
                return STOPPED
            window_start += time.perf_counter() - validation_start
            if psnr > progress["best_psnr"]:
                progress["best_psnr"] = psnr
                if group.is_main:
                    save_checkpoint(best, about | {"model": evaluated.state_dict(), "epoch": epoch, "psnr": psnr})
            if group.is_main:
                report = f"epoch {epoch}/{config.train.epochs}: PSNR {psnr:.2f} dB, best {progress['best_psnr']:.2f} dB"
                tqdm.write(report, file=sys.stdout)
        progress["epoch"], progress["batch"] = epoch + 1, 0
        save_last()
        last_saved = time.monotonic()

    close(bar, curves, f"done: {best} restores at {progress['best_psnr']:.2f} dB")
    return 0


def close(bar: tqdm, curves: SummaryWriter | None, message: str) -> None:
    """End the display and the curves; the main process, which has them, says how the run ended."""
    bar.close()
    if curves is not None:
        curves.close()
        print(message)
    leave_group()


def build_data(config: Config, group: Group) -> tuple[DataLoader, EpochSampler, dict[str, DataLoader]]:
    """The training loader with its sampler, and one for each validation set; all pictures have been looked at.

    Of several processes each gets its share, of the validation pictures too.
    """
    root, workers = config.data.root, config.data.num_workers
    train_pairs = pairs_of_set(root, config.data.train)
    validation_pairs = pairs_of_sets(root, config.data.validation or config.data.test)
    if group.is_main:
        check_pairs([*train_pairs, *chain(*validation_pairs.values())])
    sampler = EpochSampler(len(train_pairs), config.train.batch_size, config.seed, group.rank, group.size)
    degrade, cache = config.data.train.degrade, config.data.cache
    loader = train_loader(train_pairs, config.data.crop, sampler, config.seed, workers, degrade, cache)
    shares = {name: pairs[group.rank :: group.size] for name, pairs in validation_pairs.items()}
    return loader, sampler, {name: evaluation_loader(pairs, workers) for name, pairs in shares.items()}


def build_from_config(config: Config) -> nn.Module:
    """The network, once it is known that it takes the training crop."""
    try:
        model = build_model(**asdict(config.model))
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    if any(side % model.size_multiple or side < model.min_size for side in config.data.crop):
        raise InputError(
            f"data.crop_size: multiples of {model.size_multiple} and at least {model.min_size}, not {config.data.crop}"
        )
    return model


if __name__ == "__main__":
    run_script(main)
