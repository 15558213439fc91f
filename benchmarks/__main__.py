"""``make bench``: all benchmarks, or those named; tables and a plot go to ``benchmarks/results``."""

import sys

from benchmarks import components, end_to_end, null, one_pass, removal, solver

ALL = {
    "solver": solver, "null": null, "components": components, "end_to_end": end_to_end, "one_pass": one_pass,
    "removal": removal,
}  # fmt: skip

for name in sys.argv[1:] or ALL:
    ALL[name].main()
