"""What a run minimises, and how: its loss, its optimizer and the schedule of the learning rate."""

from dataclasses import asdict
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from warmup_scheduler import GradualWarmupScheduler

from evaluation.perceptual import lpips_network
from losses import MultiScaleLoss
from utils.config import Config, LossConfig, TrainConfig

OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def build_optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of a configuration for the parameters of ``model`` that are trained.

    Only the weights of convolutions decay: biases, the weights of norms and the attention's weights per channel, all of
    them vectors, are in a group of their own. ``adam`` adds the decay to the gradient (L2 regularisation), ``adamw``
    shrinks the weights by ``lr * weight_decay`` in each update (Loshchilov and Hutter, "Decoupled Weight Decay
    Regularization", ICLR 2019).
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": trained}]
    if train.weight_decay > 0:
        groups = [
            {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": train.weight_decay},
            {"params": [parameter for parameter in trained if parameter.ndim <= 1]},
        ]
    groups = [group for group in groups if group["params"]]
    # Fused: only fused optimizers skip an update on the device (see TrainingStep).
    return OPTIMIZERS[train.optimizer](groups, lr=train.lr, betas=tuple(train.betas), weight_decay=0, fused=True)


def build_schedule(optimizer: torch.optim.Optimizer, config: Config) -> GradualWarmupScheduler:
    """Linear warm-up to ``train.lr``, then cosine to ``train.min_lr``; one step per epoch, before its first batch."""
    train = config.train
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = train.lr
    cosine = CosineAnnealingLR(optimizer, train.epochs - train.warmup_epochs, train.min_lr)
    return GradualWarmupScheduler(optimizer, 1, train.warmup_epochs, cosine)


def build_loss(loss: LossConfig, device: torch.device) -> MultiScaleLoss:
    """The loss of a configuration.

    Raises:
        InputError: LPIPS has a weight and cannot be loaded.
    """
    lpips = None
    if loss.lpips_weight > 0:
        lpips = partial(lpips_network(device, "loss.lpips_weight"), normalize=True)
    return MultiScaleLoss(**asdict(loss), lpips=lpips).to(device)
