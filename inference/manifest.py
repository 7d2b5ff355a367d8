"""Record which weights and options made each result in an output folder: results made otherwise are not reused.

Scores of results (restore.py --score) are kept in the same file, as long as the results are. The file is a journal: a
line of JSON for each thing that became known, so that a result takes as long to record among 100,000 as among ten.
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
from utils.files import sha256_of, without_links, write_atomically
from utils.text_files import read_text

NAME = ".irnext.jsonl"
HEADER = {"written by": "restore.py", "version": 1}
OLD_NAME = ".irnext.json"  # one object, of which every result wrote all; the first result after it writes a journal
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
    """The file ``.irnext.jsonl`` in an output folder: the settings of each result, by its path in the folder.

    It is read once: the folder is locked, so that no other job writes it. The first thing to record writes it anew,
    without what is outdated; the others are appended. If a job is killed meanwhile, its last line may be incomplete,
    and is not read.

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
        self.appends = False

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
            self._add({"result": key, "scores": None} | ({"settings": None} if different else {}))

    def record(self, result: Path) -> None:
        """Call when a result has been written.

        Raises:
            OSError: the manifest cannot be written.
        """
        key, settings = self._key(result), self.settings_of(result)
        if self.known.get(key) != settings:
            self._add({"result": key, "settings": settings})

    def scores_of(self, result: Path) -> Scores | None:
        """The scores of a result, if they are known."""
        return self.scores.get(self._key(result))

    def record_scores(self, result: Path, scores: Scores) -> None:
        """Keep the scores of a result until it is replaced.

        Raises:
            OSError: the manifest cannot be written.
        """
        self._add({"result": self._key(result), "scores": scores})

    def _key(self, result: Path) -> str:
        return result.relative_to(self.output).as_posix()

    def _read(self) -> tuple[dict[str, Settings], dict[str, Scores]]:
        path = self.path if self.path.exists() else self.output / OLD_NAME
        try:
            text = read_text(path, limit=MAX_BYTES)
            return _of_journal(text) if path == self.path else _of_object(text)
        except FileNotFoundError:
            return {}, {}
        except (ValueError, LookupError, TypeError, AttributeError):
            raise InputError(f"{path}: damaged, or not written by restore.py; remove it") from None

    def _add(self, entry: Mapping[str, Any]) -> None:
        """Write an entry, then apply it; on an error, what was known stays known, and the next entry writes it all."""
        appends = self.appends and self.path.is_file() and not self.path.is_symlink()
        self.appends = False
        if appends:
            _append(self.path, f"{json.dumps(entry)}\n")
        else:
            known, scores = self.known.copy(), self.scores.copy()
            _apply(entry, known, scores)
            write_atomically(self.path, _journal(known, scores))
            (self.output / OLD_NAME).unlink(missing_ok=True)
        self.appends = True
        _apply(entry, self.known, self.scores)


def _journal(known: Mapping[str, Settings], scores: Mapping[str, Scores]) -> str:
    entries = [{"result": name, "settings": settings} for name, settings in known.items()]
    entries += [{"result": name, "scores": of_result} for name, of_result in scores.items()]
    return "".join(f"{json.dumps(entry)}\n" for entry in (HEADER, *entries))


def _append(path: Path, text: str) -> None:
    try:
        with open(path, "ab", opener=without_links) as file:
            file.write(text.encode())
    except OSError as error:  # the error for a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from None


def _of_journal(text: str) -> tuple[dict[str, Settings], dict[str, Scores]]:
    header, *lines = text.split("\n")[:-1]  # what follows the last newline is empty, or an incomplete line
    if json.loads(header) != HEADER:
        raise ValueError("another header")
    known, scores = {}, {}
    for line in lines:
        _apply(json.loads(line), known, scores)
    return known, scores


def _apply(entry: Mapping[str, Any], known: dict[str, Settings], scores: dict[str, Scores]) -> None:
    """Apply a line of the journal; a value that is null removes what was known."""
    result = str(entry["result"])
    for values, value_of, what in ((known, dict, "settings"), (scores, _checked, "scores")):
        if what in entry:
            values.pop(result, None)
            if entry[what] is not None:
                values[result] = value_of(entry[what])


def _of_object(text: str) -> tuple[dict[str, Settings], dict[str, Scores]]:
    content = json.loads(text)
    known = {name: dict(content["settings"][index]) for name, index in content["results"].items()}
    return known, {name: _checked(of_result) for name, of_result in content.get("scores", {}).items()}


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
