"""What a run shows while it trains: curves, images, its configuration and its hyper-parameters."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard.summary import hparams

from data.datasets import to_8bit
from training.event_files import open_description, open_event_file
from training.sinks import Description, open_sinks
from utils.config import Config

# The keys by which TensorBoard's HPARAMS page compares runs.
HYPER_PARAMETERS = {
    "task": (),
    "seed": (),
    "model": ("num_blocks", "channels", "mean_window"),
    "loss": ("l1_weight", "fft_weight", "charbonnier_weight", "ssim_weight", "lpips_weight"),
    "data": ("crop_size",),
    "train": (
        *("epochs", "batch_size", "accumulate", "optimizer", "lr", "weight_decay", "warmup_epochs", "clip_norm"),
        *("precision", "ema_decay"),
    ),
}


class Curves:
    """The curves of a run, in a new event file of TensorBoard and in the services of ``train.sinks``.

    The event file's errors are raised; those of the services are warnings. For ``step``, ``validated`` and the errors
    see ``open_event_file``. The configuration is shown from the step after ``step`` on.
    """

    def __init__(self, output: Path, config: Config, step: int, validated: bool) -> None:
        scores = {
            f"validation/{name}/{metric}": f"validation/{name}/input_{metric}"
            for name in config.data.validated
            for metric in ("psnr", "ssim")
        }
        charts = {
            score.removeprefix("validation/"): ["Multiline", [re.escape(score), re.escape(of_input)]]
            for score, of_input in scores.items()
        }
        # The page of hyper-parameters shows the last point of each of these curves.
        shown = dict.fromkeys(["validation/best_psnr", *scores], 0.0)
        *start, self._end = hparams(hyper_parameters(config), shown)
        with open_description(output) as events:
            events.add_custom_scalars({"restored and input": charts})
            for summary in start:
                events.file_writer.add_summary(summary)
        self.events = open_event_file(output, step, validated)  # last: TensorBoard follows the newest file
        self.events.add_text("config", f"```\n{config.to_yaml()}```", step + 1)
        description = Description(output, config.to_dict(), hyper_parameters(config))
        self.sinks = open_sinks(config.train.sinks, description, resumed=step > 0)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve named in ``values``."""
        for name, value in values.items():
            self.events.add_scalar(name, value, step)
        for sink in self.sinks:
            sink.call("scalars", dict(values), step)

    def image(self, tag: str, image: np.ndarray, step: int) -> None:
        """Show an image, uint8 (H, W, 3)."""
        self.events.add_image(tag, image, step, dataformats="HWC")
        for sink in self.sinks:
            sink.call("image", tag, image, step)

    def first_batch(self, batch: Mapping[str, Tensor], step: int) -> None:
        """Show the inputs of a batch above their targets."""
        rows = [torch.cat(list(batch[side]), dim=-1) for side in ("input", "target")]
        self.image("train/first_batch", to_8bit(torch.cat(rows, dim=-2)), step)

    def flush(self) -> None:
        """Write all points to disk.

        Raises:
            OSError: they cannot be written, now or earlier.
        """
        self.events.flush()

    def close(self, finished: bool) -> None:
        """Write all points; ``finished``: the run has reached its last epoch."""
        try:
            if finished:
                self.events.file_writer.add_summary(self._end)
            self.events.close()
        finally:
            for sink in self.sinks:
                sink.close(finished)


def hyper_parameters(config: Config) -> dict[str, bool | int | float | str]:
    """The keys in ``HYPER_PARAMETERS`` and their values, by "section.key"; what is no number as text."""
    values = {}
    for section, keys in HYPER_PARAMETERS.items():
        part = getattr(config, section)
        values |= {f"{section}.{key}": getattr(part, key) for key in keys} if keys else {section: part}
    return {name: value if isinstance(value, bool | int | float) else str(value) for name, value in values.items()}
