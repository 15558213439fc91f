from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.config import compose_settings
from pipeline.errors import SettingsError
from pipeline.settings import AceSettings
from pipeline.settings.faults import RENAMED, faults_of
from pipeline.settings.types import STRICT, Rule
from tests.helpers.settings import Compose


def faults(*overrides: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        compose_settings(overrides)
    return str(caught.value).splitlines()


COUNT_OR_SHARE = "be a whole number of at least 1, a share of the variance in (0, 1), or auto"


def test_defaults_are_the_embedded_question() -> None:
    settings = compose_settings([])
    assert (settings.layer, settings.class_name, settings.model.name) == ("conv3", "5", "digits_cnn")
    assert (settings.n_images, settings.n_components, settings.seed) == (150, 3, 0)


def test_all_faults_are_reported_together() -> None:
    assert faults("n_imgs=3", "n_components=0", "seed=-1", "score.statistic=best", "visualize.dpi=high") == [
        "n_components must be a whole number of at least 1, a share of the variance in (0, 1), or auto; got 0.",
        "seed must be at least 0; got -1.",
        "score.statistic must be 'maximal', 'first' or 'penalised'; got \"best\".",
        'visualize.dpi must be a whole number; got "high".',
        "n_imgs must be a known setting; got 3. Did you mean n_images?",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n_images=4", "n_images must be at least 5; got 4."),
        ("n_images=12.5", "n_images must be a whole number; got 12.5."),
        ("n_images='12'", 'n_images must be a whole number; got "12".'),
        ("n_images=true", "n_images must be a whole number; got true."),
        ("layer=''", 'layer must not be empty; got "".'),
        ("target_class=-1", "target_class must be at least 0; got -1."),
        ("score.delrsq=0", "score.delrsq must be above 0; got 0."),
        ("visualize.dpi=10000", "visualize.dpi must be at most 600; got 10000."),
        ("tracking.enabled=perhaps", 'tracking.enabled must be true or false; got "perhaps".'),
        ("model.factory=nocolon", 'model.factory must have the form package.module:callable; got "nocolon".'),
        ("model.factory=5", 'model.factory must have the form package.module:callable; got "5".'),
        ("layer={a: 5}", 'layer must be text; got {"a": 5}.'),
        ("n_components=1.0", f"n_components must {COUNT_OR_SHARE}; got 1.0."),
        ("n_components=true", f"n_components must {COUNT_OR_SHARE}; got true."),
        ("n_components=all", f'n_components must {COUNT_OR_SHARE}; got "all".'),
        ("model.input_size=[8]", "model.input_size must have more values; got [8]."),
        ("score.spans=[0.1,0.2,0.3,0.4]", "score.spans must have at most 3 values; got [0.1, 0.2, 0.3, 0.4]."),
        ("paths=null", "paths must be a group of settings; got null."),
        ("~data.source", "data.source must be given; got nothing. Add data.source=... to the command."),
        ("target.kind=null", "target.kind must be one of 'class', 'regression'; got null."),
        ("model.batchsize=3", "model.batchsize must be a known setting; got 3. Did you mean model.batch_size?"),
        (
            "model.transform.mean=[0.1,0.2]",
            "model.transform.mean must have one value per input channel (1); got [0.1, 0.2].",
        ),
        (
            "model.transform.kind=weights",
            "model.transform.kind must be resize or none for a network of your own (model.factory); got weights.",
        ),
        (
            "n_components=151",
            "n_components must be at most n_images; got 151 with 150 images. Lower it or add images.",
        ),
        ("data=folder", "data.root must be given; got nothing. Add data.root=... to the command."),
        (
            "data.source=pigeons",
            "data.source must be one of 'digits', 'folder', 'manifest', 'torchvision', 'urls', 'street_view'; "
            'got "pigeons".',
        ),
        ("target.kind=rank", "target.kind must be one of 'class', 'regression'; got \"rank\"."),
        ("data.images_from=some", "data.images_from must be 'class', 'all' or 'balanced'; got \"some\"."),
        (
            "layer=[]",
            "layer must be a layer, a pattern such as layer*.conv2, all, or a list of these; got [].",
        ),
        (
            "layer=[conv1,[conv2]]",
            'layer must be a layer, a pattern such as layer*.conv2, all, or a list of these; got ["conv1", ["conv2"]].',
        ),
    ],
)
def test_each_fault_has_one_line(override: str, message: str) -> None:
    assert faults(override) == [message]


def test_the_package_takes_no_bass_of_its_own() -> None:
    assert faults("score.smoother=supersmoother", "score.solver=ace") == [
        "score.bass must be 0 and score.spans [0.05, 0.2, 0.5] with score.solver=ace; got 5 and [0.05, 0.2, 0.5]. "
        "Add score.bass=0; the compiled solver takes others as well."
    ]
    score = compose_settings(["score.smoother=supersmoother", "score.solver=ace", "score.bass=0"]).score
    assert isinstance(score, AceSettings)
    assert score.bass == 0


def test_the_number_of_components_is_chosen_by_splines_only() -> None:
    assert compose_settings(["n_components=auto"]).n_components == "auto"
    assert faults("n_components=auto", "score=pearson") == [
        "n_components must be a number with score=pearson; got auto. Only score=ace can choose it."
    ]
    together = (
        "n_components must be a number unless score.smoother is spline and score.smoothness null; got auto. "
        "The number is chosen together with the smoothness."
    )
    assert faults("n_components=auto", "score.smoother=supersmoother") == [together]
    assert faults("n_components=auto", "score.smoothness=[0.3,0.2,0.1]") == [together]
    assert faults("n_components=auto", "n_images=9") == [
        "n_components must be a number with fewer than 10 images; got auto with 9. "
        "Set it, for example n_components=1, or add images."
    ]
    assert compose_settings(["n_components=auto", "n_images=10"]).n_components == "auto"


def test_settings_of_the_other_smoother_are_refused() -> None:
    assert faults("score.solver=ace") == [
        "score.solver must be compiled with score.smoother=spline; got ace. "
        "Add score.smoother=supersmoother score.bass=0."
    ]
    assert faults("score.bass=0", "score.spans=[0.1,0.2,0.3]", "score.maxit=7", "seed=-1") == [
        "seed must be at least 0; got -1.",
        "score.bass must be left at 5.0 with score.smoother=spline, which does not use it; got 0. "
        "Add score.smoother=supersmoother.",
        "score.spans must be left at [0.05, 0.2, 0.5] with score.smoother=spline, which does not use it; "
        "got [0.1, 0.2, 0.3]. Add score.smoother=supersmoother.",
        "score.maxit must be left at 20 with score.smoother=spline, which does not use it; got 7. "
        "Add score.smoother=supersmoother.",
    ]
    penalised = ["score.smoothness=[0.3,0.2,0]", "score.statistic=penalised", "rank.by=penalised"]
    assert faults("score.smoother=supersmoother", *penalised) == [
        "score.smoothness must be null with score.smoother=supersmoother; got [0.3, 0.2, 0.0]. "
        "Set score.bass instead, or add score.smoother=spline.",
        "score.statistic must be null, maximal or first with score.smoother=supersmoother; got penalised. "
        "Add score.smoother=spline.",
        "rank.by must be null, maximal or first with score.smoother=supersmoother; got penalised. "
        "Add score.smoother=spline.",
    ]
    score = compose_settings(penalised).score
    assert isinstance(score, AceSettings)
    assert score.smoothness == (0.3, 0.2, 0)


def test_a_setting_of_another_source_is_refused() -> None:
    (fault,) = faults("+data.root=photos")
    assert fault.startswith('data.root must be a known setting; got "photos".')


def test_a_mistyped_setting_of_a_source_has_its_line_too() -> None:
    assert faults("data=urls", "data.file=x", "data.web.timout=3", "data.colunm=a", "target.scor=logit") == [
        "data.web.timout must be a known setting; got 3. Did you mean data.web.timeout?",
        'data.colunm must be a known setting; got "a". Did you mean data.column?',
        'target.scor must be a known setting; got "logit". Did you mean target.score?',
    ]


def test_the_rules_of_addresses_and_networks_are_their_own() -> None:
    assert faults("data=urls", "data.file=x", "data.web.allow_networks=[10.0.0.0/8,10.0.0.1/8]") == [
        'data.web.allow_networks.1 must be a network such as 10.0.0.0/8; got "10.0.0.1/8".'
    ]
    assert faults("data=street_view", "data.file=x", "data.endpoint=host/path") == [
        'data.endpoint must have the form https://host/path; got "host/path".'
    ]


def faults_in(schema: type, values: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(schema).validate_json(json.dumps(values))
    return faults_of(caught.value, values, unions=())


@dataclass(config=STRICT)
class Given:
    count: Annotated[int, Rule("be even", lambda value: value % 2 == 0, advice="Add 1.")]
    either: Annotated[int | str, Rule("be {here} or 0", lambda value: value in (0, "{here}"), before=True)] = 0


def test_a_new_type_brings_its_message_with_it() -> None:
    assert faults_in(Given, {"count": 3}) == ["count must be even; got 3. Add 1."]
    assert faults_in(Given, {"count": "3"}) == ['count must be a whole number; got "3".']
    assert faults_in(Given, {"count": 2, "either": None}) == ["either must be {here} or 0; got null."]


def test_a_renamed_setting_is_answered_with_its_new_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "visualize.resolution", "visualize.dpi")
    monkeypatch.setitem(RENAMED, "score.roughness", "score.bass")
    assert faults("visualize.resolution=100", "score.roughness=3", "visualize.dip=50") == [
        "score.roughness must be a known setting; got 3. It is called score.bass now.",
        "visualize.resolution must be a known setting; got 100. It is called visualize.dpi now.",
        "visualize.dip must be a known setting; got 50. Did you mean visualize.dpi?",
    ]


def test_the_settings_of_a_renamed_group_have_a_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "logging", "tracking")
    monkeypatch.setitem(RENAMED, "logging.address", "tracking.uri")
    assert faults("logging.enabled=false", "logging.address=here", "+logging.colour=red") == [
        "logging.enabled must be a known setting; got false. It is called tracking.enabled now.",
        'logging.address must be a known setting; got "here". It is called tracking.uri now.',
        'logging.colour must be a known setting; got "red". logging is called tracking now.',
    ]


def test_the_keys_of_a_renamed_mapping_are_not_taken_for_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "model.kwargs", "model.arguments")
    assert faults("model.kwargs.width=3") == [
        "model.kwargs.width must be a known setting; got 3. model.kwargs is called model.arguments now."
    ]


def test_every_new_name_of_a_renamed_setting_is_a_setting() -> None:
    settings = compose_settings([])
    for new in RENAMED.values():
        found: Any = settings
        for name in new.split("."):
            found = getattr(found, name)


def test_a_number_may_name_a_class() -> None:
    assert compose_settings(["class_name=3"]).class_name == "3"


def test_settings_cannot_be_changed(compose: Compose) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        compose().n_images = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "layer", "is_several"),
    [
        ("layer=conv1", "conv1", False),
        ("layer=0", "0", False),
        ("layer=[conv1,conv2]", "conv1,conv2", True),
        ("layer=[1.10,2]", "1.10,2", True),
        ("layer=features.*", "features.*", True),
        ("layer=*", "*", True),
        ("layer=layer[1].conv?", "layer.1.conv?", True),
        ("layer=[layer4[1].conv2,fc]", "layer4.1.conv2,fc", True),
        ("layer=all", "all", True),
        ("layer=call", "call", False),
    ],
)
def test_a_layer_is_one_layer_or_selects_several(override: str, layer: str, is_several: bool) -> None:
    settings = compose_settings([override])
    assert (settings.layer, settings.selects_several) == (layer, is_several)


def test_rankers_that_compare_all_pairs_of_images_are_refused_for_many() -> None:
    assert faults("score=distance_correlation", "n_images=10001") == [
        "n_images must be at most 10000 with score=distance_correlation, which compares all pairs of images; got "
        "10001. Lower it, or choose another ranker, for example score=multiple_correlation."
    ]
    assert compose_settings(["score=distance_correlation", "n_images=10000"]).n_images == 10000
