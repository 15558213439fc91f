"""What commands import: where a person waits, nothing that the command does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.config import compose_settings
from pipeline.networks.declared import input_shape
from pipeline.networks.known import layout_of
from pipeline.runner import run
from pipeline.usage import usage
from tests.helpers.project import ROOT
from tests.helpers.settings import SMALL

SLOW = {"torch", "torchvision", "sklearn", "scipy.stats", "matplotlib", "numba", "captum", "timm"}
# Runs commands in one process, and prints what has been imported after each of them.
COMMANDS = """
import contextlib, io, json, sys
from pipeline.commands import main
found = []
for arguments in json.loads(sys.argv[1]):
    sys.argv[:] = ["pcace", *arguments]
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            main()
    except SystemExit as end:
        assert not end.code, end.code
    found.append([out.getvalue(), sorted(sys.modules)])
print(json.dumps(found))
"""


def test_no_command_that_computes_nothing_imports_torch_or_another_slow_library(tracked: Path) -> None:
    settings = [*SMALL, "score.permutations=0", "score.folds=0", "score.bootstrap=0", f"paths.outputs={tracked}"]
    run(compose_settings(settings), tracked / "first")
    for overrides in ([], ["model=resnet18"]):  # what the library knows of them is kept from then on
        model = compose_settings(overrides).model
        layout_of(model), input_shape(model)
    commands = [
        ["run", "--help"], ["completion"], ["layers"], ["layers", "model=resnet18"],
        [*settings, "tracking.enabled=true"], [*settings, "n_images=21"],
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    (help_, after_help), (_, after_completion), (own, _), (large, after_layers), (ranked, after_run) = found[:5]
    assert help_ == f"{usage()}\n"
    assert "hydra" not in after_help
    assert {"mlflow", "pandas"} & {*after_completion, *after_layers} == set()
    assert "conv3" in own
    assert "layer4.1.conv2" in large
    assert ranked.count("from the store") == 8
    assert "mlflow" in after_run
    assert SLOW & set(after_run) == set()
    computed, after_computation = found[5]
    assert computed.count("from the store") == 0
    assert {"sklearn", "scipy.stats"} & set(after_computation) == set()  # three quarters of a second
