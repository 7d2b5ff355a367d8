"""The floating-point precision of the network."""

import sys
from typing import Literal

import torch

from utils.errors import InputError

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def supported(precision: Precision, device: torch.device) -> Precision:
    """``precision`` if the device supports it; for bf16 on a GPU without it, fp16 with a warning.

    Raises:
        InputError: fp16 was requested on the CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError("train.precision or --precision: fp16 needs CUDA; choose float32 or bf16 on the CPU")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        print("warning: this GPU does not support bf16, using fp16", file=sys.stderr)
        return "fp16"
    return precision


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which networks compute in this precision; weights and sensitive operations stay float32."""
    return torch.autocast(device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES)
