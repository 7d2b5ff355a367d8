"""What was scored: digests of weights and images in metrics.json, compared before the same are scored again."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from data.layouts import Pair
from data.survey import fingerprint
from utils.errors import InputError
from utils.files import sha256_of
from utils.text_files import read_text

LONGEST = 2**30  # characters of a metrics.json


def digests(sets: Mapping[str, Sequence[Pair]]) -> dict[str, dict[str, int | str]]:
    """Each set's ``data.survey.fingerprint``, and digests of the ``contents`` of its files and of its ``targets``."""
    return {
        name: fingerprint(pairs)
        | {
            "contents": contents_digest(pairs),
            "targets": contents_digest([Pair(pair.name, pair.target, pair.target) for pair in pairs]),
        }
        for name, pairs in sets.items()
    }


def contents_digest(pairs: Sequence[Pair]) -> str:
    """A SHA-256 of the names of pairs and of their files' contents; a file that cannot be read counts as empty."""
    lines = (f"{pair.name}\0{_of_file(pair.input)}\0{_of_file(pair.target)}\n" for pair in pairs)
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _of_file(path: Path) -> str:
    try:
        status = path.stat()
        return _sha256(path, status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


@cache
def _sha256(path: Path, changed: int, size: int) -> str:
    return sha256_of(path)  # once, though many inputs may share a target


def read_report(path: Path) -> dict[str, Any]:
    """Read a metrics.json.

    Raises:
        InputError: it is missing or malformed, or of a version that did not record its command.
    """
    try:
        report = json.loads(read_text(path, LONGEST))
        for part in report["sets"].values():
            dict(part["restored"], **part["fingerprint"])
        shlex.split(report["command"])
        dict(report["versions"])
        report["sha256"], report["commit"], report["folder"]
    except OSError as error:
        raise InputError(
            f"{path}: cannot read the report: {error.strerror}; expected the metrics.json of test.py"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not a metrics.json of this version of test.py ({missing}); run it again") from None
    return report


def check_material(report: Path, sha256: str, sets: Mapping[str, Mapping[str, int | str]]) -> None:
    """Compare what is about to be scored with what a report scored.

    Args:
        report: a metrics.json.
        sha256: of the weights or of the restored images.
        sets: ``digests`` of the test sets.

    Raises:
        InputError: the weights or images differ, or ``read_report`` raises it.
    """
    changed = list(_changed(read_report(report), sha256, sets))
    if changed:
        raise InputError(f"{report}: not the same material: {'; '.join(changed)}; put it back, or run test.py again")


def _changed(report: Mapping[str, Any], sha256: str, sets: Mapping[str, Mapping[str, int | str]]) -> Iterator[str]:
    if report["sha256"] != sha256:
        yield f"{report.get('weights') or report.get('restored')} has changed"
    for name, part in report["sets"].items():
        if name not in sets:
            yield f"the set {name} is missing"
        elif any(sets[name].get(key) != value for key, value in part["fingerprint"].items()):
            before, now = part["fingerprint"]["pairs"], sets[name]["pairs"]
            yield f"the images of {name} have changed" + (f": {before} before, {now} now" if before != now else "")
