"""NIQE and BRISQUE of photographs, before and after they were restored: what restore.py --score prints and writes."""

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from statistics import mean

from tqdm import tqdm

from evaluation.no_reference import METRICS
from inference.folders import Job
from inference.manifest import Manifest, Scores
from inference.photo_files import read_photograph
from inference.session import DISK_ERRORS, Options, described
from utils.errors import InputError, printable
from utils.files import write_atomically
from utils.signals import StopSignal

SCORES_FILE = "scores.csv"
SIDES = ("before", "after")


class Scoring:
    """Scores the files of restored photographs and their inputs; videos have no scores.

    Scores are kept in the manifest, so those of results that did not change are not computed again. The output folder
    gets ``scores.csv`` with all that are known of its files.

    Args:
        options: those with which the inputs were read.

    Attributes:
        failed: number of photographs that could not be scored.
    """

    def __init__(self, manifest: Manifest, options: Options, stop: StopSignal) -> None:
        self.manifest, self.options, self.stop = manifest, options, stop
        self.failed = 0

    def run(self, jobs: Sequence[Job]) -> bool:
        """Score the photographs that have a result and print the scores; returns False if a signal stopped it.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        photographs = [job for job in jobs if not job.is_video and job.output.exists()]
        found: list[Scores] = []
        with tqdm(photographs, desc="scoring", unit="image", disable=None, leave=False) as bar:
            for job in bar:
                if self.stop.received:
                    break
                scores = self._scores_of(job)
                if scores is not None:
                    found.append(scores)
                    tqdm.write(printable(f"{job.output.relative_to(self.manifest.output)}: {as_text(scores)}"))
        write_table(self.manifest)
        if self.stop.received:
            return False
        for line in summary(found):
            print(line)
        return True

    def _scores_of(self, job: Job) -> Scores | None:
        """The scores of one photograph, which are recorded; None, with a line on stderr, if it cannot be scored."""
        known = self.manifest.scores_of(job.output)
        if known is not None and known.keys() == METRICS.keys():
            return known
        try:
            scores = self._measured(job)
        except Exception as error:  # whatever it is, the others are scored
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise
            self.failed += 1
            tqdm.write(printable(f"error: not scored: {described(error, job)}"), file=sys.stderr)
            return None
        self.manifest.record_scores(job.output, scores)
        return scores

    def _measured(self, job: Job) -> Scores:
        before = read_photograph(job.input, self.options.max_megapixels, self.options.accept_truncated).colour
        after = read_photograph(job.output, self.options.max_megapixels).colour
        if before.shape[:2] != after.shape[:2]:
            raise InputError(f"{job.output}: differs from the input in size; add --overwrite to replace it")
        return {name: (metric(before), metric(after)) for name, metric in METRICS.items()}


def write_table(manifest: Manifest) -> None:
    """Write the known scores of all files in the manifest's folder to ``SCORES_FILE`` in it."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["file", *(f"{name.lower()}_{side}" for name in METRICS for side in SIDES)])
    for name, scores in sorted(manifest.scores.items()):
        if (manifest.output / name).exists():
            table.writerow([name, *(value for metric in METRICS for value in scores.get(metric, (None, None)))])
    write_atomically(manifest.output / SCORES_FILE, text.getvalue())


def as_text(scores: Scores) -> str:
    """The scores of one photograph: "NIQE 5.12 -> 4.87, BRISQUE 41.20 -> 33.61"."""
    return ", ".join(f"{name} {_number(before)} -> {_number(after)}" for name, (before, after) in scores.items())


def summary(found: Sequence[Mapping]) -> list[str]:
    """A line for each metric: its mean before and after, and for how many photographs it improved."""
    lines = []
    for name in METRICS:
        pairs = [scores[name] for scores in found if None not in scores[name]]
        if pairs:
            means = [mean(values) for values in zip(*pairs, strict=True)]
            better = sum(after < before for before, after in pairs)
            without = f", {len(found) - len(pairs)} without a score" if len(pairs) < len(found) else ""
            lines.append(
                f"{name} (lower is better): mean {means[0]:.2f} -> {means[1]:.2f}, "
                f"better in {better} of {len(pairs)}{without}"
            )
        elif found:
            lines.append(f"{name}: no photograph is large enough or has enough structure")
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
