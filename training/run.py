"""What a run is made of: data, network, optimizer, schedule; where it stands, and what it leaves behind."""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader
from warmup_scheduler import GradualWarmupScheduler

from data.datasets import evaluation_loader, train_loader
from data.sampler import EpochSampler
from data.sets import pairs_of_set, pairs_of_sets
from data.survey import check_pairs, still_broken
from losses import MultiScaleLoss
from models import build_model, load_weights
from training.moving_average import MovingAverage
from training.parallel import distributed, synchronised
from training.resume import resume_training, training_state
from training.step import TrainingStep
from utils.checkpoint_files import kept_checkpoints, save_checkpoint
from utils.compiling import compiled
from utils.config import Config
from utils.distributed import Group
from utils.errors import InputError
from utils.files import write_whole
from utils.precision import supported
from utils.versions import git_commit, versions


@dataclass(frozen=True)
class Loaders:
    """Batches for training, in the order of ``sampler``, and the images of each validation set."""

    training: DataLoader
    sampler: EpochSampler
    validation: dict[str, DataLoader]


def build_loaders(config: Config, group: Group) -> Loaders:
    """Loaders over this process's share of the images, all of which have been looked at.

    Raises:
        InputError: a set or a partner is missing, or an image is broken.
    """
    root, workers = config.data.root, config.data.num_workers
    train_pairs = pairs_of_set(root, config.data.train)
    validation_pairs = pairs_of_sets(root, config.data.validation or config.data.test)
    if group.is_main:
        check_pairs([*train_pairs, *chain(*validation_pairs.values())])
    sampler = EpochSampler(len(train_pairs), config.train.batch_size, config.seed, group.rank, group.size)
    degrade, cache = config.data.train.degrade, config.data.cache
    training = train_loader(train_pairs, config.data.crop, sampler, config.seed, workers, degrade, cache)
    shares = {name: pairs[group.rank :: group.size] for name, pairs in validation_pairs.items()}
    return Loaders(training, sampler, {name: evaluation_loader(pairs, workers) for name, pairs in shares.items()})


class Run:
    """Network, optimizer, schedule and progress of a training, and its checkpoints in ``output``.

    Args:
        config: the whole configuration.
        output: folder of the run.
        init_from: weights to start from, with a fresh optimizer and schedule.

    Attributes:
        step: does one update.
        network: what goes into training mode before an epoch.
        evaluated: the network to validate: the moving average where there is one.
        progress: ``batch`` steps of ``epoch`` are done, ``best_psnr`` is the best validation so far, and ``broken``
            lists the training images that others have replaced.

    Raises:
        InputError: the configuration does not fit the network or the device, or the weights cannot be loaded.
    """

    def __init__(self, config: Config, output: Path, group: Group, init_from: Path | None = None) -> None:
        self.config, self.output, self.group = config, output, group
        self.last, self.best = (output / "checkpoints" / name for name in ("last.pt", "best.pt"))
        train, device = config.train, group.device
        precision = supported(train.precision, device)
        torch.manual_seed(config.seed)
        self.model = build_for_crop(config)
        if train.sync_batch_norm:
            synchronised(self.model, group)
        self.model.to(device)  # whole: nothing is added to it after this
        if init_from is not None:
            load_weights(self.model, init_from)
        self.ema = None
        if train.ema_decay is not None:
            self.ema = MovingAverage(self.model, train.ema_decay)
        self.evaluated = self.model if self.ema is None else self.ema.module
        optimizer = torch.optim.Adam(self.model.parameters(), lr=train.lr, fused=True)
        cosine = CosineAnnealingLR(optimizer, train.epochs - train.warmup_epochs, train.min_lr)
        self.scheduler = GradualWarmupScheduler(optimizer, 1, train.warmup_epochs, cosine)
        self.network = distributed(self.model, group)
        compiling = device.type == "cuda" if train.compile is None else train.compile
        self.step = TrainingStep(
            self.model,
            MultiScaleLoss(config.loss.fft_weight),
            optimizer,
            train.clip_norm,
            precision=precision,
            ema=self.ema,
            network=compiled(self.network) if compiling else self.network,
            group=group,
        )
        self.progress: dict[str, Any] = {"epoch": 1, "batch": 0, "best_psnr": float("-inf"), "broken": {}}

    def steps(self, steps_per_epoch: int) -> int:
        """How many steps are done."""
        return (self.progress["epoch"] - 1) * steps_per_epoch + self.progress["batch"]

    def resume(self) -> None:
        """Continue where the last checkpoint was saved.

        Raises:
            InputError: as ``training.resume.resume_training``.
        """
        self.progress = resume_training(self.last, self._stateful(), self.progress)
        self.progress["broken"] = still_broken(self.progress["broken"])

    def save_last(self) -> None:
        """Write last.pt, from which the run resumes."""
        if self.group.is_main:
            state = training_state(self._stateful(), self.progress)
            save_checkpoint(self.last, self._about() | state, self.config.train.keep_checkpoints)

    def note_psnr(self, psnr: float) -> None:
        """Write best.pt if a validation was the best so far; ``psnr`` in dB, the mean over the validation sets."""
        if psnr <= self.progress["best_psnr"]:
            return
        self.progress["best_psnr"] = psnr
        if self.group.is_main:
            state = {"model": self.evaluated.state_dict(), "epoch": self.progress["epoch"], "psnr": psnr}
            save_checkpoint(self.best, self._about() | state)

    def record(self) -> None:
        """Write the resolved configuration as config.yaml and append this start of the run to runs.jsonl."""
        self.output.mkdir(parents=True, exist_ok=True)
        write_whole(self.output / "config.yaml", self.config.to_yaml())
        start = {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "git_commit": git_commit(),
            **versions(),
        }
        with open(self.output / "runs.jsonl", "a") as file:
            file.write(json.dumps(start) + "\n")

    def _about(self) -> dict[str, Any]:
        return {"task": self.config.task, "model_config": asdict(self.config.model)}

    def _stateful(self) -> dict[str, Any]:
        stateful = {
            "model": self.model,
            "optimizer": self.step.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.step.scaler,
        }
        return stateful if self.ema is None else stateful | {"ema": self.ema}


def is_started(output: Path) -> bool:
    """Whether ``output`` holds a checkpoint to resume from."""
    return bool(kept_checkpoints(output / "checkpoints" / "last.pt"))


def build_for_crop(config: Config) -> nn.Module:
    """The network of a configuration, once it is known to take the training crop.

    Raises:
        InputError: a wrong option of the network, or a crop that it does not take.
    """
    try:
        model = build_model(**asdict(config.model))
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    multiple, least = model.size_multiple, model.min_size
    if any(side % multiple or side < least for side in config.data.crop):
        raise InputError(f"data.crop_size: multiples of {multiple} and at least {least}, not {config.data.crop}")
    return model
