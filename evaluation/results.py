"""Results of test.py: means over sets and subsets, and scores per image."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean, median, pstdev

from data.layouts import Pair
from evaluation.scoring import Failure, Score, scored_and_failed
from utils.config import PublishedScore, TestSetConfig
from utils.files import write_atomically

# Column heading and number of decimals of each metric, in column order.
METRICS = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 4),
    "mae": ("MAE", 4),
    "lpips": ("LPIPS", 3),
    "dists": ("DISTS", 3),
}
LOWER_IS_BETTER = {"mae", "lpips", "dists"}


def summary(results: Sequence[Score | Failure]) -> dict:
    """The entry of metrics.json for a set of images, at least one of which has a score.

    Scores are means over the images; of the restored ones there are also the median and the standard deviation, and,
    if the inputs are known, the mean gain over them and the share of images that were made worse. The time is the
    median, since the first image includes warm-up. ``failed`` maps the names of images without a score to the reason.
    Images restored elsewhere have no time.
    """
    scores, failures = scored_and_failed(results)
    restored = {metric: [score.restored[metric] for score in scores] for metric in scores[0].restored}
    gains = {
        metric: [score.restored[metric] - score.input[metric] for score in scores]
        for metric in restored
        if metric in scores[0].input
    }
    return {
        "images": len(scores),
        "failed": {failure.name: failure.problem for failure in failures},
        "input": {metric: mean(score.input[metric] for score in scores) for metric in scores[0].input},
        "restored": {metric: mean(values) for metric, values in restored.items()},
        "median": {metric: median(values) for metric, values in restored.items()},
        "deviation": {metric: pstdev(values) for metric, values in restored.items()},
        "gain": {metric: mean(values) for metric, values in gains.items()},
        "made_worse": {metric: mean(is_worse(metric, gain) for gain in values) for metric, values in gains.items()},
        "seconds_per_image": None if scores[0].seconds is None else median(score.seconds for score in scores),
    }


def is_worse(metric: str, gain: float) -> bool:
    """Whether a difference between restored image and input means that the image was made worse."""
    return gain > 0 if metric in LOWER_IS_BETTER else gain < 0


def gains_of(results: Sequence[Score | Failure], metric: str = "psnr") -> list[float]:
    """What each scored image gained over its input."""
    return [score.restored[metric] - score.input[metric] for score in scored_and_failed(results)[0]]


def has_score(results: Sequence[Score | Failure]) -> bool:
    """Whether at least one image has a score."""
    return any(isinstance(result, Score) for result in results)


def results_of(results: Sequence[Score | Failure], part: TestSetConfig, subsets: Mapping[str, Sequence[int]]) -> dict:
    """The entry of metrics.json for a set: protocol, ``summary``, published scores, subsets and notes."""
    notes = [part.note] if part.note else []
    if part.shares_scenes:
        notes.append("the published training and test splits share scenes")
    return {
        "protocol": part.protocol,
        **summary(results),
        "published": published(part.published),
        "subsets": {
            name: summary(subset) | {"published": published(part.subsets[name].published)}
            for name, positions in subsets.items()
            if has_score(subset := [results[position] for position in positions])
        },
        "notes": notes,
    }


def published(score: PublishedScore | None) -> dict:
    """The published scores and their source; empty if there are none."""
    return {} if score is None else {key: value for key, value in asdict(score).items() if value is not None}


def average(results: Mapping[str, dict]) -> dict:
    """The unweighted mean over sets of each set's mean."""
    sets = list(results.values())
    common = [metric for metric in METRICS if all(metric in result["restored"] for result in sets)]
    return {
        "images": sum(result["images"] for result in sets),
        "failed": {
            f"{name}/{key}": why for name, part in results.items() for key, why in part.get("failed", {}).items()
        },
        "input": {metric: mean(result["input"][metric] for result in sets) for metric in common},
        "restored": {metric: mean(result["restored"][metric] for result in sets) for metric in common},
        "seconds_per_image": None
        if any(result["seconds_per_image"] is None for result in sets)
        else mean(result["seconds_per_image"] for result in sets),
    }


def write_scores(
    path: Path,
    results: Mapping[str, Sequence[Score | Failure]],
    protocols: Mapping[str, str],
    pairs: Mapping[str, Sequence[Pair]],
) -> None:
    """Write a CSV file with one row per scored image: set, protocol, name, scores of input and restored, time, files.

    ``pairs`` holds the files of every image of each set.
    """
    scores = {name: scored_and_failed(of_set)[0] for name, of_set in results.items()}
    scored = [score for of_set in scores.values() for score in of_set]
    metrics = [metric for metric in METRICS if any(metric in score.restored for score in scored)]
    text = io.StringIO()
    table = csv.writer(text)
    columns = [*(f"input_{metric}" for metric in metrics), *metrics, "seconds", "input_file", "target_file"]
    table.writerow(["set", "protocol", "name", *columns])
    for name, of_set in scores.items():
        files = {pair.name: (pair.input, pair.target) for pair in pairs[name]}
        for score in of_set:
            values = [side.get(metric, "") for side in (score.input, score.restored) for metric in metrics]
            table.writerow([name, protocols[name], score.name, *values, score.seconds, *files[score.name]])
    write_atomically(path, text.getvalue())
