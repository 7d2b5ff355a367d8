"""Record which weights and options made each result in an output folder: results made otherwise are not reused.

Scores of results (restore.py --score) are kept in the same file, as long as the results are.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inference.folders import Job
from inference.video_writing import MUXERS
from utils.config import Precision
from utils.errors import InputError, listed
from utils.files import sha256_of, write_atomically
from utils.text_files import read_text

NAME = ".irnext.json"
MAX_BYTES = 10**9  # of millions of results

Settings = Mapping[str, Any]
Scores = Mapping[str, tuple[float | None, float | None]]  # of the input and the result, by metric; None if undefined


def settings_of(weights: Path, precision: Precision, self_ensemble: bool) -> Settings:
    """Everything that determines the pixels of a result, up to rounding; "weights" is for messages only."""
    return {
        "weights": weights.name,
        "sha256": sha256_of(weights),
        "precision": precision,
        "self_ensemble": self_ensemble,
    }


class Manifest:
    """The file ``.irnext.json`` in an output folder: the settings of each result, by its path in the folder.

    It is read once: the folder is locked, so that no other job writes it.

    Args:
        output: the folder; it need not exist yet.
        settings: those of this job, see ``settings_of``.
        crf: another setting, of videos only.

    Attributes:
        known: the settings of each result.
        scores: the scores of each result that has any.

    Raises:
        InputError: the file exists but is not a manifest.
    """

    def __init__(self, output: Path, settings: Settings, crf: int | None = None) -> None:
        self.output, self.settings, self.crf = Path(os.path.abspath(output)), dict(settings), crf
        self.path = self.output / NAME
        self.known, self.scores = self._read()

    def settings_of(self, result: Path) -> Settings:
        """The settings with which this job makes a result."""
        is_video = result.suffix.lower() in MUXERS
        return self.settings | ({"crf": self.crf} if is_video and self.crf is not None else {})

    def check(self, results: Iterable[Path]) -> list[Path]:
        """Compare existing results with this job's settings; returns those that the manifest does not list.

        Raises:
            InputError: a result was made with other settings.
        """
        unlisted, different, differences = [], [], {}
        for path in results:
            settings = self.known.get(self._key(path))
            if settings is None:
                unlisted.append(path)
            elif found := _differences(settings, self.settings_of(path)):
                different.append(self._key(path))
                differences |= dict.fromkeys(found)
        if different:
            results = listed(different, "existing result(s)", show=3)
            raise InputError(
                f"{self.output}: {results}, made with {'; '.join(differences)}: "
                "add --overwrite to replace, or choose another --output"
            )
        return unlisted

    def check_comparisons(self, jobs: Iterable[Job]) -> None:
        """Refuse comparisons that would replace a result, restored by an earlier job.

        Raises:
            InputError: a result is called like the comparison of an image.
        """
        for job in jobs:
            if self._key(job.comparison) in self.known:
                raise InputError(
                    f"{job.comparison}: the result of another image, and the comparison of {job.input} has this name "
                    "too; choose another --output, or omit --compare"
                )

    def forget(self, result: Path) -> None:
        """Call before a result is replaced: until ``record``, it is unknown which settings made the file."""
        key, settings = self._key(result), self.settings_of(result)
        different = _differences(self.known.get(key, settings), settings)
        if different or key in self.scores:
            known = {name: known for name, known in self.known.items() if name != key or not different}
            self._write(known, {name: scores for name, scores in self.scores.items() if name != key})

    def record(self, result: Path) -> None:
        """Call when a result has been written.

        Raises:
            OSError: the manifest cannot be written.
        """
        key, settings = self._key(result), self.settings_of(result)
        if self.known.get(key) != settings:
            self._write(self.known | {key: settings}, self.scores)

    def scores_of(self, result: Path) -> Scores | None:
        """The scores of a result, if they are known."""
        return self.scores.get(self._key(result))

    def record_scores(self, result: Path, scores: Scores) -> None:
        """Keep the scores of a result until it is replaced.

        Raises:
            OSError: the manifest cannot be written.
        """
        self._write(self.known, self.scores | {self._key(result): scores})

    def _key(self, result: Path) -> str:
        return result.relative_to(self.output).as_posix()

    def _read(self) -> tuple[dict[str, Settings], dict[str, Scores]]:
        try:
            content = json.loads(read_text(self.path, limit=MAX_BYTES))
            known = {name: dict(content["settings"][index]) for name, index in content["results"].items()}
            scores = {name: _checked(of_result) for name, of_result in content.get("scores", {}).items()}
            return known, scores
        except FileNotFoundError:
            return {}, {}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise InputError(f"{self.path}: damaged, or not written by restore.py; remove it") from None

    def _write(self, known: dict[str, Settings], scores: dict[str, Scores]) -> None:
        different = {json.dumps(settings, sort_keys=True): settings for settings in known.values()}
        indices = {text: index for index, text in enumerate(different)}
        results = {name: indices[json.dumps(settings, sort_keys=True)] for name, settings in known.items()}
        content = {"settings": list(different.values()), "results": results}
        content |= {"scores": scores} if scores else {}
        write_atomically(self.path, json.dumps(content, indent=1) + "\n")
        self.known, self.scores = known, scores


def _checked(scores: Any) -> Scores:
    pairs = {metric: (before, after) for metric, (before, after) in scores.items()}
    if not all(value is None or math.isfinite(value) for pair in pairs.values() for value in pair):
        raise ValueError("a score is not finite")
    return pairs


def _differences(found: Settings, wanted: Settings) -> list[str]:
    """What differs, as "KEY VALUE instead of VALUE"."""
    described = []
    for key in wanted.keys() - {"weights"}:
        if found.get(key) != wanted[key]:
            described.append(f"{_described(key, found)} instead of {_described(key, wanted, short=True)}")
    return sorted(described, reverse=True)  # weights first


def _described(key: str, settings: Settings, short: bool = False) -> str:
    value = settings.get(key)
    if key == "sha256":
        value = f"{settings.get('weights')} (SHA-256 {str(value)[:8]})"
    return str(value) if short else f"{'weights' if key == 'sha256' else key.replace('_', '-')} {value}"
