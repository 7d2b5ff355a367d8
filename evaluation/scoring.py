"""Scoring a set of images."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from evaluation.metrics import PROTOCOLS
from inference.whole import restore
from utils.compiling import Network
from utils.errors import InputError, printable
from utils.precision import Precision, autocast


@dataclass(frozen=True)
class Score:
    """One image's scores, by the metric's name, before and after restoration.

    ``seconds`` is the network's time on the device, padding included.
    """

    name: str
    input: dict[str, float]
    restored: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """An image that has no score, and why, in one line."""

    name: str
    problem: str


def score_images(
    model: nn.Module,
    samples: Iterable[dict],
    protocol: str,
    device: torch.device,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    self_ensemble: bool = False,
    precision: Precision = "float32",
    network: Network | None = None,
) -> Iterator[tuple[Score | Failure, *tuple[Tensor, ...]]]:
    """Restore and score samples of one image each (see ``data.datasets.evaluation_loader``), as they come.

    Yields the score and input, restored and target (1, 3, H, W) in [0, 1] on the device, or for an image that cannot
    be read or restored its ``Failure`` alone. Restored images are scored unquantised unless the protocol says
    otherwise. The model must be in eval mode. ``lpips`` (see ``evaluation.perceptual.load_lpips``) is scored as well;
    ``self_ensemble`` and ``network``: see ``inference.whole.restore``.

    The scores of an image are fetched when the next one is under way, so that a GPU has always work: the loader's
    processes decode, the copy to the device and what is computed there run behind this loop.
    """

    def start(sample: dict) -> Callable[[], tuple]:
        (name,) = sample["name"]
        if "input" not in sample:
            return lambda: (Failure(name, "; ".join(sample["broken"].values())),)
        input = sample["input"].to(device, non_blocking=True)
        target = sample["target"].to(device, non_blocking=True)
        watch = Stopwatch(device)
        try:
            with autocast(precision, device):
                restored = restore(model, input, self_ensemble=self_ensemble, network=network)
        except InputError as error:
            problem = f"{name}: {error}"
            return lambda: (Failure(name, problem),)
        watch.stop()
        values = []
        for image in (input, restored):
            values.append(PROTOCOLS[protocol](image, target))
            if lpips is not None:
                values[-1]["lpips"] = lpips(image, target)

        def finish() -> tuple:
            sides = [{metric: value.item() for metric, value in side.items()} for side in values]
            return Score(name, *sides, watch.seconds()), input, restored, target

        return finish

    finish = None
    for sample in samples:
        following = start(sample)
        if finish is not None:
            yield finish()
        finish = following
    if finish is not None:
        yield finish()


class Stopwatch:
    """Times what the device does between its making and ``stop``; only ``seconds`` waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self.begin = self._mark()

    def stop(self) -> None:
        """End the time."""
        self.end = self._mark()

    def seconds(self) -> float:
        """The time in seconds."""
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
    """The two kinds apart, each in its order."""
    scores, failures = [], []
    for result in results:
        (scores if isinstance(result, Score) else failures).append(result)
    return scores, failures


def report_failures(failures: Iterable[Failure]) -> None:
    """One line on stderr for each problem; that of a target which several inputs share comes once."""
    for problem in dict.fromkeys(failure.problem for failure in failures):
        tqdm.write(f"error: {printable(problem)}", file=sys.stderr)
