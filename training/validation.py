"""Validation during training."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

import numpy as np
import torch
from torch.utils.data import DataLoader

from data.datasets import PairedImages, evaluation_loader
from evaluation.results import summary
from evaluation.scoring import (
    Failure,
    Method,
    Score,
    network_method,
    report_failures,
    score_images,
    scored_and_failed,
    why_none,
)
from training.curves import Curves
from training.examples import Shown, choose, example
from training.run import Run
from utils.distributed import Group, progress_bar
from utils.errors import printable
from utils.signals import StopSignal

Examples = dict[str, dict[str, np.ndarray]]
"""What ``example`` shows of each image, by its name."""


def validate(run: Run, loaders: Mapping[str, DataLoader], stop: StopSignal) -> dict[str, float] | None:
    """Score every validation set; write its curves, and show a few of its images.

    An image that cannot be read is reported on stderr and left out of the mean. The first validation of a set chooses
    the images to show, which ``run.progress`` keeps, and shows their inputs and targets.

    Returns:
        The mean over the sets of each score that all of them have, PSNR in dB and SSIM among them; or None if ``stop``
        was received: the validation is repeated after resuming.

    Raises:
        InputError: none of the images of a set can be read, or none of the restored ones is finite.
    """
    run.evaluated.eval()
    torch.backends.cudnn.benchmark = False  # would search anew for each size of image
    group, step, known = run.group, run.progress["step"], run.progress["shown"]
    parts = run.config.data.validated
    method = network_method(run.evaluated)
    of_sets = []
    for name, loader in loaders.items():
        results, examples = [], {}
        names = known.get(name, {}).values()
        scored = score_images(method, loader, parts[name].protocol, group.device)
        for result, *images in progress_bar(group, scored, desc=printable(name), total=len(loader), leave=False):
            if stop.received:
                break
            if images and result.name in names:
                examples[result.name] = example(*images)
            results.append(result)
        if group.any(stop.received):
            return None
        results = group.gather(results)
        scores = checked(name, results, step, group)
        is_first = name not in known
        if is_first:
            known[name] = choose(scores)
            examples = examples_of(known[name].values(), loader.dataset, method, parts[name].protocol, group)
        everywhere = group.gather([examples])
        means = summary(results)
        of_sets.append(means["restored"])
        if run.curves is not None:
            run.curves.scalars(points_of(name, means), step)
            show(run.curves, name, known[name], everywhere, step, ("input", "target") if is_first else ())
    return {
        metric: mean(scores[metric] for scores in of_sets)
        for metric in of_sets[0]
        if all(metric in scores for scores in of_sets)
    }


def checked(name: str, results: Sequence[Score | Failure], step: int, group: Group) -> list[Score]:
    """The scores of a set, after the failures have been reported.

    Raises:
        InputError: there are none.
    """
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
    return scores


def points_of(name: str, means: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The points of a set's curves, from its ``summary``."""
    points = {f"validation/{name}/{metric}": value for metric, value in means["restored"].items()}
    points |= {f"validation/{name}/input_{metric}": value for metric, value in means["input"].items()}
    return points | {f"validation/{name}/made_worse": means["made_worse"]["psnr"]}


def examples_of(names: Iterable[str], images: PairedImages, method: Method, protocol: str, group: Group) -> Examples:
    """Restore the images of these names once more, those of this process's share: what they show was not kept."""
    wanted = set(names)
    loader = evaluation_loader([pair for pair in images.pairs if pair.name in wanted], 0, images.degrade)
    scored = score_images(method, loader, protocol, group.device)
    return {result.name: example(*tensors) for result, *tensors in scored if tensors}


def show(
    curves: Curves, name: str, shown: Shown, everywhere: Iterable[Examples], step: int, once: Sequence[str]
) -> None:
    """Show the output and its error for each difficulty, and what is shown only ``once``."""
    examples = {image: parts for of_process in everywhere for image, parts in of_process.items()}
    for difficulty, image in shown.items():
        for part in ("output", "error", *once) if image in examples else ():
            tag = printable(f"validation/{name}/{difficulty} {image}/{part}")
            curves.image(tag, examples[image][part], step)
