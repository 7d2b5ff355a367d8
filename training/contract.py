"""What a network must do to be trained, checked before anything is (docs/networks.md)."""

import copy
import sys
from typing import Any

import torch
from torch import Tensor, nn

from models import IRNeXt, build_model
from utils.config import Config, both_sides
from utils.errors import InputError, listed, printable
from utils.padding import accepted_size


def build_for_crop(config: Config) -> nn.Module:
    """Build the network of a configuration and check that it accepts the training crops.

    Raises:
        InputError: an option of the network is invalid, or the crop has a size that the network does not accept.
    """
    try:
        model = build_model(**config.model.arguments())
        check_network(model)
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    multiple, least = model.size_multiple, model.min_size
    for number, stage in enumerate(config.stages(), start=-1):
        height, width = both_sides(stage.crop_size)
        if all(side % multiple == 0 and side >= least for side in (height, width)):
            continue
        key = "data.crop_size" if number < 0 else f"train.progressive[{number}].crop_size"
        raise InputError(
            f"{key}: {height}x{width} does not suit this network; both sides must be multiples of {multiple} "
            f"and at least {least}"
        )
    return model


def check_network(model: nn.Module) -> None:
    """Run a network on two small images and check its outputs; one of this project is not run.

    Parameters without an effect on the outputs will not be trained (``requires_grad``), which a note says.

    Raises:
        ValueError: it does not map (N, 3, H, W) to a tensor of this shape, or to a list of images, coarse to fine, the
            last of which has this shape.
    """
    if isinstance(model, IRNeXt):
        return
    tried, shape = copy.deepcopy(model), (2, 3, *accepted_size(model, 64, 64))
    with torch.random.fork_rng(devices=[]):
        for training in (False, True):  # a network may leave parts out in one of the two
            images = _checked_images(tried.train(training)(torch.rand(shape)), type(model).__name__, shape)
            sum(image.sum() for image in images).backward()
    used = {name for name, parameter in tried.named_parameters() if parameter.grad is not None}
    unused = [name for name, parameter in model.named_parameters() if parameter.requires_grad and name not in used]
    for name in unused:
        model.get_parameter(name).requires_grad_(False)
    if unused:
        what = listed(unused, "parameter(s) of the network without an effect on its outputs, not trained", show=3)
        print(f"note: {printable(what)}", file=sys.stderr)


def _checked_images(outputs: Any, name: str, shape: tuple[int, ...]) -> list[Tensor]:
    images = [outputs] if isinstance(outputs, Tensor) else outputs
    if not (isinstance(images, (list, tuple)) and images and all(isinstance(image, Tensor) for image in images)):
        raise ValueError(
            f"{name} returns {_described(outputs)}; expected a tensor or a list of tensors, coarse to fine"
        )
    shapes = [tuple(image.shape) for image in images]
    if any(len(each) != 4 or each[:2] != shape[:2] for each in shapes) or shapes[-1] != shape:
        raise ValueError(
            f"{name} maps {shape} to {', '.join(map(str, shapes))}; expected images, coarse to fine, the last or only "
            f"one of them {shape}"
        )
    return list(images)


def _described(outputs: Any) -> str:
    return f"an empty {type(outputs).__name__}" if outputs in ([], ()) else f"a {type(outputs).__name__}"
