"""``pcace layers``: list the layers of a network whose channels can be ranked."""

from __future__ import annotations

import re
import sys

from rich.console import Console
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import checked_settings, compose_config, values_of

USAGE = """Usage: pcace layers [model=NAME] [setting=value ...]

Lists the layers whose channels can be ranked: name, type, number of channels, size of the maps (height x width) for
images of the size that the transform makes, and shape of the layer's output for n images. The outputs of a linear layer
are maps of one pixel, those of a transformer are maps of the patches of the image. No weights are loaded or downloaded.

    pcace layers model=vgg16
    pcace layers model=torchvision model.name=convnext_tiny
    pcace layers model=resnet18 model.transform.kind=resize model.transform.size=448"""

DROPPED = ("data", "target")
HEADINGS = (("layer", "left"), ("type", "left"), ("channels", "right"), ("map", "right"), ("output", "left"))


@command
def main() -> None:
    """Print the layers of the model that the overrides choose."""
    overrides = sys.argv[1:]
    if {"-h", "--help"} & set(overrides):
        print(USAGE)
        return
    # Only the model matters here. The data and the target of the overrides and of experiments are dropped, so that the
    # command of a run can be copied even if, for example, the folder of its images does not exist on this machine.
    relevant = [override for override in overrides if not re.match(r"[+~]*(data|target)[.=]", override)]
    standard = values_of(compose_config())
    settings = checked_settings({**values_of(compose_config(relevant)), **{name: standard[name] for name in DROPPED}})
    from pipeline.networks.declared import input_shape
    from pipeline.networks.known import layout_of

    found = layout_of(settings.model)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for heading, justify in HEADINGS:
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    rankable = found.rankable()
    for layer in rankable:
        n_channels, height, width = layer.maps
        output = ", ".join(map(str, layer.shape or ()))
        table.add_row(layer.name, layer.type, str(n_channels), f"{height} x {width}", f"(n, {output})")
    console = Console(highlight=False, markup=False, soft_wrap=True, width=1000)  # names are never truncated
    console.print(table)
    n_left = len(found.layers) - len(rankable)
    size = " x ".join(str(size) for size in input_shape(settings.model)[1:])
    console.print(
        f"\n{len(rankable)} layers of {settings.model.name} for images of {size} pixels; "
        f"{n_left} others return something other than maps, or run more than once per forward pass."
    )


if __name__ == "__main__":
    main()
