"""Time per channel of the compiled ACE solver, of the `ace` package and of R's acepack."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.figure import Figure

from benchmarks.timing import RESULTS, best_in_turns, report, seconds
from pipeline.numerics import AceParameters, ace_package, maximal_correlation

N_IMAGES, N_COMPONENTS = (100, 300, 1000, 5000), (1, 3, 10)
N_ROUNDS = 5
BASS_0, BASS_5 = AceParameters(bass=0), AceParameters(bass=5)
PCACE = "pcace, bass 0, 1 thread", "pcace, bass 0, 2 threads", "pcace, bass 5, 2 threads"


def data(n_channels: int, n_images: int, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Return components of decreasing scale, of which some depend on the response, and the response."""
    rng = np.random.default_rng(0)
    response = rng.normal(size=n_images)
    strength = rng.uniform(0, 0.5, size=(n_channels, 1, n_components))
    values = rng.normal(size=(n_channels, n_images, n_components)) + strength * response[:, None] ** 2
    return values * np.linspace(6, 1, n_components), response


def acepack(values: np.ndarray, response: np.ndarray, folder: Path) -> float:
    """Return the seconds that acepack takes for all channels and all responses (rows), without the start of R."""
    values.tofile(folder / "x.bin")
    response.tofile(folder / "y.bin")
    command = ["Rscript", str(Path(__file__).parent / "acepack.R"), str(folder / "x.bin"), str(folder / "y.bin")]
    done = subprocess.run([*command, *map(str, values.shape)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure(n_images: int, n_components: int, folder: Path) -> dict[str, float]:
    """Return the milliseconds per channel of each solver."""
    n_channels = 64 if n_images <= 1000 else 16
    values, response = data(n_channels, n_images, n_components)
    solve = partial(maximal_correlation, values, response, parameters=BASS_0)
    timers: dict[str, Callable[[], float]] = {
        PCACE[0]: lambda: seconds(partial(solve, n_threads=1)) / n_channels,
        PCACE[1]: lambda: seconds(partial(solve, n_threads=2)) / n_channels,
        PCACE[2]: lambda: seconds(partial(solve, n_threads=2, parameters=BASS_5)) / n_channels,
    }
    if shutil.which("Rscript"):
        few = values[: max(4, 16 * 300 // n_images)]
        timers["acepack"] = lambda: acepack(few, response, folder) / len(few)
    found = best_in_turns(timers, N_ROUNDS)
    one = values[:1]
    found["ace"] = min(
        seconds(lambda: ace_package.optimal_transforms(one, response)) for _ in range(2 if n_images <= 300 else 1)
    )
    return {name: 1000 * value for name, value in found.items()}


def main() -> None:
    """Measure all sizes, print the table and write it with a plot."""
    measured = {}
    with TemporaryDirectory() as folder:
        for n_images in N_IMAGES:
            for n_components in N_COMPONENTS:
                measured[n_images, n_components] = measure(n_images, n_components, Path(folder))
    rows = []
    for (n_images, n_components), times in measured.items():
        acepack_time = times.get("acepack")
        rows.append(
            [
                str(n_images), str(n_components), *(f"{times[name]:.3f}" for name in PCACE), f"{times['ace']:.0f}",
                "-" if acepack_time is None else f"{acepack_time:.2f}", f"{times['ace'] / times[PCACE[1]]:,.0f} x",
                "-" if acepack_time is None else f"{acepack_time / times[PCACE[2]]:.1f} x",
            ]
        )  # fmt: skip
    growth = []
    for p in N_COMPONENTS:
        slope = np.polyfit(np.log(N_IMAGES), np.log([measured[n, p][PCACE[0]] for n in N_IMAGES]), 1)[0]
        growth.append(f"n^{slope:.2f} at {p} components")
    for n in N_IMAGES:
        slope = np.polyfit(np.log(N_COMPONENTS), np.log([measured[n, p][PCACE[0]] for p in N_COMPONENTS]), 1)[0]
        growth.append(f"p^{slope:.2f} at {n} images")
    headings = ["images", "components", *PCACE, "ace", "acepack", "ace / pcace (bass 0)", "acepack / pcace (bass 5)"]
    report(
        "solver",
        "ACE: milliseconds per channel",
        headings,
        rows,
        "Growth of the time of pcace, 1 thread: " + ", ".join(growth) + ".",
    )
    draw(measured)


def draw(measured: dict[tuple[int, int], dict[str, float]]) -> None:
    """Plot milliseconds against the number of images, in one panel for each number of components."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    colours = {"ace": "#8A8A8A", "acepack": "#D55E00", PCACE[0]: "#56B4E9", PCACE[1]: "#0072B2"}
    for axes, p in zip(figure.subplots(1, len(N_COMPONENTS), sharey=True), N_COMPONENTS, strict=True):
        for name, colour in colours.items():
            if name in measured[N_IMAGES[0], p]:
                axes.loglog(N_IMAGES, [measured[n, p][name] for n in N_IMAGES], "o-", ms=3, color=colour, label=name)
        axes.set_title(f"{p} component{'s' if p > 1 else ''}", fontsize=9)
        axes.set_xlabel("images")
        axes.grid(linewidth=0.3, color="0.9")
    figure.axes[0].set_ylabel("milliseconds per channel")
    figure.axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(RESULTS / "solver.png", dpi=150)


if __name__ == "__main__":
    main()
