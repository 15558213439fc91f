"""``python -m pipeline.layers``: the layers of a network that can be ranked."""

from __future__ import annotations

import re
import sys

from rich.console import Console
from rich.table import Table

from pipeline.command_line import command
from pipeline.config import compose_settings

USAGE = """Usage: python -m pipeline.layers [model=NAME] [setting=value ...]

Lists the layers that can be ranked: name, type, channels, map size (height x width) for the model's input size, and
what the layer puts out for n images. A linear layer's outputs are maps of one pixel, a transformer's of tokens x 1.
No weights are loaded or downloaded.

    python -m pipeline.layers model=vgg16
    python -m pipeline.layers model=torchvision model.name=convnext_tiny
    python -m pipeline.layers model=resnet18 'model.input_size=[3,448,448]'"""


HEADINGS = (("layer", "left"), ("type", "left"), ("channels", "right"), ("map", "right"), ("output", "left"))


@command
def main() -> None:
    """Print the layers of the model that the overrides choose."""
    overrides = sys.argv[1:]
    if {"-h", "--help"} & set(overrides):
        print(USAGE)
        return
    # The question's other settings are not asked here; a source that lacks its folder shall not stand in the way.
    asked = [override for override in overrides if not re.match(r"[+~]*(data|target)[.=]", override)]
    settings = compose_settings([*asked, "data=digits", "target=class"])
    from pipeline.networks.load import layout_of

    found = layout_of(settings.model)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for heading, justify in HEADINGS:
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    rankable = found.rankable()
    for layer in rankable:
        n_channels, height, width = layer.maps
        output = ", ".join(map(str, layer.shape or ()))
        table.add_row(layer.name, layer.type, str(n_channels), f"{height} x {width}", f"(n, {output})")
    console = Console(highlight=False, markup=False, soft_wrap=True, width=1000)  # names are never cut short
    console.print(table)
    n_left = len(found.layers) - len(rankable)
    size = " x ".join(str(size) for size in settings.model.input_size[1:])
    console.print(
        f"\n{len(rankable)} layers of {settings.model.name} for images of {size} pixels; "
        f"{n_left} others put out something else or run more than once in a pass."
    )


if __name__ == "__main__":
    main()
