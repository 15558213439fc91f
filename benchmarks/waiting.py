"""How long a person waits: an earlier commit and the working tree in turns.

``python -m benchmarks waiting`` compares with the commit before start-up was measured, `COMMIT`; ``python -m
benchmarks.waiting COMMIT`` with another one. The time is that of the CPU, in user and system mode, because it hardly
depends on what else the machine does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.end_to_end import N_IMAGES, NO_EVIDENCE, SIDE, photographs
from benchmarks.timing import report

ROOT = Path(__file__).parent.parent
COMMIT, N_ROUNDS = "d0b8117", 2


def cpu_seconds(arguments: Sequence[str], root: Path) -> float:
    """Return the CPU time of ``python -m ARGUMENTS`` with the packages in `root`."""
    # As many threads as in every other process, so that the CPU time of waiting threads does not count.
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return used.ru_utime + used.ru_stime


def commands(outputs: Path, root: Path, number: int) -> dict[str, list[str]]:
    """Return the commands of one round by what they do; all but the last two compute nothing after the first round."""
    images = [
        "model=resnet18", "model.weights=random", "model.transform.kind=resize", "data=folder", f"data.root={root}",
        "class_name=scene", "layer=layer4.1.conv2", f"n_images={N_IMAGES}", *NO_EVIDENCE,
    ]  # fmt: skip
    digits = ["pipeline", f"paths.outputs={outputs}"]
    return {
        "`--help`": ["pipeline", "--help"],
        "`completion`": ["pipeline.completion"],
        "`layers`": ["pipeline.layers"],
        "`layers model=resnet18`": ["pipeline.layers", "model=resnet18"],
        "the default run again": digits,
        f"layer4.1.conv2 of ResNet-18, {N_IMAGES} photographs of {SIDE} x {SIDE}, again": [*digits, *images],
        "the same, with all figures drawn": [*digits, *images, f"visualize.dpi={150 + number}"],
        "the default run, with an empty store": ["pipeline", f"paths.outputs={outputs / str(number)}"],
    }


def main(commit: str = COMMIT) -> None:
    """Measure both in turns, print the table and write it."""
    with TemporaryDirectory() as scratch:
        earlier, photos = Path(scratch) / "earlier", Path(scratch) / "photographs"
        subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", earlier, commit], check=True)
        try:
            photographs(photos)
            rounds: list[list[dict[str, float]]] = []
            for number in range(N_ROUNDS + 1):  # the first round is not used, because it fills the stores
                rounds.append([])
                for root in (earlier, ROOT):
                    outputs = Path(scratch) / f"outputs_{root.name}"
                    todo = commands(outputs, photos, number)
                    rounds[-1].append({name: cpu_seconds(command, root) for name, command in todo.items()})
        finally:
            subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", earlier], check=True)
    before, after = ({name: min(each[i][name] for each in rounds[1:]) for name in rounds[0][i]} for i in (0, 1))
    rows = [[name, f"{before[name]:.2f}", f"{after[name]:.2f}", f"{after[name] / before[name]:.2f}"] for name in before]
    report("waiting", "Time of commands", ["what", f"{commit}, CPU s", "now, CPU s", "ratio"], rows,
           f"The smallest of {N_ROUNDS} rounds, in which both take turns.")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
