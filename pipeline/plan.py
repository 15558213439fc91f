"""``pcace plan``: what a run would take, before it is started."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import compose_settings
from pipeline.cost import BASE_MEMORY, SECONDS_PER_BYTE, START, TERA, Cost, ablation_plan, costs_of, text_of
from pipeline.imports import import_for_command
from pipeline.network_budget import gib
from pipeline.networks.layout import LayerInfo
from pipeline.networks.timing import NetworkTimer, Timing
from pipeline.settings import Settings

USAGE = """Usage: pcace plan [setting=value ...]

Prints what a run with these settings would take: which results are in the store, and for the other stages the estimated
time, memory and disk space, for one layer or for several. Nothing is downloaded, and nothing is computed except for a
short timing of the network with random weights on this machine. docs/cost.md says how good the estimates are.

    pcace plan model=resnet18 layer=layer4.1.conv2 data=folder data.root=PHOTOS class_name=tabby n_images=300
    pcace plan layer=all"""

STORED = "in the store"


@command
def main() -> None:
    """Print what the run that the overrides ask for would take."""
    overrides = sys.argv[1:]
    if {"-h", "--help"} & set(overrides):
        print(USAGE)
        return
    settings = compose_settings(overrides)
    import_for_command("pipeline.whole_network")
    from pipeline.networks.remembered import remembered
    from pipeline.resolve import resolve

    console = Console(highlight=False, markup=False, soft_wrap=True, width=1000)
    with remembered():
        resolved = resolve(settings)
        if resolved.selects_several:
            _print_network(resolved, console)
        else:
            _print_layer(resolved, console)


def predicted(settings: Settings) -> tuple[list[Cost], set[str], Timing]:
    """Return the cost of each stage for one layer, the names of the stages that are in the store, and what was timed.

    Parameters
    ----------
    settings : Settings
        The resolved settings of one layer.
    """
    from pipeline.networks.known import layout_of
    from pipeline.resolve import check_network
    from pipeline.runner import plan, store_of

    check_network(settings)
    keys = plan(settings)
    with store_of(settings) as store:
        stored = {name for name, key in keys.items() if store.has(key)}
    layer = layout_of(settings.model).find(settings.layer)
    timing = NetworkTimer(settings).of_layer(layer)
    return costs_of(settings, layer, timing), stored, timing


def _print_layer(settings: Settings, console: Console) -> None:
    from pipeline.networks.known import layout_of

    costs, stored, timing = predicted(settings)
    layer = layout_of(settings.model).find(settings.layer)
    n_channels, height, width = layer.maps
    console.print(
        f"{layer.name} of {settings.model.label}: {n_channels} channels of {height} x {width}; "
        f"{settings.n_images} images\n"
    )
    table = _table(("stage", "time", "memory", "disk"))
    for cost in costs:
        if cost.stage in stored:
            table.add_row(cost.stage, STORED, "", "")
        else:
            table.add_row(cost.stage, text_of(cost.seconds), gib(int(cost.memory)), gib(int(cost.disk)))
    console.print(table)
    left = [cost for cost in costs if cost.stage not in stored]
    n_passes = int("activate" not in stored)
    console.print(
        f"\nIn all {_sums(left)}; {n_passes or 'no'} pass{'es' * (n_passes != 1)} of the images through the network."
    )
    if "ablate" not in stored:
        console.print(_ablation(settings, timing))


def _ablation(settings: Settings, timing: Timing) -> str:
    """Return a sentence on how much is ablated."""
    plan, work = ablation_plan(settings, timing), timing.work
    if plan is None:
        if settings.ablate.when == "never":
            return "No channels are ablated."
        most = float(f"{work.operations(work.everything) / TERA:.2g}")
        return (
            f"No channels are ablated: ablate.budget_tflop={settings.ablate.budget_tflop:g} is too small. "
            f"All channels take about {most:g} x 10^12 operations."
        )
    channels = "all channels"
    if plan.n_sampled is not None:
        channels = f"the best {plan.n_sampled} and a random sample of {plan.n_sampled} channels"
    return f"Ablation: {channels} on {plan.n_images} of {work.n_images} images."


def _print_network(settings: Settings, console: Console) -> None:
    from pipeline.runner import store_of
    from pipeline.whole_network import NetworkExecution

    with TemporaryDirectory() as folder, store_of(settings) as store:
        execution = NetworkExecution(settings, Path(folder))
        timer = NetworkTimer(settings)
        passes, _ = execution.passes(store, timer.network)
        stored = {
            info.name: {name for name, key in execution.keys[info.name].items() if store.has(key)}
            for info in execution.layers
        }
    captured = [[info.name for info in each.layers] for each in passes if each.is_captured]
    # Maps that are not in the store are not needed either where the results of all stages that read them are.
    computed = {name for names in captured for name in names}
    done = {name: stages if name in computed else {*stages, "activate"} for name, stages in stored.items()}
    left = {
        info.name: [
            cost
            for cost in costs_of(execution.settings_of[info.name], info, timer.of_layer(info))
            if cost.stage not in done[info.name]
        ]
        for info in execution.layers
    }
    console.print(_layers_table(execution.layers, left, stored))
    shared = costs_of_passes(left, captured)
    largest = max((cost.memory for cost in shared), default=BASE_MEMORY)
    total = Cost(
        "", sum(cost.seconds for cost in shared), largest, _disk(shared, [each.is_temporary for each in passes])
    )
    console.print(
        f"\nIn all {_sums([total])}; {len(captured) or 'no'} pass{'es' * (len(captured) != 1)} of the images through "
        f"the network for {len(execution.layers)} layers."
    )
    for name, reason in execution.not_ranked.items():
        console.print(f"{name} cannot be ranked: {reason}")


def _layers_table(
    layers: Sequence[LayerInfo], left: Mapping[str, Sequence[Cost]], stored: Mapping[str, set[str]]
) -> Table:
    table = _table(("layer", "channels", "map", "time after the maps", "disk", "in the store"))
    for info in layers:
        n_channels, height, width = info.maps
        own = [cost for cost in left[info.name] if cost.stage != "download"]
        seconds, disk = sum(cost.seconds for cost in own if cost.stage != "activate"), sum(cost.disk for cost in own)
        table.add_row(
            info.name, str(n_channels), f"{height} x {width}", text_of(seconds), gib(int(disk)),
            ", ".join(sorted(stored[info.name])) or "–",
        )  # fmt: skip
    return table


def costs_of_passes(left: Mapping[str, Sequence[Cost]], passes: Sequence[Sequence[str]]) -> list[Cost]:
    """Return the costs of several layers, which share the download and the passes of the images through the network.

    Parameters
    ----------
    left : mapping of str to sequence of Cost
        The costs of the stages that are not in the store, by the name of the layer.
    passes : sequence of sequences of str
        The names of the layers whose maps are computed in each pass.
    """
    costs = [cost for own in left.values() for cost in own]
    shared = [cost for cost in costs if cost.stage == "download"][:1]
    for layers in passes:
        maps = [cost for layer in layers for cost in left[layer] if cost.stage == "activate"]
        n_bytes = sum(cost.disk for cost in maps)
        seconds = maps[0].seconds + (n_bytes - maps[0].disk) * SECONDS_PER_BYTE
        shared.append(Cost("activate", seconds, max(cost.memory for cost in maps), n_bytes))
    return [*shared, *(cost for cost in costs if cost.stage not in ("download", "activate"))]


def _disk(costs: Sequence[Cost], is_temporary: Sequence[bool]) -> float:
    """Return the disk space that is left in use: without the maps, if they are removed after each pass."""
    return sum(cost.disk for cost in costs if cost.stage != "activate" or not any(is_temporary))


def _table(headings: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("stage", "layer", "in the store") else "right")
    return table


def _sums(costs: Sequence[Cost]) -> str:
    seconds = text_of(START + sum(cost.seconds for cost in costs))
    memory = max((cost.memory for cost in costs), default=BASE_MEMORY)
    disk = sum(cost.disk for cost in costs)
    return f"about {seconds}, {gib(int(memory))} of memory and {gib(int(disk))} of disk"


if __name__ == "__main__":
    main()
