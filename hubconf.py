"""Load a network with the weights of this project by torch.hub, without a checkout.

import torch
restore = torch.hub.load("OWNER/REPO", "irnext", task="dehazing")
restored = restore(images)
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import nn

dependencies = ["torch", "einops", "safetensors"]

ROOMS = ("models", "inference", "utils")


def irnext(task: str = "dehazing") -> nn.Module:
    """The network of a task, with the weights that come with this project (weights/README.md), in eval mode on the CPU.

    It maps RGB images (N, 3, H, W), float32 in [0, 1], to restored images of the same shape in [0, 1]. H and W may be
    any: images are padded by reflection and the result is cropped. An image is processed whole; for images that do not
    fit in memory there are restore.py and ``inference.Restorer``. Call it within ``torch.inference_mode()`` unless you
    need gradients; ``.to("cuda")`` moves it.

    Args:
        task: dehazing, deblurring, defocus, deraining or desnowing.

    Raises:
        utils.errors.InputError: the task is unknown.
    """
    with _own_modules():
        from inference.any_size import AnySize
        from inference.shipped import shipped_weights
        from models import load_model

        return AnySize(load_model(shipped_weights(task))).eval()


@contextlib.contextmanager
def _own_modules() -> Iterator[None]:
    """Import ``models``, ``inference`` and ``utils`` of this project even if the caller has modules of these names.

    The caller's come back afterwards.
    """
    here = Path(__file__).resolve().parent
    theirs = {
        name: module
        for name, module in sys.modules.items()
        if name.split(".")[0] in ROOMS and here not in Path(getattr(module, "__file__", None) or "/").resolve().parents
    }
    for name in theirs:
        del sys.modules[name]
    path = str(here)
    sys.path.insert(0, path)
    try:
        yield
    finally:
        sys.path.remove(path)
        if theirs:
            for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
                del sys.modules[name]
            sys.modules.update(theirs)
