"""Tensors on their way to the host, while the device goes on computing."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def host_copy(x: Tensor) -> Callable[[], np.ndarray]:
    """Copy a tensor as it is now; whoever owns it may write into it afterwards.

    Neither the device nor the caller waits for a copy from CUDA. The caller keeps few results at a time: each holds a
    buffer in pinned memory until it is dropped, and torch then gives the buffer to the next copy of that size.

    Args:
        x: detached, on any device, of any floating dtype.

    Returns:
        A function that waits for the copy and returns it, float32, of the same shape; any thread may call it.
    """
    if x.is_cuda:
        return _from_cuda(x)
    copy = x.to("cpu", copy=True)
    return lambda: copy.float().numpy()


def _from_cuda(x: Tensor) -> Callable[[], np.ndarray]:
    """Through a clone on the device, which takes no time there, since x itself may be written into before a copy to the host
    is done."""
    side = _side_stream(x.device)
    copy = x.clone()
    host = torch.empty(copy.shape, dtype=copy.dtype, pin_memory=True)
    side.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(side):
        host.copy_(copy, non_blocking=True)
        done = side.record_event()
    copy.record_stream(side)  # its memory is not given away before the copy is done

    def array() -> np.ndarray:
        done.synchronize()
        return host.float().numpy()

    return array


@functools.cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
