"""Models of torchvision and timm from the list of layers to a ranking, and ablation against plain passes.

The weights are random. By default, a small model of each family is tested. With ``PCACE_TEST_MODELS=all``, all
classification models of torchvision are, which takes about a quarter of an hour and 8 GB of memory.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch
from torch import nn
from torchvision import models

from pipeline import layers
from pipeline.artifacts import Activations, Artifact, ImageSet, Ranking, Workspace
from pipeline.config import compose_settings
from pipeline.networks.ablation import Ablation
from pipeline.networks.examined import ExaminedNetwork, NetworkRequest
from pipeline.networks.maps import only_tensor, with_tensor
from pipeline.resolve import check_network, resolve
from pipeline.stages import load_stage
from tests.helpers.settings import SMALL, Compose

pytestmark = pytest.mark.slow

FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_32",
    "wide_resnet50_2",
)  # fmt: skip
TIMM = (
    "convnext_atto", "resnet10t", "mobilenetv4_conv_small", "efficientnet_lite0", "ghostnet_100",
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "resmlp_12_224", "poolformer_s12",
    "edgenext_xx_small", "mobilevit_xxs", "levit_128s", "xcit_nano_12_p16_224", "pvt_v2_b0", "fastvit_t8", "repvgg_a0",
    "rexnet_100", "hgnetv2_b0", "nf_regnet_b0",
)  # fmt: skip
EVERY = os.environ.get("PCACE_TEST_MODELS") == "all"
MODELS = [
    *(("torchvision", name) for name in (models.list_models(module=models) if EVERY else FAMILIES)),
    *(("timm", name) for name in TIMM),
]
# With their own initial weights, the activations of these models vanish, and building them takes a minute.
ARGUMENTS = {name: ["+model.arguments.init_weights=false"] for name in ("googlenet", "inception_v3")}
SIZES = (64, 128, 224)  # the first that a model accepts is used; some accept only 224 pixels
ONLY_224 = {
    "maxvit_t", "vit_b_32", "resmlp_12_224", "deit_tiny_patch16_224", "vit_tiny_patch16_224", "mixer_s32_224",
}  # fmt: skip
N_IMAGES, N_ABLATED = 5, 2


def ignore(done: int, total: int) -> None:
    """Accept the progress."""


def listed_layers(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what the command `pcace layers` prints, or an empty string if it refuses the model."""
    monkeypatch.setattr(sys, "argv", ["layers", *arguments])
    try:
        layers.main()
    except SystemExit:
        assert capsys.readouterr().err.startswith("error: the network must process the images; got ")
        return ""
    return capsys.readouterr().out


def chosen_layer(listing: str) -> str:
    """Return the layer that is examined: the last with maps of several pixels, or the one before the last at all.

    A model's last layer has one channel for each class, which is the class score itself.
    """
    rows = [line.split() for line in listing.split("\n\n")[0].splitlines()[1:]]
    assert len(rows) > 3
    with_maps = [row[0] for row in rows if int(row[2]) >= N_ABLATED and row[3:6] != ["1", "x", "1"]]
    return with_maps[-1] if with_maps else rows[-2][0]


def plain_scores(examined: ExaminedNetwork, images: torch.Tensor, channel: int | None) -> torch.Tensor:
    """Return the class scores with a channel set to zero by a hook, or with none, image by image."""

    def ablate(_module: nn.Module, _inputs: object, output: object) -> object:
        tensor = only_tensor(output)
        assert tensor is not None
        ablated = tensor.clone()
        if channel is not None:
            ablated.select(1 if examined.channels == "first" else -1, channel).zero_()
        return with_tensor(output, ablated)

    handle = examined.module.register_forward_hook(ablate)
    with torch.inference_mode():
        scores = [examined.score(examined.network(image)) for image in torch.split(images, 1)]
    handle.remove()
    return torch.cat(scores)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Scanned digits, which the transform enlarges."""
    settings = resolve(compose_settings([*SMALL, f"n_images={N_IMAGES}"]))
    found: ImageSet = load_stage("download").compute(settings, {}, Workspace(tmp_path_factory.mktemp("images")), ignore)
    return found


@pytest.fixture(autouse=True)
def _initial_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw weights at random that some models initialise to zero: with a last layer of zeros, all scores would be 0."""

    def random(tensor: torch.Tensor) -> torch.Tensor:
        return nn.init.constant_(tensor, 0) if tensor.ndim < 2 else nn.init.normal_(tensor, std=0.02)

    monkeypatch.setattr(nn.init, "zeros_", random)


@pytest.mark.parametrize(("library", "name"), MODELS, ids=lambda value: value)
def test_a_model_is_listed_ranked_and_ablated(
    library: str,
    name: str,
    images: ImageSet,
    compose: Compose,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for size in SIZES[-1:] if name in ONLY_224 else SIZES:
        overrides = [
            f"model={library}", f"model.name={name}", *ARGUMENTS.get(name, ()), "model.weights=random",
            "model.device=cpu", "model.transform.kind=resize", f"model.transform.size={size}",
        ]  # fmt: skip
        listing = listed_layers(overrides, capsys, monkeypatch)
        if listing:
            break
    overrides += [f"layer={chosen_layer(listing)}", "score=pearson", "score.bootstrap=0", f"n_images={N_IMAGES}"]
    settings = resolve(compose(*overrides, "class_name=null", "target_class=7"))
    check_network(settings)

    made: dict[str, Artifact] = {"images": images}
    for stage in map(load_stage, ("activate", "reduce", "score", "rank")):
        upstream = {each: made[each] for each in stage.upstream}
        made[stage.artifact.name] = stage.compute(settings, upstream, Workspace(), ignore)
    activations, ranking = made["activations"], made["ranking"]
    assert isinstance(activations, Activations)
    assert isinstance(ranking, Ranking)
    examined = NetworkRequest.of(settings).open()
    assert activations.maps.shape == (examined.n_channels, N_IMAGES, *examined.layer.maps[1:])
    table = ranking.table.sort_values("rank")
    assert sorted(table.channel) == list(range(examined.n_channels))
    assert table.score.between(0, 1 + 1e-9).all()
    ablated = [int(channel) for channel in table[~table.dead].channel[:N_ABLATED]]
    assert len(ablated) == N_ABLATED

    inputs = NetworkRequest.of(settings).inputs(images).read(slice(3))
    sets = torch.zeros((N_ABLATED + 1, examined.n_channels), dtype=torch.bool)
    sets[range(N_ABLATED), ablated] = True
    fills = torch.zeros(1, examined.n_channels, 1, 1)
    found = Ablation(examined, inputs).at(inputs).scores(sets, fills)
    right = torch.stack([plain_scores(examined, inputs, channel) for channel in (*ablated, None)])
    torch.testing.assert_close(right[-1], torch.from_numpy(activations.class_score[:3]), rtol=1e-4, atol=1e-4)
    unit = float(right.abs().max())
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4 * unit)
    # The effects themselves agree as well, as far as single precision allows.
    effects = right[:-1] - right[-1]
    assert float(effects.abs().max()) > 0
    torch.testing.assert_close(found[:-1] - found[-1], effects, rtol=1e-2, atol=2e-5 * unit)


def test_every_family_of_torchvision_is_among_the_models() -> None:
    """A new family in torchvision needs a representative: families are modules of torchvision."""
    of = {name: models.get_model_builder(name).__module__ for name in models.list_models(module=models)}
    assert {of[name] for name in FAMILIES} == set(of.values())
    assert len(TIMM) == 20
