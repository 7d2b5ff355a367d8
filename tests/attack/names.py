"""Files with strange names, restored and scored: none is lost, none is confused with another."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from attack.judge import Trial, Victim, faults_of, run_script
from data.folders import same_name

PARTS = [
    *("a", "A", ".", "..", " ", "-", "--output", "%s", "%03d", "{a}", "[x]", "*", "?", "'", '"', "\\", ":", "|"),
    *(
        "\n",
        "\t",
        "\x1b[31m",
        "ä",
        "a\u0308",
        "é",
        "雾",
        "\u202e",
        "\udcff",
        "x" * 100,
        "12:30",
        "con",
        "~",
        "$HOME",
        "#",
        "&",
    ),
]


def name(rng: np.random.Generator) -> str:
    """A file name without suffix, of strange parts."""
    parts = [PARTS[rng.integers(len(PARTS))] for _ in range(rng.integers(1, 4))]
    text = "".join(parts).strip(".") or "x"
    return os.fsdecode(os.fsencode(text)[:240])


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Restore and score ``count`` files with strange names in one folder."""
    content = victim.image.read_bytes()
    for part in ("in", "targets"):
        (folder / part).mkdir()
    different: dict[str, str] = {}  # also where case is ignored: others are refused
    while len(different) < count:
        candidate = name(rng) + victim.image.suffix
        if not candidate.startswith("."):
            different.setdefault(same_name(candidate), candidate)
    names = sorted(different.values())
    for entry in names:
        for part in ("in", "targets"):
            (folder / part / entry).write_bytes(content)
    outcome = run_script(
        "restore.py", "--weights", victim.weights, "--input", folder / "in", "--output", folder / "out", seconds=300
    )
    yield Trial("restoring a folder of strange names", faults_of(outcome, allowed=(0,)))
    for entry in names:
        trial = Trial(f"{entry!r} restored")
        if not (folder / "out" / entry).exists():
            trial.faults.append("no result of this name")
        yield trial
    again = run_script(
        "restore.py", "--weights", victim.weights, "--input", folder / "in", "--output", folder / "out", seconds=300
    )
    yield Trial("again: all are skipped", faults_of(again, allowed=(0,)) + missing(again.stdout, f"{count} skipped"))
    folders = ["--input", folder / "in", "--target", folder / "targets", "--data.num_workers=0"]
    scored = run_script("test.py", "--weights", victim.weights, *folders, "--output", folder / "scores", seconds=300)
    yield Trial("scoring a folder of strange names", faults_of(scored, allowed=(0,)))
    for index in range(min(count, 10)):  # each as the only file, and as a folder, on the command line
        entry = names[index]
        job = ["--weights", victim.weights, "--input", folder / "in" / entry, "--output", folder / f"out{index}"]
        single = run_script("restore.py", *job)
        yield Trial(f"{entry!r} on the command line", faults_of(single, allowed=(0,)))


def missing(text: str, wanted: str) -> list[str]:
    """A fault if ``wanted`` is not in ``text``."""
    return [] if wanted in text else [f"{wanted!r} not printed"]
