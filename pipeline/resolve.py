"""From what was typed to what is meant: one spelling of the layer, the class by name and by index."""

from __future__ import annotations

import difflib
from dataclasses import replace

from pipeline.errors import InputError, SettingsError, listed
from pipeline.networks.layout import canonical_name
from pipeline.networks.load import check_weights, class_names, layout_of, probe
from pipeline.networks.targets import check_target
from pipeline.networks.torchvision_models import RANDOM
from pipeline.numerics.pca import check_n_components
from pipeline.rankers import RANKERS
from pipeline.settings import ModelSettings, RegressionTarget, Settings
from pipeline.sources import source_for


def resolve(settings: Settings) -> Settings:
    """Return `settings` with the layer in its dotted spelling, and `class_name` and `target_class` both known.

    Names come from the settings or the weights; failing these, from the data's own classes, where there are as many
    as the network has outputs (torchvision's ImageFolder convention). `class_name` stays None for a flat folder. With
    ``target=regression`` there is no class to resolve: a `class_name` merely chooses images.

    Raises
    ------
    SettingsError
        If the class cannot be told, or name and index contradict one another.
    """
    layer = canonical_name(settings.layer)
    if isinstance(settings.target, RegressionTarget):
        return replace(settings, layer=layer)
    data_names = source_for(settings.data, settings.paths.downloads).class_names()
    names = class_names(settings.model)
    class_name, target_class = settings.class_name, settings.target_class
    if class_name is None and target_class is None:
        raise SettingsError("class_name or target_class must be given; got neither. Add class_name=... to the command.")
    if target_class is not None and names is not None and target_class >= len(names):
        raise SettingsError(
            f"target_class must be in [0, {len(names) - 1}]; got {target_class} (model '{settings.model.name}')."
        )
    if target_class is None:
        target_class = _index_of(class_name or "", names, data_names, settings.model)
    elif class_name is None:
        class_name = _name_of(target_class, names, data_names, settings.model)
    elif names is not None and class_name in names and names[target_class] != class_name:
        raise SettingsError(
            f"class_name and target_class must mean one class; got '{class_name}' and {target_class}, "
            f"which is '{names[target_class]}'. Give one of the two."
        )
    return replace(settings, layer=layer, class_name=class_name, target_class=target_class)


def _index_of(
    class_name: str, names: tuple[str, ...] | None, data_names: tuple[str, ...] | None, model: ModelSettings
) -> int:
    """Return the network's output for a class of this name."""
    matches = [index for index, name in enumerate(names or ()) if name == class_name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise SettingsError(
            f"class_name must name one class; got '{class_name}', which classes {listed([str(i) for i in matches])} "
            "are called. Give target_class as well."
        )
    if data_names and class_name in data_names:
        # Random weights have learnt no class: any output serves, so the data's own order does.
        is_untrained = model.weights == RANDOM and model.checkpoint is None and model.factory is None
        if is_untrained or (names is None and layout_of(model).n_outputs == len(data_names)):
            return data_names.index(class_name)
    if names is None:
        raise SettingsError(
            f"target_class must be given; got null, and nothing says which output of the network is '{class_name}'. "
            "Add target_class=..., or model.class_names=[...]."
        )
    near = difflib.get_close_matches(class_name, names, n=3, cutoff=0.4) or names
    raise SettingsError(
        f"class_name must be one of the network's {len(names)} classes; got '{class_name}'. "
        f"{'They are' if near is names else 'Nearest'}: {listed(near, 10)}. If the data's name differs, "
        "give target_class as well."
    )


def _name_of(
    target_class: int, names: tuple[str, ...] | None, data_names: tuple[str, ...] | None, model: ModelSettings
) -> str | None:
    """Return the name of a class of this index, None where neither the network nor the data knows any."""
    if names is not None:
        return names[target_class]
    if data_names is None:
        return None
    if target_class < len(data_names) == layout_of(model).n_outputs:
        return data_names[target_class]
    raise SettingsError(
        f"class_name must be given; got null, and nothing says which of {listed(data_names)} is class {target_class}. "
        "Add class_name=..., or model.class_names=[...]."
    )


def check_network(settings: Settings) -> None:
    """Refuse, before any work, what only the network can tell: layer, class index, components, weights' fit.

    Raises
    ------
    NetworkError
        If the layer is unknown, cannot be ranked, or not by this ranker, or the weights are not there or do not fit.
    InputError
        If `target_class` or `n_components` is out of range.
    """
    check_weights(settings.model)
    found = layout_of(settings.model)
    layer = found.find(settings.layer)
    _, height, width = layer.maps
    probe(settings.model, lambda network, _: RANKERS[settings.score.kind].check(network, layer))
    check_target(settings.target, found.n_outputs)
    if settings.target_class is not None and settings.target_class >= found.n_outputs:
        raise InputError(
            f"target_class must be in [0, {found.n_outputs - 1}]; got {settings.target_class} "
            f"(model '{settings.model.name}')."
        )
    check_n_components(settings.n_components, settings.n_images, height, width)
