"""Where and how this machine computes, as ``compute`` asks for, and whether pictures fit its memory."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from kd_steps.adapters.yolo.precision import Precision, choose_device, choose_precision
from kd_steps.params import Params

FREE_MEMORY_SHARE = 0.25  # of free memory that decoded pictures may take before they are read from disk instead


@dataclass(frozen=True)
class Hardware:
    """Where and how a training computes."""

    device: str
    torch_device: torch.device
    precision: Precision


def hardware(params: Params) -> Hardware:
    """The device and the number formats that ``compute`` asks for."""
    device = choose_device(params.compute.device)
    torch_device = torch.device("cpu" if device == "cpu" else f"cuda:{device.split(',')[0]}")
    return Hardware(device, torch_device, choose_precision(params.compute.precision, torch_device))


def keep_in_memory(params: Params, images: int) -> bool:
    """Whether so many decoded pictures are kept in memory."""
    if params.compute.cache_images != "auto":
        return params.compute.cache_images == "ram"
    return fits_in_memory(images, params.preprocessing.imgsz_px, psutil.virtual_memory().available)


def fits_in_memory(images: int, imgsz_px: int, free_bytes: int) -> bool:
    """Whether so many decoded pictures take less than the share of free memory that is left to them."""
    return images * 3 * imgsz_px**2 < FREE_MEMORY_SHARE * free_bytes
