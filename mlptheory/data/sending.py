"""Sending what was drawn to the device without waiting for it."""

from __future__ import annotations

import numpy as np
import torch


def sent(values: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return an array of the CPU as a tensor on a device; on the CPU it shares the array's memory.

    To CUDA it goes by page-locked memory, which torch keeps until it has arrived. From other memory the copy would wait
    for all that the device has yet to do, and no batch would be drawn while a step is taken.
    """
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
