"""What became of the steps of a run: losses, the steps that were skipped because they had none, broken pictures."""

import sys
from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from losses import LossTerms
from utils.distributed import Group
from utils.errors import listed, printable


class Steps:
    """The steps since the last point of the curves, kept on the device until it is drawn: no step waits for another.

    A step whose loss or gradient is not finite is skipped and counts for nothing but ``skipped``.

    Args:
        most: so many skipped steps in a row end the run.
    """

    def __init__(self, group: Group, most: int) -> None:
        self.group, self.most = group, most
        self.sums = torch.zeros(4, device=group.device)
        self.finite = torch.zeros((), device=group.device)
        self.in_a_row = torch.zeros((), device=group.device)
        self.names: deque[Sequence[str]] = deque(maxlen=most)
        self.count = 0

    def is_finite(self, loss: LossTerms, grad_norm: Tensor) -> Tensor:
        """Whether all processes have a finite loss and gradient: bool ()."""
        return self.group.mean((loss.total.detach() + grad_norm) * 0) == 0

    def add(self, loss: LossTerms, grad_norm: Tensor, finite: Tensor, weight: float, names: Sequence[str]) -> None:
        """Note a step: its loss, which counts ``weight`` in the processes' mean, and the pictures of its batch."""
        losses = torch.stack([loss.total.detach(), loss.content.detach(), loss.fft.detach()])
        self.sums += torch.where(finite, torch.cat([losses * weight, grad_norm[None]]), 0)
        self.finite += finite
        self.in_a_row = torch.where(finite, 0, self.in_a_row + 1)
        self.names.append(names)
        self.count += 1

    def take(self) -> tuple[dict[str, float], int]:
        """The means of what was noted since this was last asked, by the curves' names, and how many were skipped.

        Raises:
            InputError: too many steps in a row were skipped, up to the last one.
        """
        sums = self.group.mean(self.sums.clone())
        *means, finite, in_a_row = torch.cat([sums, self.finite[None], self.in_a_row[None]]).tolist()
        if in_a_row >= self.most:
            names = list(dict.fromkeys(name for batch in self.names for name in batch))
            self.group.refuse(
                f"{int(in_a_row)} steps in a row had a loss or gradient that is not finite; lower train.lr, or look at "
                f"{listed(names, 'picture(s) of their batches')} (train.max_skipped is {self.most})"
            )
        curves = ("loss/total", "loss/content", "loss/fft", "train/grad_norm")
        values = {name: value / finite for name, value in zip(curves, means, strict=True)} if finite else {}
        skipped, self.count = self.count - int(finite), 0
        self.sums.zero_()
        self.finite.zero_()
        return values | {"train/skipped_steps": skipped}, skipped


def note_broken(batch: dict, known: dict[str, str], most: int, group: Group) -> str | None:
    """Add the broken pictures that some process met to those known, report the new ones, and say why to stop, if so."""
    everywhere = group.gather([(batch["broken"], "input" in batch)])
    for broken, _ in everywhere:
        for file, problem in broken.items():
            if group.is_main and file not in known:
                tqdm.write(f"warning: {printable(problem)}; others take its place", file=sys.stderr)
            known.setdefault(file, problem)
    if len(known) <= most and all(is_whole for _, is_whole in everywhere):
        return None
    return listed(list(known.values()), "broken training picture(s)", len(known)) + f" (data.max_broken is {most})"
