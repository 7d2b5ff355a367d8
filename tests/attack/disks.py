"""A disk that is full at a random moment: one line, and what was written before is intact."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from album import write_album
from conftest import tiny_arguments

from attack.images import unreadable
from attack.judge import Trial, Victim, faults_of, run_script
from attack.kills import leftovers


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Run train.py, test.py, restore.py and models.convert ``count`` times with a limit on the size of files."""
    write_album(folder / "in")
    folders = [
        "--input",
        victim.root / "test" / "hazy",
        "--target",
        victim.root / "test" / "gt",
        "--data.num_workers=0",
    ]
    for index in range(count):
        output = folder / f"out{index}"
        limit = int(10 ** rng.uniform(1, 5.5))
        script, arguments = [
            ("train.py", tiny_arguments(victim.root, output)),
            ("restore.py", ["--weights", victim.weights, "--input", folder / "in", "--output", output]),
            ("test.py", ["--weights", victim.weights, *folders, "--output", output, "--save-images"]),
            ("models/convert.py", [victim.weights, output / "converted.safetensors"]),
        ][index % 4]
        before = {}
        if index % 8 >= 4:  # files of an earlier call are replaced
            more = {"train.py": ["--resume", "auto"], "restore.py": ["--overwrite"]}.get(script, [])
            run_script(script, *arguments)
            before = digests(output)
            arguments = [*arguments, *more, *(["--train.epochs=5"] if script == "train.py" else [])]
        outcome = run_script(script, *arguments, file_bytes=limit, seconds=120)
        trial = Trial(f"{script} with files of at most {limit} bytes", faults_of(outcome, one_error=False))
        if outcome.status == 2 and not outcome.errors:
            trial.faults.append("no line says why")
        after = digests(output)
        trial.faults += [f"{name} is lost" for name in before.keys() - after.keys()]
        for path in output.rglob("*"):
            if path.suffix in (".png", ".jpg", ".tif", ".webp", ".bmp"):
                trial.faults += unreadable(path)
        trial.faults += leftovers(output)
        yield trial
        shutil.rmtree(output, ignore_errors=True)


def digests(output: Path) -> dict[str, str]:
    """A digest of each file, by its path."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in output.rglob("*")
        if path.is_file() and "tfevents" not in path.name
    }
