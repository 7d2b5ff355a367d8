"""What test.py wrote, read again: scores by set and image, and the settings that must agree in a comparison."""

import csv
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.results import METRICS
from utils.errors import InputError, listed
from utils.text_files import read_text

LONGEST_CSV = 2**30  # characters


@dataclass(frozen=True)
class Scored:
    """One image's row of per_image.csv."""

    scores: dict[str, float]
    input_file: str
    target_file: str


@dataclass(frozen=True)
class Results:
    """A folder written by test.py.

    Attributes:
        settings: those that must agree; if a network wrote the images, its precision and self-ensemble too.
        protocols: of each set.
        targets: a digest of each set's targets, as far as it is known.
        sets: the images of each set by name.
    """

    folder: Path
    settings: dict[str, object]
    protocols: dict[str, str]
    targets: dict[str, str]
    sets: dict[str, dict[str, Scored]]

    def __str__(self) -> str:
        return str(self.folder)


def read_results(folder: Path) -> Results:
    """Read what test.py wrote.

    Raises:
        InputError: the folder has no results, or they are malformed or of a version without ``target_file``.
    """
    try:
        metrics = json.loads(read_text(folder / "metrics.json"))
        rows = list(csv.DictReader(io.StringIO(read_text(folder / "per_image.csv", LONGEST_CSV))))
        settings = {key: metrics[key] for key in ("precision", "self_ensemble") if key in metrics}
        protocols = {name: part["protocol"] for name, part in metrics["sets"].items()}
        targets = {name: part.get("fingerprint", {}).get("targets") for name, part in metrics["sets"].items()}
        sets: dict[str, dict[str, Scored]] = {}
        for row in rows:
            scores = {metric: float(row[metric]) for metric in METRICS if row.get(metric)}
            if "psnr" not in scores or not all(map(math.isfinite, scores.values())):
                raise ValueError(f"{row['name']} has no finite score")
            of_set = sets.setdefault(row["set"], {})
            if row["name"] in of_set:
                raise ValueError(f"{row['name']} is there twice")
            of_set[row["name"]] = Scored(scores, row["input_file"], row["target_file"])
    except FileNotFoundError as error:
        raise InputError(
            f"{folder}: no results of test.py: {Path(error.filename).name} is missing; "
            f"run test.py with --output {folder}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        missing = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{folder}: not the results of this version of test.py ({missing}); run it again") from None
    if not sets:
        raise InputError(f"{folder}: per_image.csv holds no scores; run test.py again")
    return Results(folder, settings, protocols, {name: value for name, value in targets.items() if value}, sets)


def with_set_of(first: Results, other: Results) -> Results:
    """``other``, whose only set takes the name of the only one of ``first``: test.py calls a set after its folder."""
    if len(first.sets) != 1 or len(other.sets) != 1 or first.sets.keys() == other.sets.keys():
        return other
    ((name, _),), ((own, images),) = first.sets.items(), other.sets.items()

    def renamed(values: dict[str, str]) -> dict[str, str]:
        return {name: values[own]} if own in values else {}

    return replace(other, sets={name: images}, protocols=renamed(other.protocols), targets=renamed(other.targets))


def differences_between(first: Results, other: Results) -> list[str]:
    """Why two results cannot be compared as they are, one line each."""
    found = []
    settings = [
        result.settings | {f"protocol of {name}": value for name, value in result.protocols.items()}
        for result in (first, other)
    ]
    for key in sorted(settings[0].keys() & settings[1].keys()):
        if settings[0][key] != settings[1][key]:
            found.append(f"{first} and {other} differ in {key}: {settings[0][key]} and {settings[1][key]}")
    if not first.sets.keys() & other.sets.keys():
        raise InputError(
            f"{first} and {other} have no set in common ({', '.join(first.sets)}; {', '.join(other.sets)}); "
            "run test.py on the same sets"
        )
    for name in sorted(first.sets.keys() ^ other.sets.keys()):
        found.append(f"{name} is in one of {first} and {other} only")
    for name in sorted(first.sets.keys() & other.sets.keys()):
        if alone := sorted(first.sets[name].keys() ^ other.sets[name].keys()):
            found.append(f"{name}: {listed(alone, 'image(s)')} in one of {first} and {other} only")
            if not first.sets[name].keys() & other.sets[name].keys():
                raise InputError(f"{name}: {first} and {other} have no image in common; run test.py on the same images")
        elif len({result.targets[name] for result in (first, other) if name in result.targets}) == 2:
            found.append(f"{name}: the targets of {first} and {other} are not the same files")
    return found
