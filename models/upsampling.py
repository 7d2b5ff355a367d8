"""Bilinear upsampling with aligned corners, as an operator that torch.compile does not decompose on the CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor


def upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear upsampling with aligned corners: (N, C, h, w) -> (N, C, *size)."""
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting() and x.device.type == "cpu":
        return _upsample_op(x, *size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


# torch.compile decomposes upsampling into indexed reads of single pixels. On the CPU, the scattered additions in the
# backward pass then made a compiled training step slower than an eager one, and compiling with dynamic shapes did not
# finish within minutes. The compiler does not look inside a custom operator.
@torch.library.custom_op("irnext::upsample", mutates_args=())
def _upsample_op(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=True)


@_upsample_op.register_fake
def _(x: Tensor, height: int, width: int) -> Tensor:
    return _empty(x, height, width)


@torch.library.custom_op("irnext::upsample_backward", mutates_args=())
def _upsample_backward(gradient: Tensor, height: int, width: int) -> Tensor:
    size = [*gradient.shape[:2], height, width]
    return torch.ops.aten.upsample_bilinear2d_backward(gradient, gradient.shape[-2:], size, align_corners=True)


@_upsample_backward.register_fake
def _(gradient: Tensor, height: int, width: int) -> Tensor:
    return _empty(gradient, height, width)


def _empty(x: Tensor, height: int, width: int) -> Tensor:
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    return x.new_empty((*x.shape[:2], height, width)).contiguous(memory_format=layout)


def _save_input_size(ctx, inputs, output) -> None:
    ctx.size = inputs[0].shape[-2:]


_upsample_op.register_autograd(
    lambda ctx, gradient: (_upsample_backward(gradient, *ctx.size), None, None), setup_context=_save_input_size
)
