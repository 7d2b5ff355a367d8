"""Scoring a set of pictures."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from utils.errors import InputError, printable
from utils.inference import restore
from utils.metrics import PROTOCOLS


@dataclass(frozen=True)
class Score:
    """One picture's scores, by the metric's name, before and after restoration.

    ``seconds`` is the network's time, padding included, on a synchronised device.
    """

    name: str
    input: dict[str, float]
    restored: dict[str, float]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """A picture that has no score, and why, in one line."""

    name: str
    problem: str


def score_pictures(
    model: nn.Module,
    samples: Iterable[dict],
    protocol: str,
    device: torch.device,
    lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
    self_ensemble: bool = False,
) -> Iterator[tuple[Score | Failure, *tuple[Tensor, ...]]]:
    """Restore and score samples of one picture each (see ``data.datasets.evaluation_loader``), as they come.

    Yields the score and input, restored and target (1, 3, H, W) in [0, 1] on the device, or for a picture that cannot
    be read or restored its ``Failure`` alone. Restored pictures are
    scored unquantised unless the protocol says otherwise. The model must be in eval mode. With ``lpips`` (see
    ``utils.perceptual.load_lpips``) that is a metric as well; ``self_ensemble`` see ``utils.inference.restore``.
    """

    def score(picture: Tensor, target: Tensor) -> dict[str, float]:
        values = PROTOCOLS[protocol](picture, target)
        if lpips is not None:
            values["lpips"] = lpips(picture, target)
        return {metric: value.item() for metric, value in values.items()}

    for sample in samples:
        (name,) = sample["name"]
        if "input" not in sample:
            yield (Failure(name, "; ".join(sample["broken"].values())),)
            continue
        input = sample["input"].to(device, non_blocking=True)
        target = sample["target"].to(device, non_blocking=True)
        synchronise(device)
        start = time.perf_counter()
        try:
            restored = restore(model, input, self_ensemble=self_ensemble)
        except InputError as error:
            yield (Failure(name, f"{name}: {error}"),)
            continue
        synchronise(device)
        seconds = time.perf_counter() - start
        scores = Score(name, score(input, target), score(restored, target), seconds)
        yield scores, input, restored, target


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


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
