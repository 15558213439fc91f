from __future__ import annotations

import dataclasses

import pytest

from pipeline.config import compose_settings
from pipeline.errors import SettingsError
from tests.conftest import Compose


def faults(*overrides: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        compose_settings(overrides)
    return str(caught.value).splitlines()


def test_defaults_are_the_embedded_question() -> None:
    settings = compose_settings([])
    assert (settings.layer, settings.class_name, settings.model.name) == ("conv3", "5", "digits_cnn")
    assert (settings.n_images, settings.n_components, settings.seed) == (150, 3, 0)


def test_all_faults_are_reported_together() -> None:
    assert faults("n_imgs=3", "n_components=0", "seed=-1", "score.statistic=best", "visualize.dpi=high") == [
        "n_components must be a whole number of at least 1, or a share of the variance in (0, 1); got 0.",
        "seed must be at least 0; got -1.",
        "score.statistic must be 'maximal' or 'first'; got \"best\".",
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
            "layer=[conv1,conv2]",
            'layer must be one layer; got ["conv1", "conv2"]. For several, a run each: --multirun layer=conv1,conv2.',
        ),
        (
            "layer=features.*",
            'layer must be one layer; got "features.*". For several, a run each: --multirun layer=conv1,conv2.',
        ),
    ],
)
def test_each_fault_has_one_line(override: str, message: str) -> None:
    assert faults(override) == [message]


def test_the_package_takes_no_bass_of_its_own() -> None:
    assert faults("score.solver=ace") == [
        "score.bass must be 0 and score.spans [0.05, 0.2, 0.5] with score.solver=ace; got 5 and [0.05, 0.2, 0.5]. "
        "Add score.bass=0; the compiled solver takes others as well."
    ]
    assert compose_settings(["score.solver=ace", "score.bass=0"]).score.bass == 0


def test_a_setting_of_another_source_is_refused() -> None:
    (fault,) = faults("+data.root=photos")
    assert fault.startswith('data.root must be a known setting; got "photos".')


def test_a_mistyped_setting_of_a_source_has_its_line_too() -> None:
    assert faults("data=urls", "data.file=x", "data.web.timout=3", "data.colunm=a", "target.scor=logit") == [
        "data.web.timout must be a known setting; got 3. Did you mean data.web.timeout?",
        'data.colunm must be a known setting; got "a". Did you mean data.column?',
        'target.scor must be a known setting; got "logit". Did you mean target.score?',
    ]


def test_a_number_may_name_a_class() -> None:
    assert compose_settings(["class_name=3"]).class_name == "3"


def test_settings_cannot_be_changed(compose: Compose) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        compose().n_images = 7  # type: ignore[misc]
