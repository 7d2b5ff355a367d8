"""A training run: its network, optimizer and schedule, its progress and its checkpoints."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from data.sampler import EpochSampler
from data.survey import still_broken
from models import load_weights
from models.build import in_format
from models.weights import load_matching
from training.changes import check_changes, validation_changed
from training.contract import build_for_crop
from training.curves import Curves
from training.freezing import freeze
from training.moving_average import MovingAverage
from training.objective import build_loss, build_optimizer, build_schedule
from training.parallel import distributed, synchronised, warn_of_single_images
from training.resume import resume_training, training_state
from training.step import TrainingStep, Update
from training.watch import Meter
from utils.checkpoint_files import save_checkpoint
from utils.cli import read_yaml
from utils.compiling import compiled
from utils.config import Config
from utils.distributed import Group
from utils.errors import InputError, printable
from utils.memory_format import memory_format
from utils.precision import supported


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
        curves: in the main process, within ``open_curves``.
        meter: measures the current epoch; the loop sets it.
        progress: the current ``epoch`` (from 1) with the number of its steps (``batch``) and ``samples`` done, of which
            it has ``length``; the steps done in all (``step``), of which the last one validated (``validated``); the
            best validation score by ``train.best_by`` (``best_score``) and the PSNR in dB of that validation
            (``best_psnr``); in a checkpoint, the figures of the current epoch (``so_far``); the broken training images
            met so far (``broken``); the validation images to show (``shown``), by set and difficulty; and the
            fingerprints of the training sets (``data``) and of the validation sets (``validation``).

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
        in_format(self.model.to(device), memory_format(device, training=True))
        if init_from is not None:
            self._start_from(init_from)
        self.frozen = freeze(self.model, train.freeze)
        if group.is_main:
            warn_of_single_images(config, self.model, self.frozen, group)
        self.ema = None
        if train.ema_decay is not None:
            self.ema = MovingAverage(self.model, train.ema_decay)
        self.evaluated = self.model if self.ema is None else self.ema.module
        optimizer = build_optimizer(self.model, train)
        self.scheduler = build_schedule(optimizer, config)
        compiling = device.type == "cuda" if train.compile is None else train.compile
        forward = compiled(self.model) if compiling else self.model
        self.step = TrainingStep(
            self.model,
            build_loss(config.loss, device),
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
            "validated": None,
            "best_score": float("-inf"),
            "best_psnr": float("-inf"),
            "so_far": {},
            "broken": {},
            "shown": {},
            "length": sampler.length,
            "data": None,
            "validation": None,
        }
        self.curves: Curves | None = None
        self.meter: Meter | None = None

    def _start_from(self, weights: Path) -> None:
        """Load the weights to start from, all of them or those that match, which is then printed."""
        if self.config.train.init_from_strict:
            load_weights(self.model, weights)
            return
        for line in load_matching(self.model, weights):
            if self.group.is_main:
                print(printable(f"{weights}: {line}"))

    def resume(self, fingerprints: Mapping[str, Any]) -> list[str]:
        """Restore the state saved in the last checkpoint, under the current configuration and for the current data.

        The schedule is rebuilt as if it had always had its current settings.

        Args:
            fingerprints: those of the current data, by their key in the progress.

        Returns:
            One line for each change since the run was last started.

        Raises:
            InputError: see ``training.resume.resume_training`` and ``training.changes.check_changes``.
        """
        stored = self._stored_config()
        changes = check_changes(stored, self.config, self.output)
        later = ("samples", "step", "validated", "best_score", "so_far", "shown", "length")
        blank = self.progress | dict.fromkeys(later)
        progress = self.progress
        progress.update(resume_training(self.last, self._stateful(), blank))
        self._complete_progress(stored)
        progress["broken"] = still_broken(progress["broken"])
        data_changes = self._adopt_data(fingerprints["data"])
        changes = [self._with_position(change) for change in changes] + data_changes
        sets_changed = validation_changed(stored, self.config) if stored else False
        images_changed = progress["validation"] not in (None, fingerprints["validation"])
        if progress["epoch"] <= self.config.train.epochs and (sets_changed or images_changed):
            progress.update(best_score=float("-inf"), best_psnr=float("-inf"), shown={})
            changes.append("best.pt: selection starts afresh, because the validation sets changed")
        elif any(change.startswith("train.best_by:") for change in changes):
            progress.update(best_score=float("-inf"), best_psnr=float("-inf"))
            changes.append("best.pt: selection starts afresh, because train.best_by changed")
        progress["validation"] = fingerprints["validation"]
        self.scheduler = build_schedule(self.step.optimizer, self.config)
        for _ in range(min(self.progress["epoch"], self.config.train.epochs + 1) - (self.progress["batch"] == 0)):
            self.scheduler.step()
        return changes

    def update(self, batch: Mapping[str, Any]) -> Update:
        """Update the weights with the next batch of the sampler, and advance the progress by one step."""
        progress, sampler = self.progress, self.sampler
        done = progress["samples"]
        parts = sampler.micro_batches(done, self.config.train.accumulate)
        update = self.step(batch, sampler.weight(done), parts)
        progress["samples"] += sampler.size(done)
        progress["batch"] += 1
        progress["step"] += 1
        return update

    def total_steps(self) -> int:
        """The steps of the whole run: those done, plus the remaining ones at the current batch sizes."""
        epoch, epochs, sampler = self.progress["epoch"], self.config.train.epochs, self.sampler
        if epoch > epochs:
            return self.progress["step"]
        left = sampler.batches(epoch, self.progress["samples"])
        return self.progress["step"] + left + sum(map(sampler.batches, range(epoch + 1, epochs + 1)))

    @contextlib.contextmanager
    def open_curves(self) -> Iterator[None]:
        """Draw curves within the block, after those of the last checkpoint, and close them at its end."""
        if not self.group.is_main:
            yield
            return
        self.curves = Curves(self.output, self.config, self.progress["step"], validated=not self.awaits_validation())
        try:
            yield
        finally:
            self.curves.close(finished=self.progress["epoch"] > self.config.train.epochs)

    def awaits_validation(self) -> bool:
        """Whether a validation is due after the last step and was not done."""
        train, progress = self.config.train, self.progress
        step, epoch = progress["step"], progress["epoch"]
        if progress["validated"] == step:
            return False
        if step == 0:
            return train.validate_start
        if train.validate_every_steps is not None and step % train.validate_every_steps == 0:
            return True
        return self.is_trained() and (epoch % train.validate_every == 0 or epoch == train.epochs)

    def is_trained(self) -> bool:
        """Whether all steps of the epoch are done."""
        return self.progress["batch"] > 0 and self.progress["samples"] >= self.sampler.length

    def start_training(self) -> None:
        """Put the network into training mode, except for the norms that are frozen."""
        self.model.train()
        for norm in self.frozen:
            norm.eval()
        # An epoch's crops have one size, for which cuDNN finds the fastest convolutions; validation turns this off.
        torch.backends.cudnn.benchmark = not self.config.train.deterministic

    def _adopt_data(self, now: Mapping[str, Any]) -> list[str]:
        """Store the fingerprint of the training set; returns one line if it differs from the stored one, else none.

        The order of the images within an epoch depends on their number, so the current epoch starts again.
        """
        progress, before, length = self.progress, self.progress["data"], self.progress["length"]
        progress.update(data=now, length=self.sampler.length)
        if before in (None, now):
            return []
        change = f"the training set changed: {before['pairs']} pairs before, {now['pairs']} now"
        change += "; names or sizes differ" * (before["pairs"] == now["pairs"])
        if progress["batch"] == 0:
            return [change]
        if progress["samples"] >= length:  # only the validation is left
            progress["samples"] = self.sampler.length
            return [change]
        progress.update(batch=0, samples=0, so_far={})
        return [f"{change}; epoch {progress['epoch']} starts again"]

    def _with_position(self, change: str) -> str:
        """Add to a changed batch size where the epoch continues."""
        if self.progress["batch"] == 0 or not change.startswith("train.batch_size:"):
            return change
        done = f"{self.progress['samples']} of {self.sampler.length} images"
        return f"{change}; epoch {self.progress['epoch']} continues after {done}"

    def _stored_config(self) -> dict[str, Any]:
        try:
            return read_yaml(self.output / "config.yaml")
        except InputError:  # lost; resuming then relies on the checkpoint's own checks
            return {}

    def _complete_progress(self, stored: Mapping[str, Any]) -> None:
        """Fill in what checkpoints of earlier versions do not store, from the batch size of that run."""
        progress, sampler = self.progress, self.sampler
        for key in ("so_far", "shown"):
            progress[key] = progress[key] or {}
        if progress["best_score"] is None:
            progress["best_score"] = progress["best_psnr"]
        if progress["length"] is None and progress["data"] is not None:
            progress["length"] = progress["data"]["pairs"] * self.config.data.train.repeats
        if progress["step"] is None:
            train = stored.get("train")
            batch_size = train.get("batch_size") if isinstance(train, Mapping) else None
            if not isinstance(batch_size, int) or batch_size < 1:
                batch_size = sampler.batch_size
            progress["samples"] = min(progress["batch"] * batch_size, sampler.length)
            progress["step"] = (progress["epoch"] - 1) * -(-sampler.length // batch_size) + progress["batch"]

    def save_last(self) -> None:
        """Write last.pt, the checkpoint to resume from, after the points of the curves up to it."""
        if self.group.is_main:
            if self.curves is not None:
                self.curves.flush()
            if self.meter is not None:
                self.progress["so_far"] = self.meter.so_far()
            save_checkpoint(self.last, self.state(), self.config.train.keep_checkpoints)

    def state(self) -> dict[str, Any]:
        """What last.pt contains."""
        return self._description() | training_state(self._stateful(), self.progress)

    def save_if_best(self, scores: Mapping[str, float]) -> None:
        """Record a validation, whose ``scores`` are means over the sets, and write best.pt if it is the best so far."""
        progress, metric = self.progress, self.config.train.best_by
        if scores[metric] > progress["best_score"]:  # never if NaN
            progress.update(best_score=scores[metric], best_psnr=scores["psnr"])
            if self.group.is_main:
                state = {"model": self.evaluated.state_dict(), "epoch": progress["epoch"], **scores}
                save_checkpoint(self.best, self._description() | state)
        progress["validated"] = progress["step"]
        if self.curves is not None:
            shown = {"psnr": progress["best_psnr"], metric: progress["best_score"]}
            points = {f"validation/{name}": scores[name] for name in shown}
            points |= {f"validation/best_{name}": value for name, value in shown.items()}
            self.curves.scalars(points, progress["step"])

    def _description(self) -> dict[str, Any]:
        return {"task": self.config.task, "model_config": self.config.model.arguments()}

    def _stateful(self) -> dict[str, Any]:
        stateful = {
            "model": self.model,
            "optimizer": self.step.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.step.scaler,
        }
        return stateful if self.ema is None else stateful | {"ema": self.ema}
