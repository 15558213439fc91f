"""Settings of PyTorch's backends that decide the last digits, fixed while a network runs.

They belong to the process, and any code may change them. Fixed values need no place in the keys of the artifacts. See
docs/decisions/0112.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

_Setting = tuple[Callable[[], Any], Callable[[Any], object], Any]  # how it is read, how it is written, its fixed value
_lock = threading.Lock()
_n_inside = 0
_changed: list[tuple[_Setting, Any]] = []  # the settings that are fixed, and the values that they had before


@contextmanager
def fixed_backends() -> Iterator[None]:
    """Inside the context, networks compute in full float32 with deterministic kernels; also a decorator of functions.

    TensorFloat-32 and bfloat16 are not used in the place of float32; cuDNN and oneDNN are enabled; cuDNN takes
    deterministic algorithms and does not choose them by their speed. ``torch.use_deterministic_algorithms`` stays as it
    is, because some networks have no deterministic kernels on a GPU. At the end, all settings are as they were; if the
    context is entered several times, also by other threads, at the last end. At the end of an inner context, they are
    fixed again, because the code of the user may have changed them there.
    """
    global _n_inside
    with _lock:
        if _n_inside == 0:
            _changed[:] = _values()
        _n_inside += 1
    try:
        _fix()
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if _n_inside:
                _fix()
            else:
                for (_, write, _), value in _changed:
                    write(value)


def _fix() -> None:
    for (_, write, fixed), _ in _changed:
        write(fixed)


def _values() -> list[tuple[_Setting, Any]]:
    """Return the settings with their values."""
    found = []
    for setting in _settings():
        with suppress(RuntimeError):  # of an older one, if the program has set the precision of single operations
            found.append((setting, setting[0]()))
    return found


def _settings() -> list[_Setting]:
    """Return the settings; the older ones first, which PyTorch compares with the newer ones."""
    import torch

    # The annotations of torch lack some of these.
    cuda: Any = torch.backends.cuda
    cudnn: Any = torch.backends.cudnn
    onednn: Any = torch.backends.mkldnn
    # Products of matrices, convolutions and recurrent layers have a precision of their own since PyTorch 2.9.
    has_precisions = hasattr(torch.backends, "fp32_precision")
    precisions = (cuda.matmul, cudnn.conv, cudnn.rnn, onednn.matmul, onednn.conv) if has_precisions else ()

    def attribute(owner: Any, name: str, fixed: Any) -> _Setting:
        return partial(getattr, owner, name), partial(setattr, owner, name), fixed

    return [
        attribute(cudnn, "allow_tf32", False),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
        *(attribute(each, "fp32_precision", "ieee") for each in precisions),
        attribute(cudnn, "enabled", True),
        attribute(cudnn, "benchmark", False),
        attribute(cudnn, "deterministic", True),
        (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled, True),
    ]


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
