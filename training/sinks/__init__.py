"""Services that get a run's curves and images besides TensorBoard: the keys of ``SINKS`` in ``train.sinks``.

Each has a module of its own, which imports its package only when it is asked for.
"""

import importlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from training.sinks.background import Background
from utils.errors import InputError
from utils.files import write_atomically

SINKS = {"wandb": "training.sinks.to_wandb", "mlflow": "training.sinks.to_mlflow"}  # their modules, by package
IDS = "sinks.json"  # in the run's folder: the run's name in each service, by which resuming goes on with it


class Description(NamedTuple):
    """What a service is told of a run: its folder, its whole configuration, and the keys by which runs are compared."""

    output: Path
    config: Mapping[str, Any]
    hyper_parameters: Mapping[str, bool | int | float | str]


class Sink(Protocol):
    """A run in a service. Whatever a method raises is about the service, and the training goes on."""

    id: str

    def __init__(self, run: Description, id: str | None) -> None:
        """Go on with the run of this ``id``, or begin one if there is none."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve named in ``values``."""

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Show an image, uint8 (H, W, 3)."""

    def close(self, finished: bool) -> None:
        """End the run, ``finished`` or not, once all has arrived."""


def check_sinks(names: Sequence[str]) -> None:
    """Check that the packages of these services are installed.

    Raises:
        InputError: one is not.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of this name, as the packages themselves leave behind
            raise InputError(
                f"train.sinks: {name} is not installed: pip install {name}, or pip install -r requirements-extra.txt"
            )


def open_sinks(names: Sequence[str], run: Description, resumed: bool) -> list[Background]:
    """Open the run in each service; those of a ``resumed`` run go on, as far as they are known."""

    def opened(name: str) -> Sink:
        known = known_ids(run.output)
        sink = importlib.import_module(SINKS[name]).open_sink(run, known.get(name) if resumed else None)
        write_atomically(run.output / IDS, json.dumps(known | {name: sink.id}, indent=2))
        return sink

    return [Background(name, opened) for name in dict.fromkeys(names)]


def known_ids(output: Path) -> dict[str, str]:
    """The run's name in each service, of those that are known; none if the file is missing or damaged."""
    try:
        ids = json.loads((output / IDS).read_text())
    except (OSError, ValueError):
        return {}
    return {name: ids[name] for name in SINKS if isinstance(ids.get(name), str)} if isinstance(ids, dict) else {}
