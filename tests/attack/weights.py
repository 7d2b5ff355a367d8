"""Hostile weights files: each is loaded or refused in one line."""

import functools
import io
import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from attack.images import mutated, unreadable
from attack.judge import Trial, Victim, faults_of, run_script

Checkpoint = dict
VALUES = [
    None,
    3,
    -1.5,
    "text",
    [1, 2],
    {},
    (),
    True,
    float("nan"),
    torch.zeros(()),
    torch.zeros(0),
    torch.zeros(3, dtype=torch.int64),
    torch.zeros(8, 8, dtype=torch.bool),
    torch.zeros(8, 8, dtype=torch.complex64),
    torch.zeros(8, 8, dtype=torch.float8_e4m3fn),
    torch.zeros(8, 8).to_sparse(),
    torch.zeros(8, 8, device="meta"),
    torch.zeros(1).expand(2**40),
    torch.full((8, 3, 3, 3), float("nan")),
    torch.full((8, 3, 3, 3), float("inf")),
    torch.full((8, 3, 3, 3), 1e300, dtype=torch.float64),
    torch.quantize_per_tensor(torch.zeros(8, 8), 0.1, 0, torch.qint8),
]
OPTIONS = {
    "num_blocks": [0, -1, 10**5, 10**9, 10**30, 1.5, "4", None, [4], float("nan"), True],
    "channels": [0, 7, 8_000, 8_000_000, -8, 10**30, "32", None, 1e308],
    "pool_sizes": [[10**9], [0], [2, 4], list(range(5000, 1, -1)), "842", None, [[2]], [2.5], -1],
    "mean_window": [0, 2, -1, float("nan"), float("inf"), "x", [1]],
    "name": ["other", 3, None, "\x1b[31mred", "x" * 10**6],
    "unknown": [1],
}


def hostile(sound: Checkpoint, rng: np.random.Generator) -> Iterator[tuple[str, bytes, str]]:
    """Endless files: what they are, their content, and their suffix."""
    names = list(sound["model"])
    while True:
        checkpoint = {key: dict(value) for key, value in sound.items()}
        kind = rng.choice(["value", "key", "option", "part", "bytes", "safetensors", "header", "zip", "pickle"])
        if kind == "value":
            name, value = names[rng.integers(len(names))], VALUES[rng.integers(len(VALUES))]
            checkpoint["model"][name] = value
            yield f"{name} = {str(value)[:40]!r}", saved(checkpoint), ".pt"
        elif kind == "key":
            key = [3, (1, 2), "\x1b[2J", "x" * 10**6, "a.b", None, 0.5][rng.integers(7)]
            checkpoint["model"][key] = checkpoint["model"].pop(names[rng.integers(len(names))])
            yield f"key {str(key)[:20]!r}", saved(checkpoint), ".pt"
        elif kind == "option":
            option = list(OPTIONS)[rng.integers(len(OPTIONS))]
            value = OPTIONS[option][rng.integers(len(OPTIONS[option]))]
            checkpoint["model_config"][option] = value
            yield f"{option}: {str(value)[:40]!r}", saved(checkpoint), ".pt"
        elif kind == "part":
            part = ["model", "model_config", "ema"][rng.integers(3)]
            checkpoint[part] = VALUES[rng.integers(len(VALUES))]
            yield f"{part} is {str(checkpoint[part])[:40]!r}", saved(checkpoint), ".pt"
        elif kind == "bytes":
            how, content = mutated(saved(checkpoint), rng)
            yield f"{how} of the file", content, ".pt"
        elif kind == "safetensors":
            header = {"model_config": json.dumps(sound["model_config"])}
            how, content = mutated(safetensors.torch.save(sound["model"], header), rng)
            yield f"{how} of a safetensors file", content, ".safetensors"
        elif kind == "header":
            yield *hostile_header(rng), ".safetensors"
        elif kind == "zip":
            yield "a zip that unfolds to 2 GB", zip_bomb(), ".pt"
        else:
            yield *hostile_pickle(rng), [".pt", ".pth", ".pkl"][rng.integers(3)]


def saved(checkpoint: Checkpoint) -> bytes:
    """A checkpoint as torch.save writes it."""
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()


def hostile_header(rng: np.random.Generator) -> tuple[str, bytes]:
    """A safetensors file whose header lies."""
    nested = "[" * 100_000 + "]" * 100_000
    header = [
        b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"__metadata__":{"model_config":"'
        + nested.encode()
        + b'"}}',
        b'{"a":' + nested.encode() + b"}",
        b'{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}',
        b"{}",
        b"not json",
    ][rng.integers(6)]
    length = [len(header), 2**62, 0][rng.integers(3)]
    return f"header {header[:40]!r} of claimed length {length}", struct.pack("<Q", length) + header + bytes(4)


@functools.cache
def zip_bomb() -> bytes:
    """A few hundred kB that claim to be a checkpoint and unfold to 2 GB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"model": {}}))
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(128):
                member.write(bytes(2**24))
    return file.getvalue()


class Touch:
    """Unpickled, it would write a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


def hostile_pickle(rng: np.random.Generator) -> tuple[str, bytes]:
    """A pickle that runs code, needs much memory, or is nested deeply."""
    kind = rng.integers(4)
    if kind == 0:
        return "a pickle that writes a file", pickle.dumps({"model": Touch("/tmp/irnext-attack-was-here")})
    if kind == 1:
        return "a pickle that claims 2^40 bytes", b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x" * 100 + b"."
    if kind == 2:
        return "a pickle of nested lists", b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    return "a pickle of 2^n memo references", b"\x80\x04]" + b"".join(b"2]" for _ in range(60)) + b"."


def attack(folder: Path, victim: Victim, rng: np.random.Generator, count: int) -> Iterator[Trial]:
    """Restore an image with each of ``count`` hostile weights files."""
    sound = torch.load(victim.weights, weights_only=True)
    weights = {name: value.contiguous() for name, value in sound["model"].items()}
    sound = {"model": weights, "model_config": dict(sound["model_config"])}
    evidence = Path("/tmp/irnext-attack-was-here")
    evidence.unlink(missing_ok=True)
    for index, (name, content, suffix) in zip(range(count), hostile(sound, rng), strict=False):
        path = folder / f"{index}{suffix}"
        path.write_bytes(content)
        output = folder / "out"
        outcome = run_script("restore.py", "--weights", path, "--input", victim.image, "--output", output, seconds=30)
        trial = Trial(f"weights {index}: {name}", faults_of(outcome))
        if outcome.status == 0:
            trial.faults += unreadable(output / victim.image.name)
        if evidence.exists():
            trial.faults.append("ran code stored in the file")
            evidence.unlink()
        yield trial
        path.unlink()
        shutil.rmtree(output, ignore_errors=True)
