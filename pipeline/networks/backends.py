"""Settings of PyTorch's backends that decide the last digits, fixed while a network runs.

They belong to the process, and any code may change them. Fixed values need no place in the keys of the artifacts. See
docs/decisions/0112.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def fixed_backends() -> Iterator[None]:
    """Inside the context, networks compute in full float32 with deterministic kernels; also a decorator of functions.

    TensorFloat-32 and bfloat16 are not used in the place of float32; cuDNN and oneDNN are enabled; cuDNN takes
    deterministic algorithms and does not choose them by their speed. ``torch.use_deterministic_algorithms`` stays as it
    is, because some networks have no deterministic kernels on a GPU. At the end, all settings are as they were.
    """
    import torch

    # The annotations of torch lack some of these.
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    onednn: Any = torch.backends.mkldnn
    # What has a precision of float32 of its own: products of matrices, convolutions and recurrent layers.
    precisions = (cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul, onednn.conv)
    flags = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    has_onednn, before = torch._C._get_mkldnn_enabled(), [each.fp32_precision for each in precisions]
    allows_tf32, matmul = None, None
    with suppress(RuntimeError):  # raised if the program has set the precision of single operations
        allows_tf32 = cudnn.allow_tf32
    with suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    try:
        # First the older settings, which PyTorch compares with the newer ones.
        if allows_tf32 is not None:
            cudnn.allow_tf32 = False
        if matmul is not None:
            torch.set_float32_matmul_precision("highest")
        for each in precisions:
            each.fp32_precision = "ieee"
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
        torch._C._set_mkldnn_enabled(True)
        yield
    finally:
        if allows_tf32 is not None:
            cudnn.allow_tf32 = allows_tf32
        if matmul is not None:
            torch.set_float32_matmul_precision(matmul)
        for each, precision in zip(precisions, before, strict=True):
            each.fp32_precision = precision
        for name, value in flags.items():
            setattr(cudnn, name, value)
        torch._C._set_mkldnn_enabled(has_onednn)


def keyed_backends(device: str) -> dict[str, bool]:
    """Return the settings that decide the last digits and are not fixed, for the keys; none on a CPU.

    Parameters
    ----------
    device : {"cpu", "cuda"}
        Type of the device.
    """
    if device != "cuda":
        return {}
    import torch

    return {"deterministic_algorithms": True} if torch.are_deterministic_algorithms_enabled() else {}


def described_backends() -> dict[str, str]:
    """Return the device that ``model.device=auto`` selects, and what is fixed while a network runs, for people."""
    import torch
    from torch import backends

    with fixed_backends():
        precision = torch.get_float32_matmul_precision()
        cudnn = f"deterministic {backends.cudnn.deterministic}, benchmark {backends.cudnn.benchmark}"
        tf32 = f"TF32 {backends.cudnn.allow_tf32 or backends.cuda.matmul.allow_tf32}"
        return {
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "float32": f"matmul precision {precision}, {tf32} (fixed during a run)",
            "cudnn": f"{cudnn} (fixed during a run)",
            "onednn": f"enabled {torch._C._get_mkldnn_enabled()} (fixed during a run)",
            "deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled()),
        }
