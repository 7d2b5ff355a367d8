"""Score the images of a test set."""

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from data.images import BrokenImage, read_image
from data.transforms import to_tensor
from evaluation.metrics import PROTOCOLS
from evaluation.perceptual import Metric
from inference.failures import reason_of
from inference.finite import ADVICE
from inference.whole import restore
from utils.compiling import Network
from utils.errors import printable
from utils.precision import Precision, autocast


@dataclass(frozen=True)
class Score:
    """Scores of one image by metric, of the input and of the restored image.

    ``seconds`` is the method's time on the device, including padding; None if the image was restored elsewhere, as
    ``input`` is empty if the input is not known.
    """

    name: str
    input: dict[str, float]
    restored: dict[str, float]
    seconds: float | None


@dataclass(frozen=True)
class Failure:
    """An image without a score, and the reason in one line; ``was_read`` if it failed only when it was restored."""

    name: str
    problem: str
    was_read: bool = True


Method = Callable[[str, Tensor], Tensor]
"""A way to restore: an image's name and input, (1, 3, H, W) in [0, 1] on the device -> restored, of the same shape.

What it raises is about this image.
"""


def network_method(
    model: nn.Module,
    *,
    self_ensemble: bool = False,
    precision: Precision = "float32",
    network: Network | None = None,
) -> Method:
    """Restoration by a network in eval mode; for the options see ``inference.whole.restore``."""

    def method(name: str, input: Tensor) -> Tensor:
        with autocast(precision, input.device):
            return restore(model, input, self_ensemble=self_ensemble, network=network)

    return method


def files_method(files: Mapping[str, Path]) -> Method:
    """Images that were restored before, by any method, read from files.

    Args:
        files: by the name of the image.
    """

    def method(name: str, input: Tensor) -> Tensor:
        restored = to_tensor(read_image(files[name]))
        if restored.shape != input.shape[1:]:
            sizes = ["{2}x{1}".format(*image.shape[-3:]) for image in (restored, input)]
            raise BrokenImage(files[name], f"it is {sizes[0]} pixels, but the input is {sizes[1]}")
        return restored[None].to(input.device)

    return method


def score_images(
    method: Method,
    samples: Iterable[dict],
    protocol: str,
    device: torch.device,
    perceptual: Mapping[str, Metric] | None = None,
) -> Iterator[tuple[Score | Failure, *tuple[Tensor, ...]]]:
    """Restore and score samples of one image each, in order.

    Each image's scores reach the host in one copy, which is read after the next image has been queued, so a GPU does
    not wait for the host between images.

    Args:
        method: restores each image.
        samples: from ``data.datasets.evaluation_loader``.
        protocol: a key of ``evaluation.metrics.PROTOCOLS``.
        perceptual: metrics of ``evaluation.perceptual`` by name, scored in addition to the protocol's.

    Yields:
        The ``Score`` followed by input, restored and target, (1, 3, H, W) in [0, 1] on ``device``; or a ``Failure``
        alone if the image cannot be read, restored or scored, or the restored image is not finite.
    """

    def start(sample: dict) -> Callable[[], tuple]:
        """Queue the work for one image; the function returned waits for its scores."""
        (name,) = sample["name"]
        if "input" not in sample:
            return lambda: (Failure(name, "; ".join(sample["broken"].values()), was_read=False),)
        try:
            return queue(name, *(sample[key].to(device, non_blocking=True) for key in ("input", "target")))
        except Exception as error:  # whatever it is, the other images are scored
            problem = str(error) if isinstance(error, BrokenImage) else f"{name}: {reason_of(error)}"
            return lambda: (Failure(name, problem),)

    def queue(name: str, input: Tensor, target: Tensor) -> Callable[[], tuple]:
        watch = Stopwatch(device)
        restored = method(name, input)
        watch.stop()
        sides = [PROTOCOLS[protocol](image, target) for image in (input, restored)]
        for side, image in zip(sides, (input, restored), strict=True):
            side |= {metric: distance(image, target) for metric, distance in (perceptual or {}).items()}
        metrics = list(sides[0])
        values = [restored.sum(dtype=torch.float64)[None]]  # a metric may not look at every pixel
        values += [side[metric].double() for side in sides for metric in metrics]
        copy = HostCopy(torch.cat(values))

        def finish() -> tuple:
            total, *scores = copy.tolist()
            if not all(map(math.isfinite, (total, *scores))):
                return (Failure(name, f"{name}: the restored image is not finite; {ADVICE}"),)
            of_input, of_restored = (
                dict(zip(metrics, part, strict=True)) for part in (scores[: len(metrics)], scores[len(metrics) :])
            )
            return Score(name, of_input, of_restored, watch.seconds()), input, restored, target

        return finish

    finish = None
    for sample in samples:
        following = start(sample)
        if finish is not None:
            yield finish()
        finish = following
    if finish is not None:
        yield finish()


class HostCopy:
    """Copies a tensor to the host in the background; ``tolist`` waits for this copy, not for later work."""

    def __init__(self, values: Tensor) -> None:
        self.values = values.to("cpu", non_blocking=values.is_cuda)
        self.copied = torch.cuda.Event() if values.is_cuda else None
        if self.copied is not None:
            self.copied.record()

    def tolist(self) -> list[float]:
        """The tensor's values."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.values.tolist()


class Stopwatch:
    """Measures the device's time from construction to ``stop``; only ``seconds`` waits for the device."""

    def __init__(self, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self.begin = self._mark()

    def stop(self) -> None:
        """Mark the end of the measured work."""
        self.end = self._mark()

    def seconds(self) -> float:
        """Elapsed time in seconds."""
        if not self.on_cuda:
            return self.end - self.begin
        self.end.synchronize()
        return self.begin.elapsed_time(self.end) / 1000

    def _mark(self) -> float | torch.cuda.Event:
        if not self.on_cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def scored_and_failed(results: Iterable[Score | Failure]) -> tuple[list[Score], list[Failure]]:
    """Split results into scores and failures, each in the original order."""
    scores, failures = [], []
    for result in results:
        (scores if isinstance(result, Score) else failures).append(result)
    return scores, failures


def report_failures(failures: Iterable[Failure]) -> None:
    """Print each distinct problem in one line on stderr; several inputs may share a broken target."""
    for problem in dict.fromkeys(failure.problem for failure in failures):
        tqdm.write(f"error: {printable(problem)}", file=sys.stderr)


def why_none(failures: Sequence[Failure]) -> str:
    """Why a set has no score, in one line: the first problem, and the number of others."""
    problems = list(dict.fromkeys(failure.problem for failure in failures))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"none of its {len(failures)} images could be scored: {problems[0]}{more}"
