"""Weights & Biases: https://docs.wandb.ai. Its environment variables (WANDB_MODE, WANDB_PROJECT, ...) apply."""

import os
from collections.abc import Mapping

import numpy as np
import wandb

from training.sinks import Description


class WandbSink:
    """See ``training.sinks.Sink``.

    Offline, each start leaves a folder of its own with the same id, which ``wandb sync`` joins.
    """

    def __init__(self, run: Description, id: str | None) -> None:
        self.id = id or os.urandom(8).hex()
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "irnext"),
            name=os.environ.get("WANDB_NAME", run.output.name),
            dir=os.environ.get("WANDB_DIR", run.output),
            id=self.id,
            resume="allow",
            config=dict(run.config),
            allow_val_change=True,
            settings=wandb.Settings(console="off", finish_timeout=30),
        )
        # Its own steps never go back, but those of a run that resumes at an earlier checkpoint do.
        self.run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve."""
        self.run.log({**values, "step": step})

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Show an image, uint8 (H, W, 3)."""
        self.run.log({tag: wandb.Image(image), "step": step})

    def close(self, finished: bool) -> None:
        """Wait until all has been sent."""
        self.run.finish(exit_code=0 if finished else 1)


open_sink = WandbSink
