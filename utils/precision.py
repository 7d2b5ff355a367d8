"""The arithmetic that the network computes in."""

import sys
from typing import Literal

import torch

from utils.errors import InputError

Precision = Literal["float32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def supported(precision: Precision, device: torch.device) -> Precision:
    """``precision``, or fp16 for a GPU without bf16, with a warning.

    Raises:
        InputError: fp16 on the CPU.
    """
    if precision == "fp16" and device.type == "cpu":
        raise InputError("train.precision or --precision: fp16 needs CUDA; the CPU has float32 and bf16")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        print("warning: this GPU has no bf16, fp16 is taken", file=sys.stderr)
        return "fp16"
    return precision


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which networks compute in this precision; weights, and what is sensitive, stay float32."""
    return torch.autocast(device.type, dtype=DTYPES.get(precision), enabled=precision in DTYPES)
