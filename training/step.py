"""The training step: one update of the weights."""

import contextlib
from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from losses import LossTerms, MultiScaleLoss
from training.moving_average import MovingAverage
from utils.compiling import Network
from utils.distributed import Group
from utils.precision import Precision, autocast


class Update(NamedTuple):
    """The figures of one update, as scalars that stay on the device until the curves need them.

    Attributes:
        loss: loss of this process's batch, multiplied by its weight.
        grad_norm: L2 norm of the gradient before clipping.
        finite: whether loss and gradient were finite in all processes; if not, the weights were left unchanged.
    """

    loss: LossTerms
    grad_norm: Tensor
    finite: Tensor


class TrainingStep:
    """Forward pass, loss, backward pass, gradient clipping, optimizer, moving average; never waits for the device.

    Args:
        model: owns the weights.
        criterion: computes the loss from the outputs, coarse to fine, and the target.
        optimizer: must be fused, because only fused optimizers skip an update on the device (``found_inf``).
        clip_norm: the L2 norm of the gradient is clipped to this.
        precision: precision of the forward pass; the loss is computed in float32.
        ema: moving average of the weights, updated after each step.
        network: called in place of ``model``; shares its weights but is compiled or distributed.
        group: the processes that share the global batch.

    Attributes:
        scaler: scales the loss in fp16; its state belongs in a checkpoint.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: MultiScaleLoss,
        optimizer: torch.optim.Optimizer,
        clip_norm: float,
        *,
        precision: Precision = "float32",
        ema: MovingAverage | None = None,
        network: Network | None = None,
        group: Group | None = None,
    ) -> None:
        self.model, self.criterion, self.optimizer, self.clip_norm = model, criterion, optimizer, clip_norm
        self.precision, self.ema, self.network = precision, ema, network or model
        self.device = next(model.parameters()).device
        self.group = group or Group(0, 1, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")

    def __call__(self, batch: Mapping[str, Tensor], weight: float = 1.0, micro_batches: int = 1) -> Update:
        """Update the weights once.

        Args:
            batch: ``input`` and ``target``, float32 (N, 3, H, W) in [0, 1], on any device.
            weight: weight of this process's loss in the mean over all processes.
            micro_batches: parts of the batch that are computed one after the other, at most N; the same number in all
                processes. Each part counts by its number of images, so the gradient is that of the whole batch, except
                that batch norm sees one part at a time.
        """
        self.optimizer.zero_grad()
        count = len(batch["input"])
        parts = zip(*(batch[key].tensor_split(micro_batches) for key in ("input", "target")), strict=True)
        losses = []
        for number, (input, target) in enumerate(parts, start=1):
            with contextlib.nullcontext() if number == micro_batches else self._no_exchange():
                losses.append(self._accumulate(input, target, weight * (len(input) / count)))
        terms = [loss.computed() for loss in losses]
        return self._update(LossTerms(**{name: reduce(add, (term[name] for term in terms)) for name in terms[0]}))

    def _no_exchange(self) -> contextlib.AbstractContextManager:
        """Processes exchange the sum of their gradients once, in the backward pass of the last micro-batch."""
        distributed = isinstance(self.network, DistributedDataParallel)
        return self.network.no_sync() if distributed else contextlib.nullcontext()

    def _accumulate(self, input: Tensor, target: Tensor, weight: float) -> LossTerms:
        """Accumulate the gradient of one micro-batch; returns its weighted loss, detached."""
        input, target = (images.to(self.device, non_blocking=True) for images in (input, target))
        with autocast(self.precision, self.device):
            outputs = self.network(input)
        terms = {name: term * weight for name, term in self.criterion(outputs, target).computed().items()}
        self.scaler.scale(terms["total"]).backward()
        return LossTerms(**{name: term.detach() for name, term in terms.items()})

    def _update(self, loss: LossTerms) -> Update:
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        finite = self.group.mean((loss.total + grad_norm) * 0) == 0
        # GradScaler.step would check the gradient alone. This skips exactly the updates that are reported as skipped.
        self.optimizer.grad_scale, self.optimizer.found_inf = None, (~finite).float()
        self.optimizer.step()
        self.scaler.update()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return Update(loss, grad_norm, finite)
