"""``python -m benchmarks [NAME ...]``: run all benchmarks of speed, or those named."""

import sys

from benchmarks import (
    ablation,
    attributions,
    components,
    cost,
    end_to_end,
    engine,
    gpu,
    null,
    one_pass,
    solver,
    spline,
    waiting,
    whole_network,
)

ALL = {
    "solver": solver, "null": null, "spline": spline, "components": components, "end_to_end": end_to_end,
    "one_pass": one_pass, "ablation": ablation, "whole_network": whole_network, "attributions": attributions,
    "gpu": gpu, "cost": cost, "engine": engine, "waiting": waiting,
}  # fmt: skip

for name in sys.argv[1:] or ALL:
    ALL[name].main()
