"""A training run: its data, network, optimizer and schedule, its progress, and the files it writes."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from warmup_scheduler import GradualWarmupScheduler

from data.datasets import evaluation_loader, train_loader, warn_of_too_many_workers
from data.layouts import Pair
from data.sampler import EpochSampler
from data.sets import pairs_of_set, pairs_of_sets
from data.survey import check_pairs, fingerprint, still_broken
from losses import MultiScaleLoss
from models import build_model, load_weights
from training.changes import check_changes, validation_changed
from training.curves import add_scalars, open_curves
from training.moving_average import MovingAverage
from training.parallel import distributed, synchronised
from training.resume import resume_training, training_state
from training.step import TrainingStep
from utils.checkpoint_files import kept_checkpoints, save_checkpoint
from utils.cli import read_yaml
from utils.compiling import compiled
from utils.config import Config
from utils.distributed import Group
from utils.errors import InputError
from utils.files import write_atomically
from utils.memory_format import memory_format
from utils.precision import supported
from utils.versions import git_commit, versions


@dataclass(frozen=True)
class Loaders:
    """The training batches, in the order of ``sampler``, and the images of each validation set."""

    pairs: list[Pair]
    training: DataLoader
    sampler: EpochSampler
    validation: dict[str, DataLoader]


def build_loaders(config: Config, group: Group) -> Loaders:
    """Check all images of the run and build loaders for this process's share of them.

    Raises:
        InputError: a set or the partner of an image is missing, or an image is broken.
    """
    root, workers = config.data.root, config.data.num_workers
    train_pairs = pairs_of_set(root, config.data.train)
    validation_pairs = pairs_of_sets(root, config.data.validation or config.data.test)
    if group.is_main:
        check_pairs([*train_pairs, *chain(*validation_pairs.values())])
    warn_of_too_many_workers(workers, group)
    sampler = EpochSampler(len(train_pairs), config.train.batch_size, config.seed, group.rank, group.size)
    degrade, cache = config.data.train.degrade, config.data.cache
    training = train_loader(train_pairs, config.data.crop, sampler, config.seed, workers, degrade, cache)
    shares = {name: pairs[group.rank :: group.size] for name, pairs in validation_pairs.items()}
    return Loaders(
        train_pairs, training, sampler, {name: evaluation_loader(pairs, workers) for name, pairs in shares.items()}
    )


class Run:
    """Network, optimizer, schedule and progress of a run, with its checkpoints in ``output``.

    Args:
        config: the complete configuration.
        output: folder of the run.
        group: the processes that train together.
        sampler: determines the order of the training samples.
        init_from: weights to start from, with a fresh optimizer and schedule.

    Attributes:
        step: performs one update.
        model: the network, to be put into training mode before each epoch.
        evaluated: the network to validate: the moving average if there is one.
        progress: the current ``epoch`` (from 1) with the number of its steps (``batch``) and ``samples`` done; the
            steps done in all (``step``); the best validation PSNR in dB (``best_psnr``); the broken training images
            met so far (``broken``); the fingerprint of the training set (``data``); and the last point of the training
            curves while the validation of its step is pending (``point``).

    Raises:
        InputError: the configuration does not suit the network or the device, or the weights cannot be loaded.
    """

    def __init__(
        self, config: Config, output: Path, group: Group, sampler: EpochSampler, init_from: Path | None = None
    ) -> None:
        self.config, self.output, self.group, self.sampler = config, output, group, sampler
        self.last, self.best = (output / "checkpoints" / name for name in ("last.pt", "best.pt"))
        train, device = config.train, group.device
        precision = supported(train.precision, device, warn=group.is_main)
        torch.manual_seed(config.seed)
        self.model = build_for_crop(config)
        if train.sync_batch_norm:
            synchronised(self.model, group)
        # Moved to the device only now that all its modules are in place.
        self.model.to(device, memory_format=memory_format(device, training=True))
        if init_from is not None:
            load_weights(self.model, init_from)
        self.ema = None
        if train.ema_decay is not None:
            self.ema = MovingAverage(self.model, train.ema_decay)
        self.evaluated = self.model if self.ema is None else self.ema.module
        optimizer = torch.optim.Adam(self.model.parameters(), lr=train.lr, fused=True)
        self.scheduler = build_schedule(optimizer, config)
        compiling = device.type == "cuda" if train.compile is None else train.compile
        forward = compiled(self.model) if compiling else self.model
        self.step = TrainingStep(
            self.model,
            MultiScaleLoss(config.loss.fft_weight),
            optimizer,
            train.clip_norm,
            precision=precision,
            ema=self.ema,
            network=distributed(self.model, forward, group),
            group=group,
        )
        self.progress: dict[str, Any] = {
            "epoch": 1,
            "batch": 0,
            "samples": 0,
            "step": 0,
            "best_psnr": float("-inf"),
            "broken": {},
            "data": None,
            "point": None,
        }

    def resume(self) -> list[str]:
        """Restore the state saved in the last checkpoint, under the current configuration.

        The schedule is rebuilt as if it had always had its current settings.

        Returns:
            One line for each change since the run was last started.

        Raises:
            InputError: see ``training.resume.resume_training`` and ``training.changes.check_changes``.
        """
        stored = self._stored_config()
        changes = check_changes(stored, self.config, self.output)
        blank = self.progress | {"samples": None, "step": None}
        self.progress.update(resume_training(self.last, self._stateful(), blank))
        self._complete_progress(stored)
        self.progress["broken"] = still_broken(self.progress["broken"])
        epochs_left = self.progress["epoch"] <= self.config.train.epochs
        if stored and epochs_left and validation_changed(stored, self.config):
            self.progress["best_psnr"] = float("-inf")
            changes.append("best.pt: selection starts afresh, because the validation sets changed")
        self.scheduler = build_schedule(self.step.optimizer, self.config)
        for _ in range(self.progress["epoch"] - (self.progress["batch"] == 0)):
            self.scheduler.step()
        return changes

    def count_step(self) -> None:
        """Advance the progress by one step."""
        progress = self.progress
        progress["samples"] += self.sampler.size(progress["samples"])
        progress["batch"] += 1
        progress["step"] += 1

    def total_steps(self) -> int:
        """The steps of the whole run: those done, plus the remaining ones at the current batch size."""
        epochs_left = self.config.train.epochs - self.progress["epoch"]
        samples_left = self.sampler.length - self.progress["samples"]
        left = -(-samples_left // self.sampler.batch_size) + epochs_left * self.sampler.batches
        return self.progress["step"] + max(0, left)

    def open_curves(self) -> SummaryWriter:
        """Open TensorBoard's event file; points of steps that will be repeated are hidden."""
        step, point = self.progress["step"], self.progress["point"]
        # While the validation of a step is pending, the run may have been killed after writing scores. All points of
        # the step are therefore hidden, and its training point, which is not computed again, is written once more.
        pending = self.progress["batch"] > 0 and self.progress["samples"] == self.sampler.length
        curves = open_curves(self.output, step if pending else step + 1)
        if pending and point is not None and point["step"] == step:
            add_scalars(curves, point["values"], step)
        curves.add_text("config", f"```\n{self.config.to_yaml()}```", step)
        return curves

    def check_data(self, pairs: Sequence[Pair]) -> list[str]:
        """Store the fingerprint of the training set; returns one line if it differs from the stored one, else none."""
        before, now = self.progress["data"], fingerprint(pairs)
        self.progress["data"] = now
        if before is None or before == now:
            return []
        counts = f"{before['pairs']} pairs before, {now['pairs']} now"
        return [f"the training set changed: {counts}" + "; names or sizes differ" * (before["pairs"] == now["pairs"])]

    def _stored_config(self) -> dict[str, Any]:
        try:
            return read_yaml(self.output / "config.yaml")
        except InputError:  # lost; resuming then relies on the checkpoint's own checks
            return {}

    def _complete_progress(self, stored: Mapping[str, Any]) -> None:
        """Fill in what checkpoints of earlier versions do not store, from the batch size of that run."""
        progress, sampler = self.progress, self.sampler
        if progress["step"] is None:
            batch_size = (stored.get("train") or {}).get("batch_size", sampler.batch_size)
            progress["samples"] = min(progress["batch"] * batch_size, sampler.length)
            progress["step"] = (progress["epoch"] - 1) * -(-sampler.length // batch_size) + progress["batch"]

    def save_last(self) -> None:
        """Write last.pt, the checkpoint to resume from."""
        if self.group.is_main:
            state = training_state(self._stateful(), self.progress)
            save_checkpoint(self.last, self._description() | state, self.config.train.keep_checkpoints)

    def save_if_best(self, psnr: float) -> None:
        """Write best.pt if ``psnr``, the mean over the validation sets in dB, is the highest so far."""
        if not psnr > self.progress["best_psnr"]:  # also rejects NaN
            return
        self.progress["best_psnr"] = psnr
        if self.group.is_main:
            state = {"model": self.evaluated.state_dict(), "epoch": self.progress["epoch"], "psnr": psnr}
            save_checkpoint(self.best, self._description() | state)

    def record(self, changes: Sequence[str] = ()) -> None:
        """Write the resolved configuration to config.yaml and append this start of the run to runs.jsonl.

        If there are changes, the previous configuration is kept as config.until_step_N.yaml.
        """
        self.output.mkdir(parents=True, exist_ok=True)
        current = self.output / "config.yaml"
        if changes and current.exists():
            os.replace(current, self.output / f"config.until_step_{self.progress['step']}.yaml")
        write_atomically(current, self.config.to_yaml())
        start = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "step": self.progress["step"],
            "changes": list(changes),
            "command": sys.argv,
            "git_commit": git_commit(),
            **versions(),
        }
        with open(self.output / "runs.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(start) + "\n")

    def _description(self) -> dict[str, Any]:
        return {"task": self.config.task, "model_config": asdict(self.config.model)}

    def _stateful(self) -> dict[str, Any]:
        stateful = {
            "model": self.model,
            "optimizer": self.step.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.step.scaler,
        }
        return stateful if self.ema is None else stateful | {"ema": self.ema}


def build_schedule(optimizer: torch.optim.Optimizer, config: Config) -> GradualWarmupScheduler:
    """Linear warm-up to ``train.lr``, then cosine to ``train.min_lr``; one step per epoch, before its first batch."""
    train = config.train
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = train.lr
    cosine = CosineAnnealingLR(optimizer, train.epochs - train.warmup_epochs, train.min_lr)
    return GradualWarmupScheduler(optimizer, 1, train.warmup_epochs, cosine)


def is_started(output: Path) -> bool:
    """Whether ``output`` contains a checkpoint to resume from."""
    return bool(kept_checkpoints(output / "checkpoints" / "last.pt"))


def build_for_crop(config: Config) -> nn.Module:
    """Build the network of a configuration and check that it accepts the training crop.

    Raises:
        InputError: an option of the network is invalid, or the crop has a size that the network does not accept.
    """
    try:
        model = build_model(**asdict(config.model))
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    multiple, least = model.size_multiple, model.min_size
    if any(side % multiple or side < least for side in config.data.crop):
        height, width = config.data.crop
        raise InputError(
            f"data.crop_size: {height}x{width} does not suit this network; both sides must be multiples of {multiple} "
            f"and at least {least}"
        )
    return model
