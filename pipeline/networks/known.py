"""What is known of a network before it is loaded: its layers, and the type of its device.

This module imports torch only if it must, see `pipeline.networks.declared`. A network of the user is built every time,
because its code may depend on anything.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Literal

from pydantic import TypeAdapter

from pipeline.networks.declared import kept_of, packages_of
from pipeline.networks.layout import NetworkLayout
from pipeline.networks.remembered import remember
from pipeline.settings import ModelSettings

# Where the drivers of GPUs are that PyTorch can use: NVIDIA's, on Linux, on its Jetson modules (nvmap) and on Windows'
# subsystem for Linux (dxg), and AMD's.
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia", "/dev/nvmap", "/dev/dxg", "/dev/kfd")


def layout_of(model: ModelSettings) -> NetworkLayout:
    """Return the layers of the network; no weights are loaded or downloaded."""

    def found() -> NetworkLayout:
        from pipeline.networks.load import probed_layout

        return probed_layout(model)

    def kept() -> NetworkLayout:
        adapter = _layouts()
        return adapter.validate_python(kept_of("layout", model, lambda: adapter.dump_python(found(), mode="json")))

    return remember("layout", model, 0, kept if packages_of(model) else found)


@cache
def _layouts() -> TypeAdapter[NetworkLayout]:
    return TypeAdapter(NetworkLayout)


def device_type(model: ModelSettings) -> Literal["cpu", "cuda"]:
    """Return the type of the device that the network runs on, see `pipeline.networks.load.resolve_device`."""
    if model.device == "cpu" or (model.device == "auto" and _has_no_gpu()):
        return "cpu"
    from pipeline.networks.load import resolve_device

    return "cuda" if resolve_device(model).type == "cuda" else "cpu"


def _has_no_gpu() -> bool:
    """Return whether torch could not find a GPU, as far as this is known without importing torch."""
    return "torch" not in sys.modules and sys.platform == "linux" and not any(map(os.path.exists, _GPU_DEVICES))
