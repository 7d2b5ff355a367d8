"""Strange configurations: each is refused in one line before anything is built, or trains."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import numpy as np
from conftest import ITS, TINY

from attack.judge import Trial, Victim, faults_of, run_script

VALUES = [
    *("-1", "0", "1e18", "1e30", "1e999", "18446744073709551616", "-9223372036854775809", ".nan", ".inf", "0.5"),
    *('""', "text", "null", "[]", "[1, 2, 3]", "{}", "{a: 1}", "true", "0x10", "1_0", "2026-01-01", '"\\e[31m"'),
    *("!!python/object/apply:os.system [id]", "{class_path: this.X}", "{class_path: os.system, init_args: {}}"),
    *("*a", "&a [*a]", "[[[[[[]]]]]]", "'" + "x" * 10_000 + "'", "~", "${HOME}", "../../../etc/passwd", "/dev/zero"),
]
FILES = {
    "nothing": b"",
    "bytes": bytes(range(256)),
    "UTF-16": "task: x".encode("utf-16"),
    "a list": b"- 1\n- 2\n",
    "a number": b"3\n",
    "a billion laughs": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (98 + i, 98 + i, b", ".join([b"*%c" % (97 + i)] * 9)) for i in range(9)),
    "nested lists": b"[" * 20_000,
    "nested maps": b"{a: " * 20_000,
    "20 MB": b"# " + b"x" * 20_000_000 + b"\n",
    "twice the same key": b"task: a\ntask: b\n",
    "tabs": b"task:\tx\n\tdata: 1\n",
    "a base that is itself": b"base: self.yaml\n",
    "a base that is a folder": b"base: .\n",
    "a base without end": b"base: /dev/zero\n",
    "an unknown key": b"base: BASE\ntrain: {learning_rate: 1}\n",
    "an import": b"base: BASE\ndata: {test: {a: {class_path: this.X}}}\n",
    "code": b"base: BASE\ntask: !!python/object/apply:os.system [id]\n",
}


def keys_of(section: type, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a configuration class."""
    hints = get_type_hints(section)
    for entry in fields(section):
        if is_dataclass(hints[entry.name]):
            yield from keys_of(hints[entry.name], f"{prefix}{entry.name}.")
        else:
            yield prefix + entry.name


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Train by ``count`` strange configurations."""
    from utils.config import Config

    keys = [key for key in keys_of(Config) if key not in ("data.root", "data.cache")]
    os.mkfifo(folder / "fifo")
    trials = [("a FIFO as --config", folder / "fifo", []), ("/dev/zero as --config", Path("/dev/zero"), [])]
    for name, content in FILES.items():
        path = folder / "self.yaml" if "itself" in name else folder / f"{name.replace(' ', '_')}.yaml"
        path.write_bytes(content.replace(b"BASE", bytes(ITS)))
        trials.append((name, path, []))
    rng.shuffle(trials)
    while len(trials) < count:
        key, value = keys[rng.integers(len(keys))], VALUES[rng.integers(len(VALUES))]
        trials.append((f"--{key}={value[:60]}", ITS, [f"--{key}={value}"]))
        lines = f"base: {ITS}\n" + "".join(
            f"{'  ' * depth}{part}:{'' if depth < key.count('.') else ' ' + value}\n"
            for depth, part in enumerate(key.split("."))
        )
        path = folder / f"{len(trials)}.yaml"
        path.write_text(lines)
        trials.append((f"{key}: {value[:60]} in YAML", path, []))
    for name, config, overrides in trials[:count]:
        changed = [override.split("=")[0] for override in overrides]
        tiny = [option for option in TINY if option.split("=")[0] not in changed and not _sets(config, option)]
        arguments = ["--config", config, "--data.root", victim.root, *tiny, *overrides, "--output", folder / "out"]
        outcome = run_script("train.py", *arguments, seconds=30)
        yield Trial(name, faults_of(outcome))
        shutil.rmtree(folder / "out", ignore_errors=True)


def _sets(config: Path, option: str) -> bool:
    """Whether a configuration of ``attack`` sets the key of an option of TINY."""
    if config.parent == ITS.parent or config.suffix != ".yaml":
        return False
    last = option.split("=")[0].split(".")[-1]
    return f" {last}: ".encode() in config.read_bytes()
