"""Validation during training."""

from statistics import mean

import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter

from evaluation.results import summary
from evaluation.scoring import Failure, network_method, report_failures, score_images, scored_and_failed, why_none
from training.curves import add_scalars, side_by_side
from utils.config import Config
from utils.distributed import Group, progress_bar
from utils.errors import printable
from utils.signals import StopSignal

STRIPS_PER_SET = 3  # images of each validation set shown in TensorBoard


def validate(
    model: nn.Module,
    validation_loaders: dict[str, DataLoader],
    config: Config,
    group: Group,
    curves: SummaryWriter | None,
    step: int,
    stop: StopSignal,
) -> float | None:
    """Score every validation set and write its curves and first images to TensorBoard.

    An image that cannot be read is reported on stderr and left out of the mean.

    Returns:
        The mean PSNR over the sets in dB, or None if ``stop`` was received; the validation is repeated after resuming.

    Raises:
        InputError: none of the images of a set can be read, or none of the restored ones is finite.
    """
    model.eval()
    torch.backends.cudnn.benchmark = False  # would search anew for each size of image
    parts = config.data.validation or config.data.test
    set_psnrs = []
    for name, loader in validation_loaders.items():
        results = []
        scored = score_images(network_method(model), loader, parts[name].protocol, group.device)
        for result, *images in progress_bar(group, scored, desc=printable(name), total=len(loader), leave=False):
            if stop.received:
                break
            if curves is not None and len(results) < STRIPS_PER_SET and not isinstance(result, Failure):
                title = printable(f"{name}/{result.name} (input, restored, target)")
                curves.add_image(title, side_by_side(*images), step)
            results.append(result)
        if group.any(stop.received):
            return None
        results = group.gather(results)
        scores, failures = scored_and_failed(results)
        if not scores and any(failure.was_read for failure in failures):
            group.refuse(
                f"{name}: after step {step}, the network restores none of the {len(results)} validation images to "
                "finite values: the training has diverged; start it again in another --output, with a lower train.lr"
            )
        if not scores:
            group.refuse(f"{name}: {why_none(results)}")
        if group.is_main:
            report_failures(failures)
        means = summary(results)
        set_psnrs.append(means["restored"]["psnr"])
        if curves is not None:
            add_scalars(
                curves, {f"validation/{name}/{metric}": value for metric, value in means["restored"].items()}, step
            )
            inputs = {f"validation/{name}/input_{metric}": value for metric, value in means["input"].items()}
            add_scalars(curves, inputs, step)
    return mean(set_psnrs)
