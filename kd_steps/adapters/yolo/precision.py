"""Number formats of training: CUDA mixed precision, and bf16 with channels-last on CPUs that have it.

Ultralytics trains in fp32 on every CPU. On one with bf16 instructions, bf16 autocast with channels-last tensors is much
faster (tests/bench/train_speed.py; the numbers stand in tests/bench/RESULTS.md).
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Laid = TypeVar("Laid", Tensor, nn.Module)
# Cards whose half precision gives NaN or empty answers: Ultralytics' list (utils/checks.py, check_amp).
UNSOUND_HALF = re.compile(r"\b(16[356]0|T400|T550|T600|T1000|T1200|T2000|K40m)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Precision:
    """How numbers are computed and laid out.

    Attributes:
        name: ``fp32``, ``bf16`` (autocast) or ``amp`` (CUDA mixed precision with loss scaling).
        channels_last: whether tensors are laid out NHWC.
    """

    name: Literal["fp32", "bf16", "amp"]
    channels_last: bool

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context for a forward pass on ``device``."""
        if self.name == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "bf16" else torch.float16
        return torch.autocast(device.type, dtype=dtype)

    def lay_out(self, value: Laid) -> Laid:
        """A tensor or a model in this memory format."""
        return value.to(memory_format=torch.channels_last) if self.channels_last else value


def choose_precision(wanted: Literal["auto", "fp32", "bf16", "amp"], device: torch.device) -> Precision:
    """The precision to train with.

    Args:
        wanted: ``auto``: CUDA mixed precision on a GPU where it is sound, bf16 on a CPU that has it, else fp32.
        device: where the training runs.

    Raises:
        ValueError: ``amp`` on a CPU or on a GPU whose half precision is unsound, or ``bf16`` on a device without it.
    """
    on_gpu = device.type == "cuda"
    card = torch.cuda.get_device_name(device) if on_gpu and torch.cuda.is_available() else ""
    bf16 = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_avx512_bf16_supported()
    if wanted == "auto":
        wanted = ("fp32" if UNSOUND_HALF.search(card) else "amp") if on_gpu else ("bf16" if bf16 else "fp32")
    if wanted == "amp" and not on_gpu:
        raise ValueError("compute.precision: 'amp' needs a CUDA device; use auto, bf16 or fp32")
    if wanted == "amp" and UNSOUND_HALF.search(card):
        raise ValueError(f"compute.precision: half precision is not sound on a {card}; use auto or fp32")
    if wanted == "bf16" and not bf16:
        raise ValueError(f"compute.precision: this {device.type} has no bf16 instructions; use auto or fp32")
    return Precision(wanted, channels_last=True)


def choose_device(wanted: str) -> str:
    """Ultralytics' device string for ``compute.device``: ``auto`` is the first GPU where there is one, else the CPU.

    Raises:
        ValueError: a GPU is named that this machine does not have, or one is named twice.
    """
    if wanted == "auto":
        return "0" if torch.cuda.is_available() else "cpu"
    gpus = [] if wanted == "cpu" else [int(number) for number in wanted.split(",")]
    there = torch.cuda.device_count()
    if len(set(gpus)) < len(gpus) or any(number >= there for number in gpus):
        raise ValueError(f"compute.device: {wanted!r}, but torch sees {there} GPU(s) here; name each once, or use auto")
    return wanted
